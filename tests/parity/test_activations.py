"""Faults planted in engines of tiny models: each is named with its cause and its place, and healthy engines are left alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from apr.engines import native
from apr.engines import numpy as numpy_engine
from apr.engines._subject import Subject
from apr.parity import activations
from apr.parity._captures import capture
from apr.parity._link import LinkResult
from apr.parity._pair import Pair
from parity import faulty_engines as faulty
from parity.pairs import pair_of, path_of

BIASED = {"attention_bias": True}


def compared(
    opened: list[Subject], path: Path, candidate: Path | None = None, **options: Any
) -> tuple[LinkResult, Pair]:
    pair = pair_of(opened, path, candidate, **options)
    result = activations.compare(pair)
    json.dumps(result.measure, allow_nan=False)
    return result, pair


def assert_blamed(result: LinkResult, cause: str, slot: str, **where: Any) -> None:
    assert result.verdict == "different", result.sentence
    found = result.findings[0]
    assert found.cause == cause, found.sentence
    assert found.where["slot"] == slot, found.sentence
    assert {key: found.where.get(key) for key in where} == where, found.sentence
    assert not result.is_benign


@pytest.mark.parametrize("model_type", tiny.MODEL_TYPES)
def test_two_kernel_sets_agree_to_rounding_in_every_architecture(
    models: Path, opened: list[Subject], model_type: str
) -> None:
    result, _ = compared(opened, path_of(models, model_type), engine="numpy")
    assert result.verdict == "same", result.sentence
    assert len(result.measure["slots"]) >= 32
    assert max(row["local"] / row["threshold"] for row in result.measure["slots"] if row["threshold"]) < 1
    assert result.measure["n_positions"] > activations.MIN_POSITIONS


def test_threads_and_another_loader_change_nothing(models: Path, opened: list[Subject]) -> None:
    path = path_of(models, "llama")
    pair = Pair(Subject(path, threads=1), Subject(path, threads=2, loader=faulty.plain_native))
    opened += [pair.reference, pair.candidate]
    assert activations.compare(pair).verdict == "same"


@pytest.mark.parametrize("file_format", ["safetensors", "apr"])
def test_another_format_with_the_same_weights_is_the_same(
    models: Path, opened: list[Subject], file_format: str
) -> None:
    other = tiny.write(models / f"llama-as-{file_format}", file_format, tiny.config("llama"))
    result, _ = compared(opened, path_of(models, "llama"), other)
    assert result.verdict == "same", result.sentence


def test_activations_of_8_bits_are_benign_drift(models: Path, opened: list[Subject]) -> None:
    path = path_of(models, "llama", codec="q8_0")
    result, _ = compared(opened, path, activations="int8")
    assert result.verdict == "different"
    assert result.is_benign
    assert result.findings[0].cause == "drift.precision"
    assert all(row["local"] <= row["threshold"] for row in result.measure["slots"])


@pytest.mark.parametrize("codec", ["q4_k", "q5_k", "q6_k", "q2_k", "q3_k", "q4_0", "q8_0"])
def test_the_ladder_of_8_bits_holds_for_every_codec_and_is_no_wide_gate(
    models: Path, opened: list[Subject], codec: str
) -> None:
    path = path_of(models, "qwen2", codec=codec, **tiny.BLOCKS_OF_256, **BIASED)
    result, _ = compared(opened, path, activations="int8")
    assert result.is_benign, result.sentence
    linear = [row for row in result.measure["slots"] if row["name"] in ("q", "attn_out", "ffn_gate", "ffn_down")]
    assert max(row["local"] / row["threshold"] for row in linear) > 0.1, "the ladder is far over what it is for"


def test_a_rounded_copy_is_judged_by_its_engine_alone(models: Path, opened: list[Subject]) -> None:
    exact, rounded = path_of(models, "llama"), path_of(models, "llama", codec="q8_0")
    result, _ = compared(opened, exact, rounded)
    assert result.is_benign
    assert result.findings[0].cause == "drift.quantization"
    blamed, _ = compared(
        opened, exact, rounded, loader=faulty.at_slot("layers.1.attn", faulty.zero_head(2, head_dim=16))
    )
    assert_blamed(blamed, "engine.op", "layers.1.attn", layer=1, head=2)


@pytest.mark.parametrize("model_type", tiny.MODEL_TYPES)
def test_a_zeroed_head_is_named_in_every_architecture(models: Path, opened: list[Subject], model_type: str) -> None:
    loader = faulty.at_slot("layers.1.attn", faulty.zero_head(3, head_dim=16))
    result, _ = compared(opened, path_of(models, model_type), loader=loader)
    assert_blamed(result, "engine.op", "layers.1.attn", layer=1, head=3)
    assert "zeros in head 3" in result.sentence


def test_another_epsilon_in_one_norm_is_found_and_recognised(models: Path, opened: list[Subject]) -> None:
    loader = faulty.wrong_eps("model.layers.1.post_attention_layernorm.weight", 1e-5)
    result, _ = compared(opened, path_of(models, "llama"), loader=loader)
    assert_blamed(result, "engine.op", "layers.1.ffn_norm", layer=1)
    assert "epsilon" in result.sentence


def test_a_bias_that_is_not_added_is_found_and_recognised(models: Path, opened: list[Subject]) -> None:
    loader = faulty.dropped_bias("model.layers.0.self_attn.k_proj.bias")
    result, _ = compared(opened, path_of(models, "qwen2", **BIASED), loader=loader)
    assert_blamed(result, "engine.op", "layers.0.k", layer=0)
    assert "bias" in result.sentence


@pytest.mark.parametrize("model_type", ["llama", "qwen3", "gemma3_text"])
def test_pairs_turned_instead_of_halves_are_recognised(models: Path, opened: list[Subject], model_type: str) -> None:
    loader = faulty.changed_model(faulty.interleaved_rope)
    result, _ = compared(opened, path_of(models, model_type), loader=loader)
    assert_blamed(result, "engine.op", "layers.0.q_rope", layer=0, layers=[0, 1])
    assert "interleaved pairs" in result.sentence


@pytest.mark.parametrize(("shift", "since"), [(1, 0), (-1, 9), (3, 12), (-5, 20)])
def test_positions_counted_wrong_are_named_with_shift_and_place(
    models: Path, opened: list[Subject], shift: int, since: int
) -> None:
    result, _ = compared(opened, path_of(models, "llama"), loader=faulty.shifted_positions(shift, since=since))
    assert_blamed(result, "engine.position", "layers.0.q_rope", position=since, shift=shift)


def test_local_layers_positions_are_checked_by_their_own_base(models: Path, opened: list[Subject]) -> None:
    result, _ = compared(opened, path_of(models, "gemma3_text"), loader=faulty.shifted_positions(2, since=7))
    assert_blamed(result, "engine.position", "layers.0.q_rope", position=7, shift=2)


def test_a_wrong_attention_scale_is_found_with_its_factor(models: Path, opened: list[Subject]) -> None:
    result, _ = compared(opened, path_of(models, "llama"), loader=faulty.attention_scaled(0.7))
    assert_blamed(result, "engine.op", "layers.0.attn", position=1, layers=[0, 1])
    assert "scaled by 0.7" in result.sentence


@pytest.mark.parametrize(
    ("slot", "n_heads"), [("layers.1.attn", 4), ("layers.0.v", 2), ("layers.1.q", 4)], ids=["attn", "v", "q"]
)
def test_heads_and_features_transposed_are_recognised(
    models: Path, opened: list[Subject], slot: str, n_heads: int
) -> None:
    loader = faulty.at_slot(slot, faulty.transposed_heads(n_heads))
    result, _ = compared(opened, path_of(models, "llama"), loader=loader)
    assert_blamed(result, "engine.op", slot)
    assert "transposed" in result.sentence


def test_a_permuted_vector_fails_though_its_spread_is_right(models: Path, opened: list[Subject]) -> None:
    # R4: a ratio of standard deviations cannot see directions
    loader = faulty.at_slot("layers.0.ffn_swiglu", lambda value: value[:, ::-1])
    result, _ = compared(opened, path_of(models, "llama"), loader=loader)
    assert_blamed(result, "engine.op", "layers.0.ffn_swiglu")
    row = next(row for row in result.measure["slots"] if row["slot"] == "layers.0.ffn_swiglu")
    assert row["spread_ratio"] == pytest.approx(1.0, abs=1e-3)
    assert row["local"] > 1.0


def test_a_transposed_output_head_is_the_first_to_fail(models: Path, opened: list[Subject]) -> None:
    loader = faulty.at_slot("logits", lambda value: value.reshape(len(value), 16, -1).swapaxes(1, 2))
    result, _ = compared(opened, path_of(models, "llama"), loader=loader)
    assert_blamed(result, "engine.op", "logits")
    assert len(result.findings) == 1


def test_what_is_behind_the_fault_inherits_and_is_not_blamed(models: Path, opened: list[Subject]) -> None:
    loader = faulty.at_slot("layers.0.ffn_norm", lambda value: value * np.float32(1.01))
    result, _ = compared(opened, path_of(models, "llama"), loader=loader)
    rows = {row["slot"]: row for row in result.measure["slots"]}
    assert [slot for slot, row in rows.items() if row["is_bad"]] == ["layers.0.ffn_norm"]
    assert rows["layers.0.attn_residual"]["inherited"] < 1e-6 < 1e-4 < rows["layers.1.out"]["inherited"]
    assert rows["layers.1.out"]["local"] < 1e-6
    assert "1.01 times" in result.sentence


def test_the_first_value_that_is_not_finite_is_named_where_it_is_born(models: Path, opened: list[Subject]) -> None:
    def spoil(value: np.ndarray) -> np.ndarray:
        spoilt = value.copy()
        spoilt[20:, 3] = np.nan
        return spoilt

    loader = faulty.at_slot("layers.0.ffn_up", spoil)
    result, _ = compared(opened, path_of(models, "llama"), loader=loader)
    assert_blamed(result, "engine.op", "layers.0.ffn_up", position=20)
    assert "nan" in result.sentence
    assert len(result.findings) == 1


def test_a_cache_that_forgets_shows_only_token_by_token(models: Path, opened: list[Subject]) -> None:
    loader = faulty.changed_model(faulty.forgetful_cache)
    result, pair = compared(opened, path_of(models, "llama"), loader=loader)
    assert_blamed(result, "engine.kv_cache", "layers.0.attn", decode=True)
    assert "oldest position" in result.sentence
    assert result.findings[0].where["position"] == result.measure["n_positions"] - activations.DECODED
    before, after = activations.prove(pair, result.findings[0])
    assert before > 1e-4
    assert after < 1e-10


@pytest.mark.parametrize(
    "loader",
    [
        faulty.attention_scaled(0.7),
        faulty.changed_model(faulty.interleaved_rope),
        faulty.at_slot("layers.0.out", lambda value: value * np.float32(1.1)),
    ],
    ids=["scale", "rope", "out"],
)
def test_forcing_the_blamed_slots_puts_the_logits_right(
    models: Path, opened: list[Subject], loader: faulty.Loader
) -> None:
    result, pair = compared(opened, path_of(models, "llama"), loader=loader)
    before, after = activations.prove(pair, result.findings[0])
    assert before > 1e-6
    assert after < 1e-10


def test_forcing_another_slot_does_not_put_the_logits_right(models: Path, opened: list[Subject]) -> None:
    loader = faulty.at_slot("layers.1.out", lambda value: value[:, ::-1])
    result, pair = compared(opened, path_of(models, "llama"), loader=loader)
    wrong = type(result.findings[0])("engine.op", "", {"slot": "layers.0.ffn_up"})
    before, after = activations.prove(pair, wrong)
    assert after > 0.5 * before > 1e-4


def test_an_engine_that_can_only_be_watched_is_judged_the_other_way_round(
    models: Path, opened: list[Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numpy_engine, "CAPABILITIES", frozenset({"logits", "taps"}))
    loader = faulty.at_slot("layers.1.attn", faulty.zero_head(1, head_dim=16))
    result, pair = compared(opened, path_of(models, "llama"), loader=loader)
    assert_blamed(result, "engine.op", "layers.1.attn", head=1)
    before, after = activations.prove(pair, result.findings[0])
    assert before > 1e-4
    assert after < 1e-10
    healthy, _ = compared(opened, path_of(models, "llama"), engine="numpy")
    assert healthy.verdict == "same"


def test_an_engine_without_taps_is_skipped_with_the_reason(
    models: Path, opened: list[Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numpy_engine, "CAPABILITIES", frozenset({"logits"}))
    result, _ = compared(opened, path_of(models, "llama"), engine="numpy")
    assert result.verdict == "skipped"
    assert "taps" in result.sentence


def test_slots_of_other_shapes_are_not_comparable(models: Path, opened: list[Subject]) -> None:
    # R3: seven positions against one
    path = path_of(models, "llama")
    reference = Subject(path, "numpy", threads=1)
    candidate = Subject(path, "numpy", threads=1, loader=_showing_last_row("layers.0.ffn_gate"))
    opened += [reference, candidate]
    result = activations.compare(Pair(reference, candidate))
    assert result.verdict == "not_comparable"
    assert "layers.0.ffn_gate has 1 positions" in result.sentence


def test_a_reference_that_is_not_finite_is_not_comparable(models: Path, opened: list[Subject]) -> None:
    path = path_of(models, "llama")
    loader = faulty.at_slot("layers.0.k", lambda value: value * np.float32(np.nan))
    pair = Pair(Subject(path, "numpy", threads=1, loader=loader), Subject(path, threads=1))
    opened += [pair.reference, pair.candidate]
    result = activations.compare(pair)
    assert result.verdict == "not_comparable"
    assert "layers.0.k" in result.sentence


def test_a_candidate_that_cannot_be_loaded_is_left_to_the_links_behind(models: Path, opened: list[Subject]) -> None:
    weights = tiny.tensors(tiny.config("llama"))
    del weights["model.layers.1.mlp.up_proj.weight"]
    broken = tiny.write(models / "incomplete", "gguf", tiny.config("llama"), weights)
    result, _ = compared(opened, path_of(models, "llama"), broken)
    assert result.verdict == "cannot_tell"
    assert "model.layers.1.mlp.up_proj.weight" in result.sentence


def test_the_probe_goes_beyond_the_first_position_in_every_file(models: Path, opened: list[Subject]) -> None:
    # R7: at position 0 a rotation is none and attention has one key
    subject = Subject(path_of(models, "llama"), threads=1)
    opened.append(subject)
    name, ids = activations.probe(subject)
    assert name.startswith("chat/")
    assert activations.MIN_POSITIONS < len(ids) <= activations.MAX_POSITIONS + 1
    first_only = capture(subject.session, ids[:1])
    assert np.allclose(first_only.slots["layers.0.q_rope"], first_only.slots["layers.0.q"])


@pytest.mark.parity
@pytest.mark.parametrize("model_type", ["llama", "gemma3_text"])
def test_transformers_and_our_engine_agree_op_by_op_both_ways(
    models: Path, opened: list[Subject], model_type: str
) -> None:
    path = tiny.write(models / f"{model_type}-folder", "safetensors", tiny.config(model_type))
    for first, second in (("transformers", "native"), ("native", "transformers")):
        pair = Pair(Subject(path, first, threads=1), Subject(path, second, threads=1))
        opened += [pair.reference, pair.candidate]
        result = activations.compare(pair)
        assert result.verdict == "same", result.sentence
        rows = [row for row in result.measure["slots"] if row["local"] is not None]
        assert len(rows) >= 35
        assert max(row["local"] / row["threshold"] for row in rows) < 0.5


@pytest.mark.real
def test_eight_bits_on_a_real_model_are_drift_and_a_zeroed_head_is_not(
    real_model: Callable[[str], Path], opened: list[Subject]
) -> None:
    result, _ = compared(opened, real_model("smollm2"), activations="int8")
    assert result.findings[0].cause == "drift.precision", result.sentence
    loader = faulty.at_slot("layers.17.attn", faulty.zero_head(4, head_dim=64), engine=native)
    blamed, pair = compared(opened, real_model("smollm2"), engine="native", loader=loader, activations="int8")
    assert_blamed(blamed, "engine.op", "layers.17.attn", layer=17, head=4)
    before, after = activations.prove(pair, blamed.findings[0])
    assert after < before


@pytest.mark.real
@pytest.mark.parity
def test_llama_cpp_on_a_real_file_stays_within_its_precision(
    real_model: Callable[[str], Path], opened: list[Subject]
) -> None:
    result, _ = compared(opened, real_model("smollm2"), engine="llama-cpp")
    assert result.is_benign, result.sentence
    assert sum(row["local"] is not None for row in result.measure["slots"]) > 300


def _showing_last_row(slot: str) -> faulty.Loader:
    class Last(faulty.Wrapped):
        def forward(self, spans: Any, *, tap: Any = None, rows: Any = "last") -> np.ndarray:
            def shown(name: str, value: np.ndarray) -> np.ndarray:
                if name == slot:
                    tap(name, value[-1:])
                    return value
                return np.asarray(tap(name, value))

            return np.asarray(self.inner.forward(spans, rows=rows, **({"tap": shown} if tap is not None else {})))

    return lambda checkpoint, **options: Last(numpy_engine.load(checkpoint, **options))
