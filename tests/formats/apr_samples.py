"""Every `.apr` sample: how to build it, its SHA-256 as found, what upstream's readers say, and what we must say.

Defective files are made from one good file by small changes, and their hash proves that they are the very files that
upstream's readers were run on. Files that are too large to keep are stood in for by their head (everything before the
data) and zeros; `tests/fixtures/apr/README.md` says which.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

FIXTURES = Path(__file__).parents[1] / "fixtures" / "apr"

Tensor = tuple[bytes, int, tuple[int, ...], bytes]


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 64)


def with_header_checksum(file: bytes) -> bytes:
    return file[:40] + struct.pack("<I", zlib.crc32(file[44:64], zlib.crc32(file[:40]))) + file[44:]


def with_footer(file: bytes) -> bytes:
    """The file with its last four bytes made right."""
    return file[:-4] + struct.pack("<I", zlib.crc32(file[:-4]))


def repaired(file: bytes) -> bytes:
    return with_footer(with_header_checksum(file))


def patched(file: bytes, at: int, new: bytes) -> bytes:
    return file[:at] + new + file[at + len(new) :]


def encode(metadata: bytes, tensors: Sequence[Tensor], *, flags: int = 0x0400) -> bytes:
    """A version 2 file, written from the format's description and not with the code under test."""
    index, data = b"", b""
    for name, code, shape, content in tensors:
        index += struct.pack("<H", len(name)) + name + struct.pack(f"<BB{len(shape)}Q", code, len(shape), *shape)
        index += struct.pack("<QQ", len(data), len(content))
        data += padded(content)
    index_at = 64 + len(padded(metadata))
    head = struct.pack(
        "<4sBBHIQIQQ", b"APR\0", 2, 0, flags, len(tensors), 64, len(metadata), index_at, index_at + len(padded(index))
    )
    return repaired(head.ljust(64, b"\0") + padded(metadata) + padded(index) + data + bytes(4))


def stored(name: str) -> bytes:
    return (FIXTURES / name).read_bytes()


GOOD = stored("00-good.apr")
METADATA = GOOD[64 : 64 + 334]
VALUES = json.loads(METADATA)
TENSORS: list[Tensor] = [
    (b"lm_head.weight", 0, (32, 64), GOOD[704 : 704 + 8192]),
    (b"model.embed_tokens.weight", 0, (32, 64), GOOD[8896 : 8896 + 8192]),
    (b"model.layers.0.input_layernorm.weight", 0, (64,), GOOD[17088 : 17088 + 256]),
    (b"model.norm.weight", 0, (64,), GOOD[17344 : 17344 + 256]),
]


def with_metadata(metadata: bytes) -> Callable[[], bytes]:
    return lambda: encode(metadata, TENSORS)


def with_text(old: bytes, new: bytes) -> Callable[[], bytes]:
    assert METADATA.count(old) == 1
    return with_metadata(METADATA.replace(old, new))


def with_tensor(name: bytes, code: int, shape: tuple[int, ...], content: bytes) -> Callable[[], bytes]:
    return lambda: encode(METADATA, sorted([*TENSORS, (name, code, shape, content)]))


def with_flags(flags: int) -> Callable[[], bytes]:
    return lambda: encode(METADATA, TENSORS, flags=flags)


def with_field(at: int, new: bytes) -> Callable[[], bytes]:
    """The good file with a changed header, its own checksum right and the footer's left as it was."""
    return lambda: with_header_checksum(patched(GOOD, at, new))


def v1_patch(at: int, new: bytes) -> Callable[[], bytes]:
    return lambda: with_footer(patched(stored("mnist_784x2.apr"), at, new))


def before_renumbering() -> bytes:
    file = stored("v2-writer-dtype-ids-30-128-129.apr")
    for at, code in ((908, 2), (1200, 8), (1271, 8), (1340, 8), (1488, 9), (1562, 9), (1636, 9), (1710, 9)):
        file = patched(file, at, bytes([code]))
    return with_footer(file)


def head_and_zeros(name: str, size: int) -> Callable[[], bytes]:
    """A stored head, zeros up to `size`, and a right checksum at the end."""
    return lambda: with_footer(stored(f"heads/{name}.head").ljust(size, b"\0"))


def head_without_footer(name: str, size: int) -> Callable[[], bytes]:
    return lambda: stored(f"heads/{name}.head").ljust(size, b"\0")


def _zz(code: int) -> Callable[[], bytes]:
    return with_tensor(b"zz", code, (32,), bytes(128))


def _spaced() -> bytes:
    values = {key: value for key, value in VALUES.items() if key != "hidden_size"} | {"hidden_dim": 64}
    return encode(json.dumps(values).encode(), TENSORS)


FOUR_FLOATS = bytes(16)
SWAPPED = [TENSORS[1], TENSORS[0], TENSORS[3], TENSORS[2]]
BUILDERS: dict[str, Callable[[], bytes]] = {
    "bashrs_oracle": head_and_zeros("bashrs_oracle", 246053),
    "sample-transformer": head_and_zeros("sample-transformer", 4170583),
    "v2-writer-2026-02-dtype-ids-2-8-9": before_renumbering,
    "v2-py-llama-tiny-aprq4": head_and_zeros("v2-py-llama-tiny-aprq4", 211652),
    "v2-py-llama-tiny-aprq8": head_and_zeros("v2-py-llama-tiny-aprq8", 244804),
    "v2-py-llama-tiny-bf16": head_and_zeros("v2-py-llama-tiny-bf16", 235716),
    "v2-py-llama-tiny-f16": head_and_zeros("v2-py-llama-tiny-f16", 235716),
    "v2-py-llama-tiny-f32": head_and_zeros("v2-py-llama-tiny-f32", 465092),
    "v2-dialect-realizar-q4kconverter": head_without_footer("v2-dialect-realizar-q4kconverter", 465088),
    "v2-dialect-realizar-toaprbytes": head_without_footer("v2-dialect-realizar-toaprbytes", 465070),
    "00-good": lambda: GOOD,
    "01-flag-flip-no-crc": lambda: patched(GOOD, 6, b"\x20"),
    "02-header-crc-zero": lambda: patched(GOOD, 40, bytes(4)),
    "03-metadata-broken": lambda: patched(GOOD, 64, b"["),
    "04-data-flip-footer-bad": lambda: patched(GOOD, 17404, b"\xff"),
    "05-no-footer": lambda: GOOD[:-4],
    "06-trunc-in-data": lambda: GOOD[:13604],
    "07-trunc-in-index": lambda: GOOD[:488],
    "08-unsorted": lambda: encode(METADATA, SWAPPED),
    "09-dup-name": lambda: encode(METADATA, sorted([*TENSORS, TENSORS[1]])),
    "10-colmajor-flag": with_flags(0x0C00),
    "11-version-3": lambda: repaired(patched(GOOD, 4, b"\3")),
    "12-magic-APR2": lambda: repaired(patched(GOOD, 3, b"2")),
    "13-dtype-002": _zz(2),
    "13-dtype-003": _zz(3),
    "13-dtype-008": _zz(8),
    "13-dtype-013": _zz(13),
    "13-dtype-255": _zz(255),
    "14-alias-dup": with_text(b"null}", b'null,"hidden_dim":64}'),
    "15-null+alias": with_metadata(
        METADATA.replace(b'"hidden_size":64', b'"hidden_size":null')[:-1] + b',"hidden_dim":64}'
    ),
    "16-alias-only": _spaced,
    "17-flag-lz4": with_flags(0x0401),
    "18-flag-enc": with_flags(0x0404),
    "19-flag-sharded": with_flags(0x0410),
    "20-flag-0": with_flags(0),
    "21-flag-unknown-8000": with_flags(0x8400),
    "22-index-past-eof": with_field(24, struct.pack("<Q", 10**9)),
    "23-metadata-size-0": with_field(20, bytes(4)),
    "24-metadata-NaN": with_text(b"null}", b'null,"x":NaN}'),
    "25-hidden-float": with_text(b'hidden_size":64', b'hidden_size":64.0'),
    "26-heads-string": with_text(b'num_heads":4', b'num_heads":"4"'),
    "27-theta-int": with_text(b"10000.0", b"1000000"),
    "28-size-mismatch": with_tensor(b"zz", 0, (1000, 1000), FOUR_FLOATS),
    "29-long-name": with_tensor(b"z" * 300, 0, (4,), FOUR_FLOATS),
    "30-9dims": with_tensor(b"zz", 0, (1,) * 9, FOUR_FLOATS[:4]),
    "31-scalar-0dim": with_tensor(b"zz", 0, (), FOUR_FLOATS[:4]),
    "32-reserved-nonzero": with_field(50, b"\7"),
    "33-dup-json-key": with_text(b"null}", b'null,"rms_norm_eps":1e-6}'),
    "34-data-offset-unaligned": with_field(32, struct.pack("<Q", 705)),
    "35-metadata-offset-overflow": with_field(12, struct.pack("<Q", 2**64 - 8)),
    "36-trailing-garbage": lambda: GOOD + b"garbage",
    "37-zero-tensors": lambda: encode(METADATA, []),
    "38-empty-meta-obj": with_metadata(b"{}"),
    "39-utf8-bad-meta": with_metadata(b'{"name":"\xff"}'),
    "40-pretty-meta": with_metadata(json.dumps(VALUES, indent=2).encode()),
    "41-nonutf8-name": lambda: patched(GOOD, 626, b"\xff"),
    "43-name-not-nul": with_tensor(b"", 0, (4,), FOUR_FLOATS),
    "44-int-as-exp": with_text(b'hidden_size":64', b'hidden_size":6.4e1'),
    "45-extra-null-alias": with_text(b"null}", b'null,"n_layers":null}'),
    "apr1-data-bitflip": lambda: patched(stored("sample-mlp.apr"), 600, b"\x8a"),
    "apr1-truncated": lambda: stored("sample-mlp.apr")[:300],
    "aprn-compression-7": v1_patch(20, b"\7"),
    "aprn-payload-bitflip": lambda: patched(stored("mnist_784x2.apr"), 500, b"\x92"),
    "aprn-payload-size-too-big": v1_patch(12, struct.pack("<I", 10**6)),
    "aprn-truncated": lambda: stored("mnist_784x2.apr")[:3148],
    "aprn-version-9": v1_patch(4, b"\x09"),
}


@dataclass(frozen=True)
class Sample:
    """name, build: what the sample is called, and its bytes

    sha256:    of the original; None for a stand-in
    aprender:  whether aprender's reader of 2026 opens it: "accept", "reject", "panic"
    realizar:  the same of realizar's `AprV2Model`; "lost" where it drops the metadata
    outcome:   "ok", or the code of our error; offset is the byte that it names
    says:      a part of that error's message, or the codes of the warnings
    verified:  what `verify` says of a file that opens: "ok", or the code of its error
    """

    name: str
    sha256: str | None
    aprender: str
    realizar: str
    outcome: str
    says: str
    offset: int | None
    verified: str

    def build(self) -> bytes:
        return BUILDERS[self.name]() if self.name in BUILDERS else stored(f"{self.name}.apr")


def _read_table() -> list[Sample]:
    samples = []
    for line in stored("samples.tsv").decode().splitlines()[1:]:
        name, sha256, *verdicts, says, offset, verified = line.split("\t")
        known_offset = None if offset == "-" else int(offset)
        samples.append(
            Sample(name, None if sha256 == "-" else sha256, *verdicts, says.strip("-"), known_offset, verified)
        )
    return samples


SAMPLES = _read_table()
