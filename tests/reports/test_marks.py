"""Every word by which something is said to stand has its mark."""

from __future__ import annotations

from typing import get_args

import pytest

from apr.ledger import _statement, standing, verify
from apr.qa import gate
from apr.reports._marks import MARKS


@pytest.mark.parametrize("words", [_statement.Status, verify.Status, gate.Status, standing.Word])
def test_every_word_has_a_mark(words: object) -> None:
    assert set(get_args(words)) - set(MARKS) == set() and get_args(words)


def test_what_decides_nothing_does_not_look_like_a_verdict() -> None:
    kept, broken = MARKS["pass"], MARKS["fail"]
    told = {word for word, mark in MARKS.items() if mark in (kept, broken)}
    assert told == {"pass", "discharged", "fail", "failed"}
