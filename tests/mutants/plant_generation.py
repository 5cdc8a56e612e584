"""Defects of the loop around a healthy session: what is asked, which token is chosen, when it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any
from unittest import mock

import numpy as np

from apr.engines import _generate
from apr.engines._language_model import LanguageModel, Run
from apr.engines._sampling import Sampler, Sampling
from apr.engines._subject import Subject
from mutants.mutant import Mutant, Plant, Planted, Ward, planted

_LINKS = "generation"


def mutants() -> list[Mutant]:
    """Those of the twins."""
    early = "an end that no stop token makes; the id that ended it is declared by nobody"
    wrapped = "the loop asks another question than it was asked: the harness, or the template that it adds"
    return [
        *planted("engine.sampler_drops_the_best", "llama/gguf qwen2/safetensors qwen3/apr", _loop(sampler=_SecondBest), "engine.sampling", links=_LINKS),
        *planted("engine.sampler_drops_the_best_at_times", "qwen2/gguf", _loop(sampler=_SometimesSecond), "engine.sampling", links=_LINKS),
        *planted("engine.sampler_is_not_greedy", "llama/gguf qwen3/gguf mistral/gguf", _loop(sampling=Sampling(temperature=1.0, seed=3)), "engine.sampling", links=_LINKS),
        *planted("engine.penalty_by_default", "llama/safetensors qwen2/gguf", _loop(sampling=Sampling(repetition_penalty=1.8)), "engine.sampling", links=_LINKS),
        *planted("engine.sampler_never_says_zero", "phi3/gguf", _loop(sampler=_OffByOne), "engine.sampling", links=_LINKS),
        *planted("engine.stop_ignored", "llama/gguf qwen2/gguf", _loop(at_eos="ignore"), "engine.stop", links=_LINKS),
        *planted("engine.stop_one_id_only", "qwen3/gguf", _loop(stop_ids=lambda ids: frozenset({min(ids)})), "engine.stop", links=_LINKS),
        *planted("engine.stops_at_a_common_token", "llama/gguf", _loop(stop_ids=lambda ids: ids | frozenset(range(300, 500))), "engine.stop stop.extra", links=_LINKS, reason=early),
        *planted("engine.stops_after_five", "qwen2/safetensors mistral/apr", _loop(max_tokens=5), "engine.stop", links=_LINKS),
        *planted("harness.loop_wraps_the_prompt", "qwen2/gguf llama/gguf", _loop(wraps=True), "harness template.double template.not_applied", reason=wrapped),
        *planted("harness.loop_cuts_the_prompt", "qwen2/gguf", _loop(cuts=True), "harness", links=_LINKS),
    ]  # fmt: skip


def real() -> list[Mutant]:
    """Those of the real models."""
    smol = "smollm2/gguf"
    return [
        *planted("engine.sampler_drops_the_best", smol, _loop(sampler=_SometimesSecond), "engine.sampling", links=_LINKS),
        *planted("engine.penalty_by_default", smol, _loop(sampling=Sampling(repetition_penalty=1.3)), "engine.sampling", links=_LINKS),
        *planted("engine.stop_ignored", smol, _loop(at_eos="ignore"), "engine.stop", links=_LINKS),
        *planted("engine.stops_after_five", smol, _loop(max_tokens=5), "engine.stop", links=_LINKS),
    ]  # fmt: skip


class _SecondBest(Sampler):
    """Never the arg-max: Anthropic's post-mortem of September 2025 has such a one."""

    def choose(self, logits: np.ndarray, seen: Sequence[int], *, best: int | None = None) -> int:
        """The second."""
        return int(np.argsort(logits)[-2])


class _SometimesSecond(Sampler):
    """Not the arg-max at every fifth token."""

    def choose(self, logits: np.ndarray, seen: Sequence[int], *, best: int | None = None) -> int:
        """The first, or the second."""
        return int(np.argsort(logits)[-2 if len(seen) % 5 == 0 else -1])


class _OffByOne(Sampler):
    """The id beside the best one."""

    def choose(self, logits: np.ndarray, seen: Sequence[int], *, best: int | None = None) -> int:
        """One too high, but for the last."""
        return min(int(np.argmax(logits)) + 1, len(logits) - 1)


def _loop(
    *,
    sampler: type[Sampler] = Sampler,
    stop_ids: Callable[[frozenset[int]], frozenset[int]] | None = None,
    wraps: bool = False,
    cuts: bool = False,
    max_tokens: int | None = None,
    **forced: Any,
) -> Plant:
    """A candidate whose generation is spoiled.

    forced:  options of `LanguageModel.run` that replace those that it is given
    """

    class FaultyRun(Run):
        def __iter__(self) -> Iterator[str]:
            with mock.patch.object(_generate, "Sampler", sampler):
                yield from super().__iter__()

    class FaultyModel(LanguageModel):
        def run(self, prompt: Any, **options: Any) -> Run:
            if wraps and isinstance(prompt, str):
                options.pop("regime", None)
                prompt = [{"role": "user", "content": prompt}]
            if cuts and isinstance(prompt, str):
                prompt = prompt[-40:]
            if max_tokens is not None:
                options["max_tokens"] = min(max_tokens, options["max_tokens"])
            made = super().run(prompt, **(options | forced))
            return FaultyRun(made.model, made.prompt, made.generation, prompt_id=made.prompt_id)

        def run_together(self, runs: Iterable[Run], *, batch_size: int) -> Iterator[Run]:
            with mock.patch.object(_generate, "Sampler", sampler):
                yield from super().run_together(runs, batch_size=batch_size)

    class FaultySubject(Subject):
        @property
        def language_model(self) -> LanguageModel:
            ids = self.stop_token_ids if stop_ids is None else stop_ids(self.stop_token_ids)
            return FaultyModel(self.checkpoint, self.tokenizer, self.template, self.session, stop_token_ids=ids)

    def plant(ward: Ward, mutant: Mutant) -> Planted:
        path = ward.healthy(mutant.variant, mutant.format)
        return Planted(ward.subject(path), FaultySubject(path, name="faulty", threads=ward.threads))

    return plant
