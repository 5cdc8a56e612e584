"""GPT-2's byte alphabet: every byte is written as one printable character, so that a vocabulary is text.

Bytes that print (`!` to `~`, `¡` to `¬`, `®` to `ÿ`) stand for themselves; the other 68 take the characters from U+0100 on, in
order. A space is `Ġ`, a newline `Ċ`. Source: Radford et al. 2019, `encoder.py`, `bytes_to_unicode`.
"""

from __future__ import annotations

_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [byte for byte in range(256) if byte not in set(_PRINTABLE)]

BYTE_OF_CHAR: dict[str, int] = {chr(b): b for b in _PRINTABLE} | {chr(0x100 + i): b for i, b in enumerate(_OTHERS)}
NOT_UTF8 = frozenset({0xC0, 0xC1, *range(0xF5, 0x100)})  # bytes that no UTF-8 text holds (RFC 3629)
CHAR_OF_BYTE: dict[int, str] = {byte: char for char, byte in BYTE_OF_CHAR.items()}


def to_bytes(token: str) -> bytes:
    """The bytes that a byte-level token stands for; its own UTF-8 if it holds a character outside the alphabet.

    The exception is for added tokens, which are stored as plain text.
    """
    try:
        return bytes([BYTE_OF_CHAR[char] for char in token])
    except KeyError:
        return token.encode("utf-8", "surrogateescape")


def from_bytes(data: bytes) -> str:
    """The spelling of `data` in the alphabet."""
    return "".join(CHAR_OF_BYTE[byte] for byte in data)
