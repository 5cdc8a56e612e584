"""A kernel set: the ops that a model's forward pass is written over.

The forward pass takes a set and never imports an op: the same model code computes on NumPy arrays, and is recorded for
the compiled kernels (`engines/_recording.py`). Attention and positions are asked of the batch (`models/_decoder.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from apr.kernels.embedding import embedding
from apr.kernels.gelu import gelu_tanh
from apr.kernels.linear import linear
from apr.kernels.rmsnorm import rmsnorm
from apr.kernels.rope import rope
from apr.kernels.silu import silu
from apr.kernels.softcap import softcap


@dataclass(frozen=True, slots=True)
class KernelSet:
    """Ops by name; each has the signature and the meaning of the NumPy function of that name."""

    name: str
    embedding: Callable[..., np.ndarray]
    linear: Callable[..., np.ndarray]
    rmsnorm: Callable[..., np.ndarray]
    rope: Callable[..., np.ndarray]
    silu: Callable[..., np.ndarray]
    gelu_tanh: Callable[..., np.ndarray]
    softcap: Callable[..., np.ndarray]


NUMPY = KernelSet(
    name="numpy",
    embedding=embedding,
    linear=linear,
    rmsnorm=rmsnorm,
    rope=rope,
    silu=silu,
    gelu_tanh=gelu_tanh,
    softcap=softcap,
)
