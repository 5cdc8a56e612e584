"""A model is known by what it holds: no name, time or packing decides, and no byte of a tensor is overlooked."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import tiny
from apr.errors import UsageError
from apr.ledger._subject import Subject


def test_each_file_has_the_digest_of_its_bytes(model: Path) -> None:
    subject = Subject.of(model)
    assert subject.files == {"model.gguf": hashlib.sha256(model.read_bytes()).hexdigest()}
    assert (subject.name, subject.format, subject.n_tensors) == ("model.gguf", "gguf", len(tiny.tensors(tiny.config())))


def test_the_digest_of_the_tensors_is_that_of_a_listing_made_by_another_reader(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path / "m", "safetensors")
    lines = []
    for name, values in sorted(load_file(folder / "model.safetensors").items()):
        row = [name, "f32", list(values.shape), hashlib.sha256(values.tobytes()).hexdigest()]
        lines.append(json.dumps(row, separators=(",", ":")) + "\n")
    assert Subject.of(folder).tensors_sha256 == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_a_folder_counts_the_side_files_that_say_how_to_run_it(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path / "m", "safetensors")
    before = Subject.of(folder)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(before.files)
    config = folder / "config.json"
    config.write_text(config.read_text().replace("10000.0", "20000.0"))
    after = Subject.of(folder)
    assert after.files["config.json"] != before.files["config.json"] and after.tensors_sha256 == before.tensors_sha256


def test_packing_anew_keeps_the_digest_of_the_tensors(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path / "m", "safetensors")
    before = Subject.of(folder)
    weights = load_file(folder / "model.safetensors")
    save_file(dict(reversed(weights.items())), folder / "model.safetensors", {"format": "pt", "packed": "anew"})
    after = Subject.of(folder)
    assert after.tensors_sha256 == before.tensors_sha256 and after.files != before.files


@pytest.mark.parametrize("change", ["value", "name", "shape", "swap"])
def test_a_change_of_any_tensor_changes_the_digest(tmp_path: Path, change: str) -> None:
    folder = tiny.write(tmp_path / "m", "safetensors")
    before = Subject.of(folder).tensors_sha256
    weights = load_file(folder / "model.safetensors")
    q, k = (f"model.layers.{i}.self_attn.q_proj.weight" for i in (0, 1))
    if change == "value":
        weights[q] = weights[q].copy()
        weights[q].view(np.uint32)[-1, -1] ^= 1
    elif change == "name":
        weights["more"] = weights.pop(q)
    elif change == "shape":
        weights[q] = np.ascontiguousarray(weights[q].reshape(-1))
    else:
        weights[q], weights[k] = weights[k], weights[q]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert Subject.of(folder).tensors_sha256 != before


def test_a_copy_elsewhere_is_the_same_model(model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.gguf"
    shutil.copy(model, copy)
    one, other = Subject.of(model), Subject.of(copy)
    assert one.tensors_sha256 == other.tensors_sha256 and set(one.files.values()) == set(other.files.values())


def test_a_model_without_tensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.safetensors"
    save_file({}, path)
    with pytest.raises(UsageError, match="holds no tensor"):
        Subject.of(path)


def test_the_digest_of_a_run_record_is_another_and_neither_is_taken_for_the_other(model: Path) -> None:
    from apr.engines._language_model import of_file
    from apr.formats import open_model

    listed = Subject.of(model).tensors_sha256
    with of_file(open_model(model), engine="native", threads=1) as loaded:
        recorded = loaded.generate("a", regime="raw", max_tokens=1).tensors_sha256
        assert recorded == loaded.checkpoint.content_sha256() != listed
    assert Subject.of(model).tensors_sha256 == listed
