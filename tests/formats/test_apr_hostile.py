"""`.apr` files cut at every byte, flipped at every bit, and with every number of the header at its boundaries."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import pytest

from apr.errors import (
    BadMagic,
    ChecksumMismatch,
    ForeignFormat,
    FormatError,
    LimitExceeded,
    MisalignedTensor,
    OverlappingTensors,
    TensorOutOfBounds,
    TrailingBytes,
    TruncatedFile,
)
from apr.formats import apr
from formats.apr_samples import encode, patched, repaired, stored, with_footer, with_header_checksum
from fuzz import fuzz_apr, fuzz_loop

TENSORS = [(b"a", 0, (2, 3), bytes(24)), (b"b", 30, (5,), bytes(10))]
SMALL = encode(b'{"model_type":"x","hidden_size":4}', TENSORS)
RECORD_B = 128 + 2 + 1 + 2 + 16 + 16  # of the second tensor, in SMALL
BOUNDARIES = (0, 1, 63, 64, 65, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 64, 2**64 - 8, 2**64 - 1)
FIELDS = {
    "version": (4, "H"),
    "flags": (6, "H"),
    "n_tensors": (8, "I"),
    "metadata_offset": (12, "Q"),
    "metadata_bytes": (20, "I"),
    "index_offset": (24, "Q"),
    "data_offset": (32, "Q"),
}


def refused(folder: Path, content: bytes) -> FormatError:
    """The strict reader's error; the lenient one may open the file or raise, but nothing else."""
    path = folder / "model.apr"
    path.write_bytes(content)
    with contextlib.suppress(FormatError):
        apr.read_lenient(path).close()
    with pytest.raises(FormatError) as caught:
        apr.read(path)
    return caught.value


def accepted(folder: Path, content: bytes) -> bool:
    path = folder / "model.apr"
    path.write_bytes(content)
    try:
        with apr.read(path) as model:
            for name in model.tensors:
                model.array(name)
    except FormatError:
        return False
    return True


def test_the_small_file_is_good(tmp_path: Path) -> None:
    assert accepted(tmp_path, SMALL) and SMALL[RECORD_B : RECORD_B + 3] == b"\1\0b"


def test_a_file_cut_at_any_byte_is_refused_as_truncated(tmp_path: Path) -> None:
    kinds = {size: type(refused(tmp_path, SMALL[:size])) for size in range(len(SMALL))}
    assert {size: kind for size, kind in kinds.items() if kind is not TruncatedFile} == {}


def test_a_flipped_bit_of_the_header_is_refused(tmp_path: Path) -> None:
    for at in range(64):
        for bit in range(8):
            error = refused(tmp_path, patched(SMALL, at, bytes([SMALL[at] ^ 1 << bit])))
            assert isinstance(error, ChecksumMismatch if at > 3 else (BadMagic, ForeignFormat))


def test_a_flipped_bit_of_metadata_or_index_is_refused_or_found_by_verify(tmp_path: Path) -> None:
    for at in range(64, 256):
        for bit in range(8):
            path = tmp_path / "model.apr"
            path.write_bytes(patched(SMALL, at, bytes([SMALL[at] ^ 1 << bit])))
            with pytest.raises(FormatError), apr.read(path) as model:
                model.verify()


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", BOUNDARIES)
def test_a_boundary_number_in_the_header_is_refused(field: str, value: int, tmp_path: Path) -> None:
    at, code = FIELDS[field]
    size = struct.calcsize(code)
    if value >= 256**size:
        return
    changed = repaired(patched(SMALL, at, struct.pack(f"<{code}", value)))
    harmless = changed == SMALL or (field == "flags" and value in (0, 64))  # neither flags nor 0x40 change a meaning
    assert accepted(tmp_path, changed) == harmless
    if not harmless:
        assert refused(tmp_path, changed).offset is not None


@pytest.mark.parametrize("value", BOUNDARIES)
@pytest.mark.parametrize("at", [RECORD_B + 5, RECORD_B + 13, RECORD_B + 21], ids=["dimension", "offset", "size"])
def test_a_boundary_number_in_the_index_is_refused(at: int, value: int, tmp_path: Path) -> None:
    changed = with_footer(patched(SMALL, at, struct.pack("<Q", value)))
    assert accepted(tmp_path, changed) == (changed == SMALL)


def test_a_huge_count_is_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    error = refused(tmp_path, repaired(patched(SMALL, 8, b"\xff\xff\xff\xff")))
    assert isinstance(error, LimitExceeded) and "4294967295 tensors" in str(error)


def test_tensors_that_share_bytes_are_refused(tmp_path: Path) -> None:
    error = refused(tmp_path, with_footer(patched(SMALL, RECORD_B + 13, bytes(8))))
    assert isinstance(error, OverlappingTensors) and error.offset == RECORD_B


def test_a_tensor_off_the_alignment_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path, with_footer(patched(SMALL, RECORD_B + 13, struct.pack("<Q", 72))))
    assert isinstance(error, MisalignedTensor)


def test_an_offset_beyond_the_end_is_told_from_a_file_cut_short(tmp_path: Path) -> None:
    error = refused(tmp_path, with_footer(patched(SMALL, RECORD_B + 13, struct.pack("<Q", 1 << 40))))
    assert isinstance(error, TensorOutOfBounds) and "'b'" in str(error)


def test_one_more_byte_is_refused(tmp_path: Path) -> None:
    assert isinstance(refused(tmp_path, SMALL + b"\0"), TrailingBytes)
    without_footer = encode(b"{}", TENSORS, flags=0x0020)[:-4]
    assert accepted(tmp_path, without_footer) and not accepted(tmp_path, without_footer + b"\0")


def test_a_shape_that_numpy_cannot_hold_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path, encode(b"{}", [(b"a", 0, (0, 2**63 - 1, 2**63 - 1), b"")]))
    assert isinstance(error, LimitExceeded)
    assert accepted(tmp_path, encode(b"{}", [(b"a", 0, (0, 3), b"")]))


def test_bytes_that_belong_to_nothing_are_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "model.apr"
    wide = SMALL[:32] + struct.pack("<Q", 320) + SMALL[40:256] + bytes(64) + SMALL[256:]
    for content, code in (
        (repaired(wide), "apr.gap"),
        (with_footer(patched(SMALL, 64 + 40, b"x")), "apr.padding"),
        (with_footer(patched(SMALL, RECORD_B + 13, struct.pack("<Q", 128))[:-4] + bytes(68)), "apr.gap"),
    ):
        path.write_bytes(content)
        with apr.read(path) as model:
            assert [warned.code for warned in model.warnings] == [code] and model.verify()


@pytest.mark.parametrize("name", ["mnist_784x2", "sample-mlp", "att48-aco", "sentiment_mini"])
def test_a_lookalike_cut_at_any_byte_is_refused(name: str, tmp_path: Path) -> None:
    content = stored(f"{name}.apr")
    for size in [*range(min(len(content), 200)), len(content) - 1]:
        refused(tmp_path, content[:size])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"APR2\x02" + struct.pack("<I", 999) + b"\x28\xb5\x2f\xfd" + bytes(20), "'APR2' wrapper (Zstandard"),
        (b"APR\0\x01" + struct.pack("<II", 70000, 70000) + bytes(20), "'APR\\0' wrapper (LZ4"),
        (b"APR\0\x00" + struct.pack("<I", 99) + b"APR1" + bytes(20), "'APR\\0' wrapper (uncompressed"),
        (b"APR1\x01\x00\x02\x00" + bytes(90), "whisper.apr"),
        (b"APR1\xff\xff\xff\xff[" + bytes(90), "unknown kind"),
    ],
)
def test_other_layouts_are_named(content: bytes, says: str, tmp_path: Path) -> None:
    error = refused(tmp_path, content)
    assert isinstance(error, ForeignFormat) and says in str(error)


def test_a_damaged_aprender_tsp_model_is_told_from_a_whole_one(tmp_path: Path) -> None:
    content = stored("att48-aco.apr")
    assert isinstance(refused(tmp_path, patched(content, 40, b"\xaa")), ChecksumMismatch)


def test_an_unknown_magic_and_an_empty_file_are_refused(tmp_path: Path) -> None:
    assert isinstance(refused(tmp_path, b"APRX" + SMALL[4:]), BadMagic)
    assert isinstance(refused(tmp_path, b""), TruncatedFile)


def test_realizars_serialiser_is_recognised_by_an_index_that_ends_where_the_data_starts(tmp_path: Path) -> None:
    cleared = patched(patched(SMALL, 6, bytes(2)), 40, bytes(4))
    assert isinstance(refused(tmp_path, cleared), ChecksumMismatch)
    index_end = RECORD_B + 2 + 1 + 2 + 8 + 16
    unpadded = patched(cleared[:index_end] + cleared[256:][: 64 + 10], 32, struct.pack("<Q", index_end))
    assert accepted(tmp_path, unpadded) and not accepted(tmp_path, with_header_checksum(unpadded))


def test_mutated_files_are_refused_or_hold_what_they_promise() -> None:
    tried, taken = fuzz_loop.run(fuzz_apr.TARGET, seed=7, cases=400)
    assert tried == 400 and taken > 20
