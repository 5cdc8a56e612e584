"""The logits link: divergence at every position of every probe, teacher-forced, each prompt regime a claim of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from apr.errors import EngineError
from apr.parity import margin
from apr.parity._divergence import joined, rms_delta_p, summary
from apr.parity._drift import Drift, drift, positions_of
from apr.parity._endpoint_logprobs import compare_endpoint
from apr.parity._expectation import failed, loaded, missing_capability, plain
from apr.parity._link import LinkResult, different, same, undecided
from apr.parity._pair import Pair
from apr.parity._teacher_forced import Forced, ReferenceFailed, VocabularyMismatch, left_out, observe

LINK = "logits"


def compare(pair: Pair) -> LinkResult:
    """Compare the logits of both, on the reference's ids and its own continuation of them."""
    if pair.reference.is_endpoint:
        return undecided(LINK, "not_comparable", "the reference is an endpoint, and gives no logits")
    if pair.candidate.is_endpoint:
        return compare_endpoint(pair)
    lacking = missing_capability(pair, "logits")
    if lacking is not None:
        return undecided(LINK, "skipped", lacking)
    failure = loaded(LINK, pair)
    if failure is not None:
        return failure
    try:
        runs = observe(pair)
    except (VocabularyMismatch, ReferenceFailed) as exc:
        return undecided(LINK, "not_comparable", str(exc))
    except EngineError as exc:
        return failed(LINK, exc)
    judged = drift(pair, runs)
    figures = measure(pair, runs, judged) | {"strips": strips(pair, runs)}
    if judged.is_open:
        return undecided(LINK, "cannot_tell", judged.flips.sentence, figures)
    if judged.findings:
        return different(LINK, judged.findings, figures)
    kl = joined([run.divergence for run in runs]).kl
    sentence = f"{len(kl)} positions agree to rounding: mean divergence {kl.mean():.2g} nats, worst {kl.max():.2g}"
    return same(LINK, sentence, figures)


def measure(pair: Pair, runs: Sequence[Forced], judged: Drift) -> dict[str, Any]:
    """The figures of the report: by regime, by margin band, and the three curves."""
    limits = judged.limits
    positions = positions_of(runs)
    whole = joined([run.divergence for run in runs])
    steps = np.concatenate([np.arange(len(run.divergence.kl)) for run in runs])
    return {
        "left_out": left_out(pair),
        "floor": limits.floor_mean,
        "floor_worst": limits.floor_worst,
        "threshold_mean": limits.mean,
        "threshold_worst": limits.worst,
        "regimes": {
            regime: _of_regime(regime, runs, judged, pair.seed)
            for regime in dict.fromkeys(r.probe.regime for r in runs)
        },
        "bands": judged.flips.bands(),
        "flips": {"verdict": judged.flips.verdict, "sentence": judged.flips.sentence},
        "step_by_step_kl_max": plain(max(float(run.steps.kl.max()) for run in runs)),
        "curves": margin.curves(positions, whole.error, steps),
    }


def strips(pair: Pair, runs: Sequence[Forced]) -> list[dict[str, Any]]:
    """Each probe token by token, as the report draws it: the token that stands there, and what was known before it."""
    found = []
    for run in runs:
        d, ids = run.divergence, (*run.prompt_ids, *run.output_ids)[1:]
        found.append(
            {
                "probe": run.probe.id,
                "regime": run.probe.regime,
                "n_prompt": len(run.prompt_ids),
                "tokens": [pair.reference.tokenizer.decode([token_id]) for token_id in ids],
                "margin": [plain(x) for x in d.margin],
                "error": [plain(x) for x in d.drift],
                "kl": [plain(x) for x in d.kl],
                "flip": d.is_flip.tolist(),
            }
        )
    return found


def _of_regime(regime: str, runs: Sequence[Forced], judged: Drift, seed: int) -> dict[str, Any]:
    chosen = [run for run in runs if run.probe.regime == regime]
    d = joined([run.divergence for run in chosen])
    prompts = np.repeat(np.arange(len(chosen)), [len(run.divergence.kl) for run in chosen])
    predicted = judged.flips.of_regime(regime)
    return summary(d.kl, prompts, seed=seed) | {
        "top1_agreement": float(1.0 - d.is_flip.mean()),
        "rms_dp": rms_delta_p(d.delta_p),
        "n_flips": int(d.is_flip.sum()),
        "flips_predicted": list(predicted.interval) if predicted is not None else None,
    }
