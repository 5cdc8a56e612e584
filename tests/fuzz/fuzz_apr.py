"""Fuzz the `.apr` reader: `python tests/fuzz/fuzz_apr.py --seconds 60 --seed 1`.

With atheris installed the search is guided by coverage; without it, files are mutated at random, with boundary numbers
in the place of counts and, every other time, with the checksums made right again. Whatever comes in, both readers either
raise a FormatError or hand out tensors inside the file, and what the strict one accepts survives being written again.
"""

from __future__ import annotations

import contextlib
import random
import struct
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from apr.errors import BadMetadata, FormatError, UnsupportedError
from apr.formats import apr
from apr.formats._base import Outgoing
from formats.apr_samples import TENSORS, VALUES, encode, repaired, stored
from fuzz.fuzz_loop import Target, main

BOUNDARIES = (0, 1, 63, 64, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 64, 2**64 - 8, 2**64 - 1)


def seeds() -> list[bytes]:
    """Small good files, and some of the look-alikes, to start from."""
    metadata = str(VALUES).replace("'", '"').replace("None", "null").encode()
    tiny = [(b"a", 0, (2, 3), bytes(24)), (b"b", 128, (40,), bytes(36)), (b"c", 12, (1, 256), bytes(144))]
    files = [encode(metadata, TENSORS[2:]), encode(b'{"name":"x"}', tiny), encode(b"{}", tiny, flags=0x20)[:-4]]
    return [*files, encode(b"{}", []), *(stored(f"{name}.apr") for name in ("att48-aco", "pong-ai-v1"))]


def check(raw: bytes, folder: Path) -> bool:
    """Read `raw`; True if the strict reader takes it. Raises AssertionError, or what readers must not raise."""
    path = folder / "fuzz.apr"
    path.write_bytes(raw)
    with contextlib.suppress(FormatError), apr.read_lenient(path) as lenient:
        _use(lenient)
    try:
        model = apr.read(path)
    except FormatError:
        return False
    with model:
        for info in model.tensors.values():
            assert info.offset + info.n_bytes <= len(raw), f"{info.name!r} lies outside of the file"
            assert model.array(info.name).shape == info.shape, f"{info.name!r} is decoded to another shape"
        _write_again(model, folder / "again.apr")
    return True


def _use(model: apr.AprFile) -> None:
    for name in model.tensors:
        with contextlib.suppress(FormatError, UnsupportedError):
            model.array(name)


def _write_again(model: apr.AprFile, path: Path) -> None:
    tensors = tuple((info.name, info.codec, info.shape) for info in model.tensors.values())
    try:
        apr.write(path, Outgoing(model.metadata, tensors, model.raw))
    except (BadMetadata, UnsupportedError):  # another spelling of a key, a type of realizar's
        return
    with apr.read(path) as again:
        assert repr(again.metadata) == repr(model.metadata), "the metadata changes when it is written and read again"
        assert all(again.raw(n).tobytes() == model.raw(n).tobytes() for n in model.tensors) and again.verify()


def mutate(raw: bytes, dice: random.Random) -> bytes:
    """One to four random changes: bits, bytes, boundary numbers, cuts, repeated pieces; then perhaps right checksums."""
    out = bytearray(raw)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(min(len(out), 700)) if out else 0
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
    return repaired(bytes(out)) if dice.random() < 0.7 and len(out) > 64 else bytes(out)


TARGET = Target(".apr", check, mutate, seeds)

if __name__ == "__main__":
    main(TARGET)
