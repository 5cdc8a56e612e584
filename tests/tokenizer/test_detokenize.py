"""Text from a stream of tokens."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apr.tokenizer.detokenize import StreamingDetokenizer
from apr.tokenizer.tokenizer import Tokenizer
from tokenizer.battery import battery
from tokenizer.test_tokenizer import ALL, tokenizer


def streamed(stream: StreamingDetokenizer, token_ids: Sequence[int]) -> str:
    return "".join([stream.put(token_id) for token_id in token_ids] + [stream.finish()])


@pytest.mark.parametrize("name", ALL)
def test_a_stream_gives_the_text_of_the_whole(name: str) -> None:
    made = tokenizer(name)
    for text in battery()[::2]:
        ids = made.encode_control(text)
        assert streamed(made.stream(), ids) == made.decode_text(ids)
        assert streamed(made.stream_all(), ids) == made.decode(ids)


@pytest.mark.parametrize("name", ALL)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_any_ids_stream_to_the_text_of_the_whole(name: str, data: st.DataObject) -> None:
    """Byte tokens in any order make invalid UTF-8 often."""
    made = tokenizer(name)
    ids = data.draw(st.lists(st.one_of(st.integers(0, 300), st.integers(0, made.vocab_size - 1)), max_size=40))
    assert streamed(made.stream(), ids) == made.decode_text(ids)
    assert streamed(made.stream_all(), ids) == made.decode(ids)


def bytes_of(made: Tokenizer, data: bytes) -> list[int]:
    """Ids of single bytes."""
    table = {made.text_of(token_id): token_id for token_id in range(made.vocab_size)}
    return [table[bytes([byte])] for byte in data]


def test_a_character_appears_with_its_last_byte() -> None:
    made = tokenizer("qwen2")
    stream = made.stream()
    assert [stream.put(token_id) for token_id in bytes_of(made, "😀é".encode())] == ["", "", "", "😀", "", "é"]
    assert stream.finish() == ""


def test_half_a_character_is_replaced_at_the_end_only() -> None:
    made = tokenizer("qwen2")
    stream = made.stream()
    assert [stream.put(token_id) for token_id in bytes_of(made, b"a\xf0\x9f")] == ["a", "", ""]
    assert stream.finish() == "\ufffd"


def test_bytes_that_can_never_be_a_character_are_replaced_at_once() -> None:
    made = tokenizer("qwen2")
    stream = made.stream()
    assert [stream.put(token_id) for token_id in bytes_of(made, b"\xffa\xe4b")] == ["\ufffd", "a", "", "\ufffdb"]


def test_a_leading_space_is_dropped_once_and_kept_after_text() -> None:
    made = tokenizer("spm")
    ids = made.encode("hello") + made.encode("hello")
    assert streamed(made.stream(), ids) == "hello hello"
    assert streamed(made.stream_after_text(), ids) == " hello hello"
