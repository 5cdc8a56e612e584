"""Defects of the chat template, in the file and in the engine that renders it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from apr.engines._base import Voice
from mutants._patient import Patient
from mutants.mutant import Edit, Mutant, Plant, Planted, Ward, planted, surgery

_GENERATION = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
_CONTENT_ONLY = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
_LAST_ONLY = "{{ messages[-1]['content'] }}"
_CHATML = "llama/gguf qwen2/safetensors qwen3/apr"


def mutants() -> list[Mutant]:
    """Those of the twins."""
    return [*_of_files(_CHATML, "qwen2/gguf llama/safetensors"), *_other_families(), *_of_engines()]


def real() -> list[Mutant]:
    """Those of the real models."""
    smol, qwen = "smollm2/gguf", "qwen2.5-coder:0.5b/gguf"
    return [
        *planted("template.removed", f"{smol} {qwen}", surgery(_remove), "template.missing", links="template"),
        *planted("template.content_only", smol, surgery(_become(_CONTENT_ONLY)), "template.not_applied", links="template"),
        *planted("template.header_changed", f"{smol} {qwen}", surgery(_replace("<|im_start|>", "<|start|>")), "template.text", links="template"),
        *planted("template.newline_lost", qwen, surgery(_replace("'<|im_start|>assistant\\n'", "'<|im_start|>assistant'")), "template.text", links="template"),
        *planted("template.default_system_changed", qwen, surgery(_replace("You are Qwen", "You are a pirate")), "template.text", links="template"),
    ]  # fmt: skip


def _of_files(sites: str, two: str) -> list[Mutant]:
    broken = "a template that cannot be rendered is as good as none; its text is what differs"
    return [
        *planted("template.removed", sites, surgery(_remove), "template.missing", links="template"),
        *planted("template.blank_added", sites, surgery(_replace("+ '\\n' + message['content']", "+ '\\n ' + message['content']")), "template.text", links="template"),
        *planted("template.newline_lost", two, surgery(_replace("'<|im_end|>' + '\\n'", "'<|im_end|>'")), "template.text", links="template"),
        *planted("template.header_changed", sites, surgery(_replace("'<|im_start|>'", "'<|im_begin|>'")), "template.text", links="template"),
        *planted("template.role_changed", two, surgery(_replace("message['role']", "('human' if message['role'] == 'user' else message['role'])")), "template.text", links="template"),
        *planted("template.end_lost", two, surgery(_replace("message['content'] + '<|im_end|>'", "message['content']")), "template.text", links="template"),
        *planted("template.generation_prompt_lost", sites, surgery(_replace(_GENERATION, "")), "template.generation_prompt", links="template"),
        *planted("template.generation_prompt_changed", two, surgery(_replace("<|im_start|>assistant\\n", "<|im_start|>model\\n")), "template.generation_prompt template.text",
                 links="template", reason="the answer's header is text of the template too"),
        *planted("template.content_only", sites, surgery(_become(_CONTENT_ONLY)), "template.not_applied", links="template"),
        *planted("template.last_message_only", two, surgery(_become(_LAST_ONLY)), "template.not_applied template.text",
                 links="template", reason="the last message as it stands is a template that is not applied, and text that is lost"),
        *planted("template.rendered_twice", sites, surgery(_twice), "template.double", links="template"),
        *planted("template.header_twice", two, surgery(_replace("'<|im_start|>' + message['role'] + '\\n' +", "'<|im_start|>' + message['role'] + '\\n' + '<|im_start|>' + message['role'] + '\\n' +")), "template.double template.text",
                 links="template", reason="a doubled header is the template's text, twice"),
        *planted("template.history_dropped", "qwen3/gguf", surgery(_replace("for message in messages %}", "for message in messages[-1:] %}")), "template.text", links="template"),
        *planted("template.broken_syntax", "llama/gguf qwen2/safetensors", surgery(_replace("{% endfor %}", "")), "template.missing template.text", links="template", reason=broken),
        *planted("template.refuses", "qwen3/gguf", surgery(_become("{{ raise_exception('no') }}")), "template.missing template.text template.not_applied", links="template", reason=broken),
    ]  # fmt: skip


def _other_families() -> list[Mutant]:
    begin = "the template writes the beginning of text, so that both name the fault"
    return [
        *planted("template.default_system_lost", "qwen2/gguf qwen2/safetensors", surgery(_no_default_system), "template.text", links="template"),
        *planted("template.default_system_changed", "qwen2/apr", surgery(_replace("Answer in one line.", "Answer in two lines.")), "template.text", links="template"),
        *planted("template.system_dropped", "llama/gguf qwen3/safetensors", surgery(_no_system), "template.text", links="template"),
        *planted("template.bos_lost", "mistral/gguf gemma3_text/safetensors", surgery(_replace("{{ bos_token }}", "")), "template.text tokenizer.bos", links="template tokenizer", reason=begin),
        *planted("template.bos_twice", "mistral/safetensors gemma3_text/gguf", surgery(_replace("{{ bos_token }}", "{{ bos_token }}{{ bos_token }}")), "template.double template.text tokenizer.bos", links="template tokenizer", reason=begin),
        *planted("template.blank_lost", "mistral/gguf mistral/apr", surgery(_replace("'[INST] '", "'[INST]'")), "template.text", links="template"),
        *planted("template.trim_lost", "gemma3_text/gguf", surgery(_replace(" | trim", "")), "template.text", links="template"),
        *planted("template.role_name_lost", "gemma3_text/apr", surgery(_replace("('model' if message['role'] == 'assistant' else message['role'])", "message['role']")), "template.text", links="template"),
        *planted("template.generation_prompt_lost", "gemma3_text/gguf phi3/gguf", surgery(_no_generation), "template.generation_prompt", links="template"),
        *planted("template.content_only", "gemma3_text/gguf phi3/safetensors", surgery(_become(_CONTENT_ONLY)), "template.not_applied", links="template"),
    ]  # fmt: skip


def _of_engines() -> list[Mutant]:
    silent = "a raw prompt that is wrapped is another question, and a template where none was asked for"
    return [
        *planted("template.raw_is_wrapped", "qwen2/gguf llama/safetensors", _voice(_WrapsRaw), "harness template.double template.not_applied template.text", links="tokens template", reason=silent),
        *planted("template.formatted_is_wrapped", "qwen2/gguf llama/gguf", _voice(_WrapsFormatted), "template.double", links="tokens template"),
        *planted("template.engine_ignores_it", "qwen2/safetensors llama/gguf", _voice(_IgnoresTemplate), "template.not_applied", links="template tokens"),
        *planted("template.engine_loses_last_newline", "qwen3/gguf", _voice(_StripsPrompt), "template.text template.generation_prompt", links="template tokens",
                 reason="the newline that is lost ends the answer's header"),
        *planted("template.engine_reads_control_as_text", "qwen2/gguf qwen3/apr", _voice(_ControlIsText), "tokenizer.special", links="tokens tokenizer"),
        *planted("template.engine_adds_bos", "mistral/gguf gemma3_text/gguf", _voice(_AddsBos), "tokenizer.bos template.double", links="tokens tokenizer",
                 reason="the second beginning of text is the tokenizer's, and doubles the template's"),
        *planted("template.engine_drops_bos", "mistral/safetensors phi3/gguf", _voice(_DropsBos), "tokenizer.bos", links="tokens tokenizer"),
    ]  # fmt: skip


def _remove(patient: Patient) -> None:
    patient.set_template(None)


def _become(text: str) -> Edit:
    return lambda patient: patient.set_template(text)


def _replace(old: str, new: str) -> Edit:
    def edit(patient: Patient) -> None:
        text = patient.template() or ""
        assert old in text, f"{old!r} is not in the template"
        patient.set_template(text.replace(old, new))

    return edit


def _twice(patient: Patient) -> None:
    text = patient.template() or ""
    patient.set_template(text + text)


def _no_default_system(patient: Patient) -> None:
    text = patient.template() or ""
    patient.set_template(text[text.index("{% endif %}") + len("{% endif %}") :])


def _no_system(patient: Patient) -> None:
    text = patient.template() or ""
    patient.set_template(
        text.replace("for message in messages %}", "for message in messages if message['role'] != 'system' %}")
    )


def _no_generation(patient: Patient) -> None:
    text = patient.template() or ""
    patient.set_template(text[: text.index("{% if add_generation_prompt %}")])


class _Voice:
    """An engine's own way with text: ours, which subclasses spoil."""

    def __init__(self, inner: Voice) -> None:
        self.inner = inner

    def encode(self, text: str) -> list[int]:
        return self.inner.encode(text)

    def encode_rendered(self, text: str) -> list[int]:
        return self.inner.encode_rendered(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        return self.inner.decode(token_ids)

    def render(self, messages: Sequence[Mapping[str, Any]]) -> str | None:
        return self.inner.render(messages)

    def close(self) -> None:
        self.inner.close()


class _WrapsRaw(_Voice):
    def encode(self, text: str) -> list[int]:
        wrapped = self.inner.render([{"role": "user", "content": text}])
        return self.inner.encode_rendered(wrapped or text)


class _WrapsFormatted(_Voice):
    def encode_rendered(self, text: str) -> list[int]:
        wrapped = self.inner.render([{"role": "user", "content": text}])
        return self.inner.encode_rendered(wrapped or text)


class _IgnoresTemplate(_Voice):
    def render(self, messages: Sequence[Mapping[str, Any]]) -> str | None:
        return "\n".join(message["content"] for message in messages)


class _StripsPrompt(_Voice):
    def render(self, messages: Sequence[Mapping[str, Any]]) -> str | None:
        text = self.inner.render(messages)
        return None if text is None else text.rstrip("\n")


class _ControlIsText(_Voice):
    def encode_rendered(self, text: str) -> list[int]:
        return self.inner.encode(text)


class _AddsBos(_Voice):
    def encode_rendered(self, text: str) -> list[int]:
        ids = self.inner.encode_rendered(text)
        return [ids[0], *ids]


class _DropsBos(_Voice):
    def encode(self, text: str) -> list[int]:
        return self.inner.encode(text)[1:]


def _voice(spoiled: Callable[[Voice], Voice]) -> Plant:
    """A planter that spoils how the candidate's engine reads and writes."""

    def plant(ward: Ward, mutant: Mutant) -> Planted:
        path = ward.healthy(mutant.variant, mutant.format)
        reference, candidate = ward.subject(path), ward.subject(path, name="spoiled")
        # the attribute that `Subject.voice` fills when it is first asked for
        vars(candidate)["voice"] = spoiled(candidate.voice)
        return Planted(reference, candidate)

    return plant
