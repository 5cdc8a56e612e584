"""The run record: everything that a generation depended on, and what came of it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from apr.engines._generate import FinishReason, Step
from apr.engines._prompt import Decision
from apr.engines._sampling import Sampling


@dataclass(frozen=True, slots=True)
class TemplateUse:
    """Where the chat template came from, and what was done with it.

    source:    where it was found; None if the model has none
    sha256:    of its UTF-8 text
    decision:  applied, raw or pre-formatted; reason: why
    """

    source: str | None
    sha256: str | None
    decision: Decision
    reason: str


@dataclass(frozen=True, slots=True)
class Timings:
    """Wall-clock seconds, and tokens per second of each phase.

    load_s:      opening, decoding weights, building the tokenizer
    prefill_s:   from the start of the generation to the first token; decode_s: all later tokens

    In a batch the passes are shared: the rates are those of this sequence, not of all together.
    """

    load_s: float
    prefill_s: float
    decode_s: float
    prefill_tok_per_s: float
    decode_tok_per_s: float


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One generation. Two records that differ in a field that is not under test are not comparable.

    model_sha256:    of the model file; for a folder, of the list of its files' digests
    tensors_sha256:  of the tensors under canonical names; equal for two containers with the same encoded weights
    prompt_id:       as the file of prompts has it; null if it has none
    prompt_text:     what was tokenised, template included
    activations:     "int8": rounded to 8 bits in blocks of 32 before a product with a block codec; "float32": exact
    kv_cache:        how keys and values are kept: "float16" or "float32"
    batch:           the most sequences that shared a forward pass with this one, itself included
    output_token_ids: captured where they were chosen, the stop token included
    environment:     `APR_*` switches in force
    """

    engine: str
    engine_version: str
    kernel_set: str
    instruction_set: str
    activations: str
    kv_cache: str
    model: str
    model_format: str
    model_sha256: str | None
    tensors_sha256: str | None
    tokenizer_sha256: str
    template: TemplateUse
    prompt_id: str | int | None
    prompt_text: str
    prompt_token_ids: tuple[int, ...]
    sampling: Sampling
    max_tokens: int
    stop_token_ids: tuple[int, ...]
    stop_strings: tuple[str, ...]
    threads: int
    batch: int
    cached_prompt_tokens: int
    environment: dict[str, str]
    text: str
    output_token_ids: tuple[int, ...]
    steps: tuple[Step, ...]
    finish_reason: FinishReason
    timings: Timings
    schema: str = field(default="apr.run/1")


def switches_in_force() -> dict[str, str]:
    """The `APR_*` variables of the environment, sorted. Of a key (`APR_OPENAI_API_KEY`) only that it is set: records are shared."""
    found = {name: value for name, value in sorted(os.environ.items()) if name.startswith("APR_")}
    return {name: "set" if name.endswith("_KEY") else value for name, value in found.items()}
