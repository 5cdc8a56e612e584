"""Every code of every gate: a model with that defect planted, and healthy models that raise no alarm."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import tiny
from apr.formats._base import Warned
from apr.qa import gate
from apr.qa._judged import Judged
from apr.qa.gate import GateResult, Report
from apr.qa.gates import file_structure
from apr.tokenizer.spec import TokenizerSpec, TokenType

Q = "model.layers.0.self_attn.q_proj.weight"
UP = "model.layers.1.mlp.up_proj.weight"


def judged(path: Path) -> Report:
    with Judged(path) as subject:
        return gate.run("file", subject)


def named(report: Report) -> dict[str, GateResult]:
    return {result.id: result for result in report.gates}


def codes(result: GateResult) -> set[tuple[str, str]]:
    """Status and code of every finding that is not a pass."""
    return {(f.status, f.code) for f in result.findings if f.status != "pass"}


def only(report: Report, name: str) -> GateResult:
    """The one gate that raised an alarm; no other may."""
    assert {r.id for r in report.gates if r.status != "pass"} == {name}, [(r.id, r.message) for r in report.gates]
    return named(report)[name]


def altered(
    folder: Path, file_format: str, changes: dict[str, Any], *, model_type: str = "llama", **config: Any
) -> Path:
    """A tiny model whose weights `changes` replaces; None drops one."""
    made = tiny.config(model_type, **config)
    weights = {k: v for k, v in (tiny.tensors(made) | changes).items() if v is not None}
    return tiny.write(folder, file_format, made, weights)


def weights_of(model_type: str = "llama", **config: Any) -> dict[str, np.ndarray]:
    return tiny.tensors(tiny.config(model_type, **config))


def patched(path: Path, offset: int, content: bytes) -> Path:
    whole = bytearray(path.read_bytes())
    whole[offset : offset + len(content)] = content
    path.write_bytes(whole)
    return path


# ---- healthy models


@pytest.mark.parametrize("model_type", tiny.MODEL_TYPES)
@pytest.mark.parametrize("file_format", tiny.FORMATS)
def test_a_healthy_model_passes_every_gate(model_type: str, file_format: str, tmp_path: Path) -> None:
    report = judged(tiny.write(tmp_path, file_format, tiny.config(model_type)))
    assert {(r.id, r.status) for r in report.gates if r.status != "pass"} == set()
    assert (report.verdict, report.exit_code, report.counts["pass"]) == ("pass", 0, 6)


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
    values.reshape(-1)[: round(share * values.size)] = 0
    report = judged(altered(tmp_path, "gguf", {UP: values}))
    if share < 0.8:
        assert report.verdict == "pass"
    else:
        assert codes(only(report, "tensor_density")) == {("fail", "zeros")}


@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "lm_head.weight"])
@pytest.mark.parametrize("file_format", tiny.FORMATS)
def test_a_vocabulary_table_may_hold_fewer_zeros(file_format: str, name: str, tmp_path: Path) -> None:
    values = weights_of()[name].copy()
    values[:170] = 0  # 53 %
    assert codes(only(judged(altered(tmp_path, file_format, {name: values})), "tensor_density")) == {("fail", "zeros")}


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


# ---- tensor_contract


@pytest.mark.parametrize("file_format", tiny.FORMATS)
def test_a_missing_bias_is_found(file_format: str, tmp_path: Path) -> None:
    lost = "model.layers.1.self_attn.k_proj.bias"
    result = only(judged(altered(tmp_path, file_format, {lost: None}, model_type="qwen2")), "tensor_contract")
    assert codes(result) == {("fail", "missing")} and result.findings[0].where == {"tensor": lost}


@pytest.mark.parametrize("file_format", tiny.FORMATS)
def test_a_transposed_matrix_is_found(file_format: str, tmp_path: Path) -> None:
    result = only(judged(altered(tmp_path, file_format, {UP: weights_of()[UP].T.copy()})), "tensor_contract")
    assert codes(result) == {("fail", "shape")} and "[64, 96], the configuration says [96, 64]" in result.message


@pytest.mark.parametrize("file_format", ["safetensors", "apr"])
def test_a_stranger_is_found(file_format: str, tmp_path: Path) -> None:
    changes = {"model.layers.2.mlp.up_proj.weight": weights_of()[UP]}
    assert codes(only(judged(altered(tmp_path, file_format, changes)), "tensor_contract")) == {("fail", "stranger")}


def test_a_buffer_that_every_reader_computes_anew_is_no_stranger(tmp_path: Path) -> None:
    changes = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(8, dtype=np.float32)}
    report = judged(altered(tmp_path, "safetensors", changes))
    assert report.verdict == "pass"
    assert "ignored" in {f.code for f in named(report)["tensor_contract"].findings}


@pytest.mark.parametrize("file_format", ["safetensors", "apr"])
def test_a_bias_that_the_configuration_does_without_is_found(file_format: str, tmp_path: Path) -> None:
    changes = {"model.layers.0.self_attn.q_proj.bias": np.linspace(-1, 1, 64, dtype=np.float32)}
    assert codes(only(judged(altered(tmp_path, file_format, changes)), "tensor_contract")) == {("fail", "unexpected")}


def test_a_tied_head_may_only_be_a_copy(tmp_path: Path) -> None:
    embedding = weights_of(tie_word_embeddings=True)["model.embed_tokens.weight"]
    changes = {"copy": embedding, "other": embedding + np.float32(0.01), "short": embedding[:100]}
    found = {}
    for name, head in changes.items():
        report = judged(altered(tmp_path / name, "safetensors", {"lm_head.weight": head}, tie_word_embeddings=True))
        found[name] = {(f.status, f.code) for f in named(report)["tensor_contract"].findings if f.code != "census"}
    assert found == {
        "copy": {("pass", "tied-copy")},
        "other": {("fail", "unexpected")},
        "short": {("fail", "unexpected")},
    }


def test_a_tied_head_in_another_encoding_is_undecided(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = altered(tmp_path, "safetensors", {}, tie_word_embeddings=True)
    weights = load_file(folder / "model.safetensors")
    head = weights["model.embed_tokens.weight"].astype(np.float16)
    save_file(weights | {"lm_head.weight": head}, folder / "model.safetensors", {"format": "pt"})
    assert codes(only(judged(folder), "tensor_contract")) == {("undecided", "tied-recoded")}


def test_an_architecture_that_we_do_not_run_is_undecided_and_its_values_are_still_judged(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "mamba")
    writer.add_tensor("x.weight", np.full((3, 4), np.nan, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    results = named(judged(path))
    assert codes(results["tensor_contract"]) == {("undecided", "unsupported-error")}
    assert codes(results["tensor_finite"]) == {("fail", "non-finite")}


# ---- vocabulary


@pytest.fixture
def write_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """A tiny model with another tokenizer."""

    def write(file_format: str, spec: TokenizerSpec) -> Path:
        monkeypatch.setattr(tiny, "spec", lambda *, vocab_size: spec)
        return tiny.write(tmp_path / file_format, file_format)

    return write


@pytest.mark.parametrize("file_format", ["gguf", "apr"])
def test_more_tokens_than_rows_are_found(file_format: str, write_with: Any) -> None:
    result = only(judged(write_with(file_format, tiny.spec(vocab_size=330))), "vocabulary")
    assert codes(result) == {("fail", "too-many-tokens")} and "330 tokens for 320 rows" in result.message


@pytest.mark.parametrize("file_format", ["gguf", "apr"])
def test_a_padded_vocabulary_is_healthy_and_told(file_format: str, write_with: Any) -> None:
    report = judged(write_with(file_format, tiny.spec(vocab_size=300)))
    assert report.verdict == "pass"
    assert "padded" in {f.code for f in named(report)["vocabulary"].findings}


@pytest.mark.parametrize("file_format", tiny.FORMATS)
def test_no_end_of_text_is_found(file_format: str, write_with: Any) -> None:
    spec = tiny.spec()
    tokens = [re.sub(r"^<\|(.*)\|>$", r"<|my \1|>", token) for token in spec.tokens]
    silent = dataclasses.replace(spec, tokens=tokens, eos_token_id=None, stop_token_ids=(), pad_token_id=None)
    assert ("fail", "no-stop") in codes(named(judged(write_with(file_format, silent)))["vocabulary"])


@pytest.mark.parametrize("file_format", tiny.FORMATS)
def test_an_ordinary_token_as_end_of_text_is_found(file_format: str, write_with: Any) -> None:
    spec = dataclasses.replace(tiny.spec(), eos_token_id=65, stop_token_ids=(65,))
    assert spec.token_types[65] == TokenType.NORMAL
    result = only(judged(write_with(file_format, spec)), "vocabulary")
    assert codes(result) == {("fail", "ordinary-special")}
    assert result.findings[0].where == {"key": "eos_token_id", "token_id": 65}


def test_a_missing_tokenizer_is_a_failure_of_its_gates_alone(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path, "safetensors")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink(missing_ok=True)
    results = named(judged(folder))
    assert results["vocabulary"].status == "fail" and results["tensor_contract"].status == "pass"


# ---- chat_template

TEMPLATES: dict[str, tuple[str | None, set[tuple[str, str]]]] = {
    "no template": (None, {("skip", "none")}),
    "drops the message": ("<|im_start|>{% if add_generation_prompt %}x{% endif %}", {("fail", "message-lost")}),
    "last message only": (
        "{{ messages[-1]['content'] }}{% if add_generation_prompt %}\nA:{% endif %}",
        {("fail", "message-lost")},
    ),
    "hostile": (
        tiny.CHATML + "{% if false %}{{ ''.__class__.__mro__ }}{% endif %}",
        {("fail", "suspicious")},
    ),
    "no generation prompt": (
        tiny.CHATML.split("{% if add_generation_prompt")[0],
        {("undecided", "no-generation-prompt")},
    ),
    "refuses": ("{{ raise_exception('no') }}", {("fail", "template-error")}),
    "not Jinja": ("{% for %}", {("fail", "suspicious"), ("fail", "template-error")}),
    "answers follow at once": (
        "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }}</s>{% endif %}{% endfor %}",
        set(),
    ),
}


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("file_format", ["gguf", "safetensors"])
def test_each_defect_of_a_template_has_its_code(name: str, file_format: str, write_with: Any) -> None:
    source, expected = TEMPLATES[name]
    path = write_with(file_format, dataclasses.replace(tiny.spec(), chat_template=source))
    report = judged(path)
    assert codes(named(report)["chat_template"]) == expected
    assert {r.id for r in report.gates if r.status != "pass"} <= {"chat_template"}


def test_a_skipped_gate_does_not_make_a_model_fail_and_is_counted(write_with: Any) -> None:
    report = judged(write_with("gguf", dataclasses.replace(tiny.spec(), chat_template=None)))
    assert (report.verdict, report.counts["skip"], report.counts["pass"]) == ("pass", 1, 5)
