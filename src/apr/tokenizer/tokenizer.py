"""Run a tokenizer: text to token ids and back.

`encode` takes text as text: nothing in it can become a control token. `encode_control` is for rendered templates: control tokens
count, except inside the spans that hold what a user wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from apr.errors import TokenizerError, UsageError
from apr.tokenizer import _backend, _spm
from apr.tokenizer.byte_alphabet import to_bytes
from apr.tokenizer.detokenize import StreamingDetokenizer
from apr.tokenizer.fingerprint import fingerprint
from apr.tokenizer.spec import HIDDEN_TYPES, TokenizerSpec, TokenType, ids_of_type

if TYPE_CHECKING:
    from tokenizers import Tokenizer as LibraryTokenizer

MAX_PROMPT_BYTES = 16 * 1024 * 1024  # about 4 million tokens: beyond any context, short of hurting the machine

_SPACES = " \t\n\v\f\r\x85\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"


class Tokenizer:
    """A tokenizer, ready to use."""

    def __init__(self, spec: TokenizerSpec) -> None:
        """Raises TokenizerError for tables that do not fit together; UnsupportedError for a part that is not done here."""
        self.spec = spec
        self.vocab_size = len(spec.tokens)
        self.bos_token_id = spec.bos_token_id
        self.eos_token_id = spec.eos_token_id
        self.stop_token_ids = spec.stop_token_ids
        self.add_bos = spec.add_bos
        self._hidden = frozenset(ids_of_type(spec, *HIDDEN_TYPES))
        # text of every token that encode_control recognises -> id; the unknown token counts, as in llama.cpp
        self.control_tokens: Mapping[str, int] = {spec.tokens[i]: i for i in sorted(self._hidden)}
        self._backend = _backend.Backend(spec)
        self._continuation = _backend.build_continuation(spec.json) if spec.json is not None else None
        self._style, strips = ("spm" if spec.kind == "spm" else "bytes", spec.add_space_prefix)
        self._strips: dict[int, tuple[bool, bool]] = {}
        if spec.json is not None:
            from apr.tokenizer import _hf_json

            document = _hf_json.parse(spec.json)
            self._style, strips = _hf_json.decoder_style(document)
            added = document.get("added_tokens") or ()
            self._strips = {
                a["id"]: (bool(a.get("lstrip")), bool(a.get("rstrip")))
                for a in added
                if a.get("lstrip") or a.get("rstrip")
            }
        self._leading = b" " if strips else b""
        self._pieces: dict[int, bytes] = {}

    @cached_property
    def sha256(self) -> str:
        """Hash of everything that decides ids (see `fingerprint.py`): the run record's tokenizer hash."""
        return fingerprint(self.spec)

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text: no BOS, and control tokens in the text are text.

        Raises UsageError for text over 16 MiB or with a lone surrogate.
        """
        _check_text(text)
        return self._encode_text(text, self._backend.for_text(text))

    def encode_control(self, text: str, *, literal: Sequence[tuple[int, int]] = ()) -> list[int]:
        """Token ids of text in which control tokens count, but for those that touch a literal span. No BOS is added.

        literal:  [start, end) in characters, of what a user wrote; any order, must not overlap
        Raises    UsageError as `encode`, and for spans that overlap or lie outside the text
        """
        _check_text(text)
        backend = self._backend.for_text(text)
        later = self._continuation or backend
        token_ids: list[int] = []
        done = 0
        for start, end, token_id in self._find_control(text, _gaps(len(text), literal)):
            left, right = self._strips.get(token_id, (False, False))
            token_ids += self._encode_text(_strip(text[done:start], left=left), later if done else backend)
            token_ids.append(token_id)
            done = end
            while right and done < len(text) and text[done] in _SPACES:
                done += 1
        return token_ids + self._encode_text(text[done:], later if done else backend)

    def with_bos(self, token_ids: Sequence[int]) -> list[int]:
        """The ids with BOS before and EOS behind, where the model wants them and they are not there yet."""
        ids = list(token_ids)
        if self.spec.add_bos and self.bos_token_id is not None and ids[:1] != [self.bos_token_id]:
            ids.insert(0, self.bos_token_id)
        if self.spec.add_eos and self.eos_token_id is not None and ids[-1:] != [self.eos_token_id]:
            ids.append(self.eos_token_id)
        return ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of all tokens, control tokens as their names. Bytes that form no character are U+FFFD."""
        return self._text(b"".join(map(self.text_of, token_ids)))

    def decode_text(self, token_ids: Sequence[int]) -> str:
        """Text without control tokens."""
        return self._text(b"".join(map(self._visible, token_ids)))

    def token(self, token_id: int) -> str:
        """The vocabulary entry, spelled as the file spells it. Raises UsageError for an id outside the vocabulary."""
        if not 0 <= token_id < self.vocab_size:
            raise UsageError(
                f"token id {token_id} is outside the vocabulary of {self.vocab_size}; it belongs to another tokenizer"
            )
        return self.spec.tokens[token_id]

    def text_of(self, token_id: int) -> bytes:
        """The bytes of one token, maybe part of a character; a control token's are its name. Raises UsageError as `token`."""
        try:
            return self._pieces[token_id]
        except KeyError:
            token = self.token(token_id)
        if self._style == "spm":
            data = _spm.piece(self.spec, token_id)
        elif self.spec.token_types[token_id] in (*HIDDEN_TYPES, TokenType.USER_DEFINED):
            data = token.encode("utf-8", "surrogateescape")  # added tokens are stored as plain text
        else:
            data = to_bytes(token)
        self._pieces[token_id] = data
        return data

    def stream(self) -> StreamingDetokenizer:
        """For tokens that arrive one by one; gives the text of `decode_text`."""
        return StreamingDetokenizer(self._visible, skip_leading=self._leading)

    def stream_all(self) -> StreamingDetokenizer:
        """As `stream`, with control tokens as their names; gives the text of `decode`."""
        return StreamingDetokenizer(self.text_of, skip_leading=self._leading)

    def stream_after_text(self) -> StreamingDetokenizer:
        """As `stream`, for tokens that go on with a text: a SentencePiece leading space belongs to the text and stays."""
        return StreamingDetokenizer(self._visible)

    def _visible(self, token_id: int) -> bytes:
        return b"" if token_id in self._hidden else self.text_of(token_id)

    def _text(self, data: bytes) -> str:
        return data.removeprefix(self._leading).decode("utf-8", "replace")

    def _encode_text(self, text: str, backend: LibraryTokenizer) -> list[int]:
        if not text:
            return []
        token_ids = _backend.encode(backend, text)
        if self.spec.kind == "hf":
            self._refuse_forged(token_ids)
        return token_ids

    def _refuse_forged(self, token_ids: list[int]) -> None:
        """A tokenizer.json may build a control token out of plain text; ours cannot be told not to, so the text is refused."""
        forged = self._hidden.intersection(token_ids) - {self.spec.unk_token_id}
        if forged:
            names = sorted(self.token(token_id) for token_id in forged)
            raise TokenizerError(
                f"plain text becomes the control token {names[0]!r} in this tokenizer; take it out of the text"
            )

    @cached_property
    def _special(self) -> tuple[re.Pattern[str], dict[str, int | None], list[int]]:
        """To find special tokens: their first characters, id by text (None: user-defined, the library matches it), lengths."""
        user_defined = ids_of_type(self.spec, TokenType.USER_DEFINED)
        ids: dict[str, int | None] = {self.spec.tokens[i]: None for i in user_defined} | dict(self.control_tokens)
        first = "".join(re.escape(char) for char in sorted({text[0] for text in ids}))
        return re.compile(f"[{first}]" if first else r"(?!)"), ids, sorted({len(text) for text in ids}, reverse=True)

    def _find_control(self, text: str, gaps: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
        """(start, end, id) of the control tokens that lie wholly in one gap: leftmost first, longest at each place."""
        first, ids, lengths = self._special
        for start, end in gaps:
            while match := first.search(text, start, end):
                start = match.start()
                found = next((n for n in lengths if start + n <= end and text[start : start + n] in ids), None)
                if found is None:
                    start += 1
                    continue
                token_id = ids[text[start : start + found]]
                if token_id is not None:
                    yield start, start + found, token_id
                start += found


def _check_text(text: str) -> None:
    if len(text) > MAX_PROMPT_BYTES:
        raise UsageError(f"a text of {len(text)} characters; the cap is {MAX_PROMPT_BYTES} bytes; give a shorter one")
    try:
        n_bytes = len(text.encode("utf-8"))
    except UnicodeEncodeError as exc:
        raise UsageError(
            f"the text holds a lone surrogate at character {exc.start}, which is no character; read it as UTF-8"
        ) from exc
    if n_bytes > MAX_PROMPT_BYTES:
        raise UsageError(f"a text of {n_bytes} bytes; the cap is {MAX_PROMPT_BYTES}; give a shorter one")


def _gaps(length: int, literal: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """What lies between the literal spans."""
    gaps = []
    done = 0
    for start, end in sorted(literal):
        if not done <= start <= end <= length:
            raise UsageError(
                f"literal span ({start}, {end}) overlaps another or lies outside the text of {length} characters"
            )
        gaps.append((done, start))
        done = end
    return [*gaps, (done, length)]


def _strip(text: str, *, left: bool) -> str:
    """Text before a token that takes the spaces to its left (`lstrip`) loses them."""
    return text.rstrip(_SPACES) if left else text
