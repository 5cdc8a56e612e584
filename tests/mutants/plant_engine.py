"""Defects of an engine over a healthy file: an op, the cache, positions, batching."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from apr.engines._base import Rows, Session
from apr.models._config import ModelConfig
from apr.models._decoder import Span, Tap, no_tap
from mutants import _engines
from mutants._engines import (
    Loader,
    Wrapped,
    in_slots,
    loader,
    spoiled,
    with_batch,
    with_cache,
    with_config,
    with_model,
    with_op,
)
from mutants.mutant import Mutant, Plant, Planted, Ward, planted

_LINKS = "activations logits generation"
_CACHE = "wrong only when a cache is in use: the cache, or the positions that are counted from it"


def mutants() -> list[Mutant]:
    """Those of the twins."""
    return [*_ops(), *_slots(), *_positions(), *_caches(), *_batches()]


def real() -> list[Mutant]:
    """Those of the real models."""
    smol, qwen = "smollm2/gguf", "qwen2.5-coder:0.5b/gguf"
    return [
        *_op("engine.slot_scaled", f"{smol} {qwen}", loader(in_slots("layers.11.attn".__eq__, lambda x: 1.3 * x)), "layers.11.attn"),
        *_op("engine.head_zeroed", smol, loader(in_slots("layers.5.attn".__eq__, _zero_head)), "layers.5.attn"),
        *_op("engine.bias_dropped", qwen, spoiled(_without_bias("model.layers.7.self_attn.q_proj.bias")), "layers.7.q"),
        *_op("engine.rope_in_pairs", smol, spoiled(with_op(rope=_engines.rope_in_pairs)), frozenset({"layers.0.q_rope", "layers.0.k_rope"}), causes="engine.op engine.position", reason=_PAIRS),
        *_op("engine.eps", smol, spoiled(with_config(rms_norm_eps=1e-2)), "layers.0.attn_norm"),
        *planted("engine.cache_overwrites", qwen, _engine(spoiled(with_cache(_engines.Overwrites))), "engine.kv_cache", links=_LINKS),
        *planted("engine.position", smol, _engine(spoiled(_engines.shifted_positions(20, 1))), "engine.position", where={"position": 20}, links=_LINKS),
    ]  # fmt: skip


_PAIRS = "a rotation of the wrong pairs is a wrong op; seen from the angles, it is a wrong position"


def _ops() -> list[Mutant]:
    """Faults of the forward pass itself, in every layer or in one."""
    return [
        *_op("engine.bias_dropped", "qwen2/gguf qwen2/safetensors", spoiled(_without_bias("model.layers.1.self_attn.q_proj.bias")), "layers.1.q"),
        *_op("engine.v_bias_dropped", "qwen2/apr", spoiled(_without_bias("model.layers.0.self_attn.v_proj.bias")), "layers.0.v"),
        *_op("engine.eps", "llama/gguf qwen2/safetensors", spoiled(with_config(rms_norm_eps=1e-1)), "layers.0.attn_norm"),
        *_op("engine.eps_slightly", "llama/safetensors mistral/gguf", spoiled(with_config(rms_norm_eps=1e-3)), "layers.0.attn_norm"),
        *_op("engine.norm_without_weight", "qwen3/gguf", spoiled(_flat_norm("model.layers.1.input_layernorm.weight")), "layers.1.attn_norm"),
        *_op("engine.layer_norm", "phi3/gguf", spoiled(with_op(rmsnorm=_layer_norm)), "layers.0.attn_norm"),
        *_op("engine.head_norm_dropped", "qwen3/safetensors", spoiled(with_model(norm_heads=_no_head_norm)), "layers.0.q_norm"),
        *_op("engine.head_transposed", "llama/gguf qwen3/gguf", spoiled(_reread("lm_head.weight")), "logits"),
        *_op("engine.embedding_unscaled", "gemma3_text/gguf", spoiled(_set_model("embed_scale", None)), "embed"),
        *_op("engine.softcap_ignored", "gemma3_text/safetensors", spoiled(with_config(final_logit_softcapping=None)), "logits"),
        *_op("engine.activation", "gemma3_text/apr", spoiled(with_config(hidden_act="silu")), "layers.0.ffn_act"),
        *_op("engine.activation", "llama/gguf", spoiled(with_config(hidden_act="gelu_pytorch_tanh")), "layers.0.ffn_act"),
        *_op("engine.rope_in_pairs", "llama/gguf qwen2/gguf phi3/safetensors", spoiled(with_op(rope=_engines.rope_in_pairs)), frozenset({"layers.0.q_rope", "layers.0.k_rope"}), causes="engine.op engine.position", reason=_PAIRS),
        *_op("engine.rope_missing", "qwen3/gguf", spoiled(with_op(rope=lambda x, table: x.copy())), frozenset({"layers.0.q_rope", "layers.0.k_rope"}), causes="engine.op engine.position", reason=_PAIRS),
        *_op("engine.rope_base", "gemma3_text/gguf", spoiled(with_model(rope_base=lambda self, layer: None)), frozenset({"layers.0.q_rope", "layers.0.k_rope"}), causes="engine.op engine.position", reason="a rotation by another base is a wrong op, and a wrong angle at every position"),
        *_op("engine.attention_scale", "llama/gguf qwen2/safetensors gemma3_text/gguf", spoiled(_scale_attention), "layers.0.attn"),
        *_op("engine.attention_scale_in_one_layer", "qwen3/apr", spoiled(with_batch(_scaled_in(1))), "layers.1.attn"),
        *_op("engine.grouped_heads", "llama/gguf mistral/safetensors qwen2/gguf", spoiled(with_batch(_wrong_groups)), "layers.0.attn"),
        *_op("engine.window_too_long", "mistral/gguf gemma3_text/gguf", spoiled(with_batch(_window(1))), "layers.0.attn"),
        *_op("engine.window_too_short", "mistral/safetensors", spoiled(with_batch(_window(-1))), "layers.0.attn"),
        *_op("engine.window_ignored", "gemma3_text/safetensors mistral/apr", spoiled(with_batch(_window(None))), "layers.0.attn"),
        *_op("engine.head_zeroed", "qwen2/gguf", spoiled(with_batch(_zero_head_of(1))), "layers.1.attn"),
        *_op("engine.sees_the_future", "llama/safetensors", spoiled(with_batch(_not_causal)), "layers.0.attn"),
        *_op("engine.output_row_lost", "phi3/apr", spoiled(_row_lost("model.layers.1.mlp.down_proj.weight")), "layers.1.ffn_down"),
    ]  # fmt: skip


def _slots() -> list[Mutant]:
    """Faults in the value of a slot, under the compiled kernels."""
    return [
        *_op("engine.residual_dropped", "llama/gguf qwen3/safetensors", spoiled(with_model(block=_no_residual)), "layers.1.out"),
        *_op("engine.slot_scaled", "llama/gguf qwen2/gguf", loader(in_slots("layers.1.ffn_up".__eq__, lambda x: 1.2 * x)), "layers.1.ffn_up"),
        *_op("engine.slot_scaled_slightly", "qwen2/safetensors", loader(in_slots("layers.1.v".__eq__, lambda x: 1.01 * x)), "layers.1.v"),
        *_op("engine.heads_exchanged", "mistral/gguf", loader(in_slots("layers.1.attn".__eq__, _exchange_heads)), "layers.1.attn"),
        *_op("engine.gate_and_up_mixed", "qwen3/gguf", loader(in_slots("layers.0.ffn_swiglu".__eq__, lambda x: x[:, ::-1])), "layers.0.ffn_swiglu"),
        *_op("engine.nan", "llama/safetensors", loader(in_slots("layers.1.ffn_down".__eq__, _one_nan)), "layers.1.ffn_down", needs_place=False),
        *_op("engine.clipped", "gemma3_text/gguf", loader(in_slots("layers.2.ffn_swiglu".__eq__, lambda x: np.clip(x, -0.5, 0.5))), "layers.2.ffn_swiglu"),
        *_op("engine.half_of_a_row", "qwen2/apr", loader(in_slots("layers.2.attn_out".__eq__, _second_half_zero)), "layers.2.attn_out"),
        *_op("engine.noisy", "llama/gguf", loader(in_slots("layers.1.attn_out".__eq__, _noisy)), "layers.1.attn_out"),
        *_op("engine.logits_shifted", "qwen2/gguf", loader(in_slots("logits".__eq__, lambda x: np.roll(x, 1, axis=1))), "logits"),
    ]  # fmt: skip


def _positions() -> list[Mutant]:
    late = "from a position beyond the short questions on, only the long one shows it"
    return [
        *planted("engine.position", "llama/gguf qwen2/safetensors qwen3/gguf", _engine(spoiled(_engines.shifted_positions(20, 1))), "engine.position", where={"position": 20}, links=_LINKS),
        *planted("engine.position_everywhere", "mistral/gguf", _engine(spoiled(_engines.shifted_positions(1, 1))), "engine.position", links=_LINKS),
        *planted("engine.position_late", "llama/gguf qwen2/gguf", _engine(spoiled(_engines.shifted_positions(160, 5))), "engine.position engine.op", links=_LINKS, reason=late),
        *planted("engine.position_when_decoding", "llama/gguf qwen3/gguf", _engine(spoiled(_engines.shifted_when_decoding(1))), "engine.position engine.kv_cache", links=_LINKS, reason=_CACHE),
    ]  # fmt: skip


def _caches() -> list[Mutant]:
    caches = {
        "cache_overwrites": (_engines.Overwrites, "llama/gguf qwen2/safetensors"),
        "cache_loses_newest": (_engines.LosesNewest, "qwen3/gguf phi3/gguf"),
        "cache_forgets_first": (_engines.ForgetsFirst, "llama/safetensors qwen2/gguf"),
        "cache_too_coarse": (_engines.Coarse, "llama/gguf"),
        "cache_mixes_layers": (_engines.MixesLayers, "qwen2/gguf"),
        "cache_truncates_late": (_engines.TruncatesLate, "llama/gguf qwen2/safetensors"),
    }
    return [
        mutant
        for name, (kind, sites) in caches.items()
        for mutant in planted(
            f"engine.{name}", sites, _engine(spoiled(with_cache(kind))), "engine.kv_cache", links=_LINKS
        )
    ]


def _batches() -> list[Mutant]:
    word = "the vocabulary has no word of its own for batching"
    causes = "engine.op engine.kv_cache engine.position"
    return [
        *planted("engine.batch_rows_mixed", "llama/gguf qwen2/gguf", _engine(loader(_MixedRows)), causes, links=_LINKS, reason=word),
        *planted("engine.batch_shares_a_cache", "qwen3/gguf", _engine(loader(_SharedCache, engine="numpy")), causes, links=_LINKS, reason=word),
        *planted("engine.batch_mixes_prompts", "llama/gguf qwen2/gguf", _engine(loader(_ForeignTokens, engine="numpy")), causes, links=_LINKS, reason=word),
        *planted("engine.not_repeatable", "llama/gguf", _engine(loader(_Restless)), causes, links=_LINKS, reason="an engine that gives another answer each time fails in no one op"),
    ]  # fmt: skip


def _op(
    name: str,
    sites: str,
    load: Loader,
    slot: str | frozenset[str],
    *,
    causes: str = "engine.op",
    reason: str = "",
    needs_place: bool = True,
) -> list[Mutant]:
    return planted(
        name, sites, _engine(load), causes, where={"slot": slot} if needs_place else None, links=_LINKS, reason=reason
    )


def _engine(load: Loader) -> Plant:
    """The same healthy file on both sides, one of them under the faulty engine."""

    def plant(ward: Ward, mutant: Mutant) -> Planted:
        path = ward.healthy(mutant.variant, mutant.format)
        return Planted(ward.subject(path), ward.subject(path, name="faulty", loader=load))

    return plant


# ops


def _without_bias(name: str) -> Callable[[Any, ModelConfig], None]:
    def spoil(session: Any, config: ModelConfig) -> None:
        del config
        del session.model.weights[name]

    return spoil


def _flat_norm(name: str) -> Callable[[Any, ModelConfig], None]:
    def spoil(session: Any, config: ModelConfig) -> None:
        session.model.weights[name] = np.ones(config.hidden_size, dtype=np.float32)

    return spoil


def _reread(name: str) -> Callable[[Any, ModelConfig], None]:
    def spoil(session: Any, config: ModelConfig) -> None:
        del config
        weight = session.model.weights[name]
        session.model.weights[name] = np.ascontiguousarray(weight.T).reshape(weight.shape)

    return spoil


def _row_lost(name: str) -> Callable[[Any, ModelConfig], None]:
    def spoil(session: Any, config: ModelConfig) -> None:
        del config
        weight = session.model.weights[name].copy()
        weight[-1] = 0.0
        session.model.weights[name] = weight

    return spoil


def _set_model(attribute: str, value: Any) -> Callable[[Any, ModelConfig], None]:
    return lambda session, config: setattr(session.model, attribute, value)


def _scale_attention(session: Any, config: ModelConfig) -> None:
    del config
    session.model.attention_scale *= 1.5


def _layer_norm(x: np.ndarray, weight: np.ndarray, *, eps: float) -> np.ndarray:
    centred = x - x.mean(axis=-1, keepdims=True)
    out: np.ndarray = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps) * weight
    return out


def _no_head_norm(self: Any, layer: int, q: np.ndarray, k: np.ndarray, tap: Tap) -> tuple[np.ndarray, np.ndarray]:
    name = f"layers.{layer}."
    return tap(name + "q_norm", q), tap(name + "k_norm", k)


def _no_residual(self: Any, layer: int, x: np.ndarray, batch: Any, tap: Tap) -> np.ndarray:
    """Layer 1 gives its feed-forward's output alone."""
    name = f"layers.{layer}."
    h = tap(name + "attn_norm", self.norm(f"model.{name}input_layernorm.weight", x))
    x = tap(name + "attn_residual", x + self.attend(layer, h, batch, tap))
    h = tap(name + "ffn_norm", self.norm(f"model.{name}post_attention_layernorm.weight", x))
    h = self.feed_forward(layer, h, tap)
    return tap(name + "out", h if layer == 1 else x + h)


def _scaled_in(wanted: int) -> Callable[..., np.ndarray]:
    def change(
        attention: Callable[..., np.ndarray], layer: int, q: Any, k: Any, v: Any, *, scale: float, **how: Any
    ) -> np.ndarray:
        return attention(layer, q, k, v, scale=scale * (1.5 if layer == wanted else 1.0), **how)

    return change


def _wrong_groups(attention: Callable[..., np.ndarray], layer: int, q: Any, k: Any, v: Any, **how: Any) -> np.ndarray:
    """Query head h reads key-value head h mod n, instead of its group's."""
    n_heads, n_kv = q.shape[1], k.shape[1]
    order = np.argsort(np.arange(n_heads) % n_kv, kind="stable")
    out = attention(layer, q[:, order], k, v, **how).reshape(-1, n_heads, v.shape[2])
    back = np.empty_like(out)
    back[:, order] = out
    return back.reshape(len(out), -1)


def _window(change_by: int | None) -> Callable[..., np.ndarray]:
    def change(
        attention: Callable[..., np.ndarray], layer: int, q: Any, k: Any, v: Any, *, window: int | None, **how: Any
    ) -> np.ndarray:
        changed = None if window is None or change_by is None else window + change_by
        return attention(layer, q, k, v, window=changed, **how)

    return change


def _zero_head_of(wanted: int) -> Callable[..., np.ndarray]:
    def change(attention: Callable[..., np.ndarray], layer: int, q: Any, k: Any, v: Any, **how: Any) -> np.ndarray:
        out = attention(layer, q, k, v, **how)
        return _zero_head(out) if layer == wanted else out

    return change


def _not_causal(attention: Callable[..., np.ndarray], layer: int, q: Any, k: Any, v: Any, **how: Any) -> np.ndarray:
    """The mask lets each query see one key ahead: its output is the next one's."""
    out = attention(layer, q, k, v, **how)
    if len(out) > 1:
        out[:-1] = 0.5 * (out[:-1] + out[1:])
    return out


def _zero_head(out: np.ndarray) -> np.ndarray:
    out[:, : out.shape[1] // 4] = 0.0
    return out


def _exchange_heads(x: np.ndarray) -> np.ndarray:
    heads = x.reshape(len(x), 4, -1)
    return heads[:, [1, 0, 2, 3]].reshape(x.shape)


def _one_nan(x: np.ndarray) -> np.ndarray:
    x[-1, 3] = np.nan
    return x


def _second_half_zero(x: np.ndarray) -> np.ndarray:
    x[:, x.shape[1] // 2 :] = 0.0
    return x


def _noisy(x: np.ndarray) -> np.ndarray:
    random = np.random.default_rng(int(abs(x.reshape(-1)[0]) * 1e6))
    noisy: np.ndarray = x + 0.02 * x.std() * random.standard_normal(x.shape)
    return noisy


# batches


class _MixedRows(Wrapped):
    """Sequences that are computed together get each other's logits."""

    def forward(self, spans: Sequence[Span], *, tap: Tap = no_tap, rows: Rows = "last") -> np.ndarray:
        """Rows moved on by one sequence."""
        logits = self.inner.forward(spans, tap=tap, rows=rows)
        return np.roll(logits, 1, axis=0) if len(spans) > 1 else logits


class _SharedCache(Wrapped):
    """Sequences that are computed together are read one after the other into one cache."""

    def forward(self, spans: Sequence[Span], *, tap: Tap = no_tap, rows: Rows = "last") -> np.ndarray:
        """The second and later sequences see the first one's tokens before their own."""
        if len(spans) == 1 or any(span.cache.length for span in spans):
            return self.inner.forward(spans, tap=tap, rows=rows)
        found = [self.inner.forward(spans[:1], tap=tap, rows=rows)]
        for span in spans[1:]:
            ids = np.concatenate([spans[0].token_ids[:4], span.token_ids])
            logits = self.inner.forward([Span(ids, self.inner.new_cache())], tap=tap, rows=rows)
            self.inner.forward([span])
            found.append(logits if rows == "last" else logits[4:])
        return np.concatenate(found)


class _ForeignTokens(Wrapped):
    """Sequences that start together begin with the first one's tokens, and remember them."""

    def forward(self, spans: Sequence[Span], *, tap: Tap = no_tap, rows: Rows = "last") -> np.ndarray:
        """Half of the first one's tokens before the others' own."""
        if len(spans) == 1 or any(span.cache.length for span in spans) or rows == "all":
            return self.inner.forward(spans, tap=tap, rows=rows)
        start = spans[0].token_ids[: len(spans[0].token_ids) // 2 + 1]
        others = [Span(np.concatenate([start, span.token_ids]), span.cache) for span in spans[1:]]
        return self.inner.forward([spans[0], *others], tap=tap, rows=rows)


class _Restless(Wrapped):
    """Memory that nobody cleared: every answer is a little different."""

    def __init__(self, inner: Session) -> None:
        super().__init__(inner)
        self._random = np.random.default_rng(1)

    def forward(self, spans: Sequence[Span], *, tap: Tap = no_tap, rows: Rows = "last") -> np.ndarray:
        """Noise of a tenth of a nat in the logits."""
        logits = self.inner.forward(spans, tap=tap, rows=rows)
        return (logits + 0.3 * self._random.standard_normal(logits.shape)).astype(np.float32)
