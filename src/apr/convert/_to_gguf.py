"""The metadata of a GGUF file that is made from another format, and the small tensors that carry rotary factors there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from apr.convert._carried import Carried, for_gguf
from apr.convert._items import Item
from apr.formats.gguf import Typed
from apr.models import _config_gguf
from apr.models._config import ModelConfig
from apr.models._rope import inverse_frequencies, llama3_factors
from apr.tokenizer.spec import TokenizerSpec
from apr.tokenizer.to_gguf import to_gguf as tokenizer_to_gguf

# llama.cpp, `enum llama_ftype`: what most of the file is
FILE_TYPES = {
    **{"f32": 0, "f16": 1, "bf16": 32, "q4_0": 2, "q4_1": 3, "q8_0": 7, "q5_0": 8, "q5_1": 9},
    **{"q2_k": 10, "q3_k": 12, "q4_k": 15, "q5_k": 17, "q6_k": 18},
}
_PURE = {"q3_k": 11, "q4_k": 14, "q5_k": 16}  # the "S" mixes: nothing better than the type itself
_PLAIN = ("f32", "f16", "bf16", "f64", "i8", "i16", "i32", "i64")
QUANTIZATION_VERSION = 2  # ggml.h, GGML_QNT_VERSION
_PHI3_TOKENS = {"<s>", "</s>", "<unk>", "<|endoftext|>"}
# the element types that gguf-py writes, which a list of Python numbers would not give
_KINDS = {
    "tokenizer.ggml.token_type": "array[int32]",
    "tokenizer.ggml.scores": "array[float32]",
    "general.sampling.top_k": "int32",
}


def metadata(
    config: ModelConfig, spec: TokenizerSpec, carried: Carried, items: Sequence[Item]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """All keys in the order of llama.cpp's converter, and notes on what GGUF has no key for.

    Raises UnsupportedError for a tokenizer that GGUF cannot hold.
    """
    shape = _config_gguf.to_gguf(config) | _longrope_factor(config) | _local_theta(config)
    architecture = shape.pop("general.architecture")
    others, notes = for_gguf(carried, architecture=architecture)
    if _upsets_llama_cpp(str(others.get("general.name", "")), spec):
        name = others.pop("general.name")
        notes += (
            f"the name {name!r} was left out: by it llama.cpp takes the tokenizer for Phi-3's, and refuses the file",
        )
    keys: dict[str, Any] = {"general.architecture": architecture, "general.type": "model"}
    keys |= {key: value for key, value in others.items() if key.startswith("general.")}
    keys |= shape | {"general.file_type": file_type(items)} | tokenizer_to_gguf(spec)
    keys |= {key: value for key, value in others.items() if key not in keys}
    if any(item.codec not in _PLAIN for item in items):
        keys["general.quantization_version"] = QUANTIZATION_VERSION
    return {key: Typed(_KINDS[key], value) if key in _KINDS else value for key, value in keys.items()}, notes


def file_type(items: Sequence[Item]) -> int:
    """llama.cpp's number for the type that most values of the matrices have."""
    values: Counter[str] = Counter()
    for item in items:
        if len(item.shape) > 1:
            values[item.codec] += item.n_bytes if item.codec not in FILE_TYPES else int(np.prod(item.shape))
    if not values:
        return 0
    codec = values.most_common(1)[0][0]
    is_pure = len(values) == 1
    return _PURE[codec] if is_pure and codec in _PURE else FILE_TYPES.get(codec, 1024)  # 1024: LLAMA_FTYPE_GUESSED


def rope_tensors(config: ModelConfig) -> dict[str, np.ndarray]:
    """float32 [rotary_dim / 2] by GGUF name: the factors by which llama.cpp divides rotary frequencies."""
    scaling = config.rope_scaling
    if scaling is None:
        return {}
    if scaling.rope_type == "llama3":
        stored = np.asarray(scaling.long_factor, dtype=np.float32)  # there if the source was GGUF
        return {"rope_freqs.weight": stored if stored.size else llama3_factors(config)}
    if scaling.rope_type == "longrope":
        return {
            "rope_factors_long.weight": np.asarray(scaling.long_factor, dtype=np.float32),
            "rope_factors_short.weight": np.asarray(scaling.short_factor, dtype=np.float32),
        }
    return {}


def _upsets_llama_cpp(name: str, spec: TokenizerSpec) -> bool:
    """llama-vocab.cpp changes attributes of Phi-3's special tokens by the model's name, and fails if there are none."""
    return any(part in name.lower() for part in ("phi-3", "phi3")) and not set(spec.tokens) >= _PHI3_TOKENS


def _local_theta(config: ModelConfig) -> dict[str, float]:
    """The rotary base of Gemma's local layers, where it is not the one that readers assume."""
    theta = config.rope_local_base_freq
    return {} if theta in (None, _config_gguf.GEMMA3_LOCAL_THETA) else {"gemma3.rope.freq_base_swa": float(theta or 0)}


def _longrope_factor(config: ModelConfig) -> dict[str, float]:
    """The scale of LongRoPE's tables, which llama.cpp does not compute itself (its converter writes it for Phi-3)."""
    if config.rope_scaling is None or config.rope_scaling.rope_type != "longrope":
        return {}
    _, factor = inverse_frequencies(config, n_positions=1)
    return {"phi3.rope.scaling.attn_factor": float(factor)}
