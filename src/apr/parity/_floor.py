"""How much rounding alone moves a slot or a logit, measured on the model at hand. No threshold here is a constant.

Our own engine gives the same bits for any number of threads and sequences, so the reference against itself shows
nothing; its rounding is drawn anew instead. A coarser arithmetic (8-bit activations, half-precision caches) is put into
our own exact engine, slot by slot, and what that does is the ladder that an engine of such arithmetic is held to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from apr.engines._base import Session
from apr.engines._subject import OWN_ENGINE, Subject
from apr.models._decoder import Span
from apr.parity._captures import Capture, Change, force, layer_and_name, row_error
from apr.parity._divergence import Divergence, diverge

# half a unit in the last place of float32
_ROUNDING = 2.0**-24
# products are summed in another order by every engine; a sum of n products ends up about this many roundings away
ROUNDINGS = 8
DRAWS = 2
# what is measured on one draw of rounding varies by about this factor on another
SPREAD = 4.0
OWN_ENGINES = frozenset({OWN_ENGINE, "numpy"})
# what linear layers take in
_PRODUCT_INPUTS = frozenset({"attn_norm", "attn", "ffn_norm", "ffn_swiglu", "final_norm"})
_CACHED = frozenset({"k_rope", "v"})
_SCORED = _CACHED | {"q_rope"}
# Q8_0 and Q8_K of llama.cpp, ggml-cpu.c `vec_dot_type`: the second, which K-quants meet, holds one scale for 256 values
_BLOCK, _K_BLOCK = 32, 256

Rounding = Callable[[str, np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class Precision:
    """The arithmetic of a session, as far as it is coarser than float32.

    activations:  "float32", "float16", "bfloat16", "int8"
    kv_cache:     "float32", "float16", "bfloat16", or a codec of 8 bits or less
    is_own:       our engine, whose other values are all float32; another's may be halves anywhere (lookup tables, scores)
    block:        values under one scale, of 8-bit activations: 32, or 256 where llama.cpp meets weights in blocks of 256
    """

    activations: str
    kv_cache: str
    is_own: bool
    block: int = _BLOCK

    @property
    def is_exact(self) -> bool:
        """Whether nothing is coarser than float32."""
        return self.activations == "float32" and self.kv_cache == "float32"

    def __str__(self) -> str:
        return f"{self.activations} activations, {self.kv_cache} key-value cache"


def precision_of(subject: Subject) -> Precision:
    """What a subject's session says of itself. An engine that says nothing that we know counts as one of 8 bits."""
    session = subject.session
    known = {"float32", "float16", "bfloat16"}
    activations = session.activations if session.activations in known else "int8"
    is_own = subject.engine in OWN_ENGINES
    return Precision(activations, session.kv_cache_dtype, is_own, _BLOCK if is_own else _block(subject))


def rounding(seed: int) -> Change:
    """A tap that rounds every value another way: times 1 + u · k · 2^-24, u uniform in [-1, 1]."""
    random = np.random.default_rng(seed)

    def change(name: str, value: np.ndarray) -> np.ndarray:
        del name
        u = random.random(value.shape, dtype=np.float32) * np.float32(2.0) - np.float32(1.0)
        moved: np.ndarray = value + value * (u * np.float32(ROUNDINGS * _ROUNDING))
        return moved

    return change


def coarsened(precision: Precision) -> Change:
    """A tap that rounds as an engine of this precision does."""

    def change(name: str, value: np.ndarray) -> np.ndarray:
        slot = layer_and_name(name)[1]
        if slot == "logits":
            return value
        if precision.activations in ("float16", "bfloat16"):
            return _HALVES[precision.activations](value)
        if precision.activations == "int8" and slot in _PRODUCT_INPUTS:
            return to_int8(value, precision.block)
        if slot in _CACHED and precision.kv_cache not in ("float32", "float16"):
            return _HALVES.get(precision.kv_cache, _to_q8_0)(value)
        if slot in (_CACHED if precision.is_own else _SCORED) and precision.kv_cache == "float16":
            return to_float16(value)
        # what else another engine keeps in halves: ggml's table of the GELU, scores of flash attention
        return value if precision.is_own or precision.is_exact else to_float16(value)

    return change


def shown(precision: Precision) -> Change:
    """How an engine of this precision shows its slots: ours rounds to 8 bits inside its products only."""
    if precision.is_own and precision.activations not in _HALVES:
        return lambda name, value: value
    return coarsened(precision)


def slot_floor(session: Session, values: Capture, *, seed: int) -> dict[str, float]:
    """The local error of every slot under rounding drawn anew: relative L2 of the worst position of the worst draw."""
    found: dict[str, float] = {}
    for draw in range(DRAWS):
        change = rounding(seed + draw)
        for name, error in slot_ladder(session, values, change, shown=change).items():
            found[name] = max(error, found.get(name, 0.0))
    return found


def slot_ladder(session: Session, values: Capture, change: Change, *, shown: Change) -> dict[str, float]:
    """The local error of every slot whose inputs are changed so: relative L2 of the worst position.

    shown:  how the slot's own value is shown: an engine that keeps it coarsely shows it so
    """
    found: dict[str, float] = {}

    def look(name: str, value: np.ndarray, given: np.ndarray) -> None:
        moved = row_error(value, given)
        own = row_error(shown(name, given), given)
        found[name] = max(moved, own)

    force(session, values, look, change=change)
    return found


def inherited_ladder(session: Session, values: Capture, change: Change) -> dict[str, float]:
    """What a change at every slot makes of the slots behind it, errors adding up: relative L2 of the worst position."""
    found: dict[str, float] = {}

    def put(name: str, value: np.ndarray) -> np.ndarray:
        rows = value.reshape(value.shape[0], -1)
        found[name] = row_error(rows, values.slots[name]) if name in values.slots else 0.0
        return change(name, value)

    session.forward([_span(session, values.token_ids)], tap=put, rows="all")
    return found


def thresholds(floor: dict[str, float], *ladders: dict[str, float]) -> dict[str, float]:
    """What a slot's local error may be: the floor or the coarsest ladder, with room for another draw."""
    return {
        name: SPREAD * max([error, *(ladder.get(name, 0.0) for ladder in ladders)]) for name, error in floor.items()
    }


def logit_floor(session: Session, texts: Sequence[Sequence[int]], *, seed: int) -> list[Divergence]:
    """What rounding drawn anew does to the logits of some texts, all positions of each."""
    return logit_ladder(session, texts, rounding(seed))


def logit_ladder(session: Session, texts: Sequence[Sequence[int]], change: Change) -> list[Divergence]:
    """What a change at every slot does to the logits of some texts, all positions of each, errors adding up."""
    found = []
    for ids in texts:
        plain = session.forward([_span(session, ids)], rows="all")
        changed = session.forward([_span(session, ids)], tap=change, rows="all")
        found.append(diverge(plain, changed, list(ids[1:])))
    return found


def to_float16(value: np.ndarray) -> np.ndarray:
    """Round to half precision; what is too large for it becomes the largest half."""
    limit = float(np.finfo(np.float16).max)
    rounded: np.ndarray = np.clip(value, -limit, limit).astype(np.float16).astype(np.float32)
    return rounded


def to_bfloat16(value: np.ndarray) -> np.ndarray:
    """Round to bfloat16, to nearest."""
    bits = np.ascontiguousarray(value, dtype=np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return rounded.astype(np.uint32).view(np.float32)


def to_int8(value: np.ndarray, block: int) -> np.ndarray:
    """Round to 8 bits with one scale for each block along the last axis."""
    rows = value.reshape(value.shape[0], -1)
    size = rows.shape[1]
    padded = np.zeros((len(rows), -(-size // block) * block), dtype=np.float32)
    padded[:, :size] = rows
    blocks = padded.reshape(len(rows), -1, block)
    scale = np.abs(blocks).max(axis=2, keepdims=True) / 127.0
    steps = np.rint(blocks / np.where(scale > 0, scale, 1.0)) * scale
    rounded: np.ndarray = steps.reshape(len(rows), -1)[:, :size].reshape(value.shape).astype(np.float32)
    return rounded


def _block(subject: Subject) -> int:
    codecs = {place.info.codec for place in subject.checkpoint.tensors.values()}
    return _K_BLOCK if any(codec.endswith("_k") for codec in codecs) else _BLOCK


def _to_q8_0(value: np.ndarray) -> np.ndarray:
    return to_int8(value, _BLOCK)


_HALVES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"float16": to_float16, "bfloat16": to_bfloat16}


def _span(session: Session, ids: Sequence[int]) -> Span:
    return Span(np.asarray(ids, dtype=np.int64), session.new_cache())
