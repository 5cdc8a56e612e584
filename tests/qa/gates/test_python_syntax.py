"""Code that parses, code that does not, and who is asked for any."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import scripted
from apr.engines._subject import Subject
from apr.qa import _code, gate
from apr.qa._judged import Judged
from apr.qa.gate import GateResult
from apr.qa.gates import python_syntax
from scripted import Script

GATE = "python_syntax"


def judged(path: Path, body: str, chat: str) -> GateResult:
    answers = {scripted.raw(text): body for text in python_syntax._FUNCTIONS.values()}
    answers |= {scripted.chat(text): chat.format(name=name) for name, text in python_syntax._ASKED.items()}
    with Judged(Subject(path, loader=Script(path, answers).loader(), threads=1), profile="smoke") as one:
        return gate.run("smoke", one, only=(GATE,)).gates[0]


GOOD = "```python\ndef {name}(x):\n    return x\n```"


def test_functions_that_parse_pass(tmp_path: Path) -> None:
    result = judged(scripted.write(tmp_path, name="tiny-coder.gguf"), "    return 1\n", GOOD)
    assert (result.status, result.code) == ("pass", "parses") and result.measure["parsed_share"] == 1.0


@pytest.mark.parametrize("body", ["    return (1\n", "  \t return\n 2", "", "    pass the salt\n", "\x00"])
def test_functions_that_do_not_parse_or_do_nothing_fail(body: str, tmp_path: Path) -> None:
    result = judged(scripted.write(tmp_path, name="tiny-coder.gguf"), body, GOOD)
    assert (result.status, result.code) == ("fail", "syntax") and result.findings[0].where["prompt"]


def test_a_model_that_is_no_code_model_is_skipped(tmp_path: Path) -> None:
    result = judged(scripted.write(tmp_path, name="decoder.gguf"), "", "")
    assert (result.status, result.code) == ("skip", "no-code-model") and "coder" in result.message


@pytest.mark.parametrize(
    ("name", "is_code"),
    [
        ("Qwen2.5-Coder-0.5B", True),
        ("StarCoder2 3B", True),
        ("CodeLlama-7b", True),
        ("deepseek-coder-1.3b", True),
        ("granite-3b-code-base", True),
        ("Smollm2 135M 8k", False),
        ("barcode reader", False),
        ("my encoder", False),
        ("autoencoder-decoder", False),
        ("T5 decoder", False),
    ],
)
def test_a_code_model_is_known_by_a_word_of_its_name(name: str, is_code: bool) -> None:
    assert _code._is_code(name) is is_code


def test_what_was_cut_off_counts_up_to_its_last_whole_line() -> None:
    source = "def f(x):\n    y = x\n    return (y +"
    assert _code.parsed(source, function="f", is_cut=True) is None
    assert _code.parsed(source, function="f", is_cut=False) is not None
    assert _code.parsed("def f(x):\n    return (y", function="f", is_cut=True) is not None


@pytest.mark.real
def test_the_real_code_model_passes(real_model: Callable[[str], Path]) -> None:
    with Judged(real_model("qwen2.5-coder:0.5b"), profile="smoke") as one:
        result = gate.run("smoke", one, only=(GATE,)).gates[0]
    assert result.status == "pass", result.message
