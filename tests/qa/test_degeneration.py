"""The detector's rates on a sample of both corpora, the specified case, and where it says that it begins."""

from __future__ import annotations

from collections import Counter

import pytest

import degeneration_corpus as corpus
from apr.qa import _degeneration
from apr.qa._degeneration import Degeneration


def found(sample: corpus.Sample) -> Degeneration | None:
    return _degeneration.find(
        sample.text, prompt=sample.prompt, token_ids=sample.token_ids, token_texts=sample.token_texts
    )


@pytest.mark.parametrize("n", [100, pytest.param(500, marks=pytest.mark.slow)])
def test_few_healthy_texts_raise_an_alarm(n: int) -> None:
    samples = corpus.clean(n, seed=1)
    assert len({sample.text for sample in samples}) == n
    wrong = Counter(sample.kind for sample in samples if found(sample))
    assert sum(wrong.values()) <= 0.005 * len(samples), wrong


def test_nearly_all_degenerate_texts_are_seen() -> None:
    samples = corpus.degenerate(500, seed=1)
    missed = Counter(sample.kind for sample in samples if not found(sample))
    assert sum(missed.values()) <= 0.02 * len(samples), missed


def test_most_outputs_of_broken_models_are_seen() -> None:
    # the rest is salad of words that neither repeats nor changes its script: golden answers show that
    samples = list(corpus.recorded())
    assert len(samples) >= 40
    assert sum(found(sample) is not None for sample in samples) >= 0.8 * len(samples)


@pytest.mark.parametrize("lead", ["", "The answer is:", "2+2 is 4.\n"])
def test_the_specified_case_is_seen_at_its_first_character(lead: str) -> None:
    one = _degeneration.find(lead + "\ns\ns" * 3)
    assert one is not None and (one.kind, one.start, one.fragment) == ("loop", len(lead), "\ns")


@pytest.mark.parametrize(
    "text",
    [
        "    " * 3 + "return x",
        "-" * 12,
        "Title\n=====\n\ntext\n" + "-" * 79 + "\n",
        "| a | b |\n|---|---|\n| 0 | 0 |\n| 0 | 0 |\n| 0 | 0 |\n",
        "你好，世界！今天天气很好。我们去公园散步吧。",
        "1000000000000000000000",
        "\n\n\n\n\n\n\n\n",
        "x = [0, 0, 0, 0, 0, 0, 0, 0]",
        "Ha ha ha! No, no, no.",
        "",
    ],
)
def test_what_repeats_by_nature_is_no_loop(text: str) -> None:
    assert _degeneration.find(text) is None


def test_the_token_where_a_loop_begins_is_told() -> None:
    pieces = [" In", " the", " evening", *[" go", " on"] * 10]
    one = _degeneration.find("".join(pieces), token_ids=range(len(pieces)), token_texts=pieces)
    assert one is not None and one.token == 3 and one.start == len("".join(pieces[:3]))
    assert "token 3" in str(one) and "times over" in str(one)


def test_a_loop_of_tokens_without_text_is_seen() -> None:
    one = _degeneration.find("", token_ids=[7] * 40, token_texts=[""] * 40)
    assert one is not None and (one.kind, one.token, one.copies) == ("token-loop", 0, 40)


def test_a_loop_that_ended_is_no_dead_loop_of_tokens() -> None:
    ids = [*[7] * 40, 1, 2, 3, 4]
    assert _degeneration.token_loop(ids) is None


def test_other_scripts_are_a_drift_unless_the_prompt_has_them() -> None:
    text = "The word is: Вечером рыбаки вернулись в гавань и долго разбирали сети."
    assert getattr(_degeneration.find(text, prompt="What is the word?"), "kind", None) == "script-drift"
    assert _degeneration.find(text, prompt="Translate: Добрый вечер, рыбаки") is None


def test_utf8_read_as_another_code_is_garbled() -> None:
    one = _degeneration.find("Ein schöner Tag für größere Bäume".encode().decode("latin-1"))
    assert one is not None and one.kind == "garbled" and one.start == len("Ein sch")
    assert _degeneration.find("Ein schöner Tag für größere Bäume") is None
