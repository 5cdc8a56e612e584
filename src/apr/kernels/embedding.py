"""Rows of the embedding table."""

from __future__ import annotations

import numpy as np


def embedding(token_ids: np.ndarray, table: np.ndarray) -> np.ndarray:
    """float32 [n_tokens, hidden_size]: the rows of `table`, float32 [vocab_size, hidden_size], at `token_ids`, int64 [n_tokens]."""
    rows: np.ndarray = table[token_ids]
    return rows
