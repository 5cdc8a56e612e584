"""String arrays: leaping over lengths finds what a plain walk finds, and costs no more than it should."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apr.errors import LimitExceeded, TruncatedFile
from apr.formats._gguf_arrays import walk_strings

NOWHERE = Path("array.gguf")
SHORT = st.binary(max_size=12)
LONG = st.binary(min_size=250, max_size=600)
ZEROS = st.integers(0, 40).map(bytes)


def encoded(strings: list[bytes]) -> bytes:
    return b"".join(struct.pack("<Q", len(s)) + s for s in strings)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.lists(SHORT | LONG | ZEROS, max_size=120), st.binary(max_size=30))
def test_every_array_is_walked_as_by_hand(strings: list[bytes], behind: bytes) -> None:
    data = memoryview(b"head" + encoded(strings) + behind)
    found = walk_strings(NOWHERE, data, 4, count=len(strings), limit=1 << 16)
    assert [found.raw(i) for i in range(len(found))] == strings
    assert found.encoded == encoded(strings)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.lists(SHORT | LONG, min_size=1, max_size=60), st.data())
def test_a_cut_anywhere_is_found_at_its_byte(strings: list[bytes], data: st.DataObject) -> None:
    whole = encoded(strings)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(TruncatedFile):
        walk_strings(NOWHERE, memoryview(whole[:cut]), 0, count=len(strings), limit=1 << 16)


def test_a_long_run_of_ordinary_tokens_is_walked_right() -> None:
    lengths = np.random.default_rng(1).integers(1, 30, 50_000)
    strings = [b"abcdefghij"[: n % 11] * (n // 10 + 1) for n in lengths.tolist()]
    found = walk_strings(NOWHERE, memoryview(encoded(strings)), 0, count=len(strings), limit=1 << 16)
    assert [found.raw(i) for i in range(0, 50_000, 7)] == strings[::7]


def test_a_string_over_the_limit_is_found_behind_many_good_ones() -> None:
    data = encoded([b"token"] * 5_000 + [b"x" * 400] + [b"token"])
    with pytest.raises(LimitExceeded, match="string 5000 ") as caught:
        walk_strings(NOWHERE, memoryview(data), 0, count=5_002, limit=300)
    assert caught.value.offset == 5_000 * 13


def test_an_array_made_to_be_slow_costs_little_more_than_its_length() -> None:
    for content in (bytes(2_000_000), encoded([b""] * 250_000), encoded([b"x" * 300, b""] * 6_000)):
        started = time.process_time()
        with pytest.raises(TruncatedFile):
            walk_strings(NOWHERE, memoryview(content), 0, count=10**9, limit=1 << 16)
        assert time.process_time() - started < 3.0  # seconds; under half of one on an idle core
