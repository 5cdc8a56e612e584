"""The block in a model card: replaced in its place, all else kept; its metadata as huggingface_hub reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

import ship_plans
from apr.errors import UsageError
from apr.ledger.ship import ShipReport
from apr.reports import _model_card
from apr.reports._model_card import BEGIN, END

CARD = """---
license: apache-2.0
base_model: org/original
model-index:
- name: theirs
  results:
  - task:
      type: text-generation
    dataset:
      type: openai/openai_humaneval
      name: HumanEval
    metrics:
    - type: pass@1
      value: 0.61
---

# A model

Mine.
"""


@pytest.fixture
def report(tmp_path: Path) -> ShipReport:
    ship_plans.make(tmp_path)
    ship_plans.ran(tmp_path, {**ship_plans.ALL, "F-4": "fail"})
    return ship_plans.report(tmp_path)


def test_a_card_is_made_where_there_is_none(report: ShipReport, tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    _model_card.save(report, path)
    card = ModelCard.load(path)
    (score,) = card.data.eval_results
    assert (score.metric_type, score.metric_value, score.dataset_name) == ("pass@1", 0.55, "HumanEval")
    assert score.metric_args == {"n": 164, "interval": [0.47, 0.63]}
    assert "| AC-1 | ✓ discharged | it loads |" in card.text and "2 of 3 acceptance criteria" in card.text
    assert f"`model.gguf` SHA-256 `{report.models[0].files['model.gguf']}`" in card.text
    assert "| humaneval, pass\\@1, chat | 0.55 | 0.47 to 0.63 | 164 |" in card.text


def test_all_else_stays_and_writing_twice_changes_nothing(report: ShipReport, tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(CARD + "\nThe end.\n", encoding="utf-8")
    _model_card.save(report, path)
    once = path.read_bytes()
    _model_card.save(report, path)
    assert path.read_bytes() == once
    card = ModelCard.load(path)
    assert (card.data.license, card.data.base_model, card.data.model_name) == ("apache-2.0", "org/original", "theirs")
    assert sorted(one.metric_value for one in card.data.eval_results) == [0.55, 0.61]
    assert "# A model\n\nMine.\n\nThe end.\n" in card.text and card.text.count(BEGIN) == 1


def test_the_block_is_replaced_where_it_stands(report: ShipReport, tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(f"# A\n\n{BEGIN}\nold\n{END}\n\nafter\n", encoding="utf-8")
    _model_card.save(report, path)
    text = path.read_text(encoding="utf-8")
    assert "\nold\n" not in text and text.endswith(f"{END}\n\nafter\n") and "# A\n" in text


def test_scores_that_no_longer_hold_go(report: ShipReport, tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(CARD, encoding="utf-8")
    _model_card.save(report, path)
    (tmp_path / "small.yaml").write_text(ship_plans.CONTRACT.replace("it is sound", "it is so"), encoding="utf-8")
    _model_card.save(ship_plans.report(tmp_path), path)
    assert [one.metric_value for one in ModelCard.load(path).data.eval_results] == [0.61]


def test_without_a_score_the_metadata_are_not_touched(tmp_path: Path) -> None:
    ship_plans.make(tmp_path)
    path = tmp_path / "README.md"
    head = "---\nlicense:   mit # a comment\n---\n"
    path.write_text(head + "text\n", encoding="utf-8")
    _model_card.save(ship_plans.report(tmp_path), path)
    assert path.read_text(encoding="utf-8").startswith(head)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"{BEGIN}\n", "do not stand once"),
        (f"{END}\n{BEGIN}\n", "do not stand once"),
        (f"{BEGIN}{END}{BEGIN}{END}", "do not stand once"),
        ("---\nlicense: [\n---\n", "metadata cannot be read"),
        ("---\n- a\n---\n", "metadata cannot be read"),
        ("---\nmodel-index: 7\n---\n", "metadata cannot be read"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_a_card_that_cannot_be_understood_is_left_as_it_is(
    content: str | bytes, said: str, report: ShipReport, tmp_path: Path
) -> None:
    path = tmp_path / "README.md"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    before = path.read_bytes()
    with pytest.raises(UsageError, match=said):
        _model_card.save(report, path)
    assert path.read_bytes() == before


def test_what_a_contract_says_is_no_markup(tmp_path: Path) -> None:
    ship_plans.make(tmp_path)
    path = tmp_path / "small.yaml"
    path.write_text(ship_plans.CONTRACT.replace("it loads", "'a | b <script> [y](z)'"), encoding="utf-8")
    report = ship_plans.report(tmp_path)
    assert "| a \\| b &lt;script&gt; \\[y\\]\\(z\\)" in _model_card.block(report, report.models[0])


def test_a_plan_of_several_models_needs_a_name(tmp_path: Path) -> None:
    second = ship_plans.PLAN.replace("\nmodels:", "").replace("id: M\n", "id: N\n")
    ship_plans.make(tmp_path, plan=ship_plans.PLAN + second.lstrip("\n"))
    ship_plans.ran(tmp_path)
    report = ship_plans.report(tmp_path)
    with pytest.raises(UsageError, match="name it with --model: M, N"):
        _model_card.save(report, tmp_path / "README.md")
    _model_card.save(report, tmp_path / "README.md", model="N")
