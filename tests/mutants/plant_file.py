"""Defects of the container: cut short, overwritten, not what it says it is."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mutants._gguf import GgufParts
from mutants._patient import Patient
from mutants.mutant import Mutant, damage, planted, surgery

_ALL = "llama/gguf qwen2/safetensors qwen3/apr"
_BROKEN = "file.unreadable file.corrupt"
_EITHER = "a damaged container is corrupt, and unreadable for it"


def mutants() -> list[Mutant]:
    """Those of the twins."""
    return [
        *planted("file.cut_in_data", _ALL, damage(_cut(0.6)), _BROKEN, links="file", reason=_EITHER),
        *planted("file.cut_last_byte", "gemma3_text/gguf llama/safetensors phi3/apr", damage(_cut_last), _BROKEN, links="file", reason=_EITHER),
        *planted("file.cut_in_header", _ALL, damage(_cut(0.002)), _BROKEN, links="file", reason=_EITHER),
        *planted("file.empty", "qwen2/gguf mistral/safetensors llama/apr", damage(_empty), _BROKEN, links="file", reason=_EITHER),
        *planted("file.magic", "llama/gguf qwen2/apr", damage(_overwrite(0, b"GGML")), _BROKEN, links="file", reason=_EITHER),
        *planted("file.header_length", "llama/safetensors", damage(_overwrite(0, struct.pack("<Q", 1 << 40))), _BROKEN, links="file", reason=_EITHER),
        *planted("file.web_page", "qwen3/gguf qwen3/safetensors", damage(_web_page), _BROKEN, links="file", reason=_EITHER),
        *planted("file.checksum", "llama/apr gemma3_text/apr", damage(_flip_in_apr), _BROKEN, links="file", reason=_EITHER),
        *planted("file.overlap", "qwen2/gguf", damage(_overlap_gguf), _BROKEN, links="file", reason=_EITHER),
        *planted("file.overlap", "qwen2/safetensors", damage(_overlap_safetensors), _BROKEN, links="file", reason=_EITHER),
        *planted("file.duplicate_name", "llama/gguf", damage(_duplicate_gguf), _BROKEN, links="file", reason=_EITHER),
        *planted(
            "file.bit_flip", "llama/gguf mistral/safetensors", surgery(_flip("model.layers.1.mlp.up_proj.weight")), "weights.unexplained file.corrupt",
            where={"tensor": "model.layers.1.mlp.up_proj.weight"}, links="weights file",
            reason="these containers have no checksum: what is seen is a value that nothing explains",
        ),
        *planted("file.no_config", "llama/safetensors qwen3/safetensors", damage(_remove("config.json")), "metadata.missing", links="metadata file"),
        *planted(
            "file.config_is_no_json", "qwen2/safetensors", damage(_write("config.json", '{"hidden_size": 64,')), "metadata.missing file.unreadable file.corrupt",
            links="metadata file", reason="half a configuration is unreadable, and no configuration",
        ),
        *planted(
            "file.no_tokenizer", "llama/safetensors", damage(_remove("tokenizer.json")), "tokenizer.vocab file.unreadable",
            links="tokenizer file", reason="a folder without its tokenizer is incomplete; its vocabulary is what is missing",
        ),
    ]  # fmt: skip


def real() -> list[Mutant]:
    """Those of the real models."""
    smol = "smollm2/gguf"
    return [
        *planted("file.cut_in_data", smol, damage(_cut(0.9)), _BROKEN, links="file", reason=_EITHER),
        *planted("file.magic", smol, damage(_overwrite(0, b"PK\3\4")), _BROKEN, links="file", reason=_EITHER),
    ]


def _cut(share: float) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        with path.open("r+b") as file:
            file.truncate(max(8, int(path.stat().st_size * share)))

    return edit


def _cut_last(path: Path) -> None:
    # GGUF files end in padding: what is cut must reach into the last tensor
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 40)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _overwrite(offset: int, data: bytes) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(data)

    return edit


def _web_page(path: Path) -> None:
    path.write_text("<!DOCTYPE html>\n<html><body>404: not found</body></html>\n" * 40, encoding="utf-8")


def _flip_in_apr(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) * 3 // 4] ^= 0x10
    path.write_bytes(raw)


def _overlap_gguf(path: Path) -> None:
    """The second tensor's offset becomes the first one's."""
    parts = GgufParts(path)
    names = list(parts.tensors)
    raw = bytearray(path.read_bytes())
    marker = struct.pack("<Q", len(names[1])) + names[1].encode()
    at = raw.index(marker, 24 + sum(len(v) for _, v in parts.keys.values()) // 2) + len(marker)
    (n_dims,) = struct.unpack_from("<I", raw, at)
    struct.pack_into("<Q", raw, at + 8 + 8 * n_dims, 0)
    path.write_bytes(raw)


def _overlap_safetensors(path: Path) -> None:
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    names = [n for n in header if n != "__metadata__"]
    size = header[names[1]]["data_offsets"][1] - header[names[1]]["data_offsets"][0]
    header[names[1]]["data_offsets"] = [0, size]
    text = json.dumps(header).encode().ljust(length)
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])


def _duplicate_gguf(path: Path) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"blk.1.ffn_up.weight", b"blk.0.ffn_up.weight"))


def _flip(name: str) -> Callable[[Patient], Mapping[str, Any] | None]:
    def edit(patient: Patient) -> None:
        rows = patient.rows(name)
        flat = rows.reshape(-1)
        # the highest bit of an exponent: a value of about 0.1 becomes about 1e37
        at = int(np.argmax(np.abs(flat.view("<f4")[:500]) < 0.5)) * 4 + 3
        flat[at] ^= 0x40
        patient.put_rows(name, rows)

    return edit


def _remove(name: str) -> Callable[[Path], None]:
    return lambda path: (path.parent / name).unlink()


def _write(name: str, text: str) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        (path.parent / name).write_text(text, encoding="utf-8")

    return edit
