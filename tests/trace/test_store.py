"""Traces in files: round trips, other people's readers, and files of strangers."""

from __future__ import annotations

import dataclasses
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import safetensors
from safetensors.numpy import save_file

from apr import errors
from apr.trace import Selection, Trace, load_trace, store, trace
from traced import N_POSITIONS, PROMPT, model, seen_by_a_tap

SUFFIXES = [".npz", ".safetensors"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model(tmp_path_factory.mktemp("model") / "m")


@pytest.fixture(scope="module")
def kept(path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trace]:
    """The same trace, kept in both forms."""
    folder = tmp_path_factory.mktemp("kept")
    return {suffix: trace(path, PROMPT, regime="raw", save=folder / f"t{suffix}") for suffix in SUFFIXES}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_read_is_what_a_tap_sees_bit_for_bit(kept: dict[str, Trace], path: Path, suffix: str) -> None:
    made = kept[suffix]
    values = seen_by_a_tap(path, made.header.prompt_token_ids)
    assert made.file is not None and made.file_bytes == Path(made.file).stat().st_size
    with load_trace(made.file) as saved:
        assert list(saved.shapes) == list(values)
        for slot, value in values.items():
            assert saved.array(slot).dtype == np.float32
            np.testing.assert_array_equal(saved.array(slot), value)
        assert saved.shapes["layers.0.q_rope"] == (N_POSITIONS, 4, 16)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_trace_comes_back_whole(kept: dict[str, Trace], suffix: str) -> None:
    made = kept[suffix]
    with load_trace(str(made.file)) as saved:
        found = saved.with_figures()
        one = saved.with_figures(Selection(("embed",)))
    assert [slot.slot for slot in one.slots] == ["embed"]
    assert dataclasses.replace(found, slots=()) == dataclasses.replace(made, slots=(), seconds=found.seconds)
    for ours, theirs in zip(found.slots, made.slots, strict=True):
        assert ours == theirs


def test_the_safetensors_library_reads_it(kept: dict[str, Trace], path: Path) -> None:
    made = kept[".safetensors"]
    values = seen_by_a_tap(path, made.header.prompt_token_ids)
    with safetensors.safe_open(str(made.file), framework="numpy") as file:
        assert set(file.keys()) == set(values)
        for slot in file.keys():  # noqa: SIM118 - not a dict
            np.testing.assert_array_equal(file.get_tensor(slot), values[slot])
        header = json.loads(file.metadata()["apr.trace"])["header"]
    assert header["token_ids_sha256"] == made.header.token_ids_sha256 and header["prompt_text"] == PROMPT


def test_numpy_reads_it_without_pickles(kept: dict[str, Trace], path: Path) -> None:
    made = kept[".npz"]
    values = seen_by_a_tap(path, made.header.prompt_token_ids)
    with np.load(str(made.file), allow_pickle=False) as file:
        assert set(file.files) == {*values, "apr.trace"}
        np.testing.assert_array_equal(file["layers.1.out"], values["layers.1.out"])
        assert json.loads(str(file["apr.trace"]))["schema"] == "apr.trace/1"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_only_what_was_chosen_is_kept(path: Path, tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"t{suffix}"
    made = trace(path, PROMPT, regime="raw", selection=Selection(("out",), positions="-1"), save=target)
    values = seen_by_a_tap(path, made.header.prompt_token_ids)
    with load_trace(target) as saved:
        assert saved.shapes == {"layers.0.out": (1, 64), "layers.1.out": (1, 64)}
        np.testing.assert_array_equal(saved.array("layers.1.out"), values["layers.1.out"][-1:])
        assert saved.trace.header.positions == (N_POSITIONS - 1,)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_values_that_are_not_finite_are_kept_as_they_are(tmp_path: Path, suffix: str) -> None:
    norm = np.ones(64, dtype=np.float32)
    norm[7], norm[9] = np.nan, np.inf
    made = trace(
        model(tmp_path / "m", **{"model.layers.1.input_layernorm.weight": norm}),
        PROMPT,
        regime="raw",
        save=tmp_path / f"t{suffix}",
    )
    with load_trace(str(made.file)) as saved:
        values = saved.array("layers.1.attn_norm")
        assert np.isnan(values[:, 7]).all() and np.isinf(values[:, 9]).all()
        assert saved.with_figures().slots == made.slots


def test_the_same_trace_is_the_same_slots_in_the_same_bytes(path: Path, tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        trace(path, PROMPT, regime="raw", save=tmp_path / name)
    with zipfile.ZipFile(tmp_path / "a.npz") as a, zipfile.ZipFile(tmp_path / "b.npz") as b:
        assert [(m.filename, m.CRC) for m in a.infolist()[1:]] == [(m.filename, m.CRC) for m in b.infolist()[1:]]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_is_refused_before_anything_is_written(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_100_000))
    with pytest.raises(errors.UsageError, match=r"the tensors take 0\.1 MB, the disk has 1\.1 MB left"):
        trace(path, PROMPT, regime="raw", save=tmp_path / f"t{suffix}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_failure_half_way_leaves_what_was_there(kept: dict[str, Trace], tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"t{suffix}"
    target.write_bytes(b"before")
    values = np.zeros((N_POSITIONS, 64), dtype=np.float32)
    with pytest.raises(RuntimeError), store.writing(target, kept[suffix]) as put:
        put("embed", values)
        raise RuntimeError
    with (
        pytest.raises(errors.InternalError, match=r"layers\.0\.attn_norm did not come"),
        store.writing(target, kept[suffix]) as put,
    ):
        put("embed", values)
    with (
        pytest.raises(errors.InternalError, match="came where embed was due"),
        store.writing(target, kept[suffix]) as put,
    ):
        put("logits", values)
    assert target.read_bytes() == b"before" and list(tmp_path.iterdir()) == [target]


def test_a_trace_and_a_model_are_told_apart(kept: dict[str, Trace], path: Path, tmp_path: Path) -> None:
    assert all(store.is_trace(Path(str(made.file))) for made in kept.values())
    assert not store.is_trace(path / "model.safetensors") and not store.is_trace(path)
    (tmp_path / "empty.safetensors").touch()
    assert not store.is_trace(tmp_path / "empty.safetensors")


# ---- files of strangers


class Content(NamedTuple):
    """What is in a trace: its JSON, and its tensors."""

    document: dict[str, Any]
    tensors: dict[str, np.ndarray]


def content_of(made: Trace) -> Content:
    with load_trace(str(made.file)) as saved:
        document = json.loads(saved._container.text)
        return Content(document, {slot: np.array(saved.array(slot)) for slot in saved.shapes})


def written(path: Path, content: Content) -> Path:
    """A file by NumPy or the safetensors library, not by us."""
    if path.suffix == ".npz":
        np.savez(path, **{"apr.trace": np.array(json.dumps(content.document))}, **content.tensors)
    else:
        save_file(content.tensors, path, {"apr.trace": json.dumps(content.document)})
    return path


def _header(**changes: Any) -> Callable[[Content], None]:
    return lambda content: content.document["header"].update(changes)


def _without_header(content: Content) -> None:
    del content.document["header"]["engine"]


def _fewer_rows(content: Content) -> None:
    content.tensors["embed"] = content.tensors["embed"][1:]


def _doubles(content: Content) -> None:
    content.tensors["embed"] = content.tensors["embed"].astype(np.float64)


def _strange_name(content: Content) -> None:
    content.tensors["layers.one.q"] = content.tensors["embed"]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("plant", "error", "message"),
    [
        (_header(positions=[0, 1, 2, 3, 4, 9]), errors.BadMetadata, "positions that are not ascending within the 6"),
        (_header(positions=[1, 0, 2, 3, 4, 5]), errors.BadMetadata, "not ascending"),
        (_header(positions=[]), errors.BadMetadata, "not ascending"),
        (_header(positions=["0"]), errors.BadMetadata, r"header\.positions\.0 is wrong"),
        (_header(prompt_token_ids=[1, 2, 3, 4, 5, 6]), errors.ChecksumMismatch, "are not those of their SHA-256"),
        (_header(prompt_token_ids=[-1, 2, 3, 4, 5, 6]), errors.BadMetadata, "counted from 0"),
        (_header(prompt_token_ids=[1 << 64]), errors.BadMetadata, "counted from 0"),
        (_header(prompt_tokens=["a"]), errors.BadMetadata, "1 token texts for 6 token ids"),
        (_header(threads="2"), errors.BadMetadata, r"header\.threads is wrong"),
        (_without_header, errors.BadMetadata, r"header\.engine is wrong: Field required"),
        (lambda content: content.document.update(schema="apr.trace/2"), errors.UnsupportedVersion, "'apr.trace/2'"),
        (lambda content: content.document.pop("schema"), errors.UnsupportedVersion, "None"),
        (_fewer_rows, errors.ShapeMismatch, r"slot embed is \[5, 64\], expected \[6, values\]"),
        (_doubles, errors.UnknownDtype, "expected f"),
        (_strange_name, errors.BadMetadata, "not the name of a slot"),
        (lambda content: content.tensors.clear(), errors.BadMetadata, "a trace without a tensor"),
    ],
)
def test_a_wrong_header_is_refused(
    kept: dict[str, Trace],
    tmp_path: Path,
    suffix: str,
    plant: Callable[[Content], None],
    error: type[errors.FormatError],
    message: str,
) -> None:
    content = content_of(kept[suffix])
    healthy = written(tmp_path / f"healthy{suffix}", content)
    load_trace(healthy).close()
    plant(content)
    with pytest.raises(error, match=message):
        load_trace(written(tmp_path / f"planted{suffix}", content))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_tensors_that_are_no_trace_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    arrays = {"a": np.zeros((2, 2), dtype=np.float32)}
    np.savez(path, **arrays) if suffix == ".npz" else save_file(arrays, path)
    with pytest.raises(errors.BadMetadata, match="and not a trace"):
        load_trace(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_cut_short_is_refused_at_every_length(kept: dict[str, Trace], tmp_path: Path, suffix: str) -> None:
    whole = Path(str(kept[suffix].file)).read_bytes()
    for n in [*range(0, 200, 7), *range(200, len(whole), 4999), len(whole) - 1]:
        cut = tmp_path / f"cut{suffix}"
        cut.write_bytes(whole[:n])
        with pytest.raises(errors.FormatError):
            load_trace(cut)


def test_another_ending_and_no_file_are_the_users_errors(tmp_path: Path) -> None:
    with pytest.raises(errors.UsageError, match=r"a trace is a \.npz or a \.safetensors"):
        load_trace(tmp_path / "t.bin")
    for suffix in SUFFIXES:
        with pytest.raises(errors.UsageError, match="no such file"):
            load_trace(tmp_path / f"t{suffix}")
