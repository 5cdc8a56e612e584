"""Bits of many blocks at once: the moves that the codecs share.

Fields are copied as items of their width (a void type), not byte by byte, and shifts and masks run over flat 64-bit
words: NumPy is slow per row, not per byte.
"""

from __future__ import annotations

import numpy as np

ONES = 0x0101010101010101  # one in each byte of a word


def field(blocks: np.ndarray, start: int, width: int) -> np.ndarray:
    """uint8 [n_blocks, width], contiguous: the bytes start .. start + width of each block of uint8 [n_blocks, ...]."""
    return blocks[:, start : start + width].view(f"V{width}").copy().view(np.uint8)


def halves(blocks: np.ndarray, start: int, count: int = 1) -> np.ndarray:
    """float32 [n_blocks, count]: the F16 numbers that begin at byte `start` of each block."""
    return blocks[:, start : start + 2 * count].view("<f2").astype(np.float32)


def unpack(packed: np.ndarray, bits: int, *, width: int) -> np.ndarray:
    """Split bytes into fields of 1, 2 or 4 bits: from each `width` bytes come all the lowest fields, then the next.

    packed:  uint8 [n_blocks, n_bytes], contiguous; width divides n_bytes, 8 divides width
    Returns  uint8 [n_blocks, n_bytes * 8 // bits].
    """
    lanes = 8 // bits
    words = packed.reshape(-1).view(np.uint64)
    out = np.empty((packed.size // width, lanes * width), dtype=np.uint8)
    slots = out.view(f"V{width}")  # [groups, lanes]
    part = np.empty_like(words)
    mask = np.uint64(((1 << bits) - 1) * ONES)
    for lane in range(lanes):
        np.right_shift(words, np.uint64(bits * lane), out=part)
        np.bitwise_and(part, mask, out=part)
        slots[:, lane] = part.view(f"V{width}")
    return out.reshape(packed.shape[0], -1)


def add_high_bits(low: np.ndarray, high: np.ndarray, shift: int) -> None:
    """low |= high << shift, in place: uint8, contiguous, of one size; what is shifted stays within its byte."""
    words = high.reshape(-1).view(np.uint64)
    np.left_shift(words, np.uint64(shift), out=words)
    target = low.reshape(-1).view(np.uint64)
    np.bitwise_or(target, words, out=target)


def centre(quants: np.ndarray, offset: int) -> np.ndarray:
    """int8: the uint8 quants less `offset`, in place; both the quants and the offset are under 128."""
    signed = quants.view(np.int8)
    np.subtract(signed, np.int8(offset), out=signed)
    return signed


def spread(factors: np.ndarray, out: np.ndarray) -> np.ndarray:
    """float32 of the shape of `out`: each factor repeated over its equal share of consecutive elements."""
    return np.repeat(factors.reshape(-1), out.size // factors.size).reshape(out.shape)


def scale_quants(out: np.ndarray, quants: np.ndarray, factors: np.ndarray) -> None:
    """out = factors * quants, one factor for each equal share of consecutive elements.

    out: float32 [n_blocks, block_size]; quants: uint8 or int8 of that shape; factors: float32 [n_blocks, n_groups].
    """
    np.copyto(out, quants)
    np.multiply(out, spread(factors, out), out=out)


def pack(quants: np.ndarray, bits: int, *, width: int) -> np.ndarray:
    """uint8 [n_blocks, n * bits // 8], the inverse of `unpack`: quants below 2**bits, uint8 [n_blocks, n]."""
    lanes = quants.reshape(len(quants), -1, 8 // bits, width)
    packed = lanes[:, :, 0].copy()
    for lane in range(1, 8 // bits):
        packed |= lanes[:, :, lane] << (bits * lane)
    return packed.reshape(len(quants), -1)
