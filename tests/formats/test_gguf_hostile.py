"""Broken GGUF files: each is refused with the error of the rule it breaks and the byte, fast, and in little memory."""

from __future__ import annotations

import random
import struct
import time
import tracemalloc
from functools import cache
from pathlib import Path
from typing import Any

import gguf as gguf_py
import numpy as np
import pytest

import apr.formats
from apr.errors import (
    BadMagic,
    BadMetadata,
    BadString,
    DuplicateName,
    FormatError,
    LimitExceeded,
    MisalignedTensor,
    OverlappingTensors,
    ShapeMismatch,
    TrailingBytes,
    TruncatedFile,
    UnknownDtype,
    UnsupportedVersion,
)
from apr.formats import gguf
from apr.formats._ggml_types import REMOVED
from apr.formats._gguf_header import Header, parse
from formats import gguf_bytes
from formats.gguf_bytes import Builder, meta, one, two, with_alignment
from formats.llama_gguf_verdicts import verdicts
from fuzz import fuzz_gguf, fuzz_loop

BOUNDARIES = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**61, 2**62, 2**63 - 1, 2**63, 2**64 - 8, 2**64 - 1)
PATH = Path("m.gguf")
TINY, RAW = gguf_bytes.tiny()
LONG = b"x" * 70_000


def head(n_tensors: int = 0, n_kv: int = 0, *, version: int = 3) -> bytes:
    return bytes(Builder().head(n_tensors, n_kv, version=version).raw)


def pairs(*keys: str) -> bytes:
    built = Builder().head(0, len(keys))
    for key in keys:
        built.pair(key, 4, 1)
    return bytes(built.raw)


def array(element: int, count: int, body: bytes = b"") -> bytes:
    built = Builder().head(0, 1).pair("a", 9, [], element=element)
    struct.pack_into("<Q", built.raw, built.fields["a.count"][0], count)
    return bytes(built.raw) + body


# name: (file, error, the byte it names, what the message says)
BROKEN: dict[str, tuple[bytes, type[FormatError], int, str]] = {
    "empty file": (b"", TruncatedFile, 0, "magic"),
    "half a magic": (b"GG", TruncatedFile, 0, "magic"),
    "other magic": (b"GGUE" + head()[4:], BadMagic, 0, "another format"),
    "magic only": (b"GGUF", TruncatedFile, 4, "version"),
    "version 0": (head(version=0), UnsupportedVersion, 4, "version 0"),
    "version 1": (head(version=1), UnsupportedVersion, 4, "convert the model again"),
    "version 4": (head(version=4), UnsupportedVersion, 4, "newer"),
    "big-endian version": (head(version=3 << 24), UnsupportedVersion, 4, "big-endian"),
    "negative number of tensors": (head(2**64 - 1), LimitExceeded, 8, "tensors"),
    "tensors over the limit": (head(1_048_577), LimitExceeded, 8, "1,048,577"),
    "keys over the limit": (head(0, 65_537), LimitExceeded, 16, "65,537"),
    "more tensors than bytes": (head(1000) + bytes(100), TruncatedFile, 24, "1,000 tensors"),
    "more keys than bytes": (head(0, 1000) + bytes(100), TruncatedFile, 24, "1,000 keys"),
    "empty key": (meta("", 4, 1), BadString, 24, "not empty"),
    "key that is not ASCII": (meta(b"\xff", 4, 1), BadString, 24, "ASCII"),
    "key with NUL": (meta("a\0", 4, 1), BadString, 24, "printable"),
    "key with an escape": (meta("\x1b[2J", 4, 1), BadString, 24, "printable"),
    "key over the limit": (meta(LONG, 4, 1), LimitExceeded, 24, "65,535"),
    "key twice": (pairs("a", "b", "a"), DuplicateName, 58, "'a' occurs twice"),
    "value type 13": (meta("a", 4, 1).replace(b"a\4\0\0\0", b"a\x0d\0\0\0"), BadMetadata, 33, "value type 13"),
    "truth value 2": (meta("a", 7, True).replace(b"\7\0\0\0\1", b"\7\0\0\0\2"), BadMetadata, 37, "truth value 2"),
    "truth value 255 in an array": (array(7, 3, b"\0\1\xff"), BadMetadata, 51, "truth value 255"),
    "text that is not UTF-8": (meta("a", 8, b"ab\xff"), BadString, 47, "not UTF-8"),
    "text over the limit": (
        meta("a", 8, b"").replace(b"a\x08" + bytes(11), b"a\x08" + bytes(6) + b"\x05" + bytes(4)),
        LimitExceeded,
        37,
        "67,108,864",
    ),
    "text beyond the end": (
        meta("a", 8, b"").replace(b"a\x08" + bytes(11), b"a\x08" + bytes(5) + b"\x10" + bytes(5)),
        TruncatedFile,
        45,
        "value of 'a'",
    ),
    "array of arrays": (array(9, 1, bytes(64)), BadMetadata, 37, "array of arrays"),
    "array of type 13": (array(13, 1, bytes(64)), BadMetadata, 37, "type 13"),
    "numbers beyond the end": (array(4, 1000, bytes(64)), TruncatedFile, 49, "1,000 x uint32"),
    "numbers over the limit": (array(0, 2**26 + 1), LimitExceeded, 41, "corrupt"),
    "strings over the limit": (array(8, 2**22 + 1), LimitExceeded, 41, "corrupt"),
    "more strings than bytes": (array(8, 100, bytes(64)), TruncatedFile, 49, "100 strings"),
    "string of an array beyond the end": (array(8, 2, bytes(8) + struct.pack("<Q", 9)), TruncatedFile, 65, "last of 2"),
    "strings that end too early": (array(8, 2, struct.pack("<Q", 8) + bytes(8)), TruncatedFile, 65, "string 1 of 2"),
    "token over the limit": (meta("tokenizer.ggml.tokens", 9, [b"", LONG], element=8), LimitExceeded, 77, "65,536"),
    "alignment 0": (with_alignment(0), BadMetadata, 53, "power of two"),
    "alignment 3": (with_alignment(3), BadMetadata, 53, "power of two"),
    "alignment 7": (with_alignment(7), BadMetadata, 53, "power of two"),
    "alignment 4": (with_alignment(4), BadMetadata, 53, "from 8"),
    "alignment 2^31": (with_alignment(2**31), BadMetadata, 53, "power of two"),
    "alignment as uint64": (meta("general.alignment", 10, 32), BadMetadata, 49, "uint32"),
    "empty tensor name": (one(name=""), BadString, 24, "must have a byte"),
    "tensor name with NUL": (one(name="a\0b"), BadString, 24, "none that is 0"),
    "tensor name that is not UTF-8": (one(name=b"ab\xff"), BadString, 34, "not UTF-8"),
    "tensor name of 64 bytes": (one(name="n" * 64), LimitExceeded, 24, "at most 63"),
    "tensor name of 70,000 bytes": (one(name=LONG), LimitExceeded, 24, "65,535"),
    "tensor twice": (two("t"), DuplicateName, 57, "'t' occurs twice"),
    "5 dimensions": (one((1,) * 5), LimitExceeded, 33, "5 dimensions"),
    "dimension 0": (one((8, 0)), ShapeMismatch, 37, "[8, 0]"),
    "dimension 2^63": (one((2**63,)), ShapeMismatch, 37, "2^63"),
    "2^64 elements": (one((2**32, 2**32)), ShapeMismatch, 37, "2^63 elements"),
    "rows that are no blocks": (one((31, 32), kind=8), ShapeMismatch, 37, "multiple of 32"),
    "type 43": (one(kind=43), UnknownDtype, 45, "'t' has type 43"),
    "type -1": (one(kind=2**32 - 1), UnknownDtype, 45, "type 4294967295"),
    **{
        f"removed type {n}": (one(kind=n), UnknownDtype, 45, f"type {n}, {name}, which ggml has removed")
        for n, name in REMOVED.items()
    },
    "offset 1": (one(offset=1), MisalignedTensor, 49, "no multiple of 32"),
    "offset 32 of the first tensor": (one(offset=32, n_bytes=64), OverlappingTensors, 49, "hole"),
    "offset 2^64 - 32": (one(offset=2**64 - 32), OverlappingTensors, 49, "hole"),
    "two tensors on the same bytes": (two(offset=0), OverlappingTensors, 82, "on the tensor before"),
    "a hole between two tensors": (two(offset=64) + bytes(64), OverlappingTensors, 82, "expected 32"),
    "data cut short": (two()[:-1], TruncatedFile, 159, "1 of 2 tensors are whole"),
    "bytes after a header without tensors": (head() + bytes(32), TrailingBytes, 32, "24 bytes follow"),
    "padding that is not 0": (one()[:60] + b"x" + one()[61:], TrailingBytes, 60, "not 0"),
    "no data": (one(n_bytes=0), TruncatedFile, 64, "0 of 1 tensors are whole"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_with_its_rule_and_byte(tmp_path: Path, name: str) -> None:
    raw, error, offset, said = BROKEN[name]
    (tmp_path / "m.gguf").write_bytes(raw)
    with pytest.raises(error) as caught:
        gguf.read(tmp_path / "m.gguf")
    assert type(caught.value) is error
    assert caught.value.offset == offset
    assert said in str(caught.value) and len(str(caught.value)) < 600


def test_a_big_endian_file_of_gguf_py_is_refused_as_such(tmp_path: Path) -> None:
    writer = gguf_py.GGUFWriter(tmp_path / "m.gguf", "llama", endianess=gguf_py.GGUFEndian.BIG)
    writer.add_tensor("t", np.zeros(8, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(UnsupportedVersion, match="big-endian"):
        apr.formats.open_model(tmp_path / "m.gguf")


def verdict(raw: bytes) -> FormatError | Header:
    try:
        return parse(PATH, memoryview(raw), file_size=len(raw))
    except FormatError as error:
        return error


def header_end() -> int:
    return len(TINY.raw)


def test_a_file_cut_at_any_byte_is_truncated() -> None:
    data_start = len(RAW) - 160
    cuts = [*range(header_end()), *range(header_end(), len(RAW), 64), data_start + 159]
    for cut in cuts:
        error = verdict(RAW[:cut])
        assert isinstance(error, TruncatedFile), f"cut at {cut}: {error!r}"
        assert error.offset is not None and error.offset <= cut


def with_number(field: str, value: int) -> bytes | None:
    """The tiny file with `value` in `field`; None if it does not fit there."""
    at, size = TINY.fields[field]
    if value >= 2 ** (8 * size):
        return None
    return RAW[:at] + value.to_bytes(size, "little") + RAW[at + size :]


def numbers() -> list[str]:
    ends = (".length", ".count", ".n_dims", ".kind", ".element", ".type", ".offset", ".dim0", ".dim1", ".dim2")
    return ["version", "n_tensors", "n_kv", "general.alignment.value", *(f for f in TINY.fields if f.endswith(ends))]


def mutants() -> list[tuple[str, bytes]]:
    """The tiny file with each count, length, dimension, type and offset set to each boundary number."""
    found = [(f"{field} = {value}", with_number(field, value)) for field in numbers() for value in BOUNDARIES]
    return [(name, raw) for name, raw in found if raw is not None and raw != RAW]


def snapshot(header: Header) -> dict[str, Any]:
    values = {key: list(value) if hasattr(value, "tolist") else value for key, value in header.metadata.items()}
    found: dict[str, Any] = {f"meta:{key}": (header.value_types[key], repr(value)) for key, value in values.items()}
    found |= {f"tensor:{name}": (i.codec, i.shape, i.offset, i.n_bytes) for name, i in header.tensors.items()}
    return found | {"head": header.version, "alignment": header.alignment}


def assert_refused_or_one_field_differs(name: str, raw: bytes, owner: str) -> None:
    outcome = verdict(raw)
    if isinstance(outcome, FormatError):
        assert outcome.offset is not None, name
        return
    before, after = good(), snapshot(outcome)
    changed = {key for key in before if after.get(key) != before[key]}
    appeared = set(after) - set(before)
    assert changed <= {owner} and len(appeared) <= 1, f"{name}: {changed} {appeared}"


@cache
def good() -> dict[str, Any]:
    return snapshot(parse(PATH, memoryview(RAW), file_size=len(RAW)))


def test_boundary_numbers_are_refused_fast_and_in_little_memory() -> None:
    cases = mutants()
    assert len(cases) > 800
    started = time.process_time()
    for name, raw in cases:
        field = name.split(" = ")[0]
        assert_refused_or_one_field_differs(name, raw, TINY.owner(TINY.fields[field][0]))
    assert (time.process_time() - started) / len(cases) < 0.05
    tracemalloc.start()
    for _, raw in cases[::7]:
        verdict(raw)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20


def flips(at: int) -> list[bytes]:
    changes = {RAW[at] ^ (1 << bit) for bit in range(8)} | {0x00, 0x7F, 0x80, 0xFF}
    return [RAW[:at] + bytes([new]) + RAW[at + 1 :] for new in changes - {RAW[at]}]


def test_a_flipped_bit_is_refused_or_changes_one_named_field() -> None:
    for at in range(header_end()):
        for raw in flips(at):
            assert_refused_or_one_field_differs(f"byte {at}", raw, TINY.owner(at))


def test_a_flip_that_reaches_further_would_be_seen() -> None:
    with pytest.raises(AssertionError):
        assert_refused_or_one_field_differs("planted", RAW.replace(b"llama", b"mamba"), "meta:scalar.0")


@pytest.mark.parity
def test_whatever_llama_cpp_refuses_is_refused() -> None:
    dice = random.Random(3)
    cases = [(name, raw) for name, (raw, _, _, _) in BROKEN.items()] + mutants()
    cases += [(f"flip at {at}", dice.choice(flips(at))) for at in range(header_end())]
    cases += [(f"cut at {cut}", RAW[:cut]) for cut in range(0, len(RAW), 7)]
    cases += [(f"random {i}", fuzz_gguf.mutate(RAW, dice)) for i in range(800)]
    cases += [("the good file", RAW)]
    theirs = verdicts([raw for _, raw in cases])
    ours = [isinstance(verdict(raw), Header) for _, raw in cases]
    assert theirs[-1] and ours[-1]
    assert 500 < sum(theirs) < len(theirs) - 500
    assert [name for (name, _), t, o in zip(cases, theirs, ours, strict=True) if o and not t] == []


# what we refuse and llama.cpp accepts: the specification says so, or nobody could use it
STRICTER = {
    "key that is not ASCII",
    "key with NUL",
    "key with an escape",
    "truth value 2",
    "truth value 255 in an array",
    "text that is not UTF-8",
    "key over the limit",
    "token over the limit",
    "alignment 4",
    "empty tensor name",
    "tensor name with NUL",
    "tensor name that is not UTF-8",
    "dimension 0",
    "bytes after a header without tensors",
    "padding that is not 0",
}


@pytest.mark.parity
def test_we_are_stricter_than_llama_cpp_only_where_we_say_so() -> None:
    accepted = verdicts([raw for raw, _, _, _ in BROKEN.values()])
    assert {name for name, yes in zip(BROKEN, accepted, strict=True) if yes} == STRICTER


def test_a_burst_of_the_fuzzer_finds_nothing() -> None:
    tried, accepted = fuzz_loop.run(fuzz_gguf.TARGET, seed=11, cases=3000)
    assert tried == 3000 and 100 < accepted < 2900


def test_many_small_tensors_are_read_in_a_second() -> None:
    built = Builder().head(20_000, 0)
    for i in range(20_000):
        built.tensor(f"t{i}", (1,), 24, 32 * i)
    raw = built.data(32 * 20_000)
    started = time.process_time()
    assert len(verdict(raw).tensors) == 20_000  # type: ignore[union-attr]
    assert time.process_time() - started < 1
