"""What published models say of themselves: what one file, alone, can be held against.

A file is known by what its tensors show and metadata cannot fake: hidden size, layers, feed-forward size and vocabulary.
The rest has to be as one of the models that were published with that shape says. Several were, so the context length
decides which is meant. A model that is not in these tables is unknown, not wrong.

Source: the models' own config.json and tokenizer_config.json on the Hugging Face hub, and for sizes and rotary bases
also Lightning-AI/litgpt, `litgpt/config.py`, which was compared with them. What could not be confirmed is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from apr import models
from apr.models._config import ModelConfig
from apr.tokenizer.spec import TokenizerSpec

# of a context that no published model of the shape has: what whoever stretched it may have changed as well
STRETCHED = frozenset({"rope_theta", "rope_scaling.rope_type", "rope_scaling.factor", "sliding_window"})


@dataclass(frozen=True, slots=True)
class Published:
    """One published model, or several that say the same.

    contexts:        max_position_embeddings of its base and instruct forms
    rope_scaling:    rope type and factor (None: not compared); None if it was published without: users add YaRN themselves
    sliding_window:  None where converters disagree about writing it, and for models without
    """

    name: str
    model_type: str
    hidden_size: int
    num_hidden_layers: int
    intermediate_size: int
    vocab_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    contexts: tuple[int, ...]
    rope_theta: float
    rms_norm_eps: float
    rope_scaling: tuple[str, float | None] | None = None
    sliding_window: int | None = None
    rope_local_base_freq: float | None = None
    query_pre_attn_scalar: float | None = None
    partial_rotary_factor: float = 1.0

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """By which it is found."""
        return self.hidden_size, self.num_hidden_layers, self.intermediate_size, self.vocab_size


@dataclass(frozen=True, slots=True)
class Difference:
    """A field in which a file is not as published."""

    key: str
    published: Any
    found: Any


@dataclass(frozen=True, slots=True)
class Verdict:
    """The published model that a configuration comes closest to, and how it differs.

    is_certain:  False where somebody may have changed what differs on purpose, with the context length
    """

    published: Published
    differences: tuple[Difference, ...]
    is_certain: bool


_SMOL = Published("SmolLM2-135M", "llama", 576, 30, 1536, 49152, 9, 3, 64, (8192,), 1e5, 1e-5)
_SMOL_360M = replace(
    _SMOL,
    name="SmolLM2-360M",
    hidden_size=960,
    num_hidden_layers=32,
    intermediate_size=2560,
    num_attention_heads=15,
    num_key_value_heads=5,
)
_SMOL_2B = Published("SmolLM2-1.7B", "llama", 2048, 24, 8192, 49152, 32, 32, 64, (8192,), 1.3e5, 1e-5)

_QWEN_05B = Published(
    "Qwen2.5-0.5B, its Coder, or Qwen2-0.5B", "qwen2", 896, 24, 4864, 151936, 14, 2, 64, (32768, 131072), 1e6, 1e-6
)
_QWEN_2B = Published(
    "Qwen2.5-1.5B, its Coder, or Qwen2-1.5B", "qwen2", 1536, 28, 8960, 151936, 12, 2, 128, (32768, 131072), 1e6, 1e-6
)
_QWEN_3B = Published("Qwen2.5-3B or its Coder", "qwen2", 2048, 36, 11008, 151936, 16, 2, 128, (32768,), 1e6, 1e-6)
_QWEN_7B = Published(
    "Qwen2.5-7B, its Coder, or Qwen2-7B", "qwen2", 3584, 28, 18944, 152064, 28, 4, 128, (32768, 131072), 1e6, 1e-6
)

_QWEN3_4B = Published("Qwen3-4B", "qwen3", 2560, 36, 9728, 151936, 32, 8, 128, (40960, 32768), 1e6, 1e-6)

_LLAMA3_8B = Published("Meta-Llama-3-8B", "llama", 4096, 32, 14336, 128256, 32, 8, 128, (8192,), 5e5, 1e-5)
_LLAMA2_7B = Published("Llama-2-7B", "llama", 4096, 32, 11008, 32000, 32, 32, 128, (4096,), 1e4, 1e-5)
_MISTRAL = Published("Mistral-7B-v0.1", "mistral", 4096, 32, 14336, 32000, 32, 8, 128, (32768,), 1e4, 1e-5)
_GEMMA3_1B = Published(
    "Gemma 3 1B",
    "gemma3_text",
    1152,
    26,
    6912,
    262144,
    4,
    1,
    256,
    (32768,),
    1e6,
    1e-6,
    sliding_window=512,
    rope_local_base_freq=1e4,
    query_pre_attn_scalar=256.0,
)
_PHI3 = Published("Phi-3-mini-4k", "phi3", 3072, 32, 8192, 32064, 32, 32, 96, (4096,), 1e4, 1e-5)

PUBLISHED: tuple[Published, ...] = (
    _SMOL,
    replace(_SMOL, name="SmolLM-135M", contexts=(2048,), rope_theta=1e4),
    _SMOL_360M,
    replace(_SMOL_360M, name="SmolLM-360M", contexts=(2048,), rope_theta=1e4),
    _SMOL_2B,
    replace(_SMOL_2B, name="SmolLM-1.7B", contexts=(2048,), rope_theta=1e4),
    _QWEN_05B,
    _QWEN_2B,
    replace(_QWEN_2B, name="Qwen2.5-Math-1.5B", contexts=(4096,), rope_theta=1e4),
    replace(_QWEN_2B, name="DeepSeek-R1-Distill-Qwen-1.5B", contexts=(131072,), rope_theta=1e4),
    _QWEN_3B,
    _QWEN_7B,
    replace(_QWEN_7B, name="Qwen2.5-Math-7B", contexts=(4096,), rope_theta=1e4),
    replace(_QWEN_7B, name="DeepSeek-R1-Distill-Qwen-7B", contexts=(131072,), rope_theta=1e4),
    replace(_QWEN_7B, name="OpenR1-Qwen-7B", contexts=(32768,), rope_theta=3e5),
    replace(_QWEN_7B, name="Qwen2.5-7B-Instruct-1M", contexts=(1010000,), rope_theta=1e7, rms_norm_eps=1e-5),
    Published("Qwen3-0.6B", "qwen3", 1024, 28, 3072, 151936, 16, 8, 128, (40960, 32768), 1e6, 1e-6),
    Published("Qwen3-1.7B", "qwen3", 2048, 28, 6144, 151936, 16, 8, 128, (40960, 32768), 1e6, 1e-6),
    _QWEN3_4B,
    replace(_QWEN3_4B, name="Qwen3-4B-2507", contexts=(262144,), rope_theta=5e6),
    Published("Qwen3-8B", "qwen3", 4096, 36, 12288, 151936, 32, 8, 128, (40960, 32768), 1e6, 1e-6),
    Published(
        "Llama-3.2-1B", "llama", 2048, 16, 8192, 128256, 32, 8, 64, (131072,), 5e5, 1e-5, rope_scaling=("llama3", 32.0)
    ),
    Published(
        "Llama-3.2-3B", "llama", 3072, 28, 8192, 128256, 24, 8, 128, (131072,), 5e5, 1e-5, rope_scaling=("llama3", 32.0)
    ),
    _LLAMA3_8B,
    replace(_LLAMA3_8B, name="Llama-3.1-8B", contexts=(131072,), rope_scaling=("llama3", 8.0)),
    _LLAMA2_7B,
    replace(_LLAMA2_7B, name="CodeLlama-7B", vocab_size=32016, contexts=(16384,), rope_theta=1e6),
    Published("TinyLlama-1.1B", "llama", 2048, 22, 5632, 32000, 32, 4, 64, (2048,), 1e4, 1e-5),
    _MISTRAL,
    replace(_MISTRAL, name="Mistral-7B-v0.2", rope_theta=1e6),
    replace(_MISTRAL, name="Mistral-7B-v0.3", rope_theta=1e6, vocab_size=32768),
    _GEMMA3_1B,
    replace(_GEMMA3_1B, name="Gemma 3 270M", hidden_size=640, num_hidden_layers=18, intermediate_size=2048),
    _PHI3,
    replace(_PHI3, name="Phi-3-mini-128k or Phi-3.5-mini", contexts=(131072,), rope_scaling=("longrope", None)),
)


def closest(config: ModelConfig) -> Verdict | None:
    """The published model that a configuration should agree with; None if none has its shape.

    One of the same context length, even where one of another length agrees better: a lost rotary base is an everyday
    fault, and a context length changed alone is not.
    """
    of_shape = [each for each in PUBLISHED if each.shape == _shape(config)]
    if not of_shape:
        return None
    judged = [Verdict(each, tuple(_differences(config, each)), True) for each in of_shape]
    meant = [verdict for verdict in judged if config.max_position_embeddings in verdict.published.contexts]
    best = min(meant or judged, key=lambda verdict: len(verdict.differences))
    stretched = not meant and all(difference.key in STRETCHED for difference in best.differences)
    return replace(best, is_certain=not stretched)


def _shape(config: ModelConfig) -> tuple[int, int, int, int]:
    return config.hidden_size, config.num_hidden_layers, config.intermediate_size, config.vocab_size


def _differences(config: ModelConfig, published: Published) -> Iterator[Difference]:
    mine, theirs = (models.for_model_type(name) for name in (config.model_type, published.model_type))
    if mine is not theirs:
        yield Difference("architecture", published.model_type, config.model_type)
    plain = """num_attention_heads num_key_value_heads head_dim rope_theta rms_norm_eps partial_rotary_factor
    rope_local_base_freq query_pre_attn_scalar sliding_window"""
    for key in plain.split():
        wanted, found = getattr(published, key), getattr(config, key)
        if wanted is not None and not _is_equal(wanted, found):
            yield Difference(key, wanted, found)
    if published.rope_scaling is not None:
        kind, factor = published.rope_scaling
        scaling = config.rope_scaling
        if scaling is None or scaling.rope_type != kind:
            yield Difference("rope_scaling.rope_type", kind, None if scaling is None else scaling.rope_type)
        elif factor is not None and not _is_equal(factor, scaling.factor):
            yield Difference("rope_scaling.factor", factor, scaling.factor)


def _is_equal(wanted: float, found: float | None) -> bool:
    """As float32, which is what GGUF holds."""
    return found is not None and np.float32(wanted) == np.float32(found)


@dataclass(frozen=True, slots=True)
class KnownTokenizer:
    """One published vocabulary.

    vocab_sizes:  rows of the embeddings that it comes with
    markers:      special tokens by id: it is this vocabulary if all of them but one are there
    pre:          the split rule's family; "" for SentencePiece
    add_bos:      whether text begins with BOS; None where its publishers changed their mind
    """

    name: str
    vocab_sizes: tuple[int, ...]
    markers: Mapping[int, str] = field(hash=False)
    pre: str
    add_bos: bool | None


TOKENIZERS: tuple[KnownTokenizer, ...] = (
    KnownTokenizer(
        "SmolLM", (49152,), {0: "<|endoftext|>", 1: "<|im_start|>", 2: "<|im_end|>"}, pre="smollm", add_bos=False
    ),
    KnownTokenizer(
        "Qwen2",
        (151936, 152064),
        {151643: "<|endoftext|>", 151644: "<|im_start|>", 151645: "<|im_end|>"},
        pre="qwen2",
        add_bos=False,
    ),
    KnownTokenizer(
        "Llama 3",
        (128256,),
        {
            128000: "<|begin_of_text|>",
            128001: "<|end_of_text|>",
            128006: "<|start_header_id|>",
            128007: "<|end_header_id|>",
            128009: "<|eot_id|>",
        },
        pre="llama-bpe",
        add_bos=True,
    ),
    KnownTokenizer(
        "Gemma 3",
        (262144,),
        {0: "<pad>", 1: "<eos>", 2: "<bos>", 105: "<start_of_turn>", 106: "<end_of_turn>"},
        pre="",
        add_bos=True,
    ),
    KnownTokenizer(
        "Phi-3",
        (32064,),
        {1: "<s>", 32000: "<|endoftext|>", 32001: "<|assistant|>", 32007: "<|end|>", 32010: "<|user|>"},
        pre="",
        add_bos=None,
    ),
    KnownTokenizer("Llama 2", (32000,), {0: "<unk>", 1: "<s>", 2: "</s>"}, pre="", add_bos=True),
)


def known_tokenizer(spec: TokenizerSpec, *, vocab_size: int) -> KnownTokenizer | None:
    """The published vocabulary that this is, or was meant to be: all its markers but at most one are in their places."""
    for known in TOKENIZERS:
        if vocab_size in known.vocab_sizes and len(wrong_markers(spec, known)) <= 1:
            return known
    return None


def wrong_markers(spec: TokenizerSpec, known: KnownTokenizer) -> dict[int, str]:
    """Special tokens that are not where they were published: id and the text that belongs there."""
    return {i: text for i, text in known.markers.items() if i >= len(spec.tokens) or spec.tokens[i] != text}
