"""The tables of docs/performance.md, out of result rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from _results import Row
from _targets import Verdict

MIB = 1 << 20


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table; the first column is text, the others are figures."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, rule, *lines])


def targets(verdicts: Sequence[Verdict]) -> str:
    """Target, measured, met or not."""
    lines = []
    for verdict in verdicts:
        target = verdict.target
        sign = "≥" if target.sense == "at least" else "≤"
        note = busy_note(verdict.row) if verdict.row else ""
        lines.append(
            (
                f"{target.text} ({target.model})",
                f"{sign} {target.bound:g}{_unit(target.unit)}",
                "—" if verdict.figure is None else f"{verdict.figure:.2f}{_unit(target.unit)}{note}",
                "" if verdict.ceiling is None else f"{verdict.ceiling:.2f}x",
                verdict.word,
            )
        )
    return markdown(("target", "promised", "measured", "memory allows", "verdict"), lines)


def contest(rows: Sequence[Row]) -> str:
    """One contest: each contestant's figures, what ours are to it, and the fraction of the memory limit."""
    ours = next((row for row in rows if row["contestant"] == "apr"), None)
    lines = []
    for row in rows:
        ratio = (ours or {}).get("ratio_to", {}).get(row["contestant"])
        fraction = row.get("limit_fraction")
        lines.append(
            (
                row["contestant"] + equality_note(row) + busy_note(row),
                figure(row["median"], row["unit"]),
                f"{figure(row['min'], row['unit'])} – {figure(row['max'], row['unit'])}",
                f"{ratio['median']:.2f} ({ratio['min']:.2f} – {ratio['max']:.2f})" if ratio else "",
                "" if fraction is None else f"{fraction:.2f}",
            )
        )
    unit = {"bytes": "MiB", "": "ratio"}.get(rows[0]["unit"], rows[0]["unit"])
    header = ("", f"median, {unit}", "least – most", "apr to it", "of the memory limit")
    width = 5 if any(line[4] for line in lines) else 4 if any(line[3] for line in lines) else 3
    return markdown(header[:width], [line[:width] for line in lines])


def kernels(rows: Sequence[Row]) -> str:
    """One case of the kernels: a line a codec and mode, a column an instruction set."""
    sets = list(dict.fromkeys(row["instruction_set"] for row in rows))
    keys = list(dict.fromkeys((row["codec"], row["activations"], *row["shape"]) for row in rows))
    found = {(row["codec"], row["activations"], row["instruction_set"]): row for row in rows}
    lines = []
    for codec, activations, n_rows, n_columns in keys:
        cells = []
        for name in sets:
            row = found.get((codec, activations, name))
            cells.append("" if row is None else f"{row['median']:.1f}{_fraction(row)}")
        lines.append((f"{codec}, {activations}, {n_rows} x {n_columns}", *cells))
    return markdown((rows[0]["unit"], *sets), lines)


def figure(value: float, unit: str) -> str:
    """A figure with the digits that it deserves."""
    if unit == "bytes":
        return f"{value / MIB:.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def equality_note(row: Row) -> str:
    """Whether a contestant computes something else than the model."""
    equality = row.get("equality")
    return " (its output is wrong)" if equality and not equality["is_same_model"] else ""


def busy_note(row: Row) -> str:
    """How many rounds others disturbed."""
    busy = row.get("busy_rounds", 0)
    return f" ({busy} of {len(row['values'])} rounds disturbed)" if busy else ""


def _fraction(row: Row) -> str:
    fractions = sorted(row.get("fractions") or ())
    return f" ({fractions[len(fractions) // 2]:.2f})" if fractions else ""


def _unit(unit: str) -> str:
    return unit if unit == "x" else f" {unit}" if unit else ""
