"""Names, hashes and figures of a trace."""

from __future__ import annotations

import hashlib

import numpy as np

from apr.kernels.statistics import statistics
from apr.trace import record


def test_a_slots_name_falls_into_layer_and_name() -> None:
    assert record.parts_of("layers.12.q_rope") == (12, "q_rope")
    assert record.parts_of("final_norm") == (None, "final_norm")


def test_token_ids_are_hashed_as_little_endian_int64() -> None:
    ids = [3838, 374, 220, 17, 10, 17, 30]
    assert record.token_ids_sha256(ids) == hashlib.sha256(np.array(ids, dtype="<i8").tobytes()).hexdigest()
    assert record.token_ids_sha256(ids[:-1]) != record.token_ids_sha256(ids)


def test_the_largest_numbers_are_those_of_the_types() -> None:
    assert np.finfo(np.float16).max == record.FLOAT16_MAX
    assert np.frombuffer(np.uint32(0x7F7F0000).tobytes(), np.float32)[0] == record.BFLOAT16_MAX


def test_a_row_without_a_finite_value_has_no_figures() -> None:
    x = np.array([[1.0, -3.0], [np.nan, np.inf]], dtype=np.float32)
    figures = record.figures_of(statistics(x))
    assert figures.mean == (-1.0, None) and figures.rms[1] is None and figures.max[1] is None
    assert figures.count == (2, 2) and figures.nan == (0, 1) and figures.inf == (0, 1)
