"""The examples run, find what they plant, and the pages made from them are of their present shape."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from apr.cli import _checks
from apr.engines import native
from apr.engines._subject import Subject
from apr.ledger import _differences, _experiment, _lint, _separation, evidence, prediction

ROOT = Path(__file__).resolve().parent.parent
CI_REPOSITORY = ROOT / "examples" / "ci-repository"
SECTION_61 = ROOT / "examples" / "section-61"
MODULES = tuple(path.stem for path in SECTION_61.glob("*.py"))
QUICK = ("--prompts", "2", "--steps", "10", "--max-tokens", "12", "--threads", "1")

Module = Callable[[str], Any]


@pytest.fixture(scope="module")
def module() -> Iterator[Module]:
    """A module of the example's folder by name."""
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(SECTION_61))
        yield importlib.import_module
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random, with attention strong enough that positions decide what is written."""
    config = tiny.config("qwen2", num_hidden_layers=4)
    weights = {
        k: w * np.float32(6 if "_proj" in k and "self_attn" in k else 1) for k, w in tiny.tensors(config).items()
    }
    return tiny.write(tmp_path_factory.mktemp("model"), "gguf", config, weights, codec="q8_0")


@pytest.fixture(scope="module")
def result(module: Module, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("APR_HOME", str(tmp_path_factory.mktemp("home")))
        replay = module("replay")
        return replay.replay(replay._parser().parse_args(["--model", str(model), *QUICK]))


def seen(result: Any, question: str) -> Any:
    return next(s for s in result.runs.seen if s.question == question and s.subject == "GGUF")


def test_both_planted_faults_are_called_what_they_are(result: Any) -> None:
    gate, positions = result.gate, result.positions
    assert (gate.verdict.verdict, gate.verdict.cause) == ("not_comparable", "harness")
    assert {"engine", "engine_version"} == {d.field for d in gate.verdict.differing}
    assert gate.diverged.verdict == "different" and gate.repaired.verdict == "same"
    assert (positions.verdict.verdict, positions.verdict.field) == ("not_comparable", "positions")
    assert positions.alike.verdict == "same" and result.exit_code == 0


def test_a_fault_that_is_not_there_is_not_called_one(module: Module, model: Path, result: Any) -> None:
    with Subject(model, threads=1) as subject:
        healthy = module("faults").wrong_gate(subject, result.curves, max_tokens=8, load=native.load)
    assert healthy.verdict.verdict == "same" and healthy.diverged.first_divergence is None
    assert dataclasses.replace(result, gate=healthy).exit_code == 1, "the replay fails if its planted fault is not seen"


def test_what_section_61_called_direct_was_wrapped_and_what_was_rendered_is_not_wrapped_again(result: Any) -> None:
    assert seen(result, "direct, as run").decision == seen(result, "continuation, as run").decision == "applied"
    assert seen(result, "direct").decision == seen(result, "continuation").decision == "raw"
    assert seen(result, "chat, rendered").decision == "pre-formatted"
    assert seen(result, "chat, rendered").prompt_token_ids == seen(result, "chat").prompt_token_ids
    assert len(seen(result, "direct, as run").prompt_token_ids) > len(seen(result, "direct").prompt_token_ids)


def test_the_copy_says_what_the_original_says_and_only_the_model_differs(result: Any) -> None:
    of_copy = [a.comparison for a in result.runs.agreements if a.subject == ".apr"]
    assert len(of_copy) == 6 and {c.verdict for c in of_copy} == {"same"}
    assert {d.field for c in of_copy for d in c.varied} <= {"model_format", "model_sha256", "tensors_sha256"}


def test_the_curves_are_measured_at_every_step(result: Any) -> None:
    curves = result.curves
    assert [kind.kind for kind in curves.kinds] == ["direct", "chat", "continuation"]
    by_name = {candidate.name: candidate for candidate in curves.candidates}
    n_steps = sum(kind.n_steps for kind in curves.kinds)
    assert {c.n_steps for c in by_name.values()} == {n_steps}
    assert by_name[".apr"].drift["max"] < by_name["8-bit activations"].drift["p50"], "the floor lies below the rounding"
    for line in curves.lines:
        assert {len(values) for values in line.drift.values()} == {len(line.margin)} == {len(line.tokens)}


def test_an_error_that_grows_is_seen_to_grow_and_one_that_does_not_is_not(module: Module) -> None:
    curves, random = module("curves"), np.random.default_rng(0)

    def parts(slope: float) -> list[Any]:
        errors = [np.exp(slope * np.arange(32) + 0.3 * random.standard_normal(32)) for _ in range(8)]
        return [type("Part", (), {"error": error})() for error in errors]

    grown, level = curves._growth(parts(0.1), 0), curves._growth(parts(0.0), 0)
    assert grown.low > 2 and level.low < 1 < level.high


def test_margins_that_are_lower_are_said_to_be_lower_and_equal_ones_are_not(module: Module) -> None:
    curves, page, random = module("curves"), module("page"), np.random.default_rng(0)
    kinds = np.repeat(["chat", "direct"], 8)

    def over(factor: float) -> str:
        margins = [random.exponential(1.0, 30) * (factor if kind == "chat" else 1.0) for kind in kinds]
        return str(page._than(curves._over(margins, kinds, "chat", "direct", 0), "ChatML", "direct"))

    assert "lower" in over(0.1) and "higher" in over(10.0) and "not shown" in over(1.0)


@pytest.mark.parametrize(
    ("answer", "is_clean"),
    [("4", True), ("2 + 2 = 4.", True), ("It is four.", True), ("14", False), ("4.5", False), ("40", False), ("fourteen", False), ("", False)],
)  # fmt: skip
def test_the_number_four_is_four(module: Module, answer: str, is_clean: bool) -> None:
    assert (module("questions").no_four(answer) is None) == is_clean


@pytest.mark.parametrize(
    ("answer", "is_clean"),
    [
        ("\n    return n if n < 2 else fib(n - 1) + fib(n - 2)\n\nprint(f", True),
        ("Sure:\n```python\ndef fib(n):\n    a = 1\n    return a\n```\nThis", True),
        ("```\ndef fib(n):\n    return 1\n", True),
        ("\n    pass\n", False),
        ("\\ns\\ns\\ns\\ns", False),
        ("ampiezza = 0.5\ndiametro = 10", False),
        ("```python\ndef other(n):\n    return 1\n```", False),
    ],
)
def test_a_function_fib_is_one_that_returns(module: Module, answer: str, is_clean: bool) -> None:
    assert (module("questions").no_fib(answer) is None) == is_clean


def test_a_strip_is_one_character_a_step_on_a_logarithmic_scale(module: Module) -> None:
    assert module("page").strip([0.0, 0.029, 0.03, 0.1, 1.0, 1e9, float("inf"), float("nan")]) == "▁▁▂▃▅██▁"


def skeleton(page: str) -> list[str]:
    """Headings and heads of tables, without the model's name and widths."""
    lines = page.splitlines()
    heads = [
        " ".join(line.split())
        for line, below in itertools.pairwise([*lines, ""])
        if line.startswith("#") or below.startswith("|--")
    ]
    return [heads[0].partition(" on ")[0], *heads[1:]]


def test_the_page_in_docs_has_the_shape_that_the_script_gives_it(module: Module, result: Any) -> None:
    page = module("page")
    kept = (ROOT / "docs" / "section-61.md").read_text(encoding="utf-8")
    assert skeleton(kept) == skeleton(page.render(result, story="told"))
    for told in page.STORY.values():
        assert told in kept, "the page is older than the script's words: make it again with --markdown"
    assert "both planted faults are called what they are" in kept


def test_json_and_markdown_are_printed(
    module: Module, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APR_HOME", str(tmp_path / "home"))
    page = tmp_path / "page.md"
    assert module("replay").main(["--model", str(model), *QUICK, "--json", "--markdown", str(page)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["schema"] == "apr.section-61/1" and len(printed["runs"]["seen"]) >= 12
    assert page.read_text(encoding="utf-8").startswith("# Section 61, replayed on ")


def test_a_model_that_is_not_there_is_an_error_in_words(module: Module, capsys: pytest.CaptureFixture[str]) -> None:
    assert module("replay").main(["--model", "/nowhere/model.gguf"]) == 2
    assert capsys.readouterr().err.startswith("replay: ")


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.xdist_group("smollm2")
def test_the_replay_runs_on_a_real_model(module: Module, real_model: Callable[[str], Path]) -> None:
    replay = module("replay")
    path = real_model("smollm2")
    found = replay.replay(replay._parser().parse_args(["--model", str(path), "--prompts", "3"]))
    assert found.exit_code == 0 and found.runs.predictions


def test_the_predictions_of_section_61_are_refused_with_their_confounds_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APR_HOME", str(tmp_path))  # the file itself shows them, without the model
    monkeypatch.setenv("APR_OFFLINE", "1")
    report = _experiment.run(prediction.read(SECTION_61 / "predictions.yaml"))
    assert report.exit_code == 5 and [one.verdict for one in report.predictions] == ["not_comparable"] * 2
    confounds = [{d.field for d in one.differences if d.kind == "confound"} for one in report.predictions]
    assert confounds == [{"prompt", "engine", "regime", "max_tokens"}, {"prompt", "engine", "max_tokens"}]
    assert "regime is declared to vary, and is the same in both runs" in report.predictions[1].sentence
    page = (ROOT / "docs" / "predictions.md").read_text(encoding="utf-8")
    assert all(f"⊘ {one.id}  {one.sentence}" in page for one in report.predictions)


def test_the_repaired_predictions_vary_one_field_and_have_a_meaning_for_every_outcome() -> None:
    file = prediction.read(SECTION_61 / "predictions-repaired.yaml")
    for one in file.predictions:
        found = _differences.between_settings(one)
        assert found.refusal is None and [d.field for d in found.all] == [one.varies] and one.uncovered == ()
        extra = _separation.separate(one).extra_run
        assert extra is not None and extra.leaves == (), "one more run tells apart what the two do not"


@pytest.mark.real
@pytest.mark.slow
def test_the_repaired_predictions_come_to_verdicts() -> None:
    report = _experiment.run(prediction.read(SECTION_61 / "predictions-repaired.yaml"))
    assert [one.verdict for one in report.predictions] == ["pass", "pass"] and report.exit_code == 0
    page = (ROOT / "docs" / "predictions.md").read_text(encoding="utf-8")
    assert all(f"  so  {one.meaning}" in page for one in report.predictions)


def test_the_contract_of_the_ci_repository_is_well_made_and_its_page_shows_it_kept() -> None:
    report = _lint.lint([CI_REPOSITORY / "contracts"], resolve=_checks.problem)
    (contract,) = report.contracts
    assert report.findings == () and contract.n_checks == 5
    page = (CI_REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert page.count("| ✓ pass | FALSIFY-ASSISTANT-") == 5 and "apr: kept: 5 pass" in page


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.xdist_group("smollm2")
def test_the_ci_repository_passes_its_own_tests(real_model: Callable[[str], Path], tmp_path: Path) -> None:
    real_model("smollm2")
    folder = shutil.copytree(CI_REPOSITORY, tmp_path / "repository", ignore=shutil.ignore_patterns("evidence"))
    words = [sys.executable, "-m", "pytest", "-p", "apr.pytest_plugin", "-p", "no:cacheprovider"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert "7 passed" in done.stdout and "apr: kept: 5 pass" in done.stdout, done.stdout
    assert evidence.Store(folder / "evidence").verify() == []
