"""The two real models: sensible text, the same ids in all three formats, and arithmetic near the definition's."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import apr
from apr.convert import convert
from apr.engines._base import Activations
from apr.engines._record import RunRecord
from apr.engines._sampling import Sampling
from apr.kernels.softmax import log_softmax
from apr.models._decoder import Span

pytestmark = pytest.mark.real

QWEN = "qwen2.5-coder:0.5b"
TEXT = """def fib(n):
    if n <= 1:
        return n
    return fib(n - 1) + fib(n - 2)


# Once upon a time, in a small village, there lived an old clockmaker. The capital of France is Paris.
"""


def generated(path: Path, prompt: str, *, regime: str, max_tokens: int, activations: Activations = "int8") -> RunRecord:
    with apr.load(path, threads=1, activations=activations) as model:
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
    # activations meet quantised weights in 8 bits and float32 ones as they are: only exact ones give every copy the same
    records = [
        generated(path, "What is the capital of France?", regime="chat", max_tokens=12, activations="float32")
        for path in copies
    ]
    assert [r.text for r in records] == ["The capital of France is Paris."] * 3
    assert len({r.output_token_ids for r in records}) == 1
    assert {r.model_format for r in records} == {"gguf", "apr", "safetensors"}
    assert {r.finish_reason for r in records} == {"eos"}


def test_the_coder_writes_fib(real_model: Callable[[str], Path]) -> None:
    assert defines_fib(generated(real_model(QWEN), "def fib(n):", regime="raw", max_tokens=40))


def forced_logits(path: Path, *, engine: str = "native", activations: Activations = "int8") -> np.ndarray:
    """Logits at every position of a text, float32 [n_tokens, vocab_size]."""
    with apr.load(path, threads=1, engine=engine, activations=activations) as model:
        token_ids = np.array(model.tokenizer.encode(TEXT))
        return model.session.forward([Span(token_ids, model.session.new_cache())], rows="all")


def divergences(reference: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """Kullback-Leibler divergence of the candidate's distribution at every position, float64 [n_tokens]."""
    p, q = log_softmax(reference.astype(np.float64)), log_softmax(candidate.astype(np.float64))
    divergence: np.ndarray = (np.exp(p) * (p - q)).sum(axis=-1)
    return divergence


@pytest.mark.parametrize("alias", ["smollm2", pytest.param(QWEN, marks=pytest.mark.slow)])
def test_exact_arithmetic_is_the_definitions_and_eight_bits_are_near(
    alias: str, real_model: Callable[[str], Path]
) -> None:
    path = real_model(alias)
    definition = forced_logits(path, engine="numpy")
    exact, eight_bit = forced_logits(path, activations="float32"), forced_logits(path)
    assert np.abs(exact - definition).max() < 1e-3
    assert (exact.argmax(axis=-1) == definition.argmax(axis=-1)).all()
    # llama.cpp, which rounds activations to 8 bits too, is at 0.004 on SmolLM2's Q4_1 weights
    assert divergences(definition, eight_bit).mean() < 0.01


def test_a_batch_writes_what_each_prompt_gives_alone(real_model: Callable[[str], Path]) -> None:
    prompts = [f"Tell me {what}." for what in ("a joke", "what you know about the sea, and about its colour", "no lie")]
    options: dict[str, Any] = {"max_tokens": 20, "sampling": Sampling(temperature=0.8, top_p=0.9, seed=3)}
    with apr.load(real_model("smollm2"), threads=2) as model:
        together = model.generate_many(prompts, batch_size=3, **options)
        alone = [model.generate(prompt, **options) for prompt in prompts]
    assert [r.batch for r in together] == [3] * 3
    assert [r.output_token_ids for r in together] == [r.output_token_ids for r in alone]
    if together[0].kernel_set == "native":
        assert [r.steps for r in together] == [r.steps for r in alone], "to the last bit"


@pytest.mark.slow
@pytest.mark.parametrize("target", ["qwen.apr", "qwen"])
def test_the_coder_writes_the_same_fib_in_every_format(
    target: str, real_model: Callable[[str], Path], tmp_path: Path
) -> None:
    original = real_model(QWEN)
    convert(original, tmp_path / target, dequantize="f32")
    expected, actual = (
        generated(path, "def fib(n):", regime="raw", max_tokens=40, activations="float32")
        for path in (original, tmp_path / target)
    )
    assert defines_fib(actual)
    assert actual.output_token_ids == expected.output_token_ids
    assert actual.prompt_token_ids == expected.prompt_token_ids
