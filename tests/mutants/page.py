"""What a bench leaves: scores, a line each as they come, and tables between their marks in a page of `docs/`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def known(file: Path | None, wanted: Iterable[str]) -> list[dict[str, Any]]:
    """What an earlier run has found out of these ids; a line that was not written to its end goes, and is asked again."""
    if file is None or not file.exists():
        return []
    ids, found = set(wanted), {}
    for line in file.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError):
            fields = json.loads(line)
            if fields["id"] in ids:
                found[fields["id"]] = fields
    file.write_text("".join(json.dumps(fields) + "\n" for fields in found.values()), encoding="utf-8")
    return list(found.values())


def put(page: Path, text: str, section: str) -> None:
    """Replace what stands between the marks of a section."""
    begin, end = f"<!-- {section}: begin -->", f"<!-- {section}: end -->"
    old = page.read_text(encoding="utf-8")
    before, _, rest = old.partition(begin)
    _, _, after = rest.partition(end)
    assert rest and after, f"{page} has no marks for {section}"
    page.write_text(f"{before}{begin}\n\n{text}\n{end}{after}", encoding="utf-8")
