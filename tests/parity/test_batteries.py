"""The battery holds what tokenizers are known to differ on."""

from __future__ import annotations

import unicodedata

import pytest

from apr.parity._batteries import CONVERSATIONS, TEXTS


def test_the_battery_is_large_and_has_no_text_twice() -> None:
    assert len(TEXTS) == len(set(TEXTS)) >= 150
    assert len(CONVERSATIONS) == len({c.id for c in CONVERSATIONS}) >= 12


def test_many_scripts_are_in_it() -> None:
    names = {unicodedata.name(char, "?").split()[0] for text in TEXTS for char in text if char.isalpha()}
    assert {
        "LATIN",
        "CYRILLIC",
        "GREEK",
        "ARABIC",
        "HEBREW",
        "DEVANAGARI",
        "THAI",
        "CJK",
        "HIRAGANA",
        "HANGUL",
    } <= names


def test_decomposed_text_joined_emoji_and_every_kind_of_space_are_in_it() -> None:
    joined = "".join(TEXTS)
    assert any(unicodedata.normalize("NFC", text) != text for text in TEXTS)
    assert "\u200d" in joined and "\r\n" in joined and "\t" in joined and "\u3000" in joined and "\u00a0" in joined


@pytest.mark.parametrize("role", ["system", "assistant", "tool"])
def test_every_role_is_in_a_conversation(role: str) -> None:
    assert any(message["role"] == role for c in CONVERSATIONS for message in c.messages)


def test_a_conversation_holds_what_looks_like_control_tokens() -> None:
    assert any("<|im_end|>" in str(message["content"]) for c in CONVERSATIONS for message in c.messages)
