"""`.apr` files: every sample against upstream's own verdicts, upstream's bytes rebuilt, write and read again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apr.errors import (
    AprError,
    BadMetadata,
    BadString,
    ChecksumMismatch,
    DuplicateName,
    ForeignFormat,
    LimitExceeded,
    ShapeMismatch,
    TruncatedFile,
    UnknownDtype,
    UnsupportedError,
)
from apr.formats import _apr_header, _apr_writer, apr, open_model
from apr.formats._base import Outgoing
from apr.kernels import quants
from formats import apr_samples
from formats.apr_samples import METADATA, SAMPLES, Sample, encode, patched, stored, with_footer

BY_NAME = {sample.name: sample for sample in SAMPLES}
UPSTREAM = "v2-writer-dtype-ids-30-128-129"
# what a strict reader must refuse and warn of, by the number that a sample's name starts with; 04 is found by `verify`
REFUSED = [
    "01",
    "02",
    "03",
    "05",
    "06",
    "07",
    "08",
    "09",
    "10",
    "11",
    "12",
    "13",
    "14",
    "15",
    "17",
    "18",
    "22",
    "23",
    "24",
    "25",
    "26",
    "28",
    "29",
    "30",
    "33",
    "34",
    "35",
    "36",
    "39",
    "41",
    "43",
    "44",
    "45",
]
WARNED = ["19", "21", "32", "38"]


def saved(folder: Path, content: bytes) -> Path:
    path = folder / "model.apr"
    path.write_bytes(content)
    return path


def outgoing(model: apr.AprFile) -> Outgoing:
    """A model that was read, on its way back to disk."""
    tensors = tuple((info.name, info.codec, info.shape) for info in model.tensors.values())
    return Outgoing(metadata=model.metadata, tensors=tensors, data=model.raw)


def one(name: str = "a", codec: str = "f32", shape: tuple[int, ...] = (2, 3), **metadata: object) -> Outgoing:
    n_bytes = quants.codec(codec).n_bytes(int(np.prod(shape)))
    return Outgoing(metadata=metadata, tensors=((name, codec, shape),), data=lambda _: np.zeros(n_bytes, np.uint8))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_a_sample_is_the_very_file_and_gets_its_own_verdict(sample: Sample, tmp_path: Path) -> None:
    content = sample.build()
    assert sample.sha256 in (None, hashlib.sha256(content).hexdigest())
    path = saved(tmp_path, content)
    if sample.outcome != "ok":
        with pytest.raises(AprError) as caught:
            apr.read(path)
        error = caught.value
        assert (error.code, error.offset) == (sample.outcome, sample.offset)  # type: ignore[attr-defined]
        assert sample.says in str(error)
        return
    with apr.read(path) as model:
        assert " ".join(warned.code for warned in model.warnings) == sample.says
        if sample.verified == "ok":
            assert model.verify()
        else:
            with pytest.raises(AprError) as caught:
                model.verify()
            assert caught.value.code == sample.verified


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_what_upstream_refuses_or_loses_is_refused_or_warned_of(sample: Sample) -> None:
    suspicious = sample.aprender != "accept" or sample.realizar != "accept"
    assert not suspicious or sample.outcome != "ok" or sample.says
    if "reject" == sample.aprender == sample.realizar:
        assert sample.outcome != "ok"


@pytest.mark.parametrize("sample", [s for s in SAMPLES if s.name[:2].isdigit()], ids=lambda sample: sample.name)
def test_a_defect_is_refused_or_warned_of_as_the_samples_advise(sample: Sample) -> None:
    number = sample.name[:2]
    assert (sample.outcome != "ok") == (number in REFUSED)
    assert (sample.outcome == "ok" and sample.says != "") == (number in WARNED)


def test_no_two_defects_are_told_in_the_same_words(tmp_path: Path) -> None:
    messages = {}
    for sample in SAMPLES:
        if sample.name[:2] in REFUSED and sample.name != "44-int-as-exp":  # the same value as 25, spelled 6.4e1
            with pytest.raises(AprError) as caught:
                apr.read(saved(tmp_path, sample.build()))
            messages[str(caught.value)] = sample.name
    assert len(messages) == len([s for s in SAMPLES if s.name[:2] in REFUSED]) - 1


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_the_lenient_reader_opens_what_a_reader_of_upstream_opens(sample: Sample, tmp_path: Path) -> None:
    if "accept" not in (sample.aprender, sample.realizar) and sample.realizar != "lost":
        return
    if sample.name == "22-index-past-eof":  # realizar opens it with no tensors: nothing sensible to list
        return
    with apr.read_lenient(saved(tmp_path, sample.build())) as model:
        if sample.outcome != "ok":
            assert f"apr.{sample.outcome}" in [warned.code for warned in model.warnings]


@pytest.mark.parametrize(
    ("name", "tensor", "error"),
    [
        ("06-trunc-in-data", "model.norm.weight", TruncatedFile),
        ("13-dtype-003", "zz", ShapeMismatch),
        ("13-dtype-255", "zz", UnknownDtype),
        ("28-size-mismatch", "zz", ShapeMismatch),
    ],
)
def test_a_tensor_with_a_defect_raises_it_when_asked_for(
    name: str, tensor: str, error: type[AprError], tmp_path: Path
) -> None:
    with apr.read_lenient(saved(tmp_path, BY_NAME[name].build())) as model:
        assert model.array("lm_head.weight").shape == (32, 64)
        for ask in (model.raw, model.array):
            with pytest.raises(error):
                ask(tensor)


def test_open_model_finds_the_format(tmp_path: Path) -> None:
    assert open_model(saved(tmp_path, apr_samples.GOOD)).format == "apr"
    with pytest.raises(ForeignFormat, match="logistic regression"):
        open_model(saved(tmp_path, stored("mnist_784x2.apr")))


def test_verify_says_what_it_covered(tmp_path: Path) -> None:
    with apr.read(saved(tmp_path, apr_samples.GOOD)) as model:
        assert [("header" in said, "17600 bytes" in said) for said in model.verify()] == [(True, False), (False, True)]
    for dialect, said in (("q4kconverter", "no footer"), ("toaprbytes", "no checksum")):
        with apr.read(saved(tmp_path, BY_NAME[f"v2-dialect-realizar-{dialect}"].build())) as model:
            assert said in model.verify()[-1]


def test_any_changed_byte_of_the_data_is_found_by_verify(tmp_path: Path) -> None:
    for at in (704, 9000, 17599):
        flipped = patched(apr_samples.GOOD, at, bytes([apr_samples.GOOD[at] ^ 0x10]))
        with apr.read(saved(tmp_path, flipped)) as model, pytest.raises(ChecksumMismatch):
            model.verify()


def test_dialects_are_told_apart(tmp_path: Path) -> None:
    names = {"00-good": "aprender", "20-flag-0": "aprender", "v2-dialect-realizar-q4kconverter": "realizar-q4k"}
    for name, dialect in (names | {"v2-dialect-realizar-toaprbytes": "realizar-serializer"}).items():
        with apr.read(saved(tmp_path, BY_NAME[name].build())) as model:
            assert model.dialect == dialect


def test_realizars_spellings_are_given_their_canonical_names(tmp_path: Path) -> None:
    with apr.read(saved(tmp_path, BY_NAME["v2-dialect-realizar-q4kconverter"].build())) as model:
        assert "num_layers" not in model.metadata
        assert [model.canonical_metadata[key] for key in ("num_layers", "num_heads", "num_kv_heads")] == [2, 4, 2]


def test_an_index_in_json_is_named(tmp_path: Path) -> None:
    index = b'[{"name":"weights","dtype":"json","shape":[2],"offset":0,"size":2}]'
    head = replace(_header(), flags=0, n_tensors=1, index_offset=128, data_offset=128 + len(index), metadata_bytes=2)
    head = replace(head, checksum=head.computed_checksum)
    with pytest.raises(ForeignFormat, match="JSON array"):
        apr.read_lenient(saved(tmp_path, head.pack() + b"{}".ljust(64, b"\0") + index + b"{}"))


def test_a_checkpoint_of_entrenar_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ForeignFormat, match="entrenar"):
        apr.read(saved(tmp_path, encode(b'{"format":"entrenar-checkpoint"}', [])))


@pytest.mark.parametrize(
    ("code", "n_bytes", "codec"),
    [(2, 512, "bf16"), (2, 144, "q4_0"), (8, 144, "apr_q4"), (8, 272, "q8_0"), (9, 260, "apr_q8"), (3, 2048, "f64")],
)
def test_an_old_type_code_is_told_by_the_size(code: int, n_bytes: int, codec: str, tmp_path: Path) -> None:
    with apr.read(saved(tmp_path, encode(b"{}", [(b"a", code, (2, 128), bytes(n_bytes))]))) as model:
        assert model.tensors["a"].codec == codec


@pytest.mark.parametrize(
    ("code", "n_bytes", "codec"),
    [(3, 160, "q4_1"), (6, 176, "q5_0"), (7, 192, "q5_1"), (13, 176, "q5_k"), (3, 2048, "f64"), (7, 256, "u8")],
)
def test_ggml_type_codes_are_read_in_realizars_dialect_alone(
    code: int, n_bytes: int, codec: str, tmp_path: Path
) -> None:
    file = encode(b"{}", [(b"a", code, (1, 256), bytes(n_bytes))], flags=0x0020)
    with apr.read(saved(tmp_path, file[:-4])) as model:
        assert (model.tensors["a"].codec, model.dialect) == (codec, "realizar-q4k")
    if codec.startswith("q"):
        with pytest.raises((ShapeMismatch, UnknownDtype), match=codec):
            apr.read(saved(tmp_path, file))


def test_a_type_code_whose_size_fits_two_encodings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownDtype, match="bf16 or q4_0"):
        apr.read(saved(tmp_path, encode(b"{}", [(b"a", 2, (0,), b"")])))


def test_random_k_quants_decode_to_the_recorded_sums(tmp_path: Path) -> None:
    with apr.read(saved(tmp_path, stored("v2-py-random-q4k-q6k.apr"))) as model:
        for name, total, weighted in (
            ("q4k", 5322.944631576538, 10664643.219112396),
            ("q6k", -476.6745491027832, -692242.2674350739),
        ):
            values = model.array(name).astype(np.float64).reshape(-1)
            assert values.sum() == pytest.approx(total, rel=1e-12)
            assert (values * np.arange(values.size)).sum() == pytest.approx(weighted, rel=1e-12)


def test_aprenders_own_encodings_decode_as_described(tmp_path: Path) -> None:
    with apr.read(saved(tmp_path, stored(f"{UPSTREAM}.apr"))) as model:
        raw = model.raw("model.layers.0.self_attn.q_proj.weight")
        expected = raw[:4].view("<f4") * raw[4:].view(np.int8).astype(np.float32)
        assert np.array_equal(model.array("model.layers.0.self_attn.q_proj.weight").reshape(-1), expected)
        blocks = model.raw("model.layers.0.mlp.up_proj.weight").reshape(-1, 18)
        low_high = np.stack([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=-1).reshape(-1, 32).astype(np.float32) - 8
        scales = np.ascontiguousarray(blocks[:, :2]).view("<f2").astype(np.float32)
        assert np.array_equal(model.array("model.layers.0.mlp.up_proj.weight").reshape(-1, 32), low_high * scales)


def test_upstreams_file_is_rebuilt_byte_for_byte(tmp_path: Path) -> None:
    theirs = stored(f"{UPSTREAM}.apr")
    path = tmp_path / "ours.apr"
    with apr.read(saved(tmp_path, theirs)) as model:
        apr.write(path, outgoing(model))
    ours = path.read_bytes()
    assert ours[6:8] == b"\x20\x06"  # upstream's writer sets neither the quantised nor the vocabulary bit
    assert apr_samples.repaired(patched(ours, 6, b"\x00\x04")) == theirs


def test_the_file_from_before_the_renumbering_is_written_with_todays_codes(tmp_path: Path) -> None:
    with apr.read(saved(tmp_path, BY_NAME["v2-writer-2026-02-dtype-ids-2-8-9"].build())) as model:
        apr.write(tmp_path / "ours.apr", outgoing(model))
    assert apr_samples.repaired(patched((tmp_path / "ours.apr").read_bytes(), 6, b"\0\4")) == stored(f"{UPSTREAM}.apr")


@pytest.mark.parametrize("sample", [s for s in SAMPLES if s.name.startswith("v2-py")], ids=lambda sample: sample.name)
def test_the_independent_encoders_files_are_rebuilt_from_their_parts(sample: Sample, tmp_path: Path) -> None:
    theirs = sample.build()
    with apr.read(saved(tmp_path, theirs)) as model:
        model_out = outgoing(model)
        records = _apr_writer.plan_records(tmp_path, model_out.tensors)
        metadata = theirs[64 : 64 + model.header.metadata_bytes]
        flags = model.header.flags
        path = tmp_path / "ours.apr"
        _apr_writer.write_sections(path, records, metadata=metadata, flags=flags, data=model.raw)
        assert path.read_bytes() == theirs
        apr.write(path, model_out)
        if "tiny" in sample.name:
            assert apr.read(path).header.flags == flags
        assert apr.read(path).metadata == json.loads(metadata)


@pytest.mark.parametrize(
    ("model", "error", "says"),
    [
        (one(name=""), BadString, "empty name"),
        (one(name="n" * 257), BadString, "257 bytes"),
        (one(name="\ud800"), BadString, "not UTF-8"),
        (one(shape=(1,) * 9), LimitExceeded, "9 dimensions"),
        (one(codec="q4_0", shape=(2, 32)), UnsupportedError, "q4_0, which .apr has no type for"),
        (replace(one(), tensors=(("a", "q4_k", (256, 3)),)), ShapeMismatch, "blocks of 256"),
        (replace(one(), tensors=(("a", "f32", (2, 3)), ("a", "f32", (2, 3)))), DuplicateName, "'a' occurs twice"),
        (replace(one(), data=lambda _: np.zeros(23, np.uint8)), ShapeMismatch, "expected 24 bytes"),
        (replace(one(), data=lambda _: np.zeros(24, np.int8)), ShapeMismatch, "24 values of int8"),
        (one(hidden_dim=64), BadMetadata, "rename it"),
        (one(hidden_size=None), BadMetadata, "null"),
        (one(hidden_size=64.0), BadMetadata, "expected an integer"),
        (one(x=float("nan")), BadMetadata, "JSON has no such number"),
        (one(x="\ud800"), BadString, "surrogate"),
        (one(x=np.float32(1)), BadMetadata, "float32"),
    ],
)
def test_what_readers_would_refuse_is_not_written(
    model: Outgoing, error: type[AprError], says: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=says):
        apr.write(tmp_path / "out.apr", model)
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = saved(tmp_path, apr_samples.GOOD)

    def broken(_: str) -> np.ndarray:
        raise OSError("the source went away")

    with pytest.raises(OSError, match="went away"):
        apr.write(path, replace(one(), data=broken))
    assert [p.name for p in tmp_path.iterdir()] == ["model.apr"] and path.read_bytes() == apr_samples.GOOD


def test_data_lies_in_the_order_given_and_the_index_is_sorted(tmp_path: Path) -> None:
    asked: list[str] = []

    def data(name: str) -> np.ndarray:
        asked.append(name)
        return np.full(4, len(asked), np.uint8)

    model = Outgoing(metadata={}, tensors=tuple((name, "u8", (4,)) for name in ("b", "é", "a")), data=data)
    apr.write(tmp_path / "out.apr", model)
    with apr.read(tmp_path / "out.apr") as again:
        assert asked == ["b", "é", "a"] and list(again.tensors) == ["a", "b", "é"]
        assert [again.raw(name)[0] for name in asked] == [1, 2, 3] and again.verify()


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | NAMES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=8,
)
TENSORS = st.dictionaries(
    NAMES.filter(lambda name: len(name.encode()) <= 256),
    st.tuples(
        st.sampled_from(["f32", "f16", "i64", "u8", "apr_q4", "apr_q8"]), st.lists(st.integers(0, 5), max_size=8)
    ),
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(metadata=st.dictionaries(NAMES.map("x.{}".format), VALUES, max_size=6), shapes=TENSORS, seed=st.integers(0, 99))
def test_what_is_written_is_read_again(
    metadata: dict[str, object],
    shapes: dict[str, tuple[str, list[int]]],
    seed: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    random = np.random.default_rng(seed)
    tensors = tuple((name, codec, tuple(shape)) for name, (codec, shape) in shapes.items())
    sizes = {name: quants.codec(codec).n_bytes(int(np.prod(shape))) for name, codec, shape in tensors}
    encoded = {name: random.integers(0, 256, size, dtype=np.uint8) for name, size in sizes.items()}
    path = tmp_path_factory.getbasetemp() / "round.apr"
    apr.write(path, Outgoing(metadata=metadata, tensors=tensors, data=encoded.__getitem__))
    with apr.read(path) as model:
        assert json.dumps(model.metadata) == json.dumps(metadata)
        assert {(i.name, i.codec, i.shape) for i in model.tensors.values()} == set(tensors)
        assert all(model.raw(name).tobytes() == encoded[name].tobytes() for name in encoded)
        assert len(model.verify()) == 2 and path.stat().st_size % 64 == 4


def _header() -> _apr_header.Header:
    return _apr_header.Header.unpack(Path("good.apr"), apr_samples.GOOD[:64])


def test_the_tests_own_encoder_writes_the_good_file() -> None:
    assert encode(METADATA, apr_samples.TENSORS) == apr_samples.GOOD == with_footer(apr_samples.GOOD)
