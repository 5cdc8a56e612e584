"""The page of a comparison: complete, calm about hostile text, and seen by a real browser."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import itertools
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

import parity_samples as samples
from apr._plain import plain
from apr.parity._link import LINKS, LinkResult
from apr.parity._report import ParityReport, WhyReport
from apr.reports import _html_charts, _html_maps, html
from browser import chromium, colours, light_colours, needs_browser, screenshot

VOID = {"meta", "br", "rect", "line", "circle"}
# what a page of ours is made of; none of these fetches, runs or submits anything
ELEMENTS = {
    "html",
    "head",
    "meta",
    "title",
    "style",
    "body",
    "header",
    "footer",
    "section",
    "figure",
    "figcaption",
    "h1",
    "h2",
    "h3",
    "p",
    "b",
    "small",
    "code",
    "pre",
    "mark",
    "span",
    "br",
    "dl",
    "dt",
    "dd",
    "div",
    "ol",
    "ul",
    "li",
    "table",
    "caption",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "svg",
    "g",
    "rect",
    "line",
    "circle",
    "text",
    "script",
}
Report = ParityReport | WhyReport


class Page(HTMLParser):
    """A page taken apart: its elements, its attributes, the texts of some elements."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(source)
        self.close()
        assert self._open == [], "elements are left open"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:  # <rect> may hold a <title>
            return
        assert self._open and self._open[-1] == tag, f"</{tag}> closes {self._open[-1:]}"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts.append((self._open[-1], data))

    def text_of(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]

    def classes(self, tag: str) -> list[str]:
        return [attributes.get("class") or "" for name, attributes in self.elements if name == tag]

    @property
    def shown(self) -> str:
        return " ".join(" ".join(text for name, text in self.texts if name not in ("style", "script", "title")).split())


def reports() -> list[Report]:
    made = [samples.healthy(), samples.benign(), samples.broken(), samples.hostile()]
    alone = replace(samples.broken(), reference=None, proof=None)
    empty = replace(
        samples.benign(), links=(), whys=(), proof=None, cause=None, link=None, verdict="cannot_tell", benign=False
    )
    return [*made, *(samples.as_parity(report) for report in made if isinstance(report, WhyReport)), alone, empty]


@pytest.mark.parametrize("report", reports(), ids=lambda r: f"{r.schema}-{r.verdict}-{len(r.links)}")
def test_every_page_is_well_formed_and_closed_to_the_world(report: Report) -> None:
    page = Page(html.page(report))
    assert {tag for tag, _ in page.elements} <= ELEMENTS
    named = {name for _, attributes in page.elements for name in attributes}
    assert not [name for name in named if name.startswith("on") or name in {"style", "src", "href", "srcset", "action"}]
    assert not re.search(r"@import|url\(|https?:", "".join(page.text_of("style")))
    assert sum(tag == "script" for tag, _ in page.elements) == 1


@pytest.mark.parametrize("report", reports(), ids=lambda r: f"{r.schema}-{r.verdict}-{len(r.links)}")
def test_the_data_of_a_page_is_the_report(report: Report) -> None:
    page = Page(html.page(report))
    script = next(attributes for tag, attributes in page.elements if tag == "script")
    assert script == {"type": "application/json", "id": "apr-report"}
    assert json.loads("".join(page.text_of("script"))) == json.loads(json.dumps(plain(report)))


def test_the_policy_allows_the_style_sheet_by_its_hash_and_nothing_else() -> None:
    page = Page(html.page(samples.broken()))
    policy = next(a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a) or ""
    style = "".join(page.text_of("style"))
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.split("; ")[:2] == ["default-src 'none'", f"style-src 'sha256-{digest}'"]
    assert "unsafe" not in policy and "script-src" not in policy and style.strip()


def test_what_a_model_says_is_text_with_nothing_invisible_in_it() -> None:
    source = html.page(samples.hostile())
    assert "<script>document" not in source and "<img" not in source
    assert not set(source) & {"\x1b", "\u202e", "\u200b"}
    shown = Page(source).shown
    assert (
        "</script><script>document.title='pwned'</script><img src=x onerror=document.title='pwned'>\"'&\\x1b[31m\\u202e\\u200b"
        in shown
    )


def test_the_chain_shows_every_link_with_its_state() -> None:
    report = samples.as_parity(samples.broken())
    short = replace(report, links=tuple(r for r in report.links if r.link != "weights"))
    page = Page(html.page(short))
    nodes = [c for c in page.classes("li") if c.split()[:1] and c.split()[0] in {"same", "different", "untested"}]
    assert len(nodes) == len(LINKS) == 9
    assert nodes[LINKS.index("file")] == "same" and nodes[LINKS.index("weights")] == "untested"
    assert [LINKS[i] for i, c in enumerate(nodes) if "broken" in c] == ["metadata"]


def test_a_healthy_page_has_no_broken_link_and_no_alarm() -> None:
    source = html.page(samples.healthy())
    page = Page(source)
    assert not any("broken" in c for c in page.classes("li")) and "ring" not in page.classes("rect")
    assert "there is no defect to look for" in page.shown and "excess" not in page.classes("rect")


def test_a_benign_difference_says_that_it_is_benign() -> None:
    page = Page(html.page(samples.benign()))
    assert "This is benign" in page.shown and not any("broken" in c for c in page.classes("li"))
    assert "This is benign" not in Page(html.page(samples.broken())).shown


def test_the_answer_comes_first_with_its_proof_and_five_whys() -> None:
    report = samples.broken()
    page = Page(html.page(report))
    assert page.text_of("h1") == [report.sentence]
    assert "0.31 → 1.40e-11" in page.shown and all(said in page.shown for said in report.whys)


def test_the_map_has_a_cell_for_every_slot_and_rings_the_one_to_blame() -> None:
    measure = samples.activations(n_layers=5, broken="layers.3.ffn_up")
    local, inherited = _html_maps.heat_maps(measure)
    assert len(local.cells) == len(inherited.cells) == 5 * len(samples.SLOTS) + 3
    (bad,) = [cell for cell in local.cells if cell.is_bad]
    assert bad.title.startswith("layers.3.ffn_up · local 0.31") and bad.level == "a5"
    assert all(cell.level.startswith("b") for cell in local.cells if not cell.is_bad)
    boxes = {(cell.x, cell.y) for cell in local.cells}
    assert len(boxes) == len(local.cells)
    assert max(cell.x + cell.width for cell in local.cells) <= local.width
    assert max(cell.y + cell.height for cell in local.cells) <= local.height


@pytest.mark.parametrize("n_layers", [1, 24, 126])
def test_a_map_of_any_depth_fits_the_page(n_layers: int) -> None:
    local = _html_maps.heat_maps(samples.activations(n_layers=n_layers))[0]
    assert local.width <= 1016
    numbers = [label for label in local.labels if label.text.isdigit()]
    gaps = [b.x - a.x for a, b in itertools.pairwise(numbers)]
    assert numbers and all(gap >= 20 for gap in gaps)


@pytest.mark.parametrize(
    ("local", "level"),
    [(None, "none"), (0.0, "zero"), (float("nan"), "a5"), (2.9e-6, "b1"), (2.9e-7, "b2"), (3.1e-6, "a1"), (4e-5, "a2"), (9.0, "a5"), (1e-30, "b5")],
)  # fmt: skip
def test_a_local_error_is_coloured_by_decades_from_its_threshold(local: float | None, level: str) -> None:
    assert _html_maps.local_level({"local": local, "threshold": 3e-6}, 1e-9) == level


@pytest.mark.parametrize(
    ("inherited", "level"), [(None, "none"), (0.0, "zero"), (3e-12, "s0"), (3e-7, "s1"), (0.3, "s7"), (5.0, "s8"), (float("inf"), "s8")]
)  # fmt: skip
def test_an_inherited_error_is_coloured_by_its_decade(inherited: float | None, level: str) -> None:
    assert _html_maps.inherited_level({"inherited": inherited}) == level


def test_a_strip_colours_each_token_by_how_much_of_its_margin_is_gone() -> None:
    row = {
        "tokens": ["a", " b", "c\n", "d"],
        "margin": [10.0, 1.0, 1.0, 0.0],
        "error": [0.1, 0.3, 1.5, 0.2],
        "kl": [0, 0, 1, 0],
        "flip": [False, False, True, False],
    }
    (strip,) = _html_charts.strips({"strips": [row]})
    assert [token.level for token in strip.tokens] == ["m0", "m2", "flip", "m4"]
    assert strip.n_flips == 1 and strip.tokens[1].text == "·b" and strip.tokens[2].ends_line


def test_the_scatter_puts_flips_above_the_line_and_calm_positions_under_it() -> None:
    row = {"tokens": ["a", "b"], "margin": [5.0, 0.2], "error": [0.1, 0.9], "flip": [False, True]}
    drawn = _html_charts.scatter({"strips": [row]})
    assert drawn is not None
    x1, y1, x2, y2 = drawn.diagonal
    for point in drawn.points:
        on_line = y1 + (point.x - x1) * (y2 - y1) / (x2 - x1)
        assert (point.y < on_line) == point.is_flip  # y grows downwards


def test_a_band_with_more_flips_than_predicted_is_an_alarm() -> None:
    rows = [
        {"from": 0, "to": 1, "n": 50, "flips": 9, "predicted": 8.0},
        {"from": 1, "to": None, "n": 50, "flips": 9, "predicted": [0.0, 0.5]},
    ]
    low, high = _html_charts.bands({"bands": rows})
    assert not low.is_more and high.is_more
    assert high.margin == "1 and more" and high.predicted == "0 to 0.5" and low.bar == high.bar


def test_divergence_is_drawn_on_decades_with_the_floor_to_the_left() -> None:
    plot = _html_charts.kl_plot(samples.logits(0.014, scale=0.3))
    assert plot is not None and plot.floor is not None
    assert [row.name for row in plot.rows] == ["raw", "chat", "multi-turn", "pre-formatted", "long"]
    for row in plot.rows:
        assert row.dot is not None and row.bar is not None
        assert plot.floor < row.bar[0] < row.dot < row.bar[1] <= plot.width


def test_figures_keep_their_units() -> None:
    links = (LinkResult("logits", "different", "", {"regimes": {"raw": samples.regime(0.01) | {"rms_dp": 1.52, "worst_1pct_share": 0.125}}}),)  # fmt: skip
    shown = Page(html.page(replace(samples.as_parity(samples.broken()), links=links))).shown
    assert " 12.50 % 1.52 % " in shown


def test_only_zero_divergence_draws_no_plot() -> None:
    assert _html_charts.kl_plot({"floor": 0.0, "regimes": {"raw": samples.regime(0.0)}}) is None


def test_a_measure_without_figures_still_makes_a_page() -> None:
    links = tuple(LinkResult(link, "different", f"{link} differs", {"slots": [{}], "regimes": {"raw": {}}, "tensors": [{}], "differences": [{}], "bands": [{}], "strips": [{}], "runs": [{}]}) for link in LINKS)  # fmt: skip
    Page(html.page(replace(samples.as_parity(samples.broken()), links=links)))


def test_long_lists_are_cut_and_say_so() -> None:
    rows = [{"tensor": f"t{i}", "verdict": "different"} for i in range(html.LIMITS["tensors"] + 7)]
    report = samples.as_parity(samples.broken())
    shown = Page(
        html.page(replace(report, links=(LinkResult("weights", "different", "many", {"tensors": rows}),)))
    ).shown
    assert "and 7 more in the data of this page" in shown and f"t{html.LIMITS['tensors'] + 6}" not in shown


def test_the_same_report_makes_the_same_page() -> None:
    assert html.page(samples.broken()) == html.page(samples.broken())


def test_a_page_is_saved_whole(tmp_path: Path) -> None:
    html.save(samples.healthy(), tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == html.page(samples.healthy())


def test_templates_and_style_lie_beside_the_code() -> None:
    found = {file.name for file in importlib.resources.files("apr.reports").iterdir()}
    assert {"_report.html.j2", "_report_parts.html.j2", "_report.css"} <= found


@needs_browser
def test_a_browser_draws_the_map_in_its_colours(tmp_path: Path) -> None:
    report = samples.broken()
    links = tuple(result for result in report.links if result.link == "activations")
    pixels = screenshot(replace(report, links=links, whys=(), also=()), tmp_path, height=1500)
    found = colours(pixels)
    assert len(found) > 50
    light = light_colours()
    # the slot to blame, noise under its threshold, a piled-up error, the verdict's red
    for name in ("a5", "b1", "b2", "s7", "different"):
        assert light[name] in found, f"nothing on the page has the colour of {name}"


@needs_browser
def test_a_browser_runs_nothing_that_a_model_says(tmp_path: Path) -> None:
    file = tmp_path / "hostile.html"
    html.save(samples.hostile(), file)
    dom = chromium(tmp_path, "--dump-dom", file.as_uri()).decode()
    assert "apr why" in dom and "<title>pwned</title>" not in dom
    assert len(re.findall(r"<script\b", dom)) == 1 and not re.search(r"<img\b", dom)


@needs_browser
def test_a_browser_would_run_a_script_that_is_not_escaped(tmp_path: Path) -> None:
    """The test above can fail: without escaping and policy, the planted script does what it says."""
    file = tmp_path / "planted.html"
    file.write_text(f"<title>calm</title><p>{samples.HOSTILE}</p>", encoding="utf-8")
    assert b"<title>pwned</title>" in chromium(tmp_path, "--dump-dom", file.as_uri())
