"""llama.cpp with plain attention in place of its fused kernel, as with `-fa off`: slower on some machines, faster on others."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from apr.engines import llama_cpp
from apr.engines._base import Activations, Capability
from apr.engines.llama_cpp import voice
from apr.models._checkpoint import Checkpoint

if TYPE_CHECKING:
    from apr.engines._llama_session import LlamaSession

    CAPABILITIES: frozenset[Capability]

__all__ = ["CAPABILITIES", "load", "voice"]


def __getattr__(name: str) -> Any:
    """CAPABILITIES: those of llama.cpp."""
    return llama_cpp.__getattr__(name)


def load(
    checkpoint: Checkpoint,
    *,
    threads: int,
    activations: Activations = "int8",
    progress: Callable[[int], None] | None = None,
) -> LlamaSession:
    """`llama_cpp.load`, never fused. Raises UnsupportedError too where the build does not show how attention is chosen."""
    return llama_cpp.load(checkpoint, threads=threads, activations=activations, progress=progress, is_fused=False)
