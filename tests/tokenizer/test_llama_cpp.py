"""Our ids against llama.cpp's, over the battery. Every difference has a name, or the test fails."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unicodedata import category

import pytest

from apr.formats import gguf
from apr.tokenizer import pre
from apr.tokenizer.byte_alphabet import CHAR_OF_BYTE
from apr.tokenizer.from_gguf import spec_from_gguf
from apr.tokenizer.from_hf import spec_from_hf
from apr.tokenizer.normalization import with_normalization
from apr.tokenizer.spec import TokenizerSpec
from apr.tokenizer.to_gguf import to_gguf
from apr.tokenizer.tokenizer import Tokenizer
from llama_oracle import LlamaCpp
from tokenizer import trained
from tokenizer.battery import battery

pytestmark = pytest.mark.parity

Reason = Callable[[str, Tokenizer], bool]


def _long_s(text: str, _: Tokenizer) -> bool:
    """`(?i:'s)` also takes U+017F; llama.cpp spells the group out for ASCII."""
    return "'\u017f" in text


def _named_end(text: str, _: Tokenizer) -> bool:
    """llama.cpp takes the literal `</s>` as a control token even where the vocabulary says normal."""
    return "</s>" in text


def _new_letter(text: str, _: Tokenizer) -> bool:
    """A letter or unassigned, by the version of Unicode."""
    return "\U0001413b" in text


def _byte_without_token(text: str, tokenizer: Tokenizer) -> bool:
    """Both engines lose such a character; the library then joins its neighbours, llama.cpp does not."""
    have = {token for token in tokenizer.spec.tokens if len(token) == 1}
    return any(CHAR_OF_BYTE[byte] not in have for byte in text.encode())


def _marks(text: str, _: Tokenizer) -> bool:
    """llama.cpp's stand-in for case-aware letter classes leaves combining marks out, and knows case for ASCII only."""
    cased = ("Lu", "Ll", "Lt", "Lm")
    return any(category(char)[0] == "M" or (category(char) in cased and not char.isascii()) for char in text)


def _wide_space(text: str, _: Tokenizer) -> bool:
    """llama.cpp's generic regex engine knows ASCII spaces only."""
    return re.search(r"[\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]", text) is not None


def _foreign_digit(text: str, _: Tokenizer) -> bool:
    """`\\d` is every decimal digit in the model's own engine, ASCII in llama.cpp's."""
    return any(char.isdigit() and not char.isascii() for char in text)


def _space_before_digit(text: str, _: Tokenizer) -> bool:
    """Spaces before a number: the digit stage cuts them off as one piece in the library; llama.cpp gives them one by one."""
    return re.search(r"\s\s", text) is not None and any(char.isnumeric() for char in text)


def unexplained(
    tokenizer: Tokenizer, oracle: LlamaCpp, texts: tuple[str, ...], reasons: tuple[Reason, ...]
) -> list[str]:
    """Texts whose ids differ, as text or with control tokens, for no reason that is known."""
    literal = zip(texts, [oracle.tokenize(text) for text in texts], map(tokenizer.encode, texts), strict=True)
    control = zip(
        texts,
        [oracle.tokenize(text, parse_special=True) for text in texts],
        map(tokenizer.encode_control, texts),
        strict=True,
    )
    differing = {text for text, theirs, ours in (*literal, *control) if theirs != ours}
    return [
        ascii(text) for text in texts if text in differing and not any(reason(text, tokenizer) for reason in reasons)
    ]


def spec_of(path: Path) -> TokenizerSpec:
    return spec_from_gguf(gguf.read(path).metadata)


@pytest.fixture(scope="module")
def smollm2(real_model: Callable[[str], Path]) -> Iterator[tuple[TokenizerSpec, LlamaCpp]]:
    path = real_model("smollm2")
    with LlamaCpp(path) as oracle:
        yield spec_of(path), oracle


EACH = [7, pytest.param(1, marks=pytest.mark.slow)]  # of the battery, every so many


@pytest.mark.real
@pytest.mark.parametrize("each", EACH)
def test_smollm2_gives_the_ids_of_llama_cpp(each: int, smollm2: tuple[TokenizerSpec, LlamaCpp]) -> None:
    spec, oracle = smollm2
    assert unexplained(Tokenizer(spec), oracle, battery()[::each], (_byte_without_token,)) == []


@pytest.mark.real
@pytest.mark.parametrize("each", EACH)
def test_qwen_gives_the_ids_of_llama_cpp(each: int, real_model: Callable[[str], Path]) -> None:
    path = real_model("qwen2.5-coder:0.5b")
    with LlamaCpp(path) as oracle:
        known = (_named_end, _new_letter, _long_s)
        assert unexplained(Tokenizer(spec_of(path)), oracle, battery()[::each], known) == []


def _wrong_pre(spec: TokenizerSpec) -> TokenizerSpec:
    return replace(spec, pre="gpt-2")


def _dropped_merges(spec: TokenizerSpec) -> TokenizerSpec:
    return replace(spec, merges=spec.merges[:-2000])


def _nfc(spec: TokenizerSpec) -> TokenizerSpec:
    return with_normalization(spec, "nfc")


@pytest.mark.real
@pytest.mark.parametrize("plant", [_wrong_pre, _dropped_merges, _nfc])
def test_a_planted_defect_is_seen(
    smollm2: tuple[TokenizerSpec, LlamaCpp], plant: Callable[[TokenizerSpec], TokenizerSpec]
) -> None:
    spec, oracle = smollm2
    assert len(unexplained(Tokenizer(plant(spec)), oracle, battery()[::7], (_byte_without_token,))) >= 5


FAMILIES: dict[str, tuple[Reason, ...]] = dict.fromkeys(sorted({pre.family(name) for name in pre.names()}), ())
FAMILIES |= dict.fromkeys(
    ("qwen2", "qwen35", "llama-bpe", "dbrx", "youtu", "bailingmoe", "seed-coder", "laguna"), (_long_s,)
)
FAMILIES |= dict.fromkeys(("exaone-moe", "minicpm5", "jais-2"), (_long_s,))
FAMILIES |= {
    "gpt-4o": (_long_s, _marks),
    "tekken": (_marks,),
    "kimi-k2": (_long_s, _marks),
    "superbpe": (_foreign_digit,),
}
FAMILIES |= {
    "granite-embed-multi-97m": (_long_s, _marks),
    "deepseek-llm": (_wide_space,),
    "deepseek-coder": (_wide_space,),
}
FAMILIES |= {"tiny_aya": (_long_s, _marks, _space_before_digit, _foreign_digit), "afmoe": (_marks, _space_before_digit)}
QUICK = ("qwen2", "llama-bpe", "gpt-2", "deepseek-v3", "tekken")


def _trained_gguf(name: str) -> dict[str, Any]:
    return to_gguf(spec_from_hf(trained.documents(trained.of_family(name))))


@pytest.mark.parametrize("name", QUICK)
def test_a_trained_vocabulary_gives_the_ids_of_llama_cpp(name: str, tmp_path: Path) -> None:
    metadata = _trained_gguf(name)
    with LlamaCpp(trained.write_gguf(tmp_path / "model.gguf", metadata)) as oracle:
        assert unexplained(Tokenizer(spec_from_gguf(metadata)), oracle, battery()[::7], FAMILIES[name]) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_every_pre_tokenizer_gives_the_ids_of_llama_cpp(name: str, tmp_path: Path) -> None:
    metadata = _trained_gguf(name)
    with LlamaCpp(trained.write_gguf(tmp_path / "model.gguf", metadata)) as oracle:
        assert unexplained(Tokenizer(spec_from_gguf(metadata)), oracle, battery(), FAMILIES[name]) == []


@pytest.mark.parametrize("each", EACH)
@pytest.mark.parametrize("prefix", [True, False])
def test_a_sentencepiece_vocabulary_gives_the_ids_of_llama_cpp(prefix: bool, each: int, tmp_path: Path) -> None:
    metadata = to_gguf(spec_from_hf(trained.documents(trained.sentencepiece(prefix=prefix), bos="<s>", eos="</s>")))
    with LlamaCpp(trained.write_gguf(tmp_path / "model.gguf", metadata)) as oracle:
        assert unexplained(Tokenizer(spec_from_gguf(metadata)), oracle, battery()[::each], ()) == []


@pytest.mark.parametrize("each", EACH)
def test_gemma_style_space_runs_give_the_ids_of_llama_cpp(each: int, tmp_path: Path) -> None:
    """Runs of spaces and newlines as user-defined tokens, spelled with real spaces, as converters write them."""
    metadata = to_gguf(spec_from_hf(trained.documents(trained.sentencepiece(prefix=False), bos="<s>", eos="</s>")))
    taken = set(metadata["tokenizer.ggml.tokens"])
    runs = [run for n in range(2, 32) for run in (" " * n, "\n" * n) if run not in taken]
    metadata["tokenizer.ggml.tokens"] += runs
    metadata["tokenizer.ggml.token_type"] += [4] * len(runs)
    metadata["tokenizer.ggml.scores"] += [-1000.0] * len(runs)
    with LlamaCpp(trained.write_gguf(tmp_path / "model.gguf", metadata)) as oracle:
        assert unexplained(Tokenizer(spec_from_gguf(metadata)), oracle, battery()[::each], ()) == []
