"""Whether a tensor is another tensor of the reference: the same shape, another name.

A few rows of every tensor of that shape are compared first; what comes near is compared whole.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from apr.models._checkpoint import Checkpoint, Place, deinterleaved_rows
from apr.parity._weights_measures import Pool, judge_whole
from apr.parity._weights_rows import Tensor

_SAMPLED_ROWS = 16
# squared distance of samples over their size: unrelated matrices are near 2, a 2-bit copy is near 0.1
_ALIKE = 0.25
_MOST_TRIED = 3
_MOST_BEYOND = 1e-3


class Others:
    """The reference's tensors, as places that a candidate's tensor may have come from."""

    def __init__(self, reference: Checkpoint, candidate: Checkpoint, pool: Pool) -> None:
        self.reference = reference
        self.candidate = candidate
        self.pool = pool
        self._samples: dict[str, np.ndarray] = {}

    def search(self, name: str, place: Place) -> str | None:
        """The reference's other tensor whose values the candidate's `name` holds, within rounding; None if there is none.

        Names may have been mixed up before the file was written, its heads reordered by their wrong names, or after.
        """
        shape = place.info.shape
        ranked = []
        own = self.reference.tensors.get(name)
        own_distance = self._distance(name, name, place) if own is not None and own.info.shape == shape else np.inf
        for other, found in self.reference.tensors.items():
            if other != name and found.info.shape == shape:
                ranked += [
                    (self._distance(name, other, read), other, read)
                    for read in (place, as_if_named(self.candidate, place, other))
                ]
        for distance, other, read in sorted(ranked, key=lambda item: item[:2])[:_MOST_TRIED]:
            if distance < min(_ALIKE, own_distance / 4) and self._is(other, read):
                return other
        return None

    def _is(self, other: str, place: Place) -> bool:
        found = judge_whole(Tensor(self.reference.tensors[other]), Tensor(place), self.pool, slack=0.2)
        return found.n_nonfinite == 0 and found.n_beyond <= _MOST_BEYOND * found.n

    def _distance(self, name: str, other: str, place: Place) -> float:
        theirs = self._sample(f"reference {other}", self.reference.tensors[other])
        order = "as its heads lie" if place.row_order is not None else ""
        ours = self._sample(f"candidate {name} {order} {place.norm_offset}", place)
        with np.errstate(all="ignore"):
            distance = float(np.sum((ours - theirs) ** 2) / np.sum(theirs**2))
        return distance if np.isfinite(distance) else np.inf

    def _sample(self, key: str, place: Place) -> np.ndarray:
        if key not in self._samples:
            tensor = Tensor(place)
            rows = np.unique(np.linspace(0, tensor.shape[0] - 1, _SAMPLED_ROWS).astype(np.int64))
            self._samples[key] = tensor.values(rows).copy()
        return self._samples[key]


def as_if_named(checkpoint: Checkpoint, place: Place, name: str) -> Place:
    """A tensor of the file as it is read if its name were that of the canonical `name`: its heads, a norm's 1."""
    if place.file is not checkpoint.file:
        return place
    config, architecture, rows = (
        checkpoint.config,
        checkpoint.architecture,
        place.info.shape[0] if place.info.shape else 1,
    )
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
    permutes = checkpoint.convention == "gguf" and architecture.GGUF_PERMUTES_QK and heads and rows % (2 * heads) == 0
    order = deinterleaved_rows(rows, heads) if permutes and heads else None
    is_norm = checkpoint.convention == "hf" and name.endswith("norm.weight")
    return replace(place, row_order=order, norm_offset=architecture.HF_NORM_OFFSET if is_norm else 0.0)
