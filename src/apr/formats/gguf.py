"""GGUF, the single-file format of llama.cpp: metadata and tensors. Read as hostile input, written atomically.

A file is refused if the specification or llama.cpp refuses it, and for what both leave to luck: keys that are not
printable ASCII, text that is not UTF-8, truth values other than 0 and 1, dimensions of 0, names that are empty. Tokens
may be any bytes. Counts are compared with the bytes left before anything is allocated. Limits: 64 MiB a string, 64 KiB
a token, 65,536 keys, 1,048,576 tensors, 4 dimensions, 4,194,304 strings in arrays, 64 MiB an array of numbers.

Versions 2 and 3, little-endian. A shape is row-major, [out_features, in_features]: GGUF's own order is turned round
here, and nowhere else. Bytes after the last tensor are legal and told in `warnings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from apr.errors import TruncatedFile
from apr.formats._base import ModelFile
from apr.formats._gguf_arrays import NumberArray, StringArray
from apr.formats._gguf_header import MAGIC, parse
from apr.formats._gguf_writer import Typed, write

__all__ = ["GgufFile", "NumberArray", "StringArray", "Typed", "is_mine", "read", "write"]


class GgufFile(ModelFile):
    """An opened GGUF file.

    version:      2 or 3
    alignment:    bytes to which each tensor's data is aligned, 32 unless the file says otherwise
    metadata:     int, float, bool, str; arrays are `StringArray` or `NumberArray`, decoded on access, also after `close`
    value_types:  the GGUF type of each metadata value: "uint32", "string", "array[float32]" ...
    """

    format = "gguf"

    def __init__(self, path: Path) -> None:
        """Open and check. Raises FormatError, one subclass a rule, with the byte where it is broken; UsageError."""
        super().__init__(path)
        mapped = self.map(path)
        try:
            header = parse(path, mapped.buffer, file_size=mapped.size)
        except BaseException:
            self.close()
            raise
        self.version = header.version
        self.alignment = header.alignment
        self.metadata = MappingProxyType(header.metadata)
        self.value_types: Mapping[str, str] = MappingProxyType(header.value_types)
        self.tensors = header.tensors
        self.warnings = header.warnings
        self._data_end = header.data_end

    @property
    def typed_metadata(self) -> dict[str, Typed]:
        """The metadata for `write`, each value with the type that it has in this file: nothing changes on the way."""
        return {key: Typed(self.value_types[key], value) for key, value in self.metadata.items()}

    def verify(self) -> list[str]:
        """Check that the file still holds every tensor.

        Returns an empty list: GGUF has no checksums, and this is not a pass.
        Raises TruncatedFile if the file has become shorter since it was opened.
        """
        size = self.path.stat().st_size
        if size < self._data_end:
            message = (
                f"the tensors end at byte {self._data_end:,}, the file now has {size:,}; "
                "it was cut after it had been opened"
            )
            raise TruncatedFile(self.path, message, offset=size)
        return []


def is_mine(head: bytes) -> bool:
    """Whether a file that starts with these bytes is GGUF, of any version."""
    return head[:4] == MAGIC


def read(path: Path) -> GgufFile:
    """Open the GGUF file at `path`. Raises FormatError for bytes that break the format, UsageError without a file."""
    return GgufFile(path)
