"""Predictions as text: the verdict first, both values of what differs, and what can be told apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import scripted
from apr.ledger import _experiment
from apr.reports import _predict
from ledger import predictions

CHAT, RAW = scripted.chat(predictions.QUESTION), scripted.raw(predictions.QUESTION)


def shown(folder: Path, *, chat: str = "six", raw: str = " 4", **parts: Any) -> str:
    model = scripted.write(folder)
    file = predictions.file_of(folder, **parts)
    assert model.name == "model.gguf"
    load = predictions.loader(scripted.Script(model, {CHAT: chat, RAW: raw}))
    return _predict.predict(_experiment.run(file, load=load))


def test_the_verdict_comes_first_and_what_it_means_second(tmp_path: Path) -> None:
    first, second, *_ = shown(tmp_path).splitlines()
    assert first == "✓ P-1  control fail, experiment pass" and second == "  so  the template is at fault"


def test_what_follows_from_the_declared_field_stands_beside_it(tmp_path: Path) -> None:
    said = shown(tmp_path)
    assert "varies  regime: chat → raw  (template.decision, prompt_text, prompt_token_ids)" in said
    assert "confound" not in said and "model     ✗ refuted" in said


def test_confounds_have_both_values(tmp_path: Path) -> None:
    said = shown(tmp_path, experiment={"max_tokens": 4, "system": None})
    assert said.startswith("⊘ P-1  not comparable") and "confound  max_tokens: 8 → 4" in said


def test_the_run_that_would_tell_is_named(tmp_path: Path) -> None:
    blame = [{"id": name, "says": name, "blames": name} for name in ("engine", "max_tokens")]
    said = shown(tmp_path, hypotheses=blame, experiment={"max_tokens": 4, "engine": "numpy"})
    assert "not told apart, whatever comes out: engine / max_tokens" in said
    assert "one more run: the control with engine numpy (control-with-engine) tells apart engine / max_tokens" in said


def test_what_a_model_writes_cannot_steer_the_terminal(tmp_path: Path) -> None:
    said = shown(tmp_path, raw="4\x1b[2J", outcomes=[{"means": "\x1b[31mred"}])
    assert "\x1b" not in said and "\\x1b" in said


def test_it_is_said_when_no_hypothesis_is_left(tmp_path: Path) -> None:
    said = shown(tmp_path, chat=" 4")
    assert "every hypothesis is refuted" in said and "not told apart" not in said
