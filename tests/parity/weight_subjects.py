"""Subjects of files, and tensors in memory, for the tests of the weights link."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from apr.engines._subject import Subject
from apr.kernels import quants
from apr.parity import weights
from apr.parity._link import LinkResult
from apr.parity._pair import Pair
from apr.parity._rounding_bounds import allowance
from apr.parity._weights_rows import Rows


def subject(path: Path) -> Subject:
    """A file under our own engine, one thread."""
    return Subject(path, threads=1)


def compared(reference: Path, candidate: Path) -> LinkResult:
    """The weights link between two files."""
    pair = Pair(subject(reference), subject(candidate))
    try:
        return weights.compare(pair)
    finally:
        pair.close()


class Held:
    """A matrix in memory, as a codec holds it."""

    def __init__(self, values: np.ndarray, codec: str = "f32") -> None:
        plain = quants.codec(codec)
        if plain.has_encoder:
            raw = plain.encode(values)
        else:
            raw = gguf.quants.quantize(values, gguf.GGMLQuantizationType[codec.upper()]).reshape(-1)
        self.shape = values.shape
        decoded = plain.decode(raw, values.shape)
        self._rows = Rows(decoded, allowance(codec, raw, decoded))

    def read(self, rows: slice | np.ndarray) -> Rows:
        return Rows(self._rows.values[rows], self._rows.allowance.each(lambda part: part[rows]))
