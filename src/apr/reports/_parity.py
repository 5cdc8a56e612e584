"""`apr parity` and `apr why`, as text for a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from apr.parity._probes import REGIMES
from apr.reports._evidence import (
    MARKS,
    WORDS,
    State,
    all_clear,
    figure,
    further_findings,
    next_command,
    number,
    state,
    state_of,
    verdict_line,
    where_rows,
)
from apr.reports._parity_detail import detail
from apr.reports._style import Style, paint
from apr.reports._table import _wrapped, facts, terminal_columns, width
from apr.reports.text import _aside, _plural, visible

if TYPE_CHECKING:
    from apr.parity._link import Finding, LinkResult
    from apr.parity._report import ParityReport, Proof, WhyReport

_COLOURS: dict[State, Style] = {
    "same": "green",
    "benign": "green",
    "different": "red",
    "not_comparable": "yellow",
    "cannot_tell": "yellow",
    "skipped": "dim",
}
_FINDINGS_SHOWN = 5
_ALSO_SHOWN = 10
_LEAST = 24  # columns of a sentence that are worth wrapping to; else it goes under its link


def parity(report: ParityReport) -> str:
    """A link a row, what differs in detail, the verdict, and what to type next."""
    sides = _sides(report.reference, report.candidate, regimes=report.regimes)
    blocks = [sides, _links(report.links, findings="shown")]
    told = [result for result in report.links if result.verdict == "different" or "statistics" in result.measure]
    blocks += [block for result in told if (block := detail(result))]
    blocks.append(f"{_verdict(state_of(report))}: {visible(verdict_line(report))}; {report.seconds:.1f} s")
    return "\n\n".join(blocks) + _next(report)


def why(report: WhyReport) -> str:
    """The answer first; then where, the proof, the reasons behind it, what else was found, and every link."""
    mark = paint(MARKS[state_of(report)], _COLOURS[state_of(report)])
    blocks = [f"{mark} {paint(visible(report.sentence), 'bold')}", _sides(report.reference, report.candidate)]
    if (clear := all_clear(report)) is not None:
        blocks.append(paint(f"  {clear}", "green"))
    if report.cause is not None:
        cause = f"{report.cause}, in the {report.link} link" if report.link else str(report.cause)
        blocks.append(_section("where", facts([("cause", cause), *where_rows(report.where)])))
    if report.proof is not None:
        blocks.append(_section("proof", facts(_proof(report.proof))))
    if report.whys:
        blocks.append(_section("why", "\n".join(_item(f"{i}.", said) for i, said in enumerate(report.whys, start=1))))
    if report.also:
        blocks.append(_section("also", _also(report.also)))
    if report.links:
        blocks.append(_section("links", _links(report.links, findings="left out")))
        blocks += [block for result in report.links if result.link == report.link and (block := detail(result))]
    blocks.append(f"{_verdict(state_of(report))}; {report.seconds:.1f} s" + _records(report.records))
    return "\n\n".join(blocks) + _next(report)


def not_kept_line(side: str, reason: str) -> str:
    """That the runs of a side were not kept, in one line for standard error."""
    return _aside(f"the runs of the {side} were not kept: {reason}")


def _sides(reference: str | None, candidate: str, *, regimes: Sequence[str] = ()) -> str:
    sides = [("reference", visible(reference))] if reference is not None else []
    asked = [("asked", f"{', '.join(regimes)} only")] if 0 < len(regimes) < len(REGIMES) else []
    return facts([*sides, ("candidate", visible(candidate)), *asked])


def _verdict(verdict: State) -> str:
    return paint(WORDS[verdict], _COLOURS[verdict])


def _section(title: str, body: str) -> str:
    return f"{paint(title, 'bold')}\n{body}"


def _links(results: Sequence[LinkResult], *, findings: str) -> str:
    """One row a link. Where there is no room beside it, the sentence stands under it."""
    names = max((width(result.link) for result in results), default=0)
    words = max((width(WORDS[state(result)]) for result in results), default=0)
    figures = [visible(figure(result)) for result in results]
    figure_columns = max((width(said) for said in figures), default=0)
    columns = terminal_columns()
    before = 2 + 2 + words + 2 + names + 2 + (figure_columns + 2 if figure_columns else 0)
    beside = columns is None or columns - before >= _LEAST
    lines = []
    for result, said in zip(results, figures, strict=True):
        verdict = state(result)
        shown = paint(f"{MARKS[verdict]} {WORDS[verdict]:<{words}}", _COLOURS[verdict])
        head = f"  {shown}  {result.link:<{names}}  " + (f"{said:<{figure_columns}}  " if figure_columns else "")
        sentence = visible(result.sentence)
        if beside:
            room = sentence if columns is None else _wrapped(sentence, columns - before, indent=before)
            lines.append((head + room).rstrip())
        else:
            assert columns is not None
            lines += [head.rstrip(), "      " + _wrapped(sentence, max(_LEAST, columns - 6), indent=6)]
        if findings == "shown":
            lines += _further(result)
    return "\n".join(lines)


def _further(result: LinkResult) -> list[str]:
    """The findings behind the first, which the link's own sentence says."""
    more = further_findings(result)
    lines = [_item("-", f"{f.sentence} ({f.cause})", indent=6) for f in more[:_FINDINGS_SHOWN]]
    if len(more) > _FINDINGS_SHOWN:
        lines.append(f"      and {len(more) - _FINDINGS_SHOWN} more; --json has them all")
    return lines


def _also(findings: Sequence[Finding]) -> str:
    lines = [_item("-", f"{f.sentence} ({f.cause})") for f in findings[:_ALSO_SHOWN]]
    if len(findings) > _ALSO_SHOWN:
        lines.append(f"  and {len(findings) - _ALSO_SHOWN} more; --json has them all")
    return "\n".join(lines)


def _item(mark: str, said: str, *, indent: int = 2) -> str:
    head = f"{' ' * indent}{mark} "
    columns = terminal_columns()
    text = visible(said)
    return head + (text if columns is None else _wrapped(text, max(_LEAST, columns - len(head)), indent=len(head)))


def _proof(proof: Proof) -> list[tuple[str, str]]:
    found = [("put in", visible(proof.forced)), ("downstream", visible(proof.downstream))]
    if proof.logit_kl_before is not None or proof.logit_kl_after is not None:
        before, after = number(proof.logit_kl_before), number(proof.logit_kl_after)
        found.append(("divergence", f"{before} before → {after} after (mean KL of the logits, nats)"))
    return found


def _records(records: Sequence[str]) -> str:
    return f"\n{_plural(len(records), 'run record')}: {', '.join(map(visible, records))}" if records else ""


def _next(report: ParityReport | WhyReport) -> str:
    command = next_command(report)
    return f"\nnext: {command}" if command else ""
