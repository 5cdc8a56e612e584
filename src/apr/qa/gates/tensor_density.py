"""No weight is empty of content: mostly zeros, or one value throughout."""

from __future__ import annotations

from collections.abc import Iterator

from apr.errors import AprError
from apr.qa._judged import Judged
from apr.qa.gate import Finding, gate

# shares of exact zeros that no trained model goes beyond: upstream's density check, F-DATA-QUALITY-001
MOST_ZEROS_TABLE = 0.5
MOST_ZEROS = 0.8
_TABLES = ("token_embd.weight", "model.embed_tokens.weight", "output.weight", "lm_head.weight")


@gate(
    severity="P0",
    profiles=("file", "smoke", "release"),
    rationale="A tensor that a converter never filled is all zeros or all one value; it loads everywhere, and its layer does nothing.",
    source="ship-two requirement F-DATA-QUALITY-001: zeros at most 50 % in vocabulary tables, 80 % elsewhere; no constant weight",
)
def check(judged: Judged) -> Iterator[Finding]:
    """Matrices hold few zeros and more than one value; no norm is zero throughout. Biases may be zero."""
    facts = judged.tensor_facts
    matrices = [info for info in judged.file.tensors.values() if info.name in facts and len(info.shape) > 1]
    for info in matrices:
        found = facts[info.name]
        share = found.n_zero / max(1, info.n_elements)
        most = MOST_ZEROS_TABLE if info.name in _TABLES else MOST_ZEROS
        if share > most:
            message = f"{info.name}: {share:.1%} of its values are zero, expected at most {most:.0%}"
            yield Finding("fail", "zeros", message, {"tensor": info.name})
        elif found.min == found.max and info.n_elements > 1:
            message = f"{info.name}: every value is {found.min:g}"
            yield Finding("fail", "constant", message, {"tensor": info.name})
    for name in _zero_norms(judged):
        yield Finding("fail", "zeros", f"{name}: the norm multiplies by zero throughout", {"tensor": name})
    if matrices:
        yield Finding("pass", "dense", f"{len(matrices)} matrices and the norms looked at")
    else:
        yield Finding("undecided", "no-matrix", "no matrix could be decoded")


def _zero_norms(judged: Judged) -> list[str]:
    """The file's names of norm weights whose factor is zero throughout."""
    try:
        places = judged.checkpoint.tensors
    except AprError:  # which tensors are norms is the architecture's to say; the census reports why it cannot
        return []
    found = []
    for canonical, place in places.items():
        facts = judged.tensor_facts.get(place.info.name)
        if canonical.endswith("norm.weight") and facts and place.info.n_elements:
            found += [place.info.name] if facts.min == facts.max == -place.norm_offset else []
    return found
