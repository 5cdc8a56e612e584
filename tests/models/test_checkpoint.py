"""A model file seen through its architecture: names, row orders, norms, hashes, in every container."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import tiny
from apr.errors import BadMetadata, MissingTensor, ShapeMismatch
from apr.formats import open_model
from apr.kernels import quants
from apr.models._checkpoint import Checkpoint, are_same, deinterleaved_rows, expected_tensors, interleaved_rows
from apr.models._rope import llama3_factors
from config_variants import LLAMA3

EVERYTHING = [(model_type, file_format) for model_type in tiny.MODEL_TYPES for file_format in tiny.FORMATS]


def opened(
    folder: Path, file_format: str, model_type: str = "llama", *, codec: str = "f32", **changes: Any
) -> Checkpoint:
    return Checkpoint(
        open_model(tiny.write(folder / file_format, file_format, tiny.config(model_type, **changes), codec=codec))
    )


def permuted_by_llama_cpp(rows: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp, convert_hf_to_gguf.py, LlamaModel.permute."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


@pytest.mark.parametrize(("model_type", "file_format"), EVERYTHING)
def test_every_container_gives_the_same_canonical_weights(model_type: str, file_format: str, tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, file_format, model_type)
    original, offset = tiny.tensors(checkpoint.config), checkpoint.architecture.HF_NORM_OFFSET
    assert checkpoint.convention == ("gguf" if file_format == "gguf" else "hf")
    assert checkpoint.extra == [] and set(checkpoint.tensors) >= set(original)
    weights = checkpoint.weights()
    assert list(weights) == list(expected_tensors(checkpoint.config))
    for name, values in weights.items():
        factor = np.float32(offset if name.endswith("norm.weight") else 0.0)
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, original[name] + factor, err_msg=name)


@pytest.mark.parametrize(("n_rows", "heads"), [(2, 1), (64, 4), (32, 2), (60, 3), (12, 2)])
def test_the_row_orders_undo_llama_cpps_permutation(n_rows: int, heads: int) -> None:
    rows = np.arange(n_rows * 3).reshape(n_rows, 3)
    np.testing.assert_array_equal(permuted_by_llama_cpp(rows, heads)[deinterleaved_rows(n_rows, heads)], rows)
    np.testing.assert_array_equal(rows[interleaved_rows(n_rows, heads)], permuted_by_llama_cpp(rows, heads))


def test_only_llama_files_are_reordered_and_there_only_q_and_k(tmp_path: Path) -> None:
    llama, qwen = opened(tmp_path / "llama", "gguf"), opened(tmp_path / "qwen2", "gguf", "qwen2")
    reordered = {name.split(".")[-2] for name, place in llama.tensors.items() if place.row_order is not None}
    assert reordered == {"q_proj", "k_proj"}
    assert all(place.row_order is None for place in qwen.tensors.values())


def test_biases_of_q_and_k_are_reordered_too(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, "gguf", attention_bias=True)
    original = tiny.tensors(checkpoint.config)
    for name in ("q_proj.bias", "k_proj.bias", "v_proj.bias", "o_proj.bias"):
        name = f"model.layers.1.self_attn.{name}"
        np.testing.assert_array_equal(checkpoint.array(name), original[name])


@pytest.mark.parametrize("model_type", ["llama", "qwen2"])
def test_quantised_bytes_in_canonical_order_decode_to_the_array(model_type: str, tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, "gguf", model_type, codec="q8_0")
    original = tiny.tensors(checkpoint.config)
    for name, place in checkpoint.tensors.items():
        decoded = quants.codec(place.info.codec).decode(checkpoint.raw(name), place.info.shape)
        np.testing.assert_array_equal(decoded, checkpoint.array(name), err_msg=name)
        if place.info.codec == "q8_0":  # rows are whole blocks, so quantising and reordering commute
            blocks = gguf.quants.quantize(original[name], gguf.GGMLQuantizationType.Q8_0)
            np.testing.assert_array_equal(checkpoint.raw(name), blocks.reshape(-1), err_msg=name)
    assert checkpoint.tensors["model.layers.0.self_attn.q_proj.weight"].info.codec == "q8_0"


def test_a_planted_reversal_of_the_order_is_seen(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, "gguf")
    name = "model.layers.0.self_attn.q_proj.weight"
    as_stored = checkpoint.file.array("blk.0.attn_q.weight")
    assert not np.array_equal(as_stored, checkpoint.array(name))
    assert not np.array_equal(as_stored[interleaved_rows(64, 4)], checkpoint.array(name))


def test_gemmas_safetensors_norms_lack_their_one_and_its_gguf_norms_do_not(tmp_path: Path) -> None:
    hf, ours = opened(tmp_path, "safetensors", "gemma3_text"), opened(tmp_path, "gguf", "gemma3_text")
    assert hf.tensors["model.norm.weight"].norm_offset == 1.0 and ours.tensors["model.norm.weight"].norm_offset == 0.0
    for name in (
        "model.norm.weight",
        "model.layers.0.self_attn.q_norm.weight",
        "model.layers.1.input_layernorm.weight",
    ):
        np.testing.assert_array_equal(hf.array(name), ours.array(name))
        assert abs(float(hf.array(name).mean()) - 1) < 0.3
    np.testing.assert_array_equal(hf.array("lm_head.weight" if "lm_head.weight" in hf.tensors else "model.embed_tokens.weight"),
                                  ours.array("model.embed_tokens.weight"))  # fmt: skip


@pytest.mark.parametrize("file_format", tiny.FORMATS)
@pytest.mark.parametrize(
    "lost", ["model.layers.1.self_attn.q_proj.bias", "model.norm.weight", "model.embed_tokens.weight"]
)
def test_a_missing_tensor_is_named(file_format: str, lost: str, tmp_path: Path) -> None:
    config = tiny.config("qwen2")
    weights = tiny.tensors(config)
    del weights[lost]
    path = tiny.write(tmp_path, file_format, config, weights)
    if file_format == "gguf" and "embed" in lost:  # GGUF's vocabulary is the embedding's rows
        with pytest.raises(BadMetadata, match="token_embd"):
            Checkpoint(open_model(path))
        return
    with pytest.raises(MissingTensor, match=f"no tensor '{lost}', which qwen2 needs"):
        Checkpoint(open_model(path)).weights()


@pytest.mark.parametrize("file_format", tiny.FORMATS)
@pytest.mark.parametrize("shape", [(96, 64), (64, 95), (32, 96), (64 * 96,)])
def test_a_misshaped_tensor_is_named_with_both_shapes(file_format: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    config = tiny.config("qwen2")
    name = "model.layers.0.mlp.down_proj.weight"
    weights = tiny.tensors(config) | {name: np.ones(shape, dtype=np.float32)}
    checkpoint = Checkpoint(open_model(tiny.write(tmp_path, file_format, config, weights)))
    with pytest.raises(ShapeMismatch, match=rf"tensor '{name}' is \[{shape[0]}.*\], the configuration says \[64, 96\]"):
        checkpoint.check()


def test_a_misshaped_q_is_still_a_finding_and_no_crash(tmp_path: Path) -> None:
    config = tiny.config()
    weights = tiny.tensors(config) | {"model.layers.0.self_attn.q_proj.weight": np.ones((63, 64), dtype=np.float32)}
    checkpoint = Checkpoint(open_model(tiny.write(tmp_path, "apr", config, weights)))
    assert checkpoint.tensors["model.layers.0.self_attn.q_proj.weight"].row_order is None
    with pytest.raises(ShapeMismatch):
        checkpoint.check()


@pytest.mark.parametrize("file_format", ["safetensors", "apr"])
def test_tensors_without_a_place_are_extra(file_format: str, tmp_path: Path) -> None:
    config = tiny.config()
    strangers = {"model.layers.2.mlp.up_proj.weight": np.ones((96, 64), np.float32), "vision.x": np.ones(3, np.float32)}
    checkpoint = Checkpoint(open_model(tiny.write(tmp_path, file_format, config, tiny.tensors(config) | strangers)))
    assert sorted(checkpoint.extra) == sorted(strangers)
    checkpoint.check()


def test_rotary_factors_of_a_gguf_file_are_no_strangers(tmp_path: Path) -> None:
    config = tiny.config(rope_scaling=LLAMA3)
    with_factors = gguf_with(tmp_path / "m.gguf", tmp_path, config, {"rope_freqs.weight": llama3_factors(config)})
    checkpoint = Checkpoint(open_model(with_factors))
    assert checkpoint.extra == [] and checkpoint.config.rope_scaling is not None
    np.testing.assert_array_equal(checkpoint.config.rope_scaling.long_factor, llama3_factors(config))
    matrix = gguf_with(tmp_path / "n.gguf", tmp_path, config, {"rope_freqs.weight": np.ones((2, 2), np.float32)})
    with pytest.raises(BadMetadata, match=r"rope_freqs\.weight must hold 8 factors"):
        Checkpoint(open_model(matrix))


def gguf_with(path: Path, folder: Path, config: Any, more: dict[str, np.ndarray]) -> Path:
    """A tiny GGUF file with tensors of any name beside its own; written by gguf-py."""
    reader = gguf.GGUFReader(tiny.write(folder / "plain", "gguf", config))
    writer = gguf.GGUFWriter(path, "llama")
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            writer.add_key_value(
                field.name, field.contents(), field.types[0], field.types[-1] if len(field.types) > 1 else None
            )
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, np.array(tensor.data))
    for name, values in more.items():
        writer.add_tensor(name, np.ascontiguousarray(values, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("model_type", tiny.MODEL_TYPES)
def test_the_content_hash_is_that_of_the_weights_and_not_of_the_container(model_type: str, tmp_path: Path) -> None:
    hashes = {name: opened(tmp_path, name, model_type).content_sha256() for name in tiny.FORMATS}
    assert hashes["safetensors"] == hashes["apr"]
    # gemma's norms are other bytes in GGUF: the factor itself
    assert (hashes["safetensors"] == hashes["gguf"]) is (model_type != "gemma3_text")


def test_a_tied_head_that_apr_files_repeat_is_not_hashed(tmp_path: Path) -> None:
    changes = {"tie_word_embeddings": True}
    hashes = {opened(tmp_path, name, **changes).content_sha256() for name in tiny.FORMATS}
    assert len(hashes) == 1


@pytest.mark.parametrize("file_format", tiny.FORMATS)
def test_one_other_byte_gives_another_content_hash(file_format: str, tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, file_format)
    before, info = checkpoint.content_sha256(), checkpoint.tensors["model.layers.1.mlp.up_proj.weight"].info
    checkpoint.file.close()
    content = bytearray(info.path.read_bytes())
    content[info.offset + info.n_bytes - 1] ^= 1
    info.path.write_bytes(content)
    again = opened_path(info.path if file_format != "safetensors" else info.path.parent)
    assert again.content_sha256() != before


def opened_path(path: Path) -> Checkpoint:
    return Checkpoint(open_model(path))


def test_another_codec_or_swapped_tensors_give_another_content_hash(tmp_path: Path) -> None:
    plain = opened(tmp_path / "a", "gguf").content_sha256()
    assert opened(tmp_path / "b", "gguf", codec="f16").content_sha256() != plain
    config = tiny.config()
    weights = tiny.tensors(config)
    k, v = "model.layers.0.self_attn.k_proj.weight", "model.layers.0.self_attn.v_proj.weight"
    swapped = weights | {k: weights[v], v: weights[k]}
    assert opened_path(tiny.write(tmp_path / "c", "safetensors", config, swapped)).content_sha256() != plain


@pytest.mark.parametrize("file_format", tiny.FORMATS)
def test_the_progress_of_loading_sums_to_all_bytes(file_format: str, tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, file_format)
    steps: list[int] = []
    weights = checkpoint.weights(progress=steps.append)
    assert sum(steps) == sum(info.n_bytes for info in checkpoint.file.tensors.values())
    assert len(steps) == len(weights) and min(steps) > 0


def test_a_folder_without_a_configuration_says_so(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path, "safetensors")
    (folder / "config.json").unlink()
    with pytest.raises(BadMetadata, match=r"no config\.json"):
        opened_path(folder)


def test_arrays_are_compared_beyond_the_first_piece() -> None:
    one = np.zeros((1 << 22) + 5, dtype=np.uint8)
    other = one.copy()
    assert are_same(one, other) and not are_same(one, one[:-1]) and not are_same(one[:-1], one)
    other[-1] = 1
    assert not are_same(one, other)
    assert are_same(one[:0], other[:0])
