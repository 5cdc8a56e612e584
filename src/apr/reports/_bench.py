"""`apr bench`, as text for a person: what was proved, the figures, a small plot, and what a careful reader should know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from apr.reports._style import paint
from apr.reports._table import facts, size, table, terminal_columns
from apr.reports.text import _plural, visible

if TYPE_CHECKING:
    from apr.bench._report import BenchReport, SpeedRow
    from apr.bench._rounds import Ratio, Spread

_NAMES = {"native": "apr"}  # our own engine is what a reader calls by the program's name
_PLOT = 40  # columns of the longest bar
_PLOT_FROM_COLUMNS = 76
_FIGURES = {"load": "loading", "first_token": "first token", "memory": "memory"}
_VERDICTS = {
    "measured": "measured",
    "not_comparable": "not comparable: what computes something else was not timed",
    "wrong": "wrong: our engine does not compute this model, so nothing was timed",
}


def bench(report: BenchReport) -> str:
    """Everything, the proof before the figures."""
    blocks = [paint(visible(report.model.reference), "bold") + "\n" + facts(_about(report)), _proof(report)]
    if report.speeds:
        blocks += [_speeds(report), _starts(report)]
    if report.ratios:
        blocks.append(_ratios(report))
    if report.speeds and (terminal_columns() or _PLOT_FROM_COLUMNS) >= _PLOT_FROM_COLUMNS:
        blocks.append(plot(report.speeds))
    if report.warnings:
        blocks.append("\n".join(f"{paint('warning:', 'yellow')} {visible(said)}" for said in report.warnings))
    colour = {"measured": "green", "not_comparable": "yellow", "wrong": "red"}[report.verdict]
    blocks.append(f"{paint(_VERDICTS[report.verdict], colour)}; {report.seconds:.0f} s")  # type: ignore[arg-type]
    return "\n\n".join(blocks)


def name_of(engine: str) -> str:
    """An engine as the tables have it."""
    return _NAMES.get(engine, visible(engine))


def plot(rows: Sequence[SpeedRow]) -> str:
    """Decode as bars on one scale, with the memory limit of each as a stroke."""
    limits = [row.limit_tok_per_s.median for row in rows if row.limit_tok_per_s is not None]
    most = max([row.decode_tok_per_s.median for row in rows] + limits)
    labels = [f"{name_of(row.engine)}, {_threads(row.threads)}, {row.prompt_tokens} prompt tokens" for row in rows]
    wide = max(map(len, labels))
    lines = [paint("decode, tok/s" + (" (│ the memory limit beside it)" if limits else ""), "bold")]
    for label, row in zip(labels, rows, strict=True):
        limit = row.limit_tok_per_s.median if row.limit_tok_per_s is not None else None
        lines.append(
            f"  {label:<{wide}}  {_bar(row.decode_tok_per_s.median, limit, most)} {_figure(row.decode_tok_per_s.median)}"
        )
    return "\n".join(lines)


def _about(report: BenchReport) -> list[tuple[str, str]]:
    model, here = report.model, report.machine
    shares = ", ".join(f"{codec} {n / model.bytes_per_token:.0%}" for codec, n in model.bytes_by_codec.items())
    caches = f"L2 {size(here.l2_bytes)}, L3 {size(here.l3_bytes)}" if here.l3_bytes else ""
    cores = "1 core" if here.cores == 1 else f"{here.cores} cores"
    rows = [
        (
            "file",
            f"{visible(model.format)}, {size(model.size_bytes)}; a token reads {size(model.bytes_per_token)} of weights ({shares})",
        ),
        (
            "machine",
            ", ".join(part for part in (here.cpu, cores, caches, size(here.memory_bytes), here.system) if part),
        ),
    ]
    if here.load_average is not None:
        rows.append(("load", f"{here.load_average:.2f} processes on average in the minute before"))
    rows += [
        (
            name_of(e.name),
            f"{e.engine_version}, {e.instruction_set}, {e.activations} activations, {e.kv_cache} keys and values",
        )
        for e in report.engines
    ]
    for row in report.bandwidth:
        rows.append(
            ("reads", f"{_threads(row.threads)}: {_spread(row.gb_per_s)} GB/s of memory, measured before each round")
        )
    rows.append(("rounds", f"{report.repeats}, engines in turns; medians, with least and most"))
    return [(name, visible(value)) for name, value in rows]


def _proof(report: BenchReport) -> str:
    lines = [(check.is_same, f"apr, {_threads(check.threads)}: {check.sentence}") for check in report.greedy]
    lines += [(found.is_same, f"{name_of(found.engine)} {found.sentence}") for found in report.agreements]
    marks = {True: paint("✓", "green"), False: paint("✗", "red")}
    return "\n".join([paint("proved before timing", "bold"), *(f"  {marks[ok]} {visible(said)}" for ok, said in lines)])


def _speeds(report: BenchReport) -> str:
    has_limit = any(row.limit_fraction is not None for row in report.speeds)
    header: tuple[str, ...] = ("ENGINE", "THREADS", "PROMPT", "PREFILL tok/s", "FIRST TOKEN s", "DECODE tok/s")
    rows = []
    for row in report.speeds:
        cells = [name_of(row.engine), str(row.threads), str(row.prompt_tokens)]
        cells += [_spread(row.prefill_tok_per_s), _spread(row.first_token_s), _spread(row.decode_tok_per_s)]
        if has_limit:
            cells.append(f"{row.limit_fraction.median:.2f}" if row.limit_fraction is not None else "")
        rows.append(cells)
    header += ("OF LIMIT",) if has_limit else ()
    return table(header, rows, right=range(1, len(header)))


def _starts(report: BenchReport) -> str:
    peaks = {(row.engine, row.threads): row.peak_bytes for row in report.speeds}
    header = ("ENGINE", "THREADS", "LOAD s", "LOAD + FIRST TOKEN s", "PEAK MEMORY", "AFTER ALL ROUNDS")
    rows = [
        [
            name_of(row.engine),
            str(row.threads),
            _spread(row.load_s),
            _spread(row.first_token_s),
            size(round(row.peak_bytes.median)),
            size(peaks[row.engine, row.threads]),
        ]
        for row in report.starts
    ]
    return table(header, rows, right=range(1, len(header)))


def _ratios(report: BenchReport) -> str:
    header = (f"{name_of(report.engines[0].name)} AGAINST", "THREADS", "PROMPT", "WHAT", "TIMES", "95 % INTERVAL")
    rows = [
        [
            name_of(row.peer),
            str(row.threads),
            "" if row.prompt_tokens is None else str(row.prompt_tokens),
            _FIGURES.get(row.figure, row.figure),
            f"{row.ratio.median:.2f} ({row.ratio.min:.2f} – {row.ratio.max:.2f})",
            _interval(row.ratio),
        ]
        for row in report.ratios
    ]
    note = "over 1: faster, sooner, or in less memory; paired within each round"
    return table(header, rows, right=(1, 2, 4, 5)) + "\n" + paint(f"  {note}", "dim")


def _interval(ratio: Ratio) -> str:
    return "–" if ratio.interval is None else f"{ratio.interval[0]:.2f} – {ratio.interval[1]:.2f}"


def _spread(spread: Spread) -> str:
    return f"{_figure(spread.median)} ({_figure(spread.min)} – {_figure(spread.max)})"


def _figure(value: float) -> str:
    """With the digits that it deserves."""
    return (
        f"{value:.0f}"
        if value >= 100
        else f"{value:.1f}"
        if value >= 10
        else f"{value:.2f}"
        if value >= 0.1
        else f"{value:.3f}"
    )


def _threads(count: int) -> str:
    return _plural(count, "thread")


def _bar(value: float, limit: float | None, most: float) -> str:
    columns = ["█"] * max(1, round(_PLOT * value / most))
    if limit is not None:
        at = min(_PLOT, round(_PLOT * limit / most))
        columns += [" "] * (at + 1 - len(columns))
        columns[at] = "│"
    return "".join(columns)
