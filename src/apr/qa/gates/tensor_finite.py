"""No weight is NaN or infinite."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from apr.kernels import quants
from apr.qa._subject import Subject
from apr.qa.gate import Finding, gate


@gate(
    severity="P0",
    profiles=("file",),
    rationale="One NaN weight turns every later logit into NaN; an infinite scale does the same.",
    source="IEEE 754-2019, 6.2: NaN propagates",
)
def check(subject: Subject) -> Iterator[Finding]:
    """Every value of every tensor, decoded, is a finite number."""
    n_checked, unread = 0, []
    for info in subject.file.tensors.values():
        if info.codec not in quants.names():
            unread.append(info)
            continue
        values = subject.file.array(info.name)
        if not np.isfinite(values).all():
            flat = values.reshape(-1)
            first = int(np.flatnonzero(~np.isfinite(flat))[0])
            n_bad = int((~np.isfinite(flat)).sum())
            message = f"{info.name}: {n_bad} of {info.n_elements} values are not finite, the first at index {first}"
            yield Finding("fail", "non-finite", message, {"tensor": info.name, "index": first})
        n_checked += 1
        subject.advance(info.n_bytes)
    for info in unread:
        yield Finding(
            "undecided", "not-decoded", f"{info.name} is {info.codec}, which is not decoded here", {"tensor": info.name}
        )
    if n_checked:
        yield Finding("pass", "finite", f"all values of {n_checked} of {len(subject.file.tensors)} tensors looked at")
