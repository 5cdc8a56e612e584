"""What a conversion lost, as text for a person, as the block of a model card, and as what the file says of itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apr.reports._evidence import MARKS, WORDS, state
from apr.reports._markdown import escaped
from apr.reports._model_card import put_block
from apr.reports._style import Style, paint
from apr.reports._table import facts, table
from apr.reports.text import visible

if TYPE_CHECKING:
    from apr.parity._tensor_loss import TensorLoss
    from apr.parity.loss import Loss
    from apr.parity.made_from import Answer, MadeFrom

BEGIN, END = "<!-- apr convert: begin -->", "<!-- apr convert: end -->"
METADATA_KEY = "apr.loss"
_SHOWN = 5
_ANSWERS: dict[Answer, tuple[str, Style]] = {
    "made": ("✓ made from it", "green"),
    "not_made": ("✗ not made from it", "red"),
    "cannot_tell": ("? cannot tell", "yellow"),
}


def loss(report: Loss) -> str:
    """By encoding, the tensors that lost most, then what the copy says otherwise."""
    lines = [table(*_by_codec(report), right=(1, 2, 3, 4)), ""]
    lines.append(f"worst of {report.n_measured} tensors, {_covered(report)} compared")
    lines += [f"  {visible(_worst(tensor))}" for tensor in _ordered(report)[:_SHOWN]]
    lines += ["", table(*_by_regime(report), right=(1, 2, 3, 4, 5))]
    floor = f"; two computations of one model differ by {report.kl_floor:.2g}" if report.kl_floor is not None else ""
    lines.append(f"KL in nats{floor}; {report.bits_per_weight:.2f} bits a weight")
    mark = paint("✓ an honest rounding", "green") if not report.refusals else paint("✗ no honest rounding", "red")
    lines += ["", f"{mark}: {visible(report.sentence)}"]
    lines += [f"  {visible(refusal)}" for refusal in report.refusals[:_SHOWN]]
    return "\n".join(lines)


def metadata(report: Loss, *, is_forced: bool) -> dict[str, str]:
    """What the file says of itself: a JSON text."""
    worst = _ordered(report)[:1]
    said: dict[str, Any] = {
        "bits_per_weight": round(report.bits_per_weight, 4),
        "n_tensors": report.n_tensors,
        "n_measured": report.n_measured,
        "worst_tensor": worst[0].tensor if worst else None,
        "worst_relative_error": _rounded(worst[0].relative_error) if worst else None,
        "kl_floor": _rounded(report.kl_floor),
        "regimes": {
            one.regime: {
                "kl_mean": _rounded(one.kl_mean),
                "kl_interval": [_rounded(end) for end in one.kl_interval],
                "top1_agreement": round(one.top1_agreement, 4),
                "n_positions": one.n_positions,
            }
            for one in report.regimes
        },
        "refusals": len(report.refusals),
        "forced": is_forced,
    }
    return {METADATA_KEY: json.dumps(said, separators=(",", ":"))}


def save_card(report: Loss, path: Path, *, title: str) -> None:
    """Put the block into a model card. Raises UsageError for a card that cannot be understood; OSError."""
    put_block(path, card_block(report, title=title), begin=BEGIN, end=END)


def card_block(report: Loss, *, title: str) -> str:
    """The loss in Markdown."""
    header, rows = _by_regime(report)
    lines = [
        BEGIN,
        f"## What {escaped(title)} lost",
        "",
        f"{report.bits_per_weight:.2f} bits a weight; {_covered(report)} tensors and "
        f"{sum(one.n_positions for one in report.regimes)} positions compared with the source by apr.",
        "",
        *_markdown_table(header, rows),
        "",
        *_markdown_table(*_by_codec(report)),
    ]
    if report.refusals:
        lines += ["", "Written by force:", *(f"- {escaped(refusal)}" for refusal in report.refusals)]
    return "\n".join([*lines, END])


def made_from(report: MadeFrom) -> str:
    """The answer and each link that it rests on."""
    said, style = _ANSWERS[report.answer]
    rows = []
    for link in report.links:
        found = state(link)
        rows.append((link.link, f"{MARKS[found]} {WORDS[found]}: {visible(link.sentence)}"))
    return "\n".join([facts(rows), "", f"{paint(said, style)}: {visible(report.sentence)}"])


def _covered(report: Loss) -> str:
    """How many of the tensors were looked at."""
    is_all = report.n_measured >= report.n_tensors
    return f"all {report.n_tensors}" if is_all else f"{report.n_measured} of {report.n_tensors}"


def _by_codec(report: Loss) -> tuple[list[str], list[list[str]]]:
    groups: dict[str, list[TensorLoss]] = {}
    for tensor in report.tensors:
        groups.setdefault(tensor.codec, []).append(tensor)
    header = ["ENCODING", "TENSORS", "RELATIVE ERROR", "COSINE, LEAST", "WORST BLOCK"]
    rows = [
        [
            codec,
            str(len(group)),
            _span([t.relative_error for t in group]),
            _least(group),
            f"{max(t.worst_block for t in group):.2f}",
        ]
        for codec, group in sorted(groups.items())
    ]
    return header, rows or [["the same values", "0", "", "", ""]]


def _by_regime(report: Loss) -> tuple[list[str], list[list[str]]]:
    header = ["PROMPTS", "POSITIONS", "KL MEAN", "95 %", "KL 99TH", "TOP-1", "FLIPS"]
    rows = [
        [
            one.regime,
            str(one.n_positions),
            f"{one.kl_mean:.4f}",
            f"{one.kl_interval[0]:.4f} to {one.kl_interval[1]:.4f}",
            f"{one.kl_p99:.3f}",
            f"{100 * one.top1_agreement:.1f} %",
            str(one.n_flips),
        ]
        for one in report.regimes
    ]
    return header, rows or [["none", "0", "", "", "", "", ""]]


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [header, *([escaped(cell) for cell in row] for row in rows)]
    head, *others = [f"| {' | '.join(line)} |" for line in lines]
    return [head, "|---" * len(header) + "|", *others]


def _ordered(report: Loss) -> list[TensorLoss]:
    return sorted(report.tensors, key=lambda tensor: -(tensor.relative_error or 0.0) / (tensor.ladder or 1.0))


def _worst(tensor: TensorLoss) -> str:
    error = f"{tensor.relative_error:.3g}" if tensor.relative_error is not None else "none"
    return f"{tensor.tensor}  {tensor.codec}  relative error {error}, worst block at row {tensor.worst_row}, column {tensor.worst_column}"


def _span(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{min(known):.3g} to {max(known):.3g}" if known else ""


def _least(group: Sequence[TensorLoss]) -> str:
    known = [tensor.cosine for tensor in group if tensor.cosine is not None]
    return f"{min(known):.6f}" if known else ""


def _rounded(value: float | None) -> float | None:
    return float(f"{value:.4g}") if value is not None else None
