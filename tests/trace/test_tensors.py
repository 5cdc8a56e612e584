"""Traces as safetensors: the header that comes last and stands first."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from apr import errors
from apr.trace import tensors


def test_the_header_is_filled_up_and_the_library_reads_it() -> None:
    file = io.BytesIO()
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    writer = tensors.Writer(file, Path("t"), "key", "a text\n", [("x", (2, 12)), ("y", (1, 1))])
    writer.put("x", x)
    writer.put("y", x[:1, :1, 0])
    writer.finish()
    data = file.getvalue()
    n = int.from_bytes(data[:8], "little")
    assert (8 + n) % 64 == 0 and json.loads(data[8 : 8 + n])["__metadata__"] == {"key": "a text\n"}
    found = safetensors.numpy.load(data)
    np.testing.assert_array_equal(found["x"], x)
    assert found["y"].shape == (1, 1)


def test_a_header_over_the_formats_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "MAX_HEADER_BYTES", 100)
    with pytest.raises(errors.LimitExceeded, match="choose fewer slots"):
        tensors.Writer(io.BytesIO(), Path("t"), "key", "text" * 100, [("x", (2, 12))])


def test_data_that_lies_askew_is_read_all_the_same(tmp_path: Path) -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    entries = {"__metadata__": {"key": "{}"}, "x": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8 + 3)
    path = tmp_path / "t.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + x.tobytes())
    reader = tensors.read(path, key="key")
    np.testing.assert_array_equal(reader.array("x"), x)
    reader.close()


def test_a_folders_other_files_are_none_of_its_business(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("broken")
    safetensors.numpy.save_file({"x": np.zeros((1, 1), np.float32)}, tmp_path / "t.safetensors", {"key": "{}"})
    tensors.read(tmp_path / "t.safetensors", key="key").close()
