"""What a run looks like inside, as text for a person: a row a layer, or a row a slot; and two traces side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from apr.reports._style import paint
from apr.reports._table import bar, facts, size, table, terminal_columns
from apr.reports.text import _aside, _plural, visible

if TYPE_CHECKING:
    from pathlib import Path

    from apr.trace.compare import SlotComparison, TraceComparison
    from apr.trace.record import LayerRange, SlotTrace, Trace, TraceHeader

View = Literal["layers", "slots", "all"]

# of a layer's slots, those whose rms its row shows
_COLUMNS = ("attn", "attn_out", "ffn_swiglu", "ffn_down", "out")
_BAR_FROM_COLUMNS = 100
_BAR_WIDTH = 16
_POSITIONS_SHOWN = 8
_TOKENS_SHOWN = 5
_LONGEST_TOKEN = 20
_TIGHT = 0.5  # of a number type's range: from here on a report says so in colour


def trace(result: Trace, *, view: View) -> str:
    """What `apr trace` saw.

    view:  "layers": a row a layer; "slots": a row a slot; both at the last position, unless positions were chosen;
           "all": every slot at every position
    """
    header = result.header
    parts = [f"{paint(visible(header.model), 'bold')}\n{facts(_header_rows(result))}"]
    rows = range(len(header.positions))
    if view != "all" and len(header.positions) == len(header.prompt_token_ids):
        rows = rows[-1:]
    layered = [slot for slot in result.slots if slot.layer is not None]
    if view == "layers" and layered:
        parts += [_layers(result, row) for row in rows[:_POSITIONS_SHOWN]]
        if len(rows) > _POSITIONS_SHOWN:
            parts.append(f"and {_plural(len(rows) - _POSITIONS_SHOWN, 'more position')}; --all shows them")
        others = [slot for slot in result.slots if slot.layer is None]
        if others:
            parts.append(_slots(header, others, rows[-1:]))
    else:
        parts.append(_slots(header, result.slots, rows))
    if result.top:
        parts.append(_next_token(result))
    return "\n\n".join([*parts, "\n".join(_findings(result))])


def comparison(result: TraceComparison, *, n_slots: int | None = 12) -> str:
    """What `apr trace --against` found: the slots that differ, or those that come nearest to it.

    n_slots:  how many are shown; None shows all, in the order of the pass
    """
    marks = {"same": ("✓", "green"), "different": ("✗", "red"), "not_comparable": ("?", "yellow")}
    mark, colour = marks[result.verdict]
    rows = [
        ("reference", visible(result.reference)),
        ("compared", ", ".join(result.differs) or "nothing that is recorded"),
    ]
    if result.field is not None:
        rows.append(("field", result.field))
    else:
        errors = f"{result.roundings} rounding errors of {result.precision} ({result.roundoff:.2g} each)"
        rows.append(("allowed", f"relative L2 up to {errors}, growing as the square root of depth"))
    parts = [f"{paint(visible(result.candidate), 'bold')}\n{facts(rows)}"]
    if result.slots:
        parts.append(_compared_slots(result, n_slots))
    parts.append(f"{paint(f'{mark} {result.verdict}', colour)}: {visible(result.sentence)}")  # type: ignore[arg-type]
    return "\n\n".join(parts)


def saving_line(path: Path, n_bytes: int) -> str:
    """Before tensors are written: how much there will be."""
    return _aside(f"keeping {size(n_bytes)} of tensors in {path}")


def _header_rows(result: Trace) -> list[tuple[str, str]]:
    h = result.header
    cache = f", {h.kv_cache} cache" if h.kv_cache != h.activations else ""
    computed = f"{h.kernel_set} kernels on {h.instruction_set}, {h.activations} activations{cache}"
    wrapped = {"applied": "chat template applied", "raw": "raw", "pre-formatted": "sent as it is"}
    decision = f" ({wrapped[h.template.decision]})" if h.template else ""
    rows = [
        ("engine", f"{h.engine} {h.engine_version}: {computed}, {_plural(h.threads, 'thread')}"),
        ("weights", f"{h.model_format}, SHA-256 {h.model_sha256[:12]}, tensors {h.tensors_sha256[:12]}"),
        ("prompt", f"{visible(_shortened(h.prompt_text, 60))}{decision}"),
        ("tokens", f"{len(h.prompt_token_ids)}, SHA-256 {h.token_ids_sha256[:12]}"),
    ]
    if len(h.positions) != len(h.prompt_token_ids):
        rows.append(("positions", ", ".join(map(str, h.positions))))
    if result.file is not None and result.file_bytes is not None:
        rows.append(("kept in", f"{visible(result.file)}, {size(result.file_bytes)}"))
    return rows


def _layers(result: Trace, row: int) -> str:
    """A row a layer at one position, with the growth of the residual stream beside it where there is room."""
    by_layer: dict[int, dict[str, SlotTrace]] = {}
    for slot in result.slots:
        if slot.layer is not None:
            by_layer.setdefault(slot.layer, {})[slot.name] = slot
    columns = [name for name in _COLUMNS if any(name in slots for slots in by_layer.values())]
    if not columns:
        columns = list(dict.fromkeys(name for slots in by_layer.values() for name in slots))[: len(_COLUMNS)]
    ranges = {found.layer: found for found in result.ranges if found.layer is not None}
    has_bar = (terminal_columns() or 0) >= _BAR_FROM_COLUMNS and "out" in columns
    outs = [slots["out"].statistics.rms[row] or 0.0 for slots in by_layer.values() if "out" in slots]
    rows = []
    for layer, slots in by_layer.items():
        cells = [str(layer), *(_figure(slots[name].statistics.rms[row]) if name in slots else "-" for name in columns)]
        cells += _range_cells(ranges.get(layer))
        if has_bar:
            share = (slots["out"].statistics.rms[row] or 0.0) / (max(outs) or 1.0)
            cells.append(bar(share, width=_BAR_WIDTH))
        rows.append(cells)
    heading = f"rms {_position(result.header, row)}; largest |x| of the layer at any position"
    names = (
        "LAYER",
        *(name.upper() for name in columns),
        "MAX |X|",
        "IN",
        "AT",
        "OF F16",
        *(["OUT GROWS"] if has_bar else []),
    )
    n_right = 1 + len(columns)
    return f"{heading}\n{table(names, rows, right=(*range(n_right + 1), n_right + 2, n_right + 3))}"


def _range_cells(found: LayerRange | None) -> list[str]:
    if found is None:
        return ["-"] * 4
    name = found.slot.rpartition(".")[2]
    return [_figure(found.max_abs), name, str(found.position), f"{found.of_float16:.2%}"]


def _slots(header: TraceHeader, slots: Sequence[SlotTrace], rows: Sequence[int]) -> str:
    """A row a slot and position, with all its figures."""
    names = ("SLOT", "POSITION", "VALUES", "MEAN", "STD", "MIN", "MAX", "RMS", "NAN", "INF")
    cells = []
    for slot in slots:
        s = slot.statistics
        for row in rows:
            measured = [_figure(column[row]) for column in (s.mean, s.std, s.min, s.max, s.rms)]
            counted = [str(s.nan[row]), str(s.inf[row])]
            cells.append([visible(slot.slot), str(header.positions[row]), str(s.count[row]), *measured, *counted])
    return table(names, cells, right=range(1, len(names)))


def _next_token(result: Trace) -> str:
    rows = [
        [str(top.token_id), _quoted(top.text), f"{top.logit:.3f}", f"{math.exp(top.logprob):.2%}"]
        for top in result.top[:_TOKENS_SHOWN]
    ]
    margin = f"\nmargin {result.margin:.3f} between the first two" if result.margin is not None else ""
    return "next token\n" + table(("ID", "TEXT", "LOGIT", "PROBABILITY"), rows, right=(0, 2, 3)) + margin


def _findings(result: Trace) -> list[str]:
    """What a reader should not miss."""
    header, lines = result.header, []
    if (born := result.first_nonfinite) is not None:
        what = " and ".join(f"{n} {kind}" for n, kind in ((born.nan, "NaN"), (born.inf, "infinite")) if n)
        token = _quoted(header.prompt_tokens[born.position])
        lines += [
            f"{paint('✗ not finite', 'red')}: born in {visible(born.slot)} at position {born.position} ({token}), {what}; "
            "every slot before it is finite",
            f"  next: apr validate {visible(header.model)}",
        ]
    else:
        lines.append(f"{paint('✓ finite', 'green')}: no NaN and no infinity in any slot at any position")
    if (most := result.highest) is not None:
        place = f"{visible(most.slot)} at position {most.position} ({_quoted(header.prompt_tokens[most.position])})"
        share = paint(f"{most.of_float16:.2%} of float16", "yellow" if most.of_float16 >= _TIGHT else "dim")
        lines.append(
            f"  range: |x| goes to {_figure(most.max_abs)} in {place}: {share}, {most.of_bfloat16:.1e} of bfloat16"
        )
    return lines


def _compared_slots(result: TraceComparison, n_slots: int | None) -> str:
    different = [slot for slot in result.slots if slot.is_different]
    shown: Sequence[SlotComparison] = result.slots
    if n_slots is not None:
        shown = different[:n_slots] or sorted(result.slots, key=_nearness, reverse=True)[:n_slots]
    names = ("SLOT", "COSINE", "REL L2", "MAX |Δ|", "SNR DB", "SPREAD", "WORST AT", "REL L2 THERE", "ALLOWED")
    rows = [
        [
            visible(s.slot),
            "-" if s.cosine is None else f"{s.cosine:.6f}",
            "-" if s.relative_l2 is None else f"{s.relative_l2:.2e}",
            f"{s.max_abs:.2e}",
            "-" if s.snr_db is None else f"{s.snr_db:.1f}",
            "-" if s.spread_ratio is None else f"{s.spread_ratio:.4f}",
            str(s.position),
            f"{s.n_nonfinite} not finite"
            if s.n_nonfinite
            else "-"
            if s.position_l2 is None
            else f"{s.position_l2:.2e}",
            f"{s.threshold:.2e}",
        ]
        for s in shown
    ]
    over = f"{_plural(len(result.slots), 'slot')} at {_plural(result.n_positions, 'position')}"
    if n_slots is None:
        heading = f"{len(different)} of {over} differ:"
    elif different:
        heading = f"{len(different)} of {over} differ; the first of the pass:"
    else:
        heading = f"{over}; those that come nearest to what is allowed:"
    return f"{heading}\n{table(names, rows, right=range(1, len(names)))}"


def _nearness(slot: SlotComparison) -> float:
    return (slot.position_l2 or 0.0) / slot.threshold


def _position(header: TraceHeader, row: int) -> str:
    position = header.positions[row]
    last = ", the last" if position == len(header.prompt_token_ids) - 1 else ""
    return f"at position {position} ({_quoted(header.prompt_tokens[position])}{last})"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _quoted(token: str) -> str:
    return f"'{visible(_shortened(token, _LONGEST_TOKEN))}'"


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
