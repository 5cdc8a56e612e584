"""Verdicts of gates as text and as a page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import gate_samples as samples
from apr._plain import plain
from apr.qa.gate import Report
from apr.reports import _gates, html
from browser import colours, light_colours, needs_browser, screenshot


def test_a_healthy_report_says_what_was_looked_at() -> None:
    said = _gates.gates(samples.healthy())
    assert "✓ pass      golden_output   6 of 6 answers (6 of 9 prompts)" in said
    assert said.endswith("pass: 2 gates, 2 pass; 3.5 s")


def test_a_broken_report_names_every_finding_and_what_to_type() -> None:
    said = _gates.gates(samples.broken())
    assert said.count("fail: blk.0.ffn_up.weight is \\u202e all zero") == 2
    assert "regression warns and blocks nothing" in said
    assert said.endswith("next: apr why model.gguf")


def test_too_few_results_are_said() -> None:
    assert "1 came to a result, the profile release demands 14" in _gates.gates(samples.short())


@pytest.mark.parametrize("report", [samples.healthy(), samples.broken(), samples.short()], ids=lambda r: r.verdict)
def test_the_page_holds_the_report_and_runs_nothing(report: Report, tmp_path: Path) -> None:
    source = html.page(report)
    found = re.search(r'<script type="application/json" id="apr-report">(.*?)</script>', source, re.DOTALL)
    assert found is not None and json.loads(found[1]) == plain(report)
    assert source.count("<script") == 1 and "style=" not in source
    assert not re.search(r'(src|href)="(?!#)', source)
    html.save(report, tmp_path / "qa.html")
    assert (tmp_path / "qa.html").read_text(encoding="utf-8") == source


def test_the_page_says_what_blocks_what_warns_and_what_was_not_tested() -> None:
    source = html.page(samples.broken())
    blocks, warns, skipped = (source.index(title) for title in ("What blocks", "Warnings", "Not tested"))
    assert (
        blocks
        < source.index("Why tensor_contract matters.")
        < warns
        < source.index("Why regression matters.")
        < skipped
    )
    assert "Not fit for release" in source and "zero &lt;b&gt;" in source and "\u202e" not in source
    assert "What blocks" not in html.page(samples.healthy())


@needs_browser
def test_a_browser_shows_each_verdict_in_its_colour(tmp_path: Path) -> None:
    found = colours(screenshot(samples.broken(), tmp_path, height=1900))
    light = light_colours()
    for name in ("different", "cannot_tell", "skipped", "same"):
        assert light[name] in found, f"nothing on the page has the colour of {name}"
    assert light["different"] not in colours(screenshot(samples.healthy(), tmp_path, height=900))
