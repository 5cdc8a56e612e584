"""Results as JSON: what becomes of each kind of value, and that nothing in it can steer a terminal."""

from __future__ import annotations

import json as standard
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from apr.reports import json


@dataclass(frozen=True)
class Thing:
    value: float
    where: Path
    schema: str = field(default="apr.thing/1")


def test_the_schema_comes_first_and_what_is_not_finite_is_null() -> None:
    assert json.dumps(Thing(float("nan"), Path("a/b"))) == '{"schema": "apr.thing/1", "value": null, "where": "a/b"}'


@given(st.text(st.characters(codec=None, exclude_categories=())))
def test_any_text_survives_and_no_steering_character_does(text: str) -> None:
    line = json.dumps({"text": text})
    assert standard.loads(line)["text"] == text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    assert not [c for c in line if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]


def test_a_saved_file_is_utf_8_whatever_is_in_it(tmp_path: Path) -> None:
    json.save({"a": "\ud800é"}, tmp_path / "x.json")
    assert standard.loads((tmp_path / "x.json").read_bytes())["a"] == "\ud800é"
