"""The static look at templates: silent on real ones, not on hostile ones."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from apr.tokenizer.chat_template import suspicious
from tokenizer.templates_conversations import HOSTILE

TEMPLATES = {path.stem: path for path in sorted((Path(__file__).parent / "templates").glob("*.jinja"))}


@pytest.mark.parametrize("name", TEMPLATES)
def test_real_templates_are_not_suspicious(name: str) -> None:
    assert suspicious(TEMPLATES[name].read_bytes().decode()) == []


# harmless to look at, dangerous only to run: their size comes from nesting or repetition at run time
QUIET = {
    "undefined globals",
    "changing the input",
    "changing a message",
    "nested loops",
    "macro that doubles",
    "string doubling",
}
QUIET |= {
    "list doubling",
    "recursive macro",
    "recursive loop",
    "huge format",
    "huge format width",
    "lone surrogate in the source",
}
QUIET |= {
    "lone surrogate made by an escape",
    "unknown filter",
    "environment of a filter",
    "deep lists",
    "deep blocks",
    "long chain",
}


@pytest.mark.parametrize("name", sorted(set(HOSTILE) - QUIET))
def test_hostile_templates_are_suspicious_without_being_rendered(name: str) -> None:
    assert suspicious(HOSTILE[name])


def test_a_finding_names_the_line_and_the_thing() -> None:
    assert suspicious("a\n{{ ''.__class__ }}") == ["line 2: attribute '__class__' leads to the interpreter's internals"]


def test_a_bomb_is_looked_at_in_no_time() -> None:
    began = time.process_time()
    assert suspicious("{{ 9 ** (9 ** (9 ** 9)) }}{{ 'A' * 10000000000 }}")
    assert time.process_time() - began < 1


def test_a_flood_of_findings_is_cut() -> None:
    found = suspicious("\n".join(["{{ x.__class__ }}"] * 100))
    assert len(found) == 51 and found[-1] == "and 50 more"
