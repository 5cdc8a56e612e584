"""A part of the tables gives the ids of all tables; what cannot be searched goes to the library whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apr.errors import TokenizerError
from apr.formats import open_model
from apr.tokenizer import _backend, _part, spec_of
from apr.tokenizer._strings import Strings
from apr.tokenizer.from_gguf import spec_from_gguf
from apr.tokenizer.from_hf import spec_from_hf
from apr.tokenizer.spec import TokenizerSpec, TokenType
from apr.tokenizer.to_gguf import to_gguf
from tokenizer import trained
from tokenizer.battery import battery

FAMILIES = ("qwen2", "smollm", "llama-bpe")  # one split, two, and pieces taken whole


@pytest.fixture(autouse=True)
def _small_tables_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_part, "_FEW", 0)
    monkeypatch.setattr(_backend, "_MAX_PARTS", 10**9)


@cache
def tables(family: str) -> TokenizerSpec:
    spec = spec_from_gguf(to_gguf(spec_from_hf(trained.documents(trained.of_family(family)))))
    return replace(spec, tokens=Strings.of(spec.tokens), merges=Strings.of(spec.merges))


@cache
def whole(family: str) -> Any:
    return _backend.build(tables(family))


def ids(tokenizer: Any, text: str) -> list[int]:
    return _backend.encode(tokenizer, text)


@pytest.mark.parametrize("each", [7, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_part_gives_the_ids_of_all_tables(family: str, each: int) -> None:
    backend = _backend.Backend(tables(family))
    texts = [text for text in battery()[::each] if text]
    assert [text for text in texts if ids(backend.for_text(text), text) != ids(whole(family), text)] == []
    assert all(backend.for_text(text) is not backend.for_text(text) for text in texts[:3])  # they were parts


@pytest.mark.parametrize("family", FAMILIES)
@given(text=st.text(min_size=1, max_size=80), start=st.integers(0, 79), stop=st.integers(1, 80))
@settings(derandomize=True, max_examples=20, deadline=None)
def test_a_part_gives_the_ids_of_any_stretch(family: str, text: str, start: int, stop: int) -> None:
    _check_stretch(family, text, start, stop)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@given(text=st.text(min_size=1, max_size=80), start=st.integers(0, 79), stop=st.integers(1, 80))
@settings(derandomize=True, max_examples=200, deadline=None)
def test_a_part_gives_the_ids_of_many_stretches(family: str, text: str, start: int, stop: int) -> None:
    _check_stretch(family, text, start, stop)


def _check_stretch(family: str, text: str, start: int, stop: int) -> None:
    stretch = text[start:stop] or text
    part = _backend._of_part(tables(family), *_searchable(tables(family)).for_text(text) or ({}, []))
    assert ids(part, stretch) == ids(whole(family), stretch)


def _searchable(spec: TokenizerSpec) -> _part.Parts:
    found = _part.searchable(spec)
    assert found is not None
    return found


def test_a_part_is_small_and_holds_no_control_token() -> None:
    vocab, merges = _searchable(tables("qwen2")).for_text("the quick <|im_end|>") or ({}, [])
    assert len(vocab) < 60 and merges and "<|im_end|>" not in vocab
    assert all({left, right, left + right} <= vocab.keys() for left, right in merges)


def test_merges_keep_their_order() -> None:
    spec = tables("qwen2")
    _, merges = _searchable(spec).for_text("the quick brown fox") or ({}, [])
    ranks = [list(spec.merges).index(f"{left} {right}") for left, right in merges]
    assert ranks == sorted(ranks) and ranks


def _with_merge(spec: TokenizerSpec, merge: str) -> TokenizerSpec:
    return replace(spec, merges=Strings.of([*spec.merges, merge]))


def _without_token(spec: TokenizerSpec, token: str) -> TokenizerSpec:
    tokens = [f"[GONE_{i}]" if text == token else text for i, text in enumerate(spec.tokens)]
    return replace(spec, tokens=Strings.of(tokens))


def _with_control_token(spec: TokenizerSpec, token: str) -> TokenizerSpec:
    types = list(spec.token_types)
    types[spec.tokens.index(token)] = TokenType.CONTROL
    return replace(spec, token_types=types)


def _made_first(spec: TokenizerSpec) -> str:
    return spec.merges[0].replace(" ", "")


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: _with_merge(spec, "nowhere tobefound"),
        lambda spec: _with_merge(spec, spec.merges[0]),
        lambda spec: _with_merge(spec, "t h e"),
        lambda spec: _with_merge(spec, "the"),
        lambda spec: _with_merge(spec, " the"),
        lambda spec: _with_merge(spec, "the "),
        lambda spec: _without_token(spec, _made_first(spec)),
        lambda spec: _with_control_token(spec, _made_first(spec)),
        lambda spec: replace(spec, tokens=Strings.of([*spec.tokens, "\udcff"]), token_types=[*spec.token_types, 1]),
        lambda spec: replace(spec, normalization="nfc"),
        lambda spec: replace(spec, tokens=list(spec.tokens)),
        lambda spec: spec_from_hf(trained.documents(trained.of_family("qwen2"))),
    ],
)
def test_tables_that_may_be_unsound_or_are_of_another_kind_are_not_searched(
    change: Callable[[TokenizerSpec], TokenizerSpec],
) -> None:
    assert _searchable(tables("qwen2"))
    assert _part.searchable(change(tables("qwen2"))) is None


def test_the_library_says_what_is_wrong_with_tables_at_once() -> None:
    with pytest.raises(TokenizerError, match="'nowhere'"):
        _backend.Backend(_with_merge(tables("qwen2"), "nowhere tobefound"))
    with pytest.raises(TokenizerError, match="expected 'left right'"):
        _backend.Backend(_with_merge(tables("qwen2"), "the"))


def test_a_text_with_a_byte_that_has_no_entry_needs_all_tables() -> None:
    unused = "ñ"  # 0xF1, which the tests' tables have and merge with nothing
    spec = _without_token(tables("qwen2"), unused)
    parts = _searchable(spec)
    assert parts.for_text("plain") is not None and parts.for_text("\U00050000") is None  # F1 90 80 80
    backend = _backend.Backend(spec)
    assert ids(backend.for_text("a\U00050000b"), "a\U00050000b") == ids(_backend.build(spec), "a\U00050000b")


def test_long_texts_and_many_texts_are_worth_all_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    long = "x" * (_part.MAX_TEXT_BYTES + 1)
    backend = _backend.Backend(tables("qwen2"))
    assert backend.for_text(long) is backend.for_text("short")
    monkeypatch.setattr(_backend, "_MAX_PARTS", 2)
    backend = _backend.Backend(tables("qwen2"))
    made = [backend.for_text("short") for _ in range(4)]
    assert made[0] is not made[1] and made[2] is made[3]


def test_no_text_is_a_text_too() -> None:
    assert _searchable(tables("qwen2")).for_text("") == ({}, [])


@pytest.mark.parametrize("name", ["smollm2", "qwen2.5-coder:0.5b"])
def test_real_tables_give_the_ids_of_the_library(name: str, real_model: Callable[[str], Path]) -> None:
    with open_model(real_model(name)) as file:
        spec = spec_of(file.format, file.metadata, file.documents, vocab_size=0)
    backend, library = _backend.Backend(spec), _backend.build(spec)
    texts: Sequence[str] = ["def fib(n):\n    return n", *(text for text in battery()[::40] if text)]
    wrong = [text for text in texts if ids(backend.for_text(text), text) != ids(library, text)]
    assert _part.searchable(spec) is not None and wrong == []
