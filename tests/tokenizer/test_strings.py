"""Strings in one block: what a list of them would say, and keys that are those of their bytes."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apr.formats._gguf_arrays import walk_strings
from apr.tokenizer import _strings
from apr.tokenizer._strings import Strings, keys_of

TEXTS = st.lists(st.text(max_size=40) | st.binary(max_size=40).map(lambda b: b.decode("utf-8", "surrogateescape")))


def from_file(strings: list[str]) -> Strings:
    """As a GGUF file holds them."""
    raw = [string.encode("utf-8", "surrogateescape") for string in strings]
    data = b"".join(struct.pack("<Q", len(r)) + r for r in raw)
    return Strings.of(walk_strings(Path("m.gguf"), memoryview(data), 0, count=len(raw), limit=1 << 16))


@given(TEXTS)
@settings(derandomize=True, max_examples=200, deadline=None)
def test_a_block_says_what_a_list_says(strings: list[str]) -> None:
    for made in (Strings.of(strings), from_file(strings)):
        assert made == strings and list(made) == strings and len(made) == len(strings)
        assert [made[i] for i in range(len(strings))] == strings and made[1:-1] == strings[1:-1]
        assert made.has_duplicates == (len(set(strings)) < len(strings))


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 15, 16, 17, 24, 25, 300, 60_000])
def test_a_key_depends_on_every_byte_and_on_nothing_around(length: int) -> None:
    string = "x" * length
    changed = [string[:i] + "y" + string[i + 1 :] for i in range(0, length, max(1, length // 50))]
    one, other = Strings.of([string, *changed, string + "x"]), from_file(["before", string, "b" * 256])
    assert len(set(one.keys.tolist())) == len(changed) + 2
    assert one.keys[0] == other.keys[1]


def test_equal_stretches_of_different_blocks_have_equal_keys() -> None:
    text = Strings.of(["some words in a row"])
    starts = text.starts[0] + np.array([0, 5, 11])
    assert (
        keys_of(text.block, starts, np.array([4, 5, 8])).tolist()
        == Strings.of(["some", "words", "in a row"]).keys.tolist()
    )


def test_all_strings_of_a_key_are_found_and_none_of_another() -> None:
    made = Strings.of(["a", "b", "a", "c"])
    wanted = np.sort(Strings.of(["a", "c", "z"]).keys)
    assert sorted(made.indices_of(wanted)) == [0, 2, 3]
    assert Strings.of([]).indices_of(wanted) == []


def test_two_strings_with_one_key_are_not_taken_for_one() -> None:
    made = Strings.of(["a", "b"])
    made.keys = np.zeros(2, dtype=np.uint64)
    assert not made.has_duplicates and sorted(made.indices_of(np.zeros(1, dtype=np.uint64))) == [0, 1]


def test_parts_hold_the_strings_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_strings, "_CHUNK", 2)
    made = Strings.of(["a", "", "né", "d", "e"])
    parts = list(made.parts())
    assert parts == [["a", ""], ["né", "d"], ["e"]]
    assert np.concatenate([part.keys for part in parts]).tolist() == made.keys.tolist()
    assert made.is_text and not Strings.of(["a", "b", "c", "\udcff"]).is_text


def test_bytes_that_are_not_utf8_are_told() -> None:
    assert Strings.of(["né", "\n"]).is_text and not Strings.of(["a", "\udcff"]).is_text
    # two halves of one character are not a character
    assert not Strings.of(["\udcc3", "\udca9"]).is_text


def test_an_index_beyond_the_ends_is_refused() -> None:
    made = Strings.of(["a", "b"])
    assert made[-1] == "b" and made.index("b") == 1 and "b" in made and "c" not in made
    with pytest.raises(IndexError):
        made[2]
    assert made != 5 and repr(made) == "Strings(2)"
