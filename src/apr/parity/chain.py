"""Every link of the chain between two subjects, in order; each is a claim of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from types import ModuleType

from apr.engines._base import Activations
from apr.engines._subject import OWN_ENGINE, Subject
from apr.errors import AprError, UsageError
from apr.parity._link import LINKS, LinkResult, Verdict, timed, undecided
from apr.parity._pair import Pair
from apr.parity._probes import PROBES, REGIMES, Probe, Regime, of_texts
from apr.parity._report import ParityReport

Progress = Callable[[str, float], None]

_NEEDS_FILES = frozenset({"file", "metadata", "tokenizer", "weights"})
# of a chain whose later links were looked at: what a person would call the answer
_ANSWERS = ("generation", "logits")
# regimes whose prompts no template touches
_WITHOUT_TEMPLATE = frozenset({"raw", "long"})


def parity(
    reference: str | Subject,
    candidate: str | Subject,
    *,
    only: Sequence[str] = (),
    regimes: Sequence[str] = (),
    prompts: Sequence[str] = (),
    seed: int = 0,
    progress: Progress | None = None,
    threads: int | None = None,
    activations: Activations = "float32",
) -> ParityReport:
    """Compare two subjects link by link.

    reference, candidate:  `PATH[@ENGINE]`, an alias, a URL, or a Subject; the reference is right by definition
    only:         names of links; all by default
    regimes:      under which both are asked; all by default. If all of them are raw or long, the template link is left out
    prompts:      texts to ask in the place of our own, under the one regime, raw or chat
    seed:         of everything drawn at random
    progress:     called with the link under test and the share of it that is done
    activations:  of our own engine: "float32" compares the models, "int8" what `apr run` computes with
    Raises        UsageError for a link or regime that does not exist; HubError for a model that is not there.
    """
    started = time.perf_counter()
    probes = _probes(regimes, prompts)
    chosen = _chosen(only, probes)
    options = {"threads": threads, "activations": activations}
    pair = pair_of(Subject.of(reference, **options), Subject.of(candidate, **options), seed=seed, progress=progress)
    pair = replace(pair, probes=probes)
    try:
        results: list[LinkResult] = []
        for link in chosen:
            if progress is not None:
                progress(link, 0.0)
            results.append(compare(link, _isolated(link, pair, results)))
    finally:
        pair.close()
    verdict, benign = verdict_of(results)
    return ParityReport(
        reference=pair.reference.name,
        candidate=pair.candidate.name,
        verdict=verdict,
        benign=benign,
        links=tuple(results),
        seconds=time.perf_counter() - started,
        exit_code=exit_code(verdict, benign=benign),
        regimes=tuple(dict.fromkeys(probe.regime for probe in probes)),
    )


def pair_of(reference: Subject, candidate: Subject, *, seed: int, progress: Progress | None) -> Pair:
    """Two subjects, as the links take them."""
    return Pair(reference, candidate, seed) if progress is None else Pair(reference, candidate, seed, progress)


def module_of(link: str) -> ModuleType:
    """The file of a link."""
    return import_module(f"apr.parity.{link}")


def compare(link: str, pair: Pair) -> LinkResult:
    """One link, timed. An engine that fails while it is asked leaves the link without a verdict, and says why."""
    if link in _NEEDS_FILES and (pair.reference.is_endpoint or pair.candidate.is_endpoint):
        far = pair.reference if pair.reference.is_endpoint else pair.candidate
        return undecided(link, "skipped", f"{far.name} is behind a network, and its files cannot be looked at")
    try:
        return timed(module_of(link).compare, pair)
    except AprError as exc:
        return undecided(link, "cannot_tell", f"the {link} link could not be tested: {exc}")


def is_own(subject: Subject) -> bool:
    """Whether a subject runs on an engine of ours, where the reference's weights can be put into its place."""
    return subject.engine in (OWN_ENGINE, "numpy")


def with_weights_of(pair: Pair) -> Pair:
    """The candidate's engine over the reference's configuration and weights: what then differs is the engine's."""
    if not is_own(pair.candidate) or pair.reference.is_endpoint:
        return pair
    places = {name: pair.reference.checkpoint.tensors[name] for name in pair.reference.checkpoint.expected}
    candidate = pair.candidate.with_config(pair.reference.config).with_tensors(places)
    return pair.with_candidate(candidate)


def verdict_of(results: Sequence[LinkResult]) -> tuple[Verdict, bool]:
    """The verdict of all links together, and whether nothing found is a defect."""
    found = [result for result in results if result.verdict == "different"]
    if any(not result.is_benign for result in found):
        return "different", False
    for verdict in ("not_comparable", "cannot_tell"):
        # what a rounding did is settled by the weights: too few flips to judge them by is no open question then
        if any(r.verdict == verdict and not (found and r.link in _ANSWERS) for r in results):
            return verdict, False
    if found:
        return "different", True
    answers = [r for r in results if r.verdict == "same" and (r.link in _ANSWERS or len(results) < len(LINKS))]
    return ("same", True) if answers else ("cannot_tell", False)


def exit_code(verdict: Verdict, *, benign: bool) -> int:
    """The exit status of a verdict: 0 the same or benign, 1 different, 5 nothing was decided."""
    return 0 if benign else 1 if verdict == "different" else 5


def _probes(regimes: Sequence[str], prompts: Sequence[str]) -> tuple[Probe, ...]:
    unknown = [regime for regime in regimes if regime not in REGIMES]
    if unknown:
        raise UsageError(f"no regime is called {unknown[0]!r}; the regimes are {', '.join(REGIMES)}")
    if not prompts:
        return tuple(probe for probe in PROBES if not regimes or probe.regime in regimes)
    if len(regimes) != 1:
        raise UsageError("prompts of your own are asked under one regime; name it: raw or chat")
    regime: Regime = next(known for known in REGIMES if known == regimes[0])
    return of_texts(prompts, regime)


def _chosen(only: Sequence[str], probes: Sequence[Probe]) -> tuple[str, ...]:
    unknown = [link for link in only if link not in LINKS]
    if unknown:
        raise UsageError(f"no link is called {unknown[0]!r}; the links are {', '.join(LINKS)}")
    if only:
        return tuple(link for link in LINKS if link in only)
    is_templated = not {probe.regime for probe in probes} <= _WITHOUT_TEMPLATE
    return LINKS if is_templated else tuple(link for link in LINKS if link != "template")


def _isolated(link: str, pair: Pair, results: Sequence[LinkResult]) -> Pair:
    """For the activations, the engine alone: over the same weights, where what came before differs."""
    differs = any(r.link in ("metadata", "weights") and r.verdict == "different" for r in results)
    return with_weights_of(pair) if link == "activations" and differs else pair
