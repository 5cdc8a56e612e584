"""The tree of errors: drawn as it is, with exit codes and reason codes."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from apr import errors
from apr.errors import AprError, FormatError, InternalError, MissingDependency, UnsupportedError

CLASSES = {name: c for name, c in vars(errors).items() if inspect.isclass(c) and issubclass(c, Exception)}


def drawn() -> dict[str, tuple[str, str]]:
    """Name -> (parent, text) of each line of the docstring's tree."""
    tree: dict[str, tuple[str, str]] = {}
    path: list[tuple[int, str]] = []
    for indent, name, text in re.findall(r"^( +)([A-Z]\w+)  +(.+)$", errors.__doc__ or "", flags=re.MULTILINE):
        while path and path[-1][0] >= len(indent):
            path.pop()
        tree[name] = (path[-1][1] if path else "Exception", text)
        path.append((len(indent), name))
    return tree


def test_every_class_stands_in_the_tree_below_its_base() -> None:
    assert {name: parent for name, (parent, _) in drawn().items()} == {
        n: c.__bases__[0].__name__ for n, c in CLASSES.items()
    }


@pytest.mark.parametrize("name", [n for n in CLASSES if n != "InternalError"])
def test_exit_codes_are_those_of_the_tree(name: str) -> None:
    tree = drawn()
    at, said = name, None
    while said is None and at in tree:
        found = re.search(r"exit (\d)(?! unless)", tree[at][1])
        at, said = tree[at][0], int(found.group(1)) if found else None
    assert CLASSES[name].exit_code == (said or 2)


@pytest.mark.parametrize("name", [n for n in CLASSES if n != "InternalError"])
def test_every_code_is_the_name_in_kebab_case(name: str) -> None:
    made = CLASSES[name].__new__(CLASSES[name])
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", made.code)
    assert made.code.replace("-", "") == name.lower()


def test_codes_are_distinct_and_stable() -> None:
    assert (
        FormatError("f", "m").code == "format-error"
        and errors.TensorOutOfBounds("f", "m").code == "tensor-out-of-bounds"
    )


def test_a_format_error_says_where() -> None:
    error = FormatError("model.gguf", "wrong", offset=12)
    assert str(error) == "model.gguf: byte 12: wrong" and error.offset == 12 and error.path == Path("model.gguf")
    assert str(FormatError("model.gguf", "wrong")) == "model.gguf: wrong"
    assert str(FormatError("model.gguf", "wrong", offset=0)) == "model.gguf: byte 0: wrong"


def test_an_unsupported_error_lists_what_there_is() -> None:
    assert str(UnsupportedError("no x", known=["a", "b"])) == "no x; known: a, b"
    assert UnsupportedError("no x").known == () and str(UnsupportedError("no x")) == "no x"


def test_a_missing_dependency_says_what_to_install() -> None:
    assert "pip install 'apr[transformers]'" in str(MissingDependency("torch", extra="transformers"))


def test_a_bug_of_ours_is_no_error_of_the_users() -> None:
    assert not issubclass(InternalError, AprError)
