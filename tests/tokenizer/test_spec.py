"""A spec that exists is consistent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from apr.errors import TokenizerError
from apr.tokenizer.spec import MAX_TOKEN_BYTES, TokenizerSpec, TokenType, ids_of_type, is_padding

GOOD = TokenizerSpec(kind="bpe", tokens=["a", "b", "<s>"], token_types=[1, 1, 3], pre="gpt-2")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": [], "token_types": []}, "0 tokens"),
        ({"token_types": [1, 1]}, "2 token types for 3 tokens"),
        ({"scores": [0.0]}, "1 scores for 3 tokens"),
        ({"kind": "spm"}, "0 scores for 3 tokens"),
        ({"tokens": ["a", "b", "a"]}, "'a' has ids 0 and 2"),
        ({"token_types": [1, 1, 9]}, "token type 9"),
        ({"tokens": ["a", "b", "x" * (MAX_TOKEN_BYTES + 1)]}, "65537 characters"),
        ({"bos_token_id": 3}, "bos token id 3 is outside the vocabulary of 3"),
        ({"eos_token_id": -1}, "eos token id -1"),
        ({"stop_token_ids": (0, 7)}, r"stop\[1\] token id 7"),
        ({"add_bos": True}, "add_bos_token is true and there is no bos_token_id"),
        ({"kind": "hf"}, "without a tokenizer.json"),
        ({"json": "{}"}, "with a tokenizer.json"),
    ],
)
def test_an_inconsistent_spec_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        replace(GOOD, **change)


def test_ids_of_type_are_ascending() -> None:
    assert ids_of_type(GOOD, TokenType.CONTROL, TokenType.NORMAL) == [0, 1, 2]
    assert ids_of_type(GOOD, TokenType.CONTROL) == [2]


def test_padding_is_unused_and_named_after_its_id() -> None:
    spec = replace(GOOD, tokens=["[PAD0]", "[PAD7]", "[PAD2]"], token_types=[5, 5, 1])
    assert [is_padding(spec, i) for i in range(3)] == [True, False, False]
