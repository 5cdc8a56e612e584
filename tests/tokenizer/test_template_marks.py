"""Marks around control tokens: put in, taken out, never forged."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from apr.tokenizer._template_marks import ControlTokens, Marks, overlapping

TOKENS = ControlTokens(["<s>", "</s>", "<|im_end|>", "<|im_end|>!", ""])
PIECES = st.lists(
    st.sampled_from(["<s>", "</s>", "<|im_end|>", "<|im", "|>", "<", ">", "a", " ", "é", "\U000f0000"])
).map("".join)


def test_the_longest_token_wins_and_tokens_do_not_overlap() -> None:
    assert TOKENS.find("x<|im_end|>!<s>") == [(1, 12), (12, 15)]


def test_pieces_of_tokens_at_the_ends_count_through_blanks() -> None:
    assert TOKENS.spans(" im_end|> x <|im ") == [(1, 9, False), (12, 16, False)]


def test_text_without_tokens_is_not_touched() -> None:
    assert TOKENS.spans("a < b > c") == [] and ControlTokens([]).spans("<s>") == []


@given(PIECES)
def test_taking_marks_out_gives_back_the_text_and_what_was_marked(text: str) -> None:
    marks = Marks(text)
    marked, places = marks.put(text, TOKENS, wanted=lambda index: True)
    plain, spans = marks.take_out(marked)
    assert plain == text
    assert [text[start:end] for start, end in spans] == [place.text for place in places]


@given(st.lists(PIECES))
def test_every_token_formed_by_joining_strings_is_covered(parts: list[str]) -> None:
    marks = Marks("".join(parts))
    marked, _ = marks.put(parts, TOKENS, wanted=lambda index: True)
    text, spans = marks.take_out("".join(marked))
    # joined from three or more strings a token may have an inner part that is no end of a string; its ends are covered
    assert overlapping(TOKENS.find(text), spans) == tuple(TOKENS.find(text))


def test_numbering_does_not_depend_on_what_is_wanted() -> None:
    value = {"role": "user", "content": ["<s>", "</s>"]}
    marks = Marks("")
    one, places = marks.put(value, TOKENS, wanted=lambda index: index == 1)
    assert [place.text for place in places] == ["<s>", "</s>"] and [place.role for place in places] == ["user"] * 2
    assert one["content"] == ["<s>", marks.start + "</s>" + marks.end]


def test_a_mark_without_its_partner_covers_the_character_at_its_side() -> None:
    marks = Marks("")
    assert marks.take_out(f"ab{marks.end}c{marks.start}d") == ("abcd", [(1, 2), (3, 4)])


def test_marks_avoid_what_the_text_holds_plain_or_escaped() -> None:
    assert Marks("\U000f0000").start == "\U000f0002"
    assert Marks(r"\udb80\udc01").start == "\U000f0002"
