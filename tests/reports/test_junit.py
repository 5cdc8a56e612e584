"""Verdicts of gates as JUnit XML: what is not a pass must not look like one."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import gate_samples as samples
from apr.reports import junit


def test_junit_counts_what_is_there() -> None:
    suite = ElementTree.fromstring(junit.document(samples.broken()))
    counted = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
    assert counted == {"tests": 6, "failures": 1, "errors": 2, "skipped": 1}
    outcomes = {case.attrib["name"]: [child.tag for child in case] for case in suite.iter("testcase")}
    assert outcomes == {
        "file_structure": [],
        "tensor_contract": ["failure"],
        "determinism": ["error"],
        "throughput": ["error"],
        "regression": ["system-out"],
        "format_parity": ["skipped"],
    }
    for tag, name in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        assert len(list(suite.iter(tag))) == counted[name]


def test_a_run_that_tested_too_little_is_not_green_in_junit() -> None:
    suite = ElementTree.fromstring(junit.document(samples.short()))
    assert suite.attrib["errors"] == "1" and suite.find(".//error").attrib["type"] == "undecided"  # type: ignore[union-attr]
    assert ElementTree.fromstring(junit.document(samples.healthy())).attrib["errors"] == "0"


def test_a_report_is_saved_whole(tmp_path: Path) -> None:
    junit.save(samples.broken(), tmp_path / "qa.xml")
    assert (tmp_path / "qa.xml").read_text(encoding="utf-8") == junit.document(samples.broken())
    assert ElementTree.parse(tmp_path / "qa.xml").getroot().tag == "testsuite"
