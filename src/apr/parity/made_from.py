"""Was this file made from that one? Lossless parts equal, rounded parts within their rounding, nothing else changed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from apr.convert import _items
from apr.engines._subject import Subject
from apr.kernels import quants
from apr.models._checkpoint import Checkpoint
from apr.parity import chain
from apr.parity._link import LinkResult
from apr.parity._pair import Pair
from apr.parity._weights_bytes import same_bytes
from apr.parity._weights_census import census

SCHEMA = "apr.made-from/1"
_LINKS = ("file", "metadata", "tokenizer", "template", "weights")
Answer = Literal["made", "not_made", "cannot_tell"]
EXIT_CODES: Mapping[Answer, int] = {"made": 0, "not_made": 1, "cannot_tell": 5}

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class MadeFrom:
    """Whether one file was made from another.

    original, copy: as they were named
    answer:       made, not_made, or cannot_tell where a part could not be compared
    sentence:     why, in one line
    n_tensors:    that both have
    n_same:       of them, those with the same bytes, or the same values in a plain type
    n_reproduced: others that our quantisers make of the original bit for bit
    n_rounded:    others that differ by no more than their type rounds
    links:        of the chain, what was compared
    seconds:      of wall time
    exit_code:    0 made, 1 not made, 5 cannot tell
    """

    original: str
    copy: str
    answer: Answer
    sentence: str
    n_tensors: int
    n_same: int
    n_reproduced: int
    n_rounded: int
    links: tuple[LinkResult, ...]
    seconds: float
    exit_code: int
    schema: str = SCHEMA


def verify(
    original: str | Path,
    copy: str | Path,
    *,
    importance: Mapping[str, np.ndarray] | None = None,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress | None = None,
) -> MadeFrom:
    """Compare a copy with what it is said to be made from; no engine runs.

    importance:  float32 [columns] by GGUF name, of the importance matrix that it was quantised with
    Raises       AprError for a file that cannot be read.
    """
    started = time.perf_counter()
    first, second = Subject.of(str(original), threads=threads), Subject.of(str(copy), threads=threads)
    pair = chain.pair_of(first, second, seed=seed, progress=progress)
    try:
        links = tuple(chain.compare(link, pair) for link in _LINKS)
        kinds = _kinds(pair, importance or {}, links, progress)
    finally:
        pair.close()
    broken = [
        link for link in links if link.verdict == "different" and not link.is_benign and not _is_shown(link, kinds)
    ]
    open_ = [link for link in links if link.verdict in ("cannot_tell", "not_comparable")]
    counts = Counter(kinds.values())
    answer: Answer = "not_made" if broken else "cannot_tell" if open_ else "made"
    return MadeFrom(
        original=str(original),
        copy=str(copy),
        answer=answer,
        sentence=_sentence(counts, (broken or open_)),
        n_tensors=len(kinds),
        n_same=counts["same"],
        n_reproduced=counts["reproduced"],
        n_rounded=counts["rounded"],
        links=links,
        seconds=time.perf_counter() - started,
        exit_code=EXIT_CODES[answer],
    )


def _kinds(
    pair: Pair, importance: Mapping[str, np.ndarray], links: tuple[LinkResult, ...], progress: Progress | None
) -> dict[str, str]:
    """What each tensor that both have is to the original."""
    weights = next(link for link in links if link.link == "weights")
    verdicts = {row["tensor"]: row["verdict"] for row in weights.measure.get("tensors", [])}
    if "n_tensors" not in weights.measure:
        return {}
    matches = census(pair).matches
    found = {}
    for done, match in enumerate(matches):
        if progress is not None:
            progress("quantising again", done / len(matches))
        if verdicts.get(match.name, "exact") == "exact" or same_bytes(match.reference, match.candidate):
            found[match.name] = "same"
        elif _is_reproduced(pair.reference.checkpoint, pair.candidate.checkpoint, match.name, importance):
            found[match.name] = "reproduced"
        else:
            found[match.name] = verdicts[match.name]
        for place in (match.reference, match.candidate):
            place.release()
    return found


def _is_shown(link: LinkResult, kinds: Mapping[str, str]) -> bool:
    """Whether every tensor that rounding does not explain is bit for bit what quantising with this importance gives."""
    rows = link.measure.get("tensors", []) if link.link == "weights" else []
    return bool(rows) and all(
        row["verdict"] in ("exact", "rounded") or kinds.get(row["tensor"]) == "reproduced" for row in rows
    )


def _is_reproduced(original: Checkpoint, copy: Checkpoint, name: str, importance: Mapping[str, np.ndarray]) -> bool:
    info = copy.tensors[name].info if name in copy.tensors else None
    if info is None or name not in original.tensors or not quants.codec(info.codec).has_encoder:
        return False
    values = original.array(name)
    if values.shape != info.shape:
        return False
    try:
        made = quants.codec(info.codec).encode(values, importance.get(_items.gguf_name(copy, name)))
    except ValueError:
        return False
    return bool(np.array_equal(made, copy.raw(name)))


def _sentence(counts: Counter[str], deciding: list[LinkResult]) -> str:
    if deciding:
        return f"{deciding[0].link}: {deciding[0].sentence}"
    counted = ((counts["same"], "hold the same values"), (counts["reproduced"], "are bit for bit what quantising the original gives"),
               (counts["rounded"], "differ by no more than their type rounds"))  # fmt: skip
    said = ", ".join(f"{n} {what}" for n, what in counted if n)
    return f"of {counts.total()} tensors {said}; tokenizer, template and configuration are the original's"
