"""Make a broken copy of a GGUF file: its rotary base is 10000, as a converter leaves it that does not know the key.

    python examples/broken-copy/plant.py MODEL.gguf OUT.gguf

Nothing else changes, not even the size: four bytes of the header, behind the key's name and its type.
"""

from __future__ import annotations

import shutil
import struct
import sys
from pathlib import Path

HEADER_BYTES = 1 << 20  # the key is near the beginning, among the other hyper-parameters
FLOAT32 = 6  # GGUF specification, gguf_metadata_value_type
PLANTED = 10000.0


def plant(source: Path, target: Path) -> float:
    """Copy the file and change its rotary base; what it was. Raises SystemExit for a file that says none."""
    with source.open("rb") as file:
        header = file.read(HEADER_BYTES)
    name = header.find(b".rope.freq_base")
    at = name + len(b".rope.freq_base")
    if name < 0 or struct.unpack_from("<I", header, at) != (FLOAT32,):
        raise SystemExit(f"{source}: no rotary base in the first MiB; another model has one, such as smollm2")
    (before,) = struct.unpack_from("<f", header, at + 4)
    shutil.copyfile(source, target)
    with target.open("r+b") as file:
        file.seek(at + 4)
        file.write(struct.pack("<f", PLANTED))
    return float(before)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    was = plant(Path(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.write(f"{sys.argv[2]}: a copy whose rope_theta is {PLANTED:g}; it was {was:g}\n")
