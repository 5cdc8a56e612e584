"""Patterns as hostile input: what `re` finds is found, what never ends is ended, what would fill the memory is refused."""

from __future__ import annotations

import re
import time
import warnings

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from apr.errors import UsageError
from apr.ledger import _pattern

TEXTS = (
    "",
    "a",
    "aa\n",
    "b\na",
    "{e}",
    "a{e}",
    "[:a]",
    "a]",
    "0{,2}",
    "é ß",
    "apache-2.0\n",
    "def f(n):\n    return n",
)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize(
    "pattern",
    [
        r"\n    +return\b",
        r"(?i)^APACHE-2\.0$",
        r"^(?P<x>a)(?P=x)$",
        r"(?<!b)\na\Z",
        r"(?m)^a$",
        r"(?s)b.a",
        "a{e}",
        "a{e<=1}",
        r"\{e}",
        "[{]e",
        "a{1,}",
        "a{,2}$",
        "0{,}",
        "a{}",
        r"\w ß",
        r"\<",
        r"a{1}{e}",
        "(?x) a # {e}",
        r"\\{e}",
        r"a*+a",
        r"(?>a+)",
        "",
    ],
)
def test_what_re_finds_is_found(pattern: str, text: str) -> None:
    try:
        expected = re.search(pattern, text) is not None
    except re.error:  # `a{1}{e}` and the like
        with pytest.raises(UsageError, match="is no regular expression"):
            _pattern.is_found(pattern, text)
        return
    assert _pattern.is_found(pattern, text) == expected


@given(
    pattern=st.text("ab(){}[]|*+?.\\^$,012eid<=:-!# \nwsbdAZ", max_size=12), text=st.text("ab{e}012,: \n", max_size=9)
)
@example("[a{e}]", "a")
@settings(max_examples=400, deadline=None)
def test_any_pattern_is_refused_or_read_as_re_reads_it(pattern: str, text: str) -> None:
    if _pattern.problem(pattern):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert _pattern.is_found(pattern, text) == (re.search(pattern, text) is not None)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [(r"(a|aa)+$", "a" * 60 + "b"), (r"(.*?,){25}P", "1," * 60), (r"(x+x+)+y", "x" * 20_000)],
)
def test_a_search_that_would_not_end_is_ended_and_named(pattern: str, text: str) -> None:
    start = time.process_time()
    with pytest.raises(UsageError, match="gave no answer in 1 s") as raised:
        _pattern.is_found(pattern, text)
    assert repr(pattern) in str(raised.value) and time.process_time() - start < 3


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (3, "is no text"),
        (None, "is no text"),
        ("(", "is no regular expression: missing )"),
        ("a{99999999999}", "is no regular expression: the repetition number is too large"),
        ("x" * 1001, "has 1,001 characters"),
        ("(((((a{100}){100}){100}){100}){100})", "counts that come to over 500,000"),
        ("[[a]]", "can be read in two ways"),
        ("[x[:alpha:]]", "can be read in two ways"),
        ("[a--b]", "can be read in two ways"),
    ],
)
def test_what_is_not_searched_for_says_why(pattern: object, said: str) -> None:
    assert said in _pattern.problem(pattern)


@pytest.mark.parametrize(
    "pattern", [r"\d{4}-\d{2}-\d{2}", r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", r"(\w+\s){3,200}", r"^.{0,4000}$"]
)
def test_everyday_counts_are_none_of_that(pattern: str) -> None:
    assert _pattern.problem(pattern) == ""


def test_a_deep_nest_is_searched_for_or_refused_and_nothing_else() -> None:
    try:
        assert _pattern.is_found("(" * 499 + "a" + ")" * 499, "a")
    except UsageError as exc:
        assert "recursion" in str(exc)
