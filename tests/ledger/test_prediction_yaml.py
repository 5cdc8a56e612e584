"""YAML as hostile input."""

from __future__ import annotations

from pathlib import Path

import pytest

from apr.errors import PredictionError
from apr.ledger import _prediction_yaml

HERE = Path("p.yaml")


def test_every_key_knows_its_line() -> None:
    found = _prediction_yaml.load(HERE, b"a: 1\nb:\n  c: 2\n  d: [x]\n")
    assert found == {"a": 1, "b": {"c": 2, "d": ["x"]}}
    assert found.lines == {"a": 1, "b": 2} and found["b"].line == 3 and found["b"].lines == {"c": 3, "d": 4}


def test_a_part_may_be_named_and_used_again() -> None:
    assert _prediction_yaml.load(HERE, b"a: &x {b: 1}\nc: *x\n") == {"a": {"b": 1}, "c": {"b": 1}}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: 1\nb: 2\na: 3\n", "line 3: is no YAML: the key 'a' stands here twice"),
        (b"a: [1\n", "line 2: is no YAML"),
        (b"1: a\n", "line 1: is no YAML: the key 1 is no text"),
        (b"- a\n", "is a list, expected a mapping"),
        (b"", "is nothing, expected a mapping"),
        (b"a: \xff\n", "byte 3: is not UTF-8"),
        (b"a: !!python/object/apply:os.system [id]\n", "could not determine a constructor"),
        (
            b"a: {<<: {b: 1}}\n",
            "line 1: is no YAML: could not determine a constructor for the tag 'tag:yaml.org,2002:merge'",
        ),
        (b"c: 2016-99-99\n", "number or date that is none"),
        (b"a: " + b"[" * 20000, "line 1: is nested over 32 deep"),
        (b"#" * (1 << 20) + b"\n", "expected at most 1048576"),
        (b"a: &x 1\nb: [" + b"*x, " * 200 + b"]\n", "line 2: has over 100 aliases"),
        (b"a: 1\n---\nb: 2\n", "line 2: is no YAML"),
        (b"a: \x00\n", "is no YAML"),
    ],
)
def test_broken_input_gets_one_clear_error(content: bytes, said: str) -> None:
    with pytest.raises(PredictionError) as raised:
        _prediction_yaml.load(HERE, content)
    assert said in str(raised.value) and str(raised.value).startswith("p.yaml: ") and raised.value.exit_code == 3
