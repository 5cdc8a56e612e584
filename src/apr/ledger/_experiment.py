"""A prediction put to the test: refused where nothing would follow, else both runs, what was expected, and what it means.

The file's SHA-256 is fixed, and written to the result, before anything runs; a file that was changed by the end decides nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal

import apr
from apr.engines._record import RunRecord
from apr.errors import AprError, UsageError
from apr.ledger import _conditions, _differences, _runs, _separation
from apr.ledger._differences import Difference, Differences
from apr.ledger._separation import Separation
from apr.ledger.prediction import RUNS, Hypothesis, Prediction, PredictionFile, Result, RunName, sha256_of
from apr.parity.records import RecordComparison

logger = logging.getLogger(__name__)

Verdict = Literal["pass", "fail", "undecided", "not_comparable", "error", "comparable", "not_run"]
Tell = Callable[[str, float], None]
# what the whole file comes to: the first that any prediction came to
_EXITS: tuple[tuple[Verdict, int], ...] = (
    ("fail", 1),
    ("error", 4),
    ("not_comparable", 5),
    ("undecided", 5),
    ("not_run", 5),
)

_CHANGED = "the file was changed while it was run: what was predicted is not what stands there"


@dataclass(frozen=True, slots=True)
class RunResult:
    """One run.

    name:        control or experiment
    result:      pass if all conditions hold, else fail
    conditions:  each that was asked of it
    record:      its run record
    """

    name: RunName
    result: Result
    conditions: tuple[_conditions.Judged, ...]
    record: RunRecord


@dataclass(frozen=True, slots=True)
class HypothesisResult:
    """What the runs say of a hypothesis.

    says:      it in words
    blames:    the field that it blames; null if it says itself what it predicts
    predicts:  pass or fail by run; a run that it says nothing of is not there
    status:    refuted: a run came out otherwise; consistent: none did; open: nothing was run, or it says nothing of it
    """

    id: str
    says: str
    blames: str | None
    predicts: dict[str, Result]
    status: Literal["refuted", "consistent", "open"]


@dataclass(frozen=True, slots=True)
class PredictionResult:
    """One prediction and what came of it.

    verdict:      pass: the experiment is what was expected; fail: it is not; undecided: no row of `outcomes` says what that
                  means, or a run was interrupted; not_comparable: nothing follows; error: a run failed; not_run: not yet;
                  comparable: `check` found nothing against running it
    sentence:     the verdict in words
    varies:       the declared field
    differences:  between the two runs: declared, consequence or confound
    unforeseen:   why nothing but the file's own words could be compared before the runs; null if the models were looked at
    uncovered:    pairs of results that no row of `outcomes` has a meaning for
    runs:         empty where nothing was run
    comparison:   of the two records, as `apr parity` makes it; null where nothing was run
    meaning:      what the file says of the outcome
    separation:   which hypotheses the two runs can tell apart
    """

    id: str
    question: str
    verdict: Verdict
    sentence: str
    varies: str
    differences: tuple[Difference, ...]
    unforeseen: str | None
    uncovered: tuple[dict[str, Result], ...]
    runs: tuple[RunResult, ...]
    comparison: RecordComparison | None
    meaning: str | None
    hypotheses: tuple[HypothesisResult, ...]
    separation: Separation


@dataclass(frozen=True, slots=True)
class PredictReport:
    """All predictions of a file.

    file:         as it was named
    file_sha256:  of its bytes, fixed before anything ran
    fixed_at:     when that was, UTC
    is_unchanged: whether the file still had these bytes at the end
    apr_version:  of this program
    predictions:  in the order of the file
    """

    file: str
    file_sha256: str
    fixed_at: str
    apr_version: str
    predictions: tuple[PredictionResult, ...]
    is_unchanged: bool
    exit_code: int
    seconds: float
    schema: str = field(default="apr.predict/1")


def check(file: PredictionFile) -> PredictReport:
    """What would differ, and what could be separated, before anything is run."""
    return _report(file, [_foreseen(file, prediction) for prediction in file.predictions], time.perf_counter())


def run(
    file: PredictionFile,
    *,
    save: Callable[[PredictReport], None] = lambda report: None,
    tell: Tell = lambda what, share: None,
    load: _runs.Load = _runs.load,
) -> PredictReport:
    """Put every prediction to the test.

    save:  called before the first run, and after each prediction: what was found is kept whatever happens next
    tell:  called with the run that begins and the share that is done
    load:  takes the place of the engine's own loading
    """
    started, fixed_at = time.perf_counter(), _now()
    results = [_waiting(prediction) for prediction in file.predictions]

    def report() -> PredictReport:
        return _report(file, results, started, fixed_at=fixed_at)

    save(report())
    with _runs.Runner(file.path.parent, load=load) as runner:
        for i, prediction in enumerate(file.predictions):
            before = _foreseen(file, prediction)
            if before.verdict == "not_comparable":
                results[i] = before
            else:
                results[i] = _tried(prediction, runner, before, partial(_say, tell, i / len(results)))
            if not _is_unchanged(file.path, file.sha256):
                results[i] = replace(results[i], verdict="error", sentence=_CHANGED)
            save(report())
    return report()


def _say(tell: Tell, share: float, what: str) -> None:
    tell(what, share)


def _tried(
    prediction: Prediction, runner: _runs.Runner, before: PredictionResult, tell: Callable[[str], None]
) -> PredictionResult:
    """Both runs, compared first and judged only then."""
    records: dict[RunName, RunRecord] = {}
    try:
        for name in RUNS:
            tell(f"{prediction.id}: {name}")
            records[name] = runner.run(prediction.settings(name), prompt_id=f"{prediction.id}/{name}")
    except AprError as exc:
        which = "control" if "control" not in records else "experiment"
        return replace(before, verdict="error", sentence=f"the {which} run failed: {exc}")
    found, compared = _differences.between_records(prediction, records["control"], records["experiment"])
    try:
        runs = tuple(_judged(prediction, name, records) for name in RUNS)
    except UsageError as exc:
        return replace(before, verdict="error", sentence=str(exc))
    made = replace(before, differences=found.all, unforeseen=None, runs=runs, comparison=compared)
    if found.refusal is not None:
        return replace(made, verdict="not_comparable", sentence=_refused(found))
    if any(record.finish_reason == "interrupted" for record in records.values()):
        return replace(made, verdict="undecided", sentence="a run was interrupted")
    return _concluded(prediction, made)


def _judged(prediction: Prediction, name: RunName, records: dict[RunName, RunRecord]) -> RunResult:
    conditions = _conditions.judge(prediction, name, records[name], records["control"])
    result: Result = "pass" if all(condition.status == "pass" for condition in conditions) else "fail"
    return RunResult(name, result, conditions, records[name])


def _concluded(prediction: Prediction, made: PredictionResult) -> PredictionResult:
    """The verdict of two comparable runs, what it means, and which hypotheses are left."""
    observed: dict[str, Result] = {run.name: run.result for run in made.runs}
    meaning = prediction.meaning(observed)
    hypotheses = tuple(_hypothesis(prediction, one, observed) for one in prediction.hypotheses)
    refuted = {one.id for one in hypotheses if one.status == "refuted"}
    told = f"control {observed['control']}, experiment {observed['experiment']}"
    verdict: Verdict = observed["experiment"] if meaning is not None else "undecided"
    return replace(
        made,
        verdict=verdict,
        sentence=told if meaning is not None else f"{told}: no row of outcomes says what that means",
        meaning=meaning,
        hypotheses=hypotheses,
        separation=_separation.separate(prediction, refuted=refuted),
    )


def _hypothesis(prediction: Prediction, hypothesis: Hypothesis, observed: dict[str, Result]) -> HypothesisResult:
    predicts: dict[str, Result] = {}
    for name in RUNS:
        said = _separation.predicted(prediction, hypothesis, name, prediction.settings(name))
        if said is not None:
            predicts[name] = said
    both = [name for name in predicts if name in observed]
    is_refuted = any(predicts[name] != observed[name] for name in both)
    status: Literal["refuted", "consistent", "open"] = "refuted" if is_refuted else "consistent" if both else "open"
    return HypothesisResult(hypothesis.id, hypothesis.says, hypothesis.blames, predicts, status)


def _foreseen(file: PredictionFile, prediction: Prediction) -> PredictionResult:
    """The differences that can be told before the runs; a model that is not here leaves what the file itself says."""
    made = _waiting(prediction)
    found, unforeseen = _differences.between_settings(prediction), None
    try:
        records = [_runs.foreseen(prediction.settings(name), file.path.parent) for name in RUNS]
        found = _looked_at(prediction, records[0], records[1])
    except AprError as exc:
        logger.debug("%s: not foreseen", prediction.id, exc_info=True)
        unforeseen = str(exc)
    made = replace(made, differences=found.all, unforeseen=unforeseen)
    if found.refusal is not None:
        return replace(made, verdict="not_comparable", sentence=f"{_refused(found)}; nothing was run")
    return replace(made, verdict="comparable", sentence=f"the runs differ in {prediction.varies} alone")


def _looked_at(prediction: Prediction, control: RunRecord, experiment: RunRecord) -> Differences:
    """Whether the declared field shows is for the engine to say, where it is one that only the engine knows."""
    found, _ = _differences.between_records(prediction, control, experiment)
    is_declared = any(d.kind == "declared" for d in found.all)
    return replace(found, is_varied=is_declared) if prediction.varies in ("engine", "activations") else found


def _waiting(prediction: Prediction) -> PredictionResult:
    return PredictionResult(
        id=prediction.id,
        question=prediction.question,
        verdict="not_run",
        sentence="not run yet",
        varies=prediction.varies,
        differences=(),
        unforeseen=None,
        uncovered=prediction.uncovered,
        runs=(),
        comparison=None,
        meaning=None,
        hypotheses=tuple(_hypothesis(prediction, one, {}) for one in prediction.hypotheses),
        separation=_separation.separate(prediction),
    )


def _refused(found: Differences) -> str:
    return f"not comparable: {found.refusal}"


def _report(
    file: PredictionFile, results: list[PredictionResult], started: float, *, fixed_at: str | None = None
) -> PredictReport:
    return PredictReport(
        file=str(file.path),
        file_sha256=file.sha256,
        fixed_at=fixed_at or _now(),
        apr_version=apr.__version__,
        predictions=tuple(results),
        is_unchanged=_is_unchanged(file.path, file.sha256),
        exit_code=_exit_code(results),
        seconds=time.perf_counter() - started,
    )


def _exit_code(results: list[PredictionResult]) -> int:
    """1 if one fails, else 4 for an error, else 5 if one decides nothing."""
    found = {result.verdict for result in results}
    return next((code for verdict, code in _EXITS if verdict in found), 0)


def _is_unchanged(path: Path, sha256: str) -> bool:
    try:
        return sha256_of(path) == sha256
    except OSError:
        return False


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
