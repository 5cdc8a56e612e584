"""Fuzz target of the safetensors reader: any bytes are a model or a FormatError, and never a view outside the file.

python tests/fuzz/fuzz_safetensors.py [flags of libFuzzer]      with atheris: guided by coverage
python tests/fuzz/fuzz_safetensors.py 100000                    without: that many random mutations, seed 0
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from apr.errors import FormatError
from apr.formats import safetensors
from fuzz.fuzz_loop import Target, main

GOOD = {
    "__metadata__": {"format": "pt"},
    "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
    "b": {"dtype": "I8", "shape": [3], "data_offsets": [16, 19]},
}
_TOKENS = [
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b",",
    b":",
    b"0",
    b"-1",
    b"1e3",
    b"18446744073709551616",
    b"null",
    b"\\ud800",
    b"F64",
    b"\xff",
]


def file_of(header: bytes | Mapping[str, Any], n_data: int = 0) -> bytes:
    """A file with this header and `n_data` bytes 0, 1, 2 ..."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(i % 256 for i in range(n_data))


def check_one(data: bytes, path: Path) -> bool:
    """Read `data` as the file at `path`; whether it was accepted. Anything but a FormatError is a finding."""
    path.write_bytes(data)
    try:
        model = safetensors.read(path)
    except FormatError:
        return False
    with model:
        held = sum(len(model.raw(name)) for name in model.tensors)
    if model.tensors:
        assert held + min(info.offset for info in model.tensors.values()) == len(data)
    return True


def mutate(data: bytes, source: random.Random) -> bytes:
    """A few random edits: flipped bits, tokens put in, stretches removed; the length follows every other time."""
    changed = bytearray(data)
    for _ in range(source.randint(1, 4)):
        at = source.randrange(len(changed)) if changed else 0
        kind = source.randrange(4)
        if kind == 0 and changed:
            changed[at] ^= 1 << source.randrange(8)
        elif kind == 1:
            changed[at:at] = source.choice(_TOKENS)
        elif kind == 2:
            del changed[at : at + source.randint(1, 8)]
        else:
            changed[at : at + 1] = bytes([source.randrange(256)])
    if source.random() < 0.5:
        changed[:8] = max(0, len(changed) - 8 - 19).to_bytes(8, "little")
    return bytes(changed)


def check(raw: bytes, folder: Path) -> bool:
    """`check_one` in a scratch folder."""
    return check_one(raw, folder / "fuzz.safetensors")


TARGET = Target("safetensors", check, mutate, lambda: [file_of(GOOD, 19)])

if __name__ == "__main__":
    main(TARGET)
