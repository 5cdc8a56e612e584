"""GGUF files that gguf-py wrote, and small models on their way to disk, for tests of the reader and the writer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf as gguf_py
import numpy as np

from apr.formats import gguf
from apr.formats._base import Outgoing

SCALARS: dict[str, Any] = {
    "uint8": 200,
    "int8": -100,
    "uint16": 65000,
    "int16": -30000,
    "uint32": 4_000_000_000,
    "int32": -7,
    "float32": 0.5,
    "bool": True,
    "uint64": 2**60,
    "int64": -(2**60),
    "float64": 0.1,
    "string": "ünï ▁ \0 é",
}


def by_gguf_py(path: Path, *, alignment: int | None = None, n_tensors: int = 3) -> Path:
    """A file that gguf-py wrote: each scalar type, an array of each, tensors of three types and of 0 to 4 dimensions."""
    writer = gguf_py.GGUFWriter(path, "llama")
    if alignment:
        writer.add_custom_alignment(alignment)
    for name, value in SCALARS.items():
        kind = gguf_py.GGUFValueType[name.upper()]
        writer.add_key_value(f"one.{name}", value, kind)
        writer.add_key_value(f"many.{name}", [value, type(value)(), value], gguf_py.GGUFValueType.ARRAY, kind)
    rng = np.random.default_rng(5)
    writer.add_tensor("vector", rng.standard_normal(3).astype(np.float32))
    if n_tensors > 1:
        writer.add_tensor("cube", rng.standard_normal((2, 3, 2, 5)).astype(np.float16))
        blocks = gguf_py.quants.quantize(
            rng.standard_normal((5, 64)).astype(np.float32), gguf_py.GGMLQuantizationType.Q8_0
        )
        writer.add_tensor("blocks", blocks, raw_dtype=gguf_py.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def outgoing(file: gguf.GgufFile) -> Outgoing:
    """A read file, on its way to be written again unchanged."""
    return Outgoing(file.typed_metadata, tuple((i.name, i.codec, i.shape) for i in file.tensors.values()), file.raw)


def one_tensor(
    metadata: dict[str, Any], *, name: str = "t", codec: str = "f32", shape: tuple[int, ...] = (2, 4)
) -> Outgoing:
    """A model with one tensor of 32 bytes."""
    return Outgoing(metadata, ((name, codec, shape),), lambda name: np.arange(32, dtype=np.uint8))


def materialised(metadata: Any) -> dict[str, Any]:
    """Plain Python values, arrays as lists."""
    return {key: list(value) if hasattr(value, "tolist") else value for key, value in metadata.items()}
