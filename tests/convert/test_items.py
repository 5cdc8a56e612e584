"""What becomes of each tensor: names, rows, encodings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tiny
from apr.convert import _items, convert
from apr.formats import open_model
from apr.kernels import quants
from apr.models._checkpoint import Checkpoint
from convert.conversion_runs import ENDING


def permute(weights: np.ndarray, n_head: int) -> np.ndarray:
    """llama.cpp, convert_hf_to_gguf.py, `LlamaModel.permute`."""
    shape = (n_head, 2, weights.shape[0] // n_head // 2, *weights.shape[1:])
    return weights.reshape(shape).swapaxes(1, 2).reshape(weights.shape)


@pytest.mark.parametrize("origin", ["safetensors", "apr"])
@pytest.mark.parametrize("attention_bias", [False, True])
def test_rows_of_q_and_k_are_those_of_llama_cpps_converter(tmp_path: Path, origin: str, attention_bias: bool) -> None:
    config = tiny.config(attention_bias=attention_bias)
    weights = tiny.tensors(config)
    convert(tiny.write(tmp_path / "source", origin, config, weights), tmp_path / "m.gguf")
    with open_model(tmp_path / "m.gguf") as file:
        for name, heads in (("q", config.num_attention_heads), ("k", config.num_key_value_heads)):
            for part in ("weight", "bias") if attention_bias else ("weight",):
                expected = permute(weights[f"model.layers.1.self_attn.{name}_proj.{part}"], heads)
                np.testing.assert_array_equal(file.array(f"blk.1.attn_{name}.{part}"), expected)


@pytest.mark.parity
@pytest.mark.parametrize("codec", ["q8_0", "q4_0"])
def test_rows_of_blocks_move_whole(tmp_path: Path, codec: str) -> None:
    """Interleaving rows of blocks equals quantising interleaved rows, which is what gguf-py wrote."""
    import gguf

    config = tiny.config()
    weights = tiny.tensors(config)
    reference = tiny.write(tmp_path / "reference", "gguf", config, weights, codec=codec)
    with open_model(reference) as file:
        checkpoint = Checkpoint(file)
        name = "model.layers.0.self_attn.q_proj.weight"
        item = _items.Item(name, name, "blk.0.attn_q.weight", codec, codec, weights[name].shape, "kept")
        kind = gguf.GGMLQuantizationType[codec.upper()]
        canonical = gguf.quants.quantize(weights[name], kind)
        assert checkpoint.raw(name).tobytes() == canonical.tobytes()
        assert _items.encoded(checkpoint, item, "gguf").tobytes() == file.raw("blk.0.attn_q.weight").tobytes()


@pytest.mark.parametrize("model_type", tiny.MODEL_TYPES)
def test_gguf_names_are_those_that_gguf_py_has_for_the_architecture(tmp_path: Path, model_type: str) -> None:
    import gguf

    config = tiny.config(model_type)
    with open_model(tiny.write(tmp_path, "safetensors", config)) as file:
        checkpoint = Checkpoint(file)
        found = {name: _items.gguf_name(checkpoint, name) for name in checkpoint.expected}
    architecture = {"mistral": "llama", "gemma3_text": "gemma3"}.get(model_type, model_type)
    number = next(n for n, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(number, config.num_hidden_layers)
    assert {name: names.get_name(name, (".weight", ".bias")) for name in found} == found


@pytest.mark.parametrize(
    ("target_format", "held", "not_held"),
    [
        ("gguf", ("f32", "bf16", "q4_1", "iq4_xs", "mxfp4"), ("apr_q4", "apr_q8", "u8", "f8_e4m3")),
        ("apr", ("f32", "f16", "bf16", "q4_k", "q6_k"), ("q4_0", "q8_0", "q5_k", "iq4_xs", "f64")),
        ("safetensors", ("f32", "f16", "bf16", "f64", "i8", "f8_e4m3"), ("q4_k", "q8_0", "apr_q8")),
    ],
)
def test_what_a_format_holds(target_format: str, held: tuple[str, ...], not_held: tuple[str, ...]) -> None:
    assert all(_items.holds(target_format, codec) for codec in held)
    assert not any(_items.holds(target_format, codec) for codec in not_held)


def test_norms_in_hugging_faces_convention_are_not_taken_through_the_factor(tmp_path: Path) -> None:
    """w = 1e-9 is lost in 1 + w: from safetensors to `.apr`, which both hold w, it must arrive."""
    config = tiny.config("gemma3_text")
    weights = tiny.tensors(config)
    weights["model.norm.weight"][:] = 1e-9
    for codec in ("f32", "f16"):
        weights["model.norm.weight"][:] = np.float32(np.float16(1e-6))
        source = tiny.write(tmp_path / codec, "safetensors", config, weights, codec=codec)
        convert(source, tmp_path / f"{codec}.apr")
        with open_model(tmp_path / f"{codec}.apr") as file:
            np.testing.assert_array_equal(file.array("model.norm.weight"), weights["model.norm.weight"])


@pytest.mark.parametrize("to", tiny.FORMATS)
def test_gemma_norms_follow_the_convention_of_the_format(tmp_path: Path, to: str) -> None:
    config = tiny.config("gemma3_text")
    weights = tiny.tensors(config)
    source = tiny.write(tmp_path / "source", "gguf" if to != "gguf" else "safetensors", config, weights)
    convert(source, tmp_path / f"m{ENDING[to]}")
    with open_model(tmp_path / f"m{ENDING[to]}") as file:
        name = "blk.0.attn_norm.weight" if to == "gguf" else "model.layers.0.input_layernorm.weight"
        offset = 1.0 if to == "gguf" else 0.0
        np.testing.assert_allclose(
            file.array(name), weights["model.layers.0.input_layernorm.weight"] + offset, atol=1e-6
        )


def test_half_precision_is_encoded_by_the_codec(tmp_path: Path) -> None:
    source = tiny.write(tmp_path / "source", "gguf", codec="q8_0")
    convert(source, tmp_path / "m.apr", dequantize="bf16")
    with open_model(source) as before, open_model(tmp_path / "m.apr") as after:
        values = Checkpoint(before).array("model.layers.0.mlp.up_proj.weight")
        assert after.raw("model.layers.0.mlp.up_proj.weight").tobytes() == quants.codec("bf16").encode(values).tobytes()
