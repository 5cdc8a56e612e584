"""What a failed op did instead: the candidate's slot as a simple transform of what it should have been.

Each hypothesis is computed from the reference's values and laid beside the candidate's. One that leaves under a
twentieth of the difference explains it; the simplest that does is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from apr.kernels._set import NUMPY
from apr.kernels.attention import attention
from apr.kernels.gelu import gelu_tanh
from apr.kernels.rope import rope, rope_table
from apr.kernels.silu import silu
from apr.models._checkpoint import Checkpoint
from apr.models._config import ModelConfig
from apr.models._rope import inverse_frequencies
from apr.parity._causes import Cause

_EXPLAINED = 0.05
SHIFTS = tuple(sorted(range(-8, 9), key=lambda s: (abs(s), s)))
_HEADED = frozenset({"q", "q_norm", "q_rope", "attn", "k", "k_norm", "k_rope", "v"})
# octaves up and down in which a wrong attention scale is looked for
_SCALE_OCTAVES = 6.0


@dataclass(frozen=True, slots=True)
class Explanation:
    """What happened at a slot.

    sentence:  in words, without the slot's name
    where:     what belongs to it: position, head, shift …
    """

    cause: Cause
    sentence: str
    where: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scene:
    """One failed slot: its name without the layer, the layer's reference slots, and both values, float32 [n_tokens, size].

    is_bad:   bool [n_tokens], positions over the threshold
    first:    number of the first row's position
    past:     the layer's slots from position 0 on, where the rows were computed one at a time
    """

    layer: int | None
    name: str
    inputs: Mapping[str, np.ndarray]
    reference: np.ndarray
    candidate: np.ndarray
    is_bad: np.ndarray
    checkpoint: Checkpoint
    first: int = 0
    past: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def config(self) -> ModelConfig:
        """Of the weights that were computed with."""
        return self.checkpoint.config

    @property
    def position(self) -> int:
        """The first bad position."""
        return self.first + int(np.flatnonzero(self.is_bad)[0])


def explain(scene: Scene) -> Explanation:
    """The simplest transform that makes the candidate's value of the reference's; engine.op without one."""
    if not np.isfinite(scene.candidate).all():
        bad = ~np.isfinite(scene.candidate).all(axis=1)
        position = scene.first + int(np.flatnonzero(bad)[0])
        kind = "nan" if np.isnan(scene.candidate).any() else "inf"
        return Explanation("engine.op", f"gives {kind} from finite inputs", {"position": position})
    where: dict[str, Any] = {"position": scene.position}
    if scene.name in ("q_rope", "k_rope") and scene.layer is not None:
        found = _rotation(scene)
        if found is not None:
            return found
    heads = _bad_heads(scene)
    if heads is not None:
        where |= {"head": heads[0]} | ({"heads": heads} if len(heads) > 1 else {})
    said = next((s for s, made in _hypotheses(scene) if _explains(scene, made)), None)
    if said is None:
        said = "is wrong"
        if heads is not None:
            said = f"is wrong in head{'s' if len(heads) > 1 else ''} {_listed(heads)} only"
    if scene.name in ("q_rope", "k_rope") and scene.position > 1:
        return Explanation("engine.position", f"{said}, from position {scene.position} on", where)
    return Explanation("engine.op", said, where)


def _explains(scene: Scene, made: np.ndarray | None) -> bool:
    """Whether a hypothesis leaves little of the difference."""
    if made is None or made.shape != scene.reference.shape:
        return False
    c = scene.candidate.astype(np.float64)
    left, whole = _norm(c - made), _norm(c - scene.reference)
    return left <= _EXPLAINED * whole


def _hypotheses(scene: Scene) -> Iterator[tuple[str, np.ndarray | None]]:
    r, c = scene.reference.astype(np.float64), scene.candidate.astype(np.float64)
    yield "is zero", np.zeros_like(r)
    yield from _of_heads(scene, r, c)
    scale = float((c * r).sum() / max(float((r * r).sum()), 1e-300))
    yield f"is {scale:.4g} times what it should be", scale * r
    offset = (c - r).mean(axis=0)
    yield "is off by the same vector at every position, as a bias would be", r + offset
    by_row = (c * r).sum(axis=1) / np.maximum((r * r).sum(axis=1), 1e-300)
    yield (
        f"is scaled by a factor of its own at each position, {by_row.min():.5g} to {by_row.max():.5g}, as a wrong epsilon does",
        by_row[:, None] * r,
    )
    by_column = (c * r).sum(axis=0) / np.maximum((r * r).sum(axis=0), 1e-300)
    if len(r) > 2:
        yield "is scaled by a factor of its own in each feature, as a wrong norm weight does", by_column * r
    yield from _of_inputs(scene)
    if scene.name == "attn":
        yield from _of_attention(scene)
        yield from _of_cache(scene)


def _of_heads(scene: Scene, r: np.ndarray, c: np.ndarray) -> Iterator[tuple[str, np.ndarray | None]]:
    if scene.name not in _HEADED or r.shape[1] % scene.config.head_dim:
        return
    size = scene.config.head_dim
    n_heads = r.shape[1] // size
    given, wanted = c.reshape(len(c), n_heads, size), r.reshape(len(r), n_heads, size)
    bad = _bad_heads(scene) or list(range(n_heads))
    zeroed, swapped = wanted.copy(), wanted.copy()
    for head in bad:
        zeroed[:, head] = 0.0
        distance = np.linalg.norm(wanted - given[:, head][:, None], axis=(0, 2))
        swapped[:, head] = wanted[:, int(distance.argmin())]
    listed = f"head{'s' if len(bad) > 1 else ''} {_listed(bad)}"
    yield f"has zeros in {listed}", zeroed.reshape(r.shape)
    if n_heads > 1:
        yield f"has the heads in another order ({listed})", swapped.reshape(r.shape)
    yield "has heads and features transposed", wanted.swapaxes(1, 2).reshape(r.shape)
    interleaved = wanted.reshape(len(r), n_heads, 2, -1).swapaxes(2, 3).reshape(r.shape)
    yield "has the halves of each head interleaved", interleaved
    yield "has interleaved halves taken apart", wanted.reshape(len(r), n_heads, -1, 2).swapaxes(2, 3).reshape(r.shape)


def _of_inputs(scene: Scene) -> Iterator[tuple[str, np.ndarray | None]]:
    """Hypotheses that need the slot's inputs."""
    inputs = scene.inputs
    parts = {
        "attn_residual": ("attn_post_norm" if "attn_post_norm" in inputs else "attn_out", "x"),
        "out": ("ffn_post_norm" if "ffn_post_norm" in inputs else "ffn_down", "attn_residual"),
    }.get(scene.name)
    if parts is not None and all(part in inputs for part in parts):
        branch, stream = (inputs[part] for part in parts)
        yield "leaves the residual stream out", branch
        yield "leaves the layer's own branch out", stream
    if scene.name == "ffn_act" and "ffn_gate" in inputs:
        gate = inputs["ffn_gate"]
        yield "is the SiLU of the gate", silu(gate)
        yield "is the GELU of the gate", gelu_tanh(gate)
        yield "is the ReLU of the gate", np.maximum(gate, 0)
    if scene.name == "ffn_swiglu" and {"ffn_act", "ffn_up"} <= inputs.keys():
        yield "leaves the gate out", inputs["ffn_up"]
        yield "leaves the upward projection out", inputs["ffn_act"]
    if scene.name == "embed":
        yield "is not scaled", scene.reference / np.float32(scene.config.hidden_size**0.5)


def _of_attention(scene: Scene) -> Iterator[tuple[str, np.ndarray | None]]:
    compute = _attention(scene)
    if compute is None:
        return
    config = scene.config
    right = (config.query_pre_attn_scalar or config.head_dim) ** -0.5
    assert scene.layer is not None
    window = config.window(scene.layer)
    if window is not None:
        yield "looks beyond its sliding window", compute(right, None, "grouped")
    elif config.sliding_window:
        yield (
            f"looks at a sliding window of {config.sliding_window} only",
            compute(right, config.sliding_window, "grouped"),
        )
    if config.num_attention_heads != config.num_key_value_heads:
        yield "gives the query heads the wrong key-value heads", compute(right, window, "tiled")
    factor = _best_factor(lambda f: _norm(scene.candidate - compute(right * f, window, "grouped")))
    yield f"has its scores scaled by {factor:.4g} times what they should be", compute(right * factor, window, "grouped")


def _of_cache(scene: Scene) -> Iterator[tuple[str, np.ndarray | None]]:
    """Attention, one position at a time, over a cache that has lost one."""
    if not {"k_rope", "v"} <= scene.past.keys() or "q_rope" not in scene.inputs:
        return
    lost: dict[str, Callable[[int], Any]] = {
        "does not see the oldest position": lambda p: slice(1, p + 1),
        "does not see its own position": lambda p: slice(0, p),
        "does not see the position before": lambda p: [*range(p - 1), p],
    }
    for said, kept in lost.items():
        yield (
            said,
            np.concatenate([_attend(scene, row, kept(scene.first + row)) for row in range(len(scene.reference))]),
        )


def _attend(scene: Scene, row: int, kept: Any) -> np.ndarray:
    """float32 [1, size]: the attention of one row over some of the positions."""
    c = scene.config
    assert scene.layer is not None
    q = scene.inputs["q_rope"][row].reshape(1, c.num_attention_heads, c.head_dim)
    k, v = (scene.past[name][kept].reshape(-1, c.num_key_value_heads, c.head_dim) for name in ("k_rope", "v"))
    window = c.window(scene.layer)
    if window is not None:
        k, v = k[-window:], v[-window:]
    scale = (c.query_pre_attn_scalar or c.head_dim) ** -0.5
    return attention(q, k, v, scale=scale, softcap=c.attn_logit_softcapping)


def _attention(scene: Scene) -> Callable[[float, int | None, str], np.ndarray] | None:
    """The layer's attention on the reference's queries, keys and values, for (scale, window, how heads are shared)."""
    c = scene.config
    if not {"q_rope", "k_rope", "v"} <= scene.inputs.keys() or scene.first:
        return None
    q = scene.inputs["q_rope"].reshape(-1, c.num_attention_heads, c.head_dim)
    k = scene.inputs["k_rope"].reshape(-1, c.num_key_value_heads, c.head_dim)
    v = scene.inputs["v"].reshape(-1, c.num_key_value_heads, c.head_dim)
    group = c.num_attention_heads // c.num_key_value_heads

    def compute(scale: float, window: int | None, heads: str) -> np.ndarray:
        keys, values = (np.tile(x, (1, group, 1)) for x in (k, v)) if heads == "tiled" else (k, v)
        return attention(q, keys, values, scale=scale, window=window, softcap=c.attn_logit_softcapping)

    return compute


def _best_factor(distance: Callable[[float], float]) -> float:
    """The factor, within some octaves of 1, of the least distance: a grid, made finer around its best point."""
    best, width = 0.0, _SCALE_OCTAVES
    for _ in range(5):
        grid = best + np.linspace(-width, width, 13)
        best = float(min(grid, key=lambda octave: distance(2.0 ** float(octave))))
        width /= 6.0
    return float(2.0**best)


def _rotation(scene: Scene) -> Explanation | None:
    """A rotation by other positions or of other pairs, if that is what it is."""
    assert scene.layer is not None
    source = scene.inputs.get(f"{scene.name[0]}_norm", scene.inputs.get(scene.name[0]))
    if source is None:
        return None
    x = source.reshape(len(source), -1, scene.config.head_dim)
    positions = scene.first + np.arange(len(x))
    bad = scene.is_bad
    where = {"position": scene.position}
    rotated = _rotator(scene.checkpoint, scene.layer, n_positions=int(positions[-1]) + 1)

    def fits(made: np.ndarray) -> bool:
        flat = made.reshape(len(x), -1)
        left = _norm(scene.candidate[bad] - flat[bad])
        return left <= _EXPLAINED * _norm(scene.candidate[bad] - scene.reference[bad])

    for shift in SHIFTS:
        if shift and fits(rotated(x, positions + shift)):
            since = "" if scene.position <= scene.first + 1 else f" from position {scene.position} on"
            return Explanation(
                "engine.position", f"is rotated as if its position were {shift:+d}{since}", where | {"shift": shift}
            )
    if fits(rotated(x, -positions)):
        return Explanation("engine.op", "is rotated the wrong way round", where)
    if fits(x):
        return Explanation("engine.op", "is not rotated", where)
    if fits(_apart(rotated(_together(x), positions))):
        return Explanation("engine.op", "is rotated in interleaved pairs, not in halves", where)
    return None


def _rotator(checkpoint: Checkpoint, layer: int, *, n_positions: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    model = checkpoint.architecture(checkpoint.config, {}, NUMPY)
    frequencies, factor = inverse_frequencies(checkpoint.config, n_positions=n_positions, theta=model.rope_base(layer))

    def rotated(x: np.ndarray, positions: np.ndarray) -> np.ndarray:
        return rope(x, rope_table(positions, frequencies, factor=factor))

    return rotated


def _together(x: np.ndarray) -> np.ndarray:
    """Neighbours to halves: feature 2i to i, feature 2i + 1 to i + head_dim / 2."""
    return np.concatenate([x[..., 0::2], x[..., 1::2]], axis=-1)


def _apart(x: np.ndarray) -> np.ndarray:
    """The inverse of `_together`."""
    half = x.shape[-1] // 2
    return np.stack([x[..., :half], x[..., half:]], axis=-1).reshape(x.shape)


def _bad_heads(scene: Scene) -> list[int] | None:
    """The heads that hold the difference, if they are some and not all."""
    size, r = scene.config.head_dim, scene.reference
    if scene.name not in _HEADED or r.shape[1] % size or r.shape[1] == size:
        return None
    error = (scene.candidate.astype(np.float64) - r).reshape(len(r), -1, size)
    by_head = np.linalg.norm(error, axis=(0, 2))
    bad = np.flatnonzero(by_head > _EXPLAINED * by_head.max()).tolist()
    return [int(head) for head in bad] if len(bad) < len(by_head) else None


def _norm(x: np.ndarray) -> float:
    return float(np.sqrt((x.astype(np.float64) ** 2).sum()))


def _listed(numbers: list[int]) -> str:
    shown = ", ".join(str(n) for n in numbers[:6])
    return f"{shown} …" if len(numbers) > 6 else shown
