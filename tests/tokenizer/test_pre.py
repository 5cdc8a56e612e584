"""The table of pre-tokenizers."""

from __future__ import annotations

import pytest
from tokenizers import Regex, pre_tokenizers

from apr.errors import UnsupportedError
from apr.tokenizer import pre


def cut(name: str, text: str) -> list[str]:
    splits = [pre_tokenizers.Split(Regex(regex), "isolated") for regex in pre.rules(name).regexes]
    return [piece for piece, _ in pre_tokenizers.Sequence(splits).pre_tokenize_str(text)]


@pytest.mark.parametrize("name", pre.names())
def test_cutting_loses_nothing(name: str) -> None:
    text = "Hello World's 12345 一二三 ab\n\n  x <|im_end|> नमस्ते 😀"
    assert "".join(cut(name, text)) == text


@pytest.mark.parametrize(
    ("name", "pieces"),
    [
        ("gpt-2", ["x", "  ", " 1234", " abc", "'s"]),
        ("smollm", ["x", "   ", "1", "2", "3", "4", " abc", "'s"]),
        ("qwen2", ["x", "  ", " ", "1", "2", "3", "4", " abc", "'s"]),
        ("llama-bpe", ["x", "  ", " ", "123", "4", " abc", "'s"]),
        ("superbpe", ["x   ", "1", "234", " abc's"]),
    ],
)
def test_known_names_cut_as_their_models_do(name: str, pieces: list[str]) -> None:
    assert cut(name, "x   1234 abc's") == pieces


def test_transformers_own_regexes_are_the_tables() -> None:
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    for name, regex in GGUF_PRE_TOKENIZER_SPLITS.items():
        assert pre.rules(name).regexes == (regex,), name


def test_ignore_merges_and_implied_bos_are_llama_cpps() -> None:
    families = {pre.family(name) for name in pre.names()}
    assert {f for f in families if pre.rules(f).add_bos} == {"llama-bpe", "tekken", "chameleon"}
    expected = {"llama-bpe", "tekken", "youtu", "minicpm5", "granite-embed-multi-97m"}
    assert {f for f in families if pre.rules(f).ignore_merges} == expected


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnsupportedError, match=r"'klingon'.*known:.*qwen2"):
        pre.rules("klingon")


def test_default_is_not_among_the_names() -> None:
    assert "default" not in pre.names()


def test_detection_finds_every_family_and_nothing_else() -> None:
    for name in {pre.family(name) for name in pre.names()}:
        rules = pre.rules(name)
        assert pre.detect(rules.regexes, ignore_merges=rules.ignore_merges) == name
    assert pre.detect([r"\w+"], ignore_merges=False) is None
    assert pre.detect(pre.rules("qwen2").regexes, ignore_merges=True) is None


def test_detection_takes_other_spellings_of_one_regex() -> None:
    spelled_out = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
    regex = pre.rules("qwen2").regexes[0].replace(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)", spelled_out)
    assert pre.detect([regex], ignore_merges=False) == "qwen2"
    assert pre.detect([pre.rules("gpt-2").regexes[0] + r"|\s+"], ignore_merges=False) == "gpt-2"
