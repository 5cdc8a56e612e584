"""`apr inspect`, `tensors`, `validate` and `convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tiny
from apr.qa import gate


@pytest.mark.parametrize("file_format", tiny.FORMATS)
def test_inspect_says_what_every_format_is(apr_command: Any, tmp_path: Path, file_format: str) -> None:
    path = tiny.write(tmp_path / "m", file_format)
    result = apr_command("inspect", path, "--json").json()
    assert result["format"] == file_format and result["config"]["hidden_size"] == 64
    assert "2 layers, hidden 64" in apr_command("inspect", path).out


def test_inspect_shows_the_files_own_keys_when_asked(apr_command: Any, tiny_gguf: Path) -> None:
    assert "general.architecture = llama" in apr_command("inspect", tiny_gguf, "--metadata").out
    assert "general.architecture" in apr_command("inspect", tiny_gguf, "--metadata", "--json").json()["metadata"]


def test_tensors_lists_filters_and_limits(apr_command: Any, tiny_gguf: Path) -> None:
    result = apr_command("tensors", tiny_gguf, "--filter", "attn_q", "--limit", "1", "--json").json()
    assert [row["name"] for row in result["tensors"]] == ["blk.0.attn_q.weight"] and result["n_tensors"] == 21
    assert "\n\n21 of 21 tensors, " in apr_command("tensors", tiny_gguf).out


def test_tensors_without_a_match_says_so(apr_command: Any, tiny_gguf: Path) -> None:
    outcome = apr_command("tensors", tiny_gguf, "--filter", "zebra")
    assert outcome.exit_code == 0 and outcome.out.startswith("no tensor with 'zebra' in its name; ")


def test_tensor_statistics_count_what_is_not_a_number(apr_command: Any, damaged_gguf: Path) -> None:
    rows = apr_command("tensors", damaged_gguf, "--stats", "--filter", "blk.0.attn_q.", "--json").json()["tensors"]
    assert rows[0]["statistics"]["n_nan"] == 1
    assert "NAN" in apr_command("tensors", damaged_gguf, "--stats").out


def test_validate_passes_a_healthy_model(apr_command: Any, tiny_gguf: Path) -> None:
    outcome = apr_command("validate", tiny_gguf, "--json")
    assert outcome.exit_code == 0 and outcome.json()["verdict"] == "pass"


def test_validate_finds_a_nan_and_exits_1(apr_command: Any, damaged_gguf: Path) -> None:
    outcome = apr_command("validate", damaged_gguf, "--json")
    result = outcome.json()
    assert outcome.exit_code == 1 and result["verdict"] == "fail"
    assert "tensor_finite" in [g["id"] for g in result["gates"] if g["status"] == "fail"]
    assert "\nfail: " in apr_command("validate", damaged_gguf).out


def test_validate_that_tested_nothing_exits_5(
    apr_command: Any, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apr.qa.gate._run_one", _skipped)
    assert apr_command("validate", tiny_gguf).exit_code == 5


def _skipped(name: str, declared: gate.Gate, subject: object) -> gate.GateResult:
    return gate.GateResult(name, "skip", "off", "not looked at", (), declared.rationale, "", declared.severity, 0.0)


def test_convert_writes_a_model_that_validates(apr_command: Any, tiny_gguf: Path, tmp_path: Path) -> None:
    target = tmp_path / "new.apr"
    result = apr_command("convert", tiny_gguf, "-o", target, "--json").json()
    assert result["target_format"] == "apr" and apr_command("validate", target).exit_code == 0


def test_convert_refuses_to_overwrite_and_is_told_to(apr_command: Any, tiny_gguf: Path, tmp_path: Path) -> None:
    target = tmp_path / "new.apr"
    said = apr_command("convert", tiny_gguf, "-o", target).out
    assert f'apr run {target} "Hello"' in said.replace("\n", " ")
    assert apr_command("convert", tiny_gguf, "-o", target).exit_code == 2
    assert apr_command("convert", tiny_gguf, "-o", target, "--force").exit_code == 0


@pytest.mark.parametrize("name", ["inspect", "tensors", "validate"])
def test_a_damaged_header_is_rejected_with_its_byte(
    apr_command: Any, tiny_gguf: Path, tmp_path: Path, name: str
) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny_gguf.read_bytes()[:40])
    outcome = apr_command(name, cut, "--json")
    failure = outcome.json()
    assert outcome.exit_code == 3 == failure["exit_code"]
    assert failure["code"] == "truncated-file" and failure["path"] == str(cut) and failure["offset"] is not None
    assert outcome.err.startswith("apr: ")


def test_an_empty_file_is_called_empty(apr_command: Any, tmp_path: Path) -> None:
    (tmp_path / "e.gguf").touch()
    outcome = apr_command("inspect", tmp_path / "e.gguf")
    assert outcome.exit_code == 3 and "the file is empty" in outcome.err
