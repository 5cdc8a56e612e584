"""Scores as text: shares in percent, coverage, and what stands behind them."""

from __future__ import annotations

from apr.evals._report import EvalReport, Item, Score
from apr.evals._self_test import SelfTest
from apr.reports import _eval

REPORT = EvalReport(
    task="humaneval",
    model="m.gguf",
    model_sha256="ab" * 32,
    reference=None,
    scores=(
        Score("pass@1", "raw", 0.5, (0.2, 0.8), "wilson", 4, 164, "problems", 2),
        Score("pass@1", "chat", None, None, "", 0, 164, "problems", None, "the model has no chat template"),
        Score("perplexity", None, 12.34567, (11.0, 13.0), "bootstrap", 7, 7, "chunks", None),
    ),
    items=(Item("a", "raw", 2, 1, ("passed", "timeout")), Item("b", "raw", 2, 1, ("passed", "syntax"))),
    self_test=SelfTest(8, 8, 8, 0, 6, 0),
    confinement={"network": "namespace"},
    settings={},
    journal="/x/out.jsonl",
    n_resumed=3,
    n_cut_bytes=17,
    shards=2,
    seconds=1.25,
    exit_code=0,
)


def test_a_report_says_figures_coverage_and_reasons() -> None:
    said = _eval.evaluation(REPORT)
    for part in (
        "50.0 %", "20.0 % to 80.0 % (Wilson)", "2 passed, 4 of 164 problems", "12.346", "all 7 chunks",
        "pass@1, chat: the model has no chat template", "canonical solutions 8 of 8 pass, empty answers 0 of 8",
        "network: namespace", "timeout",
    ):  # fmt: skip
        assert part in said, part


def test_the_line_for_standard_error_says_what_was_there_and_what_was_cut() -> None:
    line = _eval.kept_line(REPORT)
    assert "/x/out.jsonl" in line and "3 answers were there" in line and "17 bytes" in line


def test_control_characters_of_a_model_stay_off_the_terminal() -> None:
    import dataclasses

    assert "\x1b" not in _eval.evaluation(dataclasses.replace(REPORT, model="\x1b[31mred"))
