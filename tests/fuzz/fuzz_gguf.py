"""Fuzz the GGUF reader: `python tests/fuzz/fuzz_gguf.py --seconds 60 --seed 1`.

With atheris installed the search is guided by coverage; without it, files are mutated at random, with numbers at the
boundaries put in the place of counts. Whatever comes in, the reader either raises a FormatError or hands out a header
that holds what it promises and survives being written and read again.
"""

from __future__ import annotations

import random
import struct
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from apr.errors import FormatError
from apr.formats._base import Outgoing
from apr.formats._gguf_header import Header, parse
from apr.formats._gguf_writer import Typed, encode_header
from formats import gguf_bytes
from fuzz.fuzz_loop import Target, main

BOUNDARIES = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**61, 2**62, 2**63 - 1, 2**63, 2**64 - 8, 2**64 - 1)
NOWHERE = Path("fuzz.gguf")


def seeds() -> list[bytes]:
    """Small good files to start from."""
    return [
        gguf_bytes.tiny()[1],
        gguf_bytes.one((32, 2), kind=8, n_bytes=96),
        gguf_bytes.two(),
        gguf_bytes.with_alignment(64),
    ]


def check(raw: bytes, folder: Path) -> bool:
    """Read `raw`; True if it was accepted. Raises AssertionError, or what the reader must not raise, for a finding."""
    try:
        header = parse(NOWHERE, memoryview(raw), file_size=len(raw))
    except FormatError:
        return False
    for info in header.tensors.values():
        assert info.n_bytes > 0 and info.offset + info.n_bytes <= len(raw), f"{info.name!r} lies outside of the file"
        assert info.offset % header.alignment == 0, f"{info.name!r} is not aligned"
    tensors = tuple((info.name, info.codec, info.shape) for info in header.tensors.values())
    metadata = {key: Typed(header.value_types[key], value) for key, value in header.metadata.items()}
    written = encode_header(NOWHERE, Outgoing(metadata, tensors, lambda name: None))  # type: ignore[arg-type, return-value]
    again = parse(NOWHERE, memoryview(written), file_size=len(written) + header.data_end - header.data_offset)
    assert _shown(again) == _shown(header), "a header changes when it is written and read again"
    return True


def _shown(header: Header) -> str:
    # repr, because NaN differs from itself
    values = {key: list(v) if hasattr(v, "tolist") else v for key, v in header.metadata.items()}
    return repr((header.alignment, values, header.value_types, list(header.tensors.values())))


def mutate(raw: bytes, dice: random.Random) -> bytes:
    """One to four random changes: bits, bytes, boundary numbers, cuts, repeated pieces."""
    out = bytearray(raw)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(out)) if out else 0
        match dice.randrange(6):
            case 0 if out:
                out[at] ^= 1 << dice.randrange(8)
            case 1 if out:
                out[at] = dice.choice((0, 0x7F, 0x80, 0xFF, dice.randrange(256)))
            case 2:
                out[at : at + 8] = struct.pack("<Q", dice.choice(BOUNDARIES))
            case 3:
                out[at : at + 4] = struct.pack("<I", dice.choice(BOUNDARIES) & 0xFFFFFFFF)
            case 4:
                del out[at : at + dice.randint(1, 40)]
            case _:
                out[at:at] = out[at : at + dice.randint(1, 40)]
    return bytes(out)


TARGET = Target("GGUF", check, mutate, seeds)

if __name__ == "__main__":
    main(TARGET)
