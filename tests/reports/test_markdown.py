"""Markdown of a verification, read by a parser that is not ours: hostile text stays text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from apr.ledger.verify import Row, VerifyReport
from apr.reports import _markdown
from apr.reports.text import visible

HOSTILE = [
    "a | b || c",
    "line\nbreak\r\n| x | y |",
    "<script>alert(1)</script><img src=x onerror=y>",
    "[click](javascript:alert) ![i](http://a.b/c.png) <http://a.b>",
    "`code` ``two`` ~~gone~~ **bold** _it_ \\| \\",
    "&lt;b&gt; &#124; &amp;",
    "# heading",
    "\x1b[31m\u202e http://evil.example @someone",
]


def report(*rows: Row) -> VerifyReport:
    return VerifyReport("m|o`del", "<i>", ("c*", "d"), rows, {"pass": 1, "fail": 1}, "broken", Path("e_1"), 3.2, 1)  # type: ignore[dict-item]


def row(text: str, status: str = "fail") -> Row:
    return Row("c", text, text, True, status, text, ("apr", "run", text))  # type: ignore[arg-type]


def shown(page: str) -> str:
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(page)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_as_it_is_and_nothing_else(text: str) -> None:
    page = shown(_markdown.verified(report(row(text), row("healthy", "pass"))))
    assert page.count("<tr>") == 3 and page.count("<td>") == 6 and page.count("<h3>") == 1
    assert set(re.findall(r"<(\w+)", page)) == {
        "h3", "p", "table", "thead", "tbody", "tr", "th", "td", "strong", "pre", "code",
    }  # fmt: skip
    cells = re.findall(r"<td>(.*?)</td>", page)
    expected = visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert cells[1] == cells[2] == expected.strip()


def test_the_oracle_sees_what_is_not_escaped() -> None:
    assert "<img" in shown("| a |\n|---|\n| <img src=x> |\n") and "<a" in shown("[click](http://a.b)")


def test_the_verdict_the_promise_and_the_command_are_there() -> None:
    page = _markdown.verified(report(row("T-1"), row("T-2", "pass")))
    assert page.startswith("### ✗ broken: 1 pass, 1 fail\n")
    assert "| ✗ fail | T-1 | T-1 |" in page and "**T-1**: T-1\n\n    apr run T-1\n" in page and "**T-2**" not in page
    assert page.endswith("evidence: e\\_1; 3 s\n")


def test_it_is_written_whole(tmp_path: Path) -> None:
    _markdown.save(report(row("T-1")), tmp_path / "page.md")
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == _markdown.verified(report(row("T-1")))
