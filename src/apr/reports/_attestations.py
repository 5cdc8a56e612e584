"""Evidence as text for a person: what is in a store, one run, and whether all of it is as it was written."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from apr.reports._marks import MARKS
from apr.reports._style import Style, paint
from apr.reports._table import facts, size, table
from apr.reports.text import _plural, visible

if TYPE_CHECKING:
    from pathlib import Path

    from apr.ledger._statement import Result, Tested
    from apr.ledger._summary import EvidenceAudit, EvidenceList, EvidenceShown

_RESULTS: dict[Result, tuple[str, Style]] = {
    "PASSED": ("passed", "green"),
    "WARNED": ("not all shown", "yellow"),
    "FAILED": ("failed", "red"),
}


def listed(found: EvidenceList) -> str:
    """A run a row; with a model, whether it still holds."""
    if not found.runs:
        said = f"no evidence of {visible(found.model)} in" if found.model is not None else "no evidence in"
        return f"{said} {visible(found.store)}"
    header: tuple[str, ...] = ("RUN", "MODEL", "CONTRACT", "RESULT", "TESTS", "SIGNED")
    rows = []
    for run in found.runs:
        cells = [run.id, visible(run.model), visible(", ".join(run.contracts)), _result(run.result, run.ended)]
        cells += [_counts(run.counts), "yes" if run.is_signed else "no"]
        if found.model is not None:
            cells.append("yes" if run.expired is None else f"no: {visible(run.expired)}")
        rows.append(cells)
    header += ("HOLDS",) if found.model is not None else ()
    lines = [table(header, rows)]
    if found.under_way:
        lines.append(f"under way: {', '.join(found.under_way)}")
    return "\n".join(lines)


def shown(found: EvidenceShown) -> str:
    """One run: what was fixed before, and each verdict."""
    record, begun = found.record, found.record.begun
    rows = [
        ("run", f"{begun.id}, row {found.row.n}, {record.ended}"),
        ("when", f"{begun.started_at} to {record.finished_at}"),
        ("model", f"{visible(begun.model.path)} ({begun.model.format}, {_plural(begun.model.n_tensors, 'tensor')})"),
        *((f"  {visible(name)}", digest) for name, digest in begun.model.files.items()),
        ("  tensors", begun.model.tensors_sha256),
    ]
    if begun.reference is not None:
        rows += [("original", visible(begun.reference.path)), ("  tensors", begun.reference.tensors_sha256)]
    for contract in begun.contracts:
        rows.append(("contract", visible(f"{contract.id} {contract.version} ({contract.path})")))
        rows.append(("  file", contract.sha256))
    machine = begun.machine
    rows += [
        ("command", visible(shlex.join(begun.command))),
        ("engines", visible(_pairs(begun.engines))),
        ("versions", visible(_pairs(begun.versions))),
        ("machine", visible(f"{machine['cpu']}, {machine['cores']} cores, {size(int(machine['memory_bytes']))}, {machine['system']}")),
        ("statement", f"{visible(found.path)}{', signed' if found.is_signed else ''}"),
    ]  # fmt: skip
    word, colour = _RESULTS[record.result]
    lines = [facts(rows), "", *map(_test, record.tests)]
    return "\n".join([*lines, f"{paint(word, colour)}: {_counts(_by_status(record.tests)) or 'no test was run'}"])


def audited(found: EvidenceAudit) -> str:
    """What is not as it was written, a problem a line; or that all is."""
    runs = _plural(found.n_runs, "run")
    lines = [f"{paint('✗', 'red')} {p.kind}  {visible(p.where)}\n    {visible(p.sentence)}" for p in found.problems]
    if found.under_way:
        lines.append(f"under way: {', '.join(found.under_way)}")
    if found.problems:
        return "\n".join([*lines, f"{_plural(len(found.problems), 'problem')} in {visible(found.store)}, {runs}"])
    if not found.n_runs:
        return "\n".join([*lines, f"nothing to verify in {visible(found.store)}"])
    signed = f"; signed by {visible(found.key)}" if found.key is not None else ""
    lines.append(f"{paint('✓', 'green')} {runs} in {visible(found.store)}, every one as it was written{signed}")
    return "\n".join(
        [*lines, f"  head {found.head}: kept elsewhere and given to --head, it shows that no run was removed"]
    )


def key_made(private: Path, public: Path) -> str:
    """Two files, and which of them to keep."""
    return (
        f"{visible(str(private))}: private, keep it to yourself\n{visible(str(public))}: public, for whoever verifies"
    )


def _test(test: Tested) -> str:
    mark, style = MARKS[test.status]
    said = paint(f"{mark} {test.status:<12}", style)
    return f"  {said} {visible(test.name)}  {visible(test.sentence)}\n{' ' * 17}{visible(shlex.join(test.command))}, {test.seconds:.1f} s"


def _result(result: Result, ended: str) -> str:
    return "abandoned" if ended == "abandoned" else _RESULTS[result][0]


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {status.replace('_', ' ')}" for status, n in counts.items() if n)


def _by_status(tests: Sequence[Tested]) -> dict[str, int]:
    return {status: sum(test.status == status for test in tests) for status in MARKS}


def _pairs(values: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
