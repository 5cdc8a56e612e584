"""A tokenizer read from one format and written to another is the same tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from apr.formats import gguf
from apr.tokenizer.from_apr import spec_from_apr
from apr.tokenizer.from_gguf import spec_from_gguf
from apr.tokenizer.from_hf import spec_from_hf
from apr.tokenizer.spec import TokenizerSpec
from apr.tokenizer.to_apr import to_apr
from apr.tokenizer.to_gguf import to_gguf
from apr.tokenizer.to_hf import to_hf
from apr.tokenizer.tokenizer import Tokenizer
from tokenizer import trained
from tokenizer.battery import battery

TEXTS = battery()[::3]


def made(name: str) -> TokenizerSpec:
    """A spec with tables: byte-level `name`, or SentencePiece with or without a leading space."""
    if name.startswith("spm"):
        documents = trained.documents(trained.sentencepiece(prefix=name == "spm-prefix"), bos="<s>", eos="</s>")
    else:
        documents = trained.documents(trained.of_family(name), chat_template="{{ messages }}")
    return spec_from_gguf(to_gguf(spec_from_hf(documents)))


NAMES = ("qwen2", "llama-bpe", "smollm", "deepseek-llm", "spm-prefix", "spm-plain")


def ids(spec: TokenizerSpec, texts: Sequence[str] = TEXTS) -> list[Any]:
    tokenizer = Tokenizer(spec)
    return [(tokenizer.encode(text), tokenizer.with_bos(tokenizer.encode_control(text))) for text in texts]


@pytest.mark.parametrize("name", NAMES)
def test_gguf_to_apr_and_back_is_the_same_spec(name: str) -> None:
    spec = made(name)
    assert spec_from_apr(to_apr(spec)) == replace(spec, pre=spec.pre if spec.kind == "bpe" else "default")


@pytest.mark.parametrize("name", NAMES)
def test_gguf_to_apr_keeps_ids_and_hash(name: str) -> None:
    spec = made(name)
    again = spec_from_apr(to_apr(spec))
    assert ids(again) == ids(spec)
    assert Tokenizer(again).sha256 == Tokenizer(spec).sha256


@pytest.mark.parametrize("name", NAMES)
def test_gguf_to_gguf_is_the_same_spec(name: str) -> None:
    spec = made(name)
    assert spec_from_gguf(to_gguf(spec)) == spec


@pytest.mark.parametrize("name", NAMES)
def test_gguf_to_hf_keeps_ids_template_and_special_ids(name: str) -> None:
    spec = made(name)
    again = spec_from_hf(to_hf(spec))
    assert ids(again) == ids(spec)
    fields = ("bos_token_id", "eos_token_id", "unk_token_id", "stop_token_ids", "add_bos", "add_eos", "chat_template")
    assert [getattr(again, f) for f in fields] == [getattr(spec, f) for f in fields]


@pytest.mark.parametrize("name", ["qwen2", "llama-bpe", "smollm", "deepseek-llm"])
def test_a_byte_level_folder_has_the_hash_of_the_gguf_made_from_it(name: str) -> None:
    spec = spec_from_hf(trained.documents(trained.of_family(name)))
    assert Tokenizer(spec).sha256 == Tokenizer(spec_from_gguf(to_gguf(spec))).sha256


@pytest.mark.real
@pytest.mark.parametrize("each", [20, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("alias", ["smollm2", "qwen2.5-coder:0.5b"])
def test_a_real_vocabulary_keeps_ids_and_hash(alias: str, each: int, real_model: Callable[[str], Path]) -> None:
    spec = spec_from_gguf(gguf.read(real_model(alias)).metadata)
    again = spec_from_apr(to_apr(spec))
    assert again == spec
    assert Tokenizer(again).sha256 == Tokenizer(spec).sha256
    assert ids(spec_from_hf(to_hf(spec)), TEXTS[::each]) == ids(spec, TEXTS[::each])
