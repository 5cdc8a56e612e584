"""`apr parity` from the command line: what it asks for, prints, writes, and exits with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import BashComplete

import parity_samples as samples
import tiny
from apr._plain import plain
from apr.cli import _chain, _progress, group
from apr.parity import chain
from apr.parity._report import ParityReport


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command asks of the chain, which answers with a hand-made report."""
    seen: dict[str, Any] = {"report": samples.healthy()}

    def answer(reference: str, candidate: str, **options: Any) -> ParityReport:
        seen.update(options, reference=reference, candidate=candidate)
        report: ParityReport = seen["report"]
        return report

    monkeypatch.setattr(chain, "parity", answer)
    return seen


def test_two_formats_of_one_model_are_the_same(apr_command: Any, tmp_path: Path) -> None:
    a, b = (tiny.write(tmp_path / kind, kind) for kind in ("safetensors", "gguf"))
    done = apr_command("parity", a, b, "--only", "metadata", "--only", "weights", "--json")
    report = done.json()
    assert done.exit_code == report["exit_code"] == 0 and report["verdict"] == "same"
    assert [link["link"] for link in report["links"]] == ["metadata", "weights"]


def test_another_weight_is_a_difference_and_exit_code_1(apr_command: Any, tmp_path: Path) -> None:
    weights = tiny.tensors(tiny.config())
    weights["model.layers.1.mlp.up_proj.weight"] = weights["model.layers.1.mlp.up_proj.weight"] * 2
    a, b = tiny.write(tmp_path / "a", "gguf"), tiny.write(tmp_path / "b", "gguf", weights=weights)
    done = apr_command("parity", a, b, "--only", "weights", "--html", tmp_path / "page.html")
    assert done.exit_code == 1 and "✗ different  weights" in done.out
    assert "model.layers.1.mlp.up_proj.weight" in done.out
    assert f"next: apr why {a} {b}" in done.out
    assert "up_proj" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert done.err == f"apr: report written to {tmp_path / 'page.html'}\n"


def test_options_reach_the_chain(apr_command: Any, tiny_gguf: Path, asked: dict[str, Any]) -> None:
    words = ("--only", "tokens", "--only", "logits", "--regime", "raw", "--threads", "3", "--fast", "--seed", "7")
    assert apr_command("parity", tiny_gguf, f"{tiny_gguf}@numpy", *words).exit_code == 0
    del asked["report"]
    assert asked == {
        "reference": str(tiny_gguf), "candidate": f"{tiny_gguf}@numpy", "only": ("tokens", "logits"), "regimes": ("raw",), "threads": 3,
        "activations": "int8", "seed": 7, "progress": None,
    }  # fmt: skip


def test_exact_activations_are_the_default(apr_command: Any, tiny_gguf: Path, asked: dict[str, Any]) -> None:
    apr_command("parity", tiny_gguf, tiny_gguf)
    assert asked["activations"] == "float32" and asked["only"] == () and asked["seed"] == 0


@pytest.mark.parametrize("exit_code", [0, 1, 5])
def test_the_exit_code_is_the_report_s(
    apr_command: Any, tiny_gguf: Path, asked: dict[str, Any], exit_code: int
) -> None:
    report = samples.as_parity(samples.broken())
    asked["report"] = ParityReport(
        report.reference, report.candidate, report.verdict, False, report.links, 1.0, exit_code
    )
    assert apr_command("parity", tiny_gguf, tiny_gguf).exit_code == exit_code


@pytest.mark.parametrize(
    "make", [samples.healthy, lambda: samples.as_parity(samples.broken()), lambda: samples.as_parity(samples.hostile())]
)
def test_json_is_the_report_and_keeps_its_schema(
    apr_command: Any, tiny_gguf: Path, asked: dict[str, Any], make: Any
) -> None:
    asked["report"] = make()
    done = apr_command("parity", tiny_gguf, tiny_gguf, "--json")
    assert done.json() == json.loads(json.dumps(plain(make())))
    assert list(done.json()) == [
        "schema",
        "reference",
        "candidate",
        "verdict",
        "benign",
        "links",
        "seconds",
        "exit_code",
        "regimes",
    ]
    assert all(
        list(link) == ["link", "verdict", "sentence", "measure", "findings", "seconds"] for link in done.json()["links"]
    )
    assert done.err == ""


def test_a_link_that_does_not_exist_is_a_usage_error(apr_command: Any, tiny_gguf: Path) -> None:
    done = apr_command("parity", tiny_gguf, tiny_gguf, "--only", "vibes")
    assert done.exit_code == 2 and "'vibes'" in done.err and "generation" in done.err


def test_a_model_that_is_not_there_is_a_usage_error_before_any_work(
    apr_command: Any, tiny_gguf: Path, asked: dict[str, Any]
) -> None:
    done = apr_command("parity", tiny_gguf, "no-such-model")
    assert done.exit_code == 2 and "no-such-model" in done.err and "reference" not in asked


@pytest.mark.parametrize("place", ["no/such/folder/page.html", "model.gguf"])
def test_a_page_is_never_written_over_a_model_or_into_nothing(
    apr_command: Any, tmp_path: Path, asked: dict[str, Any], place: str
) -> None:
    model = tiny.write(tmp_path, "gguf")
    before = model.read_bytes()
    done = apr_command("parity", model, model, "--html", tmp_path / place)
    assert done.exit_code == 2 and "--html" in done.err and "reference" not in asked
    assert model.read_bytes() == before


def test_an_answer_is_not_lost_with_its_page(
    apr_command: Any, tmp_path: Path, tiny_gguf: Path, asked: dict[str, Any]
) -> None:
    target = tmp_path / "target.html"
    target.touch()
    (tmp_path / "page.html").symlink_to(target)  # nothing is written through links
    done = apr_command("parity", tiny_gguf, tiny_gguf, "--html", tmp_path / "page.html", "--json")
    assert done.exit_code == 2 and "symbolic link" in done.err and done.json()["verdict"] == "same"
    assert target.read_bytes() == b""


def test_a_page_can_be_written_again(apr_command: Any, tmp_path: Path, tiny_gguf: Path, asked: dict[str, Any]) -> None:
    for _ in range(2):
        assert apr_command("parity", tiny_gguf, tiny_gguf, "--html", tmp_path / "page.html", "--json").exit_code == 0
    assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_run_records_are_known_by_what_they_say(tmp_path: Path) -> None:
    record, other, model = (tmp_path / name for name in ("run.json", "other.json", "model.gguf"))
    record.write_text('{"schema": "apr.run/1", "text": "x"}')
    other.write_text('{"schema": "apr.inspect/1"}')
    model.write_bytes(b"GGUF")
    assert [_chain.is_record(str(p)) for p in (record, other, model, tmp_path, tmp_path / "none.json")] == [True] + [
        False
    ] * 4


def test_a_file_of_nested_brackets_is_no_record(tmp_path: Path) -> None:
    deep = tmp_path / "deep.json"
    deep.write_text("[" * 200_000)
    assert not _chain.is_record(str(deep))


@pytest.fixture
def records(apr_command: Any, tiny_gguf: Path, tmp_path: Path) -> Any:
    """Keep runs of a tiny model: `records(name, *options)` is the file."""

    def keep(name: str, *options: str) -> Path:
        file = tmp_path / f"{name}.json"
        assert apr_command("run", tiny_gguf, "Hi", "--max-tokens", "4", "--record", file, *options).exit_code == 0
        return file

    return keep


def test_two_records_of_one_command_are_the_same(apr_command: Any, records: Any) -> None:
    done = apr_command("parity", records("a"), records("b"), "--json")
    assert done.exit_code == 0 and done.json()["verdict"] == "same"
    assert [link["link"] for link in done.json()["links"]] == ["generation"]


def test_records_of_two_questions_are_not_comparable_and_the_field_is_named(apr_command: Any, records: Any) -> None:
    a, b = records("a"), records("b", "--raw")
    done = apr_command("parity", a, b)
    assert done.exit_code == 5 and "⊘ not comparable" in done.out and "template.decision" in done.out


def test_what_is_under_test_may_differ_between_records(apr_command: Any, records: Any) -> None:
    a, b = records("a"), records("b", "--seed", "7")
    assert apr_command("parity", a, b).exit_code == 5
    assert apr_command("parity", a, b, "--under-test", "sampling").exit_code == 0  # greedy: no seed is drawn from


@pytest.mark.parametrize("words", [("--only", "logits"), ("--under-test", "vibes")])
def test_records_refuse_what_makes_no_sense(apr_command: Any, records: Any, words: tuple[str, str]) -> None:
    done = apr_command("parity", records("a"), records("b"), *words)
    assert done.exit_code == 2 and (words[0] in done.err or words[1] in done.err)


def test_a_record_and_a_model_are_not_compared(apr_command: Any, records: Any, tiny_gguf: Path) -> None:
    record = records("a")
    for command in ("parity", "why"):
        done = apr_command(command, tiny_gguf, record)
        assert done.exit_code == 2 and f"{record} is a run record" in done.err
    assert apr_command("why", record).exit_code == 2
    assert apr_command("parity", tiny_gguf, tiny_gguf, "--under-test", "engine").exit_code == 2


def test_a_record_that_contradicts_itself_is_rejected(apr_command: Any, records: Any) -> None:
    a = records("a")
    changed = json.loads(a.read_text())
    changed["output_token_ids"] = changed["output_token_ids"][:-1]
    b = a.with_name("changed.json")
    b.write_text(json.dumps(changed))
    done = apr_command("parity", a, b)
    assert done.exit_code == 3 and str(b) in done.err


def test_the_link_under_test_is_said_on_a_terminal_that_knows_only_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_progress, "_SHOW_AFTER_S", 0.0)
    monkeypatch.setenv("TERM", "dumb")
    line = _chain._Line("comparing")
    line._timer.join()
    for phase, done in (("weights", 0.0), ("weights", 0.5), ("logits: \x1b[2J", 0.1)):
        line.show(phase, done)
    line.close()
    line.show("generation", 0.0)
    assert capsys.readouterr().err == "apr: comparing weights …\napr: comparing logits: \\x1b[2J …\n"


def test_a_link_that_is_silent_for_long_is_said_too_and_a_short_one_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_progress, "_SHOW_AFTER_S", 3600.0)
    monkeypatch.setenv("TERM", "dumb")
    line = _chain._Line("comparing")
    line.show("weights", 0.0)
    assert capsys.readouterr().err == ""
    line._begin()  # what the timer does
    line.close()
    assert capsys.readouterr().err == "apr: comparing weights …\n" and not line._timer.is_alive()


def test_nothing_is_said_in_a_pipe() -> None:
    with _chain.testing() as progress:
        assert progress is None


def test_models_and_links_complete() -> None:
    def complete(words: str, incomplete: str) -> list[str]:
        return [
            item.value
            for item in BashComplete(group, {}, "apr", "_APR_COMPLETE").get_completions(words.split(), incomplete)
        ]

    assert complete("parity", "smo") == ["smollm2"] == complete("parity smollm2", "smo")
    assert complete("parity a b --only", "w") == ["weights"]
