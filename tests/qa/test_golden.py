"""The oracle of the golden set: exact about numbers, words, denials and pieces of templates."""

from __future__ import annotations

import pytest

from apr.qa import _golden

BY_ID = {(golden.regime, golden.id): golden for golden in _golden.GOLDEN}
SUM = BY_ID["chat", "two and two"]
JAPAN = BY_ID["chat", "japan"]


@pytest.mark.parametrize(
    "text",
    [
        "4",
        "The answer is 4.",
        "2 + 2 = 4",
        "2+2=4",
        "2+2 equals 4.",
        "It is four.",
        "Two plus two is four",
        "**4**",
        "The answer is 4.\n5 more questions?",
        "<think>5? No.</think>\n\n4",
    ],
)
def test_a_right_sum_passes_and_its_place_is_that_of_the_answer(text: str) -> None:
    place = _golden.answer(SUM, text)
    assert place is not None and text[place.start : place.end].lower() in ("4", "four")


@pytest.mark.parametrize(
    "text",
    [
        "14",
        "The answer is 14.",
        "2+2=5, not 4",
        "5 (4 is wrong)",
        "not 4",
        "It isn't 4.",
        "4.5",
        "40",
        "4,000",
        "-4",
        "",
        "2 + 2",
        "!!!!",
        "<think>4",
    ],
)
def test_what_only_holds_the_digit_is_no_pass(text: str) -> None:
    assert _golden.answer(SUM, text) is None


@pytest.mark.parametrize(
    ("text", "is_right"),
    [
        ("Tokyo", True),
        ("The capital of Japan is **Tokyo**.", True),
        ("Kyoto, and later Tokyo", False),
        ("Not Tokyo but Kyoto", False),
        ("It is not Kyoto, it is Tokyo", True),
        ("Tokyoite", False),
        ("I cannot say.", False),
    ],
)
def test_a_rival_before_the_answer_and_a_denial_are_no_pass(text: str, is_right: bool) -> None:
    assert (_golden.answer(JAPAN, text) is not None) is is_right


@pytest.mark.parametrize(
    ("name", "text", "is_right"),
    [
        ("count", " 8, 9, 10", True),
        ("count", " 80, 90", False),
        ("count", " 7, 8", False),
        ("france", " Paris.", True),
        ("france", " a city called Paris", False),
        ("key", 'age": 25}', True),
        ("add", " + b\n", True),
        ("add", " - b\n", False),
        ("letters", " H, I", True),
        ("letters", " Hello", False),
    ],
)
def test_a_continuation_begins_with_the_answer(name: str, text: str, is_right: bool) -> None:
    assert (_golden.answer(BY_ID["raw", name], text) is not None) is is_right


@pytest.mark.parametrize(
    ("text", "piece"),
    [
        ("banana<|im_edn|>", "<|im_edn|>"),
        ("assistant\nThe capital is Tokyo.", "assistant"),
        ("4 [/INST] more", "[/INST]"),
        ("4</s>", "</s>"),
        ("The assistant\nsaid 4", None),
        ("a < b | c > d", None),
    ],
)
def test_pieces_of_a_template_are_seen(text: str, piece: str | None) -> None:
    assert _golden.leak(text, "What is 2+2?") == piece


def test_markup_that_the_question_has_is_no_leak() -> None:
    assert _golden.leak("It means <|im_end|> there.", "What is <|im_end|>?") is None


def test_every_prompt_is_asked_once_and_none_holds_its_answer() -> None:
    assert len(BY_ID) == len(_golden.GOLDEN)
    for golden in _golden.GOLDEN:
        if golden.regime == "chat":
            assert _golden.answer(golden, golden.prompt) is None or golden.id in ("repeat", "name"), golden
