"""Which file beside a copy is its original."""

from __future__ import annotations

from pathlib import Path

from apr.qa._reference import beside


def touched(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_the_same_name_in_another_container_is_the_original(tmp_path: Path) -> None:
    touched(tmp_path / "m.apr", tmp_path / "m.gguf", tmp_path / "other.safetensors")
    assert beside(tmp_path / "m.apr") == tmp_path / "m.gguf"
    assert beside(tmp_path / "m.gguf") == tmp_path / "m.apr"


def test_a_folder_of_safetensors_goes_first(tmp_path: Path) -> None:
    touched(tmp_path / "m.apr", tmp_path / "m.gguf", tmp_path / "m" / "model.safetensors")
    assert beside(tmp_path / "m.gguf") == tmp_path / "m"
    assert beside(tmp_path / "m") is None


def test_two_candidates_are_none(tmp_path: Path) -> None:
    touched(tmp_path / "m.apr", tmp_path / "m.gguf", tmp_path / "m.safetensors")
    assert beside(tmp_path / "m.apr") is None


def test_nothing_beside_is_none(tmp_path: Path) -> None:
    touched(tmp_path / "m.apr", tmp_path / "n.gguf")
    assert beside(tmp_path / "m.apr") is None
