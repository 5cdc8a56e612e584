"""The copies that we ship say what the original says."""

from pathlib import Path

import pytest

from apr.convert import convert
from apr.hub import resolve
from apr.pytest_plugin import assert_parity

ORIGINAL = "smollm2"


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that goes out, made as the release makes it."""
    target = tmp_path_factory.mktemp("release") / "assistant.safetensors"
    convert(resolve(ORIGINAL), target, dequantize="f32")
    return target


def test_the_shipped_file_holds_what_the_original_holds(shipped: Path) -> None:
    report = assert_parity(ORIGINAL, shipped, only=["metadata", "tokenizer", "template", "weights"])
    assert report.verdict == "same", "float32 holds every block exactly: not even rounding differs"


def test_our_own_questions_get_the_same_answers(shipped: Path) -> None:
    questions = ["What is the capital of France?", "Name three primes."]
    assert_parity(ORIGINAL, shipped, regime="chat", prompts=questions, only=["logits", "generation"])
