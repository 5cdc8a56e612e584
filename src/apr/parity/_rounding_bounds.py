"""How far the original of a decoded weight may lie from it, by codec: what an encoding's own rounding explains.

Every codec holds a value as a point of a grid. Quantisers take the nearest point, so that inside the grid's range the
original lies within half a step; where the value is the grid's first or last point the original may lie beyond it. The
bound is computed from each block's own scales, with three allowances:

  half a step     of the block. With an importance matrix ggml fits the scales of Q4_0 Q4_1 Q5_0 Q5_1 after it has
                  chosen the points, and points are then not the nearest ones: a quarter of a step more (`fit`), and
                  `refitted` says that whole blocks may be off by a scale of their own, which the judge looks into
  precision       the scale is itself rounded: to F16 (half a unit in its last place, times the quant), and in K-quants
                  to 4, 6 or 8 bits of the super-block's scale, which moves only the ends of the range
  clipping        beyond the ends, the super-block's widest range (`clip`): quantisers that weigh elements give up the
                  unimportant. Only originals that lie outside may be cut off, and only to the end that is nearer

`fit` and `clip` were measured with gguf-py (Q4_0 Q4_1 Q5_0 Q5_1 Q8_0: plain rounding) and with llama.cpp's
`ggml_quantize_chunk` over normal, heavy-tailed, shifted and sparse rows, without an importance matrix and with matrices
of ones, squared normals and log-normals up to sigma 3: the tests repeat the measurement.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from apr.kernels import quants
from apr.kernels.quants._bits import field, halves
from apr.kernels.quants._k_scales import scales_and_minima, wide_scales

# plain floating-point types -> a rounding error's share of the value's power of two, and the least one (subnormals).
# F32 may be off by one unit in the last place: a norm's 1 is added and taken away in float32
_PLAIN = {
    "f16": (2.0**-11, 2.0**-25),
    "bf16": (2.0**-8, 0.0),
    "f32": (2.0**-23, 2.0**-149),
    "f64": (2.0**-23, 2.0**-149),
}
_EXPONENT = np.uint32(0x7F800000)
_TOUCHING = 1e-3  # of a step: a decoded value this near to an end of the grid is the end
ARITHMETIC = 1e-3  # of a step: quotients computed in float32 that fall on the other side of a half


@dataclass(frozen=True, slots=True)
class Allowance:
    """The original lies between value - below and value + above.

    half:          float32, half a step: what plain rounding explains; its square over 3 is the mean square of the error
    below, above:  float32; all three have the shape of the values, or one that spreads over them
    refitted:      consecutive elements whose scale may have been fitted anew after their quants were chosen; 0 for none
    is_centred:    of those, whether zero is a point whatever the scale
    is_grid:       of a block codec
    """

    half: np.ndarray
    below: np.ndarray
    above: np.ndarray
    refitted: int = 0
    is_centred: bool = False
    is_grid: bool = False

    def each(self, change: Callable[[np.ndarray], np.ndarray]) -> Allowance:
        """With all three parts changed in one way; parts that spread over the values as they are stay."""
        half, below, above = (change(p) if p.ndim else p for p in (self.half, self.below, self.above))
        return replace(self, half=half, below=below, above=above)


@dataclass(frozen=True, slots=True)
class _Grid:
    """The points that the values of each group can take: float32 [n_groups, 1] each.

    lo, step:   the first point, and the distance of two
    slack:      of every element, from the precision of the scale
    lost:       beyond both ends, from the precision of the scale
    overshoot:  beyond both ends, from that and from clipping
    """

    lo: np.ndarray
    hi: np.ndarray
    step: np.ndarray
    slack: np.ndarray
    lost: np.ndarray
    overshoot: np.ndarray


@dataclass(frozen=True, slots=True)
class _Rule:
    """What is known of a codec's quantisers.

    group:  elements that share a step
    least, most:  the range of its quants
    fit:    steps beyond the half by which an element inside the range may be off
    clip:   share of the block's widest range by which an original may lie outside its group's
    grid:   reads the grid from uint8 [n_blocks, block_bytes]
    unit:   error of a sub-block's scale in units of the super-block's: half, and what a weighted fit moves it
    """

    group: int
    least: int
    most: int
    fit: float
    clip: float
    grid: Callable[[np.ndarray, _Rule], _Grid]
    unit: float = 0.75


def is_block_codec(codec: str) -> bool:
    """Whether the codec shares scales among elements (and its rounding is called quantisation)."""
    return codec in _RULES


def is_known(codec: str) -> bool:
    """Whether a bound is known, so that a difference can be judged."""
    return codec in _RULES or codec in _PLAIN or codec in quants.names()


def allowance(codec: str, raw: np.ndarray, values: np.ndarray) -> Allowance:
    """What the rounding of `codec` explains.

    raw:     uint8, the encoded bytes of whole blocks (all bytes of the tensor for apr_q8, whose scale stands first)
    values:  float32, decoded from them, any shape; in the order of the blocks
    """
    rule = _RULES.get(codec)
    if rule is None:
        return _plain(codec, values)
    with np.errstate(all="ignore"):  # a damaged scale may be anything; what is not finite is counted elsewhere
        grid = rule.grid(raw.reshape(-1, quants.codec(codec).block_bytes), rule) if codec != "apr_q8" else _tensor(raw)
        return _on_grid(grid, values, rule)


def _plain(codec: str, values: np.ndarray) -> Allowance:
    if codec not in _PLAIN:  # whole numbers
        zero = np.zeros((), dtype=np.float32)
        return Allowance(zero, zero, zero)
    share, least = _PLAIN[codec]
    power = (np.ascontiguousarray(values, dtype=np.float32).view(np.uint32) & _EXPONENT).view(np.float32)
    error = np.multiply(power, np.float32(share), out=power)
    np.maximum(error, np.float32(least), out=error)
    return Allowance(error, error, error)


def _on_grid(grid: _Grid, values: np.ndarray, rule: _Rule) -> Allowance:
    """The last group may be short (apr_q4)."""
    n_groups = grid.step.shape[0]
    flat = values.reshape(-1)
    missing = n_groups * (flat.size // n_groups if n_groups == 1 else rule.group) - flat.size
    padded = np.concatenate([flat, np.zeros(missing, dtype=np.float32)]) if missing else flat
    groups = padded.reshape(n_groups, -1)
    inside = grid.step * np.float32(0.5 + ARITHMETIC + rule.fit) + grid.slack
    touch = grid.step * np.float32(_TOUCHING)
    below = np.where(groups <= grid.lo + touch, inside + grid.overshoot, inside)
    above = np.where(groups >= grid.hi - touch, inside + grid.overshoot, inside)
    # a group without a step holds one value: what it stood for is anything that was too small for a scale
    half = np.where(grid.step > 0, grid.step * np.float32(0.5), grid.lost)
    half, refitted, is_centred = np.broadcast_to(half, groups.shape), rule.group if rule.fit else 0, rule.least < 0
    found = Allowance(half, below, above, refitted, is_centred, is_grid=True)
    return found.each(lambda part: part.reshape(-1)[: flat.size].reshape(values.shape))


def _made(step: np.ndarray, lo: np.ndarray, rule: _Rule, *, slack: np.ndarray, scale_error: np.ndarray) -> _Grid:
    """A grid of quants `rule.least` .. `rule.most`; `lo` is the value at `rule.least` of a positive step."""
    hi = lo + step * (rule.most - rule.least)
    size = np.abs(step)
    # importance may leave any sub-block of a super-block with a range that is too small, up to the widest of them
    widest = np.broadcast_to(size.max(axis=1, keepdims=True, initial=0), size.shape)
    overshoot = scale_error + (size > 0) * widest * np.float32(rule.clip * (rule.most - rule.least))
    made = (np.minimum(lo, hi), np.maximum(lo, hi), size, np.abs(slack), scale_error, overshoot)
    return _Grid(*(np.asarray(part, dtype=np.float32).reshape(-1, 1) for part in made))


def _half_unit(scales: np.ndarray) -> np.ndarray:
    """float32: half a unit in the last place of F16 numbers."""
    found: np.ndarray = np.spacing(np.abs(scales).astype(np.float16)).astype(np.float32) * np.float32(0.5)
    return found


def _centred(blocks: np.ndarray, rule: _Rule) -> _Grid:
    """One F16 scale at the start of a block, quants around zero."""
    step = halves(blocks, 0)
    slack = _half_unit(step) * -rule.least
    return _made(step, step * rule.least, rule, slack=slack, scale_error=slack)


def _with_minimum(blocks: np.ndarray, rule: _Rule) -> _Grid:
    """F16 scale and F16 minimum at the start of a block, quants from zero."""
    step, lo = halves(blocks, 0), halves(blocks, 2)
    slack = _half_unit(step) * rule.most + _half_unit(lo)
    return _made(step, lo, rule, slack=slack, scale_error=slack)


def _apr_q4(blocks: np.ndarray, rule: _Rule) -> _Grid:
    """A scale under the smallest normal F16 is read as zero: what it stood for is lost."""
    scale = halves(blocks, 0)
    lost = np.abs(scale) < np.float32(2.0**-14)
    step = np.where(lost, np.float32(0), scale)
    slack = np.where(lost, np.abs(scale) * 8 + np.float32(2.0**-22), _half_unit(scale) * 8)
    return _made(step, step * rule.least, rule, slack=slack, scale_error=slack)


def _tensor(raw: np.ndarray) -> _Grid:
    """apr_q8: one F32 scale for the whole tensor."""
    step = raw.reshape(-1)[:4].view("<f4").astype(np.float32).reshape(1, 1)
    nothing = np.zeros_like(step)
    return _made(step, step * -127, _RULES["apr_q8"], slack=nothing, scale_error=nothing)


def _q8_k(blocks: np.ndarray, rule: _Rule) -> _Grid:
    step = blocks[:, :4].view("<f4").astype(np.float32)
    return _made(step, step * rule.least, rule, slack=np.zeros_like(step), scale_error=np.zeros_like(step))


def _scales_and_minima(blocks: np.ndarray, rule: _Rule) -> _Grid:
    """Q4_K, Q5_K: 6-bit scales and minima over two F16 numbers. [n_blocks, 8] groups."""
    units = halves(blocks, 0, 2)  # [n_blocks, 2]
    packed = scales_and_minima(field(blocks, 4, 12))  # [n_blocks, 2, 8]
    return _of_units(units, packed[:, 0], packed[:, 1], rule)


def _nibble_scales(blocks: np.ndarray, rule: _Rule) -> _Grid:
    """Q2_K: 4-bit scales and minima over two F16 numbers. [n_blocks, 16] groups."""
    packed = field(blocks, 0, 16)
    return _of_units(halves(blocks, 80, 2), packed & 0x0F, packed >> 4, rule)


def _of_units(units: np.ndarray, scales: np.ndarray, minima: np.ndarray, rule: _Rule) -> _Grid:
    step, lo = units[:, :1] * scales, -(units[:, 1:] * minima)
    # half a unit of a scale moves the end of the range by that times the largest quant; half a unit of a minimum, both
    # ends; and the units are F16 themselves, which very small weights feel
    error = np.abs(units) * np.float32(rule.unit) + _half_unit(units) * 70  # of 63, and what the fit moves
    ends = error[:, :1] * rule.most + error[:, 1:]
    slack = np.zeros_like(step)  # quants are chosen again with the scales as they are stored
    return _made(step, lo, rule, slack=slack, scale_error=np.broadcast_to(ends, step.shape))


def _signed_scales(unit: np.ndarray, scales: np.ndarray, rule: _Rule) -> _Grid:
    step = unit * scales
    error = (np.abs(unit) * np.float32(rule.unit) + _half_unit(unit) * 140) * -rule.least
    return _made(
        step, step * rule.least, rule, slack=np.zeros_like(step), scale_error=np.broadcast_to(error, step.shape)
    )


def _q3_k(blocks: np.ndarray, rule: _Rule) -> _Grid:
    scales = wide_scales(field(blocks, 96, 12)).astype(np.float32) - 32
    return _signed_scales(halves(blocks, 108), scales, rule)


def _q6_k(blocks: np.ndarray, rule: _Rule) -> _Grid:
    return _signed_scales(halves(blocks, 208), field(blocks, 192, 16).view(np.int8).astype(np.float32), rule)


_RULES: dict[str, _Rule] = {
    "q4_0": _Rule(32, -8, 7, 0.25, 8.0, _centred),
    "q4_1": _Rule(32, 0, 15, 0.25, 8.0, _with_minimum),
    "q5_0": _Rule(32, -16, 15, 0.25, 8.0, _centred),
    "q5_1": _Rule(32, 0, 31, 0.25, 8.0, _with_minimum),
    "q8_0": _Rule(32, -127, 127, 0.0, 0.0, _centred),
    "q8_k": _Rule(256, -127, 127, 0.0, 0.0, _q8_k),
    "apr_q4": _Rule(32, -8, 7, 0.0, 0.0, _apr_q4),
    "apr_q8": _Rule(1, -127, 127, 0.0, 0.0, _centred),
    "q2_k": _Rule(16, 0, 3, 0.0, 8.0, _nibble_scales, unit=2.0),
    "q3_k": _Rule(16, -4, 3, 0.0, 8.0, _q3_k, unit=2.0),
    "q4_k": _Rule(32, 0, 15, 0.0, 8.0, _scales_and_minima),
    "q5_k": _Rule(32, 0, 31, 0.0, 8.0, _scales_and_minima),
    "q6_k": _Rule(16, -32, 31, 0.0, 8.0, _q6_k),
}
