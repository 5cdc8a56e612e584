"""What `apr parity` and `apr why` say, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from apr.parity._causes import Cause
from apr.parity._link import Finding, LinkResult, Verdict
from apr.parity._probes import Regime


@dataclass(frozen=True, slots=True)
class ParityReport:
    """Every link compared, each with its own verdict.

    verdict:  of all: `different` before `not_comparable` before `cannot_tell`; `same` only if nothing was left undecided
    benign:   nothing found is a defect: the same, or drift that rounding explains
    regimes:  of the prompts that both were asked; empty where kept runs or saved predictions are compared
    """

    reference: str
    candidate: str
    verdict: Verdict
    benign: bool
    links: tuple[LinkResult, ...]
    seconds: float
    exit_code: int
    regimes: tuple[Regime, ...] = ()
    schema: str = field(default="apr.parity/1")


@dataclass(frozen=True, slots=True)
class Proof:
    """What happened when the reference's output of the broken link was put into the candidate.

    forced:      what was put in, in words
    downstream:  of everything behind it: "same", "benign", "different" (there is a second cause), or "not run" and why
    logit_kl_before, logit_kl_after: mean divergence of the candidate from the reference, nats; None where nothing ran
    """

    forced: str
    downstream: str
    logit_kl_before: float | None
    logit_kl_after: float | None


@dataclass(frozen=True, slots=True)
class WhyReport:
    """The first broken link, named and proved.

    link, cause:  None if nothing differs
    where:        tensor, layer, slot, key, position, token_id, text_offset …, as far as known
    sentence:     the answer, for a person
    whys:         five, each the reason of the one before
    also:         further causes, found after the first was put right, and other findings of the same link
    records:      files that hold the runs, where they were kept
    """

    reference: str | None
    candidate: str
    verdict: Verdict
    link: str | None
    cause: Cause | None
    where: dict[str, Any]
    sentence: str
    whys: tuple[str, ...]
    proof: Proof | None
    also: tuple[Finding, ...]
    links: tuple[LinkResult, ...]
    benign: bool
    seconds: float
    records: tuple[str, ...]
    exit_code: int
    schema: str = field(default="apr.why/1")
