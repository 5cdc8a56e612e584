"""The closed vocabulary of causes, and what each is in words. Add to it; never rename: programs read these."""

from __future__ import annotations

from typing import Literal, get_args

Cause = Literal[
    "file.unreadable",
    "file.corrupt",
    "metadata.missing",
    "metadata.value",
    "tokenizer.vocab",
    "tokenizer.merges",
    "tokenizer.pre",
    "tokenizer.special",
    "tokenizer.bos",
    "tokenizer.padding",
    "template.missing",
    "template.text",
    "template.not_applied",
    "template.double",
    "template.generation_prompt",
    "stop.missing",
    "stop.extra",
    "weights.missing",
    "weights.extra",
    "weights.transposed",
    "weights.permuted",
    "weights.swapped",
    "weights.scaled",
    "weights.offset",
    "weights.zeroed",
    "weights.nonfinite",
    "weights.bias_missing",
    "weights.tied",
    "weights.quantization",
    "weights.unexplained",
    "engine.op",
    "engine.kv_cache",
    "engine.position",
    "engine.stop",
    "engine.sampling",
    "drift.quantization",
    "drift.precision",
    "harness",
]
CAUSES: tuple[Cause, ...] = get_args(Cause)
# explained by measured drift and margins: no defect
BENIGN: frozenset[Cause] = frozenset({"drift.quantization", "drift.precision"})
