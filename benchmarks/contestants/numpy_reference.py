"""The reference as a contestant: the same forward pass over the NumPy kernels, weights decoded to float32.

It only answers `logits`: it is what the others' numbers are held against, and is not timed.
"""

from __future__ import annotations

from typing import Any

import _protocol
import numpy as np

import apr
from apr.models._decoder import Span


class Reference:
    """A model over the NumPy kernels."""

    def load(self, path: str, threads: int) -> dict[str, Any]:
        """Decode every weight."""
        self.session = apr.load(path, engine="numpy", threads=threads).session
        return {"versions": {"numpy": np.__version__}}

    def logits(self, token_ids: list[int], out: str) -> dict[str, Any]:
        """Save the logits after each token, float32 [n_tokens, vocab_size]."""
        ids = np.asarray(token_ids, dtype=np.int64)
        np.save(out, self.session.forward([Span(ids, self.session.new_cache())], rows="all"))
        return {}


if __name__ == "__main__":
    _protocol.serve(Reference())
