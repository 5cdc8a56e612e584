"""Two configurations, field by field: what differs in meaning, each difference under the one key that explains it.

A key that follows from another is not reported beside it: a window that only one file has also changes the layers that
have it. What a format cannot say, and a reader derives to the same value, is no difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from apr.convert import _config_check
from apr.errors import AprError
from apr.kernels import quants
from apr.models._checkpoint import Checkpoint
from apr.models._config import ModelConfig, RopeScaling
from apr.parity._pair import Pair
from apr.tokenizer.spec import TokenType

# what changes the arithmetic first; the context length, which does not, last
_BY_MEANING = (
    "model_type",
    "num_hidden_layers",
    "hidden_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "rope_theta",
    "partial_rotary_factor",
    "rope_local_base_freq",
    "rms_norm_eps",
    "hidden_act",
    "query_pre_attn_scalar",
    "attn_logit_softcapping",
    "final_logit_softcapping",
)
ORDER = (
    "architecture",
    *_BY_MEANING[1:],
    "rope_scaling",
    "sliding_window",
    "layer_types",
    "attention_bias",
    "tie_word_embeddings",
    "vocab_size",
    "max_position_embeddings",
)
_SAME_FUNCTION = {"swish": "silu"}
_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"


@dataclass(frozen=True, slots=True)
class Difference:
    """One key that means something else.

    is_derived:  the candidate's value follows from its tensors or from its format, not from a key that was left out
    """

    key: str
    reference: Any
    candidate: Any
    is_derived: bool = False


def differences(pair: Pair, notes: list[str]) -> Iterator[Difference]:
    """What differs, in `ORDER`; what is only spelled differently goes to `notes`."""
    reference, candidate = pair.reference.config, pair.candidate.config
    for field in _BY_MEANING:
        if not _is_equal_field(reference, candidate, field):
            key = "architecture" if field == "model_type" else field
            yield Difference(key, getattr(reference, field), getattr(candidate, field))
    if reference.model_type != candidate.model_type and _is_equal_field(reference, candidate, "model_type"):
        notes.append(f"{reference.model_type} and {candidate.model_type} are two names for one architecture")
    yield from _scaling_differences(reference, candidate, notes)
    yield from _window_differences(reference, candidate, notes)
    yield from _bias_differences(pair, notes)
    yield from _tie_differences(pair, notes)
    yield from _vocabulary_differences(pair, notes)
    if reference.max_position_embeddings != candidate.max_position_embeddings:
        yield Difference(
            "max_position_embeddings", reference.max_position_embeddings, candidate.max_position_embeddings
        )


def fields_of(key: str) -> tuple[str, ...]:
    """The fields of `ModelConfig` that a key stands in."""
    if key == "architecture":
        return ("model_type",)
    if key.startswith("rope_scaling"):
        return ("rope_scaling",)
    if key in ("sliding_window", "layer_types"):
        return ("sliding_window", "layer_types")
    return (key,) if key in {field.name for field in fields(ModelConfig)} else ()


def raw_value(config: ModelConfig, key: str, file_format: str) -> Any:
    """What a file of a format would say under a key; None for what is not compared with what files say."""
    if key not in (*_BY_MEANING[1:], "max_position_embeddings"):
        return None
    if key == "partial_rotary_factor" and file_format == "gguf":
        return int(config.head_dim * config.partial_rotary_factor)
    return getattr(config, key)


def is_equal(said: object, wanted: object) -> bool:
    """Whether two values are the same number to float32, or the same otherwise."""
    if isinstance(said, int | float) and isinstance(wanted, int | float):
        return bool(np.float32(said) == np.float32(wanted))
    return bool(said == wanted)


def _is_equal_field(reference: ModelConfig, candidate: ModelConfig, field: str) -> bool:
    mine, theirs = getattr(reference, field), getattr(candidate, field)
    if mine == theirs:
        return True
    if field == "hidden_act":
        return bool(_SAME_FUNCTION.get(mine, mine) == _SAME_FUNCTION.get(theirs, theirs))
    if field == "query_pre_attn_scalar" and _is_head_dim(reference) and _is_head_dim(candidate):
        return True  # it follows from the size of a head, which is reported itself
    return bool(_config_check.meaning(reference, field) == _config_check.meaning(candidate, field))


def _is_head_dim(config: ModelConfig) -> bool:
    return config.query_pre_attn_scalar in (None, float(config.head_dim))


def _scaling_differences(reference: ModelConfig, candidate: ModelConfig, notes: list[str]) -> Iterator[Difference]:
    """By the frequencies that come of it, with all else that changes them taken from the reference."""
    mine, theirs = reference.rope_scaling, candidate.rope_scaling
    if mine == theirs:
        return
    others = ("rope_theta", "head_dim", "partial_rotary_factor", "max_position_embeddings")
    alone = replace(candidate, **{field: getattr(reference, field) for field in others})
    if _has_fitting_factors(alone) and not _config_check.rope_differences(reference, alone):
        notes.append("the scaling of rotary frequencies is spelled differently and gives the same frequencies")
        return
    if mine is None or theirs is None or mine.rope_type != theirs.rope_type:
        key = "rope_scaling" if mine is None or theirs is None else "rope_scaling.rope_type"
        yield Difference(key, _summary(mine), _summary(theirs))
        return
    named = [field.name for field in fields(RopeScaling) if field.name != "rope_type"]
    if mine.rope_type == "llama3" and bool(mine.long_factor) != bool(theirs.long_factor):
        named = ["factor"]  # GGUF holds what came of the other parameters, not the parameters
    found = [name for name in named if not is_equal(getattr(mine, name), getattr(theirs, name))]
    for name in found:
        yield Difference(f"rope_scaling.{name}", getattr(mine, name), getattr(theirs, name))
    if not found:
        yield Difference("rope_scaling", _summary(mine), _summary(theirs))


def _has_fitting_factors(config: ModelConfig) -> bool:
    scaling = config.rope_scaling
    n_frequencies = (int(config.head_dim * config.partial_rotary_factor) + 1) // 2
    lists = () if scaling is None else (scaling.short_factor, scaling.long_factor)
    return all(len(factors) in (0, n_frequencies) for factors in lists)


def _summary(scaling: RopeScaling | None) -> dict[str, Any] | None:
    return None if scaling is None else {"rope_type": scaling.rope_type, "factor": scaling.factor}


def _window_differences(reference: ModelConfig, candidate: ModelConfig, notes: list[str]) -> Iterator[Difference]:
    """By what each layer sees; a window as long as the context is none."""
    if reference.num_hidden_layers != candidate.num_hidden_layers:
        return
    longest = reference.max_position_embeddings

    def seen(config: ModelConfig) -> list[int | None]:
        windows = [config.window(layer) for layer in range(config.num_hidden_layers)]
        return [None if window is None or window >= longest else window for window in windows]

    mine, theirs = seen(reference), seen(candidate)
    if mine == theirs:
        if (reference.sliding_window, reference.layer_types) != (candidate.sliding_window, candidate.layer_types):
            notes.append("sliding windows are spelled differently, and every layer sees the same")
        return
    has_none = not any(mine) or not any(theirs)
    if has_none or [w is None for w in mine] == [w is None for w in theirs]:
        yield Difference(
            "sliding_window", max(filter(None, mine), default=None), max(filter(None, theirs), default=None)
        )
    else:
        yield Difference("layer_types", reference.layer_types, candidate.layer_types)


def _bias_differences(pair: Pair, notes: list[str]) -> Iterator[Difference]:
    """A key that denies biases which the file has, or names some that it has not; missing tensors are the weights' business."""
    reference, candidate = pair.reference.config, pair.candidate.config
    mine, theirs = (set(_config_check.meaning(config, "attention_bias")) for config in (reference, candidate))
    if mine == theirs or not _is_equal_field(reference, candidate, "model_type"):
        return
    stored = {
        module
        for module in mine | theirs
        if f"model.layers.0.self_attn.{module}.bias" in pair.candidate.checkpoint.tensors
    }
    if (mine - theirs) <= stored and not (theirs - mine) & stored:
        yield Difference("attention_bias", reference.attention_bias, candidate.attention_bias, is_derived=True)
    else:
        notes.append("the candidate has other biases than the reference: the weights link says which")


def _tie_differences(pair: Pair, notes: list[str]) -> Iterator[Difference]:
    """Only where the candidate's key is at fault: the head that the reference's value asks for is there."""
    mine, theirs = pair.reference.config.tie_word_embeddings, pair.candidate.config.tie_word_embeddings
    if mine == theirs:
        return
    untied = pair.candidate.checkpoint if mine else pair.reference.checkpoint
    is_stored = _HEAD in pair.candidate.checkpoint.tensors
    if _HEAD in untied.tensors and is_copied_head(untied):
        notes.append("one file ties its output head to the embedding, the other holds a copy: they compute the same")
    elif is_stored != mine:
        yield Difference("tie_word_embeddings", mine, theirs)
    else:
        notes.append("one file has an output head of its own and the other has not: the weights link compares them")


def is_copied_head(checkpoint: Checkpoint) -> bool:
    """Whether a stored output head is the embedding once more, value by value."""
    head, embedding = checkpoint.tensors.get(_HEAD), checkpoint.tensors.get(_EMBEDDING)
    if head is None or embedding is None or head.info.shape != embedding.info.shape:
        return False
    if head.info.codec == embedding.info.codec:
        return bool(np.array_equal(head.raw(), embedding.raw()))
    decodable = {head.info.codec, embedding.info.codec} <= set(quants.names())
    return decodable and bool(np.array_equal(head.array(), embedding.array()))


def _vocabulary_differences(pair: Pair, notes: list[str]) -> Iterator[Difference]:
    """A table with more rows is the same model if all rows beyond are padding."""
    mine, theirs = pair.reference.config.vocab_size, pair.candidate.config.vocab_size
    if mine == theirs:
        return
    embedding = pair.candidate.checkpoint.tensors.get(_EMBEDDING)
    has_rows = embedding is None or embedding.info.shape[0] == theirs
    if has_rows and _has_only_padding(pair, min(mine, theirs)):
        notes.append(f"the table of embeddings has {theirs} rows in place of {mine}; the rest is padding")
    else:
        yield Difference("vocab_size", mine, theirs)


def _has_only_padding(pair: Pair, first: int) -> bool:
    """Whether neither side has a token in use from an id on."""
    for subject in (pair.reference, pair.candidate):
        try:
            spec = subject.spec
        except AprError:
            return False
        if any(spec.token_types[i] != TokenType.UNUSED for i in range(first, len(spec.tokens))):
            return False
    return True
