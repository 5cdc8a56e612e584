"""Every mutant, every healthy pair, and the short selections that run with each change."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from mutants import (
    healthy,
    plant_engine,
    plant_file,
    plant_generation,
    plant_harness,
    plant_metadata,
    plant_quantization,
    plant_stop,
    plant_template,
    plant_tokenizer,
    plant_weights,
)
from mutants.models import Stock
from mutants.mutant import Healthy, Mutant

_PLANTERS = (
    plant_file,
    plant_metadata,
    plant_tokenizer,
    plant_template,
    plant_stop,
    plant_weights,
    plant_quantization,
    plant_engine,
    plant_generation,
    plant_harness,
)
# of each link some causes and some of the subtle ones, over architectures and containers; `make test-all` asks about all
SHORT = (
    "file.cut_in_data/llama/gguf",
    "metadata.rope_theta/qwen2/gguf",
    "metadata.softcap_dropped/gemma3_text/gguf",
    "metadata.window_dropped/mistral/safetensors",
    "tokenizer.swapped_entries/qwen2/safetensors",
    "tokenizer.special_is_normal/qwen2/apr",
    "tokenizer.bos_lost/gemma3_text/gguf",
    "template.blank_added/qwen3/apr",
    "template.rendered_twice/llama/gguf",
    "stop.list_short/qwen2/gguf",
    "weights.transposed/qwen3/apr",
    "weights.qk_not_permuted/llama/gguf",
    "weights.norm_plus_one/gemma3_text/gguf",
    "weights.one_nan/llama/gguf",
    "weights.noise/llama/gguf",
    "weights.truncated_not_rounded/llama/gguf",
    "engine.eps_slightly/llama/safetensors",
    "engine.grouped_heads/qwen2/gguf",
    "engine.cache_overwrites/llama/gguf",
    "engine.position/qwen3/gguf",
    "engine.sampler_drops_the_best/qwen2/safetensors",
    "engine.stop_ignored/llama/gguf",
    "harness.other_seed/llama/gguf",
)
SHORT_HEALTHY = (
    "healthy.format.safetensors_gguf/llama",
    "healthy.format.gguf_apr/gemma3_text",
    "healthy.format.apr_safetensors/phi3",
    "healthy.kernels.numpy/qwen3",
    "healthy.schedule.in_pieces/mistral",
    "healthy.rounding.q8_0/llama",
    "healthy.rounding.q4_k/llama-wide",
    "healthy.activations.int8/llama",
    "healthy.harmless.vocabulary_padded/llama",
    "healthy.template.comment/qwen2",
)


def twins() -> list[Mutant]:
    """Mutants of the twins."""
    return list(chain.from_iterable(planter.mutants() for planter in _PLANTERS))


def real() -> list[Mutant]:
    """Mutants of the real models."""
    return list(chain.from_iterable(planter.real() for planter in _PLANTERS if hasattr(planter, "real")))


def healthy_twins() -> list[Healthy]:
    """Healthy pairs of the twins."""
    return [*healthy.pairs(), *plant_harness.healthy()]


def healthy_real() -> list[Healthy]:
    """Healthy pairs of the real models."""
    return healthy.real()


def stock_up(stock: Stock, cases: Iterable[Mutant | Healthy]) -> None:
    """Write the healthy models that some cases need, before several processes ask for them at once."""
    for case in cases:
        if not case.is_real:
            for file_format in ("safetensors", "gguf", "apr"):
                stock.path(case.variant, file_format)
            if isinstance(case, Mutant) and case.codec != "f32":
                stock.path(case.variant, case.format, codec=case.codec)
