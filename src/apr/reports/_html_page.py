"""The frame of every page: one style sheet, a policy that allows nothing else, and the report's data inside.

Every value that a template shows is escaped, and its invisible characters are made visible first. A content security
policy forbids scripts and connections, and allows the one style sheet by its hash; so no element has a style of its own.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apr.reports import _evidence, _html_maps, json
from apr.reports.text import visible

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, report: Any, **values: Any) -> str:
    """A report through one of the templates beside this file; `r` is the report."""
    from markupsafe import Markup

    style = _style()
    digest = base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii")
    return (
        _environment()
        .get_template(template)
        .render(
            r=report,
            style=Markup(style),
            policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
            data=Markup(_data(report)),
            **values,
        )
    )


def _data(report: Any) -> str:
    """The report as JSON that can stand inside an element: < > & only as escapes, which mean the same to a parser."""
    return json.dumps(report).replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    made.filters |= {
        "figure": _evidence.figure,
        "interval": _evidence.interval,
        "marked": _evidence.marked,
        "number": _evidence.number,
        "ordinal": _evidence.ordinal,
        "percent": _evidence.percent,
        "rendering_diff": _evidence.rendering_diff,
        "state": _evidence.state,
        "token_diff": _evidence.token_diff,
        "where_rows": _evidence.where_rows,
    }
    made.globals |= {
        "MARKS": _evidence.MARKS,
        "WORDS": _evidence.WORDS,
        "around": _evidence.around,
        "thresholds": _html_maps.thresholds,
    }
    return made


def _shown(value: object) -> object:
    """What the template may print: text without characters that cannot be seen, coordinates in tenths."""
    if hasattr(value, "__html__"):
        return value
    if isinstance(value, float):
        return f"{value:.1f}".removesuffix(".0")
    return visible(str(value))


@cache
def _style() -> str:
    return (Path(__file__).parent / "_report.css").read_text(encoding="utf-8")
