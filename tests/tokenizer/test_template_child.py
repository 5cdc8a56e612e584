"""The loop that the rendering process runs, run here over buffers."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from apr.tokenizer import _template_child, _template_process


@pytest.fixture(autouse=True)
def no_limit_on_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_template_child, "resource", None)


def answers(*requests: dict[str, Any]) -> list[dict[str, str]]:
    incoming = b""
    for request in requests:
        body = json.dumps({"context": {}, "now": "2026-01-02T03:04:05", **request}).encode()
        incoming += len(body).to_bytes(8, "big") + body
    out = io.BytesIO()
    _template_child.serve(io.BytesIO(incoming), out, limits=["RLIMIT_AS"])
    found, raw = [], out.getvalue()
    while raw:
        end = 8 + int.from_bytes(raw[:8], "big")
        found.append(json.loads(raw[8:end]))
        raw = raw[end:]
    assert found[0] == {"text": "RLIMIT_AS"}
    return found[1:]


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("{{ raise_exception('no') }}", "raised"),
        ("{{", "syntax"),
        ("{{ ''.__class__.x }}", "security"),
        ("{% set ns = namespace(_x=1) %}", "security"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
        ("{% for i in range(99) %}{{ 'x' * 99999 }}{% endfor %}", "output"),
        ("{{ '\\ud800' }}", "surrogate"),
        ("{{ nothing.x.y }}", "failed"),
        ("{{ 1 // 0 }}", "failed"),
    ],
)
def test_every_failure_has_its_word(source: str, kind: str) -> None:
    (answer,) = answers({"source": source})
    assert answer["error"] == kind


def test_one_request_does_not_change_the_next() -> None:
    source = "{% set x = (x or 0) + 1 %}{{ x }}{% set ns = namespace(y=1) %}{% set ns.y = 2 %}"
    assert answers({"source": source}, {"source": source}) == [{"text": "1"}, {"text": "1"}]


def test_the_clock_is_that_of_the_request() -> None:
    assert answers({"source": "{{ strftime_now('%H:%M') }}"}) == [{"text": "03:04"}]


def test_a_long_message_of_a_template_is_cut() -> None:
    (answer,) = answers({"source": "{{ raise_exception('x' * 10000) }}"})
    assert len(answer["message"]) == _template_child.MESSAGE_CHARS


def test_a_message_that_is_no_text_is_still_a_message() -> None:
    assert answers({"source": "{{ raise_exception(7) }}"}) == [{"error": "raised", "message": "7"}]


def test_both_sides_have_the_same_caps() -> None:
    assert _template_child.OUTPUT_BYTES == _template_process.OUTPUT_BYTES
    assert _template_child.LENGTH_BYTES == _template_process.LENGTH_BYTES
