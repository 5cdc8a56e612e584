"""Specs as `.apr` metadata; reading them back is in test_round_trip.py."""

from __future__ import annotations

from tokenizer.test_from_apr import metadata


def test_the_keys_are_those_of_upstream() -> None:
    keys = metadata()
    assert keys["tokenizer.pre_type"] == "qwen2"
    assert keys["tokenizer.vocab_size"] == len(keys["tokenizer.vocabulary"]) == len(keys["tokenizer.token_type"])
    assert keys["chat_template"] == keys["tokenizer.chat_template"] == "{{ m }}"
    assert keys["tokenizer.model"] == keys["tokenizer.model_type"] == "gpt2"
    assert keys["tokenizer.add_bos_token"] is False
