"""What a link of the chain says: one verdict, the differences that carry it, and how each is undone.

A link's file has `compare(pair) -> LinkResult` and `force(pair, findings) -> Subject`: the candidate with the reference's
output of that link in the place of its own, which is how a finding is proved. Nothing here prints.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from apr.parity._causes import BENIGN, Cause

if TYPE_CHECKING:
    from apr.engines._subject import Subject
    from apr.parity._pair import Pair

Verdict = Literal["same", "different", "not_comparable", "cannot_tell", "skipped"]
LINKS = ("file", "metadata", "tokenizer", "template", "tokens", "weights", "activations", "logits", "generation")


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference.

    sentence:  what differs, with both values, for a person
    where:     tensor, layer, slot, key, position, token_id, text_offset, reference, candidate …, as far as known
    """

    cause: Cause
    sentence: str
    where: dict[str, Any] = field(default_factory=dict)

    @property
    def is_benign(self) -> bool:
        """Whether it is drift that rounding explains, and no defect."""
        return self.cause in BENIGN


@dataclass(frozen=True, slots=True)
class LinkResult:
    """One link compared.

    sentence:  the verdict in words; for skipped, cannot_tell and not_comparable the reason, and what would decide
    measure:   figures by name, thresholds and the floor that they came from among them
    findings:  the differences, the one that most likely explains the others first; of `not_comparable`, in what the two
               runs were not asked the same (cause harness); else empty
    """

    link: str
    verdict: Verdict
    sentence: str
    measure: dict[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    seconds: float = 0.0

    @property
    def is_benign(self) -> bool:
        """Whether nothing here is a defect: the same, or drift only."""
        return self.verdict == "same" or (self.verdict == "different" and all(f.is_benign for f in self.findings))


Compare = Callable[["Pair"], LinkResult]
Force = Callable[["Pair", Sequence[Finding]], "Subject"]


def same(link: str, sentence: str, measure: Mapping[str, Any] | None = None) -> LinkResult:
    """Nothing differs."""
    return LinkResult(link, "same", sentence, dict(measure or {}))


def different(link: str, findings: Sequence[Finding], measure: Mapping[str, Any] | None = None) -> LinkResult:
    """Something differs; the first finding's sentence is the link's."""
    assert findings, "a difference without a finding cannot be explained"
    return LinkResult(link, "different", findings[0].sentence, dict(measure or {}), tuple(findings))


def undecided(
    link: str,
    verdict: Literal["not_comparable", "cannot_tell", "skipped"],
    reason: str,
    measure: Mapping[str, Any] | None = None,
) -> LinkResult:
    """No verdict, and why."""
    return LinkResult(link, verdict, reason, dict(measure or {}))


def timed(compare: Compare, pair: Pair) -> LinkResult:
    """A comparison, with the seconds that it took."""
    started = time.perf_counter()
    result = compare(pair)
    return replace(result, seconds=time.perf_counter() - started)
