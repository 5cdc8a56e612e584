"""What was found of single tensors, as the findings of the link: one defect, one finding, however many layers it has."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from apr.parity._causes import Cause
from apr.parity._link import Finding
from apr.parity._permutations import ranges

_LAYER = re.compile(r"^model\.layers\.(\d+)\.(.*)$")
# what explains others before what is explained by others
_RANK: tuple[Cause, ...] = (
    "file.unreadable",
    "weights.missing",
    "weights.bias_missing",
    "weights.nonfinite",
    "weights.transposed",
    "weights.swapped",
    "weights.permuted",
    "weights.zeroed",
    "weights.tied",
    "weights.offset",
    "weights.scaled",
    "weights.quantization",
    "weights.unexplained",
    "weights.extra",
    "drift.quantization",
    "drift.precision",
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One tensor compared.

    kind:    tensors of one cause and kind have one defect
    phrase:  what follows the tensor's name: "is scaled by 2"
    """

    tensor: str
    verdict: Literal["exact", "rounded", "different", "unknown"]
    cause: Cause | None = None
    kind: str = ""
    phrase: str = ""
    where: dict[str, Any] = field(default_factory=dict)
    codec_reference: str | None = None
    codec_candidate: str | None = None
    rel_l2: float | None = None
    max_abs: float | None = None
    bound: float | None = None


def row(outcome: Outcome) -> dict[str, Any]:
    """A tensor that differs, as the link's `measure` shows it."""
    names = ("tensor", "verdict", "cause", "codec_reference", "codec_candidate", "rel_l2", "max_abs", "bound")
    return {name: getattr(outcome, name) for name in names}


def layer_of(tensor: str) -> int | None:
    """The layer of a canonical name."""
    found = _LAYER.match(tensor)
    return int(found[1]) if found else None


def findings(outcomes: Iterable[Outcome]) -> list[Finding]:
    """One finding for each defect, the most telling first."""
    groups: dict[tuple[Cause, str], list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.cause is not None:
            groups.setdefault((outcome.cause, _kind(outcome)), []).append(outcome)
    made = [(cause, _finding(cause, group)) for (cause, _), group in groups.items()]
    return [finding for _, finding in sorted(made, key=lambda item: (_RANK.index(item[0]), _first_layer(item[1])))]


def _kind(outcome: Outcome) -> str:
    if outcome.cause in ("drift.quantization", "drift.precision"):
        return f"{outcome.codec_reference} {outcome.codec_candidate}"
    if outcome.cause == "weights.swapped":
        return relation(outcome.tensor, outcome.where["other"])
    return outcome.kind


def relation(tensor: str, other: str) -> str:
    """What two exchanged tensors have in common with other pairs: the same two layers, or the same two modules."""
    ours, theirs = _LAYER.match(tensor), _LAYER.match(other)
    if ours and theirs and ours[2] == theirs[2]:
        return f"layers {sorted((int(ours[1]), int(theirs[1])))}"
    if ours and theirs and ours[1] == theirs[1]:
        return f"modules {sorted((ours[2].rpartition('.')[0], theirs[2].rpartition('.')[0]))}"
    return f"tensors {sorted((tensor, other))}"


def _first_layer(finding: Finding) -> int:
    layer = finding.where.get("layer")
    return -1 if layer is None else int(layer)


def _finding(cause: Cause, group: Sequence[Outcome]) -> Finding:
    first = group[0]
    where: dict[str, Any] = {"tensor": first.tensor}
    if (layer := layer_of(first.tensor)) is not None:
        where["layer"] = layer
    where |= {name: value for name, value in first.where.items() if name != "in_words"}
    if first.codec_candidate is not None:
        where |= {"codec_reference": first.codec_reference, "codec_candidate": first.codec_candidate}
    if first.rel_l2 is not None:
        where["rel_l2"] = max(outcome.rel_l2 or 0.0 for outcome in group)
    if len(group) > 1:
        where["tensors"] = [outcome.tensor for outcome in group]
    return Finding(cause, _sentence(cause, group), where)


def _sentence(cause: Cause, group: Sequence[Outcome]) -> str:
    first = group[0]
    names = [outcome.tensor for outcome in group]
    if cause in ("drift.quantization", "drift.precision"):
        worst = max(outcome.rel_l2 or 0.0 for outcome in group)
        types = f"{first.codec_candidate} where the reference has {first.codec_reference}"
        if first.codec_candidate == first.codec_reference:
            types = f"{first.codec_candidate} in both, rounded otherwise"
        copies = sorted({outcome.where["copy"] for outcome in group if "copy" in outcome.where})
        way = f", by way of a copy in {' or '.join(copies)}" if copies else ""
        said = f"{_subject(names)} {_are(names)} {types}{way}"
        return f"{said}: within what rounding explains, relative L2 up to {worst:.2g}"
    if cause == "weights.swapped":
        return _swapped(group)
    if len(group) == 1:
        return f"{first.tensor} {first.phrase}"
    return f"{_subject(names)}: each {first.phrase}"


def _swapped(group: Sequence[Outcome]) -> str:
    first, other = group[0], str(group[0].where["other"])
    pairs = {(outcome.tensor, outcome.where["other"]) for outcome in group}
    is_mutual = (other, first.tensor) in pairs
    kind = relation(first.tensor, other)
    if kind.startswith("layers ") and len(group) > 2:
        a, b = layer_of(first.tensor), layer_of(other)
        verb = (
            "have changed places" if is_mutual else f"are the same: layer {a} holds what the reference has in layer {b}"
        )
        return f"layers {a} and {b} {verb} ({len(group)} tensors, {first.tensor} the first)"
    if is_mutual:
        more = f", and so in {len(group) // 2 - 1} more layers" if len(group) > 3 else ""
        return f"{first.tensor} and {other} have changed places{more}"
    more = f", and {len(group) - 1} more like it" if len(group) > 1 else ""
    return f"{first.tensor} holds what the reference has in {other}{more}"


def _subject(names: Sequence[str]) -> str:
    """A list of tensors in words: the first, and what the others are."""
    if len(names) == 1:
        return names[0]
    layers = sorted({layer for name in names if (layer := layer_of(name)) is not None})
    modules = sorted({_module(name) for name in names})
    shown = ", ".join(modules[:4]) + (f" and {len(modules) - 4} more kinds" if len(modules) > 4 else "")
    where = f" in layer{'s' if len(layers) > 1 else ''} {ranges_of(layers)}" if layers else ""
    return f"{names[0]} and {len(names) - 1} more ({shown}{where})"


def _module(name: str) -> str:
    parts = name.split(".")
    kind = parts[-2] if len(parts) > 1 else name
    return f"{kind} bias" if parts[-1] == "bias" else kind


def _are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def ranges_of(numbers: Sequence[int]) -> str:
    """Sorted whole numbers in words: "0-3, 7"."""
    import numpy as np

    return ranges(np.asarray(numbers))
