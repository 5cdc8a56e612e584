"""Link "metadata": hyper-parameters, field by field, as the forward pass uses them.

Formats spell a configuration differently, so what is compared is what the spelling means (`convert/_config_check.py`).
A key that a file leaves out is filled in by every reader without a word, and the model then computes something else: that
is `metadata.missing`. What tensors decide (a head, biases) is the weights' business, unless a key denies tensors that are there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from apr.engines._subject import Subject
from apr.errors import AprError, FormatError, UnsupportedError
from apr.models._config import ModelConfig
from apr.parity import _config_fields, _config_keys, _single_config
from apr.parity._config_fields import Difference
from apr.parity._link import Finding, LinkResult, different, same, undecided
from apr.parity._pair import Pair

LINK = "metadata"
_READ_ERRORS = (FormatError, UnsupportedError)

# what a wrong value does, for a person
_EFFECTS = {
    "architecture": "another forward pass runs on the same weights",
    "num_hidden_layers": "layers are left out, or looked for in vain",
    "num_attention_heads": "the rows of q are cut into other heads",
    "num_key_value_heads": "the rows of k and v are cut into other heads",
    "head_dim": "heads are cut elsewhere, and attention is scaled by another size",
    "rope_theta": "positions are turned by other angles, the more so the further apart two tokens are",
    "partial_rotary_factor": "another share of each head is turned by its position",
    "rope_local_base_freq": "positions are turned by other angles in the layers with a window",
    "rms_norm_eps": "every norm divides by a slightly other number",
    "hidden_act": "the feed-forward layers apply another function",
    "query_pre_attn_scalar": "attention is sharper or flatter",
    "attn_logit_softcapping": "attention scores are bounded differently",
    "final_logit_softcapping": "logits are bounded differently",
    "sliding_window": "attention reaches less far, or farther, in texts longer than the window",
    "layer_types": "other layers have the sliding window",
    "attention_bias": "biases are left out, or looked for in vain",
    "tie_word_embeddings": "another matrix is the output head",
    "vocab_size": "the table of embeddings is taken to have other rows",
    "max_position_embeddings": "this changes how long a text may be, and not what is said in shorter ones",
}
_STRETCH = "frequencies are stretched differently, so positions are turned by other angles"


def compare(pair: Pair) -> LinkResult:
    """Every field of the two configurations.

    measure:  "n_fields"; "notes", what is spelled differently and means the same; "defaulted" and "unread" of the candidate
    """
    try:
        reference = pair.reference.config
    except _READ_ERRORS as exc:
        return undecided(LINK, "not_comparable", f"the reference's configuration cannot be read: {exc}")
    try:
        file = pair.candidate.file
    except _READ_ERRORS as exc:
        return undecided(LINK, "cannot_tell", f"the candidate's file cannot be opened: {exc}")
    try:
        candidate = pair.candidate.config
    except _READ_ERRORS as exc:
        return different(LINK, _unreadable(pair, reference, exc))
    notes: list[str] = []
    differences = list(_config_fields.differences(pair, notes))
    findings = [_finding(pair.candidate, each) for each in differences]
    measure = {
        "n_fields": len(_config_fields.ORDER),
        "notes": notes,
        "defaulted": list(candidate.defaulted),
        "unread": list(candidate.unread),
        "spellings": [pair.reference.file.format, file.format],
    }
    if findings:
        return different(LINK, findings, measure)
    return same(LINK, f"all {len(_config_fields.ORDER)} hyper-parameters mean the same in both files", measure)


def force(pair: Pair, findings: Sequence[Finding]) -> Subject:
    """The candidate, if its file had said the reference's value under every key that was found; under all if it says nothing."""
    reference = pair.reference.config
    try:
        config = pair.candidate.config
    except _READ_ERRORS:
        return pair.candidate.with_config(reference)
    changes: dict[str, Any] = {}
    for finding in findings:
        key = str(finding.where.get("key", ""))
        for field in _config_fields.fields_of(key):
            changes[field] = getattr(reference, field)
    return pair.candidate.with_config(replace(config, **changes))


def examine(subject: Subject) -> LinkResult:
    """One file by itself: keys against tensors, ranges, and what was published under this shape.

    `cannot_tell` for a shape that is in no table: then nobody but the original can say whether its rotary base is right.
    """
    try:
        subject.file  # noqa: B018 - opened here, so that what fails below is the configuration
    except _READ_ERRORS as exc:
        return undecided(LINK, "cannot_tell", f"the file cannot be opened: {exc}")
    try:
        config = subject.config
    except _READ_ERRORS as exc:
        return different(LINK, _unreadable_alone(subject, exc))
    return _single_config.judge(subject, config, effect_of=_effect)


def _finding(candidate: Subject, difference: Difference) -> Finding:
    key, reference, found = difference.key, difference.reference, difference.candidate
    where = {"key": key, "reference": _plain(reference), "candidate": _plain(found)}
    spelling = _config_keys.spelling(candidate.file, key)
    is_missing = reference not in (None, False, ()) and not difference.is_derived
    if is_missing and _config_keys.said(candidate.file, key) is None:
        where["spelling"] = spelling
        name = f" ({spelling})" if spelling != key else ""
        sentence = (
            f"the candidate leaves out {key}{name}, which is {_shown(reference)} in the reference, "
            f"and {_shown(found)} is taken: {_effect(key)}"
        )
        return Finding("metadata.missing", sentence, where)
    sentence = f"{key} is {_shown(found)} in the candidate and {_shown(reference)} in the reference: {_effect(key)}"
    return Finding("metadata.value", sentence, where)


def _unreadable(pair: Pair, reference: ModelConfig, error: AprError) -> list[Finding]:
    """What keeps the candidate's configuration from being read: keys that are not there, then values that are not the reference's."""
    file = pair.candidate.file
    if file.format == "gguf" and "token_embd.weight" not in file.tensors:
        where = {"tensor": "model.embed_tokens.weight", "key": "vocab_size"}
        return [
            Finding(
                "weights.missing", f"the candidate has no embedding, and its vocabulary cannot be known: {error}", where
            )
        ]
    findings = list(_missing_keys(pair.candidate, reference, error))
    for key in _config_fields.ORDER:
        raw = _config_keys.said(file, key)
        wanted = _config_fields.raw_value(reference, key, file.format)
        if raw is not None and wanted is not None and not _config_fields.is_equal(raw, wanted):
            sentence = f"{key} is {_shown(raw)} in the candidate and {_shown(wanted)} in the reference, and the file cannot be run: {error}"
            findings.append(
                Finding("metadata.value", sentence, {"key": key, "reference": _plain(wanted), "candidate": _plain(raw)})
            )
    return findings or [Finding("metadata.value", f"the candidate's configuration cannot be read: {error}")]


def _missing_keys(subject: Subject, reference: ModelConfig | None, error: AprError) -> Iterator[Finding]:
    file = subject.file
    if file.format == "safetensors" and "config.json" not in file.documents:
        yield Finding("metadata.missing", f"there is no configuration at all: {error}", {"key": "config.json"})
        return
    for key in _config_keys.REQUIRED[file.format]:
        if _config_keys.said(file, key) is None:
            field = "model_type" if key == "architecture" else key
            wanted = None if reference is None else getattr(reference, field)
            spelling = _config_keys.spelling(file, key)
            is_known = "" if wanted is None else f" ({_shown(wanted)} in the reference)"
            where = {"key": key, "spelling": spelling, "reference": _plain(wanted), "candidate": None}
            yield Finding(
                "metadata.missing", f"the file leaves out {key}{is_known}, and cannot be run without it: {error}", where
            )


def _unreadable_alone(subject: Subject, error: AprError) -> list[Finding]:
    if found := list(_missing_keys(subject, None, error)):
        return found
    return [Finding("metadata.value", f"the configuration cannot be read: {error}", {"key": _named_in(subject, error)})]


def _named_in(subject: Subject, error: AprError) -> str | None:
    """The key that a reader's message is about, under Hugging Face's name."""
    text = str(error)
    found = [
        (text.find(name), key)
        for key in _config_fields.ORDER
        for name in {key, _config_keys.spelling(subject.file, key).partition(".")[2] or key}
        if name in text
    ]
    return min(found)[1] if found else None


def _effect(key: str) -> str:
    return _STRETCH if key.startswith("rope_scaling") else _EFFECTS.get(key, "the arithmetic differs")


def _shown(value: object) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _plain(value: Any) -> Any:
    """For JSON."""
    return list(value) if isinstance(value, tuple) else value
