"""Conversions as a whole: every format into every other, every architecture; judged by engines that are not ours as well."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import tiny
from apr.convert import convert, plan
from apr.convert._quantise import recipe
from apr.errors import ConversionError, UnsupportedError, UsageError
from apr.formats import apr as apr_format
from apr.formats import gguf as gguf_format
from apr.formats import open_model, safetensors
from apr.formats._base import ModelFile, Outgoing
from apr.kernels import quants
from apr.models._config import ModelConfig, RopeScaling
from convert.conversion_runs import ENDING, TOKEN_IDS, leftovers, logits, same_bits, transformers_logits
from convert.llama_logits import llama_logits

# (model_type, tied)
MODELS = [(t, tied) for t in tiny.MODEL_TYPES for tied in (False, True) if tied or t != "gemma3_text"]
SCALINGS = {
    "linear": RopeScaling("linear", factor=4.0),
    "llama3": RopeScaling(
        "llama3", factor=8.0, original_max_position_embeddings=8192, low_freq_factor=1.0, high_freq_factor=4.0
    ),
    "yarn": RopeScaling("yarn", factor=4.0, original_max_position_embeddings=64),
}


def config_of(model_type: str, *, tied: bool) -> ModelConfig:
    return tiny.config(model_type, tie_word_embeddings=tied)


@pytest.mark.parametrize(("model_type", "tied"), MODELS)
@pytest.mark.parametrize("to", tiny.FORMATS)
@pytest.mark.parametrize("origin", tiny.FORMATS)
def test_logits_are_the_same_to_the_last_bit(
    tmp_path: Path, target: Path, origin: str, to: str, model_type: str, tied: bool
) -> None:
    source = tiny.write(tmp_path / "source", origin, config_of(model_type, tied=tied))
    report = convert(source, target / f"copy{ENDING[to]}")
    assert same_bits(logits(source), logits(target / f"copy{ENDING[to]}"))
    assert (report.schema, report.source_format, report.target_format) == ("apr.convert/1", origin, to)
    assert report.n_dequantized == 0 and report.n_kept + report.n_recoded == report.n_tensors
    assert leftovers(target) == [f"copy{ENDING[to]}"]


@pytest.mark.parametrize("model_type", tiny.MODEL_TYPES)
def test_there_and_back_again_gives_the_same_weights(tmp_path: Path, target: Path, model_type: str) -> None:
    config = config_of(model_type, tied=model_type == "gemma3_text")
    source = tiny.write(tmp_path / "source", "gguf", config)
    convert(source, target / "a.apr")
    convert(target / "a.apr", target / "folder")
    convert(target / "folder", target / "b.gguf")
    with open_model(source) as before, open_model(target / "b.gguf") as after:
        assert {n: before.raw(n).tobytes() for n in before.tensors} == {
            n: after.raw(n).tobytes() for n in after.tensors
        }


@pytest.mark.parity
@pytest.mark.parametrize(("model_type", "tied"), MODELS)
def test_llama_cpp_computes_the_same_from_our_gguf_as_from_gguf_pys(
    tmp_path: Path, target: Path, model_type: str, tied: bool
) -> None:
    config = config_of(model_type, tied=tied)
    reference = tiny.write(tmp_path / "reference", "gguf", config)
    converted = []
    for origin in ("safetensors", "apr"):
        converted.append(target / f"{origin}.gguf")
        convert(tiny.write(tmp_path / origin, origin, config), converted[-1])
    expected, *found = llama_logits([reference, *converted], TOKEN_IDS)
    assert np.abs(expected).max() > 0.5
    for one in found:
        assert same_bits(expected, one)
    np.testing.assert_allclose(expected, logits(reference)[-1], atol=5e-3)  # its key-value cache is F16


@pytest.mark.parity
@pytest.mark.parametrize(("model_type", "tied"), MODELS)
@pytest.mark.parametrize("origin", ["gguf", "apr"])
def test_transformers_loads_the_folder(tmp_path: Path, target: Path, origin: str, model_type: str, tied: bool) -> None:
    source = tiny.write(tmp_path / "source", origin, config_of(model_type, tied=tied))
    convert(source, target / "folder")
    np.testing.assert_allclose(transformers_logits(target / "folder"), logits(source), atol=1e-4)


@pytest.mark.parity
def test_transformers_reads_tokenizer_template_and_generation_settings(tmp_path: Path, target: Path) -> None:
    from transformers import AutoTokenizer, GenerationConfig

    convert(tiny.write(tmp_path, "gguf"), target / "folder")
    tokenizer = AutoTokenizer.from_pretrained(target / "folder")
    spec = tiny.spec()
    assert tokenizer.encode("<|im_start|>then</s>")[0] == spec.tokens.index("<|im_start|>")
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    assert text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    settings = GenerationConfig.from_pretrained(target / "folder")
    assert settings.eos_token_id == list(spec.stop_token_ids) and settings.pad_token_id == spec.pad_token_id


@pytest.mark.parity
@pytest.mark.parametrize("kind", SCALINGS)
@pytest.mark.parametrize("origin", ["safetensors", "apr"])
def test_rotary_scalings_mean_the_same_in_gguf(tmp_path: Path, target: Path, kind: str, origin: str) -> None:
    source = tiny.write(
        tmp_path / "source", origin, tiny.config("llama", rope_scaling=SCALINGS[kind], rope_theta=500000.0)
    )
    convert(source, target / "m.gguf")
    convert(target / "m.gguf", target / "back")
    np.testing.assert_allclose(logits(target / "m.gguf"), logits(source), atol=1e-5)
    np.testing.assert_allclose(logits(target / "back"), logits(source), atol=1e-5)
    # llama.cpp computes its own frequencies from keys and tensors that we wrote
    np.testing.assert_allclose(llama_logits([target / "m.gguf"], TOKEN_IDS)[0], logits(source)[-1], atol=5e-3)


@pytest.mark.parity
def test_longrope_factors_and_their_scale_reach_llama_cpp(tmp_path: Path, target: Path) -> None:
    factors = tuple(1.0 + 0.25 * i for i in range(8))
    scaling = RopeScaling("longrope", 4.0, 64, short_factor=factors, long_factor=tuple(2 * f for f in factors))
    source = tiny.write(tmp_path / "source", "safetensors", tiny.config("phi3", rope_scaling=scaling))
    convert(source, target / "m.gguf")
    with open_model(target / "m.gguf") as file:
        assert file.metadata["phi3.rope.scaling.attn_factor"] == pytest.approx((1 + np.log(4) / np.log(64)) ** 0.5)
    np.testing.assert_allclose(logits(target / "m.gguf"), logits(source), atol=1e-5)


def test_a_scaling_that_gguf_cannot_say_is_refused_by_name(tmp_path: Path, target: Path) -> None:
    scaling = RopeScaling("yarn", factor=4.0, original_max_position_embeddings=64, truncate=False, beta_fast=31.0)
    source = tiny.write(tmp_path / "source", "safetensors", tiny.config("llama", rope_scaling=scaling))
    with pytest.raises(ConversionError, match="rope_scaling"):
        convert(source, target / "m.gguf")
    assert leftovers(target) == []


def test_a_query_scale_that_gguf_cannot_say_is_refused_by_name(tmp_path: Path, target: Path) -> None:
    source = tiny.write(tmp_path / "source", "safetensors", tiny.config("gemma3_text", query_pre_attn_scalar=64.0))
    with pytest.raises(ConversionError, match=r"query_pre_attn_scalar is 64\.0 in the source and 16\.0"):
        convert(source, target / "m.gguf")
    assert leftovers(target) == []


@pytest.mark.parametrize("codec", ["f16", "bf16", "q8_0", "q4_0"])
def test_a_copy_of_a_gguf_file_is_that_file(tmp_path: Path, target: Path, codec: str) -> None:
    source = tiny.write(tmp_path / "source", "gguf", codec=codec)
    convert(source, target / "m.gguf")
    assert (target / "m.gguf").read_bytes() == source.read_bytes()


def test_a_copy_of_an_apr_file_is_that_file(tmp_path: Path, target: Path) -> None:
    source = tiny.write(tmp_path / "source", "apr")
    convert(source, target / "m.apr")
    assert (target / "m.apr").read_bytes() == source.read_bytes()


def test_a_copy_of_a_folder_keeps_documents_and_merges_shards(tmp_path: Path, target: Path) -> None:
    source = tiny.write(tmp_path / "source", "safetensors")
    with open_model(source) as file:
        specs = tuple((i.name, i.codec, i.shape) for i in file.tensors.values())
        outgoing = Outgoing(dict(file.metadata), specs, file.raw, dict(file.documents))
        safetensors.write_sharded(tmp_path / "shards", outgoing, max_shard_bytes=60_000)
    convert(tmp_path / "shards", target / "m")
    with open_model(source) as before, open_model(target / "m") as after:
        assert dict(before.documents) == dict(after.documents) and len(after.files) == 1
        assert {n: before.raw(n).tobytes() for n in before.tensors} == {
            n: after.raw(n).tobytes() for n in after.tensors
        }


def test_types_that_the_target_lacks_are_refused_with_counts_and_sizes(tmp_path: Path, target: Path) -> None:
    source = tiny.write(tmp_path / "source", "gguf", codec="q8_0")
    with pytest.raises(
        ConversionError, match=r"16 of 21 tensors .* apr cannot hold \(16 q8_0; .*--dequantize f32 \(exact, 0 MB\)"
    ):
        convert(source, target / "m.apr")
    assert leftovers(target) == []


@pytest.mark.parametrize("to", ["apr", "safetensors"])
@pytest.mark.parametrize("codec", ["q8_0", "q4_0"])
def test_dequantising_to_f32_changes_no_logit(tmp_path: Path, target: Path, to: str, codec: str) -> None:
    source = tiny.write(tmp_path / "source", "gguf", codec=codec)
    report = convert(source, target / f"m{ENDING[to]}", dequantize="f32")
    assert (report.n_dequantized, report.n_kept, report.dequantized_to) == (16, 5, "f32")
    assert same_bits(logits(source), logits(target / f"m{ENDING[to]}"))


@pytest.mark.parity
def test_k_quants_stay_as_they_are_in_apr_and_back(tmp_path: Path, target: Path) -> None:
    import gguf

    source, raw = with_k_quants(tmp_path)
    report = convert(source, target / "k.apr")
    assert report.n_dequantized == 0 and report.n_kept == report.n_tensors
    assert same_bits(logits(source), logits(target / "k.apr"))
    convert(target / "k.apr", target / "back.gguf")
    with open_model(target / "back.gguf") as back:
        assert {n: back.raw(n).tobytes() for n in back.tensors} == {n: r.tobytes() for n, r in raw.items()}
    reader = gguf.GGUFReader(target / "back.gguf")
    kinds = gguf.GGMLQuantizationType
    assert {t.tensor_type for t in reader.tensors} == {kinds.F32, kinds.Q4_K, kinds.Q6_K}
    assert reader.get_field("general.quantization_version").contents() == 2


def with_k_quants(folder: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """A GGUF file whose matrices are Q4_K and Q6_K blocks of random bits with small scales (gguf-py cannot encode them), and its data."""
    rng = np.random.default_rng(3)
    made = tiny.config(hidden_size=256, intermediate_size=256, head_dim=64, num_hidden_layers=1)
    convert(tiny.write(folder / "plain", "apr", made), folder / "plain.gguf")
    raw: dict[str, np.ndarray] = {}
    specs = []
    with open_model(folder / "plain.gguf") as file:
        for at, info in enumerate(file.tensors.values()):
            codec = ("q4_k", "q6_k")[at % 2] if len(info.shape) > 1 else "f32"
            values = rng.integers(0, 256, quants.codec(codec).n_bytes(info.n_elements), dtype=np.uint8)
            if codec == "q4_k":
                values.reshape(-1, 144)[:, :4] = np.full(2, 1e-4, "<f2").view(np.uint8)
            if codec == "q6_k":
                values.reshape(-1, 210)[:, -2:] = np.full(1, 1e-5, "<f2").view(np.uint8)
            raw[info.name] = values if codec != "f32" else file.raw(info.name).copy()
            specs.append((info.name, codec, info.shape))
        gguf_format.write(folder / "k.gguf", Outgoing(dict(file.typed_metadata), tuple(specs), raw.__getitem__))
    return folder / "k.gguf", raw


@pytest.mark.parametrize("codec", ["apr_q4", "apr_q8"])
def test_blocks_that_only_apr_has_are_dequantised_for_gguf_when_told(tmp_path: Path, target: Path, codec: str) -> None:
    source = tiny.write(tmp_path / "source", "apr", codec=codec)
    with pytest.raises(ConversionError, match=rf"gguf cannot hold \(16 {codec}"):
        convert(source, target / "m.gguf")
    convert(source, target / "m.gguf", dequantize="f32")
    assert same_bits(logits(source), logits(target / "m.gguf"))


def test_half_precision_norms_are_widened_for_gguf_and_apr(tmp_path: Path, target: Path) -> None:
    source = tiny.write(tmp_path / "source", "safetensors", codec="f16")
    for name in ("m.gguf", "m.apr"):
        report = convert(source, target / name)
        assert (report.n_recoded, report.n_kept) == (5, 16)
        with open_model(target / name) as file:
            assert {i.codec for i in file.tensors.values() if len(i.shape) == 1} == {"f32"}
        assert same_bits(logits(source), logits(target / name))


def test_a_value_beyond_f16_is_refused_with_its_index(tmp_path: Path, target: Path) -> None:
    config = tiny.config()
    weights = tiny.tensors(config)
    weights["lm_head.weight"][3, 4:36] = 70000.0
    source = tiny.write(tmp_path / "source", "gguf", config, weights, codec="q8_0")
    with pytest.raises(ConversionError, match=r"'lm_head\.weight' holds .* and f16 ends at 65504"):
        convert(source, target / "m", dequantize="f16")
    assert leftovers(target) == []


def test_a_norm_factor_that_the_target_cannot_hold_is_refused(tmp_path: Path, target: Path) -> None:
    config = tiny.config("gemma3_text")
    weights = tiny.tensors(config)
    # 1e-9 + 1 - 1 is 0 in float32: GGUF holds a factor of 1e-9, and no w has 1 + w equal to it
    source = tiny.write(tmp_path / "source", "gguf", config, weights)
    import gguf

    reader = gguf.GGUFReader(source, "r+")
    next(t for t in reader.tensors if t.name == "output_norm.weight").data[5] = np.float32(1e-9)
    reader.data.flush()
    del reader
    with pytest.raises(ConversionError, match=r"'model\.norm\.weight' holds the factor .* at index 5"):
        convert(source, target / "m")
    assert leftovers(target) == []


def test_a_tensor_without_a_place_is_named(tmp_path: Path, target: Path) -> None:
    from safetensors.numpy import load_file, save_file

    source = tiny.write(tmp_path / "source", "safetensors")
    tensors = load_file(source / "model.safetensors")
    save_file(tensors | {"model.layers.0.adapter.weight": np.zeros((2, 2), np.float32)}, source / "model.safetensors")
    with pytest.raises(ConversionError, match=r"1 tensors have no place in llama: model\.layers\.0\.adapter\.weight"):
        convert(source, target / "m.gguf")


def test_a_tied_head_that_differs_from_the_embedding_is_refused(tmp_path: Path, target: Path) -> None:
    from safetensors.numpy import load_file, save_file

    source = tiny.write(tmp_path / "source", "safetensors", tiny.config(tie_word_embeddings=True))
    tensors = load_file(source / "model.safetensors")
    save_file(tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"] * 2}, source / "model.safetensors")
    with pytest.raises(ConversionError, match="ties the output head"):
        convert(source, target / "m.gguf")


def test_a_type_that_nobody_here_decodes_is_refused_before_writing(tmp_path: Path, target: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    source = tiny.write(tmp_path / "source", "safetensors")
    tensors = load_file(source / "model.safetensors")
    tensors["lm_head.weight"] = tensors["lm_head.weight"].to(torch.float8_e4m3fn)
    save_file(tensors, source / "model.safetensors")
    with pytest.raises(UnsupportedError, match="f8_e4m3"):
        convert(source, target / "m.gguf", dequantize="f32")
    assert leftovers(target) == []


def test_a_plan_says_what_a_conversion_does_and_writes_nothing(tmp_path: Path, target: Path) -> None:
    source = tiny.write(tmp_path / "source", "gguf", codec="q8_0")
    made = plan(source, target / "m.apr", dequantize="f16")
    assert (made.n_tensors, made.n_kept, made.n_dequantized) == (21, 5, 16)
    assert made.codecs == {"f16": 16, "f32": 5}
    assert leftovers(target) == []
    with open_model(source) as file:
        matrices = sum(i.n_elements for i in file.tensors.values() if len(i.shape) > 1)
    assert made.n_bytes == 2 * matrices + 4 * 5 * 64


def test_progress_covers_every_byte_twice(tmp_path: Path, target: Path) -> None:
    seen: dict[str, int] = {}
    report = lambda phase, n: seen.update({phase: seen.get(phase, 0) + n})  # noqa: E731
    source = tiny.write(tmp_path / "source", "gguf")
    convert(source, target / "m.apr", progress=report)
    n_bytes = plan(source, target / "n.apr").n_bytes
    assert seen == {"write": n_bytes, "check": n_bytes}


def test_a_report_is_json(tmp_path: Path, target: Path) -> None:
    import hashlib

    report = convert(tiny.write(tmp_path / "source", "gguf"), target / "m.apr")
    stored = json.loads(json.dumps(dataclasses.asdict(report)))
    assert stored["target_sha256"] == hashlib.sha256((target / "m.apr").read_bytes()).hexdigest()
    assert stored["n_bytes"] == (target / "m.apr").stat().st_size
    assert any("byte for byte" in sentence for sentence in stored["checked"])


def test_an_unknown_type_to_dequantise_to_is_a_usage_error(tmp_path: Path, target: Path) -> None:
    with pytest.raises(UsageError, match="expected one of f32, f16, bf16"):
        convert(tiny.write(tmp_path, "gguf"), target / "m.apr", dequantize="q4_0")


def test_other_spellings_of_a_dimension_are_renamed_in_a_copy_and_told(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiny.write(tmp_path / "source", "apr")
    with open_model(source) as file:
        metadata = {("n_layers" if key == "num_layers" else key): value for key, value in file.metadata.items()}
        outgoing = Outgoing(metadata, tuple((i.name, i.codec, i.shape) for i in file.tensors.values()), file.raw)
        with monkeypatch.context() as patch:
            patch.setattr("apr.formats._apr_metadata.check_outgoing", lambda path, metadata: None)
            apr_format.write(tmp_path / "other.apr", outgoing)
    report = convert(tmp_path / "other.apr", target / "m.apr")
    assert any("n_layers" in note for note in report.notes)
    with open_model(target / "m.apr") as file:
        assert file.metadata["num_layers"] == 2 and "n_layers" not in file.metadata


@pytest.mark.parametrize(("to", "quantised_to"), [(".gguf", None), (".apr", None), (".gguf", "q8_0"), (".apr", "q4_0")])
def test_what_was_read_is_let_go_on_both_sides(
    tmp_path: Path, target: Path, to: str, quantised_to: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory stays near one tensor: pages of a mapped file that were read count until they are given up."""
    source = tiny.write(tmp_path / "source", "gguf")
    released: list[tuple[str, str]] = []
    plain = ModelFile.release

    def release(self: ModelFile, name: str, start: int, stop: int) -> None:
        released.append((self.path.suffix, name))
        assert (start, stop) == (0, self.tensors[name].n_bytes)
        plain(self, name, start, stop)

    monkeypatch.setattr(ModelFile, "release", release)
    convert(source, target / f"copy{to}", quantize=recipe(quantised_to) if quantised_to else None)
    with open_model(source) as before, open_model(target / f"copy{to}") as after:
        assert {name for suffix, name in released if suffix == ".gguf"} >= set(before.tensors)
        assert {name for suffix, name in released if suffix == to} >= set(after.tensors)
