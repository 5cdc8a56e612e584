"""The rotation against transformers' `apply_rotary_pos_emb`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from apr.kernels.rope import rope, rope_table


def frequencies(rotary_dim: int, theta: float = 10000.0) -> np.ndarray:
    return (1.0 / theta ** (np.arange(0, rotary_dim, 2) / rotary_dim)).astype(np.float32)


def by_transformers(x: np.ndarray, positions: np.ndarray, inverse: np.ndarray, apply: Any) -> np.ndarray:
    """transformers' rotation of x, [n_tokens, heads, head_dim], with tables made by torch."""
    import torch

    angles = torch.from_numpy(positions).float()[:, None] * torch.from_numpy(inverse)[None]
    doubled = torch.cat((angles, angles), dim=-1)[None]
    turned, _ = apply(*[torch.from_numpy(x).transpose(0, 1)[None]] * 2, doubled.cos(), doubled.sin())
    result: np.ndarray = turned[0].transpose(0, 1).numpy()
    return result


@pytest.mark.parity
@pytest.mark.parametrize(("n_tokens", "heads", "head_dim"), [(1, 1, 2), (5, 3, 10), (17, 14, 64)])
@pytest.mark.parametrize("start", [0, 5, 32_000])
def test_it_equals_transformers(n_tokens: int, heads: int, head_dim: int, start: int) -> None:
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    x = np.random.default_rng(0).standard_normal((n_tokens, heads, head_dim)).astype(np.float32)
    positions, inverse = np.arange(start, start + n_tokens), frequencies(head_dim)
    actual = rope(x, rope_table(positions, inverse))
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, by_transformers(x, positions, inverse, apply_rotary_pos_emb), atol=2e-6, rtol=0)


@pytest.mark.parity
def test_a_partial_rotation_passes_the_rest_through() -> None:
    from transformers.models.phi3.modeling_phi3 import apply_rotary_pos_emb

    x = np.random.default_rng(0).standard_normal((6, 2, 16)).astype(np.float32)
    positions, inverse = np.arange(6), frequencies(8)
    actual = rope(x, rope_table(positions, inverse))
    np.testing.assert_array_equal(actual[..., 8:], x[..., 8:])
    np.testing.assert_allclose(actual, by_transformers(x, positions, inverse, apply_rotary_pos_emb), atol=2e-6, rtol=0)


def test_position_zero_changes_nothing_and_lengths_are_kept() -> None:
    x = np.random.default_rng(0).standard_normal((4, 2, 8)).astype(np.float32)
    turned = rope(x, rope_table(np.array([0, 1, 2, 3]), frequencies(8)))
    np.testing.assert_array_equal(turned[0], x[0])
    np.testing.assert_allclose(np.linalg.norm(turned, axis=-1), np.linalg.norm(x, axis=-1), rtol=1e-6)


def test_the_factor_multiplies_both_tables() -> None:
    plain = rope_table(np.arange(3), frequencies(8))
    scaled = rope_table(np.arange(3), frequencies(8), factor=1.5)
    for a, b in zip(plain, scaled, strict=True):
        assert b.dtype == np.float32 and b.shape == (3, 4)
        np.testing.assert_array_equal(a * np.float32(1.5), b)


def test_the_input_is_not_changed() -> None:
    x = np.ones((2, 1, 4), dtype=np.float32)
    rope(x, rope_table(np.arange(5, 7), frequencies(4)))
    np.testing.assert_array_equal(x, 1)


@pytest.mark.parity
@pytest.mark.parametrize("defect", ["adjacent pairs", "off by one", "other base", "other way round"])
def test_a_planted_defect_is_seen(defect: str) -> None:
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    x = np.random.default_rng(0).standard_normal((5, 2, 8)).astype(np.float32)
    positions, inverse = np.arange(3, 8), frequencies(8)
    expected = by_transformers(x, positions, inverse, apply_rotary_pos_emb)
    cos, sin = rope_table(positions, inverse)
    pairs = np.arange(8).reshape(4, 2).T.reshape(-1)
    actual = {
        "adjacent pairs": rope(x[..., pairs], (cos, sin))[..., np.argsort(pairs)],
        "off by one": rope(x, rope_table(positions + 1, inverse)),
        "other base": rope(x, rope_table(positions, frequencies(8, 20000.0))),
        "other way round": rope(x, (cos, -sin)),
    }[defect]
    assert np.abs(actual - expected).max() > 1e-3
