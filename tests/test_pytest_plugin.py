"""The pytest plugin, by pytest: what each promise becomes, what is written of it, and that it stays out of the way."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import tiny
from apr import cli
from apr.engines import native  # noqa: F401 - loaded before pytester takes modules away again: it can be loaded only once
from apr.ledger import _running, standing, verify  # noqa: F401 - as above
from apr.ledger.evidence import Store
from apr.parity import chain  # noqa: F401 - as above
from apr.pytest_plugin import Different, Undecided, assert_parity

pytest_plugins = "pytester"

ROOT = Path(__file__).parents[1]
HEAD = """
metadata: {id: small, version: 1.0.0, status: PROPOSED, description: d, changelog: [{version: 1.0.0, changes: c}]}
falsification_tests:
"""
TEST = "  - {{id: {id}, prediction: {id} holds, if_fails: mend it, {more}check: {{command: 'inspect {model}', expect: {{{expect}}}}}}}\n"
KEPT = TEST.format(id="KEPT", more="", model="{model}", expect="path: format, equals: gguf")
BROKEN = TEST.format(id="BROKEN", more="", model="{model}", expect="path: format, equals: apr")
HARMLESS = TEST.format(
    id="HARMLESS", more="ship_blocking: false, ", model="{model}", expect="path: format, equals: apr"
)
UNDECIDED = TEST.format(
    id="UNDECIDED", more="", model="{model}", expect="path: size_bytes, at_least: 5, interval: interval"
)
ERROR = TEST.format(id="ERROR", more="", model="{scratch}/none.gguf", expect="path: format, equals: gguf")
ELSEWHERE = "  - {id: ELSEWHERE, prediction: p, test: cargo test --lib ship_001}\n"


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("model"), "gguf")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Checks run in this process: what they leave is the same, and no interpreter is started for each."""

    def run(command: tuple[str, ...], *, timeout_s: float) -> _running.Ran:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            exit_code = cli.main(command[1:])
        document = json.loads(out.getvalue()) | {"exit_code": exit_code, "interval": [0.0, 1e9]}
        return _running.Ran(command, document, exit_code, "", 0.0)

    monkeypatch.setattr(_running, "run", run)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # no plugin beside ours
    monkeypatch.setenv("APR_HOME", str(tmp_path / "home"))


def contract(pytester: pytest.Pytester, *tests: str, name: str = "contracts/small.yaml", called: str = "small") -> Path:
    path = pytester.path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(HEAD.replace("id: small", f"id: {called}") + "".join(tests), encoding="utf-8")
    return path


def run(pytester: pytest.Pytester, *words: str | Path) -> pytest.RunResult:
    return pytester.runpytest_inprocess("-p", "apr.pytest_plugin", "-ra", *map(str, words), no_reraise_ctrlc=True)


def written(pytester: pytest.Pytester, folder: str = "evidence") -> list[tuple[str, dict[str, str]]]:
    """Of each run in a store that is as it was written: how it ended, and the status of every test."""
    store = Store(pytester.path / folder)
    assert store.verify() == []
    return [(e.record.ended, {t.id: t.status for t in e.record.tests}) for e in store.entries()]


def test_importing_it_loads_nothing_else_of_apr_and_nothing_that_pytest_has_not() -> None:
    script = (
        "import sys, pytest; before = set(sys.modules); import apr.pytest_plugin; print(*set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"apr", "apr.pytest_plugin"}


def test_apr_does_not_import_pytest() -> None:
    script = "import sys, apr, apr.cli, apr.ledger.verify, apr.parity.chain; print('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "False\n"


def test_it_is_registered_under_the_name_by_which_it_can_be_imported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {"apr.pytest_plugin": "apr.pytest_plugin"}
    assert not any(requirement.startswith("pytest") for requirement in project["dependencies"])


@pytest.mark.usefixtures("here")
def test_without_a_model_nothing_is_collected(pytester: pytest.Pytester) -> None:
    contract(pytester, KEPT)
    done = run(pytester)
    assert done.ret == pytest.ExitCode.NO_TESTS_COLLECTED and not (pytester.path / "evidence").exists()


@pytest.mark.usefixtures("here")
def test_each_test_of_a_contract_is_an_item_with_an_outcome_of_its_own(pytester: pytest.Pytester, model: Path) -> None:
    contract(pytester, KEPT, BROKEN, HARMLESS, UNDECIDED, ERROR, ELSEWHERE)
    done = run(pytester, "contracts", f"--apr-model={model}", "--junitxml=found.xml")
    done.assert_outcomes(passed=1, failed=3, xfailed=1, skipped=1)
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    said = done.stdout.str()
    assert "Traceback" not in said and 'fail: format is "gguf", expected "apr"' in said
    assert "if it fails  mend it" in said and "promised     BROKEN holds" in said and "undecided: " in said
    assert "FAILED contracts/small.yaml::ERROR - error: the command ended before" in said
    assert "XFAIL contracts/small.yaml::HARMLESS - fail, and blocks nothing" in said
    assert "SKIPPED [1] contracts/small.yaml:9: no check of ours stands behind" in said
    assert "apr: broken: 1 pass, 2 fail, 1 undecided, 1 error, 1 not runnable; evidence: evidence/statements/" in said
    statuses = {"KEPT": "pass", "BROKEN": "fail", "HARMLESS": "fail", "UNDECIDED": "undecided", "ERROR": "error"}
    assert written(pytester) == [("finished", statuses | {"ELSEWHERE": "not_runnable"})]
    properties = ElementTree.parse(pytester.path / "found.xml").iter("property")
    found = {(one.get("name"), one.get("value")) for one in properties}
    assert {value for name, value in found if name == "apr_status"} == {*statuses.values(), "not_runnable"}


@pytest.mark.usefixtures("here")
def test_what_is_deselected_is_neither_run_nor_in_the_evidence(pytester: pytest.Pytester, model: Path) -> None:
    contract(pytester, KEPT, BROKEN)
    contract(pytester, KEPT, name="contracts/other.yaml", called="other")
    run(pytester, "contracts/small.yaml", f"--apr-model={model}", "-k", "KEPT").assert_outcomes(passed=1, deselected=1)
    done = run(pytester, "contracts/small.yaml::BROKEN", "contracts/other.yaml", f"--apr-model={model}", "-x")
    done.assert_outcomes(failed=1)
    shown = run(pytester, "contracts", f"--apr-model={model}", "--collect-only", "--strict-markers", "-m", "apr")
    shown.stdout.fnmatch_lines(["*<ContractFile other.yaml>*", "*<Promise KEPT>*"])
    run(pytester, "contracts", f"--apr-model={model}", "-m", "not apr").assert_outcomes(deselected=3)
    assert written(pytester) == [("finished", {"KEPT": "pass"}), ("finished", {"BROKEN": "fail"})]
    pinned = [[c.id for c in e.record.begun.contracts] for e in Store(pytester.path / "evidence").entries()]
    assert pinned == [["small"], ["other", "small"]] or pinned == [["small"], ["small", "other"]]


@pytest.mark.usefixtures("here")
def test_the_configuration_names_model_and_store(pytester: pytest.Pytester, model: Path) -> None:
    compared = "  - {id: COMPARED, prediction: p, check: {link: metadata}}\n"
    contract(pytester, compared)
    (pytester.path / "m.gguf").symlink_to(model)
    pytester.makeini("[pytest]\napr_model = m.gguf\napr_store = kept\n")
    run(pytester, "contracts").assert_outcomes(skipped=1)
    run(pytester, "contracts", f"--apr-reference={model}").assert_outcomes(passed=1)
    assert written(pytester, "kept") == [
        ("finished", {"COMPARED": "not_runnable"}),
        ("finished", {"COMPARED": "pass"}),
    ]


@pytest.mark.usefixtures("here")
def test_a_broken_contract_is_an_error_with_its_line_and_other_yaml_is_left_alone(
    pytester: pytest.Pytester, model: Path
) -> None:
    contract(pytester, KEPT)
    (pytester.path / "compose.yaml").write_text("services: {a: {image: b}}")
    (pytester.path / "template.yml").write_text("{{ broken\n  falsification_tests: [")
    run(pytester, f"--apr-model={model}").assert_outcomes(passed=1)
    path = contract(pytester, KEPT, BROKEN.replace("command", "comand"), name="contracts/bad.yaml")
    done = run(pytester, f"--apr-model={model}")
    done.assert_outcomes(errors=1)
    assert f"{path}:5: check:" in done.stdout.str()
    contract(pytester, KEPT, KEPT, name="contracts/bad.yaml")
    assert f"{path}:5: the id KEPT stands twice" in run(pytester, f"--apr-model={model}").stdout.str()


@pytest.mark.usefixtures("here")
def test_an_interrupted_session_leaves_an_abandoned_run_with_what_was_reported(
    pytester: pytest.Pytester, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract(pytester, KEPT, BROKEN)
    inner, calls = _running.run, []

    def interrupted(command: tuple[str, ...], *, timeout_s: float) -> Any:
        calls.append(command)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return inner(command, timeout_s=timeout_s)

    monkeypatch.setattr(_running, "run", interrupted)
    done = run(pytester, "contracts", f"--apr-model={model}")
    assert done.ret == pytest.ExitCode.INTERRUPTED and "apr: abandoned, the session was cut off" in done.stdout.str()
    assert written(pytester) == [("abandoned", {"KEPT": "pass"})]


@pytest.mark.usefixtures("here")
def test_a_model_that_changes_meanwhile_fails_the_session(pytester: pytest.Pytester, model: Path) -> None:
    contract(pytester, KEPT)
    (pytester.path / "m.gguf").write_bytes(model.read_bytes())
    pytester.makeconftest(
        "import pathlib\ndef pytest_runtest_teardown():\n"
        "    path = pathlib.Path('m.gguf'); data = bytearray(path.read_bytes()); data[-1] ^= 1; path.write_bytes(data)\n"
    )
    done = run(pytester, "contracts", "--apr-model", "m.gguf")
    assert done.ret == pytest.ExitCode.TESTS_FAILED and "changed while it was tested" in done.stdout.str()
    assert written(pytester) == [("abandoned", {})]


@pytest.mark.usefixtures("here")
def test_a_model_that_is_not_there_fails_every_item_in_words(pytester: pytest.Pytester) -> None:
    contract(pytester, KEPT, BROKEN)
    done = run(pytester, "contracts", "--apr-model", "nothing.gguf")
    done.assert_outcomes(failed=2)
    assert "Traceback" not in done.stdout.str() and "'nothing.gguf' is no file and no name" in done.stdout.str()


def test_workers_write_a_run_each_and_real_checks_run(
    pytester: pytest.Pytester, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    contract(pytester, KEPT, BROKEN)
    words = ["-p", "xdist.plugin", "-p", "apr.pytest_plugin", "-n", "2", "--dist", "each", "-k", "KEPT", "contracts"]
    done = pytester.runpytest_subprocess(*words, f"--apr-model={model}")
    done.assert_outcomes(passed=2)
    assert done.stdout.str().count("apr: kept: 1 pass; evidence: ") == 2
    assert written(pytester) == [("finished", {"KEPT": "pass"})] * 2


@pytest.fixture(scope="module")
def copies(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A copy of the model, changed by name."""
    folder, made = tmp_path_factory.mktemp("copies"), tiny.config()
    weights = tiny.tensors(made)
    bent = weights | {"model.layers.1.mlp.up_proj.weight": weights["model.layers.1.mlp.up_proj.weight"] * 1.5}
    bare = dataclasses.replace(tiny.spec(), chat_template=None)
    ways: dict[str, dict[str, Any]] = {
        "moved": {"file_format": "safetensors"},
        "rounded": {"file_format": "gguf", "codec": "q8_0"},
        "turned": {"file_format": "gguf", "made": dataclasses.replace(made, rope_theta=100.0)},
        "scaled": {"file_format": "gguf", "weights": bent},
        "bare": {"file_format": "gguf", "tokenizer": bare},
    }
    return lambda name: tiny.write(folder / name, **ways[name])


@pytest.mark.parametrize("name", ["moved", "rounded"])
def test_the_same_and_what_rounding_explains_pass(model: Path, copies: Callable[..., Path], name: str) -> None:
    report = assert_parity(model, copies(name), threads=1, only=("weights", "logits"))
    assert report.exit_code == 0 and report.verdict == ("same" if name == "moved" else "different")


@pytest.mark.parametrize(
    ("name", "first_line"),
    [
        ("turned", "different: metadata (metadata.value): rope_theta is 100 in the candidate and 10000"),
        ("scaled", "different: weights (weights.scaled): model.layers.1.mlp.up_proj.weight"),
    ],
)
def test_a_planted_fault_fails_and_names_its_link(
    model: Path, copies: Callable[..., Path], name: str, first_line: str
) -> None:
    with pytest.raises(AssertionError) as failed:
        assert_parity(str(model), copies(name), regime="raw", threads=1)
    said = str(failed.value)
    assert isinstance(failed.value, Different) and failed.value.report.exit_code == 1
    assert said.startswith(first_line) and "\x1b" not in said
    assert "✗ different" in said and said.splitlines()[-1].startswith(f"next: apr why {model} ")


def test_what_cannot_be_compared_is_no_pass_and_no_difference(copies: Callable[..., Path]) -> None:
    bare = copies("bare")
    with pytest.raises(Undecided, match=r"^not comparable: logits: the reference has no template.*\(this is no pass\)"):
        assert_parity(bare, bare, regime="chat", threads=1)


@pytest.mark.usefixtures("here")
def test_the_fixture_is_the_function_and_its_failure_is_shown_without_our_frames(
    pytester: pytest.Pytester, model: Path, copies: Callable[..., Path]
) -> None:
    told = f"{str(model)!r}, {str(copies('scaled'))!r}, only=('weights',), threads=1"
    pytester.makepyfile(f"def test_copy(assert_parity):\n    assert_parity({told})\n")
    done = run(pytester)
    done.assert_outcomes(failed=1)
    said = done.stdout.str()
    assert "Different: different: weights (weights.scaled)" in said and "pytest_plugin.py" not in said
