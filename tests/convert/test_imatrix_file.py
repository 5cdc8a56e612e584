"""Importance matrices: ours are read by gguf-py, llama.cpp's older form is read too, and what is neither is refused by its byte."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from apr.convert import _imatrix_file
from apr.convert._imatrix_file import Collected
from apr.errors import FormatError

SUMS = {"blk.0.attn_q.weight": np.array([2.0, 4.0, 8.0], np.float32), "blk.0.ffn_down.weight": np.ones(5, np.float32)}
FOUND = Collected(SUMS, {"blk.0.attn_q.weight": 4, "blk.0.ffn_down.weight": 2}, ("wiki.txt",), 2, 512)


def legacy(*entries: tuple[str, int, list[float]], tail: bytes = b"") -> bytes:
    """llama.cpp, tools/imatrix/imatrix.cpp: save_imatrix_legacy."""
    parts = [struct.pack("<i", len(entries))]
    for name, calls, values in entries:
        parts.append(
            struct.pack(f"<i{len(name)}sii{len(values)}f", len(name), name.encode(), calls, len(values), *values)
        )
    return b"".join(parts) + tail


def test_gguf_py_reads_what_is_written(tmp_path: Path) -> None:
    import gguf

    _imatrix_file.write(tmp_path / "m.gguf", FOUND)
    reader = gguf.GGUFReader(tmp_path / "m.gguf")
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert set(tensors) == {f"{name}.{kind}" for name in SUMS for kind in ("in_sum2", "counts")}
    sums = tensors["blk.0.attn_q.weight.in_sum2"]
    assert sums.data.reshape(-1).tolist() == [2, 4, 8] and list(sums.shape) == [3, 1]
    assert tensors["blk.0.attn_q.weight.counts"].data.reshape(-1).tolist() == [4]
    fields = {key: reader.fields[key].contents() for key in ("general.type", "imatrix.chunk_count", "imatrix.datasets")}
    assert fields == {"general.type": "imatrix", "imatrix.chunk_count": 2, "imatrix.datasets": ["wiki.txt"]}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    _imatrix_file.write(tmp_path / "m.gguf", FOUND)
    found = _imatrix_file.read(tmp_path / "m.gguf")
    assert found.columns["blk.0.attn_q.weight"].tolist() == [0.5, 1.0, 2.0] and found.datasets == ("wiki.txt",)
    assert (found.path, found.n_chunks) == ("m.gguf", 2)


def test_the_older_form_holds_means_times_calls(tmp_path: Path) -> None:
    path = tmp_path / "m.dat"
    path.write_bytes(legacy(("a", 4, [2.0, 8.0]), ("b", 0, [3.0]), tail=struct.pack("<ii4s", 7, 4, b"text")))
    found = _imatrix_file.read(path)
    assert {name: values.tolist() for name, values in found.columns.items()} == {"a": [0.5, 2.0], "b": [3.0]}
    assert (found.n_chunks, found.datasets) == (7, ("text",))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "bytes too early"),
        (b"\0\0", "bytes too early"),
        (legacy(), "holds no importance matrix"),
        (struct.pack("<i", -1), "-1 entries at byte 0"),
        (struct.pack("<i", 1 << 30), "entries at byte 0"),
        (struct.pack("<ii", 1, 1 << 20), "bytes of a name at byte 4"),
        (legacy(("a", 1, [1.0]))[:-2], "2 bytes too early"),
        (legacy(("a", 1, [float("nan")])), "a holds a value that is not finite"),
        (legacy(("a", 1, [-1.0])), "or negative"),
        (legacy(("a", 1, [float("inf")])), "not finite"),
        (b"GGUF", "truncated|ends|short|GGUF"),
    ],
)
def test_what_is_none_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "m.dat"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=said):
        _imatrix_file.read(path)


def test_a_model_is_no_importance_matrix(tmp_path: Path) -> None:
    import tiny

    with pytest.raises(FormatError, match="expected 'imatrix'"):
        _imatrix_file.read(tiny.write(tmp_path, "gguf"))
