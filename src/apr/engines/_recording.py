"""A forward pass run once on symbolic values: which ops it consists of, in what order, and where it is tapped.

The model code is the same that runs on arrays. What it gets here in their place are `Value`s, which know a width and
nothing of rows, and weights that are only names; every op leaves a node.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import EllipsisType
from typing import Any, Literal, NoReturn, cast

import numpy as np

from apr import models
from apr.errors import InternalError
from apr.kernels._set import KernelSet
from apr.models._checkpoint import expected_tensors
from apr.models._config import ModelConfig
from apr.models._decoder import Batch, Tap

Rows = Literal["last", "all"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A weight, bias or norm by its canonical name, however it will be loaded."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """One op.

    op:         the name that the native plan has for it
    inputs:     values of other nodes, in the plan's order
    output:     what it makes
    arguments:  the rest of what the plan's method takes, in its order
    """

    op: str
    inputs: tuple[Value, ...]
    output: Value
    arguments: tuple[Parameter | float | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Slot:
    """Where the pass is tapped: after so many nodes, a value."""

    name: str
    after: int
    value: Value


@dataclass(slots=True)
class Graph:
    """A recorded forward pass.

    widths:  of each storage: what an op has made, of which values are views
    thetas:  of each table of cosines and sines that it needs, in the order of their indices (`Batch.rope_table`)
    """

    nodes: list[Node] = field(default_factory=list)
    slots: list[Slot] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    thetas: list[float | None] = field(default_factory=list)

    def add(self, op: str, inputs: tuple[Value, ...], width: int, *arguments: Parameter | float | None) -> Value:
        """Append a node; its output."""
        output = Value(self, len(self.widths), 0, width)
        self.widths.append(width)
        self.nodes.append(Node(op, inputs, output, arguments))
        return output

    @property
    def output(self) -> Value:
        """What the pass ends with: the logits."""
        return self.nodes[-1].output


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """Columns [start, stop) of what one op has made: rows of a width, or of heads of `head_dim` columns each.

    It takes the operators that forward passes are written with, and tells you if you use another.
    """

    graph: Graph = field(repr=False)
    storage: int
    start: int
    stop: int
    head_dim: int | None = None

    __array_ufunc__ = None  # a NumPy number on the left hands over to us, instead of making an array of one object

    @property
    def width(self) -> int:
        """Columns."""
        return self.stop - self.start

    def is_same(self, other: Value) -> bool:
        """Whether both are the same columns."""
        return (self.storage, self.start, self.stop) == (other.storage, other.start, other.stop)

    def reshape(self, *shape: int) -> Value:
        """[rows, width] as [-1, heads, head_dim]."""
        if len(shape) != 3 or shape[0] != -1 or shape[1] * shape[2] != self.width:
            raise InternalError(
                f"a recorded [-1, {self.width}] cannot be reshaped to {list(shape)}, only cut into heads"
            )
        return Value(self.graph, self.storage, self.start, self.stop, shape[2])

    def __getitem__(self, key: tuple[slice, slice]) -> Value:
        if self.head_dim is not None or len(key) != 2 or key[0] != slice(None):
            raise InternalError("of a recorded value only columns can be taken: x[:, start:stop]")
        start, stop, step = key[1].indices(self.width)
        if step != 1 or stop <= start:
            raise InternalError(f"columns {key[1]} of a recorded value are not a run of columns")
        return Value(self.graph, self.storage, self.start + start, self.start + stop)

    def __add__(self, other: Value) -> Value:
        return self._with("add", other)

    def __mul__(self, other: Value | float) -> Value:
        if isinstance(other, Value):
            return self._with("multiply", other)
        return self._like(self.graph.add("scale", (self,), self.width, float(other)))

    def _with(self, op: str, other: Value) -> Value:
        if not isinstance(other, Value) or other.width != self.width:
            raise InternalError(f"{op} of a recorded value takes another of its width, {self.width}")
        return self._like(self.graph.add(op, (self, other), self.width))

    def _like(self, made: Value) -> Value:
        return Value(made.graph, made.storage, made.start, made.stop, self.head_dim)

    def _refuse(self, *operands: Any) -> NoReturn:
        raise InternalError(
            "a forward pass that is recorded can add, multiply, scale, cut into heads and take columns of its values; "
            "anything else must be an op of the kernel set"
        )

    __radd__ = __rmul__ = __sub__ = __rsub__ = __truediv__ = __rtruediv__ = __matmul__ = __pow__ = __neg__ = _refuse
    __iter__ = __len__ = __bool__ = __float__ = __array__ = _refuse

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # somebody asks what we are: no array
            raise AttributeError(name)
        self._refuse()


def record(config: ModelConfig, *, rows: Rows) -> Graph:
    """Run a configuration's forward pass on symbolic values."""
    graph = Graph()
    weights = {name: Parameter(name, shape) for name, shape in expected_tensors(config).items()}
    architecture = models.for_model_type(config.model_type).Model
    # the model is written for arrays; a Value takes their place wherever the model looks
    model = architecture(config, cast(Mapping[str, np.ndarray], weights), _ops(graph))

    def tap(name: str, value: Value) -> Value:
        graph.slots.append(Slot(name, len(graph.nodes), value))
        return value

    model.forward(cast(Batch, _RecordedBatch(graph)), tap=cast(Tap, tap), rows=rows)
    return graph


class _RecordedBatch:
    """A batch that is not known yet: what is asked of it leaves nodes (`models._decoder.Batch`)."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.token_ids: EllipsisType = ...  # there is one run of token ids a batch; the plan knows where it is

    def rope_table(self, theta: float | None) -> int:
        if theta not in self.graph.thetas:
            self.graph.thetas.append(theta)
        return self.graph.thetas.index(theta)

    def attention(
        self,
        layer: int,
        q: Value,
        k: Value,
        v: Value,
        *,
        scale: float,
        window: int | None,
        softcap: float | None,
    ) -> Value:
        return self.graph.add(
            "attention", (q, k, v), q.width, layer, q.head_dim, scale, window or 0, float(softcap or 0.0)
        )

    def last_rows(self, x: Value) -> Value:
        return self.graph.add("last_rows", (x,), x.width)


def _ops(graph: Graph) -> KernelSet:
    """The kernel set whose ops leave nodes."""

    def embedding(token_ids: EllipsisType, table: Parameter) -> Value:
        del token_ids
        return graph.add("embedding", (), table.shape[1], table)

    def linear(x: Value, weight: Parameter, bias: Parameter | None = None) -> Value:
        assert x.width == weight.shape[1], f"{weight.name} takes {weight.shape[1]} columns, not {x.width}"
        return graph.add("linear", (x,), weight.shape[0], weight, bias)

    def rmsnorm(x: Value, weight: Parameter, *, eps: float) -> Value:
        assert weight.shape == (x.head_dim or x.width,), f"{weight.name} does not fit {x}"
        return x._like(graph.add("rmsnorm", (x,), x.width, weight, eps))

    def rope(x: Value, table: int) -> Value:
        return x._like(graph.add("rope", (x,), x.width, table, x.head_dim))

    def softcap(x: Value, cap: float) -> Value:
        return graph.add("softcap", (x,), x.width, cap)

    def silu(x: Value) -> Value:
        return graph.add("silu", (x,), x.width)

    def gelu_tanh(x: Value) -> Value:
        return graph.add("gelu_tanh", (x,), x.width)

    ops: dict[str, Any] = {op.__name__: op for op in (embedding, linear, rmsnorm, rope, softcap, silu, gelu_tanh)}
    return KernelSet(name="recorded", **ops)
