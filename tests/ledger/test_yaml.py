"""YAML with lines: values, spellings, places, and hostile documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from apr.errors import ContractError, PredictionError
from apr.ledger import _yaml

PATH = Path("contract.yaml")


def parsed(text: str) -> _yaml.Tree:
    return _yaml.parse(text.encode(), PATH)


def test_every_value_knows_its_line() -> None:
    tree = parsed("# a comment\nmetadata:\n  version: 1.0.0\ntests:\n  - id: A\n    check: {gate: x}\n")
    assert tree.line("metadata", "version") == 3
    assert tree.line("tests", 0, "id") == 5
    assert tree.line("tests", 0, "check", "gate") == 6
    assert tree.line("tests", 0, "nothing", "here") == 5


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: 1\nb: {<<: {c: 1}}\n", 2, "a merge (<<)"),
        ("a: 1\nb: !!python/object/apply:os.system [id]\n", 2, "tag:yaml.org,2002:python/object/apply:os.system"),
        ("a: !!binary aGk=\n", 1, "tag:yaml.org,2002:binary"),
        ("!mine {a: 1}\n", 1, "the tag '!mine'"),
    ],
)
def test_merges_and_tags_are_told_with_their_line(text: str, line: int, said: str) -> None:
    ((found_line, found),) = parsed(text).unusual
    assert found_line == line and said in found


def test_an_everyday_document_has_nothing_unusual() -> None:
    assert parsed("a: [1, 2.5, x, null, yes, ~, 2026-01-01, =]\n'<<': 1\nb: |\n  t\nc: &c {}\nd: *c\n").unusual == ()


def test_the_reader_of_a_form_has_its_own_error() -> None:
    for data in (b"", b"a: [1\n", b"\xff", b"? [1]\n: 2\n", b"[" * 500 + b"]" * 500, b"[" * 5000, bomb()):
        with pytest.raises(PredictionError, match=r"^p\.yaml: ") as raised:
            _yaml.parse(data, Path("p.yaml"), PredictionError)
        assert raised.value.exit_code == 3


def test_a_version_keeps_its_spelling() -> None:
    tree = parsed("version: 1.10\n")
    assert tree.texts[("version",)] == "1.10" and tree.value["version"] == 1.1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2026-05-10", "2026-05-10"),
        ("1e-6", 1e-6),
        ("1.0e-6", 1e-6),
        ("8_000", 8000),
        ("yes", "yes"),
        ("true", True),
        ("~", None),
        ("007", 7),
        ('"1"', "1"),
        ("1:30", "1:30"),
        ("-.5", -0.5),
        ("1" * 5000, "1" * 5000),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    found = parsed(f"a: {text}").value["a"]
    assert found == value and type(found) is type(value)


def test_plain_documents_are_read_as_pyyaml_reads_them() -> None:
    text = (
        "a: [1, 2.5, x, null, true]\nb:\n  c: 'd'\n  e: |\n    two\n    lines\nf: &x {g: 1}\nh: *x\ni: {<<: *x, j: 2}\n"
    )
    assert parsed(text).value == yaml.safe_load(text)


def test_a_key_that_stands_twice_is_reported() -> None:
    tree = parsed("a: 1\nb: 2\na: 3\n")
    assert tree.duplicates == ((("a",), 3),) and tree.value["a"] == 3


def bomb() -> bytes:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    return "\n".join(lines).encode()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty document"),
        (b"# only a comment\n", "empty document"),
        (b"a: [1, 2\nb: 3\n", "no YAML"),
        (b"a: b: c\n", "no YAML"),
        (b"\xff\xfea\x00", "not UTF-8"),
        (b"a: \x00", "no YAML"),
        (b"? [1, 2]\n: 3\n", "keys are text"),
        (b"a\n---\nb\n", "no YAML"),
        (b"a: &a [*a]\n", "no YAML|nested deeper"),
        (b"[" * 500 + b"]" * 500, "nested deeper"),
        (b"[" * 100_000, "nested deeper|no YAML"),
        (b"x" * (_yaml.LONGEST_BYTES + 1), "at most"),
        (bomb(), "aliases counted"),
    ],
    ids=lambda v: v[:12].decode("latin-1") if isinstance(v, bytes) else None,
)
def test_what_is_no_contract_gets_one_clear_error(data: bytes, said: str) -> None:
    with pytest.raises(ContractError, match=said):
        _yaml.parse(data, PATH)


def test_a_tag_makes_no_object() -> None:
    assert parsed("a: !!python/object/apply:os.system [echo]\n").value == {"a": ["echo"]}


def test_an_error_names_the_line() -> None:
    with pytest.raises(ContractError, match=r"^contract\.yaml:3: no YAML"):
        parsed("a: 1\nb: 2\nc: d: e\n")


@pytest.mark.parametrize("loader", [yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)])
def test_both_parsers_see_the_same(loader: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_yaml, "_loader", lambda text: loader)
    text = "a: 1\n'2': '3'\n<<: {m: ~}\nb: |\n  4\nc: [5, \"6\", true]\na: 7\n"
    tree = parsed(text)
    assert tree.value == {"a": 7, "2": "3", "m": None, "b": "4\n", "c": [5, "6", True]}
    assert tree.lines[("c", 1)] == 6 and tree.lines[("b",)] == 4 and tree.duplicates == ((("a",), 7),)
    with pytest.raises(ContractError, match=r"^contract\.yaml:2: no YAML"):
        parsed("a: 1\nb: c: d\n")


@pytest.mark.parametrize(
    "text", ["- " * 50_000 + "x", "? " * 50_000 + "x", "\n".join(" " * i + "a:" for i in range(900)), "[" * 800]
)
def test_deep_nests_of_every_kind_are_refused(text: str) -> None:
    with pytest.raises(ContractError, match=r"nested deeper|no YAML"):
        parsed(text)
