"""The switch between a model's own normalisation (NFC, in Qwen's tokenizer) and llama.cpp's (never)."""

from __future__ import annotations

import json
from dataclasses import replace

from apr.errors import UnsupportedError
from apr.tokenizer import _hf_json
from apr.tokenizer.spec import Normalization, TokenizerSpec


def with_normalization(spec: TokenizerSpec, normalization: Normalization) -> TokenizerSpec:
    """The same tokenizer, normalising text to NFC first, or not.

    Raises UnsupportedError for a tokenizer.json with other normalisers, where the switch would change more than this.
    """
    if spec.json is None or spec.normalization == normalization:
        return replace(spec, normalization=normalization)
    document = _hf_json.parse(spec.json)
    kinds = [step.get("type") for step in _hf_json.steps(document.get("normalizer"), "normalizers")]
    if kinds not in ([], ["NFC"]):
        raise UnsupportedError(f"normalisers {kinds} in tokenizer.json cannot be switched", known=("none", "NFC alone"))
    document["normalizer"] = {"type": "NFC"} if normalization == "nfc" else None
    return replace(spec, normalization=normalization, json=json.dumps(document, ensure_ascii=False))
