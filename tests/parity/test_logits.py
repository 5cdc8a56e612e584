"""The logits link on tiny models: drift is called drift, faults are called faults, and every regime stands alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from apr.engines import native
from apr.engines._base import Session
from apr.engines._subject import Subject
from apr.models._checkpoint import Checkpoint
from apr.parity import logits
from apr.parity._drift import drift
from apr.parity._link import LinkResult
from apr.parity._pair import Pair
from apr.parity._teacher_forced import observe
from parity import faulty_engines as faulty
from parity.pairs import pair_of, path_of

FIGURES = {
    "n_positions",
    "n_prompts",
    "kl_mean",
    "kl_median",
    "kl_p90",
    "kl_p95",
    "kl_p99",
    "kl_p999",
    "kl_max",
    "kl_interval",
    "worst_1pct_share",
    "top1_agreement",
    "rms_dp",
    "n_flips",
    "flips_predicted",
    "n_nonfinite",
}


def compared(
    opened: list[Subject], path: Path, candidate: Path | None = None, **options: Any
) -> tuple[LinkResult, Pair]:
    pair = pair_of(opened, path, candidate, **options)
    result = logits.compare(pair)
    json.dumps(result.measure, allow_nan=False)
    return result, pair


def test_a_lossless_copy_is_the_same_to_the_rounding_of_float32(models: Path, opened: list[Subject]) -> None:
    other = tiny.write(models / "as-safetensors", "safetensors", tiny.config("llama"))
    result, _ = compared(opened, path_of(models), other)
    assert result.verdict == "same", result.sentence
    assert all(figures["kl_max"] < 1e-11 for figures in result.measure["regimes"].values())


@pytest.mark.parametrize("model_type", ["llama", "gemma3_text", "phi3"])
def test_two_kernel_sets_are_the_same(models: Path, opened: list[Subject], model_type: str) -> None:
    result, _ = compared(opened, path_of(models, model_type), engine="numpy")
    assert result.verdict == "same", result.sentence


def test_every_figure_of_every_regime_is_reported(models: Path, opened: list[Subject]) -> None:
    result, _ = compared(opened, path_of(models, codec="q8_0"), activations="int8")
    assert set(result.measure["regimes"]) == {"raw", "chat", "multi-turn", "pre-formatted"}
    assert result.measure["left_out"] == ["long"], "the tiny model has no room for it, which must be said"
    for figures in result.measure["regimes"].values():
        assert set(figures) == FIGURES
        assert figures["n_nonfinite"] == 0
        assert figures["kl_interval"][0] <= figures["kl_mean"] <= figures["kl_interval"][1]
    strip = result.measure["strips"][0]
    assert len(strip["tokens"]) == len(strip["margin"]) == len(strip["error"]) == len(strip["kl"]) == len(strip["flip"])
    assert sum(band["n"] for band in result.measure["bands"]) > 100


def test_activations_of_8_bits_are_benign_drift_of_precision(models: Path, opened: list[Subject]) -> None:
    result, _ = compared(opened, path_of(models, codec="q8_0"), activations="int8")
    assert result.is_benign, result.sentence
    assert [f.cause for f in result.findings] == ["drift.precision"]


def test_an_honest_rounding_of_the_weights_is_benign_drift_of_quantization(models: Path, opened: list[Subject]) -> None:
    result, _ = compared(opened, path_of(models), path_of(models, codec="q8_0"))
    assert result.is_benign, result.sentence
    assert [f.cause for f in result.findings] == ["drift.quantization"]


def test_a_scaled_tensor_is_no_drift_however_smooth(models: Path, opened: list[Subject]) -> None:
    weights = tiny.tensors(tiny.config("llama"))
    weights["model.layers.1.mlp.up_proj.weight"] *= np.float32(1.25)
    other = tiny.write(models / "scaled", "gguf", tiny.config("llama"), weights)
    result, _ = compared(opened, path_of(models), other)
    assert result.verdict == "different"
    assert result.findings[0].cause == "weights.scaled"


@pytest.mark.parametrize("model_type", ["llama", "qwen3"])
def test_a_cache_that_forgets_disagrees_with_its_own_single_pass(
    models: Path, opened: list[Subject], model_type: str
) -> None:
    result, pair = compared(opened, path_of(models, model_type), loader=faulty.changed_model(faulty.forgetful_cache))
    assert result.findings[0].cause == "engine.kv_cache"
    run = observe(pair)[0]
    # the first token that comes alone is the one behind the prompt
    assert result.findings[0].where["position"] == len(run.prompt_ids)


def test_a_fault_in_one_pass_is_the_engines(models: Path, opened: list[Subject]) -> None:
    result, _ = compared(opened, path_of(models), loader=faulty.attention_scaled(0.9))
    assert result.verdict == "different"
    assert result.findings[0].cause == "engine.op"


def test_a_fault_under_one_regime_only_is_named_with_its_regime(models: Path, opened: list[Subject]) -> None:
    control = tiny.spec().tokens.index("<|im_start|>")
    result, _ = compared(opened, path_of(models), loader=only_after(control))
    assert result.findings[0].cause == "engine.op"
    assert result.findings[0].where["regime"] in ("chat", "multi-turn", "pre-formatted")
    assert result.measure["regimes"]["raw"]["kl_max"] < 1e-11


def test_logits_that_are_not_finite_are_counted_and_fail(models: Path, opened: list[Subject]) -> None:
    def load(checkpoint: Checkpoint, **options: Any) -> Session:
        return NonFinite(native.load(checkpoint, **options))

    result, pair = compared(opened, path_of(models), loader=load, engine="native")
    assert result.verdict == "different"
    assert result.findings[0].cause == "engine.op"
    assert "not finite" in result.sentence
    assert result.measure["regimes"]["raw"]["n_nonfinite"] > 0
    assert result.findings[0].where["position"] == NonFinite.FIRST
    assert not drift(pair, observe(pair)).findings[0].is_benign


def test_a_vocabulary_padded_on_one_side_is_cut_to_its_words(models: Path, opened: list[Subject]) -> None:
    small, large = tiny.config("llama"), tiny.config("llama", vocab_size=384)
    weights = tiny.tensors(small)
    padded = dict(weights)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        padded[name] = np.concatenate([weights[name], np.zeros((64, 64), dtype=np.float32)])
    first = tiny.write(models / "unpadded", "gguf", small, weights)
    second = tiny.write(models / "padded", "gguf", large, padded)
    result, _ = compared(opened, first, second)
    assert result.verdict != "not_comparable"
    assert result.measure["regimes"]["raw"]["kl_max"] < 1e-11


def test_a_vocabulary_that_lacks_words_is_not_comparable(models: Path, opened: list[Subject]) -> None:
    result, _ = compared(opened, path_of(models), loader=short_vocabulary)
    assert result.verdict == "not_comparable"
    assert "more than padding" in result.sentence


def test_a_reference_that_is_not_finite_is_not_comparable(models: Path, opened: list[Subject]) -> None:
    path = path_of(models)
    loader = faulty.at_slot("logits", lambda value: value * np.float32(np.nan))
    pair = Pair(Subject(path, "numpy", threads=1, loader=loader), Subject(path, threads=1))
    opened += [pair.reference, pair.candidate]
    assert logits.compare(pair).verdict == "not_comparable"


def test_a_candidate_that_cannot_be_loaded_is_a_finding(models: Path, opened: list[Subject]) -> None:
    weights = tiny.tensors(tiny.config("llama"))
    del weights["model.layers.1.mlp.up_proj.weight"]
    broken = tiny.write(models / "incomplete", "gguf", tiny.config("llama"), weights)
    result, _ = compared(opened, path_of(models), broken)
    assert result.verdict == "different"
    assert result.findings[0].cause == "weights.missing"


def only_after(token_id: int) -> faulty.Loader:
    """Attention is wrong in sequences that hold one token."""

    class Sensitive(faulty.Wrapped):
        seen = False

        def forward(self, spans: Any, **options: Any) -> np.ndarray:
            if any(token_id in span.token_ids for span in spans if span.cache.length == 0):
                self.seen = True
            elif any(span.cache.length == 0 for span in spans):
                self.seen = False
            self.inner.model.attention_scale = 0.25 * (0.7 if self.seen else 1.0)
            return np.asarray(self.inner.forward(spans, **options))

    from apr.engines import numpy as numpy_engine

    return lambda checkpoint, **options: Sensitive(numpy_engine.load(checkpoint, **options))


class NonFinite(faulty.Wrapped):
    """Gives up over every pass that computes position FIRST."""

    FIRST = 9

    def forward(self, spans: Any, **options: Any) -> np.ndarray:
        from apr.engines._base import check_logits

        reached = any(span.cache.length + len(span.token_ids) > self.FIRST for span in spans)
        found = np.asarray(self.inner.forward(spans, **options))
        if reached and options.get("rows") == "all":
            check_logits(np.full((1, 2), np.nan, dtype=np.float32), spans)
        return found


def short_vocabulary(checkpoint: Checkpoint, **options: Any) -> Session:
    """Gives logits for the first 200 tokens only."""

    class Short(faulty.Wrapped):
        def forward(self, spans: Any, **passed: Any) -> np.ndarray:
            return np.asarray(self.inner.forward(spans, **passed))[:, :200]

    return Short(native.load(checkpoint, **options))
