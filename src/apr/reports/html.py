"""A comparison, or a verdict on a model, as one HTML file: nothing is fetched, nothing runs, what models say is text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from apr import _atomic
from apr.parity._link import LINKS
from apr.reports import _evidence, _html_charts, _html_gates, _html_maps, _html_page, _html_ship

if TYPE_CHECKING:
    from apr.ledger.ship import ShipReport
    from apr.parity._link import LinkResult
    from apr.parity._report import ParityReport, WhyReport
    from apr.qa.gate import Report

# what a page shows of each list; the data in it has all
LIMITS = {"findings": 50, "texts": 20, "renderings": 10, "tensors": 200, "slots": 50, "runs": 20, "strips": 40}
_DRAWN = [
    "renderings",
    "texts",
    "tensors",
    "maps",
    "bad",
    "regimes",
    "plot",
    "bands",
    "scatter",
    "strips",
    "counts",
    "runs",
]


def page(report: ParityReport | WhyReport | Report | ShipReport, *, at: Path = Path()) -> str:
    """A report as HTML. at: the folder that the page will lie in, where it links to files."""
    from apr.ledger.ship import ShipReport
    from apr.qa.gate import Report

    if isinstance(report, ShipReport):
        return _html_ship.page(report, at=at)
    return _html_gates.page(report) if isinstance(report, Report) else _comparison(report)


def save(report: ParityReport | WhyReport | Report | ShipReport, path: Path) -> None:
    """Write a report to a file, whole or not at all. Raises UsageError for a folder or a link; OSError."""
    _atomic.write_bytes(path, page(report, at=path.parent).encode("utf-8"))


def _comparison(report: ParityReport | WhyReport) -> str:
    return _html_page.render(
        "_report.html.j2",
        report,
        is_why=hasattr(report, "whys"),
        title=f"{report.schema.partition('/')[0].replace('.', ' ')}: {report.reference or ''} {report.candidate}",
        verdict=_evidence.state_of(report),
        headline=_headline(report),
        all_clear=_evidence.all_clear(report),
        chain=_chain(report),
        links=report.links,
        sections=[section for result in report.links if (section := _section(result)) is not None],
        next_command=_evidence.next_command(report),
        limits=LIMITS,
    )


def _headline(report: ParityReport | WhyReport) -> str:
    sentence: str | None = getattr(report, "sentence", None)
    if sentence is not None:
        return sentence
    said = _evidence.verdict_line(report)  # type: ignore[arg-type]
    return said[:1].upper() + said[1:]


def _chain(report: ParityReport | WhyReport) -> list[dict[str, Any]]:
    """All links of the chain with their states; those not in the report were not asked for."""
    known = {result.link: result for result in report.links}
    broken = getattr(report, "link", None)
    if broken is None:
        broken = next((r.link for r in report.links if _evidence.state(r) == "different"), None)
    return [
        {
            "link": link,
            "state": _evidence.state(known[link]) if link in known else "untested",
            "figure": _evidence.figure(known[link]) if link in known else "not tested",
            "is_broken": link == broken and _evidence.state_of(report) == "different",
        }
        for link in LINKS
    ]


def _section(result: LinkResult) -> dict[str, Any] | None:
    """What the template draws of a link; None if its sentence says all there is."""
    measure, rows = result.measure, _evidence.rows
    drawn: dict[str, Any] = dict.fromkeys(_DRAWN)
    if result.link == "template":
        drawn["renderings"] = _evidence.distinct(rows(measure, "differences"))
    elif result.link == "tokens":
        drawn["texts"] = rows(measure, "differences")
    elif result.link == "weights":
        drawn["tensors"] = rows(measure, "tensors")
    elif result.link == "activations":
        drawn["maps"] = _html_maps.heat_maps(measure)
        drawn["bad"] = [row for row in rows(measure, "slots") if row.get("is_bad")]
    elif result.link == "logits":
        drawn["regimes"] = _evidence.regimes(measure)
        drawn["plot"] = _html_charts.kl_plot(measure)
        drawn["bands"] = _html_charts.bands(measure)
        drawn["scatter"] = _html_charts.scatter(measure)
        drawn["strips"] = _html_charts.strips(measure)
    elif result.link == "generation":
        drawn["counts"] = _evidence.regimes(measure)
        drawn["runs"] = _evidence.apart(measure)
    findings = _evidence.further_findings(result)
    # the link's own sentence is a finding's: what else that one holds goes with it
    said = next((f for f in result.findings if f not in findings), None)
    where = said.where if said is not None else {}
    if not any(drawn.values()) and not findings and not where:
        return None
    return {
        "result": result,
        "state": _evidence.state(result),
        "cause": said.cause if said is not None else None,
        "where": where,
        "findings": findings,
        "measure": measure,
        **drawn,
    }
