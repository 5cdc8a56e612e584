"""Names the first broken link between two subjects, and proves it.

The chain is walked in order, the links that need no arithmetic first. What differs is put right in the candidate (the
reference's output of that link in the place of its own), and the walk goes on: what still differs is a second cause,
and if nothing does, the first one is proved. Drift that rounding explains is no cause, and is not put right.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from apr.engines._base import Activations
from apr.engines._subject import Subject
from apr.errors import AprError
from apr.parity import chain
from apr.parity._link import LINKS, Finding, LinkResult, Verdict, timed
from apr.parity._pair import Pair
from apr.parity._prediction_gap import prediction_gap
from apr.parity._report import Proof, WhyReport
from apr.parity._whys import five_whys

_STATIC = ("file", "metadata", "tokenizer", "template", "tokens", "weights")


def why(
    reference: str | Subject,
    candidate: str | Subject,
    *,
    seed: int = 0,
    progress: chain.Progress | None = None,
    threads: int | None = None,
    activations: Activations = "float32",
) -> WhyReport:
    """The first broken link between a reference and a candidate (`chain.parity` has the arguments)."""
    started = time.perf_counter()
    options = {"threads": threads, "activations": activations}
    first, second = Subject.of(reference, **options), Subject.of(candidate, **options)
    pair = chain.pair_of(first, second, seed=seed, progress=progress)
    try:
        walk = _Walk(pair)
        for link in LINKS:
            if progress is not None:
                progress(link, 0.0)
            if not walk.step(link):
                break
        report = walk.report(time.perf_counter() - started)
        walk.pair.candidate.close()
        return report
    finally:
        pair.close()


@dataclass
class _Walk:
    """How far the chain has been walked.

    pair:     with everything put right that was found broken
    broken:   (link, finding) in the order of the chain, the cause first; drift apart
    gap_before: mean divergence in nats of the candidate's predictions before anything was put right
    """

    pair: Pair
    results: list[LinkResult] = field(default_factory=list)
    broken: list[tuple[str, Finding]] = field(default_factory=list)
    drift: list[tuple[str, Finding]] = field(default_factory=list)
    gap_before: float | None = None
    gap_after: float | None = None
    proved_alone: tuple[float, float] | None = None
    is_stuck: bool = False

    def step(self, link: str) -> bool:
        """Compare one link and put right what is broken; whether it is of use to go on."""
        result = self._compare(link)
        self.results.append(result)
        if result.verdict == "not_comparable":
            return False
        if result.verdict != "different":
            return True
        found = [(link, finding) for finding in result.findings]
        if result.is_benign:
            self.drift += found
            return True
        if (not self.broken and link in _STATIC) or result.findings[0].cause.startswith("stop."):
            self.gap_before = prediction_gap(self.pair)
        self.broken += [pair for pair in found if not pair[1].is_benign]
        self.drift += [pair for pair in found if pair[1].is_benign]
        return self._put_right(link, result)

    def report(self, seconds: float) -> WhyReport:
        """What came of it."""
        verdict, benign = chain.verdict_of(self.results)
        if self.broken:
            verdict, benign = "different", False
        named = self.broken[0] if self.broken else self._named(verdict)
        proof = self._proof() if self.broken else None
        link, finding = named if named is not None else (None, None)
        candidate = self.pair.candidate.name
        return WhyReport(
            reference=self.pair.reference.name,
            candidate=candidate,
            verdict=verdict,
            link=link,
            cause=finding.cause if finding else None,
            where=finding.where if finding else {},
            sentence=self._sentence(verdict, link, finding, proof),
            whys=five_whys(finding, link, proof, subject=candidate) if finding and link else (),
            proof=proof,
            also=tuple(f for _, f in self.broken[1:]),
            links=tuple(self.results),
            benign=benign,
            seconds=seconds,
            records=(),
            exit_code=chain.exit_code(verdict, benign=benign),
        )

    def _named(self, verdict: Verdict) -> tuple[str, Finding] | None:
        """Where nothing is broken: the drift, or what kept the two from being compared."""
        if verdict == "different":
            return self.drift[0] if self.drift else None
        refused = ((r.link, r.findings[0]) for r in self.results if r.verdict == "not_comparable" and r.findings)
        return next(refused, None) if verdict == "not_comparable" else None

    def _compare(self, link: str) -> LinkResult:
        if link == "generation" and not self.pair.candidate.is_endpoint and not self.pair.reference.is_endpoint:
            stops = chain.compare("stop", self.pair)
            if stops.verdict == "different":
                return replace(stops, link="generation")
        if link == "activations" and any(r.link == "weights" and r.verdict == "different" for r in self.results):
            alone = chain.with_weights_of(self.pair)
            try:
                return chain.compare(link, alone)
            finally:
                if alone is not self.pair:
                    alone.candidate.unload()
        return chain.compare(link, self.pair)

    def _put_right(self, link: str, result: LinkResult) -> bool:
        """Force the reference's output of a link into the candidate; whether the walk can go on."""
        cause = result.findings[0].cause
        if link == "activations":
            self.proved_alone = chain.module_of(link).prove(self.pair, _together(result.findings))
            self.is_stuck = True
            return False
        if cause.startswith("engine.") or link == "logits":
            self.is_stuck = True  # an engine cannot be given another engine's cache, clock or sampler
            return False
        module = chain.module_of("stop" if cause.startswith("stop.") else link)
        try:
            candidate = module.force(self.pair, result.findings)
        except AprError:
            self.is_stuck = True
            return False
        self.pair.candidate.unload()
        self.pair = self.pair.with_candidate(candidate)
        if link == "generation":  # the stop set: the rest of the link can be looked at now
            again = chain.compare("generation", self.pair)
            self.results[-1] = replace(result, measure=again.measure | result.measure)
            if again.verdict == "different":
                self.broken += [(link, f) for f in again.findings if not f.is_benign]
                self.drift += [(link, f) for f in again.findings if f.is_benign]
        return True

    def _proof(self) -> Proof:
        """The counterfactual of everything that was put right, judged by what was compared behind it."""
        link, finding = self.broken[0]
        if self.proved_alone is not None:
            before, after = self.proved_alone
            others = sum(f_link == link for f_link, _ in self.broken) - 1
            forced = f"the reference's {finding.where['slot']}" + (f" and {others} more ops" if others else "")
            return Proof(forced, "same" if after <= max(1e-6, before / 20) else "different", before, after)
        if self.is_stuck:
            return Proof("nothing: this cannot be forced from outside", "not run", self._kl("logits"), None)
        self.gap_after = prediction_gap(self.pair)
        behind = [r for r in self.results[self._index(link) + 1 :] if r.verdict != "skipped"]
        if any(f_link != link for f_link, _ in self.broken[1:]):
            downstream = "different"
        elif any(r.verdict == "different" for r in behind):
            downstream = "benign"
        else:
            downstream = "same" if behind else "not run"
        return Proof(_forced(finding), downstream, self.gap_before, self.gap_after)

    def _kl(self, link: str) -> float | None:
        found = next((r for r in self.results if r.link == link), None)
        regimes = found.measure.get("regimes", {}) if found else {}
        means = [r["kl_mean"] for r in regimes.values() if r.get("kl_mean") is not None]
        return sum(means) / len(means) if means else None

    def _index(self, link: str) -> int:
        return next(i for i, result in enumerate(self.results) if result.link == link)

    def _sentence(self, verdict: Verdict, link: str | None, finding: Finding | None, proof: Proof | None) -> str:
        candidate = self.pair.candidate.name
        if finding is None:
            undecided = next((r for r in self.results if r.verdict in ("not_comparable", "cannot_tell")), None)
            if verdict == "same":
                return f"{candidate} says the same: no link differs."
            return undecided.sentence if undecided else "nothing could be compared"
        if finding.is_benign:
            return f"{candidate} says the same but for rounding: {finding.sentence}"
        if verdict == "not_comparable":
            return f"The two were not asked the same: {finding.sentence}"
        tail = ""
        if proof is not None and proof.downstream in ("same", "benign"):
            tail = "; with that put right, nothing else differs"
            tail += " but for rounding" if proof.downstream == "benign" else ""
        elif len(self.broken) > 1 and self.broken[-1][0] != link:
            tail = f"; there is a second cause, in the {self.broken[-1][0]} link"
        return f"First broken link: {link}. {finding.sentence.rstrip('.')}{tail}."


def why_one(subject: str | Subject, *, progress: chain.Progress | None = None, threads: int | None = None) -> WhyReport:
    """What one file says against itself: its metadata, its family's configuration, its tokenizer, its weights."""
    started = time.perf_counter()
    one = Subject.of(subject, threads=threads)
    results: list[LinkResult] = []
    try:
        for link in (*_STATIC, "stop"):
            if progress is not None:
                progress(link, 0.0)
            results.append(_examined(link, one))
            if link == "file" and results[-1].verdict == "different":
                break
    finally:
        one.close()
    found = [(r.link, f) for r in results for f in r.findings if not f.is_benign]
    # the template's end of turn and the stop ids are two sides of one fault
    broken = [pair for i, pair in enumerate(found) if pair[1].cause not in {f.cause for _, f in found[:i]}]
    open_questions = [r for r in results if r.verdict == "cannot_tell"]
    verdict: Verdict = "different" if broken else "cannot_tell" if open_questions else "same"
    named = broken[0] if broken else None
    return WhyReport(
        reference=None,
        candidate=one.name,
        verdict=verdict,
        link=named[0] if named else None,
        cause=named[1].cause if named else None,
        where=named[1].where if named else {},
        sentence=_sentence_of_one(one.name, broken, open_questions),
        whys=five_whys(named[1], named[0], None, subject=one.name) if named else (),
        proof=None,
        also=tuple(f for _, f in broken[1:]),
        links=tuple(results),
        benign=not broken,
        seconds=time.perf_counter() - started,
        records=(),
        # what no file can say of itself is no finding: `cannot_tell` names it, and the exit status is that of a pass
        exit_code=1 if broken else 0,
    )


def _examined(link: str, subject: Subject) -> LinkResult:
    def examine(pair: Pair) -> LinkResult:
        result: LinkResult = chain.module_of(link).examine(pair.candidate)
        return result

    try:
        return timed(examine, Pair(subject, subject))
    except AprError as exc:
        return LinkResult(link, "cannot_tell", f"the {link} link could not be looked at: {exc}")


def _sentence_of_one(name: str, broken: Sequence[tuple[str, Finding]], open_questions: Sequence[LinkResult]) -> str:
    if broken:
        link, finding = broken[0]
        return f"First broken link: {link}. {finding.sentence.rstrip('.')}."
    unknown = "; ".join(result.sentence.rstrip(".") for result in open_questions)
    end = f" What it cannot say of itself: {unknown}." if unknown else ""
    return f"{name} does not contradict itself.{end} Give the original to know more: apr why ORIGINAL {name}"


def _together(findings: Sequence[Finding]) -> Finding:
    """One finding with the slots of all, to be put right at once."""
    slots = [slot for f in findings if not f.is_benign for slot in f.where.get("slots", [f.where["slot"]])]
    return replace(findings[0], where=findings[0].where | {"slots": slots})


def _forced(finding: Finding) -> str:
    """What was put into the candidate, in words."""
    where = finding.where
    if "key" in where:
        return f"{where['key']}={where.get('reference')}"
    names = {"tokenizer": "tokenizer", "template": "chat template", "stop": "stop ids", "weights": "tensors"}
    what = names.get(finding.cause.partition(".")[0], "output")
    return f"the reference's {where['tensor'] if 'tensor' in where and what == 'tensors' else what}"
