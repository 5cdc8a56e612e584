"""Templates that lose, double, split or attack, each planted; healthy ones of every family."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny
from apr.qa.gates import chat_template
from judged_models import alarms, codes, judged, named, one, speaking
from mutants.models import Stock

GATE = "chat_template"
SPEC = tiny.spec()
NO_PROMPT = tiny.CHATML.split("{% if add_generation_prompt")[0]
TEMPLATES: dict[str, tuple[str | None, set[tuple[str, str]]]] = {
    "no template": (None, {("fail", "missing")}),  # it stops at <|im_end|>
    "drops the message": (
        "<|im_start|>{% if add_generation_prompt %}x{% endif %}",
        {("fail", "message-lost")},
    ),
    "last message only": (
        "{{ messages[-1]['content'] }}{% if add_generation_prompt %}\nA:{% endif %}",
        {("fail", "message-lost")},
    ),
    "drops the system message": (
        tiny.CHATML.replace("for message in messages %}", "for message in messages if message.role != 'system' %}"),
        {("fail", "message-lost")},
    ),
    "hostile": (
        tiny.CHATML + "{% if false %}{{ ''.__class__.__mro__ }}{% endif %}",
        {("fail", "suspicious")},
    ),
    "no generation prompt": (NO_PROMPT, {("fail", "generation-prompt")}),
    "adds nothing": (
        "{% for m in messages %}{{ m.content }}{% endfor %}",
        {("fail", "not-applied")},
    ),
    "rendered twice": (tiny.CHATML + tiny.CHATML, {("fail", "double")}),
    "header twice": (
        tiny.CHATML.replace(
            "'<|im_start|>' + message['role'] + '\n' +", "('<|im_start|>' + message['role'] + '\n') * 2 +"
        ),
        {("fail", "double")},
    ),
    "a marker of another model": (
        tiny.CHATML.replace("'<|im_start|>'", "'<|im_begin|>'"),
        {("fail", "unknown-marker")},
    ),
    "refuses": ("{{ raise_exception('no') }}", {("fail", "template-error")}),
    "fails on empty content": (
        tiny.CHATML + "{% if not messages[0].content %}{{ raise_exception('empty') }}{% endif %}",
        {("fail", "template-error")},
    ),
    "fails on several turns": (
        tiny.CHATML + "{% if messages | length > 1 %}{{ 1 // 0 }}{% endif %}",
        {("fail", "template-error")},
    ),
    "never ends": (
        tiny.CHATML + "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        {("fail", "suspicious"), ("fail", "template-error")},
    ),
    "not Jinja": ("{% for %}", {("fail", "suspicious"), ("fail", "template-error")}),
}
HEALTHY = {
    "refuses a system message": "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    + tiny.CHATML,
    "answers follow at once": "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% elif m.role == 'system' %}{{ m.content }}{% else %} {{ m.content }}</s>{% endif %}{% endfor %}",
    "markers of roles that are text": "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|endoftext|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
    "system message before the last question": "{% for m in messages %}{% if m.role == 'user' %}<|im_start|>"
    "{% if loop.last and messages[0].role == 'system' %}{{ messages[0].content }}\n{% endif %}{{ m.content }}<|im_end|>"
    "{% elif m.role == 'assistant' %}{{ m.content }}<|endoftext|>{% endif %}{% endfor %}",
}


@pytest.mark.parametrize(
    ("name", "file_format"),
    [
        *((name, "gguf") for name in TEMPLATES),
        *((name, "safetensors") for name in list(TEMPLATES)[:6]),
        ("hostile", "apr"),
    ],
)
def test_each_defect_has_its_code(name: str, file_format: str, tmp_path: Path) -> None:
    source, expected = TEMPLATES[name]
    path = speaking(tmp_path, file_format, dataclasses.replace(SPEC, chat_template=source))
    assert codes(one(path, GATE)) == expected


@pytest.mark.parametrize("name", HEALTHY)
@pytest.mark.parametrize("file_format", ["gguf", "apr"])
def test_unusual_templates_that_are_right_pass(name: str, file_format: str, tmp_path: Path) -> None:
    path = speaking(tmp_path, file_format, dataclasses.replace(SPEC, chat_template=HEALTHY[name]))
    result = one(path, GATE)
    assert codes(result) == set()
    refused = {f.code for f in result.findings} & {"no-system-role"}
    assert bool(refused) == (name == "refuses a system message")


def test_a_second_beginning_of_text_is_found(tmp_path: Path) -> None:
    source = "{{ bos_token }}{{ bos_token }}" + tiny.CHATML
    spec = dataclasses.replace(SPEC, chat_template=source, bos_token_id=SPEC.tokens.index("<|endoftext|>"))
    assert {("fail", "double-bos")} <= codes(one(speaking(tmp_path, "gguf", spec), GATE))


@pytest.mark.parametrize("file_format", ["gguf", "apr"])
def test_a_marker_that_is_an_ordinary_token_is_found(file_format: str, tmp_path: Path) -> None:
    from mutants._patient import open_patient

    patient = open_patient(tiny.write(tmp_path / "healthy", file_format))
    patient.make_normal(patient.token_id("<|im_start|>"))
    assert ("fail", "special") in codes(one(patient.save(tmp_path / "sick"), GATE))


def test_a_control_token_that_is_cut_into_text_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from apr.tokenizer.tokenizer import Tokenizer

    monkeypatch.setattr(Tokenizer, "encode_control", lambda self, text, **_: self.encode(text))
    assert ("fail", "control-split") in codes(one(tiny.write(tmp_path, "gguf"), GATE))


def test_an_instruct_model_without_a_template_fails(tmp_path: Path) -> None:
    path = speaking(tmp_path, "gguf", dataclasses.replace(SPEC, chat_template=None))
    named_so = path.rename(path.with_name("twin-1b-instruct.gguf"))
    assert codes(one(named_so, GATE)) == {("fail", "missing")}


def test_a_skipped_gate_does_not_make_a_model_fail_and_is_counted(tmp_path: Path) -> None:
    base = dataclasses.replace(SPEC, chat_template=None, eos_token_id=SPEC.tokens.index("<|endoftext|>"))
    report = judged(speaking(tmp_path, "gguf", base))
    assert (report.verdict, report.counts["skip"]) == ("pass", 1) and alarms(report) == {GATE}
    assert named(report)[GATE].code == "none"


@pytest.mark.parametrize("variant", ["llama", "mistral", "qwen2", "gemma3_text", "phi3"])
@pytest.mark.parametrize("file_format", ["gguf", "safetensors"])
def test_healthy_templates_pass(variant: str, file_format: str, stock: Stock) -> None:
    result = one(stock.path(variant, file_format), GATE)
    assert codes(result) == set() and result.findings[-1].measure["n_shapes"] == len(chat_template.CONVERSATIONS)


@pytest.mark.real
@pytest.mark.parametrize("alias", ["smollm2", "qwen2.5-coder:0.5b"])
def test_real_templates_render_every_shape(alias: str, real_model: Callable[[str], Path]) -> None:
    result: Any = one(real_model(alias), GATE)
    assert codes(result) == set() and result.findings[-1].measure["n_refused"] == 0
