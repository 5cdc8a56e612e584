"""Our ids against transformers', for tokenizers trained here and for those read from real GGUF files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from apr.formats import gguf
from apr.tokenizer.from_gguf import spec_from_gguf
from apr.tokenizer.from_hf import spec_from_hf
from apr.tokenizer.spec import TokenizerSpec
from apr.tokenizer.to_gguf import to_gguf
from apr.tokenizer.to_hf import to_hf
from apr.tokenizer.tokenizer import Tokenizer
from tokenizer import trained
from tokenizer.battery import battery

pytestmark = pytest.mark.parity

TEXTS = battery()


def load(folder: Path, documents: dict[str, Any]) -> Any:
    """transformers' tokenizer for these side files."""
    from transformers import AutoTokenizer

    for name, content in documents.items():
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return AutoTokenizer.from_pretrained(folder)


def differing(ours: Callable[[str], object], theirs: Callable[[str], object], each: int = 1) -> list[str]:
    return [ascii(text) for text in TEXTS[::each] if ours(text) != theirs(text)]


def literal_ids(reference: Any) -> Callable[[str], list[int]]:
    return lambda text: reference.encode(text, add_special_tokens=False, split_special_tokens=True)


def control_ids(reference: Any) -> Callable[[str], list[int]]:
    return lambda text: reference.encode(text, add_special_tokens=False)


def assert_same(spec: TokenizerSpec, reference: Any, *, each: int = 1) -> None:
    """Of the battery, every so many texts."""
    tokenizer = Tokenizer(spec)

    def ours(text: str) -> str:
        return tokenizer.decode(tokenizer.encode(text))

    def theirs(text: str) -> str:
        return str(reference.decode(tokenizer.encode(text)))

    assert differing(tokenizer.encode, literal_ids(reference), each) == []
    assert differing(tokenizer.encode_control, control_ids(reference), each) == []
    assert differing(ours, theirs, each) == []


@pytest.mark.parametrize("name", ["qwen2", "llama-bpe", "gpt-2", "smollm", "deepseek-v3", "gpt-4o"])
def test_a_byte_level_folder_gives_the_ids_of_transformers(name: str, tmp_path: Path) -> None:
    documents = trained.documents(trained.of_family(name))
    assert_same(spec_from_hf(documents), load(tmp_path, documents))


def test_a_normalising_folder_gives_the_ids_of_transformers(tmp_path: Path) -> None:
    from tokenizers import normalizers

    tokenizer = trained.of_family("qwen2")
    tokenizer.normalizer = normalizers.NFC()
    documents = trained.documents(tokenizer)
    assert spec_from_hf(documents).normalization == "nfc"
    assert_same(spec_from_hf(documents), load(tmp_path, documents))


@pytest.mark.parametrize("prefix", [True, False])
def test_a_sentencepiece_folder_gives_the_ids_of_transformers(prefix: bool, tmp_path: Path) -> None:
    documents = trained.documents(trained.sentencepiece(prefix=prefix), bos="<s>", eos="</s>")
    assert_same(spec_from_hf(documents), load(tmp_path, documents))


def test_a_unigram_folder_gives_the_ids_of_transformers_but_for_control_tokens_in_text(tmp_path: Path) -> None:
    """transformers lets a Unigram model build `<s>` out of text even when asked not to; we do not."""
    documents = trained.documents(trained.unigram(), bos="<s>", eos="</s>")
    tokenizer, reference = Tokenizer(spec_from_hf(documents)), load(tmp_path, documents)
    assert differing(tokenizer.encode_control, control_ids(reference)) == []
    apart = differing(tokenizer.encode, literal_ids(reference))
    assert apart and all("<s>" in text or "</s>" in text or "<unk>" in text for text in apart)


@pytest.mark.parametrize("name", ["qwen2", "llama-bpe", "smollm"])
def test_a_folder_written_from_gguf_gives_the_same_ids(name: str, tmp_path: Path) -> None:
    spec = spec_from_gguf(to_gguf(spec_from_hf(trained.documents(trained.of_family(name)))))
    assert_same(spec, load(tmp_path, to_hf(spec)))


@pytest.mark.parametrize("prefix", [True, False])
def test_a_sentencepiece_folder_written_from_gguf_gives_the_same_ids(prefix: bool, tmp_path: Path) -> None:
    made = trained.documents(trained.sentencepiece(prefix=prefix), bos="<s>", eos="</s>")
    spec = spec_from_gguf(to_gguf(spec_from_hf(made)))
    assert_same(spec, load(tmp_path, to_hf(spec)))


def test_a_written_folder_adds_bos_where_ours_does(tmp_path: Path) -> None:
    made = trained.documents(trained.sentencepiece(prefix=True), bos="<s>", eos="</s>")
    spec = spec_from_gguf(to_gguf(spec_from_hf(made)))
    tokenizer, reference = Tokenizer(spec), load(tmp_path, to_hf(spec))
    assert reference.encode("hello") == tokenizer.with_bos(tokenizer.encode("hello"))
    assert reference.encode("hello")[0] == spec.bos_token_id


@pytest.mark.real
@pytest.mark.parametrize("each", [7, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("alias", ["smollm2", "qwen2.5-coder:0.5b"])
def test_a_real_gguf_vocabulary_loads_in_transformers_with_the_same_ids(
    alias: str, each: int, real_model: Callable[[str], Path], tmp_path: Path
) -> None:
    spec = spec_from_gguf(gguf.read(real_model(alias)).metadata)
    assert_same(spec, load(tmp_path, to_hf(spec)), each=each)


def test_a_wrong_split_rule_is_seen(tmp_path: Path) -> None:
    documents = trained.documents(trained.of_family("qwen2"))
    tables = spec_from_gguf(to_gguf(spec_from_hf(documents)))
    tokenizer = Tokenizer(replace(tables, pre="gpt-2"))
    assert len(differing(tokenizer.encode, literal_ids(load(tmp_path, documents)))) > 100
