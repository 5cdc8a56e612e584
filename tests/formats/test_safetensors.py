"""safetensors, one file: every rule broken once, and every cut and every flipped bit against the format's own reader."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import numpy as np
import pytest
import safetensors as oracle

from apr.errors import (
    BadMagic,
    BadMetadata,
    BadString,
    DuplicateName,
    FormatError,
    HostileFile,
    LimitExceeded,
    OverlappingTensors,
    ShapeMismatch,
    TensorOutOfBounds,
    TrailingBytes,
    TruncatedFile,
    UnknownDtype,
    UnsupportedError,
)
from apr.formats import safetensors
from fuzz.fuzz_safetensors import GOOD, check_one, file_of, mutate


def one(
    dtype: object = "F32", shape: object = (1,), offsets: object = (0, 4), n_data: int = 4, **more: object
) -> bytes:
    """A file with the single tensor `a`."""
    return file_of({"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}}, n_data)


def two(first: tuple[int, int], second: tuple[int, int], n_data: int) -> bytes:
    """A file with the I8 tensors `a` and `b`."""
    spans = {"a": first, "b": second}
    return file_of(
        {n: {"dtype": "I8", "shape": [e - b], "data_offsets": [b, e]} for n, (b, e) in spans.items()}, n_data
    )


def opened(folder: Path, content: bytes) -> safetensors.SafetensorsFile:
    path = folder / "model.safetensors"
    path.write_bytes(content)
    return safetensors.read(path)


# ---- one byte string per rule

ENTRY = b'{"dtype":"I8","shape":[1],"data_offsets":[0,1]}'
AT_NAME = 9  # the first name, after the length and the brace

REFUSED: dict[str, tuple[bytes, type[FormatError], int | None]] = {
    "empty file": (b"", TruncatedFile, 0),
    "length cut": (b"\x10\0\0\0", TruncatedFile, 4),
    "no header": (file_of(b""), BadMagic, 8),
    "header cut": ((20).to_bytes(8, "little") + b"{}", TruncatedFile, 0),
    "header cut by one": ((3).to_bytes(8, "little") + b"{}", TruncatedFile, 0),
    "header at the limit and cut": ((100_000_000).to_bytes(8, "little") + b"{}", TruncatedFile, 0),
    "header over the limit": ((100_000_001).to_bytes(8, "little") + b"{}", LimitExceeded, 0),
    "header of 2**64 - 1": (b"\xff" * 8 + b"{}", LimitExceeded, 0),
    "header that wraps around": ((2**64 - 8).to_bytes(8, "little") + b"{}", LimitExceeded, 0),
    "white space first": (file_of(b" {}"), BadMagic, 8),
    "a list": (file_of(b"[]"), BadMagic, 8),
    "zero bytes as padding": (file_of(b"{}\0\0"), BadMetadata, 10),
    "not utf-8": (file_of(b'{"\xff":1}'), BadString, 10),
    "half a surrogate pair": (file_of(b'{"\\ud800":' + ENTRY + b"}", 1), BadString, AT_NAME),
    "a name twice": (file_of(b'{"a":' + ENTRY + b',"a":' + ENTRY + b"}", 1), DuplicateName, 9 + 4 + len(ENTRY) + 1),
    "a field twice": (
        file_of(b'{"a":{"shape":[],"shape":[],"dtype":"I8","data_offsets":[0,1]}}', 1),
        DuplicateName,
        25,
    ),
    "no name": (file_of(b'{"":' + ENTRY + b"}", 1), BadString, AT_NAME),
    "a NUL in a name": (file_of(b'{"a\\u0000":' + ENTRY + b"}", 1), BadString, AT_NAME),
    "metadata null": (file_of(b'{"__metadata__":null}'), BadMetadata, AT_NAME),
    "metadata list": (file_of(b'{"__metadata__":[]}'), BadMetadata, AT_NAME),
    "metadata number": (file_of(b'{"__metadata__":{"a":1}}'), BadMetadata, AT_NAME),
    "metadata nested": (file_of(b'{"__metadata__":{"a":{}}}'), BadMetadata, AT_NAME),
    "entry number": (file_of(b'{"a":1}'), BadMetadata, AT_NAME),
    "entry list": (file_of(b'{"a":["I8",[1],[0,1]]}', 1), BadMetadata, AT_NAME),
    "entry without shape": (file_of({"a": {"dtype": "I8", "data_offsets": [0, 1]}}, 1), BadMetadata, AT_NAME),
    "entry with more": (one(more=1), BadMetadata, AT_NAME),
    "dtype unknown": (one("Q4_K"), UnknownDtype, AT_NAME),
    "dtype lower case": (one("f32"), UnknownDtype, AT_NAME),
    "dtype number": (one(7), BadMetadata, AT_NAME),
    "dtype list": (one([]), BadMetadata, AT_NAME),
    "shape number": (one(shape=1), BadMetadata, AT_NAME),
    "shape negative": (one(shape=[-1]), BadMetadata, AT_NAME),
    "shape twice negative": (one(shape=[-1, -1]), BadMetadata, AT_NAME),
    "shape float": (one(shape=[1.0]), BadMetadata, AT_NAME),
    "shape bool": (one(shape=[True]), BadMetadata, AT_NAME),
    "shape text": (one(shape=["1"]), BadMetadata, AT_NAME),
    "shape minus zero": (file_of(b'{"a":{"dtype":"F32","shape":[-0],"data_offsets":[0,0]}}'), BadMetadata, AT_NAME),
    "shape over 64 bits": (one(shape=[0, 2**64], offsets=[0, 0], n_data=0), BadMetadata, AT_NAME),
    "shape of 21 digits": (one(shape=[10**20], offsets=[0, 0], n_data=0), LimitExceeded, None),
    "shape that wraps to 4": (one("I8", shape=[2**32, 2**32 + 0, 1], offsets=[0, 0], n_data=0), ShapeMismatch, AT_NAME),
    "empty shape too large to make": (one(shape=[2**40, 2**40, 0], offsets=[0, 0], n_data=0), ShapeMismatch, AT_NAME),
    "nine dimensions": (one(shape=[1] * 9), LimitExceeded, AT_NAME),
    "offsets of one": (one(offsets=[0]), BadMetadata, AT_NAME),
    "offsets of three": (one(offsets=[0, 4, 4]), BadMetadata, AT_NAME),
    "offsets reversed": (one(offsets=[4, 0]), BadMetadata, AT_NAME),
    "offsets negative": (one(offsets=[-4, 0]), BadMetadata, AT_NAME),
    "offsets float": (one(offsets=[0, 4.0]), BadMetadata, AT_NAME),
    "offsets bool": (one("I8", offsets=[False, True]), BadMetadata, AT_NAME),
    "a byte too few for the shape": (one(offsets=[0, 3], n_data=3), ShapeMismatch, AT_NAME),
    "a byte too many for the shape": (one(offsets=[0, 5], n_data=5), ShapeMismatch, AT_NAME),
    "half a byte": (one("F4", shape=[1], offsets=[0, 1], n_data=1), ShapeMismatch, AT_NAME),
    "data cut by one": (one(n_data=3), TensorOutOfBounds, AT_NAME),
    "data near 2**64": (one("I8", offsets=[2**64 - 2, 2**64 - 1], n_data=1), TensorOutOfBounds, AT_NAME),
    "one byte more": (one(n_data=5), TrailingBytes, None),
    "data and no tensor": (file_of(b"{}", 3), TrailingBytes, 10),
    "overlap": (two((0, 2), (1, 3), 3), OverlappingTensors, None),
    "same bytes": (two((0, 2), (0, 2), 2), OverlappingTensors, None),
    "hole": (two((0, 2), (3, 5), 5), OverlappingTensors, None),
    "hole at the start": (one(offsets=[4, 8], n_data=8), OverlappingTensors, AT_NAME),
}


@pytest.mark.parametrize("case", REFUSED)
def test_each_broken_rule_has_its_error_and_its_byte(tmp_path: Path, case: str) -> None:
    content, error, offset = REFUSED[case]
    with pytest.raises(error) as caught:
        opened(tmp_path, content)
    assert type(caught.value) is error
    assert "model.safetensors" in str(caught.value)
    if offset is not None:
        assert caught.value.offset == offset
    assert caught.value.offset is not None and 0 <= caught.value.offset <= len(content)


ACCEPTED = {
    "nothing": file_of(b"{}"),
    "only metadata": file_of(b'{"__metadata__":{"a":"b"}}   '),
    "a length whose first byte is a brace": file_of(b"{}".ljust(ord("{"))),
    "a scalar": one(shape=[]),
    "an empty tensor": one(shape=[0, 2**40], offsets=[0, 0], n_data=0),
    "empty tensors between": two((0, 0), (0, 3), 3),
    "data in another order than names": two((3, 5), (0, 3), 5),
    "eight dimensions": one(shape=[1] * 8),
    "four bits": one("F4", shape=[8]),
    "six bits": one("F6_E2M3", shape=[4], offsets=[0, 3], n_data=3),
    "a name like a path": file_of(b'{"../../etc/passwd":' + ENTRY + b"}", 1),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_is_legal_is_read_as_the_safetensors_package_reads_it(tmp_path: Path, case: str) -> None:
    with opened(tmp_path, ACCEPTED[case]) as model:
        assert contents(model) == oracle_contents(ACCEPTED[case])


def contents(model: safetensors.SafetensorsFile) -> dict[str, tuple[str, list[int], bytes]]:
    return {n: (i.codec.upper(), list(i.shape), bytes(model.raw(n))) for n, i in model.tensors.items()}


def oracle_contents(content: bytes) -> dict[str, tuple[str, list[int], bytes]]:
    return {n: (entry["dtype"], entry["shape"], bytes(entry["data"])) for n, entry in oracle.deserialize(content)}


def verdicts(folder: Path, content: bytes) -> tuple[FormatError | None, bool]:
    """Our error, or None; whether the safetensors package accepts. Where both accept, they must have read the same."""
    try:
        theirs = oracle_contents(content)
    except oracle.SafetensorError:
        theirs = None
    try:
        with opened(folder, content) as model:
            assert theirs is None or contents(model) == theirs
        return None, theirs is not None
    except FormatError as error:
        return error, theirs is not None


# ---- against the format's own reader


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    content = file_of(GOOD, 19)
    for length in range(len(content)):
        error, is_accepted = verdicts(tmp_path, content[:length])
        assert error is not None and not is_accepted, length
    assert verdicts(tmp_path, content) == (None, True)


def test_after_any_flipped_bit_of_the_header_we_refuse_what_their_reader_refuses_and_no_more(tmp_path: Path) -> None:
    content = file_of(GOOD, 19)
    refused = accepted = 0
    for bit in range(8 * (len(content) - 19)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        error, is_accepted = verdicts(tmp_path, bytes(flipped))
        assert (error is None) == is_accepted, (bit, bytes(flipped), error)
        refused += not is_accepted
        accepted += is_accepted
    assert refused > 800 and accepted > 50


@pytest.mark.parametrize("case", REFUSED)
def test_every_hand_made_file_that_only_we_refuse_is_listed(tmp_path: Path, case: str) -> None:
    only_ours = {"white space first", "a name twice", "no name", "a NUL in a name", "metadata null"}
    only_ours |= {"entry list", "entry with more", "nine dimensions"}
    error, is_accepted = verdicts(tmp_path, REFUSED[case][0])
    assert error is not None
    assert is_accepted == (case in only_ours)


def test_random_damage_never_ends_in_anything_but_a_format_error(tmp_path: Path) -> None:
    source = random.Random(0)
    inputs = [mutate(file_of(GOOD, 19), source) for _ in range(1500)]
    accepted = [content for content in inputs if check_one(content, tmp_path / "fuzz.safetensors")]
    assert 10 < len(accepted) < 1000
    for content in accepted:
        assert verdicts(tmp_path, content) == (None, True)


# ---- codecs


def test_dtypes_are_the_ones_of_the_safetensors_package(tmp_path: Path) -> None:
    with pytest.raises(oracle.SafetensorError) as caught:
        oracle.deserialize(one("NONE"))
    named = str(caught.value).partition("expected one of ")[2].partition(" at line")[0]
    assert set(safetensors.BITS) == {word.strip("`") for word in named.split(", ")}


@pytest.mark.parametrize("dtype", sorted(safetensors.BITS))
def test_a_dtype_has_the_size_that_the_safetensors_package_gives_it(tmp_path: Path, dtype: str) -> None:
    n_bytes = safetensors.BITS[dtype]
    error, is_accepted = verdicts(tmp_path, one(dtype, shape=[8], offsets=[0, n_bytes], n_data=n_bytes))
    assert error is None and is_accepted


def test_a_dtype_without_a_codec_is_listed_and_not_decoded(tmp_path: Path) -> None:
    with opened(tmp_path, one("F8_E8M0", shape=[4])) as model:
        assert model.tensors["a"].codec == "f8_e8m0"
        assert bytes(model.raw("a")) == b"\0\1\2\3"
        with pytest.raises(UnsupportedError, match="f8_e8m0"):
            model.array("a")


def test_float32_is_decoded_from_any_alignment(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    for padding in range(4):
        header = json.dumps({"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}) + " " * padding
        with opened(tmp_path, file_of(header.encode()) + values.tobytes()) as model:
            np.testing.assert_array_equal(model.array("a"), values)
            assert model.tensors["a"].n_elements == 6


def test_there_is_nothing_to_verify(tmp_path: Path) -> None:
    with opened(tmp_path, file_of(GOOD, 19)) as model:
        assert model.verify() == []
        assert model.metadata == {"format": "pt"}
        assert model.size_bytes == len(file_of(GOOD, 19))


def test_a_file_that_becomes_shorter_is_refused_and_does_not_kill_the_process(tmp_path: Path) -> None:
    with opened(tmp_path, file_of(GOOD, 19)) as model:
        os.truncate(tmp_path / "model.safetensors", 20)
        with pytest.raises(HostileFile):
            model.raw("a")
