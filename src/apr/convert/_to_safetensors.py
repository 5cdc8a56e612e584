"""The side files of a safetensors folder that is made from another format, as transformers and vLLM look for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from apr.convert._carried import SAFETENSORS_KEY, Carried
from apr.convert._items import Item
from apr.models import _config_hf
from apr.models._config import ModelConfig
from apr.tokenizer.spec import TokenizerSpec, is_padding
from apr.tokenizer.to_hf import to_hf as tokenizer_to_hf

_TORCH = {"f64": "float64", "f32": "float32", "f16": "float16", "bf16": "bfloat16"}


def documents(config: ModelConfig, spec: TokenizerSpec, carried: Carried, items: Sequence[Item]) -> dict[str, Any]:
    """Every side file by name."""
    named = {"bos_token_id": spec.bos_token_id, "eos_token_id": spec.eos_token_id, "pad_token_id": spec.pad_token_id}
    ids = {name: token_id for name, token_id in named.items() if token_id is not None}
    files: dict[str, Any] = {
        "config.json": _config_hf.to_hf(config, torch_dtype=torch_dtype(items)) | ids,
        "generation_config.json": _generation(carried, spec, ids),
        **tokenizer_to_hf(_without_padding(spec)),
    }
    if spec.chat_template is not None:
        files["chat_template.jinja"] = spec.chat_template
    return files


def metadata(carried: Carried) -> dict[str, str]:
    """`__metadata__`: the mark that transformers wants, and what has no other place."""
    stored = {f"general.{name}": value for name, value in carried.card.items()} | carried.source_metadata
    return {"format": "pt"} | ({SAFETENSORS_KEY: json.dumps(stored, ensure_ascii=False)} if stored else {})


def torch_dtype(items: Sequence[Item]) -> str:
    """The type that holds every tensor exactly: readers cast all of them to it."""
    codecs = {item.codec for item in items if item.codec in _TORCH}
    if len(codecs) == 1:
        return _TORCH[codecs.pop()]
    return "float64" if "f64" in codecs else "float32"


def _without_padding(spec: TokenizerSpec) -> TokenizerSpec:
    """A tokenizer.json has no padding of the vocabulary: config.json says how many rows the embedding has."""
    n = len(spec.tokens)
    while n and is_padding(spec, n - 1):
        n -= 1
    return replace(spec, tokens=spec.tokens[:n], token_types=spec.token_types[:n], scores=spec.scores[:n])


def _generation(carried: Carried, spec: TokenizerSpec, ids: dict[str, int]) -> dict[str, Any]:
    settings = {**ids, **carried.generation}
    if spec.stop_token_ids:
        settings["eos_token_id"] = list(spec.stop_token_ids)
    if carried.generation.keys() & {"temperature", "top_k", "top_p", "min_p"}:
        settings.setdefault("do_sample", True)  # transformers refuses to save sampling settings without it
    return settings
