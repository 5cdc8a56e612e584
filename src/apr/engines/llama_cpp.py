"""llama.cpp, from the package llama-cpp-python or xllamacpp: GGUF files as most people run them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apr.engines._base import Activations, Capability
from apr.engines._foreign import refuse_counterfactual
from apr.errors import AprError, UnsupportedError
from apr.models._checkpoint import Checkpoint

if TYPE_CHECKING:
    from apr.engines._llama_session import LlamaSession
    from apr.engines._llama_voice import LlamaVoice

    CAPABILITIES: frozenset[Capability]

_ALWAYS: frozenset[Capability] = frozenset({"logits", "voice"})
_WITH_CALLBACK: frozenset[Capability] = frozenset({"taps", "forcing"})


def __getattr__(name: str) -> Any:
    """CAPABILITIES: taps and forcing only where the installed build shows where its evaluation callback is set."""
    if name != "CAPABILITIES":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from apr.engines._llama_library import library

    try:
        return _ALWAYS | _WITH_CALLBACK if library().can_tap else _ALWAYS
    except AprError:  # not installed: `load` says so
        return _ALWAYS | _WITH_CALLBACK


def load(
    checkpoint: Checkpoint,
    *,
    threads: int,
    activations: Activations = "int8",
    progress: Callable[[int], None] | None = None,
    is_fused: bool = True,
) -> LlamaSession:
    """Load a GGUF file, after a try in another process: llama.cpp ends the process over some files.

    activations:  "float32" keeps keys and values in float32 and computes attention without the fused kernel; otherwise
                  llama.cpp's defaults, float16 and fused. Quantised weights meet 8-bit activations either way
    is_fused:     False never uses the fused kernel ("flash attention")
    Raises        MissingDependency; UnsupportedError for other formats and for a counterfactual; EngineError if llama.cpp
                  refuses the file, with its reason.
    """
    path = _gguf(checkpoint)
    refuse_counterfactual(checkpoint, engine="llama.cpp")
    from apr.engines._llama_library import library
    from apr.engines._llama_probe import probe
    from apr.engines._llama_session import LlamaSession

    llama = library()
    probe(path, "weights")
    session = LlamaSession(llama, checkpoint, threads=threads, activations=activations, is_fused=is_fused)
    if progress is not None:
        progress(sum(tensor.n_bytes for tensor in checkpoint.file.tensors.values()))
    return session


def voice(checkpoint: Checkpoint) -> LlamaVoice:
    """llama.cpp's tokenizer and the file's template. Raises as `load` does."""
    path = _gguf(checkpoint)
    from apr.engines._llama_library import library
    from apr.engines._llama_probe import probe
    from apr.engines._llama_voice import LlamaVoice

    llama = library()
    probe(path, "vocabulary")
    return LlamaVoice(llama, path)


def _gguf(checkpoint: Checkpoint) -> Path:
    file = checkpoint.file
    if file.format != "gguf":
        raise UnsupportedError(f"{file.path}: llama.cpp reads GGUF files; run: apr convert {file.path} -o model.gguf")
    return file.path
