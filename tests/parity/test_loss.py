"""The loss of a copy as a whole: an honest one is called that, one with wrong scales is refused by its tensor's name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import quantised_copies
from apr.convert import convert
from apr.convert._quantise import Importance, recipe
from apr.formats import open_model
from apr.parity import chain, loss
from apr.parity._link import LinkResult, undecided
from apr.parity._pair import Pair
from apr.parity.why import why


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quantised_copies.original(tmp_path_factory.mktemp("source"))


def test_an_honest_copy_is_called_one(source: Path, tmp_path: Path) -> None:
    copy = quantised_copies.quantised(source, tmp_path / "q.gguf")
    seen: list[tuple[str, float]] = []
    report = loss.measure(source, copy, progress=lambda what, share: seen.append((what, share)))
    assert report.refusals == () and report.benign and report.n_measured == report.n_tensors == 21
    assert {one.regime for one in report.regimes} >= {"raw"} and report.kl_floor is not None
    for one in report.regimes:
        assert one.kl_interval[0] <= one.kl_mean <= one.kl_interval[1] and 0 <= one.top1_agreement <= 1
        assert one.kl_mean > report.kl_floor
    assert 4.5 < report.bits_per_weight < 8.5 and {"tensors", "weights"} <= {what for what, _ in seen}
    assert why(str(source), str(copy)).benign


def test_wrong_scales_are_refused_and_named_by_why(source: Path, tmp_path: Path) -> None:
    copy = quantised_copies.with_wrong_scales(quantised_copies.quantised(source, tmp_path / "q.gguf"), by=1.2)
    report = loss.measure(source, copy)
    assert not report.benign and any(quantised_copies.CANONICAL in refusal for refusal in report.refusals)
    found = why(str(source), str(copy))
    assert found.link == "weights" and not found.benign
    assert quantised_copies.CANONICAL in json.dumps([f.where for link in found.links for f in link.findings])


def test_the_same_file_loses_nothing(source: Path) -> None:
    report = loss.measure(source, source)
    assert report.tensors == () and report.refusals == () and all(one.kl_mean == 0 for one in report.regimes)


def test_importance_leaves_the_tensors_to_the_ladder_and_wrong_scales_are_refused_all_the_same(
    source: Path, tmp_path: Path
) -> None:
    with open_model(source) as file:
        random = np.random.default_rng(2)
        columns = {
            name: (random.pareto(0.6, size=info.shape[-1]) + 1e-6).astype(np.float32)  # as heavy as real activations
            for name, info in file.tensors.items()
            if name.startswith("blk") and len(info.shape) > 1
        }
    copy = tmp_path / "q.gguf"
    convert(source, copy, quantize=recipe("q4_0", Importance("m", columns)))
    assert loss.measure(source, copy, is_weighted=True).refusals == ()
    quantised_copies.with_wrong_scales(copy, by=1.4)
    refusals = loss.measure(source, copy, is_weighted=True).refusals
    assert [refusal.split(":")[0] for refusal in refusals] == [quantised_copies.CANONICAL]


def test_a_copy_that_could_not_be_asked_is_not_called_honest(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = quantised_copies.quantised(source, tmp_path / "q.gguf")
    inner = chain.compare

    def compare(link: str, pair: Pair) -> LinkResult:
        return undecided("logits", "cannot_tell", "the engine gave up") if link == "logits" else inner(link, pair)

    monkeypatch.setattr(chain, "compare", compare)
    assert loss.measure(source, copy).refusals == ("what the copy says was not compared: the engine gave up",)
