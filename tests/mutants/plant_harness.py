"""Defects of the measurement itself: two recorded runs that did not answer the same question.

What is judged here is the comparison of run records, which must refuse to compare.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from apr.engines._sampling import Sampling
from apr.engines._subject import Subject
from apr.parity.records import compare_records
from mutants.mutant import Answer, Healthy, Mutant, Planted, Ward, planted

_QUESTION: dict[str, Any] = {"prompt": "Water boils at 100 degrees", "max_tokens": 8, "regime": "raw"}


def mutants() -> list[Mutant]:
    """Two runs each; the second was asked in another way."""
    sites = "llama/gguf"
    return [
        *_other("prompt", "llama/gguf qwen2/safetensors", "prompt_text", prompt="Water boils at 100 degrees "),
        *_other("wrapped_prompt", "llama/gguf qwen2/gguf", "template.decision", regime="chat"),
        *_other("seed", sites, "sampling.seed", sampling=Sampling(temperature=0.8, seed=1)),
        *_other("temperature", sites, "sampling.temperature", sampling=Sampling(temperature=0.5)),
        *_other("max_tokens", sites, "max_tokens", max_tokens=7),
        *_other("stop_strings", sites, "stop_strings", stop=("e",)),
        *_other("stop_ids", sites, "stop_token_ids", at_eos="ignore"),
        *planted("harness.other_engine", "qwen2/gguf", _pair_of_runs(engine="numpy"), "harness", where={"field": frozenset({"engine", "kernel_set", "instruction_set"})}),
        *planted("harness.other_precision", "qwen2/gguf", _pair_of_runs(activations="int8"), "harness", where={"field": frozenset({"activations", "kv_cache"})}),
        *planted("harness.other_threads", "qwen2/gguf", _pair_of_runs(threads=2), "harness", where={"field": "threads"}),
        *planted("harness.other_model", "qwen2/gguf", _pair_of_runs(other="safetensors"), "harness", where={"field": frozenset({"model_format", "model_sha256", "tensors_sha256"})}),
    ]  # fmt: skip


def healthy() -> list[Healthy]:
    """The same command twice."""
    return [Healthy("harness", "same_command", variant, _again) for variant in ("llama", "qwen2", "gemma3_text")]


def _other(name: str, sites: str, field: str, **changed: Any) -> list[Mutant]:
    plant = _pair_of_runs(**changed)
    return planted(f"harness.other_{name}", sites, plant, "harness", where={"field": field})


def _again(ward: Ward, pair: Healthy) -> Planted:
    path = ward.healthy(pair.variant, "gguf")
    first, second = ward.subject(path), ward.subject(path)
    return Planted(first, second, ask=lambda: _asked(first, second, _QUESTION, _QUESTION))


def _pair_of_runs(**changed: Any) -> Callable[[Ward, Mutant], Planted]:
    """changed: options of the run, or of the subject"""

    def plant(ward: Ward, mutant: Mutant) -> Planted:
        of_subject = {k: v for k, v in changed.items() if k in ("engine", "activations", "threads")}
        of_run = {k: v for k, v in changed.items() if k not in (*of_subject, "other")}
        path = ward.healthy(mutant.variant, mutant.format)
        first = ward.subject(path)
        second = ward.subject(ward.healthy(mutant.variant, changed.get("other", mutant.format)), **of_subject)
        return Planted(first, second, ask=lambda: _asked(first, second, _QUESTION, _QUESTION | of_run))

    return plant


def _asked(first: Subject, second: Subject, question: dict[str, Any], other: dict[str, Any]) -> Answer:
    started = time.perf_counter()
    records = []
    for subject, options in ((first, question), (second, other)):
        prompt, rest = options["prompt"], {k: v for k, v in options.items() if k != "prompt"}
        records.append(subject.language_model.generate(prompt, **rest))
    found = compare_records(*records)
    fields = frozenset(d.field for d in found.differing)
    passed = found.verdict == "same"
    return Answer(
        verdict=found.verdict,
        benign=passed,
        exit_code=0 if passed else 5 if found.verdict in ("not_comparable", "cannot_tell") else 1,
        link=None,
        cause=found.cause,
        where={"field": fields},
        sentence=found.sentence,
        seconds=time.perf_counter() - started,
    )
