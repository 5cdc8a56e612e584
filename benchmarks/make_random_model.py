"""Write a GGUF file of random F16 weights in the shape of Qwen2.5 1.5B, eight of its 28 layers: a source for `make_q4_k`.

Its rows are multiples of 256, as Q4_K needs and those of the two real models are not. How fast a kernel is does not
depend on the values. The tokenizer is another Qwen2 file's.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from apr import hub

TOKENIZER_OF = "qwen2.5-coder:0.5b"
HIDDEN, INNER, HEADS, KV_HEADS, HEAD_DIM, VOCAB = 1536, 8960, 12, 2, 128, 151936
LAYERS = 8
STD = 0.02  # Qwen2's initializer_range


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("destination", type=Path)
    given = parser.parse_args()

    import gguf

    part = given.destination.with_suffix(".part")
    writer = gguf.GGUFWriter(part, "qwen2")
    writer.add_name("random weights in the shape of Qwen2.5 1.5B")
    writer.add_block_count(LAYERS)
    writer.add_context_length(32768)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(1e6)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    for field in gguf.GGUFReader(hub.resolve(TOKENIZER_OF)).fields.values():
        if field.name.startswith("tokenizer."):
            kind = field.types[0]
            inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), kind, sub_type=inner)
    generator = np.random.default_rng(20)
    for name, shape in shapes().items():
        writer.add_tensor(name, random_tensor(generator, name, shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.replace(given.destination)


def shapes() -> dict[str, tuple[int, ...]]:
    """GGUF name -> row-major shape."""
    layer = {
        "attn_norm.weight": (HIDDEN,),
        "attn_q.weight": (HEADS * HEAD_DIM, HIDDEN),
        "attn_q.bias": (HEADS * HEAD_DIM,),
        "attn_k.weight": (KV_HEADS * HEAD_DIM, HIDDEN),
        "attn_k.bias": (KV_HEADS * HEAD_DIM,),
        "attn_v.weight": (KV_HEADS * HEAD_DIM, HIDDEN),
        "attn_v.bias": (KV_HEADS * HEAD_DIM,),
        "attn_output.weight": (HIDDEN, HEADS * HEAD_DIM),
        "ffn_norm.weight": (HIDDEN,),
        "ffn_gate.weight": (INNER, HIDDEN),
        "ffn_up.weight": (INNER, HIDDEN),
        "ffn_down.weight": (HIDDEN, INNER),
    }
    blocks = {f"blk.{i}.{name}": shape for i in range(LAYERS) for name, shape in layer.items()}
    return {"token_embd.weight": (VOCAB, HIDDEN), **blocks, "output_norm.weight": (HIDDEN,)}


def random_tensor(generator: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Norms of one, float32; biases small, float32; matrices float16."""
    if "norm" in name:
        return np.ones(shape, dtype=np.float32)
    values = generator.standard_normal(shape, dtype=np.float32) * np.float32(STD)
    return values if len(shape) == 1 else values.astype(np.float16)


if __name__ == "__main__":
    main()
