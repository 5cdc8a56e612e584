"""Type codes of `.apr` tensors and the codecs they stand for.

Today's codes are the codecs' own (`BlockCodec.apr_dtype`). Files from before the renumbering of early 2026 (GH-438)
hold 2, 8 and 9; realizar's two writers use GGML's numbers, which clash with 3, 6, 7 and 8. One code can thus mean two
encodings, and the tensor's byte count has to decide.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from apr.errors import FormatError, ShapeMismatch, UnknownDtype
from apr.formats._apr_header import Dialect
from apr.kernels import quants

# bf16, apr_q4 and apr_q8 before GH-438; realizar writes q4_0 and q8_0 under the first two
OLD = {2: ("bf16", "q4_0"), 8: ("apr_q4", "q8_0"), 9: ("apr_q8",)}
GGML = {3: "q4_1", 6: "q5_0", 7: "q5_1", 13: "q5_k"}
PLAIN = frozenset({"f64", "f32", "f16", "bf16", "i64", "i32", "i8", "u8"})  # what does not count as quantised


@cache
def codes() -> dict[int, str]:
    """Codec names by the code that is written today."""
    found = {quants.codec(name).apr_dtype: name for name in quants.names()}
    return {code: name for code, name in found.items() if code is not None}


def readings(code: int, *, dialect: Dialect) -> tuple[str, ...]:
    """The codecs that a code can mean in a dialect; empty for an unknown code."""
    today = (codes()[code],) if code in codes() else ()
    ggml = (GGML[code],) if code in GGML and dialect != "aprender" else ()
    return today + OLD.get(code, ()) + ggml


def resolve(
    path: Path, code: int, *, shape: tuple[int, ...], n_bytes: int, dialect: Dialect, name: str, offset: int
) -> str | FormatError:
    """The codec of a tensor, or the error that names what is wrong with it.

    shape, n_bytes:  as the index has them
    name, offset:    of the tensor and of its record, for the message
    """
    possible = readings(code, dialect=dialect)
    if not possible:
        known = ", ".join(f"{number} {codec}" for number, codec in sorted(codes().items()))
        meant = f" (GGML's {GGML[code]}, which only realizar writes)" if code in GGML else ""
        return UnknownDtype(path, f"tensor {name!r} has type {code}{meant}, known are: {known}", offset=offset)
    fitting = [codec for codec in possible if _fits(codec, shape, n_bytes)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        message = (
            f"tensor {name!r} has type {code}, which can mean {' or '.join(fitting)}, and {n_bytes} bytes fit both"
        )
        return UnknownDtype(path, f"{message}; write the file again with a tool of today", offset=offset)
    expected = " or ".join(_expectation(codec, shape) for codec in possible)
    hint = f" (GGML's {GGML[code]} has that size)" if code in GGML and _fits(GGML[code], shape, n_bytes) else ""
    message = f"tensor {name!r}, type {code}, shape {list(shape)}, has {n_bytes} bytes{hint}, expected {expected}"
    return ShapeMismatch(path, message, offset=offset)


def is_old(code: int) -> bool:
    """Whether a code is one that is no longer written."""
    return code in OLD


def _fits(name: str, shape: tuple[int, ...], n_bytes: int) -> bool:
    codec = quants.codec(name)
    return codec.row_fits(shape) and codec.n_bytes(count(shape)) == n_bytes


def _expectation(name: str, shape: tuple[int, ...]) -> str:
    codec = quants.codec(name)
    if not codec.row_fits(shape):
        return f"rows of whole {name} blocks of {codec.block_size}"
    return f"{codec.n_bytes(count(shape))} for {name}"


def count(shape: tuple[int, ...]) -> int:
    """Number of elements; 1 for a scalar. Python's integers do not overflow."""
    total = 1
    for size in shape:
        total *= size
    return total
