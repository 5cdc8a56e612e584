"""The tables of a bench, put between their marks in a page of `docs/`."""

from __future__ import annotations

from pathlib import Path


def put(page: Path, text: str, section: str) -> None:
    """Replace what stands between the marks of a section."""
    begin, end = f"<!-- {section}: begin -->", f"<!-- {section}: end -->"
    old = page.read_text(encoding="utf-8")
    before, _, rest = old.partition(begin)
    _, _, after = rest.partition(end)
    assert rest and after, f"{page} has no marks for {section}"
    page.write_text(f"{before}{begin}\n\n{text}\n{end}{after}", encoding="utf-8")
