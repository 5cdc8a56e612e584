"""The embedding against torch's."""

from __future__ import annotations

import numpy as np
import pytest

from apr.kernels.embedding import embedding

TABLE = np.random.default_rng(0).standard_normal((11, 5)).astype(np.float32)


@pytest.mark.parity
@pytest.mark.parametrize("token_ids", [[0], [10], [3, 3, 0, 10], []])
def test_it_equals_torch(token_ids: list[int]) -> None:
    import torch

    ids = np.array(token_ids, dtype=np.int64)
    expected = torch.nn.functional.embedding(torch.from_numpy(ids), torch.from_numpy(TABLE)).numpy()
    np.testing.assert_array_equal(embedding(ids, TABLE), expected)


def test_the_rows_are_a_copy() -> None:
    rows = embedding(np.array([2, 3]), TABLE)
    rows += 1
    assert not np.shares_memory(rows, TABLE)


def test_an_id_beyond_the_table_is_refused() -> None:
    with pytest.raises(IndexError):
        embedding(np.array([11]), TABLE)


def test_a_planted_defect_is_seen() -> None:
    assert not np.array_equal(embedding(np.array([1, 2]), TABLE), embedding(np.array([2, 1]), TABLE))
