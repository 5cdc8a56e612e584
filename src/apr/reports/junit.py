"""Verdicts of gates as JUnit XML, which continuous integration reads: a gate is a test case.

JUnit knows no "undecided": such a gate is an error of that type, because a run that decided nothing must not look green.
Form: https://github.com/testmoapp/junitxml
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from apr import _atomic
from apr.reports import _gates
from apr.reports.text import visible

if TYPE_CHECKING:
    from apr.qa.gate import GateResult, Report

_ELEMENTS = {"fail": "failure", "error": "error", "undecided": "error", "skip": "skipped"}


def document(report: Report) -> str:
    """The report as XML. A failed gate that only warns is a passed case whose output says so."""
    is_short = report.n_executed < report.minimum
    elements = [_element(result) for result in report.gates]
    suite = ElementTree.Element(
        "testsuite",
        name=f"apr qa {report.profile}",
        tests=str(len(report.gates) + is_short),
        failures=str(elements.count("failure")),
        errors=str(elements.count("error") + is_short),
        skipped=str(report.counts["skip"]),
        time=f"{report.seconds:.3f}",
    )
    properties = ElementTree.SubElement(suite, "properties")
    facts = {
        "model": report.subject,
        "model_sha256": report.model_sha256,
        "reference": report.reference,
        "computed_by": report.computed_by,
        "verdict": report.verdict,
    }
    for name, value in facts.items():
        if value is not None:
            ElementTree.SubElement(properties, "property", name=name, value=visible(value))
    for result in report.gates:
        _add(suite, result, report.profile)
    if is_short:
        case = ElementTree.SubElement(suite, "testcase", classname=f"apr.qa.{report.profile}", name="minimum")
        said = f"{report.n_executed} gates came to a result, the profile demands {report.minimum}"
        ElementTree.SubElement(case, "error", message=said, type="undecided")
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def save(report: Report, path: Path) -> None:
    """Write a report to a file, whole or not at all. Raises UsageError for a folder or a link; OSError."""
    _atomic.write_bytes(path, document(report).encode("utf-8"))


def _add(suite: ElementTree.Element, result: GateResult, profile: str) -> None:
    case = ElementTree.SubElement(
        suite, "testcase", classname=f"apr.qa.{profile}", name=result.id, time=f"{result.seconds:.3f}"
    )
    lines = "\n".join([visible(result.message), *_gates.told(result), f"why it matters: {result.rationale}"])
    element = _element(result)
    if element is not None:
        kind = "undecided" if result.status == "undecided" else result.code
        outcome = ElementTree.SubElement(case, element, message=visible(result.message), type=kind)
        outcome.text = None if element == "skipped" else lines
    elif result.status != "pass":
        ElementTree.SubElement(case, "system-out").text = f"warning: {lines}"


def _element(result: GateResult) -> str | None:
    """The element of a case that did not pass; None for one that passed or only warns."""
    is_warning = result.severity == "P1" and result.status in ("fail", "undecided")
    return None if is_warning else _ELEMENTS.get(result.status)
