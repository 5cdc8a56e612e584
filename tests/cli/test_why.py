"""`apr why` from the command line: the sentence first, the exit code of the report, nothing on stderr in a pipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import parity_samples as samples
import tiny
from apr._plain import plain
from apr.parity import why as why_module
from apr.parity._report import WhyReport


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command asks for, and a hand-made answer."""
    seen: dict[str, Any] = {"report": samples.broken()}

    def answer(*subjects: str, **options: Any) -> WhyReport:
        seen.update(options, subjects=subjects)
        report: WhyReport = seen["report"]
        return report

    monkeypatch.setattr(why_module, "why", answer)
    monkeypatch.setattr(why_module, "why_one", answer)
    return seen


def test_a_wrong_key_is_named_first(apr_command: Any, tmp_path: Path) -> None:
    a = tiny.write(tmp_path / "a", "gguf")
    b = tiny.write(tmp_path / "b", "gguf", tiny.config(rope_theta=500000.0))
    done = apr_command("why", a, b, "--json")
    report = done.json()
    assert done.exit_code == 1 and (report["link"], report["cause"]) == ("metadata", "metadata.value")
    assert report["where"]["key"] == "rope_theta" and report["proof"]["downstream"] == "same"
    assert len(report["whys"]) == 5


def test_the_same_model_in_another_format_has_no_cause(apr_command: Any, tmp_path: Path) -> None:
    a, b = (tiny.write(tmp_path / kind, kind) for kind in ("safetensors", "gguf"))
    done = apr_command("why", a, b)
    assert done.exit_code == 0 and done.out.startswith("✓ ") and "there is no defect to look for" in done.out
    assert done.err == ""


def test_options_reach_the_walk(apr_command: Any, tiny_gguf: Path, tmp_path: Path, asked: dict[str, Any]) -> None:
    words = ("--threads", "1", "--fast", "--seed", "3")
    assert apr_command("why", tiny_gguf, f"{tiny_gguf}@numpy", *words).exit_code == 1
    del asked["report"]
    assert asked == {
        "subjects": (str(tiny_gguf), f"{tiny_gguf}@numpy"), "threads": 1, "activations": "int8", "seed": 3, "progress": None,
    }  # fmt: skip


def test_one_model_alone_is_asked_about_alone(apr_command: Any, tiny_gguf: Path, asked: dict[str, Any]) -> None:
    apr_command("why", tiny_gguf)
    assert asked["subjects"] == (str(tiny_gguf),)


@pytest.mark.parametrize("make", [samples.benign, samples.broken, samples.hostile])
def test_json_is_the_report_and_keeps_its_schema(
    apr_command: Any, tiny_gguf: Path, asked: dict[str, Any], make: Any
) -> None:
    asked["report"] = make()
    done = apr_command("why", tiny_gguf, tiny_gguf, "--json")
    assert done.json() == json.loads(json.dumps(plain(make()))) and done.exit_code == make().exit_code
    assert list(done.json()) == (
        [
            "schema",
            "reference",
            "candidate",
            "verdict",
            "link",
            "cause",
            "where",
            "sentence",
            "whys",
            "proof",
            "also",
            "links",
            "benign",
            "seconds",
            "records",
            "exit_code",
        ]
    )


def test_a_page_is_written_beside_the_answer(
    apr_command: Any, tiny_gguf: Path, tmp_path: Path, asked: dict[str, Any]
) -> None:
    done = apr_command("why", tiny_gguf, tiny_gguf, "--html", tmp_path / "why.html")
    assert done.out.startswith("✗ First broken link: metadata") and done.exit_code == 1
    assert "<h1>First broken link: metadata" in (tmp_path / "why.html").read_text(encoding="utf-8")


def test_a_model_that_is_not_there_is_a_usage_error(apr_command: Any, tiny_gguf: Path) -> None:
    done = apr_command("why", tiny_gguf, "no-such-model")
    assert done.exit_code == 2 and "no-such-model" in done.err


def test_the_runs_are_kept_and_can_be_compared(apr_command: Any, tmp_path: Path, asked: dict[str, Any]) -> None:
    a, b = (tiny.write(tmp_path / kind, kind) for kind in ("safetensors", "gguf"))
    done = apr_command("why", a, b, "--records", tmp_path / "runs", "--json")
    kept = [Path(file) for file in done.json()["records"]]
    assert sorted(kept) == sorted((tmp_path / "runs").iterdir())
    sides = [
        sorted(file.name.removeprefix(f"{side}-") for file in kept if file.name.startswith(side))
        for side in ("reference", "candidate")
    ]
    assert sides[0] == sides[1] and "chat-sum.json" in sides[0] and "pre-formatted-sum.json" in sides[0]
    pair = [tmp_path / "runs" / f"{side}-chat-sum.json" for side in ("reference", "candidate")]
    assert apr_command("parity", *pair, "--under-test", "model", "--under-test", "tokenizer").exit_code == 0


def test_a_side_that_cannot_be_run_does_not_cost_the_answer(
    apr_command: Any, tmp_path: Path, asked: dict[str, Any]
) -> None:
    whole = tiny.write(tmp_path, "gguf")
    torn = tmp_path / "torn.gguf"
    torn.write_bytes(whole.read_bytes()[:3000])
    done = apr_command("why", whole, torn, "--records", tmp_path / "runs")
    assert done.exit_code == 1 and done.out.startswith("✗ First broken link")
    assert "the runs of the candidate were not kept: " in done.err
    assert {file.name.partition("-")[0] for file in (tmp_path / "runs").iterdir()} == {"reference"}


def test_one_model_alone_has_no_runs_to_keep(apr_command: Any, tiny_gguf: Path, tmp_path: Path) -> None:
    assert apr_command("why", tiny_gguf, "--records", tmp_path).exit_code == 2
