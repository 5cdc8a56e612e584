"""Conversions of the two real models: the same greedy tokens before and after, by our engine and by llama.cpp."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from apr.convert import convert
from apr.formats import open_model
from convert.conversion_runs import greedy
from convert.llama_logits import llama_greedy

pytestmark = pytest.mark.real

PROMPT_IDS = [1, 4093, 198, 1780, 314, 260, 3575, 282, 4649, 47, 2, 198, 1, 520, 9531, 198]
RealModel = Callable[[str], Path]


@pytest.mark.slow
def test_smollm2_says_the_same_from_apr(real_model: RealModel, tmp_path: Path) -> None:
    source = real_model("smollm2")
    report = convert(source, tmp_path / "m.apr", dequantize="f32")
    assert (report.n_tensors, report.n_kept, report.n_dequantized) == (273, 61, 212)
    with open_model(tmp_path / "m.apr") as file:
        assert file.warnings == [] and len(file.verify()) == 2
    assert greedy(tmp_path / "m.apr", PROMPT_IDS, n_new=16) == greedy(source, PROMPT_IDS, n_new=16)


def test_a_copy_of_smollm2_is_that_file(real_model: RealModel, tmp_path: Path) -> None:
    report = convert(real_model("smollm2"), tmp_path / "m.gguf")
    assert (
        report.target_sha256
        == report.source_sha256
        == "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    )


@pytest.mark.parity
@pytest.mark.slow
def test_smollm2_through_a_folder_and_back_loads_in_llama_cpp(real_model: RealModel, tmp_path: Path) -> None:
    source = real_model("smollm2")
    convert(source, tmp_path / "folder", dequantize="f32")
    convert(tmp_path / "folder", tmp_path / "m.gguf")
    expected = greedy(source, PROMPT_IDS, n_new=8)
    assert llama_greedy(tmp_path / "m.gguf", PROMPT_IDS, n_new=8) == expected
    with open_model(source) as before, open_model(tmp_path / "m.gguf") as after:
        kept = (
            "general.name",
            "general.license",
            "general.languages",
            "tokenizer.ggml.tokens",
            "tokenizer.ggml.merges",
        )
        assert all(before.metadata[key] == after.metadata[key] for key in kept)


@pytest.mark.slow
def test_qwen_keeps_its_k_quants_in_apr(real_model: RealModel, tmp_path: Path) -> None:
    source = real_model("qwen2.5-coder:0.5b")
    report = convert(source, tmp_path / "m.apr", dequantize="f16")
    assert (report.n_tensors, report.n_kept, report.n_dequantized) == (291, 145, 146)
    with open_model(tmp_path / "m.apr") as file:
        assert {info.codec for info in file.tensors.values()} == {"f32", "f16", "q4_k", "q6_k"}
