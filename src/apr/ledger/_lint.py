"""Contracts held to the rules of `_rules`, one by one and all together; nothing is run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apr.qa.gates
from apr import _folder
from apr.errors import ContractError
from apr.ledger import _binding, _changelog, _status
from apr.ledger._rules import EXEMPT_KINDS, RULES, Severity
from apr.ledger.contract import SUFFIXES, Check, Falsification, Reading, files_of, read_with_problems
from apr.parity._link import LINKS
from apr.qa.gate import PROFILES

# the door that knows the commands gives it: why a check's command line is not one that may be run; None if it is
Resolve = Callable[[Check], str | None]

_CHECK_PROBLEM, _ARGUMENT_PROBLEM = "APR-CON-007", "APR-CON-008"
_PROFILE = re.compile(r"--profile(?:=(\S+))?")
_REFERENCES = ("falsified_by", "falsifier", "falsifiers", "falsification_test", "falsification_tests")
# of a check: what it looks at is the model, or was made of it


@dataclass(frozen=True, slots=True)
class LintFinding:
    """One place where a rule is broken.

    path, line:  the file, and the line counted from 1
    rule:        id of the rule
    severity:    error or warning
    message:     what was found, what was expected
    """

    path: str
    line: int
    rule: str
    severity: Severity
    message: str


@dataclass(frozen=True, slots=True)
class LintedContract:
    """A contract that could be read.

    path:         of its file
    id, version, status: as the file has them
    sha256:       of the file's bytes
    n_checks:     falsification tests that run here
    n_elsewhere:  that run elsewhere (`cargo test …`), and never pass here
    n_pending:    that wait for somebody to run them
    n_unbound:    whose test is prose
    """

    path: str
    id: str
    version: str
    status: str
    sha256: str
    n_checks: int
    n_elsewhere: int
    n_pending: int
    n_unbound: int


@dataclass(frozen=True, slots=True)
class LintReport:
    """What `apr contract lint` found.

    contracts:  all that could be read, in the order of their paths
    findings:   by file and line
    n_errors:   findings of severity error
    n_warnings: findings of severity warning
    exit_code:  0, 1 with an error, 2 if there was no contract to look at
    """

    contracts: tuple[LintedContract, ...]
    findings: tuple[LintFinding, ...]
    n_errors: int
    n_warnings: int
    exit_code: int
    schema: str = field(default="apr.contract-lint/1")


Found = tuple[int, str, str]  # line, rule, message


def lint(paths: Sequence[Path], *, resolve: Resolve) -> LintReport:
    """Hold files, and the contracts in folders, to every rule.

    resolve:  says why a check's command line may not be run; None if it may
    Raises    UsageError for a path that is not there.
    """
    files = files_of(paths)
    findings: list[LintFinding] = []
    readings: list[Reading] = []
    for file in files:
        try:
            reading = read_with_problems(file)
        except ContractError as exc:
            findings.append(_finding(file, exc.line or 1, "APR-CON-001", _without_place(exc)))
            continue
        readings.append(reading)
        findings += [_finding(file, *found) for found in _alone(reading, resolve)]
    findings += _together(readings)
    if not files:
        where = ", ".join(map(str, paths))
        message = f"no contract in {where}; give a file or a folder with {' or '.join(SUFFIXES)} files"
        findings.append(_finding(paths[0], 1, "APR-CON-018", message))
    findings.sort(key=lambda one: (one.path, one.line, one.rule))
    n_errors = sum(one.severity == "error" for one in findings)
    return LintReport(
        contracts=tuple(map(_row, readings)),
        findings=tuple(findings),
        n_errors=n_errors,
        n_warnings=len(findings) - n_errors,
        exit_code=2 if not files else 1 if n_errors else 0,
    )


def problem_of(check: Check, resolve: Resolve) -> tuple[str, str] | None:
    """Why a check may not be run: the rule and the sentence; None if it may. Whoever runs a check asks this first."""
    if check.kind == "gate":
        names = [name.replace("-", "_") for name in _folder.names(apr.qa.gates.__name__)]
        if check.name not in names:
            return _CHECK_PROBLEM, f"no gate {check.name!r}; gates: {', '.join(names)}"
        profile = _profile(check)
        if profile in PROFILES and profile not in _folder.load(apr.qa.gates.__name__, check.name).check.profiles:
            return _ARGUMENT_PROBLEM, f"the profile {profile} has no gate {check.name!r}"
    if check.kind == "link" and check.name not in LINKS:
        return _CHECK_PROBLEM, f"no link {check.name!r}; links: {', '.join(LINKS)}"
    problem = resolve(check)
    if problem is None:
        return None
    is_unknown = check.kind == "command" and problem.startswith("no command")
    return (_CHECK_PROBLEM if is_unknown else _ARGUMENT_PROBLEM), problem


def _finding(path: Path, line: int, rule: str, message: str) -> LintFinding:
    return LintFinding(str(path), line, rule, RULES[rule].severity, message)


def _without_place(error: ContractError) -> str:
    place = f"{error.path}:{error.line}: " if error.line is not None else f"{error.path}: "
    return str(error).removeprefix(place)


def _row(reading: Reading) -> LintedContract:
    contract = reading.contract
    counted = Counter(map(_binding.binding, contract.falsifications))
    return LintedContract(
        path=str(contract.path),
        id=contract.id,
        version=contract.version,
        status=contract.status,
        sha256=contract.sha256,
        n_checks=counted["check"],
        n_elsewhere=counted["elsewhere"],
        n_pending=counted["pending"],
        n_unbound=counted["prose"],
    )


def _alone(reading: Reading, resolve: Resolve) -> Iterator[Found]:
    """What one contract breaks."""
    for problem in reading.problems:
        yield problem.line or 1, _CHECK_PROBLEM, _without_place(problem)
    for where, line in reading.tree.duplicates:
        yield line, "APR-CON-003", f"the key {where[-1]!r} stands twice here, and the earlier value is lost; keep one"
    yield from _schema(reading)
    yield from _ids(reading)
    for test in reading.contract.falsifications:
        yield from _test(test, resolve)
        if "restated_from" in test.fields and not test.fields.get("restated_because"):
            yield test.line, "APR-CON-020", f"{test.id}: the bar is restated, and restated_because does not say why"
    yield from _changelog.findings(reading)
    yield from _status.findings(reading)
    yield from _criteria(reading)


def _schema(reading: Reading) -> Iterator[Found]:
    contract, tree = reading.contract, reading.tree
    if "metadata" in contract.raw and not isinstance(contract.raw["metadata"], dict):
        yield tree.line("metadata"), "APR-CON-002", "metadata is no mapping"
    for key in ("falsification_tests", "falsification", "equations", "proof_obligations"):
        block = contract.raw.get(key)
        if block is not None and not isinstance(block, list | dict):
            yield tree.line(key), "APR-CON-002", f"{key} is {block!r}; it is a list or a mapping"
    for test in contract.falsifications:
        if not test.id:
            yield test.line, "APR-CON-002", "a falsification test without id; nothing can refer to it"
        if not (test.prediction or test.rule or test.fields.get("name") or test.fields.get("description")):
            named = f" {test.id}" if test.id else ""
            yield test.line, "APR-CON-002", f"the falsification test{named} has neither prediction nor rule"
    if not contract.falsifications and contract.kind not in EXEMPT_KINDS:
        message = f"{contract.id} has no falsification test: nothing could show it to be false"
        yield 1, "APR-CON-017", message


def _ids(reading: Reading) -> Iterator[Found]:
    seen: dict[str, int] = {}
    for name, line in ids_of(reading):
        if name in seen:
            yield line, "APR-CON-004", f"the id {name} stands in line {seen[name]} already; give it another"
        seen.setdefault(name, line)


def ids_of(reading: Reading) -> Iterator[tuple[str, int]]:
    """Every id that a file gives out, the contract's own left out."""
    contract = reading.contract
    yield from ((test.id, test.line) for test in contract.falsifications if test.id)
    yield from ((one.id, one.line) for one in contract.obligations if one.id)
    yield from ((name, line) for _, name, line in criteria_of(reading) if name)
    gate_ = contract.raw.get("qa_gate")
    if isinstance(gate_, dict) and isinstance(gate_.get("id"), str):
        yield gate_["id"], reading.tree.line("qa_gate", "id")


def _test(test: Falsification, resolve: Resolve) -> Iterator[Found]:
    """A falsification test's binding and check."""
    if test.check is None:
        if "check" not in test.fields and _binding.binding(test) == "prose":
            said = f"{test.test[:60]!r} binds to nothing that runs" if test.test else "it names nothing that runs"
            yield (
                test.line,
                "APR-CON-016",
                f"{test.id or 'a test'}: {said}; give it a check:, or the test that runs elsewhere",
            )
        return
    check = test.check
    problem = problem_of(check, resolve)
    if problem is not None:
        yield check.line, problem[0], f"{test.id}: {problem[1]}"
    if not check.expect:
        yield (
            check.line,
            "APR-CON-009",
            f"{test.id}: the command {check.name} expects nothing, so nothing can falsify it; add expect:",
        )
    # {scratch} is no subject: a check has that folder to itself, and finds it empty
    if not any("{model}" in word for word in check.argv):
        yield check.line, "APR-CON-009", f"{test.id}: the check never names {{model}}, so it says nothing of it"


def _profile(check: Check) -> str:
    for word, following in zip(check.arguments, (*check.arguments[1:], ""), strict=True):
        if found := _PROFILE.fullmatch(word):
            return found[1] or following
    return ""


def criteria_of(reading: Reading) -> Iterator[tuple[Any, str, int]]:
    """Acceptance criteria: fields, id, line."""
    for key in ("acceptance_criteria", "rejection_criteria"):
        block = reading.contract.raw.get(key)
        rows = (
            list(block.items())
            if isinstance(block, dict)
            else list(enumerate(block or ()))
            if isinstance(block, list)
            else []
        )
        for name, fields in rows:
            given = fields.get("id") if isinstance(fields, dict) else None
            said = str(given) if given is not None else name if isinstance(name, str) else ""
            yield fields, said, reading.tree.line(key, name)


def _criteria(reading: Reading) -> Iterator[Found]:
    known = {test.id for test in reading.contract.falsifications}
    for fields, name, line in criteria_of(reading):
        for key in _REFERENCES if isinstance(fields, dict) else ():
            named = fields.get(key, ())
            for one in [named] if isinstance(named, str) else named if isinstance(named, list) else ():
                if str(one) not in known:
                    yield (
                        line,
                        "APR-CON-019",
                        f"{name or 'a criterion'} names the test {one!r}, which is not in this contract",
                    )


def _together(readings: Sequence[Reading]) -> Iterator[LintFinding]:
    """Ids that two files give out. A contract's own id counts too."""
    owners: dict[str, Reading] = {}
    for reading in readings:
        path = reading.contract.path
        tests = {test.id: test.line for test in reading.contract.falsifications if test.id}
        for name, line in {reading.contract.id: 1, **tests}.items():
            other = owners.setdefault(name, reading)
            if other is not reading:
                yield _finding(
                    path, line, "APR-CON-005", f"the id {name} belongs to {other.contract.path}; give it another"
                )
