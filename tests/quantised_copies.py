"""Quantised copies of a small model, honest ones and one whose scales are wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import tiny
from apr.convert import transcode
from apr.convert._quantise import recipe
from apr.formats import open_model
from apr.kernels import quants

MADE = tiny.config(**tiny.BLOCKS_OF_256)
TENSOR = "blk.1.ffn_up.weight"
CANONICAL = "model.layers.1.mlp.up_proj.weight"


def original(folder: Path) -> Path:
    """The model in float32."""
    return tiny.write(folder, "gguf", MADE)


def quantised(source: Path, target: Path, mixture: str = "q4_k_m") -> Path:
    """An honest copy."""
    transcode.convert(source, target, quantize=recipe(mixture))
    return target


def with_wrong_scales(path: Path, *, by: float, tensor: str = TENSOR) -> Path:
    """The same file with the F16 scales of one tensor's blocks too large, in place."""
    with open_model(path) as file:
        info = file.tensors[tensor]
        codec = quants.codec(info.codec)
        blocks = file.raw(tensor).reshape(-1, codec.block_bytes).copy()
    for at in codec.scales_at:  # type: ignore[attr-defined]
        scales = blocks[:, at : at + 2].copy().view("<f2")
        blocks[:, at : at + 2] = (scales.astype(np.float32) * by).astype("<f2").view(np.uint8)
    data = bytearray(path.read_bytes())
    data[info.offset : info.offset + info.n_bytes] = blocks.tobytes()
    path.write_bytes(data)
    return path
