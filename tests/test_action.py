"""The GitHub Action: its file is well made, and its script, run for real, does what the file says of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import tiny
from apr.ledger.evidence import Store

ROOT = Path(__file__).parents[1]
ACTION = ROOT / "action.yml"
WORKFLOW = ROOT / "examples" / "ci-repository" / ".github" / "workflows" / "model.yml"
CONTRACT = """
metadata: {id: small, version: 1.0.0, status: PROPOSED, description: d, changelog: [{version: 1.0.0, changes: c}]}
falsification_tests:
  - {id: KEPT, prediction: p, check: {command: "inspect {model}", expect: {path: format, equals: gguf}}}
"""
BROKEN = """
  - {id: BROKEN, prediction: "::error::p", check: {command: "inspect {model}", expect: {path: format, equals: apr}}}
"""


@pytest.fixture(scope="module")
def action() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(ACTION.read_text(encoding="utf-8"))
    return found


def problems(action: dict[str, Any]) -> list[str]:
    """What would fail, or could be abused, on a runner."""
    found = []
    used = set(re.findall(r"inputs\.([\w-]+)", yaml.safe_dump(action["runs"], width=10_000)))
    found += [f"undeclared input {name}" for name in used - set(action["inputs"])]
    found += [f"unused input {name}" for name in set(action["inputs"]) - used]
    ids = {step.get("id") for step in action["runs"]["steps"]}
    for name, output in action["outputs"].items():
        step = re.fullmatch(r"\$\{\{ steps\.(\w+)\.outputs\.(\w+) \}\}", output["value"])
        if step is None or step[1] not in ids or step[2] != name:
            found.append(f"output {name} comes from nowhere")
    for step in action["runs"]["steps"]:
        if "run" in step and "shell" not in step:
            found.append("a run step without shell")
        if "${{" in step.get("run", ""):
            found.append("an expression in a line of shell")
        if not re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step.get("uses", "a/b@v1")):
            found.append(f"{step['uses']} is not pinned")
    return found


def test_the_file_is_well_made(action: dict[str, Any]) -> None:
    assert action["runs"]["using"] == "composite" and problems(action) == []
    assert all(one["description"] for part in ("inputs", "outputs") for one in action[part].values())
    assert [name for name, one in action["inputs"].items() if one.get("required")] == ["model"]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("inputs.timeout", "inputs.time", "undeclared input time"),
        ("shell: bash", "working-directory: x", "a run step without shell"),
        ("actions/cache@v4", "actions/cache@main", "actions/cache@main is not pinned"),
        ("[$EXTRAS]", "[${{ inputs.extras }}]", "an expression in a line of shell"),
        ("steps.verify.outputs.verdict", "steps.other.outputs.verdict", "output verdict comes from nowhere"),
    ],
)
def test_a_planted_mistake_is_seen(old: str, new: str, problem: str) -> None:
    text = ACTION.read_text(encoding="utf-8")
    assert old in text and problem in problems(yaml.safe_load(text.replace(old, new)))


def test_the_script_reads_what_the_file_passes_on(action: dict[str, Any]) -> None:
    (verify,) = (step for step in action["runs"]["steps"] if step.get("id") == "verify")
    script = (ROOT / "scripts" / "action").read_text(encoding="utf-8")
    assert set(verify["env"]) == set(re.findall(r"\$\{(APR_ACTION_\w+)", script))
    assert os.access(ROOT / "scripts" / "action", os.X_OK)


def test_the_example_uses_inputs_that_are_there(action: dict[str, Any]) -> None:
    steps = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]["model"]["steps"]
    (step,) = (step for step in steps if "apr" in step.get("uses", ""))
    assert "model" in step["with"] and set(step["with"]) <= set(action["inputs"])


class Runner:
    """What a runner gives to a step, and what it finds afterwards."""

    def __init__(self, folder: Path, *, apr: str = f'exec {sys.executable} -m apr "$@"') -> None:
        self.folder = folder
        self.model = tiny.write(folder / "m", "gguf")
        bin_folder = folder / "bin"
        bin_folder.mkdir()
        shim = bin_folder / "apr"
        shim.write_text(f"#!/bin/sh\n{apr}\n", encoding="utf-8")
        shim.chmod(0o755)
        self.path = f"{bin_folder}{os.pathsep}{os.environ['PATH']}"

    def run(self, contract: str, **inputs: str) -> tuple[int, dict[str, str], str, str]:
        """Exit status, outputs, summary and log."""
        (self.folder / "contracts").mkdir(exist_ok=True)
        (self.folder / "contracts" / "c.yaml").write_text(contract, encoding="utf-8")
        files = {name: self.folder / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        for file in files.values():
            file.write_text("before=1\n", encoding="utf-8")
        given = {f"APR_ACTION_{name.upper()}": value for name, value in ({"model": str(self.model)} | inputs).items()}
        done = subprocess.run(
            [ROOT / "scripts" / "action"],
            cwd=self.folder,
            env=os.environ | {"PATH": self.path, "RUNNER_TEMP": str(self.folder)} | {k: str(v) for k, v in files.items()} | given,
            capture_output=True,
            text=True,
        )  # fmt: skip
        outputs, summary = (file.read_text(encoding="utf-8").removeprefix("before=1\n") for file in files.values())
        return done.returncode, dict(line.split("=", 1) for line in outputs.splitlines()), summary, done.stdout


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    return Runner(tmp_path_factory.mktemp("runner"))


def test_it_verifies_and_tells_and_the_status_of_the_step_follows_the_verdict(runner: Runner) -> None:
    code, outputs, summary, log = runner.run(CONTRACT + BROKEN, fail_on="broken", store="kept here")
    assert (code, outputs["verdict"]) == (1, "broken")
    assert summary == Path(outputs["summary"]).read_text(encoding="utf-8") and "broken: 1 pass, 1 fail" in summary
    assert (runner.folder / outputs["evidence"]).exists() and Store(runner.folder / "kept here").verify() == []
    first, *_, last = log.splitlines()
    assert first.startswith("::stop-commands::") and last == f"::{first.rpartition(':')[2]}::"


@pytest.mark.parametrize(
    ("verdict", "status", "failing"),
    [
        ("kept", 0, ()),
        ("open", 5, ("open",)),
        ("broken", 1, ("open", "broken")),
        ("", 130, ("open", "broken", "never")),
    ],
)
def test_what_fails_the_step_is_said_by_fail_on(
    tmp_path: Path, verdict: str, status: int, failing: tuple[str, ...]
) -> None:
    said = json.dumps({"verdict": verdict} if verdict else {"schema": "apr.error/1"})
    imitation = Runner(tmp_path, apr=f"echo '{said}'; exit {status}")
    codes = {fail_on: imitation.run(CONTRACT, fail_on=fail_on)[0] for fail_on in ("open", "broken", "never")}
    assert codes == {fail_on: status if fail_on in failing else 0 for fail_on in codes}


def test_what_came_to_no_verdict_fails_always_and_is_in_the_summary(runner: Runner) -> None:
    code, outputs, summary, _ = runner.run("- [", fail_on="never")
    assert code == 2 and outputs["verdict"] == outputs["evidence"] == ""
    assert summary.startswith("### ! apr contract verify came to no verdict (exit status 2)")
    assert "    apr: contracts/c.yaml:2: no YAML" in summary


def test_an_input_is_a_word_and_never_a_command(runner: Runner) -> None:
    harm = "$(touch harm); --store=harm `touch harm`"
    code, _, summary, _ = runner.run(CONTRACT, model=harm, reference=harm)
    assert code == 2 and not (runner.folder / "harm").exists() and "is no file and no name" in summary
    code, *_ = runner.run(CONTRACT, model="--help")
    assert code == 2
    code, *_ = runner.run(CONTRACT, fail_on="maybe")
    assert code == 2
