"""ggml's own quantisers, through the library inside the prebuilt xllamacpp package: what llama.cpp writes into files.

quantise("q4_k", values, importance) -> uint8 [n_bytes]
"""

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np

from apr.kernels import quants

CODECS = ("q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k")


@cache
def _library() -> ctypes.CDLL:
    from xllamacpp import xllamacpp

    library = ctypes.CDLL(xllamacpp.__file__)
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    library.ggml_quantize_chunk.argtypes = [ctypes.c_int, pointer, pointer, count, count, count, pointer]
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    return library


def quantise(codec: str, values: np.ndarray, importance: np.ndarray | None = None) -> np.ndarray:
    """uint8 [n_bytes] from float32 [rows, columns]. importance: float32 [columns], of each column, as an imatrix has it."""
    made = quants.codec(codec)
    rows, columns = values.shape
    source = np.ascontiguousarray(values, dtype=np.float32)
    weights = None if importance is None else np.ascontiguousarray(importance, dtype=np.float32)
    out = np.zeros(made.n_bytes(values.size), dtype=np.uint8)
    written = _library().ggml_quantize_chunk(
        made.ggml_type,
        source.ctypes.data,
        out.ctypes.data,
        0,
        rows,
        columns,
        None if weights is None else weights.ctypes.data,
    )
    assert written == out.size, f"{codec}: ggml wrote {written} bytes, expected {out.size}"
    return out
