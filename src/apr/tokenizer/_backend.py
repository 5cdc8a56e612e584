"""The `tokenizers` library, set up for a spec: cutting, merging, byte fallback. Special tokens in the text stay text here."""

from __future__ import annotations

import json
import logging
import re
import threading
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from apr.errors import TokenizerError, UnsupportedError
from apr.tokenizer import _part, _spm, pre
from apr.tokenizer._strings import Strings
from apr.tokenizer.byte_alphabet import BYTE_OF_CHAR, NOT_UTF8
from apr.tokenizer.spec import HIDDEN_TYPES, TokenizerSpec, TokenType, ids_of_type

logger = logging.getLogger(__name__)

_SURROGATE = "[\ud800-\udfff]"  # how a reader of files marks bytes that are not UTF-8
_NEVER = -1e9  # a log-probability under that of any other way to cut a text
_MAX_PARTS = 32  # together they cost what all tables cost


class Backend:
    """Library tokenizers for one spec: one with all tables, and until that pays, one for each short text with what it uses.

    Raises TokenizerError as `build`, at once in any case.
    """

    def __init__(self, spec: TokenizerSpec) -> None:
        self._spec = spec
        self._parts = _part.searchable(spec)
        self._n_parts = 0
        self._whole = build(spec) if self._parts is None else None
        self._lock = threading.Lock()

    def for_text(self, text: str) -> Tokenizer:
        """A tokenizer that cuts this text, and any stretch of it, as one with all tables does."""
        if self._whole is not None:
            return self._whole
        part = self._parts.for_text(text) if self._parts is not None and self._n_parts < _MAX_PARTS else None
        if part is not None:
            self._n_parts += 1
            return _of_part(self._spec, *part)
        with self._lock:
            if self._whole is None:
                self._whole = build(self._spec)
            return self._whole


def build(spec: TokenizerSpec) -> Tokenizer:
    """A library tokenizer that never gives a control token, whatever the text.

    Control tokens are not even in its vocabulary, so no merge and no whole-word match can build one. User-defined tokens are always
    matched whole. Raises TokenizerError for merges that name tokens the vocabulary lacks.
    """
    if spec.json is not None:
        return _literal(json.loads(spec.json))
    hidden = {i for i in ids_of_type(spec, *HIDDEN_TYPES) if not (spec.kind == "spm" and i == spec.unk_token_id)}
    hidden |= _not_utf8(spec)  # no text can hold them, and the library takes text only
    tokenizer = _from_tables(spec, {token: i for i, token in enumerate(spec.tokens) if i not in hidden})
    tokenizer.add_tokens(_added(spec, TokenType.USER_DEFINED))
    return tokenizer


def _of_part(spec: TokenizerSpec, vocab: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    user_defined = ids_of_type(spec, TokenType.USER_DEFINED)
    tokenizer = _byte_level_tokenizer(spec, vocab | {spec.tokens[i]: i for i in user_defined}, merges)
    tokenizer.add_tokens(_added(spec, TokenType.USER_DEFINED))
    return tokenizer


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of a text that is not empty; no BOS.

    Raises TokenizerError when a split regex gives up: the regex engine stops after ten million steps back in one match.
    """
    try:
        token_ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    except BaseException as exc:
        if not _is_panic(exc):
            raise
        raise TokenizerError(
            f"the split regex of this tokenizer gave up on a text of {len(text)} characters ({exc}); "
            "break up its long runs of one kind of character, or use a tokenizer whose regex does not run away"
        ) from exc
    return token_ids


def build_continuation(text: str) -> Tokenizer | None:
    """The tokenizer.json `text` for text that follows a control token, if that is cut differently (`prepend_scheme: first`); else None."""
    if '"first"' not in text or '"prepend_scheme"' not in text:  # most vocabularies hold the word "first"
        return None
    document = json.loads(text)
    for part in (document.get("pre_tokenizer"), *((document.get("pre_tokenizer") or {}).get("pretokenizers") or ())):
        if isinstance(part, dict) and part.get("prepend_scheme") == "first":
            part["prepend_scheme"] = "never"
    return _literal(document)


def build_complete(spec: TokenizerSpec) -> Tokenizer:
    """A library tokenizer with everything: control tokens matched, BOS and EOS added on request. For writing a tokenizer.json."""
    broken = _not_utf8(spec)
    if broken:
        raise UnsupportedError(
            f"token {min(broken)} is not UTF-8 ({spec.tokens[min(broken)]!r}), and tokenizer.json is text"
        )
    tokenizer = _from_tables(spec, {token: i for i, token in enumerate(spec.tokens)})
    tokenizer.add_special_tokens(_added(spec, TokenType.CONTROL, TokenType.UNKNOWN))
    tokenizer.add_tokens(_added(spec, TokenType.USER_DEFINED))
    bos = spec.tokens[spec.bos_token_id] if spec.add_bos and spec.bos_token_id is not None else None
    eos = spec.tokens[spec.eos_token_id] if spec.add_eos and spec.eos_token_id is not None else None
    if bos or eos:
        single = [*([f"{bos}:0"] if bos else []), "$A:0", *([f"{eos}:0"] if eos else [])]
        pair = [*single, *(part.replace(":0", ":1").replace("$A", "$B") for part in single)]
        special = [(token, spec.tokens.index(token)) for token in {bos, eos} if token]
        tokenizer.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=special)
    return tokenizer


def _literal(document: dict[str, Any]) -> Tokenizer:
    """The document's tokenizer, with special tokens in the text as text."""
    pieces = document["model"].get("vocab")
    if isinstance(pieces, list):
        # a Unigram model gives control pieces score 0, the best there is, and would build them from plain text
        special = {entry["content"] for entry in document.get("added_tokens") or () if entry.get("special")}
        document["model"]["vocab"] = [[text, _NEVER if text in special else score] for text, score in pieces]
    try:
        tokenizer = Tokenizer.from_str(json.dumps(document))
    except BaseException as exc:  # the library raises plain Exception, and panics are BaseException
        if not isinstance(exc, Exception) and not _is_panic(exc):
            raise
        raise TokenizerError(
            f"the tokenizers library refuses tokenizer.json: {exc}; take the original file again"
        ) from exc
    tokenizer.encode_special_tokens = True
    return tokenizer


def _is_panic(exc: BaseException) -> bool:
    # the class of a Rust panic cannot be imported
    return type(exc).__name__ == "PanicException"


def _not_utf8(spec: TokenizerSpec) -> set[int]:
    if isinstance(spec.tokens, Strings) and spec.tokens.is_text:
        return set()
    if not re.search(_SURROGATE, "".join(spec.tokens)):
        return set()
    return {token_id for token_id, token in enumerate(spec.tokens) if re.search(_SURROGATE, token)}


def _added(spec: TokenizerSpec, *types: TokenType) -> list[AddedToken]:
    special = TokenType.USER_DEFINED not in types
    return [AddedToken(spec.tokens[i], special=special, normalized=False) for i in ids_of_type(spec, *types)]


def _from_tables(spec: TokenizerSpec, vocab: dict[str, int]) -> Tokenizer:
    if spec.kind == "spm":
        return _spm_tokenizer(spec, vocab)
    missing = [byte for char, byte in BYTE_OF_CHAR.items() if char not in vocab and byte not in NOT_UTF8]
    if missing:
        logger.info(
            "%d bytes of UTF-8 have no token; characters that need them are lost, as in every engine", len(missing)
        )
    return _byte_level_tokenizer(spec, vocab, _pairs(spec))


def _byte_level_tokenizer(spec: TokenizerSpec, vocab: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    rules = pre.rules(spec.pre)
    tokenizer = Tokenizer(_bpe(vocab, merges, ignore_merges=rules.ignore_merges))
    if spec.normalization == "nfc":
        tokenizer.normalizer = normalizers.NFC()
    splits = [pre_tokenizers.Split(Regex(regex), "isolated") for regex in rules.regexes]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _spm_tokenizer(spec: TokenizerSpec, vocab: dict[str, int]) -> Tokenizer:
    has_bytes = all(f"<0x{byte:02X}>" in vocab for byte in range(256))
    unk = spec.tokens[spec.unk_token_id] if spec.unk_token_id is not None else None
    merges = _spm.derive_merges(spec.tokens, spec.token_types, spec.scores)
    tokenizer = Tokenizer(_bpe(vocab, merges, unk_token=unk, fuse_unk=True, byte_fallback=has_bytes))
    prefix = [normalizers.Prepend(_spm.SPACE)] if spec.add_space_prefix else []
    nfc = [normalizers.NFC()] if spec.normalization == "nfc" else []
    tokenizer.normalizer = normalizers.Sequence([*nfc, *prefix, normalizers.Replace(" ", _spm.SPACE)])
    strip = [decoders.Strip(" ", 1, 0)] if spec.add_space_prefix else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(_spm.SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    return tokenizer


def _pairs(spec: TokenizerSpec) -> list[tuple[str, str]]:
    """The merges of a byte-level vocabulary, without those that would build a control token."""
    hidden = {spec.tokens[i] for i in ids_of_type(spec, *HIDDEN_TYPES)}
    pairs = []
    for rank, merge in enumerate(spec.merges):
        left, space, right = merge.partition(" ")
        if not space or not left or not right:
            raise TokenizerError(f"merge {rank} is {merge!r}; expected 'left right'; the file is damaged")
        if left + right not in hidden:
            pairs.append((left, right))
    return pairs


def _bpe(vocab: dict[str, int], merges: list[tuple[str, str]], **options: Any) -> models.BPE:
    try:
        return models.BPE(vocab=vocab, merges=merges, **options)
    except Exception as exc:  # the library raises nothing narrower
        for rank, (left, right) in enumerate(merges):
            absent = [token for token in (left, right, left + right) if token not in vocab]
            if absent:
                raise TokenizerError(
                    f"merge {rank} ({left!r}, {right!r}) names {absent[0]!r}, which the vocabulary does not have as text; "
                    "vocabulary and merges are of different tokenizers; convert the model again"
                ) from exc
        raise TokenizerError(f"the tokenizers library refuses the merges: {exc}; convert the model again") from exc
