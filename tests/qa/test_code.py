"""The longest run of whole lines that is Python."""

from __future__ import annotations

import ast

import pytest

from apr.qa import _code

CUT = "def f(n):\n    return n\nx = (\n"


def test_code_that_was_cut_is_read_up_to_its_last_whole_line() -> None:
    found = _code.longest(CUT, is_cut=True)
    assert not isinstance(found, str)
    assert ast.unparse(found[0]) == "def f(n):\n    return n" and found[1] == 2


def test_code_that_was_not_cut_is_read_whole() -> None:
    assert "never closed" in str(_code.longest(CUT, is_cut=False))


@pytest.mark.parametrize(
    ("source", "is_cut", "said"),
    [
        ("", True, "there is no code"),
        ("x = '\x00'", False, "null bytes"),
        ("(" * 5000, False, "nested parentheses"),
        ("(" * 5000, True, "nested parentheses"),
        ("-" * 100_000 + "1", False, "nested too deeply"),
        ("x = (\ny = [\n", True, "never closed"),
    ],
    ids=["empty", "null", "nest", "cut nest", "signs", "first of two"],
)
def test_what_is_no_python_says_why(source: str, is_cut: bool, said: str) -> None:
    found = _code.longest(source, is_cut=is_cut)
    assert isinstance(found, str) and said in found


def test_a_function_without_a_body_is_none() -> None:
    assert _code.parsed("def f():\n    'says'\n", function="f", is_cut=False) == "f has no body"
    assert _code.parsed("def f():\n    return 1\n", function="f", is_cut=False) is None
