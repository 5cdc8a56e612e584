"""From a recorded forward pass to the steps of a native plan: what runs together, and in which buffer.

Three things are decided here, none of which changes a bit of the result: products with the same input are one step, a
gate's activation is multiplied where it is made unless somebody wants to see it, and a buffer is used again when
nobody will read what it holds.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from apr.engines._recording import Graph, Node, Parameter, Slot, Value

if TYPE_CHECKING:
    from apr.kernels._native import Plan, Table, Weight

# how many of an op's first inputs it may write its output into (`kernels/_native.pyi`)
_IN_PLACE = {"scale": 1, "add": 2, "multiply": 2, "silu": 1, "gelu_tanh": 1, "silu_multiply": 2}
_IN_PLACE |= {"gelu_tanh_multiply": 2, "softcap": 1, "rmsnorm": 1, "rope": 1, "attention": 1}
_GATES = ("silu", "gelu_tanh")


class Weights(Protocol):
    """Loaded weights by canonical name, in the three forms that steps take."""

    def table(self, name: str) -> Table:
        """An embedding table."""

    def matrix(self, name: str) -> Weight:
        """What a linear op multiplies with."""

    def vector(self, name: str) -> np.ndarray:
        """float32 [size]: a norm's factors, a bias."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where a lowered plan is tapped.

    stop:      steps that have to be run before
    buffer:    where the value is then
    shape:     that a tap sees, -1 for the rows
    rows:      what a row is: a token's, or a sequence's last
    """

    name: str
    stop: int
    buffer: int
    shape: tuple[int, ...]
    rows: Literal["tokens", "sequences"]


@dataclass(frozen=True, slots=True)
class Lowered:
    """A plan that is ready to run.

    thetas:    of the tables of cosines and sines that `bind` is given
    output:    the buffer of the logits
    n_steps:   all steps; the first n_cache_steps are those that a pass needs of which only the caches are wanted
    """

    plan: Plan
    sites: tuple[Site, ...]
    thetas: tuple[float | None, ...]
    output: int
    n_steps: int
    n_cache_steps: int


def lower(graph: Graph, plan: Plan, weights: Weights, *, taps: Literal["none", "all"]) -> Lowered:
    """Add a recorded pass to an empty plan, with every slot left to be seen, or none."""
    slots = graph.slots if taps == "all" else []
    steps, stops = _steps(graph, slots)
    buffers = _Buffers(graph, plan, _last_reads(graph, slots, steps, stops))
    sites: list[Site] = []
    rows: Literal["tokens", "sequences"] = "tokens"
    for index, step in enumerate(steps):
        _add(plan, step, buffers, weights, index)
        rows = "sequences" if step.op == "last_rows" else rows
        for slot, stop in zip(slots, stops, strict=True):
            if stop == index + 1:
                sites.append(Site(slot.name, stop, buffers.part(slot.value), _shape(slot.value), rows))
    fills = [index + 1 for index, step in enumerate(steps) if step.op == "attention"]
    return Lowered(
        plan=plan,
        sites=tuple(sites),
        thetas=tuple(graph.thetas),
        output=buffers.part(graph.output),
        n_steps=len(steps),
        n_cache_steps=max(fills, default=0),
    )


@dataclass(frozen=True, slots=True)
class _Step:
    """Nodes that run together: one, or several linear ones with the same input."""

    op: str
    inputs: tuple[Value, ...]
    nodes: tuple[Node, ...]


def _steps(graph: Graph, slots: Sequence[Slot]) -> tuple[list[_Step], list[int]]:
    """The steps, and for each slot how many of them come before it."""
    seen = {slot.after for slot in slots}
    uses = Counter(value.storage for node in graph.nodes for value in node.inputs)
    steps: list[_Step] = []
    n_steps_after = {}
    for index, node in enumerate(graph.nodes):
        joined = _joined(steps[-1], node, uses) if steps and index not in seen else None
        if joined is not None:
            steps[-1] = joined
        else:
            steps.append(_Step(node.op, node.inputs, (node,)))
        n_steps_after[index + 1] = len(steps)
    return steps, [n_steps_after[slot.after] for slot in slots]


def _joined(step: _Step, node: Node, uses: Counter[int]) -> _Step | None:
    """The step with one more node; None if they cannot run together."""
    if step.op == node.op == "linear" and step.inputs[0].is_same(node.inputs[0]):
        return _Step("linear", step.inputs, (*step.nodes, node))
    if step.op in _GATES and node.op == "multiply":
        gate, up = node.inputs
        if gate.is_same(step.nodes[0].output) and uses[gate.storage] == 1:
            return _Step(f"{step.op}_multiply", (*step.inputs, up), (node,))
    return None


def _last_reads(graph: Graph, slots: Sequence[Slot], steps: Sequence[_Step], stops: Sequence[int]) -> dict[int, int]:
    """Storage -> the step that is the last to need what it holds; a slot is read between two steps, so by the second."""
    last = {value.storage: index for index, step in enumerate(steps) for value in step.inputs}
    for slot, stop in zip(slots, stops, strict=True):
        last[slot.value.storage] = max(last.get(slot.value.storage, 0), stop)
    last[graph.output.storage] = len(steps)
    return last


class _Buffers:
    """Which buffer holds each storage, and those that are free again."""

    def __init__(self, graph: Graph, plan: Plan, last_reads: dict[int, int]) -> None:
        self._widths, self._plan, self._last_reads = graph.widths, plan, last_reads
        self._of_storage: dict[int, int] = {}
        self._free: defaultdict[int, list[int]] = defaultdict(list)
        self._parts: dict[tuple[int, int, int], int] = {}

    def part(self, value: Value) -> int:
        """The buffer of a value, or its columns of one."""
        whole = self._of_storage[value.storage]
        if value.width == self._widths[value.storage]:
            return whole
        key = (whole, value.start, value.stop)
        if key not in self._parts:
            self._parts[key] = self._plan.columns(*key)
        return self._parts[key]

    def place(self, output: Value, over: Sequence[Value], step: int) -> int:
        """A buffer for what a step makes: one of those it may write over, if nobody reads it later, or a free one."""
        width = self._widths[output.storage]
        for value in over:
            is_whole = value.width == width == self._widths[value.storage]
            if is_whole and self._last_reads[value.storage] <= step:
                self._of_storage[output.storage] = self._of_storage.pop(value.storage)
                return self._of_storage[output.storage]
        free = self._free[width]
        self._of_storage[output.storage] = free.pop() if free else self._plan.buffer(width)
        return self._of_storage[output.storage]

    def release(self, step: int) -> None:
        """Free what no later step reads."""
        for storage in [s for s in self._of_storage if self._last_reads[s] <= step]:
            self._free[self._widths[storage]].append(self._of_storage.pop(storage))


def _add(plan: Plan, step: _Step, buffers: _Buffers, weights: Weights, index: int) -> None:
    """Add one step to the plan."""
    inputs = [buffers.part(value) for value in step.inputs]
    over = step.inputs[: _IN_PLACE.get(step.op, 0)]
    outputs = [buffers.place(node.output, over, index) for node in step.nodes]
    arguments = step.nodes[0].arguments
    method: Any = getattr(plan, step.op)
    if step.op == "linear":
        method(*inputs, [_product(node, out, weights) for node, out in zip(step.nodes, outputs, strict=True)])
    elif step.op == "embedding":
        assert isinstance(arguments[0], Parameter)
        method(weights.table(arguments[0].name), *outputs)
    elif step.op == "attention":
        method(*inputs, *outputs, *arguments)
    else:
        method(*inputs, *(weights.vector(a.name) if isinstance(a, Parameter) else a for a in arguments), *outputs)
    buffers.release(index)


def _product(node: Node, out: int, weights: Weights) -> tuple[Weight, np.ndarray | None, int]:
    weight, bias = node.arguments
    assert isinstance(weight, Parameter)
    return weights.matrix(weight.name), weights.vector(bias.name) if isinstance(bias, Parameter) else None, out


def _shape(value: Value) -> tuple[int, ...]:
    return (-1, value.width) if value.head_dim is None else (-1, value.width // value.head_dim, value.head_dim)
