"""The morning page: nothing on it runs or is fetched, what a contract says is text, and its links lead to the evidence."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

import browser
import ship_plans
from apr.reports import html


@pytest.fixture
def release(tmp_path: Path) -> Path:
    ship_plans.make(tmp_path)
    return tmp_path


class Links(HTMLParser):
    """Where a page's links lead, and the ids that it has."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.ids: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "a":
            self.links.add(found["href"] or "")
        if "id" in found:
            self.ids.add(found["id"] or "")


def test_every_row_links_to_its_evidence_from_where_the_page_lies(release: Path) -> None:
    statement = ship_plans.ran(release)
    page = release / "pages" / "ship.html"
    page.parent.mkdir()
    html.save(ship_plans.report(release), page)
    found = Links(page.read_text(encoding="utf-8"))
    files = {(page.parent / unquote(link)).resolve() for link in found.links if not link.startswith("#")}
    assert files == {statement.resolve(), (release / "evidence").resolve()}
    assert {link[1:] for link in found.links if link.startswith("#")} <= found.ids


def test_the_page_holds_the_report_and_what_changed(release: Path) -> None:
    ship_plans.ran(release, {"F-1": "pass", "F-2": "fail"})
    first = ship_plans.report(release)
    assert "first result that is kept" in html.page(first) and "<polyline" not in html.page(first)
    ship_plans.ran(release)
    report = ship_plans.report(release)
    page = html.page(report)
    assert "M/AC-1: failed → discharged" in page and "<polyline" in page and "Ready to be handed out" in page
    data = re.search(r'<script type="application/json" id="apr-report">(.*?)</script>', page, re.DOTALL)
    assert data is not None and json.loads(data[1])["figure"] == report.figure == 1


def test_what_a_contract_says_is_text(release: Path) -> None:
    path = release / "small.yaml"
    path.write_text(path.read_text().replace("it loads", "<img src=x onerror=alert(1)>"), encoding="utf-8")
    page = html.page(ship_plans.report(release))
    assert "<img" not in page and "&lt;img" in page and "style=" not in page


def test_evidence_that_was_touched_stands_at_the_top(release: Path) -> None:
    ship_plans.ran(release).unlink()
    assert "The evidence is not as it was left" in html.page(ship_plans.report(release))


@browser.needs_browser
@pytest.mark.slow
def test_the_bar_is_as_green_as_the_figure(release: Path) -> None:
    ship_plans.ran(release, {"F-1": "fail", "F-2": "pass", "F-4": "pass"})
    pixels = browser.screenshot(ship_plans.report(release), release, height=320)
    colours = browser.light_colours()
    shares = {
        name: max(int(np.all(row == np.array(colours[name]), axis=-1).sum()) for row in pixels[120:])
        for name in ("same", "different", "not_comparable")
    }
    whole = sum(shares.values())
    # a quarter is discharged, a quarter failed, and the half that stands on that is blocked
    assert [round(shares[name] / whole, 1) for name in shares] == [pytest.approx(0.25, abs=0.06)] * 2 + [0.5]
