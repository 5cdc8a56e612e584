"""Scripts of letters, and bytes read in the wrong code."""

from __future__ import annotations

import pytest

from apr.qa import _scripts


@pytest.mark.parametrize(
    ("letter", "script"),
    [
        ("a", "LATIN"),
        ("ß", "LATIN"),
        ("я", "CYRILLIC"),
        ("中", "CJK"),
        ("の", "CJK"),
        ("한", "CJK"),
        ("λ", "GREEK"),
        ("Ａ", "LATIN"),
    ],
)
def test_the_script_of_a_letter(letter: str, script: str) -> None:
    assert _scripts.script(letter) == script


def test_letters_that_are_signs_are_of_no_script() -> None:
    assert set(_scripts.scripts("µ𝐱ℝ²")) <= {"OTHER", "LATIN"}


def test_words_that_change_their_script_within_are_a_drift() -> None:
    assert 4 in [at for at, _ in _scripts.drift("helloпривет worldмир timeчас treeдуб", "say it")]
    assert list(_scripts.drift("iPhone手机 Python语言 AI模型 GPU卡 我们", "你好")) == []


def test_misread_bytes_are_counted_by_the_characters_they_were() -> None:
    assert [n for *_, n in _scripts.misread("crÃ¨me brÃ»lÃ©e")] == [1, 1, 1]
    assert list(_scripts.misread("crème brûlée")) == []
