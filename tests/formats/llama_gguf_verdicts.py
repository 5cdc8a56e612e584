"""What llama.cpp says of GGUF files: a child process reads them from stdin and prints one letter for each.

Runs as a script, because a hostile file may abort the process that reads it. `y` accepted, `n` refused; a missing letter
is a crash. The functions called are llama.cpp's own, from the library inside the `xllamacpp` package.
"""

from __future__ import annotations

import ctypes
import struct
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path


def verdicts(cases: list[bytes]) -> list[bool]:
    """For each file: does llama.cpp accept it? A crash counts as no."""
    found: list[bool] = []
    while len(found) < len(cases):
        stream = b"".join(struct.pack("<Q", len(case)) + case for case in cases[len(found) :])
        child = subprocess.run([sys.executable, __file__], input=stream, capture_output=True, check=False)
        found += [letter == ord("y") for letter in child.stdout]
        if child.returncode and len(found) < len(cases):
            found.append(False)
    return found


def library() -> ctypes.CDLL:
    """llama.cpp, out of the `xllamacpp` package."""
    spec = find_spec("xllamacpp")
    assert spec is not None and spec.origin is not None
    return ctypes.CDLL(str(Path(spec.origin).with_name("xllamacpp.abi3.so")))


def type_table() -> dict[int, tuple[int, int]]:
    """Elements and bytes of a block of each tensor type, by number; 0 for removed types."""
    import xllamacpp

    llama = library()
    llama.ggml_blck_size.restype, llama.ggml_type_size.restype = ctypes.c_int64, ctypes.c_size_t
    n_types = int(xllamacpp.ggml_type.GGML_TYPE_COUNT)
    return {number: (llama.ggml_blck_size(number), llama.ggml_type_size(number)) for number in range(n_types)}


def main() -> None:
    """Read (length, bytes) records from stdin; print a letter for each."""

    class Params(ctypes.Structure):
        _fields_ = (("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p))

    llama = library()
    llama.gguf_init_from_file.argtypes, llama.gguf_init_from_file.restype = [ctypes.c_char_p, Params], ctypes.c_void_p
    llama.gguf_get_n_tensors.argtypes, llama.gguf_get_n_tensors.restype = [ctypes.c_void_p], ctypes.c_int64
    llama.gguf_get_data_offset.argtypes, llama.gguf_get_data_offset.restype = [ctypes.c_void_p], ctypes.c_size_t
    for name in ("gguf_get_tensor_offset", "gguf_get_tensor_size"):
        getattr(llama, name).argtypes, getattr(llama, name).restype = [ctypes.c_void_p, ctypes.c_int64], ctypes.c_size_t
    llama.gguf_free.argtypes = [ctypes.c_void_p]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.gguf"
        while head := sys.stdin.buffer.read(8):
            raw = sys.stdin.buffer.read(struct.unpack("<Q", head)[0])
            path.write_bytes(raw)
            opened = llama.gguf_init_from_file(str(path).encode(), Params(True, None))
            # the bound that llama.cpp's model loader checks after this call
            good = bool(opened) and all(
                llama.gguf_get_data_offset(opened)
                + llama.gguf_get_tensor_offset(opened, i)
                + llama.gguf_get_tensor_size(opened, i)
                <= len(raw)
                for i in range(llama.gguf_get_n_tensors(opened))
            )
            if opened:
                llama.gguf_free(opened)
            sys.stdout.write("y" if good else "n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
