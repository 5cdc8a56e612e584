"""`apr convert --quantize`, `--report` and `--verify` as they are typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import quantised_copies
from apr.formats import open_model
from apr.parity import _tensor_loss


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return quantised_copies.original(tmp_path / "source")


def test_quantised_measured_and_said_in_the_file_and_on_the_card(
    apr_command: Any, source: Path, tmp_path: Path
) -> None:
    target, card = tmp_path / "q.gguf", tmp_path / "README.md"
    card.write_text("# Mine\n", encoding="utf-8")
    result = apr_command("convert", source, "-o", target, "--quantize", "Q4_K_M", "--card", card, "--json").json()
    assert (result["quantized_to"], result["n_quantized"]) == ("q4_k_m", 16)
    loss = result["loss"]
    assert loss["schema"] == "apr.loss/1" and loss["n_measured"] == 21 and loss["refusals"] == []
    with open_model(target) as file:
        said = json.loads(file.metadata["apr.loss"])
    assert said["forced"] is False and said["n_measured"] == 21 and "raw" in said["regimes"]
    text = card.read_text(encoding="utf-8")
    assert text.startswith("# Mine\n") and "## What q.gguf lost" in text and "| raw |" in text
    shown = apr_command("convert", source, "-o", target, "--quantize", "q4_k_m", "--report", "--force").out
    assert "16 quantised to q4_k_m" in shown and "an honest rounding" in shown and "all 21 compared" in shown


def test_a_loss_that_is_none_is_refused_unless_it_is_forced(
    apr_command: Any, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_tensor_loss.LADDER, "q4_k", 1e-3)
    target = tmp_path / "q.gguf"
    outcome = apr_command("convert", source, "-o", target, "--quantize", "q4_k_m", "--report")
    assert outcome.exit_code != 0 and "no honest rounding" in outcome.err and not target.exists()
    assert apr_command("convert", source, "-o", target, "--quantize", "q4_k_m", "--report", "--force").exit_code == 0
    with open_model(target) as file:
        assert json.loads(file.metadata["apr.loss"])["forced"] is True


def test_verify_says_whether_one_was_made_from_the_other(apr_command: Any, source: Path, tmp_path: Path) -> None:
    copy = quantised_copies.quantised(source, tmp_path / "q.gguf")
    outcome = apr_command("convert", "--verify", source, copy)
    assert outcome.exit_code == 0 and "✓ made from it" in outcome.out and "bit for bit" in outcome.out
    assert "weights    ≈ benign" in outcome.out and "different" not in outcome.out
    quantised_copies.with_wrong_scales(copy, by=1.3)
    result = apr_command("convert", "--verify", source, copy, "--json")
    assert (result.exit_code, result.json()["answer"]) == (1, "not_made")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{source}"], "give the model and --output OUT"),
        (["{source}", "-o", "{out}", "--report"], "belong to --quantize MIXTURE"),
        (["{source}", "-o", "{out}", "--quantize", "q9"], "no mixture is called 'q9'"),
        (["{source}", "-o", "{out}", "--verify", "a", "b"], "--verify A B writes nothing"),
        (["{source}", "-o", "{out}", "--quantize", "q8_0", "--card", "gone/README.md"], "gone is not a folder"),
    ],
)
def test_what_cannot_be_asked_is_said(
    arguments: list[str], said: str, apr_command: Any, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "q.gguf"
    outcome = apr_command("convert", *(word.format(source=source, out=out) for word in arguments))
    assert outcome.exit_code == 2 and said in outcome.err and not out.exists()


def test_an_importance_matrix_from_text_to_file(apr_command: Any, source: Path, tmp_path: Path) -> None:
    text, matrix = tmp_path / "text.txt", tmp_path / "m.gguf"
    text.write_text("the rain in spain stays mainly in the plain " * 40, encoding="utf-8")
    shown = apr_command("imatrix", source, text, "-o", matrix, "--chunk", "64", "--limit", "2")
    assert shown.exit_code == 0 and "128 tokens in 2 chunks of 64" in shown.out
    target = tmp_path / "q.gguf"
    apr_command("convert", source, "-o", target, "--quantize", "q4_k_m", "--imatrix", matrix)
    with_it = apr_command("convert", "--verify", source, target, "--imatrix", matrix, "--json").json()
    without = apr_command("convert", "--verify", source, target, "--json").json()
    assert (with_it["n_rounded"], with_it["answer"], without["answer"]) == (0, "made", "made")
    assert without["n_rounded"] > 0
