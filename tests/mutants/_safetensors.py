"""A safetensors folder in parts that can be changed and put together again, by `struct` and `json` alone."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass
class Tensor:
    """One tensor: dtype as the header says it, row-major shape, bytes (uint8, 1-D)."""

    kind: str
    shape: tuple[int, ...]
    data: np.ndarray


class SafetensorsParts:
    """Tensors and side files of a folder with one `model.safetensors`."""

    def __init__(self, folder: Path) -> None:
        raw = np.fromfile(folder / "model.safetensors", dtype=np.uint8)
        (length,) = struct.unpack("<Q", raw[:8].tobytes())
        header = json.loads(raw[8 : 8 + length].tobytes())
        self.metadata: dict[str, str] = header.pop("__metadata__", {})
        start = 8 + length
        self.tensors = {
            name: Tensor(
                entry["dtype"],
                tuple(entry["shape"]),
                raw[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]],
            )
            for name, entry in header.items()
        }
        self.documents: dict[str, Any] = {
            path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))
        }

    def write(self, folder: Path) -> Path:
        """Write the parts into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        write_tensors(folder / "model.safetensors", self.tensors, self.metadata)
        for name, document in self.documents.items():
            (folder / name).write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
        return folder


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write one safetensors file: header in JSON, padded with blanks to a multiple of 8, then the tensors in order."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    offset = 0
    for name, tensor in tensors.items():
        end = offset + tensor.data.size
        header[name] = {"dtype": tensor.kind, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(np.ascontiguousarray(tensor.data).data)
