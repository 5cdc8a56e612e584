"""A model ready to use: file, tokenizer, chat template and session in one. `apr.load(…).generate(…)`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import apr.engines
from apr import _folder, hub
from apr.engines import _prompt
from apr.engines._base import Session
from apr.engines._generate import FinishReason, PromptCache, Step, StopRule, generate
from apr.engines._prompt import Prompt, Regime
from apr.engines._record import RunRecord, TemplateUse, Timings
from apr.engines._sampling import Sampling
from apr.errors import UsageError
from apr.formats import open_model
from apr.formats._base import ModelFile
from apr.hub import digest
from apr.models._checkpoint import Checkpoint
from apr.tokenizer import spec_of
from apr.tokenizer.chat_template import ChatTemplate
from apr.tokenizer.tokenizer import Tokenizer

DEFAULT_MAX_TOKENS = 256


class LanguageModel:
    """A loaded model. Made by `load`; `close` releases the file and the template's process."""

    def __init__(
        self, file: ModelFile, *, engine: str, threads: int, progress: Callable[[int], None] | None = None
    ) -> None:
        started = time.perf_counter()
        self.file = file
        self.checkpoint = Checkpoint(file)
        spec = spec_of(file.format, file.metadata, file.documents, vocab_size=self.checkpoint.config.vocab_size)
        self.tokenizer = Tokenizer(spec)
        self.template = _template(file, spec.chat_template, self.tokenizer)
        self.session: Session = _folder.load(apr.engines.__name__, engine).load(
            self.checkpoint, threads=threads, progress=progress
        )
        self.stop_token_ids = frozenset(spec.stop_token_ids)
        self.load_s = time.perf_counter() - started

    def generate(self, prompt: str | Sequence[Mapping[str, Any]], **options: Any) -> RunRecord:
        """Generate to the end; takes what `run` takes. A list is a conversation of role and content."""
        run = self.run(prompt, **options)
        for _ in run:
            pass
        return run.record()

    def run(
        self,
        prompt: str | Sequence[Mapping[str, Any]],
        *,
        max_tokens: int = DEFAULT_MAX_TOKENS,
        regime: Regime = "auto",
        system: str | None = None,
        control: Literal["text", "token"] = "text",
        sampling: Sampling | None = None,
        stop: Sequence[str] = (),
        at_eos: Literal["stop", "ignore"] = "stop",
        prompt_cache: PromptCache | None = None,
    ) -> Run:
        """Prepare a generation; iterating over the result streams its text.

        regime, system, control:  see `_prompt.of_text`; a conversation always goes through the template
        stop:          strings that end the generation; not part of the text
        at_eos:        "ignore" goes on past stop tokens until `max_tokens`
        prompt_cache:  reuse what it holds of the prompt, and leave in it what was computed
        """
        if max_tokens < 1:
            raise UsageError(f"max_tokens is {max_tokens}, expected at least 1")
        if isinstance(prompt, str):
            ready = _prompt.of_text(
                prompt, self.tokenizer, self.template, regime=regime, system=system, control=control
            )
        else:
            ready = _prompt.of_messages(prompt, self.tokenizer, self.template, control=control)
        ids = self.stop_token_ids if at_eos == "stop" else frozenset()
        rule = StopRule(max_tokens=max_tokens, token_ids=ids, strings=tuple(stop))
        return Run(self, ready, rule, sampling or Sampling(), prompt_cache or PromptCache(self.session))

    def close(self) -> None:
        """Release the file and the template's process."""
        if self.template is not None:
            self.template.close()
        self.file.close()

    def __enter__(self) -> LanguageModel:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Run:
    """One generation: iterate for its text as it comes, then ask for the record (also after an interruption)."""

    def __init__(
        self, model: LanguageModel, prompt: Prompt, stop: StopRule, sampling: Sampling, prompt_cache: PromptCache
    ) -> None:
        self.model = model
        self.prompt = prompt
        self.stop = stop
        self.sampling = sampling
        self.prompt_cache = prompt_cache
        self.steps: list[Step] = []
        self.cached_prompt_tokens = 0
        self._times: list[float] = []

    def __iter__(self) -> Iterator[str]:
        """Yield pieces of text; a piece is never empty and never half a character."""
        self._times = [time.perf_counter()]
        self.cached_prompt_tokens = self.prompt_cache.keep_prefix_of(self.prompt.token_ids)
        steps = generate(
            self.model.session,
            self.model.tokenizer,
            self.prompt.token_ids,
            stop=self.stop,
            sampling=self.sampling,
            prompt_cache=self.prompt_cache,
        )
        for step in steps:
            self._times.append(time.perf_counter())
            self.steps.append(step)
            if step.text:
                yield step.text

    @property
    def finish_reason(self) -> FinishReason:
        """Why it ended; "interrupted" if it did not end by itself."""
        return (self.steps[-1].finish if self.steps else None) or "interrupted"

    def timings(self) -> Timings:
        """Seconds and rates so far. The rate of a phase that did not happen is 0."""
        n_prompt, n_later = len(self.prompt.token_ids) - self.cached_prompt_tokens, max(0, len(self._times) - 2)
        prefill_s = self._times[1] - self._times[0] if len(self._times) > 1 else 0.0
        decode_s = self._times[-1] - self._times[1] if n_later else 0.0
        return Timings(
            load_s=self.model.load_s,
            prefill_s=prefill_s,
            decode_s=decode_s,
            prefill_tok_per_s=n_prompt / prefill_s if prefill_s else 0.0,
            decode_tok_per_s=n_later / decode_s if decode_s else 0.0,
        )

    def record(self) -> RunRecord:
        """The run record. Hashes the model file the first time (digests are cached by path, size and time)."""
        model, session = self.model, self.model.session
        template = model.template
        return RunRecord(
            engine=session.engine,
            engine_version=session.engine_version,
            kernel_set=session.kernel_set,
            instruction_set=session.instruction_set,
            model=str(model.file.path),
            model_format=model.file.format,
            model_sha256=digest.of_files(model.file.files),
            tensors_sha256=digest.remembered(model.file.files, "tensors", model.checkpoint.content_sha256),
            tokenizer_sha256=model.tokenizer.sha256,
            template=TemplateUse(
                source=template.origin if template else None,
                sha256=template.sha256 if template else None,
                decision=self.prompt.decision,
                reason=self.prompt.reason,
            ),
            prompt_text=self.prompt.text,
            prompt_token_ids=self.prompt.token_ids,
            sampling=self.sampling,
            max_tokens=self.stop.max_tokens,
            stop_token_ids=tuple(sorted(self.stop.token_ids)),
            stop_strings=self.stop.strings,
            threads=session.threads,
            batch=1,
            cached_prompt_tokens=self.cached_prompt_tokens,
            environment={key: value for key, value in sorted(os.environ.items()) if key.startswith("APR_")},
            text="".join(step.text for step in self.steps),
            output_token_ids=tuple(step.token_id for step in self.steps),
            steps=tuple(self.steps),
            finish_reason=self.finish_reason,
            timings=self.timings(),
        )


def load(
    reference: str | Path,
    *,
    engine: str = "native",
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> LanguageModel:
    """Load a model by path, alias (`smollm2`) or URL (`hf://…`); what is not here yet is pulled.

    threads:   of the arithmetic; None uses every core this process may run on
    progress:  called with the bytes of each tensor as it is ready
    Raises     FormatError, UnsupportedError, HubError, EngineError.
    """
    file = open_model(hub.resolve(str(reference)))
    return LanguageModel(file, engine=engine, threads=threads or default_threads(), progress=progress)


def default_threads() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _template(file: ModelFile, source: str | None, tokenizer: Tokenizer) -> ChatTemplate | None:
    if not source:
        return None
    named = {"bos_token": tokenizer.bos_token_id, "eos_token": tokenizer.eos_token_id}
    variables = {name: tokenizer.token(token_id) for name, token_id in named.items() if token_id is not None}
    where = {"gguf": "tokenizer.chat_template", "apr": "chat_template"}.get(file.format, "the tokenizer's files")
    return ChatTemplate(
        source, origin=f"{where} of {file.path.name}", control_tokens=tokenizer.control_tokens, variables=variables
    )
