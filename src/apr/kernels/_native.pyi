"""The compiled kernels: weights as they are computed with, key-value caches, and recorded forward passes.

Built from `csrc/`. Arrays are C-contiguous unless said; every call that computes releases the interpreter's lock.
"""

from collections.abc import Sequence

import numpy as np

def instruction_sets() -> list[str]:
    """Those that this build has and this CPU can run, best first; "portable" is always the last."""

def use_instruction_set(name: str) -> None:
    """Compute with this one from now on. Raises ValueError for one that is not in `instruction_sets`."""

def instruction_set() -> str:
    """The one in use."""

class Pool:
    """Threads that share the work of an op; the caller is one of them. Idle threads sleep."""

    def __init__(self, threads: int) -> None: ...
    @property
    def threads(self) -> int: ...

class Weight:
    """A matrix [rows, columns] as the kernels read it.

    codec:  a block codec ("q4_0" … "q6_k"): re-laid into row blocks by `fill`; "f16", "bf16", "f32": row-major, as in the file
    Raises  ValueError for a codec without a kernel, or columns that are no multiple of its block.
    """

    def __init__(self, codec: str, rows: int, columns: int) -> None: ...
    @property
    def rows(self) -> int: ...
    @property
    def columns(self) -> int: ...
    @property
    def codec(self) -> str: ...
    @property
    def n_bytes(self) -> int:
        """Bytes allocated."""

    @staticmethod
    def row_bytes(codec: str, columns: int) -> int:
        """Bytes of one row in a file. Raises ValueError as the constructor does."""

    def fill(self, raw: np.ndarray, first_row: int, n_rows: int, row_order: np.ndarray | None) -> None:
        """Copy rows [first_row, first_row + n_rows) out of the whole tensor's bytes (uint8, a view of the file).

        first_row:  a multiple of 16; several threads may fill different rows at the same time
        row_order:  int64 [rows]: row i is the file's row row_order[i]; None if they are in order
        """

    @staticmethod
    def in_place(codec: str, rows: int, columns: int, raw: np.ndarray) -> Weight:
        """A row-major weight (f16, bf16, f32) that reads `raw` (uint8, kept alive) where it lies."""

    def decode(self, rows: np.ndarray) -> np.ndarray:
        """float32 [n, columns]: rows by index, int64 [n], decoded from the re-laid form (for tests)."""

class Table:
    """An embedding table, rows decoded from the file's bytes as they are asked for. `raw`, uint8, is kept alive."""

    def __init__(self, codec: str, rows: int, columns: int, raw: np.ndarray) -> None: ...

class KVCache:
    """Keys and values of one sequence, in pages of 128 positions."""

    def __init__(self, num_hidden_layers: int, num_key_value_heads: int, head_dim: int, dtype: str) -> None:
        """dtype: "float16" or "float32"."""

    @property
    def length(self) -> int:
        """Positions held."""

    @property
    def n_bytes(self) -> int:
        """Bytes allocated."""

    def truncate(self, length: int) -> None:
        """Forget all positions from `length` on."""

class Plan:
    """A forward pass: steps over buffers, recorded once, run for any tokens.

    A buffer is float32 [rows, width]: one row a new token, or after `last_rows` one row a sequence. Buffers are named by
    number; `columns` names a part of one. Steps run in the order in which they were added; a step may write into one of
    its own inputs only where said. Results do not depend on the number of threads, on how tokens are split over calls,
    or on what else is in the batch.
    """

    def __init__(self, activations: str) -> None:
        """activations: "int8" (quantised in blocks of 32 before a product with a block codec) or "float32" (exact)."""

    def buffer(self, width: int) -> int: ...
    def columns(self, buffer: int, start: int, stop: int) -> int:
        """A part of a buffer, not copied. Every step takes such parts as inputs and outputs."""

    # each adds a step and returns its number
    def embedding(self, table: Table, out: int) -> int: ...
    def scale(self, x: int, factor: float, out: int) -> int:
        """out may be x."""
    def add(self, x: int, y: int, out: int) -> int:
        """out may be x or y."""
    def multiply(self, x: int, y: int, out: int) -> int:
        """out may be x or y."""
    def silu(self, x: int, out: int) -> int:
        """out may be x."""
    def gelu_tanh(self, x: int, out: int) -> int:
        """out may be x."""
    def silu_multiply(self, gate: int, up: int, out: int) -> int:
        """The same bits as silu, then multiply. out may be gate or up."""
    def gelu_tanh_multiply(self, gate: int, up: int, out: int) -> int:
        """The same bits as gelu_tanh, then multiply. out may be gate or up."""
    def softcap(self, x: int, cap: float, out: int) -> int:
        """out may be x."""
    def rmsnorm(self, x: int, weight: np.ndarray, eps: float, out: int) -> int:
        """Each run of weight.size columns (the whole row, or each head) is normalised by itself. out may be x."""
    def linear(self, x: int, products: Sequence[tuple[Weight, np.ndarray | None, int]]) -> int:
        """One or more (weight, bias, out) with the same input, which is quantised once. No out may be x."""
    def rope(self, x: int, table: int, head_dim: int, out: int) -> int:
        """table: index into `tables` of `run`. out may be x."""
    def attention(
        self, q: int, k: int, v: int, out: int, layer: int, head_dim: int, scale: float, window: int, softcap: float
    ) -> int:
        """k and v join each sequence's cache; its queries attend to it. window, softcap: 0 for none. out may be q."""
    def last_rows(self, x: int, out: int) -> int:
        """The row of each sequence's last new token; later steps work on these rows. out may not be x."""

    def bind(
        self, token_ids: np.ndarray, caches: Sequence[KVCache], lengths: Sequence[int], tables: Sequence[np.ndarray]
    ) -> None:
        """Say what the next `run` is about; memory for the buffers is made as needed.

        token_ids:  int64 [n_tokens], the new tokens of all sequences one after the other
        caches:     of each sequence, all different; lengths: how many of the tokens are each one's
        tables:     float32 [n_tokens, rotary_dim] each: cosines, then sines
        """

    def run(self, pool: Pool, first: int, last: int) -> None:
        """Run steps [first, last) on what was bound."""

    def advance(self) -> None:
        """Count the new positions in the bound caches: call it after the last step."""

    def read(self, buffer: int) -> np.ndarray:
        """A copy of a buffer's rows, float32 [rows, width]."""

    def write(self, buffer: int, values: np.ndarray) -> None:
        """Replace a buffer's rows."""

    def statistics(self, pool: Pool, buffer: int) -> np.ndarray:
        """float64 [rows, 8]: count, mean, std, min, max, rms, nan, inf of each row (see `kernels/statistics.py`)."""

# Ops one by one, for tests and benchmarks; each has the meaning of the NumPy function of its name.
def linear(pool: Pool, x: np.ndarray, weight: Weight, bias: np.ndarray | None, activations: str) -> np.ndarray: ...
def rmsnorm(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray: ...
def rope(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray: ...
def silu(x: np.ndarray) -> np.ndarray: ...
def gelu_tanh(x: np.ndarray) -> np.ndarray: ...
def silu_multiply(gate: np.ndarray, up: np.ndarray) -> np.ndarray: ...
def gelu_tanh_multiply(gate: np.ndarray, up: np.ndarray) -> np.ndarray: ...
def softcap(x: np.ndarray, cap: float) -> np.ndarray: ...
def statistics(x: np.ndarray) -> np.ndarray: ...
def attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, scale: float, window: int, softcap: float, dtype: str
) -> np.ndarray:
    """As `kernels/attention.py`, through a cache of `dtype`."""

def encode(pool: Pool, codec: str, values: np.ndarray, importance: np.ndarray | None) -> tuple[np.ndarray, bool]:
    """A tensor in one of ggml's quantised types, with the bits of `quantise` of the codec in `kernels/quants`.

    values:      float32 [rows, columns], columns a multiple of the codec's block
    importance:  float32 [columns]: what the error of each column counts
    Returns      uint8 [n_bytes], and whether they hold all values: none is infinite, NaN or too large for a scale.
    """

class Summary:
    """One row of logits, looked at once.

    top:        int64 [k], the highest, in descending order, lower ids first among equals
    log_sum:    log(sum(exp(logits))); a logit less this is its log-probability
    is_finite:  whether all logits are
    """

    top: np.ndarray
    log_sum: float
    is_finite: bool

def summarize(logits: np.ndarray, k: int) -> Summary: ...
def sample(logits: np.ndarray, temperature: float, top_k: int, top_p: float, min_p: float, uniform: float) -> int:
    """The token that `engines/_sampling.py` draws with this uniform number in [0, 1)."""

def read_bandwidth(pool: Pool, n_bytes: int, repeats: int) -> list[float]:
    """GB/s of plain reads of freshly written memory by all threads, one figure a repeat."""
