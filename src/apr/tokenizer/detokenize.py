"""Token ids to text while they arrive: never half a character, and the same text in the end as decoding all at once."""

from __future__ import annotations

import codecs
from collections.abc import Callable


class StreamingDetokenizer:
    """Text of tokens as they come.

    A character whose bytes are spread over tokens appears with its last byte. U+FFFD stands only for bytes that can never become
    a character: as soon as that is certain, and at `finish` for bytes that still wait for more.
    """

    def __init__(self, bytes_of: Callable[[int], bytes], *, skip_leading: bytes = b"") -> None:
        """
        bytes_of:      the bytes of one token
        skip_leading:  dropped once from the start of the text if it stands there (SentencePiece's leading space)
        """
        self._bytes_of = bytes_of
        self._skip = skip_leading
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def put(self, token_id: int) -> str:
        """The text that has become certain with this token; often empty."""
        data = self._bytes_of(token_id)
        if data and self._skip:
            data, self._skip = data.removeprefix(self._skip), b""
        return self._decoder.decode(data)

    def finish(self) -> str:
        """The rest: U+FFFD if the last character never came to its end, else nothing."""
        return self._decoder.decode(b"", final=True)
