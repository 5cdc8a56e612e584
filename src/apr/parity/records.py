"""Two run records compared: first whether they asked the same question, and only then whether the answers agree.

A run's output depends on everything in `CONDITIONS`. The comparison of two outputs means something if every one of those agrees
but what is under test; otherwise the answer is `not_comparable`, because of the harness, with each difference named.
What is not known (a hash that was not recorded) does not agree.

    compare_records(run, gate)                              the same command twice: nothing may differ
    compare_records(original, copy, under_test=("model",))  two files under one engine
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from apr.engines._record import RunRecord
from apr.errors import UsageError
from apr.parity._causes import Cause
from apr.parity._record_file import read_record

__all__ = ["CONDITIONS", "FieldDifference", "RecordComparison", "compare_records", "differing_fields", "read_record"]

# what can be under test -> the fields that belong to it
CONDITIONS: dict[str, tuple[str, ...]] = {
    "engine": ("engine", "engine_version", "kernel_set", "instruction_set"),
    "precision": ("activations", "kv_cache"),
    "model": ("model_format", "model_sha256", "tensors_sha256"),
    "tokenizer": ("tokenizer_sha256",),
    "template": ("template.sha256", "template.decision"),
    "prompt": ("prompt_text", "prompt_token_ids"),
    "sampling": tuple(
        f"sampling.{name}" for name in ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed")
    ),
    "stop": ("max_tokens", "stop_token_ids", "stop_strings"),
    "schedule": ("threads", "batch", "cached_prompt_tokens"),
    "environment": ("environment",),
}
# what came of it: compared, if the conditions agree
OUTCOMES = ("text", "output_token_ids", "steps", "finish_reason")
# names and clocks: a run does not depend on them. `template.source` and `.reason` say where the text of that hash stood
LABELS = ("schema", "model", "template.source", "template.reason", "prompt_id", "timings")
# switches that say where things are kept, how much is said, and that no network is to be used
HARMLESS_SWITCHES = ("APR_HOME", "APR_DEBUG", "APR_OFFLINE", "APR_COMPLETE", "APR_OPENAI_API_KEY")

Verdict = Literal["same", "different", "not_comparable", "cannot_tell"]


@dataclass(frozen=True, slots=True)
class FieldDifference:
    """One condition that differs. field: its name, dotted; reference, candidate: its values, None where unknown or unset."""

    field: str
    reference: Any
    candidate: Any

    @property
    def is_unknown(self) -> bool:
        """Whether neither side recorded it, so that nobody can say that it agrees."""
        return self.reference is None and self.candidate is None


@dataclass(frozen=True, slots=True)
class RecordComparison:
    """What two records have to say about each other.

    cause:             "harness" if they are not comparable: the instrument differs, and nothing is known of the model
    sentence:          the verdict in words
    under_test:        the fields that were allowed to differ
    differing:         conditions that differ and are not under test; empty unless not_comparable
    varied:            conditions under test that do differ
    n_compared:        output tokens that both have
    first_divergence:  index of the first output token that differs (also: where one ends and the other goes on)
    reference_margin, candidate_margin:  distance in logits between the two best tokens at that step
    """

    verdict: Verdict
    cause: Cause | None
    sentence: str
    under_test: tuple[str, ...]
    differing: tuple[FieldDifference, ...] = ()
    varied: tuple[FieldDifference, ...] = ()
    n_compared: int = 0
    first_divergence: int | None = None
    reference_margin: float | None = None
    candidate_margin: float | None = None
    schema: str = field(default="apr.records/1")


def compare_records(
    reference: RunRecord | Path, candidate: RunRecord | Path, *, under_test: Sequence[str] = ()
) -> RecordComparison:
    """Compare two runs, or files of `apr run --record`.

    under_test:  what may differ: keys of `CONDITIONS`, or single fields (`sampling.seed`)
    Raises       UsageError for a name that is neither; FormatError for a file that is no record.
    """
    allowed = _fields_of(under_test)
    first = read_record(reference) if isinstance(reference, Path) else reference
    second = read_record(candidate) if isinstance(candidate, Path) else candidate
    found = differing_fields(first, second)
    varied = tuple(d for d in found if _is_among(d.field, allowed) and not d.is_unknown)
    differing = tuple(d for d in found if not _is_among(d.field, allowed))
    if differing:
        return RecordComparison(
            "not_comparable", "harness", _refusal(differing), allowed, differing=differing, varied=varied
        )
    return _compare_outcomes(first, second, allowed, varied)


def differing_fields(reference: RunRecord, candidate: RunRecord) -> list[FieldDifference]:
    """Every condition that differs between two runs, or that neither recorded, in the order of `CONDITIONS`."""
    a, b = _conditions(reference), _conditions(candidate)
    names = [*a, *(name for name in b if name not in a)]
    return [
        FieldDifference(name, a.get(name), b.get(name))
        for name in names
        if a.get(name) != b.get(name) or (a.get(name) is None and name in _MUST_BE_KNOWN)
    ]


_MUST_BE_KNOWN = ("model_sha256", "tensors_sha256")


def _conditions(record: RunRecord) -> dict[str, Any]:
    """The values of all conditions by dotted name; each switch of the environment by itself."""
    found: dict[str, Any] = {}
    for name in (name for names in CONDITIONS.values() for name in names):
        if name == "environment":
            switches = {k: v for k, v in record.environment.items() if k not in HARMLESS_SWITCHES}
            found |= {f"environment.{key}": value for key, value in switches.items()}
        else:
            value: Any = record
            for part in name.split("."):
                value = getattr(value, part)
            found[name] = value
    return found


def _fields_of(under_test: Iterable[str]) -> tuple[str, ...]:
    fields: list[str] = []
    singles = {name for names in CONDITIONS.values() for name in names}
    for name in under_test:
        if name not in CONDITIONS and name not in singles and not name.startswith("environment."):
            raise UsageError(f"{name!r} cannot be under test; known: {', '.join(sorted({*CONDITIONS, *singles}))}")
        # a group before the field of its name: "engine" is all that an engine brings with it
        fields += CONDITIONS.get(name, (name,))
    return tuple(dict.fromkeys(fields))


def _is_among(name: str, allowed: Sequence[str]) -> bool:
    return name in allowed or (name.startswith("environment.") and "environment" in allowed)


def _refusal(differing: Sequence[FieldDifference]) -> str:
    told = "; ".join(f"{d.field} ({_shown_pair(d)})" for d in differing)
    return f"the two runs did not ask the same question, and nothing follows from their answers; not under test, and different: {told}"


def _shown_pair(difference: FieldDifference) -> str:
    if difference.is_unknown:
        return "recorded by neither"
    a, b = difference.reference, difference.candidate
    if isinstance(a, tuple) and isinstance(b, tuple):
        at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
        return f"{len(a)} against {len(b)} values, the first difference at {at}"
    return f"{_shown(a)} against {_shown(b)}"


def _shown(value: Any) -> str:
    """A word as it is; what has spaces or line breaks in it in quotes, cut to forty characters."""
    text = "not set" if value is None else value if isinstance(value, str) else repr(value)
    cut = text if len(text) <= 40 else text[:37] + "…"
    return repr(cut) if isinstance(value, str) and (cut != text or len(text.split()) != 1) else cut


def _compare_outcomes(
    a: RunRecord, b: RunRecord, allowed: tuple[str, ...], varied: tuple[FieldDifference, ...]
) -> RecordComparison:
    ids, others = a.output_token_ids, b.output_token_ids
    n = min(len(ids), len(others))
    differs = dataclasses.replace(RecordComparison("same", None, "", allowed), varied=varied, n_compared=n)
    at = next((i for i in range(n) if ids[i] != others[i]), n if len(ids) != len(others) else None)
    if at is not None and at < n:
        return _diverged(differs, a, b, at)
    if "interrupted" in (a.finish_reason, b.finish_reason):
        return dataclasses.replace(
            differs, verdict="cannot_tell", sentence=f"a run was interrupted; the {n} tokens that both have agree"
        )
    if at is not None:
        return _diverged(differs, a, b, at)
    if n == 0:
        return dataclasses.replace(
            differs, verdict="cannot_tell", sentence="no token was generated: nothing to compare"
        )
    for name in ("text", "finish_reason"):
        if getattr(a, name) != getattr(b, name):
            said = f"the {n} token ids agree, and {name} does not: {_shown(getattr(a, name))} against {_shown(getattr(b, name))}"
            return dataclasses.replace(differs, verdict="different", sentence=said)
    return dataclasses.replace(differs, sentence=f"the same {n} tokens{_because(varied)}")


def _diverged(made: RecordComparison, a: RunRecord, b: RunRecord, at: int) -> RecordComparison:
    margins = [record.steps[at].margin if at < len(record.steps) else None for record in (a, b)]
    chosen = [str(record.output_token_ids[at]) if at < len(record.steps) else "the end" for record in (a, b)]
    told = " and ".join("none" if m is None else "infinite" if math.isinf(m) else f"{m:.3g}" for m in margins)
    said = (
        f"the outputs part at token {at}: {chosen[0]} against {chosen[1]}; margins there {told}{_because(made.varied)}"
    )
    return dataclasses.replace(
        made, verdict="different", sentence=said, first_divergence=at, reference_margin=margins[0], candidate_margin=margins[1]
    )  # fmt: skip


def _because(varied: Sequence[FieldDifference]) -> str:
    return f", under other {', '.join(d.field for d in varied)}" if varied else ""
