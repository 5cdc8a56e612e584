"""A model ready to use: file, tokenizer, chat template and session in one. `apr.load(…).generate(…)`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import apr.engines
from apr import _folder, hub
from apr.engines import _prompt
from apr.engines._base import Activations, Session
from apr.engines._generate import FinishReason, Generation, PromptCache, Step, StopRule, check_prompt, generate
from apr.engines._prompt import Prompt, Regime
from apr.engines._record import RunRecord, TemplateUse, Timings, switches_in_force
from apr.engines._sampling import Sampling
from apr.errors import UsageError
from apr.formats import open_model
from apr.formats._base import ModelFile
from apr.hub import digest
from apr.models._checkpoint import Checkpoint
from apr.tokenizer import spec_of
from apr.tokenizer.chat_template import ChatTemplate
from apr.tokenizer.spec import TokenizerSpec
from apr.tokenizer.tokenizer import Tokenizer

DEFAULT_MAX_TOKENS = 256
DEFAULT_BATCH_SIZE = 8  # the compiled kernels unpack a weight once for up to eight tokens
Conversation = Sequence[Mapping[str, Any]]  # of role and content


class LanguageModel:
    """A loaded model. Made by `load` and `of_file`; `close` releases the file and the template's process."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        tokenizer: Tokenizer,
        template: ChatTemplate | None,
        session: Session,
        *,
        stop_token_ids: Iterable[int],
        load_s: float = 0.0,
    ) -> None:
        self.checkpoint = checkpoint
        self.file = checkpoint.file
        self.tokenizer = tokenizer
        self.template = template
        self.session = session
        self.stop_token_ids = frozenset(stop_token_ids)
        self.load_s = load_s

    def generate(self, prompt: str | Conversation, **options: Any) -> RunRecord:
        """Generate to the end; takes what `run` takes. A list is a conversation of role and content."""
        run = self.run(prompt, **options)
        for _ in run:
            pass
        return run.record()

    def generate_many(
        self, prompts: Sequence[str | Conversation], *, batch_size: int = DEFAULT_BATCH_SIZE, **options: Any
    ) -> list[RunRecord]:
        """Generate from several prompts to their ends, up to `batch_size` of them together; their records, in order.

        options:  what `run` takes, for every prompt the same: each draws from a random stream of its own with the same
                  seed, as if it were generated alone
        """
        runs = []
        for i, prompt in enumerate(prompts):
            try:
                runs.append(self.run(prompt, **options))
            except UsageError as exc:
                raise UsageError(f"prompt {i + 1} of {len(prompts)}: {exc}") from exc
        for _ in self.run_together(runs, batch_size=batch_size):
            pass
        return [run.record() for run in runs]

    def run(
        self,
        prompt: str | Conversation,
        *,
        max_tokens: int = DEFAULT_MAX_TOKENS,
        regime: Regime = "auto",
        system: str | None = None,
        control: Literal["text", "token"] = "text",
        sampling: Sampling | None = None,
        stop: Sequence[str] = (),
        at_eos: Literal["stop", "ignore"] = "stop",
        prompt_cache: PromptCache | None = None,
        prompt_id: str | int | None = None,
    ) -> Run:
        """Prepare a generation; iterating over the result streams its text.

        regime, system, control:  see `_prompt.of_text`; a conversation always goes through the template
        stop:          strings that end the generation; not part of the text
        at_eos:        "ignore" goes on past stop tokens until `max_tokens`
        prompt_cache:  reuse what it holds of the prompt, and leave in it what was computed
        prompt_id:     the caller's name for the prompt, for the record
        Raises         UsageError for a prompt that is empty, or too long for the model.
        """
        if max_tokens < 1:
            raise UsageError(f"max_tokens is {max_tokens}, expected at least 1")
        if isinstance(prompt, str):
            ready = _prompt.of_text(
                prompt, self.tokenizer, self.template, regime=regime, system=system, control=control
            )
        else:
            ready = _prompt.of_messages(prompt, self.tokenizer, self.template, control=control)
        check_prompt(self.session, ready.token_ids)
        ids = self.stop_token_ids if at_eos == "stop" else frozenset()
        rule = StopRule(max_tokens=max_tokens, token_ids=ids, strings=tuple(stop))
        generation = Generation(ready.token_ids, stop=rule, sampling=sampling, prompt_cache=prompt_cache)
        return Run(self, ready, generation, prompt_id=prompt_id)

    def run_together(self, runs: Iterable[Run], *, batch_size: int) -> Iterator[Run]:
        """Bring several runs to their ends, up to `batch_size` at a time; yield each when it has ended.

        A run is taken from `runs` when there is room for it; what has ended is not held.
        """
        if batch_size < 1:
            raise UsageError(f"batch_size is {batch_size}, expected at least 1")
        active: dict[int, Run] = {}

        def joining() -> Iterator[Generation]:
            for i, run in enumerate(runs):
                active[i] = run
                yield run.generation

        for i, step in generate(self.session, self.tokenizer, joining(), batch_size=batch_size):
            if step.finish is not None:
                yield active.pop(i)

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
        self, model: LanguageModel, prompt: Prompt, generation: Generation, *, prompt_id: str | int | None = None
    ) -> None:
        self.model = model
        self.prompt = prompt
        self.generation = generation
        self.prompt_id = prompt_id

    def __iter__(self) -> Iterator[str]:
        """Yield pieces of text; a piece is never empty and never half a character."""
        for _, step in generate(self.model.session, self.model.tokenizer, [self.generation]):
            if step.text:
                yield step.text

    @property
    def steps(self) -> list[Step]:
        """The tokens so far."""
        return self.generation.steps

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(step.text for step in self.steps)

    @property
    def finish_reason(self) -> FinishReason:
        """Why it ended; "interrupted" if it did not end by itself."""
        return self.generation.finish_reason

    def timings(self) -> Timings:
        """Seconds and rates so far. The rate of a phase that did not happen is 0."""
        times = self.generation.times
        n_prompt = len(self.prompt.token_ids) - self.generation.cached_prompt_tokens
        n_later = max(0, len(times) - 2)
        prefill_s = times[1] - times[0] if len(times) > 1 else 0.0
        decode_s = times[-1] - times[1] if n_later else 0.0
        return Timings(
            load_s=self.model.load_s,
            prefill_s=prefill_s,
            decode_s=decode_s,
            prefill_tok_per_s=n_prompt / prefill_s if prefill_s else 0.0,
            decode_tok_per_s=n_later / decode_s if decode_s else 0.0,
        )

    def record(self) -> RunRecord:
        """The run record. Hashes the model file the first time (digests are cached by path, size and time)."""
        model, session, generation = self.model, self.model.session, self.generation
        template = model.template
        return RunRecord(
            engine=session.engine,
            engine_version=session.engine_version,
            kernel_set=session.kernel_set,
            instruction_set=session.instruction_set,
            activations=session.activations,
            kv_cache=session.kv_cache_dtype,
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
            prompt_id=self.prompt_id,
            prompt_text=self.prompt.text,
            prompt_token_ids=self.prompt.token_ids,
            sampling=generation.sampling,
            max_tokens=generation.stop.max_tokens,
            stop_token_ids=tuple(sorted(generation.stop.token_ids)),
            stop_strings=generation.stop.strings,
            threads=session.threads,
            batch=generation.batch,
            cached_prompt_tokens=generation.cached_prompt_tokens,
            environment=switches_in_force(),
            text=self.text,
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
    activations: Activations = "int8",
    progress: Callable[[int], None] | None = None,
) -> LanguageModel:
    """Load a model by path, alias (`smollm2`) or URL (`hf://…`); what is not here yet is pulled.

    threads:      of the arithmetic; None uses every core this process may run on
    activations:  the least exact form allowed: "int8" where weights are quantised in blocks, or "float32", which is slower
    progress:     called with the bytes of each tensor as it is ready
    Raises     FormatError, UnsupportedError, HubError, EngineError.
    """
    file = open_model(hub.resolve(str(reference)))
    return of_file(
        file, engine=engine, threads=threads or default_threads(), activations=activations, progress=progress
    )


def of_file(
    file: ModelFile,
    *,
    engine: str,
    threads: int,
    activations: Activations = "int8",
    progress: Callable[[int], None] | None = None,
) -> LanguageModel:
    """Load an opened model file (`load`)."""
    started = time.perf_counter()
    module = _folder.load(apr.engines.__name__, engine)
    if "logits" not in module.CAPABILITIES:
        raise UsageError(
            f"the engine {engine!r} runs no model file; give it what it talks to, such as openai://host/model"
        )
    checkpoint = Checkpoint(file)
    spec = spec_of(file.format, file.metadata, file.documents, vocab_size=checkpoint.config.vocab_size)
    tokenizer = Tokenizer(spec)
    template = template_of(file, spec, tokenizer)
    if template is not None:
        template.start()  # its process is ready by the time the weights are
    session: Session = module.load(checkpoint, threads=threads, activations=activations, progress=progress)
    load_s = time.perf_counter() - started
    return LanguageModel(checkpoint, tokenizer, template, session, stop_token_ids=spec.stop_token_ids, load_s=load_s)


def default_threads() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def template_of(file: ModelFile, spec: TokenizerSpec, tokenizer: Tokenizer) -> ChatTemplate | None:
    """The chat template that a model carries; None if it carries none."""
    if not spec.chat_template:
        return None
    named = {"bos_token": tokenizer.bos_token_id, "eos_token": tokenizer.eos_token_id}
    variables = {name: tokenizer.token(token_id) for name, token_id in named.items() if token_id is not None}
    where = {"gguf": "tokenizer.chat_template", "apr": "chat_template"}.get(file.format, "the tokenizer's files")
    return ChatTemplate(
        spec.chat_template,
        origin=f"{where} of {file.path.name}",
        control_tokens=tokenizer.control_tokens,
        variables=variables,
    )
