"""The two real models in all three formats: sensible text, the same ids, and code that parses."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

import apr
from apr.convert import convert
from apr.engines._record import RunRecord

pytestmark = pytest.mark.real

QWEN = "qwen2.5-coder:0.5b"


def generated(path: Path, prompt: str, *, regime: str, max_tokens: int) -> RunRecord:
    with apr.load(path, threads=1) as model:
        return model.generate(prompt, regime=regime, max_tokens=max_tokens)


def parsed_prefix(code: str) -> ast.Module:
    """The longest run of whole lines from the start that is Python."""
    lines = code.splitlines()
    for n in range(len(lines), 0, -1):
        try:
            return ast.parse("\n".join(lines[:n]))
        except SyntaxError:
            continue
    return ast.Module([], [])


def defines_fib(record: RunRecord) -> bool:
    """Whether prompt and text define a function fib that returns something and calls or adds something."""
    for node in parsed_prefix("def fib(n):" + record.text).body:
        if isinstance(node, ast.FunctionDef) and node.name == "fib":
            return any(isinstance(n, ast.Return) and n.value is not None for n in ast.walk(node))
    return False


def test_half_a_function_does_not_count_as_fib() -> None:
    class Record:
        text = " the quick brown fox"

    assert not defines_fib(Record())  # type: ignore[arg-type]


def test_smollm2_says_the_same_in_every_format(real_model: Callable[[str], Path], tmp_path: Path) -> None:
    original = real_model("smollm2")
    copies = [original, tmp_path / "smollm2.apr", tmp_path / "smollm2"]
    for copy in copies[1:]:
        convert(original, copy, dequantize="f32")
    records = [generated(path, "What is the capital of France?", regime="chat", max_tokens=12) for path in copies]
    assert [r.text for r in records] == ["The capital of France is Paris."] * 3
    assert len({r.output_token_ids for r in records}) == 1
    assert {r.model_format for r in records} == {"gguf", "apr", "safetensors"}
    assert {r.finish_reason for r in records} == {"eos"}


def test_the_coder_writes_fib(real_model: Callable[[str], Path]) -> None:
    assert defines_fib(generated(real_model(QWEN), "def fib(n):", regime="raw", max_tokens=40))


@pytest.mark.slow
@pytest.mark.parametrize("target", ["qwen.apr", "qwen"])
def test_the_coder_writes_the_same_fib_in_every_format(
    target: str, real_model: Callable[[str], Path], tmp_path: Path
) -> None:
    original = real_model(QWEN)
    convert(original, tmp_path / target, dequantize="f32")
    expected, actual = (
        generated(path, "def fib(n):", regime="raw", max_tokens=40) for path in (original, tmp_path / target)
    )
    assert defines_fib(actual)
    assert actual.output_token_ids == expected.output_token_ids
    assert actual.prompt_token_ids == expected.prompt_token_ids
