"""The hash of a tokenizer sees what decides ids, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from apr.tokenizer.spec import TokenizerSpec
from apr.tokenizer.tokenizer import Tokenizer
from tokenizer.test_round_trip import made


@pytest.mark.parametrize(
    "change",
    [
        lambda s: replace(s, merges=s.merges[:-1]),
        lambda s: replace(s, pre="gpt-2"),
        lambda s: replace(s, normalization="nfc"),
        lambda s: replace(s, add_bos=True),
        lambda s: replace(s, tokens=[*s.tokens[:-1], "x y"]),
        lambda s: replace(s, token_types=[*s.token_types[:-1], 1]),
    ],
)
def test_the_hash_sees_every_part(change: Callable[[TokenizerSpec], TokenizerSpec]) -> None:
    spec = made("qwen2")
    assert Tokenizer(change(spec)).sha256 != Tokenizer(spec).sha256


def test_the_hash_passes_over_padding_and_spellings_of_one_rule() -> None:
    spec = made("qwen2")
    n = len(spec.tokens)
    padded = replace(
        spec, tokens=[*spec.tokens, f"[PAD{n}]"], token_types=[*spec.token_types, 5], pre="deepseek-r1-qwen"
    )
    assert Tokenizer(padded).sha256 == Tokenizer(spec).sha256


def test_a_template_and_stop_ids_do_not_change_the_hash() -> None:
    spec = made("qwen2")
    assert Tokenizer(replace(spec, chat_template="x", stop_token_ids=(0,))).sha256 == Tokenizer(spec).sha256
