"""Defects of quantised tensors: a quantiser or a packer that is wrong, in all blocks or in one; and those of the real files.

The healthy files are gguf-py's. Blocks are taken apart by their byte layout (ggml, ggml-common.h).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mutants._patient import Patient
from mutants._patient_gguf import GgufPatient
from mutants.mutant import Edit, Mutant, planted, surgery

_L0, _L1 = "model.layers.0.", "model.layers.1."
_DOWN, _UP, _O, _V = (f"{m}_proj.weight" for m in ("mlp.down", "mlp.up", "self_attn.o", "self_attn.v"))
# bytes of a block, and where its float16 scales (and minimums) stand, by GGML type
LAYOUT = {
    2: (18, (0,)),  # Q4_0
    3: (20, (0, 2)),  # Q4_1
    6: (22, (0,)),  # Q5_0
    7: (24, (0, 2)),  # Q5_1
    8: (34, (0,)),  # Q8_0
    12: (144, (0, 2)),  # Q4_K
    13: (176, (0, 2)),  # Q5_K
    14: (210, (208,)),  # Q6_K
}
_SCALE = "one wrong block scale is a fault of the quantised form, and scales a part of the tensor"
_NOISE = "a block of noise is a fault of the quantised form that nothing explains"

Blocks = Callable[[np.ndarray, int], None]


def mutants() -> list[Mutant]:
    """Those of the twins: every codec that gguf-py writes."""
    return [
        *_in("weights.quants_one_too_high", "llama/gguf", "q8_0", _L1 + _DOWN, _add_to_bytes, "weights.quantization"),
        *_in("weights.truncated_not_rounded", "qwen2/gguf llama/gguf", "q8_0", _L1 + _UP, _truncate_q8, "weights.quantization"),
        *_in("weights.nibbles_swapped", "llama/gguf", "q4_0", _L1 + _DOWN, _swap_nibbles(2), "weights.quantization weights.permuted", reason="swapped nibbles exchange the columns of each block"),
        *_in("weights.nibbles_swapped", "qwen2/gguf", "q4_1", _L0 + _UP, _swap_nibbles(4), "weights.quantization weights.permuted", reason="swapped nibbles exchange the columns of each block"),
        *_in("weights.fifth_bit_lost", "llama/gguf", "q5_1", _L1 + _O, _clear(slice(4, 8)), "weights.quantization"),
        *_in("weights.fifth_bit_lost", "qwen3/gguf", "q5_0", _L1 + _O, _clear(slice(2, 6)), "weights.quantization"),
        *_in("weights.corrupt_block", "llama/gguf qwen2/gguf", "q8_0", _L1 + _DOWN, _noise_in_block, "weights.quantization weights.unexplained", reason=_NOISE),
        *_in("weights.corrupt_block", "mistral/gguf", "q4_0", _L0 + _V, _noise_in_block, "weights.quantization weights.unexplained", reason=_NOISE),
        *_in("weights.block_scale_halved", "llama/gguf", "q8_0", _L1 + _UP, _scale_one(0.5), "weights.quantization weights.scaled", reason=_SCALE),
        *_in("weights.block_scale_halved", "qwen2/gguf", "q4_1", _L1 + _UP, _scale_one(0.5), "weights.quantization weights.scaled", reason=_SCALE),
        *_in("weights.block_scale_negated", "gemma3_text/gguf", "q8_0", _L0 + _O, _scale_one(-1.0), "weights.quantization weights.scaled", reason=_SCALE),
        *_in("weights.minimum_lost", "qwen2/gguf", "q4_1", _L1 + _DOWN, _clear(slice(2, 4)), "weights.quantization weights.offset", reason="a lost minimum shifts every value of a block"),
        *_in("weights.blocks_shifted", "llama/gguf", "q5_0", _L1 + _O, _roll_blocks, "weights.quantization weights.permuted", reason="blocks one place on are columns one block on"),
        *_in("weights.quantised_scaled", "llama/gguf qwen2/gguf", "q8_0", _L1 + _O, _scale_all(2.0), "weights.scaled"),
        *_in("weights.quantised_zeroed", "qwen2/gguf", "q4_0", _L1 + _O, _clear(slice(0, 2)), "weights.zeroed"),
        *_in("weights.quantised_nan_scale", "llama/gguf", "q8_0", _L0 + _UP, _nan_scale, "weights.nonfinite"),
        *_in("weights.quantised_rows_permuted", "qwen3/gguf", "q8_0", _L1 + _UP, _permute_rows, "weights.permuted"),
        *planted("weights.quantised_transposed", "llama/gguf qwen2/gguf", surgery(_turned_and_rounded(_L1 + _O)), "weights.transposed", where={"tensor": _L1 + _O}, links="weights"),
        *planted("weights.transposed_and_requantised", "llama/gguf", surgery(_transpose(_L1 + _O)), "weights.transposed", where={"tensor": _L1 + _O}, links="weights", codec="q8_0"),
        *planted("weights.quantised_swapped", "llama/gguf", surgery(_swap(_L0 + "mlp.gate_proj.weight", _L0 + _UP)), "weights.swapped", where={"tensor": frozenset({_L0 + "mlp.gate_proj.weight", _L0 + _UP})}, links="weights", codec="q4_0"),
        *planted("weights.scales_clipped", "llama/gguf", surgery(_clipping(_L1 + _DOWN)), "weights.quantization", where={"tensor": _L1 + _DOWN}, links="weights", codec="q8_0"),
        *_in("weights.bf16_read_as_f16", "llama/gguf", "bf16", _L1 + _UP, None, "weights.quantization weights.unexplained weights.scaled weights.nonfinite", edit=_relabel(_L1 + _UP, 1),
             reason="bits of another type are noise that is large, small or not a number"),
        *planted("weights.truncated_everywhere", "llama/gguf", surgery(_truncated_everywhere), "weights.quantization", links="weights", codec="q8_0"),
    ]  # fmt: skip


def real() -> list[Mutant]:
    """Those of the real models, where every matrix is quantised."""
    smol, qwen = "smollm2/gguf", "qwen2.5-coder:0.5b/gguf"
    late = "model.layers.11."
    return [
        *_in("weights.scaled", f"{smol} {qwen}", "", late + _UP, _scale_all(2.0), "weights.scaled"),
        *_in("weights.zeroed", smol, "", late + _O, _clear_all, "weights.zeroed"),
        *_in("weights.rows_permuted", f"{smol} {qwen}", "", late + _UP, _permute_rows, "weights.permuted"),
        *_in("weights.corrupt_block", f"{smol} {qwen}", "", late + _DOWN, _noise_in_block, "weights.quantization weights.unexplained", reason=_NOISE),
        *_in("weights.block_scale_halved", smol, "", late + _UP, _scale_one(0.5), "weights.quantization weights.scaled", reason=_SCALE),
        *_in("weights.nibbles_swapped", smol, "", late + _DOWN, _swap_nibbles(4), "weights.quantization weights.permuted", reason="swapped nibbles exchange the columns of each block"),
        *planted("weights.transposed", smol, surgery(_transpose(late + "self_attn.q_proj.weight")), "weights.transposed", where={"tensor": late + "self_attn.q_proj.weight"}, links="weights"),
        *planted("weights.layers_swapped", smol, surgery(_swap_layers(4, 5)), "weights.swapped", where={"layer": frozenset({4, 5})}, links="weights"),
        *planted("weights.gate_and_up_swapped", qwen, surgery(_swap(late + "mlp.gate_proj.weight", late + _UP)), "weights.swapped", where={"tensor": frozenset({late + "mlp.gate_proj.weight", late + _UP})}, links="weights"),
        *planted("weights.norm_plus_one", f"{smol} {qwen}", surgery(_plus_one(late + "input_layernorm.weight")), "weights.offset", where={"tensor": late + "input_layernorm.weight"}, links="weights"),
        *planted("weights.bias_missing", qwen, surgery(_remove(late + "self_attn.q_proj.bias")), "weights.bias_missing", where={"tensor": late + "self_attn.q_proj.bias"}, links="weights"),
        *planted("weights.qk_not_permuted", smol, surgery(_undo_permutation(9, 3)), "weights.permuted", links="weights"),
    ]  # fmt: skip


def _in(
    name: str,
    sites: str,
    codec: str,
    tensor: str,
    blocks: Blocks | None,
    causes: str,
    *,
    reason: str = "",
    edit: Edit | None = None,
) -> list[Mutant]:
    """Change the blocks of one tensor. blocks: is given uint8 [rows, n, bytes of a block], to change in place, and the GGML type."""

    def change(patient: Patient) -> None:
        part = patient.part(tensor)
        size = LAYOUT[part.kind][0]
        rows = patient.rows(tensor).reshape(part.shape[0], -1, size)
        assert blocks is not None
        blocks(rows, part.kind)
        patient.put_rows(tensor, rows)

    return planted(
        name,
        sites,
        surgery(edit or change),
        causes,
        where={"tensor": tensor},
        links="weights",
        reason=reason,
        codec=codec or "f32",
    )


def _add_to_bytes(blocks: np.ndarray, kind: int) -> None:
    assert kind == 8
    quants = blocks[..., 2:].view(np.int8)
    np.copyto(quants, np.minimum(quants.astype(np.int16) + 1, 127).astype(np.int8))


def _truncate_q8(blocks: np.ndarray, kind: int) -> None:
    """Toward zero: where the rounding went up, the value is now a whole step off. Every other value stands for those."""
    assert kind == 8
    quants = blocks[..., 2:].view(np.int8)
    quants[..., ::2] -= np.sign(quants[..., ::2])


def _swap_nibbles(first: int) -> Blocks:
    def change(blocks: np.ndarray, kind: int) -> None:
        del kind
        nibbles = blocks[..., first : first + 16]
        blocks[..., first : first + 16] = (nibbles >> 4) | (nibbles << 4)

    return change


def _clear(where: slice) -> Blocks:
    def change(blocks: np.ndarray, kind: int) -> None:
        del kind
        blocks[..., where] = 0

    return change


def _clear_all(blocks: np.ndarray, kind: int) -> None:
    del kind
    blocks[:] = 0


def _noise_in_block(blocks: np.ndarray, kind: int) -> None:
    """One block in the middle: its quants are drawn anew, its scales stay."""
    scales = LAYOUT[kind][1]
    block = blocks[blocks.shape[0] // 2, blocks.shape[1] // 2]
    drawn = np.random.default_rng(11).integers(0, 256, block.shape, dtype=np.uint8)
    for at in scales:
        drawn[at : at + 2] = block[at : at + 2]
    block[:] = drawn


def _scale_one(factor: float) -> Blocks:
    def change(blocks: np.ndarray, kind: int) -> None:
        _multiply(blocks[blocks.shape[0] // 2, blocks.shape[1] // 2][None], kind, factor)

    return change


def _scale_all(factor: float) -> Blocks:
    return lambda blocks, kind: _multiply(blocks.reshape(-1, blocks.shape[-1]), kind, factor)


def _multiply(blocks: np.ndarray, kind: int, factor: float) -> None:
    for at in LAYOUT[kind][1]:
        scales = np.ascontiguousarray(blocks[:, at : at + 2]).view(np.float16).astype(np.float32) * factor
        blocks[:, at : at + 2] = scales.astype(np.float16).view(np.uint8).reshape(-1, 2)


def _nan_scale(blocks: np.ndarray, kind: int) -> None:
    at = LAYOUT[kind][1][0]
    blocks[3, 0, at : at + 2] = np.array([np.nan], dtype=np.float16).view(np.uint8)


def _roll_blocks(blocks: np.ndarray, kind: int) -> None:
    del kind
    blocks[:] = np.roll(blocks, 1, axis=1)


def _permute_rows(blocks: np.ndarray, kind: int) -> None:
    del kind
    blocks[:] = blocks[np.random.default_rng(3).permutation(len(blocks))]


def _transpose(tensor: str) -> Edit:
    return lambda patient: patient.change(tensor, lambda w: w.T)


def _turned_and_rounded(tensor: str) -> Edit:
    """The matrix is transposed, and what comes of it is rounded to Q8_0."""

    def edit(patient: Patient) -> None:
        import gguf

        part = patient.part(tensor)
        turned = np.ascontiguousarray(patient.array(tensor).T)
        part.kind = 8
        part.data = gguf.quants.quantize(turned, gguf.GGMLQuantizationType.Q8_0).reshape(-1)

    return edit


def _swap(first: str, second: str) -> Edit:
    return lambda patient: patient.swap(first, second)


def _plus_one(tensor: str) -> Edit:
    return lambda patient: patient.change(tensor, lambda w: w + 1.0)


def _remove(tensor: str) -> Edit:
    return lambda patient: patient.remove(tensor)


def _swap_layers(first: int, second: int) -> Edit:
    def edit(patient: Patient) -> None:
        prefix = f"model.layers.{first}."
        for name in patient.names():
            if name.startswith(prefix):
                patient.swap(name, f"model.layers.{second}." + name.removeprefix(prefix))

    return edit


def _undo_permutation(n_heads: int, n_kv_heads: int) -> Edit:
    """Rows of q and k as Hugging Face has them, in a file whose readers expect them interleaved."""

    def edit(patient: Patient) -> dict[str, frozenset[str]]:
        names = [n for n in patient.names() if n.endswith(("q_proj.weight", "k_proj.weight"))]
        for name in names:
            rows = patient.rows(name)
            heads = n_heads if "q_proj" in name else n_kv_heads
            patient.put_rows(name, rows.reshape(heads, -1, 2, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape))
        return {"tensor": frozenset(names)}

    return edit


def _relabel(tensor: str, kind: int) -> Edit:
    def edit(patient: Patient) -> None:
        assert isinstance(patient, GgufPatient)
        patient.part(tensor).kind = kind

    return edit


def _clipping(tensor: str) -> Edit:
    """Scales from the mean size of a block's values, so that its outliers are cut off."""

    def edit(patient: Patient) -> None:
        values = patient.array(tensor)
        blocks = values.reshape(-1, 32)
        step = (np.abs(blocks).mean(axis=1, keepdims=True) * 1.5 / 127).astype(np.float16).astype(np.float32)
        quants = np.clip(np.round(blocks / step), -127, 127).astype(np.int8)
        packed = np.concatenate([step.astype(np.float16).view(np.uint8), quants.view(np.uint8)], axis=1)
        patient.put_rows(tensor, packed.reshape(values.shape[0], -1))

    return edit


def _truncated_everywhere(patient: Patient) -> None:
    """A quantiser that rounds toward zero, in every matrix of the file."""
    for name in patient.names():
        part = patient.part(name)
        if part.kind == 8:
            rows = patient.rows(name).reshape(part.shape[0], -1, 34)
            _truncate_q8(rows, 8)
            patient.put_rows(name, rows)
