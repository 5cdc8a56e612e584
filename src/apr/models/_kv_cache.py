"""Keys and values of the positions seen so far, for one sequence."""

from __future__ import annotations

import numpy as np

_FIRST_CAPACITY = 256


class KVCache:
    """One growing pair of arrays a layer; `length` positions are valid.

    A forward pass writes every layer beyond `length` and then moves `length` once, so an interrupted pass leaves the
    cache as it was.
    """

    def __init__(self, *, num_hidden_layers: int, num_key_value_heads: int, head_dim: int) -> None:
        self.length = 0
        self._shape = (num_key_value_heads, head_dim)
        empty = (0, num_key_value_heads, head_dim)
        self._k = [np.empty(empty, dtype=np.float32) for _ in range(num_hidden_layers)]
        self._v = [np.empty(empty, dtype=np.float32) for _ in range(num_hidden_layers)]

    def extend(self, layer: int, k: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Write k and v, float32 [n_tokens, num_key_value_heads, head_dim], after the valid positions of a layer.

        Returns views of all keys and values of the layer, [length + n_tokens, num_key_value_heads, head_dim].
        """
        stop = self.length + k.shape[0]
        if self._k[layer].shape[0] < stop:
            self._grow(layer, stop)
        self._k[layer][self.length : stop] = k
        self._v[layer][self.length : stop] = v
        return self._k[layer][:stop], self._v[layer][:stop]

    def advance(self, n_tokens: int) -> None:
        """Count the positions that every layer has now been given."""
        self.length += n_tokens

    def truncate(self, length: int) -> None:
        """Forget all positions from `length` on."""
        assert 0 <= length <= self.length
        self.length = length

    @property
    def n_bytes(self) -> int:
        """Bytes allocated."""
        return sum(a.nbytes for a in (*self._k, *self._v))

    def _grow(self, layer: int, needed: int) -> None:
        capacity = max(_FIRST_CAPACITY, needed, 2 * self._k[layer].shape[0])
        for arrays in (self._k, self._v):
            grown = np.empty((capacity, *self._shape), dtype=np.float32)
            grown[: self.length] = arrays[layer][: self.length]
            arrays[layer] = grown
