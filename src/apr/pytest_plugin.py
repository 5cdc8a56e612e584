"""A pytest plugin: `assert_parity` for tests, and contracts collected as tests.

pytest loads it wherever apr is installed, so it imports nothing of apr until it is asked for something, and hooks into
nothing unless a model is named (`--apr-model`, or `apr_model` in the configuration). docs/ci.md is its page.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from apr.ledger.contract import Contract, Falsification
    from apr.ledger.verify import Row, Verification, VerifyReport
    from apr.parity._probes import Regime
    from apr.parity._report import ParityReport

__all__ = ["Different", "Undecided", "assert_parity"]

_SUFFIXES = (".yaml", ".yml")
_MODEL, _REFERENCE, _STORE = "apr_model", "apr_reference", "apr_store"
_MEANINGS = {
    _MODEL: "a model: contracts among the collected YAML files are run on it, a test an item",
    _REFERENCE: "the original that the model was made from, for contracts that compare",
    _STORE: "the folder of the evidence (default: evidence)",
}


class _Unequal(AssertionError):
    """report: what was found, as data."""

    def __init__(self, message: str, report: ParityReport) -> None:
        super().__init__(message)
        self.report = report


class Different(_Unequal):
    """The copy differs, and not by rounding alone."""


class Undecided(_Unequal):
    """Nothing was shown: the two could not be compared, or too little was seen to tell. It is no pass."""


def assert_parity(
    a: str | Path,
    b: str | Path,
    *,
    regime: Regime | None = None,
    prompts: Sequence[str] = (),
    only: Sequence[str] = (),
    seed: int = 0,
    threads: int | None = None,
    activations: Literal["float32", "int8"] = "float32",
) -> ParityReport:
    """Fail unless B says the same as A, the reference. Drift that rounding explains passes, as in `apr parity`.

    a, b:     path, alias or URL, with `@ENGINE` behind it if need be
    regime:   ask under it alone: raw, chat, multi-turn, pre-formatted or long; all of them by default
    prompts:  texts to ask in the place of apr's own, under the regime raw or chat
    only:     links to compare; by default all that the prompts pass through
    Returns   the report, for further assertions.
    Raises    Different, Undecided (both AssertionError, their message is the report); AprError as `apr parity`.
    """
    __tracebackhide__ = True
    from apr.parity import chain
    from apr.reports import _parity

    regimes = (regime,) if regime is not None else ()
    report = chain.parity(
        str(a),
        str(b),
        only=only,
        regimes=regimes,
        prompts=prompts,
        seed=seed,
        threads=threads,
        activations=activations,
    )
    if report.exit_code == 0:
        return report
    kind = Different if report.verdict == "different" else Undecided
    raise kind(f"{_headline(report)}\n\n{_parity.parity(report)}", report)


@pytest.fixture(name="assert_parity", scope="session")
def _assert_parity() -> Any:
    """`apr.pytest_plugin.assert_parity`: fails unless two copies of a model say the same."""
    return assert_parity


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options, and the ini options of the same meaning."""
    group = parser.getgroup("apr", "contracts of apr")
    for name, meaning in _MEANINGS.items():
        option = f"--{name.replace('_', '-')}"
        group.addoption(option, dest=f"option_{name}", metavar=name.removeprefix("apr_").upper(), help=meaning)
        parser.addini(name, meaning, default="")


def pytest_configure(config: pytest.Config) -> None:
    """Collect contracts, if there is a model to run them on."""
    if (model := _asked(config, _MODEL)) is not None:
        config.addinivalue_line("markers", "apr: a falsification test of a contract")
        config.pluginmanager.register(_Contracts(config, model), "apr-contracts")


def _asked(config: pytest.Config, name: str) -> str | None:
    """What the command line says, else the configuration; there, a path begins where the configuration lies."""
    given = config.getoption(f"option_{name}")
    if given:
        return str(given)
    configured = str(config.getini(name)).strip()
    if not configured:
        return None
    place = _home(config) / configured
    return str(place) if name == _STORE or place.exists() else configured


def _home(config: pytest.Config) -> Path:
    """The folder of the configuration, else where pytest was called: its rootdir may lie above both, as far as a model's path."""
    return config.inipath.parent if config.inipath is not None else config.invocation_params.dir


def _headline(report: ParityReport) -> str:
    """The verdict in a line: what pytest shows of a failure in its summary."""
    from apr.parity._link import Finding
    from apr.reports._evidence import WORDS
    from apr.reports.text import visible

    def cause(findings: Iterable[Finding]) -> str:
        return next((f" ({f.cause})" for f in findings if not f.is_benign), "")

    said = WORDS[report.verdict]
    deciding = next((r for r in report.links if r.verdict == report.verdict and not r.is_benign), None)
    if deciding is None:
        return f"{said}: no link was compared, and that is no pass"
    told = f"{said}: {deciding.link}{cause(deciding.findings)}: {visible(deciding.sentence)}"
    return told if report.verdict == "different" else f"{told} (this is no pass)"


class _Contracts:
    """What the whole session shares: the model, and the one run of the ledger that all items are part of.

    With pytest-xdist every worker has a run of its own.
    """

    def __init__(self, config: pytest.Config, model: str) -> None:
        self.config = config
        self.model = model
        self.reference = _asked(config, _REFERENCE)
        self.store = Path(_asked(config, _STORE) or _home(config) / "evidence")
        self.contracts: dict[str, Contract] = {}  # by path, in the order of collection
        self._begun: Verification | None = None
        self._failed: Exception | None = None
        self._said: list[str] = []
        self._is_unwritten = False

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        """A contract is a YAML file with falsification tests; any other is left alone."""
        if file_path.suffix not in _SUFFIXES:
            return None
        from apr.ledger import contract

        if not contract.has_tests(file_path):
            return None
        made: pytest.Collector = ContractFile.from_parent(parent, path=file_path, contracts=self)
        return made

    def run(self, contract: Contract, test: Falsification) -> Row:
        """Run one test; the first has everything fixed before it."""
        if self._begun is None and self._failed is None:
            try:
                self._begun = self._begin()
            except Exception as exc:
                self._failed = exc
                raise
        if self._begun is None:
            assert self._failed is not None
            raise self._failed
        return self._begun.run(contract, test)

    def _begin(self) -> Verification:
        from apr import hub
        from apr.cli import _checks
        from apr.ledger.verify import Verification

        session: pytest.Session = self._session
        selected = {str(item.path) for item in session.items if isinstance(item, Promise)}
        return Verification(
            self.model,
            hub.resolve(self.model),
            [contract for path, contract in self.contracts.items() if path in selected],
            reference=self.reference,
            reference_path=hub.resolve(self.reference) if self.reference is not None else None,
            folder=self.store,
            argv=("pytest", *self.config.invocation_params.args),
            resolve=_checks.problem,
        )

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Know the session, whose items say which contracts are run."""
        self._session = session

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write the evidence of what ran; an interrupted run is abandoned."""
        begun, self._begun = self._begun, None
        if begun is not None:
            is_cut_off = exitstatus in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR)
            said = _abandoned(begun, "the session was cut off") if is_cut_off else self._finished(begun, session)
            self._said.append(said)
        if hasattr(session.config, "workeroutput"):  # a worker of pytest-xdist: the controller tells it
            session.config.workeroutput["apr"] = {"said": self._said, "is_unwritten": self._is_unwritten}
        elif self._is_unwritten:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _finished(self, begun: Verification, session: pytest.Session) -> str:
        from apr.errors import AprError

        try:
            return _summary(begun.finish(), self.config.invocation_params.dir)
        except (AprError, OSError) as exc:
            self._is_unwritten = True
            return _abandoned(begun, str(exc))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """A worker has ended: what it wrote is told here."""
        told = getattr(node, "workeroutput", {}).get("apr", {})
        self._said += told.get("said", [])
        self._is_unwritten = self._is_unwritten or told.get("is_unwritten", False)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The verdict and the evidence."""
        if self._said:
            terminalreporter.ensure_newline()
            terminalreporter.section("contracts", sep="-")
            for said in self._said:
                terminalreporter.write_line(said)


class ContractFile(pytest.File):
    """A contract; its falsification tests are the items."""

    def __init__(self, *, contracts: _Contracts, **given: Any) -> None:
        super().__init__(**given)
        self._contracts = contracts

    def collect(self) -> Iterator[pytest.Item]:
        """An item a test. A contract that is broken is an error with file and line."""
        from apr.errors import ContractError
        from apr.ledger import contract

        try:
            made = contract.read(self.path)
        except ContractError as exc:
            raise self.CollectError(str(exc)) from exc
        known: set[str] = set()
        for test in made.falsifications:
            if not test.id or test.id in known:
                said = f"the id {test.id} stands twice" if test.id else "a falsification test without an id"
                raise self.CollectError(f"{self.path}:{test.line}: {said}; give it one of its own")
            known.add(test.id)
            yield Promise.from_parent(self, name=test.id, contracts=self._contracts, contract=made, test=test)
        self._contracts.contracts[str(self.path)] = made


class Promise(pytest.Item):
    """A falsification test. Kept passes, broken and undecided fail, what cannot be run here is skipped.

    Of a test that blocks nothing, all but a pass is an expected failure.
    """

    def __init__(self, *, contracts: _Contracts, contract: Contract, test: Falsification, **given: Any) -> None:
        super().__init__(**given)
        self._contracts, self._contract, self._test = contracts, contract, test
        self.add_marker("apr")

    def runtest(self) -> None:
        """Run the check, and judge it by the contract's expectation."""
        row = self._contracts.run(self._contract, self._test)
        self.user_properties += [("apr_status", row.status), ("apr_sentence", row.sentence)]
        if row.status == "pass":
            return
        if row.status == "not_runnable":
            raise pytest.skip.Exception(
                row.sentence, _use_item_location=True
            )  # at the contract's line, not at this one
        if not row.blocking:
            pytest.xfail(f"{row.status}, and blocks nothing: {row.sentence}")
        raise _NotKept(_told(row, self._test))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """What came of it, in words; our own errors without a traceback."""
        from apr.errors import AprError

        if isinstance(excinfo.value, _NotKept | AprError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        """The line of the test in its contract."""
        return self.path, self._test.line - 1, f"{self._contract.id} {self.name}"


class _NotKept(Exception):
    """A promise that is broken, undecided, or could not be judged."""


def _told(row: Row, test: Falsification) -> str:
    import json

    from apr.reports._table import facts
    from apr.reports.text import visible

    rows = [("promised", row.prediction), ("command", shlex.join(row.command))]
    if row.observed:
        rows.append(("observed", json.dumps(row.observed, ensure_ascii=False)))
    if row.interval is not None:
        rows.append(("95 % interval", f"{row.interval[0]:g} to {row.interval[1]:g}"))
    rows.append(("if it fails", test.if_fails))
    return "\n".join(
        [f"{row.status}: {visible(row.sentence)}", facts([(name, visible(said)) for name, said in rows if said])]
    )


def _summary(report: VerifyReport, here: Path) -> str:
    counted = ", ".join(f"{n} {status.replace('_', ' ')}" for status, n in report.counts.items() if n)
    path = report.evidence
    return (
        f"apr: {report.verdict}: {counted}; evidence: {path.relative_to(here) if path.is_relative_to(here) else path}"
    )


def _abandoned(begun: Verification, reason: str) -> str:
    from apr.errors import AprError

    try:
        return f"apr: abandoned, {reason}; {begun.abandon()}"
    except (AprError, OSError) as exc:
        return f"apr: no evidence, {reason}; nor could the run be abandoned: {exc}"
