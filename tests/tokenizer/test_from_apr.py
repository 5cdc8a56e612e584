"""Specs from `.apr` metadata."""

from __future__ import annotations

from typing import Any

import pytest

from apr.errors import TokenizerError, UnsupportedError
from apr.tokenizer.from_apr import spec_from_apr
from apr.tokenizer.from_hf import spec_from_hf
from apr.tokenizer.to_apr import to_apr
from tokenizer import trained


def metadata(**changes: Any) -> dict[str, Any]:
    keys = to_apr(spec_from_hf(trained.documents(trained.of_family("qwen2"), chat_template="{{ m }}")))
    keys |= {f"tokenizer.{name}": value for name, value in changes.items()}
    return {key: value for key, value in keys.items() if value is not None}


def test_without_types_the_shape_of_a_token_decides() -> None:
    spec = spec_from_apr(metadata(token_type=None))
    types = dict(zip(spec.tokens, spec.token_types, strict=True))
    assert types["<|im_end|>"] == 3
    assert types["<think>"] == 3
    assert types["a"] == types["<"] == 1


def test_the_template_is_found_in_either_place() -> None:
    keys = metadata(chat_template=None)
    assert spec_from_apr(keys).chat_template == "{{ m }}"


def test_the_kind_follows_from_the_tables_where_no_key_says_it() -> None:
    assert spec_from_apr(metadata(model=None, model_type=None)).kind == "bpe"
    assert spec_from_apr(metadata(model_type="BPE")).kind == "bpe"


@pytest.mark.parametrize("found", [None, [], "abc", 5])
def test_a_missing_vocabulary_is_named(found: Any) -> None:
    with pytest.raises(TokenizerError, match=r"no tokenizer\.vocabulary"):
        spec_from_apr(metadata(vocabulary=found))


def test_unknown_kinds_and_normalisations_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="'wordpiece'"):
        spec_from_apr(metadata(model_type="wordpiece"))
    with pytest.raises(UnsupportedError, match="'nfkc'"):
        spec_from_apr(metadata(normalization="nfkc"))


def test_the_normalisation_is_kept() -> None:
    assert spec_from_apr(metadata(normalization="nfc")).normalization == "nfc"
