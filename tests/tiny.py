"""Tiny random models of every architecture in every format, made in milliseconds.

    config = tiny.config("qwen2", sliding_window=8)
    path = tiny.write(folder, "gguf", config)

The GGUF writer here is gguf-py's and the safetensors writer is safetensors' own, so that our writers are never the
source of what our readers are tested with; Llama's heads are interleaved by llama.cpp's formula, not by ours.
"""

from __future__ import annotations

import dataclasses
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from apr import models
from apr.kernels import quants
from apr.models._checkpoint import GLOBAL_NAMES, expected_tensors
from apr.models._config import ModelConfig
from apr.models._config_apr import to_apr as config_to_apr
from apr.models._config_gguf import to_gguf as config_to_gguf
from apr.models._config_hf import to_hf as config_to_hf
from apr.tokenizer.spec import TokenizerSpec, TokenType
from apr.tokenizer.to_apr import to_apr
from apr.tokenizer.to_gguf import to_gguf
from apr.tokenizer.to_hf import to_hf

MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3", "gemma3_text", "phi3")
FORMATS = ("safetensors", "gguf", "apr")
VOCAB_SIZE = 320
BLOCKS_OF_256 = {"hidden_size": 256, "intermediate_size": 512, "head_dim": 64}
# codec -> (byte, float16) pairs: block scales that make weights of the size of `tensors` of random bits
SCALES = {
    "q2_k": ((80, 5e-3), (82, 7.5e-3)),
    "q3_k": ((108, 1.4e-3),),
    "q4_k": ((0, 2.5e-4), (2, 1.9e-3)),
    "q5_k": ((0, 1.2e-4), (2, 1.9e-3)),
    "q6_k": ((208, 4.5e-5),),
}
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

_PACKED: dict[Any, bytes] = {}


def config(model_type: str = "llama", **changes: Any) -> ModelConfig:
    """Two layers, hidden 64, four query and two key-value heads of 16, feed-forward 96, 320 tokens."""
    made = ModelConfig(
        model_type=model_type,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        vocab_size=VOCAB_SIZE,
        max_position_embeddings=256,
        rms_norm_eps=1e-6,
        rope_theta=10000.0,
    )
    if model_type == "gemma3_text":
        made = dataclasses.replace(
            made,
            hidden_act="gelu_pytorch_tanh",
            tie_word_embeddings=True,
            sliding_window=8,
            layer_types=("sliding_attention", "full_attention"),
            rope_theta=1000000.0,
            rope_local_base_freq=10000.0,
            query_pre_attn_scalar=16.0,
        )
    return dataclasses.replace(made, **changes)


def tensors(made: ModelConfig, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Random float32 weights under canonical names, as a safetensors file would hold them (Gemma norms without their 1)."""
    return {name: values.copy() for name, values in _drawn(made, seed).items()}


@lru_cache(maxsize=64)
def _drawn(made: ModelConfig, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    offset = models.for_model_type(made.model_type).Model.HF_NORM_OFFSET
    values = {}
    for name, shape in expected_tensors(made).items():
        if name.endswith("norm.weight"):
            values[name] = (1.0 - offset + 0.2 * random.standard_normal(shape)).astype(np.float32)
        else:
            # three times the usual scale: logits differ enough that no two tokens tie
            values[name] = (0.06 * random.standard_normal(shape)).astype(np.float32)
    return values


def random_blocks(codec: str, shape: tuple[int, ...], *, seed: int) -> np.ndarray:
    """uint8 [rows, bytes of a row]: random weights of a codec that has no encoder."""
    made = quants.codec(codec)
    random = np.random.default_rng(seed)
    blocks = random.integers(0, 256, (shape[0], shape[1] // made.block_size, made.block_bytes), dtype=np.uint8)
    for at, scale in SCALES[codec]:
        scales = scale * random.uniform(0.5, 1.5, blocks.shape[:2])
        blocks[..., at : at + 2] = scales.astype(np.float16)[..., None].view(np.uint8)
    return blocks.reshape(shape[0], -1)


def spec(*, vocab_size: int = VOCAB_SIZE) -> TokenizerSpec:
    """A byte-level BPE tokenizer: 256 bytes, a few merges, three control tokens, padding."""
    from apr.tokenizer.byte_alphabet import CHAR_OF_BYTE

    tokens = [CHAR_OF_BYTE[byte] for byte in range(256)]
    merges = [f"{a} {b}" for a, b in zip("ththeiannreonatese", "heeannreonateseson", strict=True)]
    merges = list(dict.fromkeys(merges))
    tokens += ["".join(merge.split()) for merge in merges]
    control = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    first_control = len(tokens)
    tokens += control
    n_used = len(tokens)
    tokens += [f"[PAD{i}]" for i in range(n_used, vocab_size)]
    types = [TokenType.NORMAL] * first_control + [TokenType.CONTROL] * 3 + [TokenType.UNUSED] * (vocab_size - n_used)
    return TokenizerSpec(
        kind="bpe",
        tokens=tokens,
        token_types=[int(t) for t in types],
        merges=merges,
        pre="gpt-2",
        eos_token_id=first_control + 2,
        pad_token_id=first_control,
        stop_token_ids=(first_control, first_control + 2),
        chat_template=CHATML,
    )


def write(
    folder: Path,
    file_format: str,
    made: ModelConfig | None = None,
    weights: dict[str, np.ndarray] | None = None,
    *,
    codec: str = "f32",
    tokenizer: TokenizerSpec | None = None,
) -> Path:
    """Write a model into `folder`; the path to open.

    tokenizer:  as long as the configuration's vocabulary; `spec` if there is none
    codec:  of the matrices. Those that gguf-py does not write (q4_k …) take random blocks in the place of `weights`;
            their rows are multiples of 256, as `config(**BLOCKS_OF_256)` makes them
    """
    made = made or config()
    weights = weights or tensors(made)
    folder.mkdir(parents=True, exist_ok=True)
    writer = {"safetensors": _write_safetensors, "gguf": _write_gguf, "apr": _write_apr}[file_format]
    return writer(folder, made, weights, codec, tokenizer or spec(vocab_size=made.vocab_size))


def _write_safetensors(
    folder: Path, made: ModelConfig, weights: dict[str, np.ndarray], codec: str, tokenizer: TokenizerSpec
) -> Path:
    from safetensors.numpy import save_file

    dtype = {"f32": np.float32, "f16": np.float16}[codec]
    save_file(
        {name: np.ascontiguousarray(w.astype(dtype)) for name, w in weights.items()},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    documents: dict[str, Any] = {"config.json": config_to_hf(made, torch_dtype="float32") | ids, **to_hf(tokenizer)}
    documents["generation_config.json"] = {"eos_token_id": list(tokenizer.stop_token_ids)}
    for name, document in documents.items():
        (folder / name).write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    return folder


def _write_gguf(
    folder: Path, made: ModelConfig, weights: dict[str, np.ndarray], codec: str, tokenizer: TokenizerSpec
) -> Path:
    import gguf

    class Writer(gguf.GGUFWriter):  # type: ignore[misc]
        """gguf-py's, which takes long for the arrays of a tokenizer: they are packed once."""

        def _pack_val(self, val: Any, *args: Any, **kwargs: Any) -> bytes:
            pack = super()._pack_val
            if not isinstance(val, list):
                return bytes(pack(val, *args, **kwargs))
            key = (tuple(val), tuple(map(type, val)), args, tuple(kwargs.items()))
            if key not in _PACKED:
                _PACKED[key] = bytes(pack(val, *args, **kwargs))
            return _PACKED[key]

    path = folder / "model.gguf"
    architecture = models.for_model_type(made.model_type)
    keys = config_to_gguf(made) | to_gguf(tokenizer)
    writer = Writer(str(path), keys.pop("general.architecture"))
    for key, value in keys.items():
        _add_key(writer, key, value)
    for name, values in weights.items():
        stored = values + np.float32(architecture.Model.HF_NORM_OFFSET) if name.endswith("norm.weight") else values
        if architecture.Model.GGUF_PERMUTES_QK and name.endswith(
            ("q_proj.weight", "k_proj.weight", "q_proj.bias", "k_proj.bias")
        ):
            heads = made.num_attention_heads if "q_proj" in name else made.num_key_value_heads
            # llama.cpp, convert_hf_to_gguf.py: LlamaModel.permute
            stored = (
                stored.reshape(heads, 2, stored.shape[0] // heads // 2, *stored.shape[1:])
                .swapaxes(1, 2)
                .reshape(stored.shape)
            )
        gguf_name = gguf_name_of(name, architecture.Model)
        if stored.ndim == 1 or codec == "f32":
            writer.add_tensor(gguf_name, np.ascontiguousarray(stored, dtype=np.float32))
        elif codec in SCALES:
            blocks = random_blocks(codec, stored.shape, seed=len(writer.tensors[0]))
            writer.add_tensor(gguf_name, blocks, raw_dtype=gguf.GGMLQuantizationType[codec.upper()])
        else:
            kind = gguf.GGMLQuantizationType[codec.upper()]
            writer.add_tensor(
                gguf_name, gguf.quants.quantize(np.ascontiguousarray(stored, dtype=np.float32), kind), raw_dtype=kind
            )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def gguf_name_of(name: str, architecture: Any) -> str:
    """The GGUF name of a canonical tensor."""
    if name in GLOBAL_NAMES:
        return GLOBAL_NAMES[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{architecture.LAYER_NAMES[rest]}"


def _add_key(writer: Any, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, list(value))


def _write_apr(
    folder: Path, made: ModelConfig, weights: dict[str, np.ndarray], codec: str, tokenizer: TokenizerSpec
) -> Path:
    from apr.formats import apr
    from apr.formats._base import Outgoing

    path = folder / "model.apr"
    weights = dict(weights)
    if made.tie_word_embeddings:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    metadata = {"model_type": made.model_type, "license": None, "data_source": None, "data_license": None}
    metadata |= config_to_apr(made) | {"tied_embeddings": made.tie_word_embeddings} | to_apr(tokenizer)
    names = sorted(weights, key=str.encode)
    outgoing = Outgoing(
        metadata=metadata,
        tensors=tuple((name, codec if weights[name].ndim > 1 else "f32", weights[name].shape) for name in names),
        data=lambda name: quants.codec(codec if weights[name].ndim > 1 else "f32").encode(weights[name]),
    )
    apr.write(path, outgoing)
    return path
