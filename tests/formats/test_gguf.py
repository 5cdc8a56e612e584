"""Reading and writing GGUF, judged by gguf-py and llama.cpp. Broken files: test_gguf_hostile.py."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf as gguf_py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import apr.formats
from apr.errors import ConversionError, TruncatedFile, UnsupportedError
from apr.formats import gguf
from apr.formats._base import Outgoing
from apr.formats._ggml_types import REMOVED, TYPES
from apr.formats._gguf_values import NUMBERS
from apr.formats.gguf import Typed
from formats import gguf_bytes
from formats.gguf_models import by_gguf_py, materialised, one_tensor, outgoing


def assert_same_as_gguf_py(ours: gguf.GgufFile, theirs: gguf_py.GGUFReader) -> None:
    fields = {name: field for name, field in theirs.fields.items() if not name.startswith("GGUF.")}
    assert list(ours.metadata) == list(fields)
    for key, field in fields.items():
        kind = ours.value_types[key].upper().removeprefix("ARRAY[").removesuffix("]")
        assert [t.name for t in field.types][-1] == kind
        value = ours.metadata[key]
        assert (list(value) if hasattr(value, "tolist") else value) == field.contents(), key
    assert list(ours.tensors) == [tensor.name for tensor in theirs.tensors]
    for tensor in theirs.tensors:
        info = ours.tensors[tensor.name]
        assert info.codec == tensor.tensor_type.name.lower()
        assert info.shape == tuple(reversed(tensor.shape.tolist()))
        assert (info.offset, info.n_bytes) == (tensor.data_offset, tensor.n_bytes)
        assert np.array_equal(ours.raw(tensor.name), tensor.data.reshape(-1).view(np.uint8))


# ---- reading ----


def test_a_file_of_every_value_type_reads_as_gguf_py_reads_it(tmp_path: Path) -> None:
    path = by_gguf_py(tmp_path / "m.gguf")
    with apr.formats.open_model(path) as ours:
        assert isinstance(ours, gguf.GgufFile)
        assert_same_as_gguf_py(ours, gguf_py.GGUFReader(path))
        assert (ours.format, ours.version, ours.alignment, ours.warnings) == ("gguf", 3, 32, [])
        assert ours.array("vector").tolist() == gguf_py.GGUFReader(path).tensors[0].data.tolist()
        assert ours.tensors["cube"].shape == (2, 3, 2, 5)


def test_another_alignment_reads_as_gguf_py_reads_it(tmp_path: Path) -> None:
    path = by_gguf_py(tmp_path / "m.gguf", alignment=256)
    with gguf.read(path) as ours:
        assert ours.alignment == 256
        assert_same_as_gguf_py(ours, gguf_py.GGUFReader(path))


@pytest.mark.real
def test_smollm2_reads_as_gguf_py_reads_it(real_model: Callable[[str], Path]) -> None:
    path = real_model("smollm2")
    with gguf.read(path) as ours:
        assert_same_as_gguf_py(ours, gguf_py.GGUFReader(path))


@pytest.mark.real
@pytest.mark.slow
def test_qwen_reads_as_gguf_py_reads_it(real_model: Callable[[str], Path]) -> None:
    path = real_model("qwen2.5-coder:0.5b")
    with gguf.read(path) as ours:
        assert_same_as_gguf_py(ours, gguf_py.GGUFReader(path))


def test_version_2_is_read_like_version_3(tmp_path: Path) -> None:
    raw = bytearray(gguf_bytes.tiny()[1])
    raw[4] = 2
    (tmp_path / "m.gguf").write_bytes(raw)
    with gguf.read(tmp_path / "m.gguf") as file:
        assert file.version == 2 and len(file.tensors) == 3


def test_tokens_that_are_not_utf8_stay_distinguishable(tmp_path: Path) -> None:
    tokens = [b"\xff", b"\xfe", b"\xc3", b"\xc3\xa9", b"", b"\xed\xa0\x80"]
    (tmp_path / "m.gguf").write_bytes(gguf_bytes.meta("tokenizer.ggml.tokens", 9, tokens, element=8))
    with gguf.read(tmp_path / "m.gguf") as file:
        read = file.metadata["tokenizer.ggml.tokens"]
    assert len(set(read)) == len(tokens)
    assert [text.encode("utf-8", "surrogateescape") for text in read] == tokens
    assert [read.raw(i) for i in range(-6, 0)] == tokens
    assert read[3] == "é" and read[-3:] == ["é", "", read[5]] and "é" in read and len(read) == 6
    with pytest.raises(IndexError):
        read[6]


def test_arrays_of_numbers_are_sequences_and_not_writeable(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(gguf_bytes.meta("a", 9, [1, -2, 3], element=5))
    with gguf.read(tmp_path / "m.gguf") as file:
        array = file.metadata["a"]
    assert array == [1, -2, 3] and array != [1, 2, 3] and array[1:] == [-2, 3] and array.kind == "int32"
    assert type(array[0]) is int
    with pytest.raises(ValueError, match="read-only"):
        array.numpy()[0] = 5


def test_metadata_cannot_be_changed(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(gguf_bytes.one())
    with gguf.read(tmp_path / "m.gguf") as file, pytest.raises(TypeError):
        file.metadata["a"] = 1  # type: ignore[index]


def test_scalars_without_dimensions_hold_one_value(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(gguf_bytes.one((), n_bytes=32))
    with gguf.read(tmp_path / "m.gguf") as file:
        assert file.tensors["t"].shape == () and file.tensors["t"].n_bytes == 4 and file.array("t").shape == ()


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (gguf_bytes.one() + b"garbage", "trailing-bytes"),
        (gguf_bytes.one((3,), n_bytes=12), "missing-padding"),
        (gguf_bytes.meta("split.count", 2, 3), "split"),
    ],
)
def test_legal_oddities_are_told(tmp_path: Path, raw: bytes, code: str) -> None:
    (tmp_path / "m.gguf").write_bytes(raw)
    with gguf.read(tmp_path / "m.gguf") as file:
        assert [warned.code for warned in file.warnings] == [code]


def test_verify_finds_a_file_that_was_cut_after_opening(tmp_path: Path) -> None:
    path = by_gguf_py(tmp_path / "m.gguf")
    with gguf.read(path) as file:
        assert file.verify() == []
        with path.open("r+b") as handle:
            handle.truncate(path.stat().st_size - 64)
        with pytest.raises(TruncatedFile, match="after it had been opened"):
            file.verify()


def test_the_type_table_is_that_of_gguf_py() -> None:
    theirs = {int(kind): (kind.name.lower(), *sizes) for kind, sizes in gguf_py.GGML_QUANT_SIZES.items()}
    # gguf-py's q8_1 is older than ggml's, and it does not know q2_0 yet: the parity test below has both
    assert {number: tuple(kind) for number, kind in TYPES.items() if number not in (9, 42)} == {
        number: kind for number, kind in theirs.items() if number not in (9, 42)
    }
    assert not set(TYPES) & set(REMOVED)


@pytest.mark.parity
def test_the_type_table_is_that_of_llama_cpp() -> None:
    from formats.llama_gguf_verdicts import type_table

    known = {number: sizes for number, sizes in type_table().items() if sizes[0]}
    assert {number: (kind.block_size, kind.block_bytes) for number, kind in TYPES.items()} == known


def test_the_value_types_are_those_of_gguf_py() -> None:
    theirs = {int(kind): kind.name.lower() for kind in gguf_py.GGUFValueType}
    assert {number: name for number, (name, _, _) in NUMBERS.items()} | {8: "string", 9: "array"} == theirs


# ---- writing ----


@pytest.mark.parametrize(("alignment", "n_tensors"), [(None, 3), (64, 3), (8, 3), (None, 1)])
def test_a_file_of_gguf_py_is_rewritten_byte_by_byte(tmp_path: Path, alignment: int | None, n_tensors: int) -> None:
    path = by_gguf_py(tmp_path / "in.gguf", alignment=alignment, n_tensors=n_tensors)
    with gguf.read(path) as file:
        gguf.write(tmp_path / "out.gguf", outgoing(file))
    assert (tmp_path / "out.gguf").read_bytes() == path.read_bytes()


@pytest.mark.real
@pytest.mark.parametrize("name", ["smollm2", pytest.param("qwen2.5-coder:0.5b", marks=pytest.mark.slow)])
def test_a_real_model_is_rewritten_byte_by_byte(tmp_path: Path, real_model: Callable[[str], Path], name: str) -> None:
    path = real_model(name)
    with gguf.read(path) as file:
        gguf.write(tmp_path / "out.gguf", outgoing(file))
    with path.open("rb") as before, (tmp_path / "out.gguf").open("rb") as after:
        while chunk := before.read(1 << 24):
            assert after.read(1 << 24) == chunk
        assert after.read(1) == b""


def test_arrays_given_as_lists_are_written_like_arrays_that_were_read(tmp_path: Path) -> None:
    path = by_gguf_py(tmp_path / "in.gguf")
    with gguf.read(path) as file:
        model = outgoing(file)
        plain = {
            key: Typed(value.kind, list(value.value) if "[" in value.kind else value.value)
            for key, value in model.metadata.items()
        }
        gguf.write(tmp_path / "out.gguf", Outgoing(plain, model.tensors, model.data))
    assert (tmp_path / "out.gguf").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (True, "bool"),
        (0, "uint32"),
        (2**32 - 1, "uint32"),
        (-1, "int32"),
        (2**32, "uint64"),
        (-(2**31) - 1, "int64"),
        (1.5, "float32"),
        ("x", "string"),
        ([1, 2], "array[uint32]"),
        ([1, -2], "array[int32]"),
        ([2**40, -2], "array[int64]"),
        ([0.5], "array[float32]"),
        ([True], "array[bool]"),
        (["a", "b"], "array[string]"),
        (np.float64(0.1), "float64"),
        (np.array([1, 2], np.int16), "array[int16]"),
        (Typed("array[string]", []), "array[string]"),
        (Typed("uint8", 3), "uint8"),
    ],
)
def test_the_type_follows_from_the_value(tmp_path: Path, value: Any, kind: str) -> None:
    gguf.write(tmp_path / "m.gguf", one_tensor({"k": value}))
    with gguf.read(tmp_path / "m.gguf") as file:
        assert file.value_types == {"k": kind}


@pytest.mark.parametrize(
    "model",
    [
        one_tensor({"k": []}),
        one_tensor({"k": None}),
        one_tensor({"k": {"a": 1}}),
        one_tensor({"k": [1, "a"]}),
        one_tensor({"k": [True, 1]}),
        one_tensor({"k": [[1]]}),
        one_tensor({"k": 2**64}),
        one_tensor({"k": "\ud800"}),
        one_tensor({"k": "\udcff"}),
        one_tensor({"k": Typed("uint8", 256)}),
        one_tensor({"k": Typed("uint32", 1.0)}),
        one_tensor({"k": Typed("uint32", True)}),
        one_tensor({"k": Typed("bool", 1)}),
        one_tensor({"k": Typed("float32", 1e39)}),
        one_tensor({"k": Typed("float16", 1.0)}),
        one_tensor({"k": Typed("array[array]", [[1]])}),
        one_tensor({"k": Typed("array[string]", "abc")}),
        one_tensor({"k": Typed("string", 3)}),
        one_tensor({"": 1}),
        one_tensor({"clé": 1}),
        one_tensor({"k" * 65_536: 1}),
        one_tensor({"general.alignment": 3}),
        one_tensor({"general.alignment": Typed("uint64", 32)}),
        one_tensor({}, name="n" * 64),
        one_tensor({}, name=""),
        one_tensor({}, name="a\0b"),
        one_tensor({}, shape=(0, 4)),
        one_tensor({}, shape=(-2, 4)),
        one_tensor({}, shape=(1, 1, 1, 2, 4)),
        one_tensor({}, codec="q8_0", shape=(1, 33)),
        one_tensor({}, shape=(2, 5)),  # 40 bytes wanted, 32 given
        Outgoing({}, (("t", "f32", (8,)),), lambda name: np.zeros(8, np.float32)),
        Outgoing({}, (("t", "f32", (8,)), ("t", "f32", (8,))), lambda name: np.zeros(32, np.uint8)),
    ],
)
def test_what_gguf_cannot_hold_is_refused_and_leaves_nothing(tmp_path: Path, model: Outgoing) -> None:
    with pytest.raises(ConversionError):
        gguf.write(tmp_path / "m.gguf", model)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_codec_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"'q4_x'.*known: .*q4_k"):
        gguf.write(tmp_path / "m.gguf", one_tensor({}, codec="q4_x"))


def test_a_writer_that_dies_half_way_leaves_the_old_file(tmp_path: Path) -> None:
    def dies(name: str) -> np.ndarray:
        if name == "second":
            raise KeyboardInterrupt
        return np.zeros(32, np.uint8)

    (tmp_path / "m.gguf").write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        gguf.write(tmp_path / "m.gguf", Outgoing({}, (("first", "f32", (8,)), ("second", "f32", (8,))), dies))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"m.gguf": b"old"}


def test_a_model_without_tensors_can_be_written_and_read(tmp_path: Path) -> None:
    gguf.write(tmp_path / "m.gguf", Outgoing({"general.architecture": "llama"}, (), lambda name: np.zeros(0, np.uint8)))
    with gguf.read(tmp_path / "m.gguf") as file:
        assert file.tensors == {} and file.warnings == []
    assert len(gguf_py.GGUFReader(tmp_path / "m.gguf").tensors) == 0


KEYS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=30).filter(
    lambda key: key != "general.alignment"
)
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
SINGLES: dict[str, st.SearchStrategy[Any]] = {
    **{f"uint{bits}": st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64)},
    **{f"int{bits}": st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
    "float32": st.floats(width=32, allow_nan=False),
    "float64": st.floats(allow_nan=False),
    "bool": st.booleans(),
    "string": TEXT,
}
VALUES = st.one_of(
    *(st.builds(Typed, st.just(kind), values) for kind, values in SINGLES.items()),
    *(st.builds(Typed, st.just(f"array[{kind}]"), st.lists(values, max_size=6)) for kind, values in SINGLES.items()),
)
TENSORS = st.lists(
    st.tuples(
        st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=15),
        st.sampled_from([("f32", 1, 4), ("f16", 1, 2), ("q8_0", 32, 34), ("q4_k", 256, 144)]),
        st.lists(st.integers(1, 4), max_size=4),
    ),
    max_size=5,
    unique_by=lambda tensor: tensor[0],
)


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(metadata=st.dictionaries(KEYS, VALUES, max_size=8), wanted=TENSORS, alignment=st.sampled_from([8, 32, 128]))
def test_what_is_written_is_what_is_read(
    tmp_path: Path, metadata: dict[str, Typed], wanted: list[Any], alignment: int
) -> None:
    data: dict[str, np.ndarray] = {}
    tensors = []
    for name, (codec, block, n_bytes), blocks in wanted:
        shape = (*blocks[:-1], blocks[-1] * block) if blocks else (() if block == 1 else (block,))
        tensors.append((name, codec, shape))
        data[name] = np.resize(np.frombuffer(name.encode(), np.uint8), int(np.prod(blocks or [1])) * n_bytes)
    model = Outgoing({"general.alignment": alignment, **metadata}, tuple(tensors), data.__getitem__)

    gguf.write(tmp_path / "m.gguf", model)

    with gguf.read(tmp_path / "m.gguf") as file:
        assert file.typed_metadata.pop("general.alignment") == Typed("uint32", alignment)
        assert materialised(file.metadata) == {"general.alignment": alignment} | {
            k: v.value for k, v in metadata.items()
        }
        assert dict(file.value_types) == {"general.alignment": "uint32"} | {k: v.kind for k, v in metadata.items()}
        assert [(i.name, i.codec, i.shape) for i in file.tensors.values()] == tensors
        assert all(np.array_equal(file.raw(name), data[name]) for name in data)
        assert file.warnings == [] or "split.count" in metadata
    theirs = gguf_py.GGUFReader(tmp_path / "m.gguf")
    assert [tensor.name for tensor in theirs.tensors] == [name for name, _, _ in tensors]
    assert all(np.array_equal(tensor.data.reshape(-1).view(np.uint8), data[tensor.name]) for tensor in theirs.tensors)
    assert all(theirs.fields[key].contents() == value.value for key, value in metadata.items() if value.value != [])


def test_not_a_number_survives_with_its_bits(tmp_path: Path) -> None:
    bits = struct.unpack("<f", struct.pack("<I", 0x7FC00001))[0]
    gguf.write(tmp_path / "m.gguf", one_tensor({"k": Typed("float32", bits)}))
    with gguf.read(tmp_path / "m.gguf") as file:
        assert struct.pack("<f", file.metadata["k"]) == struct.pack("<I", 0x7FC00001)
