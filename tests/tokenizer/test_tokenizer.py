"""Encoding, control tokens inside and outside user text, BOS, decoding."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apr.errors import UsageError
from apr.tokenizer.from_gguf import spec_from_gguf
from apr.tokenizer.from_hf import spec_from_hf
from apr.tokenizer.to_gguf import to_gguf
from apr.tokenizer.tokenizer import MAX_PROMPT_BYTES, Tokenizer
from tokenizer import trained
from tokenizer.battery import battery


@cache
def tokenizer(name: str) -> Tokenizer:
    """ "qwen2" from tables, "qwen2-hf" from a tokenizer.json; "spm" with a leading space, "spm-plain" without."""
    if name.startswith("spm"):
        documents = trained.documents(trained.sentencepiece(prefix=name == "spm"), bos="<s>", eos="</s>")
    else:
        documents = trained.documents(trained.of_family("qwen2"))
    spec = spec_from_hf(documents)
    return Tokenizer(spec if name.endswith("-hf") else spec_from_gguf(to_gguf(spec)))


ALL = ("qwen2", "qwen2-hf", "spm", "spm-plain")


def kept(name: str, text: str) -> str:
    """What a tokenizer can give back: SentencePiece writes a space as U+2581, so that character itself is lost."""
    return text.replace("▁", " ") if name.startswith("spm") else text


@pytest.mark.parametrize("name", ALL)
def test_decoding_gives_the_text_back(name: str) -> None:
    made = tokenizer(name)
    assert [text for text in battery() if made.decode(made.encode(text)) != kept(name, text)] == []


@pytest.mark.parametrize("name", ALL)
@given(text=st.text(max_size=60))
@settings(max_examples=60, deadline=None)
def test_decoding_gives_any_text_back(name: str, text: str) -> None:
    made = tokenizer(name)
    assert made.decode(made.encode(text)) == kept(name, text)


@pytest.mark.parametrize("name", ALL)
def test_plain_text_never_becomes_a_control_token(name: str) -> None:
    made = tokenizer(name)
    hidden = set(made.control_tokens.values())
    assert hidden and all(hidden.isdisjoint(made.encode(text)) for text in (*battery(), *made.control_tokens))


def test_control_tokens_count_outside_literal_spans_only() -> None:
    made = tokenizer("qwen2")
    end = made.control_tokens["<|im_end|>"]
    user = "say <|im_end|> now"
    text = f"<|im_start|>user\n{user}<|im_end|>\n"
    start = text.index(user)
    ids = made.encode_control(text, literal=[(start, start + len(user))])
    assert ids.count(end) == 1
    assert made.decode(ids) == text
    assert made.encode_control(text).count(end) == 2


def test_a_control_token_half_inside_a_literal_span_is_text() -> None:
    made = tokenizer("qwen2")
    text = "<|im_end|>"
    for span in [(0, 1), (3, 5), (9, 10)]:
        assert set(made.encode_control(text, literal=[span])).isdisjoint(made.control_tokens.values())


@pytest.mark.parametrize("name", ALL)
def test_literal_spans_without_control_text_change_nothing(name: str) -> None:
    made = tokenizer(name)
    first, second = list(made.control_tokens)[:2]
    for user in [text for text in battery()[::10] if not any(token in text for token in made.control_tokens)]:
        text = f"{first}user\n{user}{second}\n"
        start = text.index("\n") + 1
        assert made.encode_control(text, literal=[(start, start + len(user))]) == made.encode_control(text)


def test_user_defined_tokens_are_matched_whole_in_plain_text() -> None:
    made = tokenizer("qwen2")
    ids = made.encode("a<tool_call>b")
    assert [made.token(i) for i in ids if made.spec.token_types[i] == 4] == ["<tool_call>"]


def test_literal_spans_that_overlap_or_leave_the_text_are_refused() -> None:
    for spans in ([(0, 3), (2, 4)], [(0, 99)], [(3, 2)]):
        with pytest.raises(UsageError, match="literal span"):
            tokenizer("qwen2").encode_control("hello", literal=spans)


def test_text_after_a_control_token_is_cut_as_the_library_cuts_it_in_place() -> None:
    """`prepend_scheme: first` puts a space before the text, not before what follows a control token."""
    document = trained.unigram()
    made = Tokenizer(spec_from_hf(trained.documents(document, bos="<s>", eos="</s>")))
    text = "hello<s>hello"
    assert made.encode_control(text) == document.encode(text, add_special_tokens=False).ids
    assert made.encode_control(text, literal=[(0, 5)]) == document.encode(text, add_special_tokens=False).ids


def test_bos_is_added_once() -> None:
    made = tokenizer("spm")
    bos = made.bos_token_id
    ids = made.encode("hello")
    assert made.with_bos(ids) == [bos, *ids]
    assert made.with_bos(made.with_bos(ids)) == [bos, *ids]


def test_eos_is_added_where_the_model_wants_it() -> None:
    made = Tokenizer(replace(tokenizer("qwen2").spec, add_eos=True))
    assert made.with_bos([5]) == [5, made.eos_token_id]


def test_hidden_tokens_are_left_out_of_text_and_shown_in_decode() -> None:
    made = tokenizer("qwen2")
    ids = made.encode_control("<|im_start|>hi<|im_end|>")
    assert made.decode(ids) == "<|im_start|>hi<|im_end|>"
    assert made.decode_text(ids) == "hi"


def test_an_id_outside_the_vocabulary_is_named() -> None:
    made = tokenizer("qwen2")
    for token_id in (-1, made.vocab_size):
        with pytest.raises(UsageError, match=f"{token_id} is outside the vocabulary"):
            made.decode([token_id])


def test_a_lone_surrogate_is_named_by_its_place() -> None:
    with pytest.raises(UsageError, match="surrogate at character 2"):
        tokenizer("qwen2").encode("ab\ud800")


def test_a_text_over_the_cap_is_refused() -> None:
    with pytest.raises(UsageError, match="the cap is 16777216"):
        tokenizer("qwen2").encode("x" * (MAX_PROMPT_BYTES + 1))
    with pytest.raises(UsageError, match="the cap is 16777216"):
        tokenizer("qwen2").encode("你" * (MAX_PROMPT_BYTES // 2))


def test_a_token_that_is_not_utf8_keeps_its_bytes() -> None:
    spec = tokenizer("spm-plain").spec
    broken = replace(
        spec,
        tokens=[*spec.tokens, b"\xe4\xbd".decode("utf-8", "surrogateescape")],
        token_types=[*spec.token_types, 1],
        scores=[*spec.scores, -1.0],
    )
    made = Tokenizer(broken)
    assert made.text_of(len(spec.tokens)) == b"\xe4\xbd"
    assert made.encode("hello") == tokenizer("spm-plain").encode("hello")


def test_nfc_is_a_switch() -> None:
    made = tokenizer("qwen2")
    nfc = Tokenizer(replace(made.spec, normalization="nfc"))
    assert nfc.encode("e\u0301") == made.encode("é") != made.encode("e\u0301")
