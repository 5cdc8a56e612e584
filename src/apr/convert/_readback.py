"""Open what was written and compare it with its source: every tensor, the configuration, the tokenizer, the template.

The comparison goes through the reader and the canonical names of both files, not through the code that wrote one of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from apr.convert import _config_check
from apr.convert._hashing import digest
from apr.convert._items import Item, encode_values, is_rope_tensor
from apr.errors import ConversionError
from apr.formats import open_model
from apr.formats._base import ModelFile
from apr.kernels import quants
from apr.models._checkpoint import Checkpoint, are_same
from apr.tokenizer import spec_of
from apr.tokenizer.fingerprint import fingerprint
from apr.tokenizer.spec import TokenizerSpec, is_padding
from apr.tokenizer.tables import as_tables
from apr.tokenizer.tokenizer import Tokenizer

Progress = Callable[[int], None]

# what a tokenizer.json has as well, and what only tables have
_PARTS = ("tokens", "add_bos", "add_eos", "add_space_prefix", "bos_token_id", "eos_token_id")
_TABLES = ("merges", "scores")
# text that goes through every part of a tokenizer, beside the vocabulary itself
_SAMPLES = (
    "Hello, world! It's 2024-01-31, 3.14159.",
    "  two  spaces\n\n\ttab\r\n",
    "naïve Ünïcödé 日本語 한국어 العربية 🙂‍↔️",
    "def f(x):\n    return x**2\n",
)


def check(
    source: Checkpoint,
    spec: TokenizerSpec,
    path: Path,
    items: Sequence[Item],
    *,
    digests: Mapping[str, str],
    progress: Progress,
) -> tuple[list[str], list[str]]:
    """What was compared, one sentence each, and notes.

    path:    the written file or folder, under its temporary name
    Raises   ConversionError at the first difference; FormatError if our own reader refuses the file.
    """
    with open_model(path) as file:
        checked = list(file.verify())
        written = Checkpoint(file)
        if wrong := _config_check.differences(source.config, written.config):
            raise ConversionError(
                f"the {file.format} file cannot say what the source's configuration says: {'; '.join(wrong)}"
            )
        checked.append("the configuration reads back to the same model")
        checked += check_tensors(source, written, items, digests=digests, progress=progress)
        sentences, notes = check_tokenizer(spec, read_spec(written))
        return checked + sentences, [*_config_check.notes(source.config, written.config), *notes]


def read_spec(checkpoint: Checkpoint) -> TokenizerSpec:
    """The tokenizer of an opened model. Raises TokenizerError, UnsupportedError."""
    file = checkpoint.file
    return spec_of(file.format, file.metadata, file.documents, vocab_size=checkpoint.config.vocab_size)


def check_tensors(
    source: Checkpoint,
    written: Checkpoint,
    items: Sequence[Item],
    *,
    digests: Mapping[str, str],
    progress: Progress,
) -> list[str]:
    """Compare every tensor with the source's; raise ConversionError naming the first that differs, and where.

    digests:  of the tensors that were quantised, by canonical name: these are compared with what was made, not made again
    """
    if odd := set(written.tensors) ^ {item.name for item in items} or {
        n for n in written.extra if not is_rope_tensor(n)
    }:
        raise ConversionError(
            f"the written file does not hold the tensors that it should: {', '.join(sorted(odd)[:8])}"
        )
    for item in items:
        info = written.tensors[item.name].info
        if (info.codec, info.shape) != (item.codec, item.shape):
            raise ConversionError(
                f"tensor {item.name!r} reads back as {info.codec} {list(info.shape)}, expected {item.codec} {list(item.shape)}"
            )
        _compare(source, written, item, digests)
        source.tensors[item.source_name].release()
        written.tensors[item.name].release()
        progress(item.n_bytes)
    counts: Counter[str] = Counter(item.treatment for item in items)
    codecs = sorted({item.codec for item in items if item.treatment == "dequantized"} - {"f32"})
    rounded = f" and rounded to {codecs[0]}" if codecs else ""
    sentences = {
        "kept": f"{counts['kept']} tensors are the source's byte for byte, rows in canonical order",
        "recoded": f"{counts['recoded']} tensors hold the source's values exactly in another form",
        "quantized": f"{counts['quantized']} tensors hold the blocks that were made of the source's values",
        "dequantized": f"{counts['dequantized']} tensors hold the source's values, decoded{rounded}, value for value",
    }
    return [sentence for treatment, sentence in sentences.items() if counts[treatment]]


def check_tokenizer(source: TokenizerSpec, written: TokenizerSpec) -> tuple[list[str], list[str]]:
    """Compare two tokenizers and their templates. Returns what was compared, and notes. Raises ConversionError."""
    notes = []
    if source.normalization != written.normalization:
        if written.normalization != "none":
            raise ConversionError(
                f"text is normalised to {written.normalization}, in the source to {source.normalization}"
            )
        notes.append(
            f"the target cannot say that text is normalised to {source.normalization.upper()} first; text that already is gives the same ids"
        )
    if source.kind == "spm" and written.kind == "hf":
        notes.append(
            "the tokenizer's scores became merges in the order that they imply; their values are in no tokenizer.json"
        )
    if source.stop_token_ids != written.stop_token_ids:
        lost, gained = (
            sorted(set(a) - set(b))
            for a, b in (
                (source.stop_token_ids, written.stop_token_ids),
                (written.stop_token_ids, source.stop_token_ids),
            )
        )
        notes.append(
            f"stop ids differ: {lost} were left out, {gained} came in; the target has no place for more than it names"
        )
    if source.chat_template != written.chat_template:
        raise ConversionError("the chat template reads back as another text")
    sentences = [_compare_ids(source, written)]
    if source.chat_template is not None:
        sentences.append("the chat template is the same text")
    return sentences, notes


def _compare_ids(source: TokenizerSpec, written: TokenizerSpec) -> str:
    """By fingerprint where both are tables that can be compared; else by the ids that both give for all of the vocabulary."""
    before, after = (replace(as_tables(spec), normalization="none") for spec in (source, written))
    if fingerprint(before) == fingerprint(after):
        return f"the tokenizer has the same hash, {fingerprint(before)[:12]}"
    # a tokenizer.json has no scores, no unused types and no merges that build control tokens: hashes of the tables say little across that
    # border, so what it has is compared, and then what it does
    crosses = "hf" in (source.kind, written.kind)
    compared = (*_PARTS, *(() if written.kind == "hf" else _TABLES)) if crosses else (*_PARTS, *_TABLES)
    difference = _first_difference(before, after, compared)
    if difference or not crosses:
        raise ConversionError(f"the tokenizer reads back differently: {difference or 'types or pre-tokenizer'}")
    one, other = Tokenizer(replace(source, normalization="none")), Tokenizer(written)
    vocabulary = [one.decode([i]) for i in range(len(source.tokens)) if not is_padding(source, i)]
    for text in (*_SAMPLES, "\n".join(vocabulary), *(() if source.chat_template is None else (source.chat_template,))):
        for encode in ("encode", "encode_control"):
            ids, ids_written = getattr(one, encode)(text), getattr(other, encode)(text)
            if ids != ids_written:
                at = next(
                    (i for i, (a, b) in enumerate(zip(ids, ids_written, strict=False)) if a != b),
                    min(len(ids), len(ids_written)),
                )
                raise ConversionError(
                    f"the tokenizer reads back differently: {one.decode(ids[at : at + 3])!r} gives the ids {ids[at : at + 3]}, "
                    f"and {ids_written[at : at + 3]} in the written file"
                )
    return f"the tokenizer gives the same ids for the text of all {len(vocabulary)} tokens"


def _first_difference(before: TokenizerSpec, after: TokenizerSpec, names: Sequence[str]) -> str:
    for name in names:
        one, other = getattr(before, name), getattr(after, name)
        if isinstance(one, str | int | None):
            if one != other:
                return f"{name} is {one!r}, and {other!r} in the written file"
        elif list(one) != list(other):
            at = next(
                (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
            )
            return f"{name} differ from entry {at} on ({len(one)} and {len(other)} entries)"
    return ""


def _compare(source: Checkpoint, written: Checkpoint, item: Item, digests: Mapping[str, str]) -> None:
    if item.treatment == "quantized":
        refuse_other_blocks(item.name, written.raw(item.name), digests)
        return
    if item.treatment == "kept":
        before, after = source.raw(item.source_name), written.raw(item.name)
    else:
        values = _values(source, item.source_name, beside=written)
        exact = item.codec == "f32"
        before = values if exact else encode_values(item, values)
        after = _values(written, item.name, beside=source) if exact else written.raw(item.name)
    refuse_difference(item.name, before, after, shape=item.shape, codec=item.codec)


def _values(checkpoint: Checkpoint, name: str, *, beside: Checkpoint) -> np.ndarray:
    """float32: decoded values; norms as factors, unless both files leave out the same offset."""
    place = checkpoint.tensors[name]
    if checkpoint.convention == beside.convention == "hf":
        return checkpoint.file.array(place.info.name)
    return checkpoint.array(name)


def refuse_other_blocks(name: str, raw: np.ndarray, digests: Mapping[str, str]) -> None:
    """Raise ConversionError unless a tensor's bytes are those that were made."""
    if digest(raw) != digests.get(name):
        raise ConversionError(
            f"tensor {name!r} does not read back as it was quantised; the copy was not kept, and the disk or memory may be failing"
        )


def refuse_difference(name: str, before: np.ndarray, after: np.ndarray, *, shape: tuple[int, ...], codec: str) -> None:
    """Raise ConversionError, with the index of the first value that differs, unless both hold the same bits.

    before, after:  float32 [shape], or uint8 [n_bytes] in `codec`
    """
    one, other = (a.reshape(-1) if a.dtype == np.uint8 else a.reshape(-1).view(np.uint32) for a in (before, after))
    if are_same(one, other):
        return
    if one.size != other.size:
        raise ConversionError(f"tensor {name!r} reads back with {other.size} values or bytes, expected {one.size}")
    at = int(np.argmax(one != other))
    if before.dtype == np.uint8 and codec in quants.names():
        at = at // quants.codec(codec).block_bytes * quants.codec(codec).block_size
    index = [int(i) for i in np.unravel_index(at, shape)] if shape else []
    raise ConversionError(
        f"tensor {name!r} reads back differently from index {index} on; the copy was not kept, and the disk or memory may be failing"
    )


def check_requantised(
    source: ModelFile,
    written: ModelFile,
    specs: Sequence[tuple[str, str, tuple[int, ...]]],
    *,
    digests: Mapping[str, str],
    progress: Progress,
) -> list[str]:
    """As `check_copy`, for a copy some of whose tensors were quantised: those in `digests`."""
    checked = list(written.verify())
    found = [(name, info.codec, info.shape) for name, info in written.tensors.items()]
    if found != list(specs):
        raise ConversionError("the written file does not hold the tensors that it should, in their order")
    for name, codec, shape in specs:
        raw = written.raw(name)
        if name in digests:
            refuse_other_blocks(name, raw, digests)
        else:
            refuse_difference(name, source.raw(name), raw, shape=shape, codec=codec)
            source.release(name, 0, raw.size)
        written.release(name, 0, raw.size)
        progress(raw.size)
    kept = len(specs) - len(digests)
    return [
        *checked,
        f"{kept} tensors are the source's byte for byte",
        f"{len(digests)} tensors hold the blocks that were made of the source's values",
    ]


def check_copy(source: ModelFile, written: ModelFile, *, progress: Progress) -> list[str]:
    """As `check`, for a copy within one format: tensors in the same order, metadata and side files."""
    checked = list(written.verify())
    if list(written.tensors) != list(source.tensors):
        raise ConversionError("the written file does not hold the source's tensors in the source's order")
    for name, info in source.tensors.items():
        found = written.tensors[name]
        if (found.codec, found.shape) != (info.codec, info.shape):
            raise ConversionError(f"tensor {name!r} reads back as {found.codec} {list(found.shape)}")
        refuse_difference(name, source.raw(name), written.raw(name), shape=info.shape, codec=info.codec)
        source.release(name, 0, info.n_bytes)
        written.release(name, 0, info.n_bytes)
        progress(info.n_bytes)
    if dict(written.documents) != dict(source.documents):
        raise ConversionError("the side files read back differently")
    return [*checked, f"{len(source.tensors)} tensors are the source's byte for byte, in the same order"]
