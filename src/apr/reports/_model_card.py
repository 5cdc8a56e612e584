"""The block of `apr ship` in a model card: what was checked in Markdown, what was scored as the hub's `model-index`.

All else in the card stays as it is; only where there is a score to write are its metadata written anew, by huggingface_hub.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apr import __version__, _atomic
from apr.errors import UsageError
from apr.reports import _ship
from apr.reports._markdown import escaped
from apr.reports._marks import MARKS
from apr.reports.text import visible

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

    from apr.ledger.ship import Scored, ShipModel, ShipReport

BEGIN, END = "<!-- apr ship: begin -->", "<!-- apr ship: end -->"
_LONGEST_BYTES = 4 << 20
_OURS = ", apr"  # ends the name of every metric of ours in the metadata
_METADATA = re.compile(r"\A---[ \t]*\r?\n.*?^---[ \t]*$\r?\n?", re.DOTALL | re.MULTILINE)
# tasks whose questions are a dataset of the hub: its id, its name, its split
_DATASETS = {"humaneval": ("openai/openai_humaneval", "HumanEval", "test")}


def save(report: ShipReport, path: Path, *, model: str | None = None) -> None:
    """Put the block into a card, in place of the one that is there; a card that is not there is made.

    model:  its id in the plan; may be left out where the plan has one
    Raises  UsageError for a plan of several models and none named, or a card that cannot be understood; OSError.
    """
    chosen = _chosen(report, model)
    old = _read(path)
    new = _with_scores(_with_block(old, block(report, chosen)), chosen, path)
    _atomic.write_bytes(path, new.encode("utf-8"))


def block(report: ShipReport, model: ShipModel) -> str:
    """What was checked, in Markdown."""
    n = len(model.criteria)
    kept = sum(one.status == "discharged" for one in model.criteria)
    latest = max((test.tested_at for one in model.criteria for test in one.tests if test.tested_at), default=None)
    at = f", last tested {_ship.shown_time(latest)}" if latest else ""
    lines = [
        BEGIN,
        "## What was checked",
        "",
        f"{kept} of {n} acceptance criteria are discharged ({_ship.percent(model.figure)}) by runs on these very bytes, "
        f"computed by apr {__version__}{at}.",
        "",
        *(f"- `{_code(name)}` SHA-256 `{digest}`" for name, digest in model.files.items()),
        "",
        "| criterion | status | in words |",
        "|---|---|---|",
        *(
            f"| {_cell(one.id)} | {MARKS[one.status][0]} {_ship.word(one.status)} | {_cell(_ship.said(one))} |"
            for one in model.criteria
        ),
    ]
    scores = [score for one in model.criteria for score in one.scores]
    if scores:
        lines += ["", "| score | value | 95 % interval | over |", "|---|---|---|---|", *map(_score_row, scores)]
    return "\n".join([*lines, END])


def _score_row(score: Scored) -> str:
    interval = f"{score.interval[0]:.3g} to {score.interval[1]:.3g}" if score.interval is not None else ""
    return f"| {_cell(_named(score))} | {score.value:.4g} | {interval} | {score.n} |"


def _cell(text: str) -> str:
    return escaped(" ".join(text.split()))


def _named(score: Scored) -> str:
    return ", ".join(part for part in (score.task, score.name, score.regime) if part)


def _code(text: str) -> str:
    return visible(text).replace("`", "'")


def _chosen(report: ShipReport, model: str | None) -> ShipModel:
    names = [one.id for one in report.models]
    if model is None and len(names) == 1:
        return report.models[0]
    if model not in names:
        raise UsageError(f"a card is of one model; name it with --model: {', '.join(names)}")
    return report.models[names.index(model)]


def _read(path: Path) -> str:
    if not path.exists():
        return ""
    content = path.read_bytes() if path.is_file() and path.stat().st_size <= _LONGEST_BYTES else None
    try:
        if content is not None:
            return content.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise UsageError(f"byte {exc.start} is not UTF-8; save the card as UTF-8") from exc
    raise UsageError("no file of a card's size; give a Markdown file")


def put_block(path: Path, new: str, *, begin: str, end: str) -> None:
    """Put a block into a card, in place of the one between its marks. Raises UsageError as `save`; OSError."""
    _atomic.write_bytes(path, _with_block(_read(path), new, begin=begin, end=end).encode("utf-8"))


def _with_block(card: str, new: str, *, begin: str = BEGIN, end: str = END) -> str:
    """The card with the block in place of the old one, or at its end."""
    if (card.count(begin), card.count(end)) not in ((0, 0), (1, 1)) or card.find(end) < card.find(begin):
        raise UsageError(f"{begin} and {end} do not stand once and in this order; remove what is left of the old block")
    if begin in card:
        before, after = card[: card.index(begin)], card[card.index(end) + len(end) :]
        return before + new + after
    gap = "" if not card else "\n" if card.endswith("\n") else "\n\n"
    return f"{card}{gap}{new}\n"


def _with_scores(card: str, model: ShipModel, path: Path) -> str:
    """The card with our scores in its metadata, those of others as they are."""
    ours = list(_results(model))
    found = _METADATA.match(card)
    head = found[0] if found is not None else ""
    if not ours and _OURS not in head:
        return card
    from huggingface_hub import ModelCard, ModelCardData

    try:
        data: Any = ModelCard(head).data if head else ModelCardData()
    except Exception as exc:  # yaml and huggingface_hub have each their own
        said = str(exc).splitlines()[0]
        raise UsageError(f"its metadata cannot be read: {said}; mend the block between the two ---") from exc
    others = [one for one in data.eval_results or [] if not (one.metric_name or "").endswith(_OURS)]
    data.eval_results = [*others, *ours] or None
    data.model_name = data.model_name or path.resolve().parent.name or model.id
    ending = "\r\n" if "\r\n" in head else "\n"
    return f"---{ending}{data.to_yaml(line_break=ending)}{ending}---{ending}{card[len(head) :]}"


def _results(model: ShipModel) -> Iterator[EvalResult]:
    from huggingface_hub import EvalResult

    for score in (score for one in model.criteria for score in one.scores):
        if score.task in _DATASETS:
            dataset, name, split = _DATASETS[score.task]
            yield EvalResult(
                task_type="text-generation",
                dataset_type=dataset,
                dataset_name=name,
                dataset_split=split,
                metric_type=score.name,
                metric_name=f"{score.name}, {score.regime}{_OURS}" if score.regime else f"{score.name}{_OURS}",
                metric_value=score.value,
                metric_args={"n": score.n, "interval": list(score.interval)} if score.interval else {"n": score.n},
            )
