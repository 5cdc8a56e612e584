"""Rows of tensors: the same whichever way they are read, and transformed with their bounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tiny
from apr.formats import open_model
from apr.models._checkpoint import Checkpoint
from apr.parity._weights_rows import CHUNK_ELEMENTS, Tensor, Transform, Transformed, certain, chunks, first_rows

Q = "model.layers.0.self_attn.q_proj.weight"


@pytest.mark.parametrize(
    "file_format, codec",
    [("gguf", "q4_0"), ("gguf", "f16"), ("safetensors", "f32"), ("apr", "apr_q4"), ("apr", "apr_q8")],
)
@pytest.mark.parametrize("model_type", ["llama", "gemma3_text"])
def test_rows_are_those_of_the_checkpoint(file_format: str, codec: str, model_type: str, tmp_path: Path) -> None:
    with open_model(tiny.write(tmp_path, file_format, tiny.config(model_type), codec=codec)) as file:
        checkpoint = Checkpoint(file)
        for name, place in checkpoint.tensors.items():
            tensor, whole = Tensor(place), checkpoint.array(name)
            whole = whole.reshape(tensor.shape)
            rows = slice(0, 3) if tensor.shape[0] > 3 else slice(0, 1)
            picked = np.array([0]) if tensor.shape[0] == 1 else np.array([5, 1, 1])
            for wanted in (rows, picked):
                found = tensor.read(wanted)
                assert np.array_equal(found.values, whole[wanted]), name
                assert np.array_equal(tensor.values(wanted), whole[wanted]), name
                assert np.broadcast_shapes(found.allowance.below.shape, found.values.shape) == found.values.shape


def test_a_transform_takes_the_bounds_with_it(tmp_path: Path) -> None:
    with open_model(tiny.write(tmp_path, "gguf", codec="q4_0")) as file:
        tensor = Tensor(Checkpoint(file).tensors[Q])
        whole = tensor.read(slice(0, 64))
        order = np.random.default_rng(0).permutation(64)
        turned = Transformed(tensor, Transform(rows=order)).read(np.array([3]))
        assert np.array_equal(turned.values[0], whole.values[order[3]])
        assert np.array_equal(turned.allowance.below[0], whole.allowance.below[order[3]])
        negated = Transformed(tensor, Transform(factor=-2.0)).read(slice(0, 64))
        assert np.array_equal(negated.values, -2 * whole.values)
        assert negated.allowance.below == pytest.approx(2 * whole.allowance.above, rel=1e-3)
        other_side = Transformed(tensor, Transform(is_transposed=True, columns=order)).read(slice(1, 2))
        assert np.array_equal(other_side.values[0], whole.values[order, 1])
        moved = Transformed(tensor, Transform(offset=1.0, factor=np.arange(64, dtype=np.float32)[:, None])).read(
            slice(2, 3)
        )
        assert np.allclose(moved.values, 2 * whole.values[2:3] + 1)


def test_the_first_rows_and_exact_values(tmp_path: Path) -> None:
    with open_model(tiny.write(tmp_path, "gguf", codec="q4_0")) as file:
        tensor = Tensor(Checkpoint(file).tensors[Q])
        assert first_rows(tensor, 64) is tensor
        assert first_rows(tensor, 10).shape == (10, 64)
        exact = certain(tensor).read(slice(0, 2))
        assert not exact.allowance.below.any() and np.array_equal(exact.values, tensor.values(slice(0, 2)))


def test_chunks_cover_all_rows_once() -> None:
    for shape in ((1, 10), (7, CHUNK_ELEMENTS), (100_001, 64)):
        found = chunks(shape)
        assert [i for rows in found for i in range(*rows.indices(shape[0]))] == list(range(shape[0]))
