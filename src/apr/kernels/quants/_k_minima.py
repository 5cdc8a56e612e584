"""Encoder of Q4_K and Q5_K: groups of 32 elements, each with a scale and a minimum of 6 bits."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from apr.kernels.quants import _fit
from apr.kernels.quants._ggml import Importance
from apr.kernels.quants._k_fit import (
    blocks_of,
    few_positive,
    few_weighted,
    groups_of,
    importance_of_groups,
    requantise,
)
from apr.kernels.quants._k_scales import pack_scales_and_minima, scales_and_minima


@dataclass(frozen=True, slots=True)
class Fit:
    """d, dmin: float32 [n_blocks]; their bits: int32 [n_blocks, 8]; quants: int32 [32, n_blocks * 8]."""

    d: np.ndarray
    scale_bits: np.ndarray
    dmin: np.ndarray
    minimum_bits: np.ndarray
    quants: np.ndarray

    def within_six_bits(self) -> Fit:
        """The same with bits, as bytes, of at most 63: what is negative becomes that."""
        return replace(
            self,
            scale_bits=np.minimum(self.scale_bits & 0xFF, 63),
            minimum_bits=np.minimum(self.minimum_bits & 0xFF, 63),
        )


def fit(values: np.ndarray, top: int, *, first: float, n_steps: int) -> Fit:
    """An element's error counts as its magnitude does, beside the group's mean. ggml-quants.c, quantize_row_q4_K_ref."""
    groups = groups_of(values, 32)
    mean = np.sqrt(_fit.total(np.square(groups)) / np.float32(32))
    scales, minima, quants = _fit.with_minimum(
        groups, mean + np.abs(groups), top, first=first, step=0.1, n_steps=n_steps
    )
    d, scale_bits = few_positive(scales.reshape(-1, 8), 63)
    dmin, minimum_bits = few_positive(minima.reshape(-1, 8), 63)
    return Fit(d, scale_bits, dmin, minimum_bits, quants).within_six_bits()


def fit_weighted(values: np.ndarray, importance: Importance, top: int) -> Fit:
    """ggml-quants.c, quantize_row_q4_K_impl and quantize_row_q5_K_impl."""
    weights = importance_of_groups(values, importance, 32, factor=2)
    scales, minima, quants = _fit.with_minimum(
        groups_of(values, 32), weights, top, first=-0.9, step=0.05, n_steps=36, is_guarded=True
    )
    sums = np.ascontiguousarray(_fit.total(weights).reshape(-1, 8).T)
    return Fit(*few_weighted(scales.reshape(-1, 8), sums, 63), *few_weighted(minima.reshape(-1, 8), sums, 63), quants)


def header_and_quants(values: np.ndarray, fit: Fit, top: int) -> tuple[np.ndarray, np.ndarray]:
    """d, dmin and the packed scales, uint8 [n_blocks, 16]; quants 0 .. top, uint8 [n_blocks, 256]."""
    packed = pack_scales_and_minima(fit.scale_bits.astype(np.uint8), fit.minimum_bits.astype(np.uint8))
    bits = scales_and_minima(packed)  # not what was packed: Q4_K's scale may be negative, and overflows into others
    stored = _fit.half(np.stack([fit.d, fit.dmin], axis=1))
    exact = stored.astype(np.float32)
    factors, offsets = exact[:, :1] * bits[:, 0], exact[:, 1:] * bits[:, 1]
    quants = requantise(groups_of(values, 32), fit.quants, factors.reshape(-1), offsets.reshape(-1), low=0, high=top)
    return np.concatenate([stored.view(np.uint8), packed], axis=1), blocks_of(quants, len(values))
