"""An engine without weights, to test what is built around engines: generation, caches, taps, comparisons, gates.

It runs the architecture's own forward pass, the only one there is, so that every slot, cache, span and forced value is
what it is in a real engine, with a planted defect of the harness showing as it would there. But each weight is made up from its
name and a seed: an output is two inputs, each times a number. A file needs a configuration and no tensors; a pass of a small model
takes well under a millisecond and the largest vocabulary costs a few. What it writes means nothing.

The same seed, ids and history give the same bits, in any batch and after any cached prefix. To compare two fakes that differ:

    Subject(path, "fake"), Subject(path, "fake", loader=functools.partial(fake.load, seed=1))
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

import apr
from apr.engines._base import Activations, Capability, Rows, check_logits, check_spans, read_only
from apr.kernels._set import NUMPY, KernelSet
from apr.models._checkpoint import Checkpoint
from apr.models._decoder import RopeTables, Span, SpanBatch, Tap, no_tap
from apr.models._kv_cache import KVCache

CAPABILITIES: frozenset[Capability] = frozenset({"logits", "taps", "forcing"})
_SPREAD = 0.7  # of the two factors: an output varies about as much as its inputs, in a model of any depth


class FakeSession:
    """The forward pass of a checkpoint's architecture over made-up weights."""

    engine = "fake"
    engine_version = apr.__version__
    kernel_set = "fake"
    instruction_set = "none"
    activations = "float32"
    kv_cache_dtype = "float32"

    def __init__(self, checkpoint: Checkpoint, *, threads: int = 1, seed: int = 0) -> None:
        self.threads = threads
        self.max_positions = checkpoint.config.max_position_embeddings
        self._config = checkpoint.config
        self._tables = RopeTables(checkpoint.config)
        self._model = checkpoint.architecture(checkpoint.config, _Weights(checkpoint.expected, seed), _KERNELS)

    def new_cache(self) -> KVCache:
        """An empty cache for one sequence."""
        c = self._config
        return KVCache(
            num_hidden_layers=c.num_hidden_layers, num_key_value_heads=c.num_key_value_heads, head_dim=c.head_dim
        )

    def forward(self, spans: Sequence[Span], *, tap: Tap = no_tap, rows: Rows = "last") -> np.ndarray:
        """Logits after new tokens (`Session.forward`)."""
        check_spans(spans, vocab_size=self._config.vocab_size)
        batch = SpanBatch(spans, self._tables)
        logits: np.ndarray = self._model.forward(batch, tap=read_only(tap), rows=rows)
        batch.advance()
        check_logits(logits, spans)
        return logits


def load(
    checkpoint: Checkpoint,
    *,
    threads: int,
    activations: Activations = "int8",
    progress: Callable[[int], None] | None = None,
    seed: int = 0,
) -> FakeSession:
    """Make a session; no tensor is read, and activations are exact whatever is asked for.

    seed:  of the made-up weights: another seed is another model
    """
    del activations, progress
    return FakeSession(checkpoint, threads=threads, seed=seed)


@dataclass(frozen=True)
class _Matrix:
    """A made-up weight, [out_features, in_features]: two entries a row, the others zero."""

    shape: tuple[int, ...]
    seed: int

    @cached_property
    def entries(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """int64 and float32 [out_features] twice: the column of each row's entry, and the entry."""
        random = np.random.default_rng(self.seed)
        rows, columns = self.shape
        left, right = random.integers(0, columns, (2, rows))
        a, b = random.normal(0.0, _SPREAD, (2, rows)).astype(np.float32)
        return left, a, right, b


class _Weights(Mapping[str, Any]):
    """What the forward pass takes for weights, by canonical name; made when they are first asked for."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], seed: int) -> None:
        self._shapes = shapes
        self._seed = seed
        self._made: dict[str, _Matrix | np.ndarray] = {}

    def __getitem__(self, name: str) -> _Matrix | np.ndarray:
        if name not in self._made:
            shape = self._shapes[name]
            # of the name and not of the order in which they are asked for
            seed = zlib.crc32(name.encode(), self._seed & 0xFFFFFFFF)
            self._made[name] = _Matrix(shape, seed) if len(shape) == 2 else _vector(name, shape, seed)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


def _vector(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """float32 [shape]: factors of a norm lie around 1, biases around 0."""
    noise = np.random.default_rng(seed).normal(0.0, 0.1, shape)
    return (noise + 1.0 if name.endswith("norm.weight") else noise).astype(np.float32)


def _embedding(token_ids: np.ndarray, table: _Matrix) -> np.ndarray:
    """float32 [n_tokens, hidden_size]: numbers in [-1, 1) that are a hash of the id and the column."""
    columns = np.arange(table.shape[1], dtype=np.uint64) + (np.uint64(table.seed) << np.uint64(32))
    mixed: np.ndarray = token_ids.astype(np.uint64)[:, None] * np.uint64(0x9E3779B97F4A7C15) ^ columns
    # splitmix64, Steele et al. 2014: the finaliser
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1.0)


def _linear(x: np.ndarray, weight: _Matrix, bias: np.ndarray | None = None) -> np.ndarray:
    """float32 [n_tokens, out_features]: x times a made-up weight, plus the bias; each row by itself."""
    left, a, right, b = weight.entries
    # take, because x[:, left] lies column by column, and kernels want rows
    y: np.ndarray = np.take(x, left, axis=1) * a + np.take(x, right, axis=1) * b
    return y if bias is None else y + bias


_KERNELS = KernelSet(
    name="fake",
    embedding=_embedding,
    linear=_linear,
    rmsnorm=NUMPY.rmsnorm,
    rope=NUMPY.rope,
    silu=NUMPY.silu,
    gelu_tanh=NUMPY.gelu_tanh,
    softcap=NUMPY.softcap,
)
