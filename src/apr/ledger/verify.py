"""Runs every falsification test of some contracts on a model, and keeps what came of it as evidence.

What is promised is fixed before anything runs: the contracts' bytes, the model's, the commands, the machine. What
came of each test is then judged by the contract's own expectation, and written down whatever it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from apr.errors import UsageError
from apr.ledger import _lint, _running, evidence
from apr.ledger.contract import Contract, Falsification, judge

SCHEMA = "apr.contract-verify/1"
Status = Literal["pass", "fail", "undecided", "error", "not_runnable"]
Verdict = Literal["kept", "broken", "open", "error"]
_STATUSES: tuple[Status, ...] = ("pass", "fail", "undecided", "error", "not_runnable")
EXIT_CODES: Mapping[Verdict, int] = {"kept": 0, "broken": 1, "error": 4, "open": 5}
TIMEOUT_S = 3600.0
Tell = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Row:
    """One falsification test, and what came of it.

    contract, id, prediction: of the test
    blocking:  whether the promise is broken with it
    status:    pass, fail, undecided, error or not_runnable
    sentence:  what was found
    observed:  what the expectation looked at
    interval:  of the figure that decided, 95 %
    command:   that was run; empty for one that cannot be run here
    seconds:   of wall time
    """

    contract: str
    id: str
    prediction: str
    blocking: bool
    status: Status
    sentence: str
    command: tuple[str, ...] = ()
    observed: Mapping[str, Any] = field(default_factory=dict)
    interval: tuple[float, float] | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What came of some contracts on one model.

    model, reference: as they were named
    contracts: ids
    rows:      in the order of the contracts
    counts:    rows by status
    verdict:   broken if a blocking test failed, error if one could not be judged, open if one is undecided or cannot be run here
    evidence:  the statement that was written
    seconds:   of wall time
    exit_code: 0 kept, 1 broken, 4 error, 5 open
    """

    model: str
    reference: str | None
    contracts: tuple[str, ...]
    rows: tuple[Row, ...]
    counts: Mapping[Status, int]
    verdict: Verdict
    evidence: Path
    seconds: float
    exit_code: int
    schema: str = SCHEMA


class Verification:
    """A run that has begun: what it is about is fixed. Its tests run one at a time, and it ends finished or abandoned.

    contracts:  all that tests will be taken from; every other argument is as in `verify`
    Raises      what evidence.begin raises.
    """

    def __init__(
        self,
        model: str,
        path: Path,
        contracts: Sequence[Contract],
        *,
        reference: str | None = None,
        reference_path: Path | None = None,
        folder: Path,
        timeout_s: float = TIMEOUT_S,
        argv: Sequence[str] = (),
        resolve: _lint.Resolve,
    ) -> None:
        self._started = time.perf_counter()
        self._model, self._reference = model, reference
        self._contracts = tuple(contracts)
        self._timeout_s, self._resolve = timeout_s, resolve
        self._rows: list[Row] = []
        self._kept: list[evidence.Tested] = []
        self._pending = evidence.begin(folder, model=path, contracts=contracts, command=argv, reference=reference_path)

    def run(self, contract: Contract, test: Falsification) -> Row:
        """Run one test; what came of it is on the disk when this returns."""
        row, ran = _run(
            contract,
            test,
            model=self._model,
            reference=self._reference,
            timeout_s=self._timeout_s,
            resolve=self._resolve,
        )
        self._rows.append(row)
        self._kept.append(_tested(contract, row, ran))
        evidence.note(self._pending, self._kept[-1])
        return row

    def finish(self) -> VerifyReport:
        """Write what came of the tests that ran. Raises what evidence.finish raises; the run can be abandoned then."""
        written = evidence.finish(self._pending, self._kept)
        verdict = _verdict(self._rows)
        return VerifyReport(
            model=self._model,
            reference=self._reference,
            contracts=tuple(contract.id for contract in self._contracts),
            rows=tuple(self._rows),
            counts={status: sum(row.status == status for row in self._rows) for status in _STATUSES},
            verdict=verdict,
            evidence=written,
            seconds=time.perf_counter() - self._started,
            exit_code=EXIT_CODES[verdict],
        )

    def abandon(self) -> Path:
        """End a run before its end: it stays in the evidence as abandoned, with the tests that ran."""
        return evidence.abandon(self._pending)


def verify(
    model: str,
    path: Path,
    contracts: Sequence[Contract],
    *,
    reference: str | None = None,
    reference_path: Path | None = None,
    folder: Path,
    only: Sequence[str] = (),
    timeout_s: float = TIMEOUT_S,
    argv: Sequence[str] = (),
    resolve: _lint.Resolve,
    tell: Tell,
) -> VerifyReport:
    """Run the contracts' tests on a model.

    model:      as it was named; path: where it lies. The same of the reference
    folder:     of the evidence
    only:       ids of tests; the others are not run, and not in the evidence
    argv:       the command line that asks, for the evidence
    resolve:    why a check's command line may not be run, None if it may: a contract may come from anywhere
    Raises      UsageError if there is no test; what evidence raises when it cannot be written.
    """
    tests = [
        (contract, test) for contract in contracts for test in contract.falsifications if not only or test.id in only
    ]
    known = {test.id for _, test in tests}
    for wanted in only:
        if wanted not in known:
            raise UsageError(f"no test {wanted} in {', '.join(contract.id for contract in contracts)}")
    if not tests:
        raise UsageError("the contracts have no falsification test: nothing can be verified")
    verification = Verification(
        model,
        path,
        contracts,
        reference=reference,
        reference_path=reference_path,
        folder=folder,
        timeout_s=timeout_s,
        argv=argv,
        resolve=resolve,
    )
    try:
        for done, (contract, test) in enumerate(tests):
            tell(test.id, done / len(tests))
            verification.run(contract, test)
    except BaseException:
        verification.abandon()
        raise
    return verification.finish()


def _run(
    contract: Contract,
    test: Falsification,
    *,
    model: str,
    reference: str | None,
    timeout_s: float,
    resolve: _lint.Resolve,
) -> tuple[Row, _running.Ran | None]:
    def row(status: Status, sentence: str, **more: Any) -> Row:
        return Row(contract.id, test.id, test.prediction, test.is_blocking, status, sentence, **more)

    reason = _running.why_not(test.check, reference=reference)
    if reason is not None or test.check is None:
        return row("not_runnable", reason or ""), None
    if (problem := _lint.problem_of(test.check, resolve)) is not None:
        return row("error", f"the check may not be run: {problem[1]}"), None
    with _running.filled(test.check, model=model, reference=reference) as command:
        ran = _running.run(command, timeout_s=timeout_s)
    if ran.document is None:
        last = ran.said.splitlines()[-1] if ran.said else "no word on stderr"
        sentence = f"{' '.join(command)} ended with status {ran.exit_code} and no JSON: {last}"
        return row("error", sentence, command=command, seconds=ran.seconds), ran
    outcome = judge(test.check.expect, ran.document)
    found = {"observed": outcome.observed, "interval": outcome.interval, "seconds": ran.seconds}
    return row(outcome.status, outcome.sentence, command=command, **found), ran


def _tested(contract: Contract, row: Row, ran: _running.Ran | None) -> evidence.Tested:
    return evidence.Tested(
        id=row.id,
        contract_id=contract.id,
        contract_sha256=contract.sha256,
        status=row.status,
        sentence=row.sentence,
        command=row.command,
        observed=row.observed,
        interval=row.interval,
        document=(ran.document or {"stderr": ran.said, "exit_code": ran.exit_code}) if ran is not None else {},
        seconds=row.seconds,
    )


def _verdict(rows: Sequence[Row]) -> Verdict:
    blocking = {row.status for row in rows if row.blocking}
    if "fail" in blocking:
        return "broken"
    if "error" in blocking:
        return "error"
    return "open" if blocking & {"undecided", "not_runnable"} or not blocking else "kept"
