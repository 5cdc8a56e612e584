"""A subject: a model and the engine that runs it, `PATH[@ENGINE]`, or `openai://host:port/model`.

Parts are made when they are first asked for, and once. `altered` makes a counterfactual: the same subject with one
part taken from elsewhere, sharing all the others. Nobody downstream opens files or loads engines by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import apr.engines
from apr import _folder, hub
from apr.engines import _prompt
from apr.engines._base import Activations, Capability, Endpoint, Session, Voice
from apr.engines._language_model import LanguageModel, default_threads, template_of
from apr.errors import AprError, UsageError
from apr.formats import open_model
from apr.formats._base import ModelFile
from apr.models._checkpoint import Checkpoint, Place
from apr.models._config import ModelConfig
from apr.tokenizer import spec_of
from apr.tokenizer.chat_template import ChatTemplate
from apr.tokenizer.spec import TokenizerSpec
from apr.tokenizer.tokenizer import Tokenizer

OWN_ENGINE = "native"
_ENDPOINT_SCHEME = "openai://"

Message = Mapping[str, Any]
Conversation = Sequence[Message]


@dataclass(frozen=True, slots=True)
class Address:
    """What a user wrote: the model's reference without the engine, and the engine."""

    reference: str
    engine: str


def parse(text: str) -> Address:
    """Read `PATH[@ENGINE]`. What follows an @ is an engine only if there is one of that name: paths may hold an @."""
    if text.startswith(_ENDPOINT_SCHEME):
        return Address(text, "openai")
    reference, at, engine = text.rpartition("@")
    if at and reference and engine.replace("_", "-") in _folder.names(apr.engines.__name__) and not Path(text).exists():
        return Address(reference, engine.replace("_", "-"))
    return Address(text, OWN_ENGINE)


class Subject:
    """A model and what runs it.

    name:         as the user wrote it
    threads:      of the arithmetic
    activations:  the least exact form allowed in our own engine; comparisons of files want "float32"
    loader:       takes the place of the engine's own `load`: a planted fault, an engine in the making

    Making one costs nothing; each part raises what its maker raises, when it is asked for.
    """

    def __init__(
        self,
        reference: str | Path,
        engine: str = OWN_ENGINE,
        *,
        name: str | None = None,
        threads: int | None = None,
        activations: Activations = "float32",
        loader: Callable[..., Session] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self.reference = str(reference)
        self.engine = engine
        self.name = name or (self.reference if engine in (OWN_ENGINE, "openai") else f"{self.reference}@{engine}")
        self.threads = threads or default_threads()
        self.activations = activations
        self.loader = loader
        self.progress = progress
        self._borrowed: frozenset[str] = frozenset()  # parts that another subject closes

    @classmethod
    def of(cls, text: str | Path | Subject, **options: Any) -> Subject:
        """The subject that a user names; one that is already made stays as it is."""
        if isinstance(text, Subject):
            return text
        address = parse(str(text))
        return cls(address.reference, address.engine, name=str(text), **options)

    # what it is

    @cached_property
    def module(self) -> ModuleType:
        """The engine's file."""
        return _folder.load(apr.engines.__name__, self.engine)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What can be asked of its engine."""
        found: frozenset[Capability] = self.module.CAPABILITIES
        return found

    @property
    def is_endpoint(self) -> bool:
        """Whether there is no file to look at."""
        return "text" in self.capabilities

    @cached_property
    def path(self) -> Path:
        """The local file or folder, pulled first if it is not here."""
        if self.is_endpoint:
            raise UsageError(f"{self.name} is behind a network: its file cannot be looked at")
        return hub.resolve(self.reference)

    @cached_property
    def file(self) -> ModelFile:
        """The opened model file. Raises FormatError."""
        return open_model(self.path)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The file through its architecture. Raises BadMetadata, UnsupportedError."""
        return Checkpoint(self.file)

    @property
    def config(self) -> ModelConfig:
        """What the file says of the model, or what a counterfactual says in its place."""
        return self.checkpoint.config

    @cached_property
    def spec(self) -> TokenizerSpec:
        """The tokenizer's tables. Raises TokenizerError."""
        return spec_of(self.file.format, self.file.metadata, self.file.documents, vocab_size=self.config.vocab_size)

    # how it reads and writes

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The file's tokenizer, read by us."""
        return Tokenizer(self.spec)

    @cached_property
    def template(self) -> ChatTemplate | None:
        """The file's chat template, rendered by us; None if it has none."""
        return template_of(self.file, self.spec, self.tokenizer)

    @cached_property
    def stop_token_ids(self) -> frozenset[int]:
        """The ids that end a turn."""
        return frozenset(self.spec.stop_token_ids)

    @cached_property
    def voice(self) -> Voice:
        """How its engine makes token ids and prompts: the engine's own way if it has one, else ours."""
        if "voice" in self.capabilities:
            voice: Voice = self.module.voice(self.checkpoint)
            return voice
        return _OurVoice(self.tokenizer, self.template)

    # how it computes

    @cached_property
    def session(self) -> Session:
        """The loaded model. Raises EngineError; MissingTensor and ShapeMismatch for an incomplete file."""
        load = self.loader or self.module.load
        made: Session = load(
            self.checkpoint, threads=self.threads, activations=self.activations, progress=self.progress
        )
        return made

    @cached_property
    def endpoint(self) -> Endpoint:
        """The connection, for an engine behind a network. Raises EngineError."""
        made: Endpoint = self.module.connect(self.reference)
        return made

    @cached_property
    def language_model(self) -> LanguageModel:
        """File, tokenizer, template and session as what `apr run` generates with."""
        started = time.perf_counter()
        session = self.session
        return LanguageModel(
            self.checkpoint,
            self.tokenizer,
            self.template,
            session,
            stop_token_ids=self.stop_token_ids,
            load_s=time.perf_counter() - started,
        )

    # what if

    def with_config(self, config: ModelConfig) -> Subject:
        """This subject if its file had said `config`."""
        try:
            checkpoint = self.checkpoint.altered(config=config)
        except Exception:  # noqa: BLE001 - the file's own configuration cannot be read: that is what is put right here
            checkpoint = Checkpoint(self.file, config=config)
        return self._altered({"checkpoint": checkpoint}, drop=("session", "language_model"))

    def with_tensors(self, tensors: Mapping[str, Place]) -> Subject:
        """This subject if its file held these tensors, by canonical name."""
        return self._altered(
            {"checkpoint": self.checkpoint.altered(tensors=tensors)}, drop=("session", "language_model")
        )

    def with_tokenizer(self, other: Subject) -> Subject:
        """This subject if it had the other's vocabulary, split rule and special ids; its template and its stop ids stay.

        Where its own tokenizer cannot be read, nothing of it can stay.
        """
        try:
            template, stop, spec = self.template, self.stop_token_ids, self.spec
        except AprError:
            template, stop, spec = other.template, other.stop_token_ids, other.spec
        parts = {
            "spec": replace(other.spec, chat_template=spec.chat_template),
            "tokenizer": other.tokenizer,
            "template": template,
            "stop_token_ids": stop,
            "voice": _OurVoice(other.tokenizer, template),
        }
        return self._altered(parts, drop=("language_model",))

    def with_template(self, other: Subject) -> Subject:
        """This subject if its file carried the other's chat template."""
        return self._altered(
            {"template": other.template, "voice": _OurVoice(self.tokenizer, other.template)}, drop=("language_model",)
        )

    def with_stop(self, token_ids: Iterable[int]) -> Subject:
        """This subject if these ids ended its turns."""
        return self._altered({"stop_token_ids": frozenset(token_ids)}, drop=("language_model",))

    def on_engine(self, engine: str, **options: Any) -> Subject:
        """The same file and counterfactuals under another engine, or under other options of `Subject`."""
        made = self._altered({}, drop=("module", "session", "language_model", "voice", "endpoint"))
        made.engine = engine
        made.name = f"{self.name} under {engine}" if engine != self.engine else self.name
        made.loader = None
        for option, value in options.items():
            setattr(made, option, value)
        return made

    def _altered(self, parts: Mapping[str, Any], *, drop: Sequence[str]) -> Subject:
        made = Subject(
            self.reference,
            self.engine,
            name=self.name,
            threads=self.threads,
            activations=self.activations,
            loader=self.loader,
            progress=self.progress,
        )
        if not self.is_endpoint:
            _ = self.file  # opened once, and shared
        cached = {name for name in vars(self) if isinstance(getattr(type(self), name, None), cached_property)}
        kept = cached - set(drop) - set(parts)
        vars(made).update({name: vars(self)[name] for name in kept} | dict(parts))
        made._borrowed = frozenset(kept | set(parts))
        return made

    def unload(self) -> None:
        """Forget the session and its memory; it is loaded again when it is next asked for."""
        for part in ("language_model", "session"):
            made = vars(self).pop(part, None)
            if part == "session" and part not in self._borrowed and hasattr(made, "close"):
                made.close()

    def close(self) -> None:
        """Release file, template process, engine and connection; a counterfactual, only what it made for itself."""
        self.unload()
        for part in ("voice", "endpoint", "template", "file"):
            made = vars(self).pop(part, None)
            if made is not None and part not in self._borrowed:
                made.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class _OurVoice:
    """Tokenizer and template as we read them: what `apr run` does."""

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate | None) -> None:
        self._tokenizer = tokenizer
        self._template = template

    def encode(self, text: str) -> list[int]:
        """As `apr run --raw`."""
        return list(_prompt.of_text(text, self._tokenizer, None, regime="raw").token_ids)

    def encode_rendered(self, text: str) -> list[int]:
        """As `apr run` for a prompt that holds the template's control tokens already, without a second beginning of text."""
        return self._tokenizer.encode_control(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Control tokens as their names."""
        return self._tokenizer.decode(token_ids)

    def render(self, messages: Conversation) -> str | None:
        """The file's template."""
        return None if self._template is None else self._template.render(messages).text

    def close(self) -> None:
        """Nothing is held here that the subject does not close."""
