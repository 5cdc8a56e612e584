"""Specs as GGUF metadata; reading them back is in test_round_trip.py."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from apr.tokenizer.to_gguf import to_gguf
from tokenizer.test_round_trip import made


def test_values_are_plain() -> None:
    for name in ("qwen2", "spm-prefix"):
        for key, value in to_gguf(made(name)).items():
            assert type(value) in (str, int, bool, list), key
            assert not isinstance(value, list) or {type(item) for item in value} <= {str, int, float}, key


def test_the_kinds_have_llama_cpps_names() -> None:
    byte_level, spm = to_gguf(made("llama-bpe")), to_gguf(made("spm-plain"))
    assert (byte_level["tokenizer.ggml.model"], byte_level["tokenizer.ggml.pre"]) == ("gpt2", "llama-bpe")
    assert (spm["tokenizer.ggml.model"], spm["tokenizer.ggml.pre"]) == ("llama", "default")
    assert spm["tokenizer.ggml.add_space_prefix"] is False
    assert "tokenizer.ggml.scores" in spm and "tokenizer.ggml.merges" in byte_level


def test_a_lost_normalisation_and_lost_stop_ids_are_said(caplog: pytest.LogCaptureFixture) -> None:
    spec = replace(made("qwen2"), normalization="nfc", stop_token_ids=(2, 300, 301, 302))
    with caplog.at_level(logging.WARNING):
        keys = to_gguf(spec)
    assert (keys["tokenizer.ggml.eot_token_id"], keys["tokenizer.ggml.eom_token_id"]) == (300, 301)
    assert "NFC" in caplog.text and "[302]" in caplog.text
