"""GPT-2's byte alphabet."""

from __future__ import annotations

from tokenizers import pre_tokenizers

from apr.tokenizer import byte_alphabet


def test_the_alphabet_is_the_librarys() -> None:
    assert set(byte_alphabet.BYTE_OF_CHAR) == set(pre_tokenizers.ByteLevel.alphabet())
    every = bytes(range(256))
    assert byte_alphabet.to_bytes(byte_alphabet.from_bytes(every)) == every


def test_text_is_spelled_as_the_library_spells_it() -> None:
    text = "Hé 你\n😀"
    spelled = "".join(piece for piece, _ in pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(text))
    assert byte_alphabet.from_bytes(text.encode()) == spelled


def test_an_entry_outside_the_alphabet_is_plain_text() -> None:
    assert byte_alphabet.to_bytes("<a b>") == b"<a b>"
    assert byte_alphabet.to_bytes("\udce4") == b"\xe4"
