"""A plan that interprets its steps with the NumPy kernels: what `apr.kernels._native.Plan` means, in a page.

Buffers are really shared and really overwritten, so that a lowering that uses one too early gives wrong numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from apr.kernels.attention import attention
from apr.kernels.gelu import gelu_tanh
from apr.kernels.linear import linear
from apr.kernels.rmsnorm import rmsnorm
from apr.kernels.rope import rope
from apr.kernels.silu import silu
from apr.kernels.softcap import softcap
from apr.models._kv_cache import KVCache


class ArrayWeights:
    """Decoded weights, the same array in every form."""

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        self.table = self.matrix = self.vector = weights.__getitem__


class NumpyPlan:
    """See `_native.pyi`. `steps` keeps what was added: (op, inputs, outputs)."""

    def __init__(self) -> None:
        self.widths: list[int] = []
        self.parts: dict[int, tuple[int, slice]] = {}
        self.steps: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = []
        self._runs: list[Callable[[], None]] = []

    def buffer(self, width: int) -> int:
        self.widths.append(width)
        self.parts[len(self.parts)] = (len(self.widths) - 1, slice(0, width))
        return len(self.parts) - 1

    def columns(self, buffer: int, start: int, stop: int) -> int:
        whole, columns = self.parts[buffer]
        self.parts[len(self.parts)] = (whole, slice(columns.start + start, columns.start + stop))
        return len(self.parts) - 1

    def _add(self, op: str, inputs: Sequence[int], outputs: Sequence[int], compute: Callable[..., Any]) -> int:
        def run() -> None:
            made = compute(*(self.read(part) for part in inputs))
            for part, values in zip(outputs, made if isinstance(made, tuple) else (made,), strict=True):
                self.write(part, values)

        self.steps.append((op, tuple(inputs), tuple(outputs)))
        self._runs.append(run)
        return len(self.steps) - 1

    def embedding(self, table: np.ndarray, out: int) -> int:
        return self._add("embedding", (), (out,), lambda: table[self.token_ids])

    def scale(self, x: int, factor: float, out: int) -> int:
        return self._add("scale", (x,), (out,), lambda x: x * np.float32(factor))

    def add(self, x: int, y: int, out: int) -> int:
        return self._add("add", (x, y), (out,), lambda x, y: x + y)

    def multiply(self, x: int, y: int, out: int) -> int:
        return self._add("multiply", (x, y), (out,), lambda x, y: x * y)

    def silu(self, x: int, out: int) -> int:
        return self._add("silu", (x,), (out,), silu)

    def gelu_tanh(self, x: int, out: int) -> int:
        return self._add("gelu_tanh", (x,), (out,), gelu_tanh)

    def silu_multiply(self, gate: int, up: int, out: int) -> int:
        return self._add("silu_multiply", (gate, up), (out,), lambda gate, up: silu(gate) * up)

    def gelu_tanh_multiply(self, gate: int, up: int, out: int) -> int:
        return self._add("gelu_tanh_multiply", (gate, up), (out,), lambda gate, up: gelu_tanh(gate) * up)

    def softcap(self, x: int, cap: float, out: int) -> int:
        return self._add("softcap", (x,), (out,), lambda x: softcap(x, cap))

    def rmsnorm(self, x: int, weight: np.ndarray, eps: float, out: int) -> int:
        def compute(x: np.ndarray) -> np.ndarray:
            return rmsnorm(x.reshape(x.shape[0], -1, weight.size), weight, eps=eps).reshape(x.shape)

        return self._add("rmsnorm", (x,), (out,), compute)

    def linear(self, x: int, products: Sequence[tuple[np.ndarray, np.ndarray | None, int]]) -> int:
        outputs = [out for _, _, out in products]
        assert x not in outputs
        return self._add("linear", (x,), outputs, lambda x: tuple(linear(x, w, bias) for w, bias, _ in products))

    def rope(self, x: int, table: int, head_dim: int, out: int) -> int:
        def compute(x: np.ndarray) -> np.ndarray:
            cos, sin = np.split(self.tables[table], 2, axis=1)
            return rope(x.reshape(x.shape[0], -1, head_dim), (cos, sin)).reshape(x.shape)

        return self._add("rope", (x,), (out,), compute)

    def attention(
        self, q: int, k: int, v: int, out: int, layer: int, head_dim: int, scale: float, window: int, softcap: float
    ) -> int:
        def compute(*qkv: np.ndarray) -> np.ndarray:
            q, k, v = (x.reshape(x.shape[0], -1, head_dim) for x in qkv)
            context, start = [], 0
            for cache, length in zip(self.caches, self.lengths, strict=True):
                rows = slice(start, start + length)
                keys, values = cache.extend(layer, k[rows], v[rows])
                context.append(
                    attention(q[rows], keys, values, scale=scale, window=window or None, softcap=softcap or None)
                )
                start += length
            return np.concatenate(context)

        return self._add("attention", (q, k, v), (out,), compute)

    def last_rows(self, x: int, out: int) -> int:
        assert x != out

        def compute(x: np.ndarray) -> np.ndarray:
            self.n_rows = len(self.lengths)
            return x[np.cumsum(self.lengths) - 1]

        return self._add("last_rows", (x,), (out,), compute)

    def bind(
        self, token_ids: np.ndarray, caches: Sequence[KVCache], lengths: Sequence[int], tables: Sequence[np.ndarray]
    ) -> None:
        self.token_ids, self.caches, self.lengths, self.tables = token_ids, caches, lengths, tables
        self.n_rows = len(token_ids)
        self.values = [np.full((len(token_ids), width), np.nan, dtype=np.float32) for width in self.widths]

    def run(self, pool: object, first: int, last: int) -> None:
        del pool
        for run in self._runs[first:last]:
            run()

    def read(self, buffer: int) -> np.ndarray:
        whole, columns = self.parts[buffer]
        return self.values[whole][: self.n_rows, columns].copy()

    def write(self, buffer: int, values: np.ndarray) -> None:
        whole, columns = self.parts[buffer]
        assert values.shape == (self.n_rows, columns.stop - columns.start)
        self.values[whole][: self.n_rows, columns] = values
