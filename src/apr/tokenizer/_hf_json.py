"""What a tokenizer.json says, part by part: vocabulary, added tokens, split regexes, normaliser, BOS rule, decoder.

The file itself is run by the `tokenizers` library; this reads it for what the library does not tell.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from apr.errors import TokenizerError, UnsupportedError
from apr.tokenizer import pre
from apr.tokenizer._spm import SPACE, byte_of
from apr.tokenizer.spec import MAX_TOKENS, Normalization, TokenType

MODELS = ("BPE", "Unigram")

# the library's own splitters as the regexes that they stand for
_BYTE_LEVEL_REGEX = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_PUNCTUATION_RUN = r"[\p{P}\$\+<=>\^~\|`]+"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """tokens, types:  [vocab_size], index = id; scores: [vocab_size] for Unigram, else empty."""

    tokens: list[str]
    types: list[int]
    scores: list[float]
    unk_token_id: int | None


def parse(text: str) -> dict[str, Any]:
    """The document, checked to be an object with a model of a kind that generates text.

    Raises TokenizerError if it is not JSON or has no model; UnsupportedError for another model.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise TokenizerError(f"tokenizer.json is not JSON ({exc}); the download is probably cut short") from exc
    if not isinstance(document, dict) or not isinstance(document.get("model"), dict):
        raise TokenizerError("tokenizer.json has no model; expected an object with 'model' and 'added_tokens'")
    model = document["model"]
    kind = model.get("type") or (
        "BPE" if "merges" in model else "Unigram" if isinstance(model.get("vocab"), list) else None
    )
    if kind not in MODELS:
        raise UnsupportedError(f"tokenizer.json has a model of type {kind!r}", known=MODELS)
    return document


def vocabulary(document: Mapping[str, Any]) -> Vocabulary:
    """Every entry by id. Ids that nothing uses become `[PAD{id}]`, unused."""
    model, added = document["model"], document.get("added_tokens") or []
    by_id: dict[int, str] = {}
    scores: dict[int, float] = {}
    if isinstance(model["vocab"], list):
        for token_id, (token, score) in enumerate(model["vocab"]):
            by_id[token_id], scores[token_id] = token, float(score)
    else:
        by_id = {token_id: token for token, token_id in model["vocab"].items()}
    types = dict.fromkeys(by_id, TokenType.NORMAL)
    if model.get("byte_fallback"):
        types |= {token_id: TokenType.BYTE for token_id, token in by_id.items() if byte_of(token) is not None}
    for entry in added:
        by_id[entry["id"]] = entry["content"]
        types[entry["id"]] = TokenType.CONTROL if entry.get("special") else TokenType.USER_DEFINED
    unk = _unknown_id(model, by_id)
    if unk is not None and (model.get("byte_fallback") or scores):
        types[unk] = TokenType.UNKNOWN
    if not by_id or not 0 <= max(by_id) < MAX_TOKENS or min(by_id) < 0:
        raise TokenizerError(
            f"tokenizer.json has {len(by_id)} tokens with ids up to {max(by_id, default=-1)}; expected 1 to {MAX_TOKENS}"
        )
    ids = range(max(by_id) + 1)
    return Vocabulary(
        tokens=[by_id.get(i, f"[PAD{i}]") for i in ids],
        types=[int(types.get(i, TokenType.UNUSED)) for i in ids],
        scores=[scores.get(i, 0.0) for i in ids] if scores else [],
        unk_token_id=unk,
    )


def merges(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Pairs in order of rank, from either spelling ("a b", or ["a", "b"]); none for Unigram."""
    found = []
    for rank, merge in enumerate(document["model"].get("merges") or ()):
        pair = merge.split(" ", 1) if isinstance(merge, str) else merge
        if len(pair) != 2:
            raise TokenizerError(f"tokenizer.json: merge {rank} is {merge!r}; expected a pair; the file is damaged")
        found.append((pair[0], pair[1]))
    return found


def normalization(document: Mapping[str, Any]) -> Normalization:
    """ "nfc" if an NFC step is among the normalisers."""
    return (
        "nfc" if any(step.get("type") == "NFC" for step in steps(document.get("normalizer"), "normalizers")) else "none"
    )


def byte_level_pre(document: Mapping[str, Any]) -> str | None:
    """The GGUF pre-tokenizer name of a byte-level BPE; None if it is not one, or cuts or normalises in a way that has no name."""
    model = document["model"]
    normalizers = [step.get("type") for step in steps(document.get("normalizer"), "normalizers")]
    if "merges" not in model or model.get("byte_fallback") or normalizers not in ([], ["NFC"]):
        return None
    regexes = split_regexes(document)
    return pre.detect(regexes, ignore_merges=bool(model.get("ignore_merges"))) if regexes is not None else None


def split_regexes(document: Mapping[str, Any]) -> list[str] | None:
    """The regexes by which a byte-level tokenizer cuts text, in order; None if some step is not a regex or there is no byte level."""
    regexes: list[str] = []
    has_byte_level = False
    for step in steps(document.get("pre_tokenizer"), "pretokenizers"):
        match step:
            case {"type": "ByteLevel", "add_prefix_space": False, **rest}:
                has_byte_level = True
                regexes += [_BYTE_LEVEL_REGEX] if rest.get("use_regex", True) else []
            case {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}:
                regexes.append(regex)
            case {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Removed", "invert": True}:
                regexes.append(regex)  # keeps the matches; the regexes of this kind leave no gap
            case {"type": "Digits", **rest}:
                regexes.append(r"\p{N}" if rest.get("individual_digits") else r"\p{N}+")
            case {"type": "Punctuation", "behavior": "Contiguous"}:
                regexes.append(_PUNCTUATION_RUN)
            case _:
                return None
    return regexes if has_byte_level else None


def has_space_normalizer(document: Mapping[str, Any]) -> Literal["no", "plain", "prefix"]:
    """Whether spaces become `▁`, and whether one is put before the text, as SentencePiece does it."""
    found: Literal["no", "plain", "prefix"] = "no"
    for step in [
        *steps(document.get("normalizer"), "normalizers"),
        *steps(document.get("pre_tokenizer"), "pretokenizers"),
    ]:
        match step:
            case {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}:
                found = "prefix" if found == "prefix" else "plain"
            case {"type": "Prepend", "prepend": "▁"}:
                found = "prefix"
            case {"type": "Metaspace", **rest}:
                scheme = rest.get("prepend_scheme") or ("always" if rest.get("add_prefix_space", True) else "never")
                found = "plain" if scheme == "never" and found != "prefix" else "prefix"
            case {"type": "Split", "pattern": {"String": " "}}:
                continue  # Gemma's: no space is left when it runs
            case _:
                return "no"
    return found


def post_tokens(document: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The special tokens that the post-processor puts before and after a text."""
    before = after = None
    for step in steps(document.get("post_processor"), "processors"):
        single = step.get("single") if step.get("type") == "TemplateProcessing" else None
        if not single:
            continue
        where = next((i for i, part in enumerate(single) if "Sequence" in part), len(single))
        names = [part.get("SpecialToken", {}).get("id") for part in single]
        before = names[where - 1] if where else before
        after = names[-1] if where < len(single) - 1 else after
    return before, after


def decoder_style(document: Mapping[str, Any]) -> tuple[Literal["bytes", "spm"], bool]:
    """How entries become text, and whether one leading space is taken off.

    Raises UnsupportedError for a decoder that does not work entry by entry.
    """
    kinds = {step.get("type"): step for step in steps(document.get("decoder"), "decoders")}
    if "ByteLevel" in kinds:
        return "bytes", False
    if "Metaspace" in kinds:
        step = kinds["Metaspace"]
        return "spm", (
            step.get("prepend_scheme") or ("always" if step.get("add_prefix_space", True) else "never")
        ) != "never"
    if kinds.get("Replace", {}).get("pattern") == {"String": SPACE}:
        return "spm", bool(kinds.get("Strip", {}).get("start"))
    raise UnsupportedError(
        f"tokenizer.json has decoder {sorted(map(str, kinds))}", known=("ByteLevel", "Metaspace", "Replace ▁")
    )


def steps(part: Any, key: str) -> Iterator[Mapping[str, Any]]:
    """The steps of a part that may be missing, single or a Sequence (nested ones flattened)."""
    if not isinstance(part, dict):
        return
    if part.get("type") == "Sequence":
        for step in part.get(key) or ():
            yield from steps(step, key)
    else:
        yield part


def _unknown_id(model: Mapping[str, Any], by_id: Mapping[int, str]) -> int | None:
    if isinstance(model.get("unk_id"), int):
        return int(model["unk_id"])
    name = model.get("unk_token")
    return next((i for i, token in by_id.items() if token == name), None) if name is not None else None
