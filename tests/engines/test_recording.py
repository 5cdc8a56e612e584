"""A recorded forward pass: its ops, its slots, and what it refuses to record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tiny
from apr.engines._recording import Graph, Value, record
from apr.errors import InternalError


def value(width: int = 8) -> Value:
    return Graph().add("embedding", (), width)


def test_a_layer_is_the_ops_of_its_forward_pass_in_order() -> None:
    ops = [node.op for node in record(tiny.config("llama", num_hidden_layers=1), rows="last").nodes]
    attention = ["rmsnorm", "linear", "linear", "linear", "rope", "rope", "attention", "linear", "add"]
    feed_forward = ["rmsnorm", "linear", "linear", "silu", "multiply", "linear", "add"]
    assert ops == ["embedding", *attention, *feed_forward, "last_rows", "rmsnorm", "linear"]


def test_each_layer_is_attended_to_with_its_own_arguments() -> None:
    graph = record(tiny.config("gemma3_text", attn_logit_softcapping=50.0, query_pre_attn_scalar=64.0), rows="all")
    attention = [node.arguments for node in graph.nodes if node.op == "attention"]
    assert attention == [(0, 16, 0.125, 8, 50.0), (1, 16, 0.125, 0, 50.0)]
    assert graph.thetas == [10000.0, None]
    assert [node.arguments for node in graph.nodes if node.op == "rope"] == [(0, 16), (0, 16), (1, 16), (1, 16)]


def test_all_rows_take_no_last_ones() -> None:
    counts = [Counter(node.op for node in record(tiny.config(), rows=rows).nodes) for rows in ("all", "last")]
    assert counts[1] - counts[0] == Counter(last_rows=1) and counts[0] - counts[1] == Counter()


def test_fused_projections_are_columns_of_one_value() -> None:
    graph = record(tiny.config("phi3"), rows="last")
    q, k, v = (slot.value for slot in graph.slots if slot.name in ("layers.0.q", "layers.0.k", "layers.0.v"))
    assert q.storage == k.storage == v.storage
    assert [(x.start, x.stop) for x in (q, k, v)] == [(0, 64), (64, 96), (96, 128)]


@pytest.mark.parametrize(
    "defect",
    [
        lambda x: x - x,
        lambda x: x / 2,
        lambda x: 2 * x,
        lambda x: np.float32(2) * x,
        lambda x: -x,
        lambda x: x.shape,
        lambda x: x.mean(),
        np.tanh,
        np.asarray,
        lambda x: x[0],
        lambda x: x[:2, :4],
        lambda x: x[:, ::2],
        lambda x: x[:, 4:4],
        lambda x: x.reshape(2, -1),
        lambda x: x.reshape(-1, 2, 2),
        lambda x: x + 1.0,
        lambda x: x + x[:, :4],
        lambda x: x if x else None,
        list,
        len,
    ],
)
def test_what_cannot_be_recorded_says_so(defect: Callable[[Any], Any]) -> None:
    with pytest.raises((InternalError, TypeError)):
        defect(value())


def test_heads_keep_their_columns() -> None:
    heads = value(12)[:, 4:].reshape(-1, 2, 4)
    assert (heads.start, heads.stop, heads.head_dim) == (4, 12, 4)
    assert (heads + heads).head_dim == 4
