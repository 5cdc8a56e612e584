"""The runs of a prediction, through the one generation of `apr run`; and the records that they will leave, as far as is known before.

One model is held at a time: two runs of a prediction that ask the same file under the same engine load it once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from apr import hub
from apr.engines import _prompt
from apr.engines._language_model import LanguageModel, default_threads, of_file
from apr.engines._record import RunRecord, TemplateUse, Timings, switches_in_force
from apr.engines._subject import Subject
from apr.formats import open_model
from apr.hub import digest
from apr.ledger.prediction import Settings

Load = Callable[[Path, Settings], LanguageModel]
_NOT_MADE = "of a conversion that is not made yet"


def load(path: Path, settings: Settings) -> LanguageModel:
    """The model of a run, as `apr run` loads it."""
    return of_file(
        open_model(path),
        engine=settings.engine,
        threads=settings.threads or default_threads(),
        activations=settings.activations,
    )


def prompt_of(settings: Settings) -> Any:
    """The prompt as `LanguageModel.run` takes it."""
    return settings.prompt if isinstance(settings.prompt, str) else [dict(message) for message in settings.prompt]


class Runner:
    """Runs settings one after another. folder: where the models' paths begin; load: takes the place of the engine's own."""

    def __init__(self, folder: Path, *, load: Load = load) -> None:
        self._folder = folder
        self._load = load
        self._held: tuple[Any, LanguageModel] | None = None
        self._converted: dict[tuple[Path, str], Path] = {}
        self._stack = ExitStack()

    def run(self, settings: Settings, *, prompt_id: str) -> RunRecord:
        """Generate to the end. Raises as loading and generating do."""
        model = self._model(settings)
        return model.generate(
            prompt_of(settings),
            max_tokens=settings.max_tokens,
            regime=settings.regime,
            system=settings.system,
            control=settings.control_tokens,
            sampling=settings.sampling,
            stop=settings.stop,
            at_eos=settings.at_eos,
            prompt_id=prompt_id,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._let_go()
        self._stack.close()

    def _model(self, settings: Settings) -> LanguageModel:
        path = self._file(settings)
        key = (path, settings.engine, settings.threads, settings.activations)
        if self._held is None or self._held[0] != key:
            self._let_go()
            self._held = (key, self._load(path, settings))
        return self._held[1]

    def _file(self, settings: Settings) -> Path:
        path = hub.resolve(place(settings.model, self._folder))
        if settings.container is None:
            return path
        key = (path, settings.container)
        if key not in self._converted:
            from apr.convert import convert

            folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="apr-predict-")))
            target = folder / f"{path.stem}.{settings.container}"
            convert(path, target, dequantize="f32")
            self._converted[key] = target
        return self._converted[key]

    def _let_go(self) -> None:
        if self._held is not None:
            self._held[1].close()
            self._held = None


def place(model: str, folder: Path) -> str:
    """A model's reference: a path from the file's folder if something is there, else as it stands."""
    path = folder / model
    return str(path) if path.exists() else model


def foreseen(settings: Settings, folder: Path) -> RunRecord:
    """The record of a run that was not made: all that file, tokenizer and template decide; no weight is decoded.

    What only the engine knows is the same for every engine of that name. Raises HubError for a model that is not here: nothing is pulled.
    """
    path = hub.resolve(place(settings.model, folder), offline=True)
    with Subject(path, settings.engine) as subject:
        template, tokenizer = subject.template, subject.tokenizer
        asked = prompt_of(settings)
        ready = (
            _prompt.of_text(
                asked,
                tokenizer,
                template,
                regime=settings.regime,
                system=settings.system,
                control=settings.control_tokens,
            )
            if isinstance(asked, str)
            else _prompt.of_messages(asked, tokenizer, template, control=settings.control_tokens)
        )
        files = subject.file.files
        is_copy = settings.container is not None
        tensors = digest.remembered(files, "tensors", subject.checkpoint.content_sha256)
        return RunRecord(
            engine=settings.engine,
            engine_version="",
            kernel_set="",
            instruction_set="",
            activations=settings.activations,
            kv_cache="",
            model=str(path),
            model_format=settings.container or subject.file.format,
            model_sha256=_NOT_MADE if is_copy else digest.of_files(files),
            tensors_sha256=_NOT_MADE if is_copy else tensors,
            tokenizer_sha256=tokenizer.sha256,
            template=TemplateUse(
                source=template.origin if template else None,
                sha256=template.sha256 if template else None,
                decision=ready.decision,
                reason=ready.reason,
            ),
            prompt_id=None,
            prompt_text=ready.text,
            prompt_token_ids=ready.token_ids,
            sampling=settings.sampling,
            max_tokens=settings.max_tokens,
            stop_token_ids=tuple(sorted(subject.stop_token_ids)) if settings.at_eos == "stop" else (),
            stop_strings=settings.stop,
            threads=settings.threads or default_threads(),
            batch=1,
            cached_prompt_tokens=0,
            environment=switches_in_force(),
            text="",
            output_token_ids=(),
            steps=(),
            finish_reason="interrupted",
            timings=Timings(0.0, 0.0, 0.0, 0.0, 0.0),
        )
