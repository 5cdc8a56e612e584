"""A lowered pass against the same pass run eagerly, bit for bit, over a plan that interprets its steps with NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest

import tiny
from apr import models
from apr.engines._lowering import Lowered, lower
from apr.engines._recording import Graph, Parameter, Slot, Value, record
from apr.kernels._set import NUMPY
from apr.kernels.silu import silu
from apr.models._config import ModelConfig
from apr.models._decoder import RopeTables, Span, SpanBatch, Tap, no_tap
from apr.models._kv_cache import KVCache
from engines.numpy_plan import ArrayWeights, NumpyPlan

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in tiny.MODEL_TYPES} | {
    "llama biased": ("llama", {"attention_bias": True, "tie_word_embeddings": True}),
    "llama partial": ("llama", {"partial_rotary_factor": 0.5}),
    "gemma3 capped": ("gemma3_text", {"attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0}),
    "same widths": ("llama", {"intermediate_size": 64, "num_key_value_heads": 4, "vocab_size": 64}),
}
LENGTHS = (3, 1, 12)


def made(variant: str) -> ModelConfig:
    model_type, changes = VARIANTS[variant]
    return tiny.config(model_type, **changes)


def spans(config: ModelConfig, lengths: tuple[int, ...] = LENGTHS) -> list[Span]:
    ids = np.random.default_rng(1).integers(0, config.vocab_size, (len(lengths), max(lengths)))
    c = config
    caches = [
        KVCache(num_hidden_layers=c.num_hidden_layers, num_key_value_heads=c.num_key_value_heads, head_dim=c.head_dim)
        for _ in lengths
    ]
    return [Span(row[:n], cache) for row, n, cache in zip(ids, lengths, caches, strict=True)]


def eager(config: ModelConfig, *, tap: Tap, rows: Literal["last", "all"]) -> np.ndarray:
    model = models.for_model_type(config.model_type).Model(config, tiny.tensors(config), NUMPY)
    logits: np.ndarray = model.forward(SpanBatch(spans(config), RopeTables(config)), tap=tap, rows=rows)
    return logits


def lowered(config: ModelConfig, *, taps: Literal["none", "all"], rows: Literal["last", "all"]) -> Lowered:
    plan: Any = NumpyPlan()
    weights: Any = ArrayWeights(tiny.tensors(config))
    return lower(record(config, rows=rows), plan, weights, taps=taps)


def replayed(config: ModelConfig, ready: Lowered, *, tap: Tap = no_tap) -> np.ndarray:
    plan: Any = ready.plan
    fresh, batch = spans(config), SpanBatch(spans(config), RopeTables(config))
    tables = [np.concatenate(batch.rope_table(theta), axis=1) for theta in ready.thetas]
    plan.bind(batch.token_ids, [span.cache for span in fresh], LENGTHS, tables)
    at = 0
    for site in ready.sites:
        plan.run(None, at, site.stop)
        at = site.stop
        value = plan.read(site.buffer)
        plan.write(site.buffer, tap(site.name, value.reshape(site.shape)).reshape(value.shape))
    plan.run(None, at, ready.n_steps)
    logits: np.ndarray = plan.read(ready.output)
    return logits


@pytest.mark.parametrize("rows", ["last", "all"])
@pytest.mark.parametrize("taps", ["none", "all"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_it_computes_the_bits_of_the_eager_pass(
    variant: str, taps: Literal["none", "all"], rows: Literal["last", "all"]
) -> None:
    config = made(variant)
    actual = replayed(config, lowered(config, taps=taps, rows=rows))
    np.testing.assert_array_equal(actual, eager(config, tap=no_tap, rows=rows))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_tap_sees_the_same_slots_in_the_same_order_with_the_same_values(variant: str) -> None:
    config = made(variant)
    seen: dict[str, list[tuple[str, np.ndarray]]] = {"eager": [], "replayed": []}

    def recorder(name: str) -> Tap:
        def tap(slot: str, value: np.ndarray) -> np.ndarray:
            seen[name].append((slot, value.copy()))
            return value

        return tap

    eager(config, tap=recorder("eager"), rows="last")
    replayed(config, lowered(config, taps="all", rows="last"), tap=recorder("replayed"))
    assert [name for name, _ in seen["eager"]] == [name for name, _ in seen["replayed"]]
    for (name, expected), (_, actual) in zip(seen["eager"], seen["replayed"], strict=True):
        np.testing.assert_array_equal(actual, expected, err_msg=name)


@pytest.mark.parametrize("variant", VARIANTS)
def test_any_slot_that_is_replaced_changes_the_same_bits(variant: str) -> None:
    config = made(variant)
    ready = lowered(config, taps="all", rows="last")
    plain = eager(config, tap=no_tap, rows="last")
    for name in [site.name for site in ready.sites if not site.name.startswith("layers.0.")]:

        def tap(slot: str, value: np.ndarray, name: str = name) -> np.ndarray:
            return value + np.float32(0.5) * (value > 0) if slot == name else value

        expected = eager(config, tap=tap, rows="last")
        np.testing.assert_array_equal(replayed(config, ready, tap=tap), expected, err_msg=name)
        assert (expected != plain).any(), name


def steps(ready: Lowered) -> list[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    plan: Any = ready.plan
    found: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = plan.steps
    return found


def test_products_with_the_same_input_are_one_step() -> None:
    products = [
        len(outputs) for op, _, outputs in steps(lowered(made("llama"), taps="none", rows="last")) if op == "linear"
    ]
    assert products == [3, 1, 2, 1] * 2 + [1]


def test_a_gate_is_multiplied_where_it_is_made_unless_it_is_tapped() -> None:
    ops = {
        taps: [op for op, _, _ in steps(lowered(made("gemma3_text"), taps=taps, rows="last"))]
        for taps in ("none", "all")
    }
    assert ops["none"].count("gelu_tanh_multiply") == 2 and "multiply" not in ops["none"]
    assert ops["all"].count("gelu_tanh") == ops["all"].count("multiply") == 2


@pytest.mark.parametrize("variant", VARIANTS)
def test_buffers_are_used_again(variant: str) -> None:
    few, many = (
        lowered(
            tiny.config(VARIANTS[variant][0], **VARIANTS[variant][1] | {"num_hidden_layers": n, "layer_types": ()}),
            taps="all",
            rows="last",
        )
        for n in (2, 6)
    )
    few_plan: Any = few.plan
    many_plan: Any = many.plan
    assert few_plan.widths == many_plan.widths and len(few_plan.widths) <= 11


def test_residuals_are_added_where_they_are() -> None:
    adds = [
        (inputs, outputs)
        for op, inputs, outputs in steps(lowered(made("llama"), taps="none", rows="last"))
        if op == "add"
    ]
    assert len(adds) == 4 and all(inputs[0] == outputs[0] for inputs, outputs in adds)


def test_a_pass_for_the_caches_alone_ends_with_the_last_attention() -> None:
    ready = lowered(made("qwen3"), taps="none", rows="last")
    ops = [op for op, _, _ in steps(ready)]
    assert ops[ready.n_cache_steps - 1] == "attention" and "attention" not in ops[ready.n_cache_steps :]


def test_the_slots_after_the_last_rows_are_those_of_sequences() -> None:
    sites = {site.name: site.rows for site in lowered(made("llama"), taps="all", rows="last").sites}
    assert {name for name, rows in sites.items() if rows == "sequences"} == {"final_norm", "logits"}
    assert {site.rows for site in lowered(made("llama"), taps="all", rows="all").sites} == {"tokens"}


TABLE = np.random.default_rng(2).standard_normal((5, 4)).astype(np.float32)


def by_hand(passed: Callable[[Graph, Value], Value], *, taps: Literal["none", "all"] = "none") -> Any:
    """A pass over one embedding, lowered and bound: its plan, and where it is tapped."""
    graph, plan = Graph(), NumpyPlan()
    passed(graph, graph.add("embedding", (), 4, Parameter("table", TABLE.shape)))
    weights: Any = ArrayWeights({"table": TABLE})
    untyped: Any = plan
    ready = lower(graph, untyped, weights, taps=taps)
    plan.bind(np.arange(5), [], [], [])
    return ready


def test_a_value_that_is_read_again_is_not_overwritten() -> None:
    ready = by_hand(lambda graph, x: graph.add("silu", (x,), 4) + x)
    ready.plan.run(None, 0, ready.n_steps)
    np.testing.assert_array_equal(ready.plan.read(ready.output), silu(TABLE) + TABLE)


def test_an_activation_that_is_used_twice_is_kept() -> None:
    def passed(graph: Graph, x: Value) -> Value:
        act = graph.add("silu", (x,), 4)
        return act * x + act

    ready = by_hand(passed)
    ready.plan.run(None, 0, ready.n_steps)
    np.testing.assert_array_equal(ready.plan.read(ready.output), silu(TABLE) * TABLE + silu(TABLE))


def test_a_slot_is_still_there_when_it_is_tapped_after_its_last_use() -> None:
    def passed(graph: Graph, x: Value) -> Value:
        y = graph.add("silu", (x,), 4)
        graph.slots.append(Slot("late", len(graph.nodes), x))
        return y * 2.0

    ready = by_hand(passed, taps="all")
    ready.plan.run(None, 0, ready.sites[0].stop)
    np.testing.assert_array_equal(ready.plan.read(ready.sites[0].buffer), TABLE)
