"""No weight is NaN or infinite."""

from __future__ import annotations

from collections.abc import Iterator

from apr.qa._judged import Judged
from apr.qa.gate import Finding, gate


@gate(
    severity="P0",
    profiles=("file", "smoke", "release"),
    rationale="One NaN weight turns every later logit into NaN; an infinite scale does the same.",
    source="IEEE 754-2019, 6.2: NaN propagates",
)
def check(judged: Judged) -> Iterator[Finding]:
    """Every value of every tensor, decoded, is a finite number."""
    facts = judged.tensor_facts
    for info in judged.file.tensors.values():
        if info.name not in facts:
            message = f"{info.name} is {info.codec}, which is not decoded here"
            yield Finding("undecided", "not-decoded", message, {"tensor": info.name})
        elif n_bad := facts[info.name].n_non_finite:
            first = facts[info.name].first_non_finite
            message = f"{info.name}: {n_bad} of {info.n_elements} values are not finite, the first at index {first}"
            yield Finding("fail", "non-finite", message, {"tensor": info.name, "index": first})
    if facts:
        yield Finding("pass", "finite", f"all values of {len(facts)} of {len(judged.file.tensors)} tensors looked at")
