"""The template link: what a planted change makes of the prompts is named; another text that writes the same is no alarm."""

from __future__ import annotations

from pathlib import Path

import pytest

from apr.parity import template
from apr.parity._batteries import CONVERSATIONS, NOW
from mutants._patient import Patient
from mutants.models import Stock
from parity.static_pairs import Edit, compared, found, healthy, operated, pair_of

HEADER = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"


def becomes(text: str | None) -> Edit:
    return lambda patient: patient.set_template(text)


def replaced(old: str, new: str) -> Edit:
    def edit(patient: Patient) -> None:
        text = patient.template() or ""
        assert old in text
        patient.set_template(text.replace(old, new))

    return edit


def twice(patient: Patient) -> None:
    patient.set_template(2 * (patient.template() or ""))


PLANTED = [
    ("removed", becomes(None), "template.missing"),
    ("content only", becomes("{% for m in messages %}{{ m['content'] }}{% endfor %}"), "template.not_applied"),
    ("header lost", replaced(HEADER, ""), "template.generation_prompt"),
    ("header always", replaced(HEADER, "{{ '<|im_start|>assistant\\n' }}"), None),
    ("header twice", replaced(HEADER, HEADER + "{{ '<|im_start|>assistant\\n' }}"), "template.generation_prompt"),
    ("rendered twice", twice, "template.double"),
    ("a begin before all", replaced("{% for", "{{ '<|im_start|>' }}{% for"), "template.double"),
    ("a blank", replaced("+ '\\n' + message['content']", "+ '\\n ' + message['content']"), "template.text"),
    ("a header's newline lost", replaced("assistant\\n", "assistant"), "template.text"),
    ("broken", replaced("{% endfor %}", ""), "template.text"),
]


@pytest.mark.parametrize("site", ["llama/gguf", "qwen3/apr", "llama/safetensors"])
@pytest.mark.parametrize(("name", "edit", "cause"), PLANTED, ids=[name for name, *_ in PLANTED])
def test_a_planted_change_is_named_and_its_counterfactual_agrees(
    site: str, name: str, edit: Edit, cause: str | None, stock: Stock, tmp_path: Path
) -> None:
    with pair_of(stock, tmp_path, site, edit) as pair:
        if cause is None:  # every conversation is rendered to be answered: what it is without is not looked at
            assert template.compare(pair).verdict == "same"
        else:
            assert found(template, pair).cause == cause


def test_the_first_difference_is_shown_with_its_lines(stock: Stock, tmp_path: Path) -> None:
    with pair_of(stock, tmp_path, "llama/gguf", replaced("'<|im_end|>'", "'<|im_stop|>'")) as pair:
        result = template.compare(pair)
        where = result.findings[0].where
        text = result.measure["differences"][0]["reference"]
        assert text[where["text_offset"] :].startswith("end|>")
        assert "<|im_end|>" in where["reference"] and "<|im_stop|>" in where["candidate"]
        assert where["n_different"] == result.measure["n_conversations"] >= 12


@pytest.mark.parametrize("variant", ["llama", "mistral", "qwen2", "gemma3_text", "phi3"])
def test_three_formats_of_one_model_are_no_alarm(variant: str, stock: Stock) -> None:
    for file_format in ("gguf", "apr"):
        result = compared(template, stock.path(variant, "safetensors"), stock.path(variant, file_format))
        assert result.verdict == "same" and result.measure["n_conversations"] >= 12, result.sentence


def test_another_text_that_writes_the_same_is_a_note(stock: Stock, tmp_path: Path) -> None:
    def comment(patient: Patient) -> None:
        patient.set_template(
            "{#- by hand -#}\n" + (patient.template() or "").replace("message['role']", "message.role")
        )

    with pair_of(stock, tmp_path, "llama/gguf", comment) as pair:
        result = template.compare(pair)
        assert result.verdict == "same" and "different texts" in result.measure["notes"][0]


def test_two_models_without_a_template_leave_nothing_to_compare(stock: Stock, tmp_path: Path) -> None:
    bare = operated(stock, tmp_path, "llama/gguf", becomes(None))
    assert compared(template, bare, bare).verdict == "skipped"
    assert compared(template, bare, stock.path("llama", "gguf")).findings[0].cause == "template.text"


def test_our_renderings_are_those_of_jinja_itself(stock: Stock) -> None:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    from parity.static_pairs import subject

    with subject(stock.path("qwen2", "gguf")) as one:
        assert one.template is not None
        plain = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(one.template.source)
        for conversation in CONVERSATIONS:
            messages = [dict(message) for message in conversation.messages]
            ours = one.template.render(messages, strftime_now=NOW).text
            assert ours == plain.render(messages=messages, add_generation_prompt=True)


def test_a_copy_that_nothing_was_done_to_is_no_alarm(stock: Stock, tmp_path: Path) -> None:
    with pair_of(stock, tmp_path, "llama/gguf", healthy) as pair:
        assert template.compare(pair).verdict == "same"
