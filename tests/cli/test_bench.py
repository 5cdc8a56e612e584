"""`apr bench` whole: real processes over a tiny model, and the exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny
from apr import hub
from apr.bench import _machine
from cli.conftest import Apr

QUICK = ("--prompt-tokens", "12", "--new-tokens", "6", "--repeats", "1", "--threads", "1")


@pytest.fixture(scope="module")
def smollm2() -> Path:
    """Resolved before the home is an empty one."""
    return hub.resolve("smollm2")


@pytest.fixture
def small_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads of a size that takes no time."""
    read = _machine.read_bandwidth
    monkeypatch.setattr(_machine, "read_bandwidth", lambda threads: read(threads, n_bytes=1 << 24))


@pytest.mark.usefixtures("small_reads")
def test_two_engines_are_proved_and_timed(apr_command: Apr, tmp_path: Path) -> None:
    path, picture = tiny.write(tmp_path, "gguf", codec="q8_0"), tmp_path / "speed.svg"
    found = apr_command("bench", path, "--vs", "numpy", *QUICK, "--json", "--svg", picture)
    report = found.json()
    assert (found.exit_code, report["verdict"], report["schema"]) == (0, "measured", "apr.bench/1")
    assert [check["is_same"] for check in report["greedy"]] == [True]
    assert [(a["engine"], a["is_same"]) for a in report["agreements"]] == [("native", True), ("numpy", True)]
    for row in report["speeds"]:
        assert row["prompt_tokens"] == 12 and row["decode_tok_per_s"]["median"] > 0 and row["peak_bytes"] > 1 << 24
    assert {row["figure"] for row in report["ratios"]} == {"decode", "prefill", "load", "first_token", "memory"}
    assert report["model"]["bytes_per_token"] < report["model"]["size_bytes"]
    assert picture.read_text(encoding="utf-8").startswith("<svg") and "picture written to" in found.err


@pytest.mark.usefixtures("small_reads")
def test_a_person_gets_a_table(apr_command: Apr, tiny_gguf: Path) -> None:
    found = apr_command("bench", tiny_gguf, *QUICK)
    assert found.exit_code == 0 and "DECODE tok/s" in found.out and "proved before timing" in found.out


def test_an_engine_that_runs_no_such_file_is_a_usage_error(apr_command: Apr, tmp_path: Path) -> None:
    path = tiny.write(tmp_path, "apr")
    found = apr_command("bench", path, "--vs", "llama-cpp", *QUICK)
    assert found.exit_code == 2 and "GGUF" in found.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--svg", "nowhere/a.svg"), "is not a folder"),
        (("--prompt-tokens", "999"), "shorter --prompt-tokens"),
        (("--vs", "openai"), "is not one of"),
        (("--new-tokens", "1"), "new-tokens"),
    ],
)
def test_what_cannot_be_measured_is_said_at_once(
    arguments: tuple[str, str], said: str, apr_command: Apr, tiny_gguf: Path
) -> None:
    found = apr_command("bench", tiny_gguf, *arguments)
    assert found.exit_code == 2 and said in found.err


def test_an_endpoint_is_refused(apr_command: Apr) -> None:
    found = apr_command("bench", "openai://localhost:1/x")
    assert found.exit_code == 2 and "another machine" in found.err


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parity
def test_smollm2_is_measured_beside_llama_cpp(apr_command: Apr, smollm2: Path) -> None:
    pytest.importorskip("xllamacpp")
    found = apr_command("bench", smollm2, "--vs", "llama-cpp", "--prompt-tokens", "32", "--repeats", "2", "--json")
    report = found.json()
    assert (found.exit_code, report["refused"]) == (0, {})
    assert {row["engine"] for row in report["speeds"]} == {"native", "llama-cpp"}
