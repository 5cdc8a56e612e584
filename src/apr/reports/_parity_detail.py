"""What differs in a link, in detail, as text for a person: tokens side by side, a template's diff, figures by regime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from apr.reports._evidence import (
    Piece,
    apart,
    around,
    distinct,
    interval,
    marked,
    n_different,
    number,
    ordinal,
    percent,
    real,
    regimes,
    rendering_diff,
    rows,
    token_diff,
)
from apr.reports._style import paint
from apr.reports._table import table
from apr.reports.text import _plural, visible

if TYPE_CHECKING:
    from apr.parity._link import LinkResult
    from apr.reports._evidence import DiffLine

_SHOWN = 3
_RUNS = 3
_DIFF_LINES = 40
_TENSORS = 10


def detail(result: LinkResult) -> str:
    """The evidence of a link that differs; empty where its sentences say it all."""
    if result.link not in _DETAILS:
        return ""
    lines = _DETAILS[result.link](result)
    return "\n".join([paint(result.link, "bold"), *lines]) if lines else ""


def _tokens(result: LinkResult) -> list[str]:
    found = rows(result.measure, "differences")
    lines = []
    for row in found[:_SHOWN]:
        diff = token_diff(row)
        lines += [
            f"  text       {_cut(marked(str(row.get('text', ''))))}",
            f"  reference  {_pieces(diff.n_before, diff.reference, diff.n_after_reference, 'green')}",
            f"  candidate  {_pieces(diff.n_before, diff.candidate, diff.n_after_candidate, 'red')}",
            "",
        ]
    return _ended(lines, len(found), _SHOWN, "text", n_all=n_different(result))


def _pieces(n_before: int, pieces: Sequence[Piece], n_after: int, style: Any) -> str:
    shown = [f"… {n_before} equal"] if n_before else []
    for piece in pieces:
        said = f"{visible(piece.text)}#{piece.token_id}" if piece.token_id is not None else visible(piece.text)
        # brackets too: where there is no colour, they still say what differs
        shown.append(said if piece.is_common else paint(f"[{said}]", style))
    return "  ".join([*shown, *([f"… {n_after} more"] if n_after else [])])


def _template(result: LinkResult) -> list[str]:
    found = rows(result.measure, "differences")
    changes = distinct(found)
    lines = []
    for row, n_more in changes[:_SHOWN]:
        name = row.get("conversation")
        same = f" (and the same change in {n_more} more)" if n_more else ""
        lines.append(
            f"  conversation {_cut(visible(str(name)))}{same}" if name is not None else f"  conversation{same}"
        )
        diff = rendering_diff(row)
        lines += [_diff_line(line) for line in diff[:_DIFF_LINES]]
        if len(diff) > _DIFF_LINES:
            lines.append(f"    and {len(diff) - _DIFF_LINES} more lines; --json has them all")
        lines.append("")
    n_shown = sum(1 + n_more for _, n_more in changes[:_SHOWN])
    return _ended(lines, len(found), n_shown, "rendering", n_all=n_different(result))


def _diff_line(line: DiffLine) -> str:
    if line.sign == "@":
        return f"    {paint(line.text, 'dim')}"
    said = f"    {line.sign} {line.text}"
    return paint(said, "red") if line.sign == "-" else paint(said, "green") if line.sign == "+" else said


def _weights(result: LinkResult) -> list[str]:
    found = rows(result.measure, "tensors")
    if not found:
        return []
    cells = [
        (
            visible(str(row.get("tensor", ""))),
            visible(f"{row.get('codec_reference') or '–'} → {row.get('codec_candidate') or '–'}"),
            number(row.get("rel_l2")),
            number(row.get("max_abs")),
            number(row.get("bound")),
            visible(str(row.get("cause") or row.get("verdict") or "")),
        )
        for row in found[:_TENSORS]
    ]
    header = ("TENSOR", "TYPE", "REL L2", "MAX ABS", "BOUND", "WHAT")
    return _ended(table(header, cells, right=(2, 3, 4)).splitlines(), len(found), _TENSORS, "tensor")


def _activations(result: LinkResult) -> list[str]:
    bad = [row for row in rows(result.measure, "slots") if row.get("is_bad")]
    cells = [
        (
            visible(str(row.get("slot", ""))),
            number(row.get("local")),
            number(row.get("threshold")),
            number(row.get("inherited")),
            number(row.get("cosine")),
        )
        for row in bad[:_TENSORS]
    ]
    if not cells:
        return []
    header = ("SLOT", "LOCAL", "THRESHOLD", "INHERITED", "COSINE")
    return _ended(table(header, cells, right=(1, 2, 3, 4)).splitlines(), len(bad), _TENSORS, "slot")


def _logits(result: LinkResult) -> list[str]:
    return _llama_cpps(result.measure) if "statistics" in result.measure else _by_regime(result)


def _llama_cpps(measure: Mapping[str, Any]) -> list[str]:
    """The statistics of `llama-perplexity --kl-divergence`, by its names; one that ends in p is in percent."""
    lines = []
    for name, (value, error) in measure["statistics"].items():
        unit = " %" if name.endswith("p") else ""
        lines.append(f"  {name:<29}{value:>12.6f}" + (f" ± {error:.6f}" if error is not None else "") + unit)
    return [
        *lines,
        f"KL in nats, of {measure['n_positions']} positions; the base's own rounding makes {number(measure['floor'])}",
    ]


def _by_regime(result: LinkResult) -> list[str]:
    cells = [
        (
            visible(name),
            str(row.get("n_positions", "–")),
            number(row.get("kl_mean")),
            interval(row.get("kl_interval")),
            number(row.get("kl_p99")),
            number(row.get("kl_max")),
            percent(row.get("top1_agreement")),
            f"{row.get('n_flips', '–')} ({interval(row.get('flips_predicted'))})",
        )
        for name, row in regimes(result.measure)
    ]
    if not cells:
        return []
    header = ("REGIME", "POSITIONS", "MEAN KL", "INTERVAL", "P99", "MAX", "TOP-1", "FLIPS (PREDICTED)")
    lines = table(header, cells, right=range(1, 8)).splitlines()
    if (floor := real(result.measure, "floor")) is not None:
        lines.append(f"KL in nats; the reference differs from itself by {number(floor)}")
    return lines


def _generation(result: LinkResult) -> list[str]:
    found = apart(result.measure)
    lines = []
    for row in found[:_RUNS]:
        place = ", ".join(visible(str(row[key])) for key in ("regime", "probe", "mode") if row.get(key) is not None)
        explained = {True: ", explained by drift and margin", False: ", not explained by drift"}
        why = explained.get(row.get("is_explained"), "")  # type: ignore[arg-type]
        lines.append(f"  {place}: apart at token {ordinal(row.get('first_divergence'))}{why}")
        for side, other, style in (("reference", "candidate", "green"), ("candidate", "reference", "red")):
            head, tail, cut = around(row.get(f"{side}_text"), row.get(f"{other}_text"))
            lines.append(f"    {side}  {head}{paint('|' + tail, style)}{cut}")  # type: ignore[arg-type]
        lines.append("")
    return _ended(lines, len(found), _RUNS, "run")


def _ended(lines: list[str], n_kept: int, n_shown: int, what: str, *, n_all: int | None = None) -> list[str]:
    """The lines without a last empty one, and how many more there are: of `n_all`, a result may keep `n_kept` only."""
    while lines and not lines[-1]:
        lines.pop()
    n_all, n_shown = max(n_all or 0, n_kept), min(n_shown, n_kept)
    if n_all <= n_shown:
        return lines
    kept = "them all" if n_all == n_kept else str(n_kept)
    return [*lines, f"  and {_plural(n_all - n_shown, f'more {what}')}; --json has {kept}"]


def _cut(text: str, limit: int = 100) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"


_DETAILS: dict[str, Callable[[LinkResult], list[str]]] = {
    "template": _template,
    "tokens": _tokens,
    "weights": _weights,
    "activations": _activations,
    "logits": _logits,
    "generation": _generation,
}
