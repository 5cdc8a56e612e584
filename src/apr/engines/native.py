"""Our own engine: the forward pass of `models`, recorded once and replayed by the compiled kernels."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from apr.engines import numpy as numpy_engine
from apr.engines._base import Activations, Capability
from apr.kernels import _extension
from apr.models._checkpoint import Checkpoint

if TYPE_CHECKING:
    from apr.engines._native_session import NativeSession

logger = logging.getLogger(__name__)

CAPABILITIES: frozenset[Capability] = frozenset({"logits", "taps", "forcing"})


def load(
    checkpoint: Checkpoint,
    *,
    threads: int,
    activations: Activations = "int8",
    progress: Callable[[int], None] | None = None,
) -> NativeSession | numpy_engine.NumpySession:
    """Lay the weights out for the kernels and make a session; where there are no compiled kernels, NumPy's.

    Raises MissingTensor and ShapeMismatch for an incomplete checkpoint.
    """
    if _extension.native() is None:
        _warn_of_numpy()
        return numpy_engine.load(checkpoint, threads=threads, activations=activations, progress=progress)
    from apr.engines._native_session import NativeSession

    return NativeSession(checkpoint, threads=threads, activations=activations, progress=progress)


@cache
def _warn_of_numpy() -> None:
    """Once a process."""
    logger.warning(
        "the compiled kernels are not installed, so NumPy computes, exactly and many times slower; "
        "install apr from a wheel, or from source where there is a C++ compiler, to have them"
    )
