"""Two traces: what must not be compared, what is the same, and what only looks the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tiny
from apr.engines._subject import Subject
from apr.trace import Selection, Trace, compare, compare_run, load_trace, store, trace
from apr.trace.compare import TraceComparison, threshold
from traced import N_POSITIONS, PROMPT, model

Change = Callable[[str, np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model(tmp_path_factory.mktemp("model") / "m")


@pytest.fixture(scope="module")
def kept(path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_of(path, tmp_path_factory.mktemp("kept") / "reference.npz")


def made_of(path: Path | str, target: Path, **options: object) -> Path:
    trace(path, PROMPT, regime="raw", save=target, **options)  # type: ignore[arg-type]
    return target


def changed(source: Path, target: Path, change: Change, **header: object) -> Path:
    """A kept trace with other values, or another header."""
    with load_trace(source) as saved:
        made = saved.with_figures()
        made = dataclasses.replace(made, header=dataclasses.replace(made.header, **header))  # type: ignore[arg-type]
        with store.writing(target, made) as put:
            for slot in saved.shapes:
                put(slot, change(slot, np.array(saved.array(slot))))
    return target


def compared(candidate: Path, reference: Path, selection: Selection | None = None) -> TraceComparison:
    with load_trace(candidate) as a, load_trace(reference) as b:
        return compare(a, b, selection)


def unchanged(slot: str, values: np.ndarray) -> np.ndarray:
    del slot
    return values


def test_a_trace_is_the_same_as_itself(kept: Path) -> None:
    found = compared(kept, kept)
    assert (found.verdict, found.exit_code, found.differs) == ("same", 0, ())
    assert len(found.slots) > 30 and found.precision == "float32"
    for slot in found.slots:
        assert slot.relative_l2 == 0 == slot.max_abs and slot.snr_db is None
        assert slot.cosine == pytest.approx(1) and slot.spread_ratio == 1


def test_another_container_of_the_same_trace_is_the_same(kept: Path, path: Path, tmp_path: Path) -> None:
    found = compared(made_of(path, tmp_path / "t.safetensors"), kept)
    assert found.verdict == "same" and all(slot.max_abs == 0 for slot in found.slots)


def test_engines_that_round_differently_are_the_same_and_named(kept: Path, path: Path, tmp_path: Path) -> None:
    found = compared(made_of(f"{path}@numpy", tmp_path / "numpy.npz"), kept)
    assert found.verdict == "same" and {"engine", "kernel_set"} <= set(found.differs)
    assert any(slot.max_abs > 0 for slot in found.slots)


@pytest.mark.parametrize("codec", ["q8_0", "q4_k"])
def test_activations_in_8_bits_are_the_same_within_their_own_rounding(tmp_path: Path, codec: str) -> None:
    config = tiny.config(**tiny.BLOCKS_OF_256)
    path = tiny.write(tmp_path / "m", "gguf", config, codec=codec)
    exact = made_of(path, tmp_path / "exact.npz")
    fast = made_of(path, tmp_path / "fast.npz", activations="int8")
    found = compared(fast, exact)
    assert found.precision == "int8" and found.verdict == "same"
    assert {"activations", "kv_cache"} <= set(found.differs)
    assert max(slot.position_l2 or 0 for slot in found.slots) > 1e-4


def test_seven_positions_against_one_are_refused(path: Path, kept: Path, tmp_path: Path) -> None:
    one = made_of(path, tmp_path / "one.npz", selection=Selection(positions="-1"))
    found = compared(one, kept)
    assert (found.verdict, found.exit_code, found.field) == ("not_comparable", 5, "positions")
    assert "one covers position 5 alone, the other 6 positions, 0 to 5" in found.sentence and found.slots == ()


def test_other_token_ids_are_refused(path: Path, kept: Path, tmp_path: Path) -> None:
    trace(path, "a dizen", regime="raw", save=tmp_path / "t.npz")
    found = compared(tmp_path / "t.npz", kept)
    assert (found.verdict, found.field) == ("not_comparable", "token_ids_sha256")
    assert "differ from position 3 on" in found.sentence


def test_other_capture_points_are_refused_unless_those_of_both_are_chosen(
    path: Path, kept: Path, tmp_path: Path
) -> None:
    outs = made_of(path, tmp_path / "outs.npz", selection=Selection(("out", "q")))
    found = compared(outs, kept)
    assert (found.verdict, found.field) == ("not_comparable", "slots")
    assert "only one side has embed, attn_norm, k, v, q_rope, k_rope, … (embed in " in found.sentence
    assert compared(kept, outs).field == "slots"
    assert compared(outs, kept, Selection(("out",))).verdict == "same"


def test_other_shapes_are_refused(kept: Path, tmp_path: Path) -> None:
    narrow = model(tmp_path / "m2", **{})
    config = tiny.config(intermediate_size=64)
    narrow = tiny.write(tmp_path / "narrow", "safetensors", config, tiny.tensors(config))
    found = compared(made_of(narrow, tmp_path / "narrow.npz"), kept)
    assert (found.verdict, found.field) == ("not_comparable", "shape of layers.0.ffn_gate")
    assert "[6, 64] against [6, 96]" in found.sentence


def test_a_precision_that_is_not_known_is_refused(kept: Path, tmp_path: Path) -> None:
    found = compared(changed(kept, tmp_path / "t.npz", unchanged, activations="posit8"), kept)
    assert (found.verdict, found.field) == ("not_comparable", "activations")


def _permuted(slot: str, values: np.ndarray) -> np.ndarray:
    return values[:, ::-1] if slot == "layers.1.out" else values


def _one_value_at_the_last_position(slot: str, values: np.ndarray) -> np.ndarray:
    if slot == "layers.1.out":
        values[0] *= 1e5  # the first position is enormous, on both sides
        values[-1, 3] += 0.01
    return values


def _enormous_first(slot: str, values: np.ndarray) -> np.ndarray:
    if slot == "layers.1.out":
        values[0] *= 1e5
    return values


def _nan(slot: str, values: np.ndarray) -> np.ndarray:
    if slot == "layers.1.out":
        values[2, 7] = np.nan
    return values


def test_a_permuted_vector_has_the_same_spread_and_is_different(kept: Path, tmp_path: Path) -> None:
    found = compared(changed(kept, tmp_path / "t.npz", _permuted), kept)
    assert (found.verdict, found.exit_code, found.n_different, found.first) == ("different", 1, 1, "layers.1.out")
    slot = next(slot for slot in found.slots if slot.slot == found.first)
    assert slot.spread_ratio == pytest.approx(1, abs=1e-9) and (slot.relative_l2 or 0) > 1
    assert abs(slot.cosine or 0) < 0.5


def test_a_small_difference_is_seen_beside_an_enormous_first_position(kept: Path, tmp_path: Path) -> None:
    reference = changed(kept, tmp_path / "a.npz", _enormous_first)
    found = compared(changed(kept, tmp_path / "b.npz", _one_value_at_the_last_position), reference)
    slot = next(slot for slot in found.slots if slot.slot == "layers.1.out")
    assert found.first == slot.slot and slot.position == N_POSITIONS - 1
    assert (slot.relative_l2 or 0) < slot.threshold < (slot.position_l2 or 0)


@pytest.mark.parametrize("is_reference", [True, False])
def test_a_value_that_is_not_finite_on_one_side_is_different(kept: Path, tmp_path: Path, is_reference: bool) -> None:
    broken = changed(kept, tmp_path / "t.npz", _nan)
    found = compared(kept, broken) if is_reference else compared(broken, kept)
    assert found.first == "layers.1.out" and "1 values are not finite on one side" in found.sentence
    assert compared(broken, broken).verdict == "same"


def test_the_figures_are_numpys_own(kept: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    other = changed(kept, tmp_path / "t.npz", lambda _, v: v + random.standard_normal(v.shape).astype(np.float32))
    with load_trace(kept) as saved, load_trace(other) as noisy:
        b, a = (s.array("layers.0.q_rope").astype(np.float64).reshape(N_POSITIONS, -1) for s in (saved, noisy))
    slot = next(slot for slot in compared(other, kept).slots if slot.slot == "layers.0.q_rope")
    assert slot.relative_l2 == pytest.approx(np.sqrt(((a - b) ** 2).sum() / (b**2).sum()))
    assert slot.cosine == pytest.approx((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))
    assert slot.snr_db == pytest.approx(10 * np.log10((b**2).sum() / ((a - b) ** 2).sum()))
    assert slot.max_abs == np.abs(a - b).max() and slot.spread_ratio == pytest.approx(a.std() / b.std())
    by_position = np.sqrt(((a - b) ** 2).sum(axis=1) / (b**2).sum(axis=1))
    assert slot.position == by_position.argmax() and slot.position_l2 == pytest.approx(by_position.max())


def test_zeros_against_something_are_different_and_against_zeros_are_not(kept: Path, tmp_path: Path) -> None:
    zeroed = changed(kept, tmp_path / "t.npz", lambda slot, v: v * 0 if slot == "layers.0.q" else v)
    found = compared(kept, zeroed)
    assert found.first == "layers.0.q" and "its relative error is infinite" in found.sentence
    assert compared(zeroed, zeroed).verdict == "same"


def test_zeros_are_different_however_coarse_the_engines_are(kept: Path, tmp_path: Path) -> None:
    coarse = changed(kept, tmp_path / "a.npz", unchanged, activations="int8")
    zeroed = changed(coarse, tmp_path / "b.npz", lambda slot, v: v * 0 if slot == "layers.1.out" else v)
    found = compared(zeroed, coarse)
    assert (found.verdict, found.first, found.precision) == ("different", "layers.1.out", "int8")


# ---- a model against a kept trace


def run_against(model_path: Path | str, kept: Path, selection: Selection | None = None) -> TraceComparison:
    with Subject.of(model_path) as subject, load_trace(kept) as reference:
        return compare_run(subject, reference, selection)


def test_a_model_is_the_same_as_its_own_trace(path: Path, kept: Path) -> None:
    found = run_against(path, kept)
    assert found.verdict == "same" and found.differs == () and len(found.slots) > 30
    assert run_against(f"{path}@numpy", kept).verdict == "same"


def test_a_model_is_run_on_the_traces_own_positions_and_slots(path: Path, tmp_path: Path) -> None:
    kept = made_of(path, tmp_path / "t.npz", selection=Selection(("ffn_*",), positions="1,3"))
    found = run_against(path, kept)
    assert found.verdict == "same" and found.n_positions == 2 and len(found.slots) == 12
    assert len(run_against(path, kept, Selection(("ffn_down",))).slots) == 2


def test_a_model_with_one_changed_weight_differs_from_that_slot_on(kept: Path, tmp_path: Path) -> None:
    weights = tiny.tensors(tiny.config())["model.layers.1.mlp.up_proj.weight"].copy()
    weights[5] = -weights[5]
    found = run_against(model(tmp_path / "m", **{"model.layers.1.mlp.up_proj.weight": weights}), kept)
    assert (found.verdict, found.first) == ("different", "layers.1.ffn_up")
    assert [s.slot for s in found.slots if s.is_different][1:] == [
        "layers.1.ffn_swiglu", "layers.1.ffn_down", "layers.1.out", "final_norm", "logits",
    ]  # fmt: skip
    assert {"model_sha256", "tensors_sha256"} <= set(found.differs)


def test_a_model_that_breaks_is_different_where_the_nan_is_born(kept: Path, tmp_path: Path) -> None:
    norm = np.ones(64, dtype=np.float32)
    norm[7] = np.nan
    found = run_against(model(tmp_path / "m", **{"model.norm.weight": norm}), kept)
    assert (found.verdict, found.first) == ("different", "final_norm")


def test_a_model_without_a_slot_of_the_trace_is_not_comparable(path: Path, tmp_path: Path) -> None:
    qwen3 = tiny.config("qwen3")
    kept = made_of(tiny.write(tmp_path / "m", "safetensors", qwen3, tiny.tensors(qwen3)), tmp_path / "t.npz")
    found = run_against(path, kept)
    assert (found.verdict, found.field) == ("not_comparable", "slots")


def test_a_model_with_a_smaller_vocabulary_is_not_comparable(kept: Path, tmp_path: Path) -> None:
    with load_trace(kept) as saved:
        made: Trace = saved.with_figures()
    small = tiny.config(vocab_size=max(made.header.prompt_token_ids))
    weights = {
        name: values[: small.vocab_size] if name in ("model.embed_tokens.weight", "lm_head.weight") else values
        for name, values in tiny.tensors(tiny.config()).items()
    }
    with Subject(path_of_small(tmp_path, weights, small)) as subject, load_trace(kept) as reference:
        found = compare_run(subject, reference)
    assert (found.verdict, found.field) == ("not_comparable", "prompt_token_ids")


def path_of_small(folder: Path, weights: dict[str, np.ndarray], config: object) -> Path:
    return tiny.write(folder / "small", "safetensors", config, weights)  # type: ignore[arg-type]


def test_thresholds_come_from_rounding_and_grow_with_depth() -> None:
    assert threshold("float32", 3) == 2 * threshold("float32", 0) == 2 * 1024 * 2.0**-24
    assert threshold("float32", 0) < threshold("float16", 0) < threshold("bfloat16", 0) < 1
    assert threshold("bfloat16", 10**6) == 0.5
