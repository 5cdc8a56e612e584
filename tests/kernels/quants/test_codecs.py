"""Every codec of the folder, by name, against code that is not ours: a new codec is tested without an edit here.

The oracle is gguf-py where it has the type, else a loop over `struct`. Bytes are random in full, so that scales are
infinite, NaN, subnormal and negative zero as well; a NaN counts as equal to any NaN, everything else is compared by bits.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

from apr.kernels import quants
from apr.kernels.quants import _block, q4_0
from apr.kernels.quants._block import BlockCodec
from apr.kernels.quants._ggml import GgmlCodec

# F16 patterns that are put in each place where a scale may stand: zeros, subnormals, largest, infinities, NaN
EDGE_SCALES = (0x0000, 0x8000, 0x0001, 0x83FF, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E00)


def plain_oracle(letter: str) -> Callable[[bytes], list[float]]:
    return lambda raw: [single(float(x)) for (x,) in struct.iter_unpack("<" + letter, raw)]


def single(x: float) -> float:
    try:
        return float(struct.unpack("<f", struct.pack("<f", x))[0])
    except OverflowError:
        return float("inf") if x > 0 else float("-inf")


def q8_k_oracle(raw: bytes) -> list[np.float32]:
    return [
        np.float32(fields[0]) * np.float32(q) for fields in struct.iter_unpack("<f256b16h", raw) for q in fields[1:257]
    ]


def apr_q4_oracle(raw: bytes) -> list[np.float32]:
    values = []
    for fields in struct.iter_unpack("<e16B", raw):
        scale = fields[0] if 2.0**-14 <= abs(fields[0]) <= 65504 else 0.0
        values += [np.float32(scale) * np.float32(q - 8) for byte in fields[1:] for q in (byte & 15, byte >> 4)]
    return values


def apr_q8_oracle(raw: bytes) -> list[np.float32]:
    scale, *quants_ = struct.unpack(f"<f{len(raw) - 4}b", raw)
    return [np.float32(scale) * np.float32(q) for q in quants_]


ORACLES: dict[str, Callable[[bytes], list[float] | list[np.float32]]] = {
    "f64": plain_oracle("d"),
    "i8": plain_oracle("b"),
    "i16": plain_oracle("h"),
    "i32": plain_oracle("i"),
    "i64": plain_oracle("q"),
    "u8": plain_oracle("B"),
    "q8_k": q8_k_oracle,
    "apr_q4": apr_q4_oracle,
    "apr_q8": apr_q8_oracle,
}


def expected(codec: BlockCodec, raw: np.ndarray) -> np.ndarray:
    """What the oracle makes of `raw`, flat. A codec that gguf-py lacks needs one in ORACLES."""
    with np.errstate(all="ignore"):
        if codec.name in ORACLES:
            return np.array(ORACLES[codec.name](raw.tobytes()), dtype=np.float32)
        kind = gguf.GGMLQuantizationType(codec.ggml_type)
        return np.asarray(gguf.quants.dequantize(raw.reshape(-1, codec.block_bytes), kind)).reshape(-1)


def same_floats(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two float32 arrays have the same bits, any NaN being the same as any other."""
    if a.shape != b.shape or a.dtype != np.float32 or b.dtype != np.float32:
        return False
    return bool((np.isnan(a) == np.isnan(b)).all() and ((a.view(np.uint32) == b.view(np.uint32)) | np.isnan(a)).all())


def random_raw(codec: BlockCodec, n_blocks: int, *, seed: int = 0) -> np.ndarray:
    n_bytes = codec.n_bytes(n_blocks * codec.block_size)
    return np.random.default_rng(seed).integers(0, 256, n_bytes, dtype=np.uint8)


def decode_flat(codec: BlockCodec, raw: np.ndarray, n_blocks: int) -> np.ndarray:
    return codec.decode(raw, (n_blocks * codec.block_size,))


@pytest.fixture(params=quants.names())
def codec(request: pytest.FixtureRequest) -> BlockCodec:
    return quants.codec(request.param)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_block, "CHUNK_ELEMENTS", 1 << 10)


@pytest.fixture
def small_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_block, "THREADED_ELEMENTS", 1)
    monkeypatch.setattr(_block, "THREAD_CHUNK_ELEMENTS", 1 << 10)


@pytest.mark.parametrize("n_blocks", [1, 2, 3, 13])
def test_random_bytes_decode_as_the_oracle_does(codec: BlockCodec, n_blocks: int) -> None:
    raw = random_raw(codec, n_blocks, seed=n_blocks)
    assert same_floats(decode_flat(codec, raw, n_blocks), expected(codec, raw))


@pytest.mark.usefixtures("small_chunks")
def test_blocks_on_both_sides_of_chunk_borders_decode_as_the_oracle_does(codec: BlockCodec) -> None:
    n_blocks = 5 * (1 << 10) // codec.block_size + 1
    raw = random_raw(codec, n_blocks)
    assert same_floats(decode_flat(codec, raw, n_blocks), expected(codec, raw))


@pytest.mark.usefixtures("small_threads")
@pytest.mark.parametrize("n_chunks", [1, 2, 5])
def test_threads_do_not_change_the_result(codec: BlockCodec, n_chunks: int) -> None:
    n_blocks = n_chunks * (1 << 10) // codec.block_size + 1
    raw = random_raw(codec, n_blocks)
    assert same_floats(decode_flat(codec, raw, n_blocks), expected(codec, raw))


@pytest.mark.parametrize("byte", [0x00, 0x01, 0x7F, 0x80, 0xFF])
def test_a_block_of_one_byte_repeated_decodes_as_the_oracle_does(codec: BlockCodec, byte: int) -> None:
    raw = np.full_like(random_raw(codec, 3), byte)
    assert same_floats(decode_flat(codec, raw, 3), expected(codec, raw))


def test_edge_scales_in_every_place_decode_as_the_oracle_does(codec: BlockCodec) -> None:
    places = [(at, scale) for at in range(0, codec.block_bytes - 1, 2) for scale in EDGE_SCALES]
    n_blocks = max(1, len(places))
    raw = random_raw(codec, n_blocks)
    for i, (at, scale) in enumerate(places):
        raw[i * codec.block_bytes + at :][:2] = scale & 0xFF, scale >> 8
    assert same_floats(decode_flat(codec, raw, n_blocks), expected(codec, raw))


def test_bytes_at_an_odd_offset_of_a_read_only_map_decode_alike(codec: BlockCodec, tmp_path: Path) -> None:
    raw = random_raw(codec, 9)
    file = tmp_path / "tensor"
    file.write_bytes(b"x" + raw.tobytes())
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        view = np.frombuffer(mapped, dtype=np.uint8, offset=1)
        assert view.ctypes.data % 2 == 1 and not view.flags.writeable
        decoded = decode_flat(codec, view, 9).copy()
        del view
    assert same_floats(decoded, expected(codec, raw))


def test_bytes_that_are_not_contiguous_decode_alike(codec: BlockCodec) -> None:
    raw = random_raw(codec, 9)
    view = np.repeat(raw, 2)[::2]
    assert not view.flags.c_contiguous
    assert same_floats(decode_flat(codec, view, 9), expected(codec, raw))


def test_decoding_leaves_the_bytes_as_they_are(codec: BlockCodec) -> None:
    raw = random_raw(codec, 4)
    before = raw.copy()
    decode_flat(codec, raw, 4)
    assert np.array_equal(raw, before)


def test_the_result_has_the_shape_asked_for(codec: BlockCodec) -> None:
    shape = (2, 3, 2 * codec.block_size)
    raw = random_raw(codec, 12)
    decoded = codec.decode(raw, shape)
    assert decoded.shape == shape and decoded.dtype == np.float32 and decoded.flags.c_contiguous
    assert codec.row_fits(shape)


def test_a_tensor_without_elements_decodes_to_none(codec: BlockCodec) -> None:
    assert codec.decode(np.empty(codec.n_bytes(0), dtype=np.uint8), (0, codec.block_size)).shape == (
        0,
        codec.block_size,
    )


@pytest.mark.parametrize("extra", [-1, 1])
def test_a_wrong_byte_count_is_refused_with_both_counts(codec: BlockCodec, extra: int) -> None:
    n_bytes = random_raw(codec, 4).size
    wrong = np.zeros(n_bytes + extra, dtype=np.uint8)
    with pytest.raises(ValueError, match=rf"{n_bytes + extra} bytes .* {n_bytes} bytes"):
        decode_flat(codec, wrong, 4)


def test_an_array_of_another_dtype_is_refused(codec: BlockCodec) -> None:
    raw = random_raw(codec, 4)
    with pytest.raises(ValueError, match="int8; pass"):
        decode_flat(codec, raw.view(np.int8), 4)


@pytest.mark.usefixtures("small_threads")
def test_arithmetic_on_hostile_bytes_never_raises_or_warns(codec: BlockCodec) -> None:
    raw = random_raw(codec, 3000)
    with np.errstate(all="raise"):
        decode_flat(codec, raw, 3000)


def test_a_codec_encodes_what_it_decodes_or_says_that_it_does_not(codec: BlockCodec) -> None:
    values = np.random.default_rng(3).standard_normal((4, codec.block_size)).astype(np.float32)
    if not codec.has_encoder:
        with pytest.raises(NotImplementedError, match=codec.name):
            codec.encode(values)
        return
    raw = codec.encode(values)
    assert raw.dtype == np.uint8 and raw.shape == (codec.n_bytes(values.size),)
    decoded = codec.decode(raw, values.shape)
    # in parts of the largest value; those of 4 bits have 15 steps
    assert np.abs(decoded - values).max() <= np.abs(values).max() / {"q2_k": 3, "q3_k": 4}.get(codec.name, 7)
    # nothing is lost the second time, but where F16 rounds the scale
    if not isinstance(codec, GgmlCodec) and codec.name != "apr_q4":
        assert same_floats(codec.decode(codec.encode(decoded), values.shape), decoded)


@pytest.mark.usefixtures("small_threads")
def test_threads_do_not_change_what_is_encoded(codec: BlockCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    if not codec.has_encoder:
        return
    values = np.random.default_rng(3).standard_normal(3 * (1 << 10) + max(32, codec.block_size)).astype(np.float32)
    threaded = codec.encode(values)
    monkeypatch.setattr(_block, "MAX_THREADS", 1)
    assert np.array_equal(threaded, codec.encode(values))


def test_sizes_and_numbers_are_those_of_gguf(codec: BlockCodec) -> None:
    kind = gguf.GGMLQuantizationType.__members__.get(codec.name.upper())
    assert codec.ggml_type == (None if kind is None else kind.value)
    if kind is not None:
        assert gguf.GGML_QUANT_SIZES[kind] == (codec.block_size, codec.block_bytes)


def test_a_codec_has_the_name_of_its_file() -> None:
    assert [quants.codec(name).name for name in quants.names()] == list(quants.names())


def test_no_two_codecs_share_a_number() -> None:
    codecs = [quants.codec(name) for name in quants.names()]
    for numbers in ([c.ggml_type for c in codecs], [c.apr_dtype for c in codecs]):
        known = [n for n in numbers if n is not None]
        assert len(known) == len(set(known))


def test_numbers_in_apr_files_are_those_of_today() -> None:
    numbers = {c.name: c.apr_dtype for c in map(quants.codec, quants.names()) if c.apr_dtype is not None}
    assert numbers == {
        "f32": 0, "f16": 1, "f64": 3, "i32": 4, "i64": 5, "i8": 6, "u8": 7,
        "q4_k": 12, "q6_k": 14, "bf16": 30, "apr_q4": 128, "apr_q8": 129,
    }  # fmt: skip


class SwappedNibbles(q4_0.Codec):
    """A planted defect: the low and the high half of each block change places."""

    def decode_blocks(self, blocks: np.ndarray, out: np.ndarray) -> None:
        swapped = blocks.copy()
        swapped[:, 2:] = (blocks[:, 2:] >> 4) | (blocks[:, 2:] << 4)
        super().decode_blocks(swapped, out)


def test_swapped_nibbles_are_found() -> None:
    raw = random_raw(q4_0.Codec(), 3)
    assert not same_floats(decode_flat(SwappedNibbles(), raw, 3), expected(q4_0.Codec(), raw))


@pytest.mark.parametrize(
    "defect", [np.float32(-0.0), np.float32(np.nan), np.float32(np.inf), np.nextafter(np.float32(0), np.float32(1))]
)
def test_one_wrong_value_among_many_is_found(defect: np.float32) -> None:
    right = np.zeros(1000, dtype=np.float32)
    wrong = right.copy()
    wrong[617] = defect
    assert same_floats(right, right.copy()) and not same_floats(right, wrong)
    assert not same_floats(right, right[:-1]) and not same_floats(right, right.astype(np.float64))
