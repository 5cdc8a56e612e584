"""Right answers pass; wrong ones, near ties, leaks and endless answers each get their code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import scripted
from apr.engines import fake
from apr.engines._subject import Subject
from apr.qa import _golden, gate
from apr.qa._judged import Judged
from apr.qa.gate import GateResult
from judged_models import codes
from scripted import Asked, Script

GATE = "golden_output"


def right() -> dict[Asked, str]:
    """The first accepted answer to everything."""
    return {
        Asked(g.prompt, g.regime): (f" {g.answers[0]}" if g.regime == "raw" and g.id != "key" else g.answers[0])
        for g in _golden.GOLDEN
    }


def judged(path: Path, script: Script, profile: str = "smoke", **options: Any) -> GateResult:
    subject = Subject(path, loader=script.loader(**options), activations="int8", threads=1)
    with Judged(subject, profile=profile) as judged:
        return gate.run(profile, judged, only=(GATE,)).gates[0]


def real(subject: Subject) -> GateResult:
    with Judged(subject, profile="smoke") as judged:
        return gate.run("smoke", judged, only=(GATE,)).gates[0]


@pytest.mark.parametrize("profile", ["smoke", "release"])
def test_a_model_that_answers_right_passes(profile: str, tmp_path: Path) -> None:
    path = scripted.write(tmp_path)
    result = judged(path, Script(path, right()), profile)
    assert result.status == "pass", result.message
    assert {f.code for f in result.findings} == {"answers", "no-leak", "stops"}
    raw = result.findings[0]
    assert raw.measure["right_share"] == 1.0 and raw.interval is not None and raw.interval[0] > 0.7


@pytest.mark.parametrize(("regime", "answer"), [("chat", "It is 14, or Kyoto."), ("raw", " nothing"), ("raw", " 14")])
def test_wrong_answers_under_one_regime_fail_and_name_it(regime: str, answer: str, tmp_path: Path) -> None:
    path = scripted.write(tmp_path)
    result = judged(path, Script(path, {a: answer if a.regime == regime else t for a, t in right().items()}))
    assert codes(result) == {("fail", "wrong-answers")}
    assert next(f for f in result.findings if f.status == "fail").where["regime"] == regime


def test_an_answer_decided_by_less_than_rounding_is_not_admitted(tmp_path: Path) -> None:
    path = scripted.write(tmp_path)
    result = judged(path, Script(path, right()), margin=0.5, noise=0.4)
    assert codes(result) == {("undecided", "too-few-admitted")}
    assert result.measure["margin_needed"] > 0.5 and result.coverage is not None and result.coverage.n == 0


def test_a_wrong_answer_that_was_nearly_the_right_one_is_not_admitted_either(tmp_path: Path) -> None:
    path = scripted.write(tmp_path)
    good, bad = Script(path, right()), Script(path, dict.fromkeys(right(), " nothing"))

    def nearly(session: scripted.ScriptedSession) -> None:
        session.second = good.next  # type: ignore[method-assign]

    result = judged(path, bad, change=nearly, margin=0.5, noise=0.4)
    assert ("undecided", "too-few-admitted") in codes(result) and ("fail", "wrong-answers") not in codes(result)


def test_an_exact_engine_has_a_floor_too(tmp_path: Path) -> None:
    path = scripted.write(tmp_path)
    subject = Subject(path, loader=Script(path, right()).loader(), activations="float32", threads=1)
    assert real(subject).status == "pass"


def test_pieces_of_the_template_in_answers_fail(tmp_path: Path) -> None:
    path = scripted.write(tmp_path)
    answers = {a: f"{t}<|im_edn|>" if a.regime == "chat" else t for a, t in right().items()}
    assert ("fail", "template-leak") in codes(judged(path, Script(path, answers)))


def test_answers_that_never_end_fail(tmp_path: Path) -> None:
    path = scripted.write(tmp_path)
    answers = {asked: f"{text} it is. " for asked, text in right().items()}
    assert codes(judged(path, Script(path, answers, ends=False))) == {("fail", "never-stops")}


def test_a_base_model_is_asked_to_continue_texts_only(tmp_path: Path) -> None:
    path = scripted.write(tmp_path, chat_template=None)
    answers = {a: t for a, t in right().items() if a.regime == "raw"}
    result = judged(path, Script(path, answers))
    assert result.status == "pass" and {f.code for f in result.findings} == {"answers", "raw-only"}


def test_a_model_that_means_nothing_fails(tmp_path: Path) -> None:
    with Judged(Subject(scripted.write(tmp_path), "fake", loader=fake.load), profile="smoke") as subject:
        assert gate.run("smoke", subject, only=(GATE,)).gates[0].status == "fail"


@pytest.mark.real
@pytest.mark.parametrize("alias", ["smollm2", pytest.param("qwen2.5-coder:0.5b", marks=pytest.mark.slow)])
def test_real_models_answer_right(alias: str, real_model: Callable[[str], Path]) -> None:
    result = real(Subject(real_model(alias), activations="int8"))
    assert result.status == "pass", [(f.code, f.message) for f in result.findings]


def _swapped(first: str, second: str) -> Callable[[Subject], Subject]:
    def swap(subject: Subject) -> Subject:
        places = subject.checkpoint.tensors
        return subject.with_tensors({first: places[second], second: places[first]})

    return swap


def _interleaved(subject: Subject) -> Subject:
    places = subject.checkpoint.tensors.items()
    return subject.with_tensors({n: replace(p, row_order=None) for n, p in places if "q_proj" in n or "k_proj" in n})


class _ZeroBias:
    """A file whose biases are gone."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def array(self, name: str) -> np.ndarray:
        return np.zeros_like(self.file.array(name))

    raw = array


def _no_bias(subject: Subject) -> Subject:
    places = subject.checkpoint.tensors.items()
    zero: Any = _ZeroBias
    return subject.with_tensors({n: replace(p, file=zero(p.file)) for n, p in places if n.endswith("bias")})


def _theta(value: float) -> Callable[[Subject], Subject]:
    return lambda subject: subject.with_config(replace(subject.config, rope_theta=value))


O = "model.layers.{}.self_attn.o_proj.weight"  # noqa: E741 - the name of the projection


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize(
    ("alias", "spoil"),
    [
        ("smollm2", _swapped(O.format(0), O.format(1))),
        ("smollm2", _swapped("model.layers.5.mlp.down_proj.weight", "model.layers.6.mlp.down_proj.weight")),
        ("smollm2", _interleaved),
        ("smollm2", _theta(100.0)),
        ("qwen2.5-coder:0.5b", _no_bias),
        ("qwen2.5-coder:0.5b", _theta(100.0)),
    ],
    ids=["o swapped", "down swapped", "rows interleaved", "theta", "no bias", "qwen theta"],
)
def test_a_spoiled_real_model_answers_wrong(
    alias: str, spoil: Callable[[Subject], Subject], real_model: Callable[[str], Path]
) -> None:
    result = real(spoil(Subject(real_model(alias), activations="int8")))
    assert ("fail", "wrong-answers") in codes(result), [(f.code, f.message) for f in result.findings]


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("alias", ["smollm2", "qwen2.5-coder:0.5b"])
def test_a_mangled_template_shows_in_the_answers(alias: str, real_model: Callable[[str], Path]) -> None:
    from apr.engines._language_model import template_of

    subject = Subject(real_model(alias), activations="int8")
    assert subject.spec.chat_template is not None
    text = subject.spec.chat_template.replace("<|im_start|>", "<|im_strat|>").replace("<|im_end|>", "<|im_edn|>")
    mangled = subject.with_stop(subject.stop_token_ids)
    vars(mangled)["template"] = template_of(subject.file, replace(subject.spec, chat_template=text), subject.tokenizer)
    assert {code for status, code in codes(real(mangled)) if status == "fail"} & {"template-leak", "never-stops"}
