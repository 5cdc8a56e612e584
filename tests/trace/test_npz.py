"""Zips of strangers: nothing is unpickled, inflated or believed."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apr import errors
from apr.trace import npz

TEXT = np.array("{}")


class Bomb:
    """What runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was loaded",))


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def header(shape: str) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def zipped(path: Path, members: Mapping[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_a_plain_zip_is_read(tmp_path: Path) -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    reader = npz.read(zipped(tmp_path / "a.npz", {"key.npy": npy(TEXT), "x.npy": npy(x)}), key="key")
    np.testing.assert_array_equal(reader.array("x"), x)
    assert reader.text == b"{}" and reader.shapes == {"x": (2, 3)}
    reader.close()


X = npy(np.zeros((2, 2), dtype=np.float32))


@pytest.mark.parametrize(
    ("name", "data", "error", "message"),
    [
        ("x.npy", npy(np.array([Bomb()], dtype=object)), errors.HostileFile, "pickled objects"),
        ("x.npy", header("(1000000000000,)"), errors.ShapeMismatch, "not the bytes it has"),
        ("x.npy", header("(0, -1)"), errors.BadMetadata, "does not start as NumPy writes"),
        ("x.npy", header(str((0,) * 9)), errors.LimitExceeded, "9 dimensions"),
        ("x.npy", header("__import__('os')"), errors.BadMetadata, "does not start as NumPy writes"),
        ("x.npy", header("[" * 3000), errors.BadMetadata, "does not start as NumPy writes"),
        ("x.npy", header("(" + " " * 60000 + ")"), errors.BadMetadata, "does not start as NumPy writes"),
        ("x.npy", X[:6] + b"\x03" + X[7:], errors.BadMetadata, "version 1.0"),
        ("x.npy", b"", errors.BadMetadata, "does not start"),
        ("x.npy", X[:-1], errors.ShapeMismatch, "not the bytes it has"),
        ("x.npy", X + b"\0", errors.ShapeMismatch, "not the bytes it has"),
        ("x.npy", npy(np.zeros((2, 2), dtype=">f4")), errors.UnknownDtype, "expected float32"),
        ("x.npy", npy(np.zeros((2, 3), dtype=np.float32, order="F")), errors.BadMetadata, "column-major"),
        ("x.pkl", X, errors.BadString, "expected the name of a slot"),
        ("x" * 300 + ".npy", X, errors.BadString, "expected the name of a slot"),
    ],
)
def test_a_strange_member_is_refused(
    tmp_path: Path, name: str, data: bytes, error: type[errors.FormatError], message: str
) -> None:
    path = zipped(tmp_path / "a.npz", {"key.npy": npy(TEXT), "healthy.npy": X, name: data})
    with pytest.raises(error, match=message):
        npz.read(path, key="key")


@pytest.mark.parametrize("key", [np.array([TEXT, TEXT]), np.array(b"{}"), np.array(1.5)])
def test_a_key_that_is_no_text_is_refused(tmp_path: Path, key: np.ndarray) -> None:
    with pytest.raises(errors.BadMetadata, match="expected one text"):
        npz.read(zipped(tmp_path / "a.npz", {"key.npy": npy(key), "x.npy": X}), key="key")


def test_a_key_of_no_characters_at_all_is_refused(tmp_path: Path) -> None:
    data = npy(np.array("ab"))[:-8] + b"\xff\xff\xff\xff" * 2
    with pytest.raises(errors.BadString, match="not text"):
        npz.read(zipped(tmp_path / "a.npz", {"key.npy": data, "x.npy": X}), key="key")


def test_a_compressed_member_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.npz", {"key.npy": npy(TEXT), "x.npy": X}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(errors.HostileFile, match="compressed or encrypted"):
        npz.read(path, key="key")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.npz", {"key.npy": npy(TEXT), "x.npy": X})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x.npy", X)
    with pytest.raises(errors.DuplicateName):
        npz.read(path, key="key")


def test_a_flipped_bit_is_found_when_it_is_read(tmp_path: Path) -> None:
    x = np.full((2, 9999), 1.5, dtype=np.float32)
    path = zipped(tmp_path / "a.npz", {"key.npy": npy(TEXT), "x.npy": npy(x)})
    data = bytearray(path.read_bytes())
    data[data.rindex(x.tobytes()) + 2] ^= 1
    path.write_bytes(data)
    reader = npz.read(path, key="key")
    with pytest.raises(errors.ChecksumMismatch, match="damaged"):
        reader.array("x")
    reader.close()


def test_more_members_than_the_limit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(tmp_path / "a.npz", {"key.npy": npy(TEXT), "x.npy": X})
    monkeypatch.setattr(npz, "MAX_MEMBERS", 1)
    with pytest.raises(errors.LimitExceeded, match="2 arrays, the limit is 1"):
        npz.read(path, key="key")


def test_what_is_no_zip_and_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"GGUF" * 100)
    with pytest.raises(errors.BadMagic, match="not a zip"):
        npz.read(tmp_path / "a.npz", key="key")
    with pytest.raises(errors.HostileFile, match="not a regular file"):
        npz.read(tmp_path, key="key")
