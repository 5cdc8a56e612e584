"""How llama.cpp reads and writes text: its own tokenizer, and the file's chat template as llama-cpp-python renders it."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from apr.engines._llama_library import Library
from apr.engines._llama_session import LlamaModel
from apr.errors import EngineError
from apr.tokenizer.chat_template import ChatTemplate

_TEMPLATE = "tokenizer.chat_template"


class LlamaVoice:
    """The vocabulary of a GGUF file in llama.cpp.

    A conversation is rendered with `bos_token` and `eos_token` as llama.cpp names them, and nothing is added to it when it is
    tokenised: llama-cpp-python's `Jinja2ChatFormatter` and `chat_formatter_to_chat_completion_handler`.
    """

    def __init__(self, library: Library, path: Path) -> None:
        self.library = library
        self._model = LlamaModel(library, path, vocab_only=True)
        self._path = path
        self._template: ChatTemplate | None = None

    def encode(self, text: str) -> list[int]:
        """Token ids of a raw prompt, in which all is text; the vocabulary's own beginning and end of text included."""
        return self._tokenize(text, add_special=True, parse_special=False)

    def encode_rendered(self, text: str) -> list[int]:
        """Token ids of a rendered conversation; nothing is added."""
        return self._tokenize(text, add_special=False, parse_special=True)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of tokens, control tokens as their names."""
        return b"".join(self._piece(token_id) for token_id in token_ids).decode("utf-8", "replace")

    def render(self, messages: Sequence[Mapping[str, Any]]) -> str | None:
        """A conversation through the file's template, the answer's header included; None if it has none."""
        if self._template is None:
            source = self._metadata(_TEMPLATE)
            if source is None:
                return None
            ids = {
                "bos_token": self.library.llama_vocab_bos(self._model.vocab),
                "eos_token": self.library.llama_vocab_eos(self._model.vocab),
            }
            variables = {name: self._text(token_id) for name, token_id in ids.items()}
            self._template = ChatTemplate(source, origin=f"{_TEMPLATE} of {self._path.name}", variables=variables)
        return self._template.render(messages).text

    def close(self) -> None:
        """End the template's process; the vocabulary goes with the last reference."""
        if self._template is not None:
            self._template.close()

    def _tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        encoded = text.encode("utf-8", "surrogatepass")
        room = len(encoded) + 16  # a token is at least a byte, but for what the vocabulary adds
        for _ in range(2):
            ids = (ctypes.c_int32 * room)()
            count: int = self.library.llama_tokenize(
                self._model.vocab, encoded, len(encoded), ctypes.addressof(ids), room, add_special, parse_special
            )
            if count >= 0:
                return list(ids[:count])
            room = -count
        raise EngineError(f"llama.cpp could not tokenise a text of {len(encoded)} bytes")

    def _piece(self, token_id: int) -> bytes:
        room = 64
        for _ in range(2):
            buffer = ctypes.create_string_buffer(room)
            count: int = self.library.llama_token_to_piece(self._model.vocab, token_id, buffer, room, 0, True)
            if count >= 0:
                return buffer.raw[:count]
            room = -count
        raise EngineError(f"llama.cpp could not write token {token_id}")

    def _text(self, token_id: int) -> str:
        text: bytes | None = self.library.llama_vocab_get_text(self._model.vocab, token_id) if token_id >= 0 else None
        return (text or b"").decode("utf-8", "replace")

    def _metadata(self, key: str) -> str | None:
        length: int = self.library.llama_model_meta_val_str(self._model.handle, key.encode(), None, 0)
        if length < 0:
            return None
        buffer = ctypes.create_string_buffer(length + 1)
        self.library.llama_model_meta_val_str(self._model.handle, key.encode(), buffer, length + 1)
        return buffer.value.decode("utf-8", "replace")
