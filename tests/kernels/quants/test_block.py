"""The base of all codecs: counting, checking, chunks and threads."""

from __future__ import annotations

import numpy as np
import pytest

from apr.kernels import quants
from apr.kernels.quants import _block
from apr.kernels.quants._block import in_chunks


def test_elements_that_do_not_fill_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="257 elements do not fill q4_k blocks of 256"):
        quants.codec("q4_k").n_bytes(257)


def test_a_row_fits_when_it_is_whole_blocks() -> None:
    codec = quants.codec("q8_0")
    assert codec.row_fits((3, 64)) and codec.row_fits((0, 32))
    assert not codec.row_fits((32, 3)) and not codec.row_fits(())
    assert quants.codec("f16").row_fits(()) and quants.codec("f16").row_fits((3, 5))


def test_a_scalar_decodes_to_no_dimensions() -> None:
    decoded = quants.codec("f16").decode(np.array([0x00, 0x3C], dtype=np.uint8), ())
    assert decoded.shape == () and decoded == 1


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("n_blocks", [0, 1, 4, 5, 8, 9, 33])
def test_each_block_is_converted_once(monkeypatch: pytest.MonkeyPatch, threads: int, n_blocks: int) -> None:
    monkeypatch.setattr(_block, "MAX_THREADS", threads)
    monkeypatch.setattr(_block, "CHUNK_ELEMENTS", 8)
    monkeypatch.setattr(_block, "THREAD_CHUNK_ELEMENTS", 8)
    monkeypatch.setattr(_block, "THREADED_ELEMENTS", 1)
    source = np.arange(2 * n_blocks).reshape(n_blocks, 2)
    target = np.zeros_like(source)
    sizes = []

    def add(part: np.ndarray, out: np.ndarray) -> None:
        sizes.append(len(part))
        out += part

    in_chunks(add, source, target, block_size=2)
    assert np.array_equal(source, target) and max(sizes, default=0) <= 4


def test_a_chunk_is_at_least_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_block, "CHUNK_ELEMENTS", 8)
    raw = np.zeros(3 * 144, dtype=np.uint8)
    assert quants.codec("q4_k").decode(raw, (3, 256)).shape == (3, 256)


def test_what_a_thread_raises_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_block, "THREADED_ELEMENTS", 0)
    monkeypatch.setattr(_block, "THREAD_CHUNK_ELEMENTS", 1)

    def fail(part: np.ndarray, _out: np.ndarray) -> None:
        if part[0, 0] == 3:
            raise ValueError("planted")

    rows = np.arange(4).reshape(-1, 1)
    with pytest.raises(ValueError, match="planted"):
        in_chunks(fail, rows, rows, block_size=1)
