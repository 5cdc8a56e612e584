"""Specs from the side files of a model folder."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tokenizers import AddedToken, normalizers, pre_tokenizers

from apr.errors import TokenizerError, UnsupportedError
from apr.tokenizer.from_gguf import spec_from_gguf
from apr.tokenizer.from_hf import spec_from_hf
from apr.tokenizer.to_gguf import to_gguf
from apr.tokenizer.tokenizer import Tokenizer
from tokenizer import trained


def documents(**config: Any) -> dict[str, Any]:
    return trained.documents(trained.of_family("qwen2"), **config)


def test_types_follow_the_added_tokens() -> None:
    spec = spec_from_hf(documents())
    types = dict(zip(spec.tokens, spec.token_types, strict=True))
    assert [types[token] for token in trained.SPECIAL] == [3, 3, 3]
    assert [types[token] for token in trained.USER_DEFINED] == [4, 4]
    assert types["a"] == 1


def test_the_vocabulary_is_filled_up_to_the_embedding() -> None:
    bare = spec_from_hf(documents())
    n = len(bare.tokens)
    spec = spec_from_hf(documents(), vocab_size=n + 2)
    assert list(spec.tokens[n:]) == [f"[PAD{n}]", f"[PAD{n + 1}]"]
    assert list(spec.token_types[n:]) == [5, 5]
    assert Tokenizer(spec).sha256 == Tokenizer(bare).sha256


def test_an_embedding_that_is_too_small_is_refused() -> None:
    with pytest.raises(TokenizerError, match="embedding 10 rows"):
        spec_from_hf(documents(), vocab_size=10)


def test_every_eos_of_the_generation_config_stops() -> None:
    spec = spec_from_hf({**documents(), "generation_config.json": {"eos_token_id": [300, 301]}})
    assert {300, 301, spec.eos_token_id} <= set(spec.stop_token_ids)


def test_a_stop_id_survives_gguf() -> None:
    spec = spec_from_hf({**documents(), "generation_config.json": {"eos_token_id": [300, 301]}})
    assert spec_from_gguf(to_gguf(spec)).stop_token_ids == spec.stop_token_ids


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ("{{ a }}", "{{ a }}"),
        ([{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}], "d"),
        ({"default": "d", "rag": "r"}, "d"),
        (None, None),
    ],
)
def test_the_default_template_is_taken(found: Any, expected: str | None) -> None:
    assert spec_from_hf(documents(chat_template=found)).chat_template == expected


def test_the_template_file_wins() -> None:
    assert spec_from_hf({**documents(chat_template="old"), "chat_template.jinja": "new"}).chat_template == "new"


def test_special_tokens_may_be_objects_or_ids() -> None:
    made = documents()
    made["tokenizer_config.json"] = {"bos_token": {"content": "<|im_start|>", "lstrip": False}}
    spec = spec_from_hf({**made, "config.json": {"eos_token_id": [2, 5]}})
    assert (spec.bos_token_id, spec.eos_token_id) == (1, 2)


def test_bos_follows_the_flag_then_the_post_processor() -> None:
    made = trained.documents(trained.sentencepiece(prefix=True), bos="<s>", eos="</s>")
    assert spec_from_hf(made).add_bos is True
    made["tokenizer_config.json"]["add_bos_token"] = False
    assert spec_from_hf(made).add_bos is False


def test_added_tokens_of_the_configuration_alone_count() -> None:
    made = documents()
    n = len(spec_from_hf(made).tokens)
    made["tokenizer_config.json"]["added_tokens_decoder"] = {
        str(n): {
            "content": "<|extra|>",
            "special": True,
            "lstrip": False,
            "rstrip": False,
            "single_word": False,
            "normalized": False,
        }
    }
    tokenizer = Tokenizer(spec_from_hf(made))
    assert tokenizer.encode_control("<|extra|>") == [n]


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "no tokenizer.json"), ("{", "is not JSON"), ("[]", "has no model"), ("{}", "has no model")],
)
def test_a_bad_tokenizer_json_is_named(text: str | None, message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        spec_from_hf({"tokenizer.json": text})


def test_a_word_piece_model_is_not_done_here() -> None:
    with pytest.raises(UnsupportedError, match=r"'WordPiece'.*known: BPE, Unigram"):
        spec_from_hf({"tokenizer.json": json.dumps({"model": {"type": "WordPiece", "vocab": {"a": 0}}})})


def test_a_document_the_library_refuses_is_our_error() -> None:
    made = json.loads(documents()["tokenizer.json"])
    made["pre_tokenizer"] = {"type": "Nonsense"}
    with pytest.raises(TokenizerError, match="library refuses"):
        Tokenizer(spec_from_hf({"tokenizer.json": json.dumps(made)}))


def test_a_regex_that_runs_away_is_our_error() -> None:
    made = json.loads(trained.byte_level([r"\p{N}"]).to_str())
    made["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "(a+)+$"
    tokenizer = Tokenizer(spec_from_hf({"tokenizer.json": json.dumps(made)}))
    with pytest.raises(TokenizerError, match="gave up on a text of 29 characters"):
        tokenizer.encode("a" * 28 + "b")


def test_spaces_around_tokens_that_strip_are_taken() -> None:
    made = trained.of_family("qwen2")
    made.add_special_tokens([AddedToken("<|eats|>", lstrip=True, rstrip=True, normalized=False)])
    tokenizer = Tokenizer(spec_from_hf(trained.documents(made)))
    text = "a  <|eats|> \n b <|eats|>"
    assert tokenizer.encode_control(text) == made.encode(text, add_special_tokens=False).ids


def test_an_unknown_split_rule_cannot_become_gguf() -> None:
    spec = spec_from_hf(trained.documents(trained.byte_level([r"\w+|\W+"])))
    assert spec.pre == ""
    assert Tokenizer(spec).encode("hello")
    with pytest.raises(UnsupportedError, match=r"no GGUF pre-tokenizer.*known:.*qwen2"):
        to_gguf(spec)


def test_unigram_cannot_become_gguf() -> None:
    with pytest.raises(UnsupportedError, match="Unigram"):
        to_gguf(spec_from_hf(trained.documents(trained.unigram(), bos="<s>", eos="</s>")))


@pytest.mark.parametrize(
    ("steps", "name"),
    [
        ([pre_tokenizers.ByteLevel(add_prefix_space=False)], "gpt-2"),
        ([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)], "smollm"),
    ],
)
def test_the_librarys_own_splitters_are_recognised(steps: list[Any], name: str) -> None:
    made = trained.of_family("gpt-2")
    made.pre_tokenizer = pre_tokenizers.Sequence(steps)
    assert spec_from_hf(trained.documents(made)).pre == name


def test_a_normaliser_without_a_name_leaves_no_pre() -> None:
    made = trained.of_family("gpt-2")
    made.normalizer = normalizers.Lowercase()
    assert spec_from_hf(trained.documents(made)).pre == ""
