"""Facts about a model under judgement, each worked out once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tiny
from apr.errors import AprError, BadMagic
from apr.qa._judged import Judged, TensorFacts


@pytest.mark.parametrize("file_format", tiny.FORMATS)
def test_facts_are_shared_and_progress_sums_to_all_bytes_once(file_format: str, tmp_path: Path) -> None:
    with Judged(tiny.write(tmp_path, file_format)) as subject:
        steps: list[int] = []
        subject.progress = steps.append
        assert subject.tensor_facts is subject.tensor_facts and subject.checkpoint is subject.checkpoint
        assert sum(steps) == subject.n_bytes == sum(info.n_bytes for info in subject.file.tensors.values())
        assert set(subject.tensor_facts) == set(subject.file.tensors)
        assert len(subject.tokenizer_spec.tokens) == tiny.VOCAB_SIZE


def facts_of(values: list[float], folder: Path) -> TensorFacts:
    from safetensors.numpy import save_file

    save_file({"x": np.array(values, dtype=np.float32)}, folder / "m.safetensors")
    with Judged(folder / "m.safetensors") as subject:
        return subject.tensor_facts["x"]


def test_tensor_facts_are_counted(tmp_path: Path) -> None:
    assert facts_of([1, 0, -2, -0.0], tmp_path) == TensorFacts(0, -1, 2, -2, 1)
    assert facts_of([], tmp_path) == TensorFacts(0, -1, 0, 0, 0)
    nan, inf = float("nan"), float("inf")
    found = facts_of([0, 1, nan, -inf, nan, 5], tmp_path)
    assert (found.n_non_finite, found.first_non_finite, found.n_zero) == (3, 2, 1)
    assert np.isnan(found.min) and np.isnan(found.max)
    found = facts_of([0, inf], tmp_path)
    assert (found.n_non_finite, found.first_non_finite, found.max) == (1, 1, inf)


def test_what_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"not a model at all")
    with pytest.raises(BadMagic):
        Judged(tmp_path / "x.gguf")
    with pytest.raises(AprError):
        Judged(tmp_path / "nothing")
