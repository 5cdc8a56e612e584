"""Specs from GGUF metadata, good and bad."""

from __future__ import annotations

from typing import Any

import pytest

from apr.errors import TokenizerError, UnsupportedError
from apr.tokenizer.from_gguf import spec_from_gguf, spec_from_gguf_with_unknown_pre
from apr.tokenizer.from_hf import spec_from_hf
from apr.tokenizer.to_gguf import to_gguf
from apr.tokenizer.tokenizer import Tokenizer
from tokenizer import trained


def metadata(**changes: Any) -> dict[str, Any]:
    """Good keys for a byte-level vocabulary, with some replaced; None takes a key away."""
    keys = to_gguf(spec_from_hf(trained.documents(trained.of_family("gpt-2"))))
    keys |= {f"tokenizer.ggml.{name}": value for name, value in changes.items()}
    return {key: value for key, value in keys.items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": None}, "no tokenizer.ggml.model"),
        ({"tokens": "abc"}, "tokens is a str"),
        ({"tokens": [1, 2]}, "not a string"),
        ({"merges": None}, "no tokenizer.ggml.merges"),
        ({"bos_token_id": "1"}, "bos_token_id is '1'"),
        ({"bos_token_id": 10**6}, "outside the vocabulary"),
        ({"add_bos_token": 1}, "add_bos_token is 1"),
        ({"token_type": [1]}, "1 token types"),
        ({"model": "llama", "scores": None}, "no tokenizer.ggml.scores"),
    ],
)
def test_bad_metadata_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        spec_from_gguf(metadata(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "rwkv"}, "'rwkv'.*known: gpt2, llama"),
        ({"pre": "klingon"}, "'klingon'"),
        ({"pre": None}, "missing.*convert it again"),
        ({"pre": "default"}, "is default"),
    ],
)
def test_what_is_not_done_here_is_said(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        spec_from_gguf(metadata(**changes))


def test_an_unknown_pre_can_be_allowed() -> None:
    spec = spec_from_gguf_with_unknown_pre(metadata(pre=None))
    assert spec.pre == "default"
    tokenizer = Tokenizer(spec)
    assert tokenizer.decode(tokenizer.encode("a 12345")) == "a 12345"


def test_a_merge_of_an_absent_token_is_named() -> None:
    spec = spec_from_gguf(metadata(merges=["Ġ t", "zzz qqq"]))
    with pytest.raises(TokenizerError, match=r"merge 1 .*'zzz'"):
        Tokenizer(spec)


def test_a_merge_that_is_no_pair_is_named() -> None:
    with pytest.raises(TokenizerError, match="merge 0 is 'abc'"):
        Tokenizer(spec_from_gguf(metadata(merges=["abc"])))


def test_bos_follows_the_key_then_the_name() -> None:
    assert spec_from_gguf(metadata(add_bos_token=None)).add_bos is False
    assert spec_from_gguf(metadata(add_bos_token=None, pre="llama-bpe")).add_bos is True
    assert spec_from_gguf(metadata(add_bos_token=False, pre="llama-bpe")).add_bos is False


def test_sentencepiece_defaults_are_llama_cpps() -> None:
    keys = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", "a"],
        "tokenizer.ggml.token_type": [2, 3, 3, 1],
        "tokenizer.ggml.scores": [0.0, 0.0, 0.0, -1.0],
    }
    spec = spec_from_gguf(keys)
    assert (spec.unk_token_id, spec.bos_token_id, spec.eos_token_id) == (0, 1, 2)
    assert (spec.add_bos, spec.add_eos, spec.add_space_prefix) == (True, False, True)


def test_empty_entries_get_a_name() -> None:
    keys = metadata()
    tokens = [*keys["tokenizer.ggml.tokens"], ""]
    spec = spec_from_gguf(metadata(tokens=tokens, token_type=[*keys["tokenizer.ggml.token_type"], 1]))
    assert spec.tokens[-1] == f"[EMPTY_{len(tokens) - 1}]"


def test_the_turn_ids_of_the_file_stop() -> None:
    spec = spec_from_gguf(metadata(eot_token_id=300, eom_token_id=301))
    assert {300, 301} <= set(spec.stop_token_ids)
