"""Made from it, or not: by bits where our quantisers give them, within rounding where another's did, and never another model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import quantised_copies
import tiny
from apr.convert import convert
from apr.convert._quantise import Importance, recipe
from apr.formats import open_model
from apr.parity import made_from


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quantised_copies.original(tmp_path_factory.mktemp("source"))


@pytest.mark.parametrize("ending", ["gguf", "apr"])
def test_what_we_made_is_reproduced_bit_for_bit(ending: str, source: Path, tmp_path: Path) -> None:
    copy = quantised_copies.quantised(source, tmp_path / f"q.{ending}")
    report = made_from.verify(source, copy)
    assert (report.answer, report.exit_code, report.n_rounded) == ("made", 0, 0)
    assert report.n_reproduced == 14 + 1 + 1 and report.n_same == 5 and "bit for bit" in report.sentence


def test_a_lossless_copy_has_every_value(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "folder")
    report = made_from.verify(source, tmp_path / "folder")
    assert (report.answer, report.n_same, report.n_tensors) == ("made", 21, 21)


def test_another_s_rounding_is_within_its_bound(source: Path, tmp_path: Path) -> None:
    weights = tiny.tensors(quantised_copies.MADE)
    copy = tiny.write(tmp_path, "gguf", quantised_copies.MADE, weights, codec="q8_0")  # by gguf-py
    report = made_from.verify(source, copy)
    assert report.answer == "made" and report.n_reproduced + report.n_rounded == 16


def test_an_importance_matrix_is_needed_to_make_the_same_bits(source: Path, tmp_path: Path) -> None:
    with open_model(source) as file:
        random = np.random.default_rng(1)
        columns = {
            name: random.gamma(0.5, size=info.shape[-1]).astype(np.float32)
            for name, info in file.tensors.items()
            if name.endswith("ffn_down.weight")
        }
    convert(source, tmp_path / "q.gguf", quantize=recipe("q4_k_m", Importance("m", columns)))
    without = made_from.verify(source, tmp_path / "q.gguf")
    within = made_from.verify(source, tmp_path / "q.gguf", importance=columns)
    assert (without.answer, without.n_rounded, within.n_rounded) == ("made", 2, 0)


def test_wrong_scales_another_model_and_another_template_are_not_made_from_it(source: Path, tmp_path: Path) -> None:
    copy = quantised_copies.quantised(source, tmp_path / "q.gguf")
    quantised_copies.with_wrong_scales(copy, by=1.3)
    report = made_from.verify(source, copy)
    assert (report.answer, report.exit_code) == ("not_made", 1) and quantised_copies.CANONICAL in report.sentence
    weights = tiny.tensors(quantised_copies.MADE, seed=1)
    other = tiny.write(tmp_path / "other", "gguf", quantised_copies.MADE, weights)
    assert made_from.verify(source, other).answer == "not_made"
