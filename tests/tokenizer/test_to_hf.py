"""Specs as side files; transformers reads them in test_transformers.py."""

from __future__ import annotations

from dataclasses import replace

import pytest

from apr.errors import UnsupportedError
from apr.tokenizer.to_hf import to_hf
from tokenizer.test_round_trip import made


def test_the_configuration_names_what_transformers_needs() -> None:
    config = to_hf(replace(made("qwen2"), chat_template="{{ m }}"))["tokenizer_config.json"]
    assert config == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "chat_template": "{{ m }}",
    }


def test_special_tokens_are_listed_once_more() -> None:
    special = to_hf(made("spm-prefix"))["special_tokens_map.json"]
    assert special == {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def test_a_token_that_is_not_utf8_is_refused() -> None:
    spec = made("qwen2")
    broken = replace(spec, tokens=[*spec.tokens, "\udce4"], token_types=[*spec.token_types, 1])
    with pytest.raises(UnsupportedError, match="is not UTF-8"):
        to_hf(broken)
