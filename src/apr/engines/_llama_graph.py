"""The nodes of llama.cpp's graph: which of them is which slot, and how their values are read and written.

llama.cpp calls back for every node in the order of computation, first asking whether it is wanted, then, if so, with its
value. The order does not depend on how many tokens there are (llama.cpp keeps the topology fixed on purpose), so the
places of the slots are found once, on a pass of one token, and every later pass is checked against them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from apr.engines._alignment import SlotPlace
from apr.engines._base import Rows
from apr.engines._llama_library import EvalCallback, Library
from apr.errors import EngineError
from apr.models._decoder import Tap, no_tap

_SKIPPED = "GET_ROWS"  # in the last layer llama.cpp picks the rows that it needs logits of
_LAST_ROW_SLOTS = ("final_norm", "logits")


class GgmlTensor(ctypes.Structure):
    """ggml.h, `ggml_tensor`."""

    _fields_ = (
        ("type", ctypes.c_int32),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * 4),
        ("nb", ctypes.c_size_t * 4),
        ("op", ctypes.c_int32),
        ("op_params", ctypes.c_int32 * 16),
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * 10),
        ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("name", ctypes.c_char * 64),
    )


@dataclass(frozen=True, slots=True)
class Node:
    """A node as it was asked for: its name and operation, its address, and names and addresses of what it reads."""

    name: str
    op: str
    address: int
    sources: tuple[tuple[str, int], ...]


def node_at(library: Library, address: int) -> Node:
    """What a node is."""
    tensor = GgmlTensor.from_address(address)
    sources = tuple((_name(library, source), source) for source in tensor.src if source)
    return Node(_name(library, address), library.ggml_op_desc(address).decode(), address, sources)


def check_layout(library: Library, address: int) -> None:
    """Raise EngineError unless `GgmlTensor` is how this build lays its tensors out, by what its own functions say of one."""
    tensor = GgmlTensor.from_address(address)
    says = (
        library.ggml_get_data(address) == tensor.data,
        library.ggml_get_name(address) == tensor.name,
        library.ggml_nelements(address) == int(np.prod(list(tensor.ne))),
        library.ggml_element_size(address) == tensor.nb[0],
    )
    if not all(says):
        raise EngineError(f"{library.name} lays its tensors out in a way that is not known here; taps are not possible")


def find_slots(nodes: Sequence[Node], slots: Iterable[SlotPlace]) -> dict[int, list[SlotPlace]]:
    """The index of each node that holds slots -> those slots. Slots that the graph does not have are left out."""
    index_at = {node.address: i for i, node in enumerate(nodes)}
    found: dict[int, list[SlotPlace]] = {}
    for place in slots:
        at = _find(nodes, index_at, place)
        if at is not None:
            found.setdefault(at, []).append(place)
    return found


def _find(nodes: Sequence[Node], index_at: Mapping[int, int], place: SlotPlace) -> int | None:
    if place.into is not None:
        product = _last_reader(nodes, (f"{place.into}.weight",))
        norm = None if product is None else index_at.get(nodes[product].sources[0][1])
        return None if norm is None else index_at.get(nodes[norm].sources[0][1])
    if place.node is not None:
        matching = (i for i, n in enumerate(nodes) if n.name == place.node and place.op in (None, n.op))
        return max(matching, default=None)
    return None if place.tensor is None else _last_reader(nodes, (f"{place.tensor}.weight", f"{place.tensor}.bias"))


def _last_reader(nodes: Sequence[Node], tensors: tuple[str, ...]) -> int | None:
    reading = (i for i, n in enumerate(nodes) if n.op != _SKIPPED and any(name in tensors for name, _ in n.sources))
    return max(reading, default=None)


def as_array(raw: np.ndarray, ggml_type: int, ne: Sequence[int], nb: Sequence[int]) -> np.ndarray:
    """A tensor's elements in the bytes that it spans, as a view, slowest dimension first.

    raw:     uint8, from the first element to the last
    ne, nb:  ggml's counts and strides in bytes, fastest dimension first
    Raises   EngineError for element types other than F32, F16 and BF16, whose view is uint16
    """
    if ggml_type not in _DTYPES:
        raise EngineError(f"llama.cpp holds a slot in ggml's type {ggml_type}; only F32, F16 and BF16 are read")
    view: np.ndarray = np.ndarray(tuple(reversed(ne)), _DTYPES[ggml_type], raw.data, strides=tuple(reversed(nb)))
    return view


# ggml.h, GGML_TYPE_F32, F16 and BF16
_DTYPES: dict[int, np.dtype[Any]] = {0: np.dtype("<f4"), 1: np.dtype("<f2"), 30: np.dtype("<u2")}


class Watcher:
    """What llama.cpp calls back: it collects nodes, or shows slots to a tap and writes back what the tap returns.

    An error inside a callback cannot cross llama.cpp: it is kept in `error`, everything after it is refused, and the
    session raises it when the pass has returned.
    """

    def __init__(self, library: Library) -> None:
        self.library = library
        self.callback = EvalCallback(self._called)
        self.address: int = ctypes.cast(self.callback, ctypes.c_void_p).value or 0
        self.error: BaseException | None = None
        self.nodes: list[Node] | None = None
        self._plan: dict[int, list[SlotPlace]] = {}
        self._expected: Sequence[Node] = ()
        self._index = -1
        self._n_slots = 0
        self._tap: Tap = no_tap
        self._rows: Rows = "all"

    def collect(self) -> None:
        """The next pass notes all its nodes in `nodes`."""
        self.nodes, self.error, self._index = [], None, -1

    def show(self, tap: Tap, *, rows: Rows, plan: dict[int, list[SlotPlace]], expected: Sequence[Node]) -> None:
        """The next pass shows the slots of `plan` to the tap; its nodes have to be those that the plan was made of."""
        self.nodes, self.error, self._index, self._n_slots = None, None, -1, 0
        self._tap, self._rows, self._plan, self._expected = tap, rows, plan, expected

    def finish(self) -> None:
        """Raise what went wrong in the pass, and EngineError if it did not call back for every slot."""
        error, self.error, self._tap = self.error, None, no_tap
        if error is not None:
            raise error
        missing = sum(map(len, self._plan.values())) - self._n_slots
        if self.nodes is None and missing:
            raise EngineError(f"llama.cpp did not call back for {missing} slots; this build does not show its graph")

    def _called(self, address: int, is_question: bool, _: Any) -> bool:
        if self.error is not None:
            return False
        try:
            if is_question:
                return self._is_wanted(address)
            for place in self._plan[self._index]:
                self._show(address, place)
                self._n_slots += 1
        except BaseException as exc:  # noqa: BLE001 - nothing may be raised into C; `finish` raises it
            self.error = exc
            return False
        return True

    def _is_wanted(self, address: int) -> bool:
        self._index += 1
        if self.nodes is not None:
            self.nodes.append(node_at(self.library, address))
            return False
        if self._index not in self._plan:
            return False
        name, op = _name(self.library, address), self.library.ggml_op_desc(address).decode()
        expected = self._expected[self._index]
        if (name, op) != (expected.name, expected.op):
            raise EngineError(
                f"llama.cpp's graph has {name} ({op}) where its first pass had {expected.name} ({expected.op}); "
                "the slots cannot be told apart"
            )
        return True

    def _show(self, address: int, place: SlotPlace) -> None:
        raw, view = read_tensor(self.library, address)
        rows = view.reshape(-1, *view.shape[-2:]) if place.heads is not None else view.reshape(-1, view.shape[-1])
        is_last = self._rows == "last" and place.slot in _LAST_ROW_SLOTS
        chosen = (slice(-1, None) if is_last else slice(None), ..., place.columns or slice(None))
        is_bf16 = view.dtype == np.uint16
        value = _to_canonical(_from_bf16(rows[chosen]) if is_bf16 else rows[chosen].astype(np.float32), place)
        returned = self._tap(place.slot, value)
        if returned is value:
            return
        new = _from_canonical(np.asarray(returned, dtype=np.float32).reshape(value.shape), place)
        rows = rows if np.shares_memory(rows, view) else rows.copy()
        rows[chosen] = _to_bf16(new) if is_bf16 else new
        view[...] = rows.reshape(view.shape)
        self.library.ggml_backend_tensor_set(address, raw.ctypes.data, 0, raw.nbytes)


def read_tensor(library: Library, address: int) -> tuple[np.ndarray, np.ndarray]:
    """The bytes that a tensor spans, uint8, and a view of its elements in them, whatever its strides."""
    tensor = GgmlTensor.from_address(address)
    raw = np.empty(library.ggml_nbytes(address), dtype=np.uint8)
    library.ggml_backend_tensor_get(address, raw.ctypes.data, 0, raw.nbytes)
    return raw, as_array(raw, tensor.type, list(tensor.ne), list(tensor.nb))


def _to_canonical(value: np.ndarray, place: SlotPlace) -> np.ndarray:
    if place.row_order is None:
        return value
    flat: np.ndarray = value.reshape(value.shape[0], -1)[:, place.row_order]
    return flat.reshape(value.shape)


def _from_canonical(value: np.ndarray, place: SlotPlace) -> np.ndarray:
    if place.row_order is None:
        return value
    flat = np.empty((value.shape[0], place.row_order.size), dtype=np.float32)
    flat[:, place.row_order] = value.reshape(value.shape[0], -1)
    return flat.reshape(value.shape)


def _from_bf16(bits: np.ndarray) -> np.ndarray:
    widened: np.ndarray = (bits.astype(np.uint32) << 16).view(np.float32)
    return widened


def _to_bf16(value: np.ndarray) -> np.ndarray:
    bits = np.ascontiguousarray(value).view(np.uint32)
    # to nearest, ties to even: ggml-impl.h, ggml_compute_fp32_to_bf16
    rounded: np.ndarray = ((bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return rounded


def _name(library: Library, address: int) -> str:
    name: bytes = library.ggml_get_name(address)
    return name.decode("utf-8", "replace")
