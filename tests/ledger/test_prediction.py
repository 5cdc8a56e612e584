"""A file of predictions, read."""

from __future__ import annotations

import hashlib
import re
import textwrap
from pathlib import Path

import pytest

from apr.errors import PredictionError
from apr.ledger import prediction
from ledger import predictions


def test_a_file_is_read_and_its_bytes_are_hashed(tmp_path: Path) -> None:
    path = predictions.write(tmp_path)
    found = prediction.read(path)
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest() == prediction.sha256_of(path)
    (one,) = found.predictions
    assert (one.id, one.varies, one.line) == ("P-1", "regime", 3)
    assert (one.settings("control").regime, one.settings("experiment").regime) == ("chat", "raw")


def test_the_first_row_that_fits_gives_the_meaning(tmp_path: Path) -> None:
    one = predictions.one(tmp_path)
    assert one.meaning({"control": "fail", "experiment": "pass"}) == "the template is at fault"
    assert one.meaning({"control": "pass", "experiment": "fail"}) == "nothing is wrong with the template"


def test_results_without_a_meaning_are_known_before_the_runs(tmp_path: Path) -> None:
    assert predictions.one(tmp_path).uncovered == ()
    one = predictions.one(tmp_path, outcomes=[{"experiment": "pass", "means": "green"}])
    assert one.uncovered == (
        {"control": "pass", "experiment": "fail"},
        {"control": "fail", "experiment": "fail"},
    )


def test_the_weights_of_a_run_are_its_model(tmp_path: Path) -> None:
    assert predictions.one(tmp_path).control.value("weights") == "model.gguf"


def test_a_folder_is_no_file_of_predictions(tmp_path: Path) -> None:
    with pytest.raises(PredictionError, match="is no plain file"):
        prediction.read(tmp_path)


def test_the_examples_of_the_page_and_of_the_module_are_in_the_form(tmp_path: Path) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "predictions.md"
    (of_page,) = re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    of_module = textwrap.dedent(str(prediction.__doc__).split("\n\n")[1])
    for text in (of_page, of_module):
        path = tmp_path / "p.yaml"
        path.write_text(text, encoding="utf-8")
        (one,) = prediction.read(path).predictions
        assert one.varies == "regime" and [c.id for c in one.candidates] == ["exact"]
