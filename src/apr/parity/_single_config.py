"""A configuration with nothing to compare it with: against its own tensors, sane ranges, and what was published."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from apr.engines._subject import Subject
from apr.models._config import ModelConfig
from apr.parity import _config_keys, _families
from apr.parity._link import Finding, LinkResult, different, same, undecided

LINK = "metadata"
# wider than any published model, so that only damage and slips lie outside
_RANGES: dict[str, tuple[float, float]] = {
    "rms_norm_eps": (1e-9, 1e-2),
    "rope_theta": (100.0, 1e9),
    "rope_local_base_freq": (100.0, 1e9),
    "max_position_embeddings": (32, 1 << 26),
    "head_dim": (4, 1024),
}
# what every reader fills in without a word, and what no tensor shows
_UNSAFE_DEFAULTS = ("rope_theta", "rms_norm_eps", "max_position_embeddings")
_LAYER = re.compile(r"(?:^|\.)(?:layers|blk)\.(\d+)\.")


def judge(subject: Subject, config: ModelConfig, *, effect_of: Callable[[str], str]) -> LinkResult:
    """The link's verdict on one file whose configuration can be read."""
    measure: dict[str, Any] = {"defaulted": list(config.defaulted), "unread": list(config.unread)}
    verdict = _families.closest(config)
    findings = [*_against_tensors(subject, config), *_out_of_range(config)]
    known = {finding.where["key"] for finding in findings}
    if verdict is not None:
        measure["published"] = verdict.published.name
        measure["not_as_published"] = [[d.key, d.published, d.found] for d in verdict.differences]
        if verdict.is_certain:
            published = (
                _not_as_published(subject, verdict.published, d, effect_of(d.key)) for d in verdict.differences
            )
            findings += [finding for finding in published if finding.where["key"] not in known]
    if findings:
        return different(LINK, findings, measure)
    if verdict is None:
        return undecided(LINK, "cannot_tell", _unknown(subject, config), measure)
    name = verdict.published.name
    if verdict.differences:
        keys = ", ".join(f"{d.key} {d.found} in place of {d.published}" for d in verdict.differences)
        reason = (
            f"the shape is that of {name}, with another context length and {keys}: stretched on purpose, or wrong; "
            "the original of this file would tell"
        )
        return undecided(LINK, "cannot_tell", reason, measure)
    contexts = verdict.published.contexts
    if config.max_position_embeddings not in contexts:
        reason = (
            f"the hyper-parameters are those published for {name}, but for the context length, {config.max_position_embeddings} "
            f"in place of {' or '.join(map(str, contexts))}: {effect_of('max_position_embeddings')}; its original would tell"
        )
        return undecided(LINK, "cannot_tell", reason, measure)
    return same(LINK, f"the hyper-parameters fit the tensors, and are those published for {name}", measure)


def _unknown(subject: Subject, config: ModelConfig) -> str:
    filled = [key for key in _UNSAFE_DEFAULTS if _config_keys.said(subject.file, key) is None]
    guess = f"; the file leaves out {', '.join(filled)}, and a reader's default stands there" if filled else ""
    return (
        "the hyper-parameters fit the tensors; no model of this shape is in the table of published ones, so whether it "
        f"was trained with rope_theta {config.rope_theta:g} and rms_norm_eps {config.rms_norm_eps:g} "
        f"is not known{guess}; its original would tell"
    )


def _not_as_published(
    subject: Subject, published: _families.Published, difference: _families.Difference, effect: str
) -> Finding:
    key, wanted, found = difference.key, difference.published, difference.found
    where = {"key": key, "reference": wanted, "candidate": found, "published": published.name}
    if _config_keys.said(subject.file, key) is None:
        spelling = _config_keys.spelling(subject.file, key)
        sentence = (
            f"the file leaves out {key} ({spelling}), and {found} is taken; {published.name}, which has this shape, "
            f"was published with {wanted}: {effect}"
        )
        return Finding("metadata.missing", sentence, where | {"spelling": spelling})
    sentence = f"{key} is {found}; {published.name}, which has this shape, was published with {wanted}: {effect}"
    return Finding("metadata.value", sentence, where)


def _out_of_range(config: ModelConfig) -> Iterator[Finding]:
    for key, (least, most) in _RANGES.items():
        value = getattr(config, key)
        if value is not None and not least <= value <= most:
            where = {"key": key, "candidate": value, "expected": [least, most]}
            yield Finding("metadata.value", f"{key} is {value:g}, far from any model: {least:g} to {most:g}", where)


def _against_tensors(subject: Subject, config: ModelConfig) -> Iterator[Finding]:
    """Keys that tensors contradict, each by the tensor that shows it."""
    file, tensors = subject.file, subject.checkpoint.tensors
    layers = [int(match.group(1)) for name in file.tensors if (match := _LAYER.search(name))]
    if layers and max(layers) + 1 > config.num_hidden_layers:
        yield _contradiction("num_hidden_layers", config.num_hidden_layers, max(layers) + 1, "the tensors' names")
    head_dim = config.head_dim
    shown = {
        "vocab_size": ("model.embed_tokens.weight", 0, 1),
        "hidden_size": ("model.embed_tokens.weight", 1, 1),
        "num_attention_heads": ("model.layers.0.self_attn.q_proj.weight", 0, head_dim),
        "num_key_value_heads": ("model.layers.0.self_attn.k_proj.weight", 0, head_dim),
        "head_dim": ("model.layers.0.self_attn.q_norm.weight", 0, 1),
        "intermediate_size": ("model.layers.0.mlp.gate_proj.weight", 0, 1),
    }
    for key, (name, axis, unit) in shown.items():
        place = tensors.get(name)
        if place is None or axis >= len(place.info.shape):
            continue
        size = place.info.shape[axis]
        if size != getattr(config, key) * unit:
            yield _contradiction(
                key, getattr(config, key), size / unit if size % unit else size // unit, f"tensor {name}"
            )


def _contradiction(key: str, found: int, shown: float, by: str) -> Finding:
    where = {"key": key, "reference": shown, "candidate": found}
    return Finding("metadata.value", f"{key} is {found}, and {by} shows {shown:g}", where)
