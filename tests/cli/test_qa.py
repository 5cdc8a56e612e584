"""`apr qa` from the command line: what it asks for, prints, writes, and exits with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import gate_samples as samples
import tiny
from apr._plain import plain
from apr.qa import gate
from apr.qa._judged import Judged
from apr.qa.gate import Report


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command asks of the gates, which answer with a hand-made report."""
    seen: dict[str, Any] = {"report": samples.healthy()}

    def answer(profile: str, judged: Judged, **options: Any) -> Report:
        reference = judged.reference.name if judged.reference is not None else None
        seen.update(options, profile=profile, reference=reference, previous=judged.previous, seed=judged.seed)
        report: Report = seen["report"]
        return report

    monkeypatch.setattr(gate, "run", answer)
    return seen


@pytest.mark.parametrize(("report", "exit_code"), [(samples.healthy(), 0), (samples.broken(), 1), (samples.short(), 5)])
def test_the_exit_code_is_the_verdicts(
    apr_command: Any, tiny_gguf: Path, asked: dict[str, Any], report: Report, exit_code: int
) -> None:
    asked["report"] = report
    done = apr_command("qa", tiny_gguf, "--json")
    assert done.exit_code == done.json()["exit_code"] == exit_code
    assert done.json()["gates"] == plain(report)["gates"]


def test_options_reach_the_gates(apr_command: Any, tiny_gguf: Path, asked: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "last.json").write_text(json.dumps(plain(samples.healthy())), encoding="utf-8")
    words = ("--profile", "release", "--only", "determinism", "--seed", "7", "--previous", tmp_path / "last.json")
    assert apr_command("qa", tiny_gguf, "--reference", tiny_gguf, *words).exit_code == 0
    assert (asked["profile"], asked["only"], asked["seed"]) == ("release", ("determinism",), 7)
    assert asked["reference"] == str(tiny_gguf) and asked["previous"]["schema"] == "apr.qa/1"


def test_the_original_beside_a_copy_is_found(apr_command: Any, asked: dict[str, Any], tmp_path: Path) -> None:
    copy = tiny.write(tmp_path, "gguf")
    original = copy.with_suffix(".apr")
    original.write_bytes(b"")
    assert apr_command("qa", copy).exit_code == 0
    assert asked["reference"] == str(original)


def test_a_page_and_junit_are_written(apr_command: Any, tiny_gguf: Path, asked: dict[str, Any], tmp_path: Path) -> None:
    del asked
    done = apr_command("qa", tiny_gguf, "--html", tmp_path / "qa.html", "--junit", tmp_path / "qa.xml")
    assert done.exit_code == 0 and done.err.count("report written to") == 2
    assert "<h1>" in (tmp_path / "qa.html").read_text(encoding="utf-8")
    assert ElementTree.parse(tmp_path / "qa.xml").getroot().attrib["tests"] == "2"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--only", "abacus"), "no gate 'abacus'"),
        (("--html", "nowhere/qa.html"), "create it first"),
        (("--junit", "nowhere/qa.xml"), "create it first"),
        (("--previous", "{model}"), "give what apr qa --json printed"),
    ],
)
def test_a_wrong_request_is_refused_before_any_work(
    apr_command: Any, tiny_gguf: Path, words: tuple[str, ...], said: str
) -> None:
    done = apr_command("qa", tiny_gguf, *(word.format(model=tiny_gguf) for word in words))
    assert done.exit_code == 2 and said in done.err


def test_an_endpoint_has_no_file_to_judge(apr_command: Any) -> None:
    done = apr_command("qa", "openai://127.0.0.1:1/x")
    assert done.exit_code == 2 and "next: apr parity MODEL" in done.err


def test_one_gate_of_a_tiny_model_is_judged_for_real(apr_command: Any, tiny_gguf: Path) -> None:
    done = apr_command("qa", tiny_gguf, "--only", "tensor_finite", "--json")
    assert done.exit_code == 0 and [g["id"] for g in done.json()["gates"]] == ["tensor_finite"]


def test_a_nan_in_the_weights_fails_for_real(apr_command: Any, damaged_gguf: Path) -> None:
    done = apr_command("qa", damaged_gguf, "--only", "tensor_finite")
    assert (
        done.exit_code == 1 and "✗ fail      tensor_finite" in done.out and f"next: apr why {damaged_gguf}" in done.out
    )
