"""The glance misses nothing that the audit finds."""

from __future__ import annotations

from pathlib import Path

import pytest

from apr.tokenizer._template_glance import worth_parsing
from apr.tokenizer.chat_template import suspicious
from tokenizer.templates_conversations import HOSTILE

# each finding of the audit, spelled as inconspicuously as it can be
SPELLINGS = (
    "{{ x.mro }}",
    "{{ x.gi_code }}",
    "{{ x['\\x5f\\x5fclass'] }}",
    "{{ x['\\u005f\\u005fclass'] }}",
    "{% set f = 'a'.format %}",
    "{{ x|attr('a') }}",
    "{{ self }}",
    "{{ 'a'.center(0xFFFFF) }}",
    "{{ range(9_9999) }}",
    "{{ 'a' * 99999 }}",
    "{{ 99 * 99 * 99 }}",
    "{{ 9 ** 9 }}",
    "{% include 'x' %}",
)


@pytest.mark.parametrize(
    "source", [*SPELLINGS, *(HOSTILE[name] for name in sorted(HOSTILE))], ids=range(len(SPELLINGS) + len(HOSTILE))
)
def test_whatever_the_audit_finds_is_worth_parsing(source: str) -> None:
    found = [
        finding for finding in suspicious(source) if "not valid Jinja" not in finding and "not parsed" not in finding
    ]
    assert worth_parsing(source) or not found


@pytest.mark.parametrize("source", SPELLINGS)
def test_the_spellings_are_found_by_the_audit(source: str) -> None:
    assert suspicious(source)


def test_some_real_templates_need_no_parsing() -> None:
    templates = [p.read_text(encoding="utf-8") for p in (Path(__file__).parent / "templates").glob("*.jinja")]
    assert sum(not worth_parsing(t) for t in templates) > 3
