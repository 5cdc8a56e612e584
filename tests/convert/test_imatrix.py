"""What is collected is what transformers multiplies each matrix with: sums of squares of the inputs, by hooks of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import apr
import tiny
from apr.convert import _imatrix_file, imatrix
from apr.errors import UsageError

CHUNK = 16
IDS = np.random.default_rng(3).integers(0, 250, 3 * CHUNK + 5)
NAMES = {
    "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output", "gate_proj": "ffn_gate",
    "up_proj": "ffn_up", "down_proj": "ffn_down", "qkv_proj": "attn_qkv", "gate_up_proj": "ffn_up",
}  # fmt: skip


def by_transformers(folder: Path) -> dict[str, np.ndarray]:
    """Sums of squares of every linear module's input, by GGUF name."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    sums: dict[str, np.ndarray] = {}

    def hook(name: str) -> object:
        def look(module: object, inputs: tuple[torch.Tensor, ...], output: object) -> None:
            squares = inputs[0].detach().double().pow(2).reshape(-1, inputs[0].shape[-1]).sum(0).numpy()
            sums[name] = sums.get(name, 0) + squares

        return look

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            parts = name.split(".")
            gguf = "output.weight" if name == "lm_head" else f"blk.{parts[2]}.{NAMES[parts[-1]]}.weight"
            module.register_forward_hook(hook(gguf))
    with torch.no_grad():
        for i in range(len(IDS) // CHUNK):
            model(torch.tensor(IDS[None, i * CHUNK : (i + 1) * CHUNK]))
    return sums


@pytest.mark.parametrize("model_type", tiny.MODEL_TYPES)
def test_the_inputs_are_those_of_transformers(model_type: str, tmp_path: Path) -> None:
    folder = tiny.write(tmp_path, "safetensors", tiny.config(model_type))
    with apr.load(str(folder), activations="float32") as model:
        found, n_tokens = imatrix.collect(model, IDS, chunk_size=CHUNK)
        tied = model.checkpoint.config.tie_word_embeddings
    expected = by_transformers(folder)
    if tied:
        expected.pop("output.weight", None)  # the embedding, which llama.cpp collects nothing for either
    assert set(found) == set(expected) and n_tokens == 3 * CHUNK
    for name, sums in expected.items():
        np.testing.assert_allclose(found[name], sums, rtol=2e-4, atol=1e-5, err_msg=name)


def test_the_file_is_written_and_says_what_was_read(tmp_path: Path) -> None:
    path = tiny.write(tmp_path, "gguf")
    text = tmp_path / "text.txt"
    text.write_text("the rain in spain stays mainly in the plain " * 20, encoding="utf-8")
    with apr.load(str(path), activations="float32") as model:
        report = imatrix.imatrix(model, text, tmp_path / "m.gguf", name="m", chunk_size=32, limit=2)
        with pytest.raises(UsageError, match="give a longer text"):
            imatrix.imatrix(model, text, tmp_path / "n.gguf", name="m", chunk_size=4096)
    read = _imatrix_file.read(tmp_path / "m.gguf")
    assert (report.n_chunks, report.n_tokens, report.n_entries) == (2, 64, 15) and len(read.columns) == 15
    assert all((columns > 0).any() for columns in read.columns.values()) and not (tmp_path / "n.gguf").exists()
    assert read.datasets == ("text.txt",) and read.n_chunks == 2


def test_a_text_that_is_none_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_bytes(b"abc\xff")
    with pytest.raises(UsageError, match="byte 3 is not UTF-8"):
        imatrix._text(text)
    with pytest.raises(UsageError, match="give a text file"):
        imatrix._text(tmp_path / "gone.txt")
