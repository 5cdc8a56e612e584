"""The gates of the container and of the values: each code planted; and healthy models that no gate of a file complains of."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

import tiny
from apr.formats._base import Warned
from apr.qa import gate
from apr.qa._judged import Judged
from apr.qa.gates import file_structure
from judged_models import UP, altered, codes, judged, named, one, only, patched, weights_of

# ---- healthy models


@pytest.mark.parametrize("model_type", tiny.MODEL_TYPES)
@pytest.mark.parametrize("file_format", tiny.FORMATS)
def test_a_healthy_model_passes_every_gate(model_type: str, file_format: str, tmp_path: Path) -> None:
    report = judged(tiny.write(tmp_path, file_format, tiny.config(model_type)))
    assert {(r.id, r.message) for r in report.gates if r.status != "pass"} == set()
    assert (report.verdict, report.exit_code) == ("pass", 0) and report.counts["pass"] == len(report.gates) >= 10


@pytest.mark.parametrize("codec", ["f16", "q8_0"])
def test_a_healthy_quantised_model_passes(codec: str, tmp_path: Path) -> None:
    assert judged(tiny.write(tmp_path, "gguf", codec=codec)).verdict == "pass"


@pytest.mark.parametrize("file_format", tiny.FORMATS)
def test_a_healthy_tied_model_passes(file_format: str, tmp_path: Path) -> None:
    assert judged(tiny.write(tmp_path, file_format, tiny.config(tie_word_embeddings=True))).verdict == "pass"


@pytest.mark.real
@pytest.mark.parametrize("alias", ["smollm2", "qwen2.5-coder:0.5b"])
def test_real_models_pass_every_gate(alias: str, real_model: Callable[[str], Path]) -> None:
    report = judged(real_model(alias))
    assert {(r.id, r.message) for r in report.gates if r.status != "pass"} == set()


# ---- file_structure


def test_a_flipped_byte_of_the_data_is_found_by_the_checksum(tmp_path: Path) -> None:
    path = tiny.write(tmp_path, "apr")
    with Judged(path) as subject:
        info = subject.file.tensors[UP]
    before = path.read_bytes()[info.offset + 10]
    report = judged(patched(path, info.offset + 10, bytes([before ^ 1])))
    assert codes(only(report, "file_structure")) == {("fail", "checksum-mismatch")}
    assert report.exit_code == 1


def test_bytes_after_the_end_leave_the_file_undecided(tmp_path: Path) -> None:
    path = tiny.write(tmp_path, "gguf")
    path.write_bytes(path.read_bytes() + bytes(4096))
    report = judged(path)
    assert codes(only(report, "file_structure")) == {("undecided", "trailing-bytes")}
    assert report.exit_code == 5


def test_one_shard_is_not_the_model(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path, "safetensors")
    with Judged(folder) as subject:
        index = {"weight_map": dict.fromkeys(subject.file.tensors, "model.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert ("undecided", "one-shard") in codes(named(judged(folder / "model.safetensors"))["file_structure"])


@pytest.mark.parametrize("code", sorted(file_structure.BENIGN))
def test_a_benign_warning_is_told_and_passes(code: str, tmp_path: Path) -> None:
    with Judged(tiny.write(tmp_path, "gguf")) as subject:
        subject.file.warnings.append(Warned(code, "a sentence"))
        findings = list(file_structure.check.check(subject))
    assert [(f.status, f.code) for f in findings] == [("pass", code), ("pass", "structure")]


def test_a_warning_that_nobody_judged_is_undecided(tmp_path: Path) -> None:
    with Judged(tiny.write(tmp_path, "gguf")) as subject:
        subject.file.warnings.append(Warned("quite-new", "a sentence"))
        assert gate.run("file", subject).verdict == "undecided"


def test_every_benign_code_is_one_that_a_reader_gives() -> None:
    import apr.formats

    text = "".join(path.read_text() for path in Path(apr.formats.__file__).parent.glob("*.py"))
    given = set(re.findall(r'Warned\(\s*"([a-z-]+)"', text))
    given |= {f"apr.{code}" for code in re.findall(r'\.warn\(\s*"([a-z-]+)"', text)}
    assert given >= file_structure.BENIGN and "trailing-bytes" in given - file_structure.BENIGN


# ---- tensor_finite


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("file_format", tiny.FORMATS)
def test_a_value_that_is_not_finite_is_found_with_its_place(file_format: str, value: float, tmp_path: Path) -> None:
    bad = weights_of()[UP].copy()
    bad[1, 5] = bad[95, 63] = value
    result = only(judged(altered(tmp_path, file_format, {UP: bad})), "tensor_finite")
    assert codes(result) == {("fail", "non-finite")}
    assert result.findings[0].where["index"] == 64 + 5 and "2 of 6144 values" in result.message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_bad_value_in_half_precision_is_found(value: float, tmp_path: Path) -> None:
    bad = weights_of()[UP].copy()
    bad[0, 0] = value
    made = tiny.config()
    path = tiny.write(tmp_path, "safetensors", made, weights_of() | {UP: bad}, codec="f16")
    assert codes(only(judged(path), "tensor_finite")) == {("fail", "non-finite")}


@pytest.mark.parametrize("scale", [b"\x00\x7e", b"\x00\x7c"])  # float16 NaN and infinity
def test_a_bad_scale_of_a_quantised_block_is_found(scale: bytes, tmp_path: Path) -> None:
    path = tiny.write(tmp_path, "gguf", codec="q8_0")
    with Judged(path) as subject:
        info = subject.file.tensors["blk.1.ffn_up.weight"]
    result = only(judged(patched(path, info.offset + 34, scale)), "tensor_finite")  # the second block of 34 bytes
    assert codes(result) == {("fail", "non-finite")}
    assert result.findings[0].where == {"tensor": "blk.1.ffn_up.weight", "index": 32}


def test_an_encoding_without_a_codec_is_undecided(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    kind = gguf.GGMLQuantizationType.IQ4_NL
    writer.add_tensor("x.weight", np.zeros((2, 18), dtype=np.uint8), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    results = named(judged(path))
    assert codes(results["tensor_finite"]) == {("undecided", "not-decoded")}
    assert codes(results["tensor_density"]) == {("undecided", "no-matrix")}


# ---- tensor_density


@pytest.mark.parametrize("share", [0.79, 0.81, 1.0])
def test_a_matrix_of_zeros_is_found(share: float, tmp_path: Path) -> None:
    values = weights_of()[UP].copy()
    scattered = np.random.default_rng(0).permutation(values.size)[: round(share * values.size)]
    values.reshape(-1)[scattered] = 0
    result = one(altered(tmp_path, "gguf", {UP: values}), "tensor_density")
    assert codes(result) == (set() if share < 0.8 else {("fail", "zeros")})


@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "lm_head.weight"])
@pytest.mark.parametrize("file_format", tiny.FORMATS)
def test_a_vocabulary_table_may_hold_fewer_zeros(file_format: str, name: str, tmp_path: Path) -> None:
    values = weights_of()[name].copy()
    values[:170] = 0  # 53 %
    assert codes(one(altered(tmp_path, file_format, {name: values}), "tensor_density")) == {("fail", "zeros")}


@pytest.mark.parametrize("file_format", tiny.FORMATS)
def test_a_constant_matrix_is_found(file_format: str, tmp_path: Path) -> None:
    changes = {UP: np.full((96, 64), 0.5, dtype=np.float32)}
    assert codes(only(judged(altered(tmp_path, file_format, changes)), "tensor_density")) == {("fail", "constant")}


@pytest.mark.parametrize("model_type", ["llama", "gemma3_text"])
@pytest.mark.parametrize("file_format", tiny.FORMATS)
def test_a_norm_that_multiplies_by_zero_is_found(model_type: str, file_format: str, tmp_path: Path) -> None:
    zero_factor = -1.0 if model_type == "gemma3_text" else 0.0  # Gemma's files hold w for a factor of 1 + w
    changes = {"model.norm.weight": np.full(64, zero_factor, dtype=np.float32)}
    report = judged(altered(tmp_path, file_format, changes, model_type=model_type))
    assert codes(only(report, "tensor_density")) == {("fail", "zeros")}


@pytest.mark.parametrize("file_format", tiny.FORMATS)
def test_biases_of_zero_and_norms_of_one_are_healthy(file_format: str, tmp_path: Path) -> None:
    changes = {name: np.zeros_like(w) for name, w in weights_of("qwen2").items() if name.endswith(".bias")}
    changes["model.norm.weight"] = np.ones(64, dtype=np.float32)
    assert judged(altered(tmp_path, file_format, changes, model_type="qwen2")).verdict == "pass"
