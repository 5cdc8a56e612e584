"""The tensors that the architecture needs, in their shapes, and no strangers."""

from __future__ import annotations

from collections.abc import Iterator

from apr.qa._subject import Subject
from apr.qa.gate import Finding, gate


@gate(
    severity="P0",
    profiles=("file",),
    rationale="A missing bias or a transposed matrix of square shape loads everywhere and is noticed by nobody but the reader.",
    source="the architecture's census in apr/models, tested against transformers",
)
def check(subject: Subject) -> Iterator[Finding]:
    """Census: every expected tensor is there with its expected shape, and every tensor there is expected."""
    checkpoint = subject.checkpoint
    for name, shape in checkpoint.expected.items():
        place = checkpoint.tensors.get(name)
        if place is None:
            yield Finding(
                "fail", "missing", f"no tensor {name}, which {checkpoint.config.model_type} needs", {"tensor": name}
            )
        elif place.info.shape != shape:
            message = f"{place.info.name} is {list(place.info.shape)}, the configuration says {list(shape)}"
            yield Finding("fail", "shape", message, {"tensor": place.info.name})
    for name in checkpoint.extra:
        yield Finding(
            "fail", "stranger", f"{name}: {checkpoint.config.model_type} has no place for it", {"tensor": name}
        )
    for name in sorted(set(checkpoint.tensors) - set(checkpoint.expected)):
        message = f"{name} is there although the configuration does without it"
        yield Finding("fail", "unexpected", message, {"tensor": name})
    yield Finding(
        "pass", "census", f"{len(checkpoint.expected)} tensors expected by {checkpoint.config.model_type}, all compared"
    )
