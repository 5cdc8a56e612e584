"""The hyper-parameters can be those of this model: its tensors, its family and its own words do not contradict them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from apr import models
from apr.models._config import ModelConfig
from apr.parity import _config_keys, _families, metadata
from apr.qa import _from_links
from apr.qa._judged import Judged
from apr.qa.gate import Finding, gate

# no tensor shows them, and every reader fills them in without a word
_FILLED_IN = ("rope_theta", "rms_norm_eps", "max_position_embeddings")
# beyond the bases and eps that a family was published with; its own fine-tunes went up to a hundredfold
_FAR = 100.0
_CLASS = re.compile(r"^(?:For[A-Z]\w*|.*For(?:CausalLM|ConditionalGeneration))$")


@gate(
    severity="P0",
    profiles=("file", "smoke", "release"),
    rationale="A wrong rotary base or eps loads everywhere, and the model is wrong a little more with every position.",
    source="the models' own config.json (parity/_families.py); ship-two 7.2, metadata ranges",
)
def check(judged: Judged) -> Iterator[Finding]:
    """Keys against tensors, against wide ranges, against what was published under this shape, and against the family."""
    yield from _architecture(judged)
    result = metadata.examine(judged.model)
    yield from _from_links.failures(result)
    if result.verdict == "different":
        return
    config = judged.checkpoint.config
    published = result.measure.get("published")
    measure: dict[str, Any] = {
        key: result.measure[key] for key in ("published", "defaulted", "unread") if key in result.measure
    }
    if result.verdict == "same":
        yield Finding("pass", "as-published", result.sentence, measure=measure)
    elif published is not None:
        yield Finding("undecided", "stretched", result.sentence, {"published": published}, measure)
    else:
        yield from _of_no_table(judged, config, measure)


def _architecture(judged: Judged) -> Iterator[Finding]:
    """The name of the architecture, spelled as its format spells it; readers compare it letter by letter."""
    said = _config_keys.said(judged.file, "architecture")
    key = _config_keys.spelling(judged.file, "architecture")
    name = said[0] if isinstance(said, list | tuple) and said else said
    if not isinstance(name, str) or _CLASS.match(name):
        return
    if name != name.lower() and name.strip():
        message = f"the architecture is {name!r}; every reader compares letter by letter, expected {name.lower()!r}"
        yield Finding("fail", "architecture-case", message, {"key": key, "candidate": name, "reference": name.lower()})
    document = judged.file.documents.get("config.json")
    classes = (
        document.get("architectures") if isinstance(document, dict) else [judged.file.metadata.get("hf_architecture")]
    )
    yield from _other_class(judged, name, classes, key)


def _other_class(judged: Judged, name: str, classes: Any, key: str) -> Iterator[Finding]:
    """A transformers class that stands beside the name and belongs to another architecture."""
    for each in classes if isinstance(classes, list) else ():
        if not isinstance(each, str) or not each:
            continue
        stem = re.sub(r"(?:ForCausalLM|ForConditionalGeneration|LMHeadModel|Model)$", "", each).lower()
        mine = models.for_model_type(judged.checkpoint.config.model_type)
        known = {re.sub(r"ForCausalLM$", "", c).lower() for c in mine.HF_ARCHITECTURES}
        if stem not in known and stem not in mine.MODEL_TYPES:
            message = (
                f"the architecture is {name!r}, and the class that stands beside it is {each!r}: one of them is wrong"
            )
            yield Finding("fail", "architecture-class", message, {"key": key, "candidate": name, "class": each})


def _of_no_table(judged: Judged, config: ModelConfig, measure: dict[str, Any]) -> Iterator[Finding]:
    """A shape that nobody published here: it fits its tensors, and is held against its family."""
    missing = [key for key in _FILLED_IN if _config_keys.said(judged.file, key) is None]
    if missing:
        message = f"the file leaves out {', '.join(missing)}, and a reader's default stands there, which no tensor can confirm"
        yield Finding("undecided", "left-out", message, {"key": missing[0], "keys": missing}, measure)
    yield from _beyond_family(config)
    message = (
        f"the hyper-parameters fit the tensors and lie where those of {config.model_type} models lie; "
        "no published model that is known here has this shape"
    )
    yield Finding("pass", "plausible", message, measure=measure)


def _beyond_family(config: ModelConfig) -> Iterator[Finding]:
    architecture = models.for_model_type(config.model_type)
    relatives = [p for p in _families.PUBLISHED if p.model_type in architecture.MODEL_TYPES]
    for key in ("rope_theta", "rms_norm_eps"):
        values = sorted({float(getattr(p, key)) for p in relatives})
        found = float(getattr(config, key))
        if not values or values[0] / _FAR <= found <= values[-1] * _FAR:
            continue
        where = {"key": key, "candidate": found, "expected": [values[0], values[-1]]}
        message = f"{key} is {found:g}; {config.model_type} models were published with {values[0]:g} to {values[-1]:g}"
        yield Finding("fail", "beyond-family", message, where)
    if "llama" in architecture.MODEL_TYPES:  # everybody's architecture: its models are no family
        return
    yield from _unlike_family(config, relatives)


def _unlike_family(config: ModelConfig, relatives: Sequence[_families.Published]) -> Iterator[Finding]:
    """Values that no relative has. Models for shorter texts than any relative are toys, of which nothing is expected."""
    if not relatives or config.max_position_embeddings < min(c for p in _families.PUBLISHED for c in p.contexts):
        return
    of_context = [p for p in relatives if config.max_position_embeddings in p.contexts] or relatives
    expected: dict[str, set[Any]] = {
        "rope_theta": {p.rope_theta for p in of_context},
        "rope_local_base_freq": {p.rope_local_base_freq for p in relatives},
        "hidden_act": {"gelu_pytorch_tanh" if config.model_type.startswith("gemma") else "silu"},
    }
    if config.rope_scaling is not None:
        del expected["rope_theta"]
    for key, values in expected.items():
        found = getattr(config, key)
        if found not in values:
            listed = " or ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in sorted(values, key=str))
            message = f"{key} is {found}; every {config.model_type} model that is known here has {listed}"
            where = {"key": key, "candidate": found, "expected": sorted(values, key=str)}
            yield Finding("undecided", "unlike-family", message, where)
