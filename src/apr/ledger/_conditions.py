"""Whether a run is what was expected of it: conditions on its record, each judged alone, with what was found."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

from apr.engines._record import RunRecord
from apr.ledger import _pattern
from apr.ledger.prediction import Condition, Prediction, Result, RunName
from apr.qa import _code, _degeneration


@dataclass(frozen=True, slots=True)
class Judged:
    """One condition and what came of it.

    condition:  as the file has it
    sentence:   what was found
    """

    condition: str
    status: Result
    sentence: str


def judge(prediction: Prediction, run: RunName, record: RunRecord, control: RunRecord) -> tuple[Judged, ...]:
    """Every condition that is asked of a run. Raises UsageError for a pattern that gives no answer."""
    return tuple(
        Judged(described(condition), *_judged(condition, record, control))
        for condition in prediction.expected
        if condition.run in (None, run)
    )


def described(condition: Condition) -> str:
    """A condition in the file's words."""
    of = "" if condition.field == "text" else f"{condition.field} "
    if condition.op == "not_degenerate":
        return "not degenerate"
    return f"{of}{condition.op.replace('_', ' ')} {condition.value if condition.op in _BARE else repr(condition.value)}"


_BARE = ("parses_as", "same_token_ids_as")


def _judged(condition: Condition, record: RunRecord, control: RunRecord) -> tuple[Result, str]:
    if condition.op == "not_degenerate":
        return _not_degenerate(record)
    if condition.op == "same_token_ids_as":
        return _same_ids(record.output_token_ids, control.output_token_ids)
    if condition.op == "parses_as":
        return _parses(record)
    value: Any = record
    for part in condition.field.split("."):
        value = getattr(value, part)
    if condition.op == "equals":
        return _told(value == condition.value, value)
    text = value if isinstance(value, str) else str(value)
    if condition.op == "contains":
        return _told(str(condition.value) in text, text)
    return _told(_pattern.is_found(str(condition.value), text), text)


def _told(is_met: bool, value: Any) -> tuple[Result, str]:
    shown = repr(value)
    return ("pass" if is_met else "fail"), f"found {shown if len(shown) <= 80 else shown[:79] + '…'}"


def _not_degenerate(record: RunRecord) -> tuple[Result, str]:
    if not record.text.strip():
        return "fail", "no text was written"
    steps = [step for step in record.steps if step.token_id not in record.stop_token_ids]
    found = _degeneration.find(
        record.text,
        prompt=record.prompt_text,
        token_ids=[step.token_id for step in steps],
        token_texts=[step.text for step in steps],
    )
    return ("pass", "the text is healthy") if found is None else ("fail", str(found))


def _same_ids(ids: tuple[int, ...], others: tuple[int, ...]) -> tuple[Result, str]:
    if ids == others:
        return "pass", f"the same {len(ids)} tokens"
    at = next((i for i, (a, b) in enumerate(zip(ids, others, strict=False)) if a != b), min(len(ids), len(others)))
    return "fail", f"they part at token {at} of {len(ids)} and {len(others)}"


def _parses(record: RunRecord) -> tuple[Result, str]:
    """Of a raw run, the prompt with what follows; of an answer, its first block of code. Cut off by length: all whole lines that parse."""
    raw = record.template.decision == "raw"
    source = record.prompt_text + record.text if raw else _code.fenced(record.text)
    found = _code.longest(source, is_cut=record.finish_reason == "length")
    if isinstance(found, str):
        return "fail", found
    tree, n = found
    if any(not isinstance(node, ast.Expr) or isinstance(node.value, ast.Call) for node in tree.body):
        return "pass", f"{n} lines parse"
    return "fail", "what parses is no code"  # "It is 4" is valid Python
