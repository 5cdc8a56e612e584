"""The original: Hugging Face transformers on torch, reading a safetensors folder, or a GGUF file, by its own code."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apr.engines._base import Activations, Capability
from apr.engines._foreign import refuse_counterfactual
from apr.errors import EngineError, MissingDependency, UnsupportedError
from apr.models._checkpoint import Checkpoint

if TYPE_CHECKING:
    from apr.engines._transformers_session import TransformersSession

CAPABILITIES: frozenset[Capability] = frozenset({"logits", "taps", "forcing", "voice"})
EXTRA = "transformers"


def load(
    checkpoint: Checkpoint,
    *,
    threads: int,
    activations: Activations = "int8",
    progress: Callable[[int], None] | None = None,
) -> TransformersSession:
    """Load the file as transformers does, with eager attention.

    activations:  "float32" computes in float32; otherwise in the type that the folder declares, and in float32 for GGUF
    Raises        MissingDependency; UnsupportedError for an .apr file and for a counterfactual; EngineError if
                  transformers refuses the file, or would fill in what it lacks with random numbers.
    """
    folder, options = _source(checkpoint)
    refuse_counterfactual(checkpoint, engine="transformers")
    _require("torch", "transformers", *(_FOR_GGUF if options else ()))
    import torch
    from transformers import AutoModelForCausalLM

    from apr.engines._transformers_session import TransformersSession
    from apr.engines._transformers_taps import register_attention

    is_exact = activations == "float32" or "gguf_file" in options
    with _silence(), _reasons(checkpoint.file.path):
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32 if is_exact else "auto",
            attn_implementation=register_attention(),
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # to be told of them; they are refused below
            **options,
        )
    wrong = [f"{kind.replace('_', ' ')} {sorted(map(str, info[kind]))[:3]}" for kind in _WRONG if info.get(kind)]
    if wrong:
        raise EngineError(
            f"{checkpoint.file.path}: transformers would fill in weights with random numbers: {'; '.join(wrong)}"
        )
    if progress is not None:
        progress(sum(tensor.n_bytes for tensor in checkpoint.file.tensors.values()))
    return TransformersSession(model.eval(), checkpoint.config, threads=threads)


def voice(checkpoint: Checkpoint) -> TransformersVoice:
    """The tokenizer and template as transformers reads them. Raises as `load` does."""
    folder, options = _source(checkpoint)
    _require("transformers", *(_FOR_GGUF if options else ()))
    from transformers import AutoTokenizer

    with _silence(), _reasons(checkpoint.file.path):
        return TransformersVoice(AutoTokenizer.from_pretrained(folder, local_files_only=True, **options))


class TransformersVoice:
    """A tokenizer of transformers."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def encode(self, text: str) -> list[int]:
        """Token ids of a raw prompt, in which all is text; what transformers puts before a text included."""
        ids: list[int] = self.tokenizer(text, split_special_tokens=True, add_special_tokens=True)["input_ids"]
        return ids

    def encode_rendered(self, text: str) -> list[int]:
        """Token ids of a rendered conversation: nothing is added, as in `apply_chat_template(tokenize=True)`."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of tokens, control tokens as their names."""
        text: str = self.tokenizer.decode(
            list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return text

    def render(self, messages: Sequence[Mapping[str, Any]]) -> str | None:
        """A conversation through `apply_chat_template`, the answer's header included; None without a template."""
        if not self.tokenizer.chat_template:
            return None
        try:
            text: str = self.tokenizer.apply_chat_template(
                [dict(message) for message in messages], tokenize=False, add_generation_prompt=True
            )
        except Exception as exc:
            raise EngineError(f"transformers could not render the chat template: {_first_line(exc)}") from exc
        return text

    def close(self) -> None:
        """Nothing is held but memory."""


# what transformers looks for in a folder: another file in it would not be the one that it loads
_DEFAULT_NAMES = ("model.safetensors", "model.safetensors.index.json")
_FOR_GGUF = ("gguf", "accelerate")
_WRONG = ("missing_keys", "mismatched_keys", "error_msgs")


def _source(checkpoint: Checkpoint) -> tuple[Path, dict[str, str]]:
    """The folder to load from, and the options that name a GGUF file in it."""
    file = checkpoint.file
    if file.format == "gguf":
        return file.path.parent, {"gguf_file": file.path.name}
    if file.format == "safetensors" and file.path.is_dir():
        return file.path, {}
    if file.format == "safetensors" and file.path.name in _DEFAULT_NAMES:
        return file.path.parent, {}
    raise UnsupportedError(
        f"{file.path}: transformers reads folders with {_DEFAULT_NAMES[0]} and GGUF files; run: apr convert {file.path} -o FOLDER/"
    )


def _require(*packages: str) -> None:
    from importlib.util import find_spec

    for package in packages:
        if find_spec(package) is None:
            raise MissingDependency(package, extra=EXTRA)


@contextlib.contextmanager
def _reasons(path: Path) -> Iterator[None]:
    """Turn whatever transformers raises over a file into EngineError."""
    try:
        yield
    except Exception as exc:
        raise EngineError(f"{path}: transformers refuses the model: {_first_line(exc)}") from exc


def _first_line(exc: Exception) -> str:
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return f"{type(exc).__name__}: {lines[0] if lines else 'no reason given'}"


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """No progress bars and no chatter of transformers' own; these settings are the process's, so put them back."""
    from transformers.utils import logging

    level, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        # the bar of its GGUF reader knows no switch
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(level)
        if had_bars:
            logging.enable_progress_bar()
