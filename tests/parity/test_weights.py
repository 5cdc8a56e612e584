"""The weights link: each planted defect is named with its place; honest copies raise no alarm."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import ggml_oracle
import tiny
from apr.formats import open_model
from apr.models._checkpoint import Checkpoint
from apr.models._config import ModelConfig
from apr.parity import weights
from apr.parity._link import Finding
from apr.parity._pair import Pair
from parity.weight_defects import DEFECTS, EMBEDDING, HEAD, NORM1, O1, Q0, UP1, Defect, Weights, interleaved
from parity.weight_subjects import compared, subject

# (format, codec of the matrices): plain in all three, and behind a quantisation
WRITTEN = (("safetensors", "f16"), ("gguf", "q4_0"), ("apr", "f32"))
COPIES = (*WRITTEN, ("gguf", "f32"), ("gguf", "q8_0"), ("gguf", "q5_1"), ("safetensors", "f32"))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("reference"), "safetensors")


@pytest.mark.parametrize("written", WRITTEN, ids=" ".join)
@pytest.mark.parametrize("defect", DEFECTS, ids=str)
def test_a_planted_defect_is_named_with_its_place(
    defect: Defect, written: tuple[str, str], reference: Path, tmp_path: Path
) -> None:
    planted = tiny.tensors(tiny.config())
    defect.plant(planted)
    made = tiny.write(tmp_path, written[0], weights=planted, codec=written[1])
    result = compared(reference, made)
    assert result.verdict == "different" and not result.is_benign
    found = result.findings[0]
    assert (found.cause, found.where["tensor"]) == (defect.cause, defect.tensor), found.sentence
    assert {key: found.where.get(key) for key in defect.where} == defect.where
    assert len([f for f in result.findings if not f.is_benign]) == 1, [f.sentence for f in result.findings]


@pytest.mark.parametrize("written", COPIES, ids=" ".join)
@pytest.mark.parametrize("model_type", tiny.MODEL_TYPES)
def test_honest_copies_raise_no_alarm(model_type: str, written: tuple[str, str], tmp_path: Path) -> None:
    config = tiny.config(model_type)
    first = tiny.write(tmp_path / "first", "safetensors", config)
    second = tiny.write(tmp_path / "second", written[0], config, codec=written[1])
    result = compared(first, second)
    assert result.is_benign, result.sentence
    assert result.verdict == ("same" if written[1] == "f32" else "different")
    expected = {"f32": [], "f16": ["drift.precision"]}.get(written[1], ["drift.quantization"])
    assert [f.cause for f in result.findings] == expected


@pytest.mark.parametrize("codec", ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "f16", "bf16"])
def test_two_encodings_of_one_original_raise_no_alarm(codec: str, tmp_path: Path) -> None:
    first = tiny.write(tmp_path / "first", "gguf", codec="q5_1")
    second = tiny.write(tmp_path / "second", "gguf", codec=codec)
    result = compared(first, second)
    assert result.is_benign, result.sentence
    assert result.verdict == ("same" if codec == "q5_1" else "different")


@pytest.mark.parity
@pytest.mark.parametrize("codec", ["q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "q4_0", "q5_1"])
@pytest.mark.parametrize("spread", [0.0, 2.0])
def test_weighted_quantisation_by_ggml_raises_no_alarm(codec: str, spread: float, tmp_path: Path) -> None:
    config = tiny.config(**tiny.BLOCKS_OF_256)
    first = tiny.write(tmp_path / "first", "safetensors", config)
    made = written_by_ggml(tmp_path / "second", config, codec, spread=spread)
    result = compared(first, made)
    assert [f.cause for f in result.findings] == ["drift.quantization"], result.sentence


@pytest.mark.parity
@pytest.mark.parametrize("codec", ["q4_k", "q3_k"])
@pytest.mark.parametrize("defect", [defect for defect in DEFECTS if defect.fits_any_size], ids=str)
def test_a_defect_is_found_behind_a_k_quant(codec: str, defect: Defect, tmp_path: Path) -> None:
    config = tiny.config(hidden_size=256, intermediate_size=512, head_dim=64)
    planted = tiny.tensors(config)
    defect.plant(planted)
    first = tiny.write(tmp_path / "first", "safetensors", config)
    made = written_by_ggml(tmp_path / "second", config, codec, spread=1.0, planted=planted)
    found = compared(first, made).findings[0]
    assert (found.cause, found.where["tensor"]) == (defect.cause, defect.tensor), found.sentence


def written_by_ggml(
    folder: Path, config: ModelConfig, codec: str, *, spread: float = 0.0, planted: Weights | None = None
) -> Path:
    """A GGUF file whose matrices ggml quantised, weighted by log-normal importance of this spread."""
    random = np.random.default_rng(0)

    def quantise(values: np.ndarray, kind: gguf.GGMLQuantizationType) -> np.ndarray:
        importance = np.exp(spread * random.standard_normal(values.shape[1])).astype(np.float32) if spread else None
        return ggml_oracle.quantise(kind.name.lower(), values, importance).reshape(values.shape[0], -1)

    with pytest.MonkeyPatch.context() as patch:
        if codec in ggml_oracle.CODECS:
            patch.setattr(gguf.quants, "quantize", quantise)
            patch.setattr(tiny, "SCALES", {})
        return tiny.write(folder, "gguf", config, planted, codec=codec)


def finding(reference: Path, candidate: Path) -> Finding:
    """The one finding that is no drift."""
    (found,) = [f for f in compared(reference, candidate).findings if not f.is_benign]
    return found


def written(
    folder: Path, change: Callable[[Weights], None], model_type: str = "llama", **options: Any
) -> tuple[Path, Path]:
    """A model as it is, in safetensors, and with its tensors changed."""
    config = tiny.config(model_type, **options.pop("config", {}))
    planted = tiny.tensors(config)
    change(planted)
    first = tiny.write(folder / "first", "safetensors", config)
    return first, tiny.write(folder / "second", options.pop("to", "safetensors"), config, planted, **options)


def biases(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.endswith(".bias")]


@pytest.mark.parametrize("to", ["gguf", "apr", "safetensors"])
def test_all_missing_biases_are_one_finding(to: str, tmp_path: Path) -> None:
    def plant(weights: Weights) -> None:
        for name in biases(weights):
            del weights[name]

    first, second = written(tmp_path, plant, "qwen2", to=to)
    found = finding(first, second)
    assert (found.cause, found.where["layer"]) == ("weights.bias_missing", 0)
    assert len(found.where["tensors"]) == 6


def test_biases_of_a_llama_are_missed_although_the_file_does_not_ask_for_them(tmp_path: Path) -> None:
    config = tiny.config(attention_bias=True)
    first = tiny.write(tmp_path / "first", "safetensors", config)
    without = {name: w for name, w in tiny.tensors(config).items() if not name.endswith(".bias")}
    second = tiny.write(tmp_path / "second", "gguf", tiny.config(), without)
    assert finding(first, second).cause == "weights.bias_missing"
    forced = weights.force(Pair(subject(first), subject(second)), compared(first, second).findings)
    assert weights.compare(Pair(subject(first), forced)).verdict == "same"
    forced.checkpoint.weights(threads=1)


def test_biases_of_zeros_in_the_place_of_others_count_as_missing(tmp_path: Path) -> None:
    def plant(weights: Weights) -> None:
        for name in biases(weights):
            weights[name] = np.zeros_like(weights[name])

    assert finding(*written(tmp_path, plant, "qwen2", to="gguf")).cause == "weights.bias_missing"


def test_a_missing_and_an_extra_tensor_are_named(tmp_path: Path) -> None:
    def plant(weights: Weights) -> None:
        weights["model.layers.2.mlp.up_proj.weight"] = weights.pop(UP1)

    first, second = written(tmp_path, plant)
    found = compared(first, second).findings
    assert [(f.cause, f.where["tensor"]) for f in found] == [
        ("weights.missing", UP1),
        ("weights.extra", "model.layers.2.mlp.up_proj.weight"),
    ]


def test_an_overflow_of_f16_is_named_with_its_value(tmp_path: Path) -> None:
    config = tiny.config()
    large = tiny.tensors(config)
    large[UP1][7, 11] = 1e5
    first = tiny.write(tmp_path / "first", "safetensors", config, large)
    with np.errstate(over="ignore"):
        second = tiny.write(tmp_path / "second", "safetensors", config, large, codec="f16")
    found = finding(first, second)
    assert (found.cause, found.where["row"], found.where["column"]) == ("weights.nonfinite", 7, 11)
    assert "65504" in found.sentence or "largest number of f16" in found.sentence


@pytest.mark.parametrize("model_type, name, change", [
    ("phi3", "model.layers.0.mlp.gate_up_proj.weight", lambda w: np.roll(w, w.shape[0] // 2, axis=0)),
    ("phi3", "model.layers.0.self_attn.qkv_proj.weight", lambda w: w.reshape(8, 16, -1)[[0, 1, 4, 6, 2, 3, 5, 7]].reshape(w.shape)),
])  # fmt: skip
def test_parts_of_fused_tensors_that_changed_places_are_seen(
    model_type: str, name: str, change: Callable[[np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    def plant(weights: Weights) -> None:
        weights[name] = np.ascontiguousarray(change(weights[name]))

    found = finding(*written(tmp_path, plant, model_type, to="gguf", codec="q5_1"))
    assert (found.cause, found.where["order"]) == ("weights.permuted", "halves" if "gate_up" in name else "heads")


def test_a_matrix_turned_with_its_shape_is_transposed(tmp_path: Path) -> None:
    def plant(weights: Weights) -> None:
        weights[UP1] = np.ascontiguousarray(weights[UP1].T)

    found = finding(*written(tmp_path, plant, codec="f16"))
    assert (found.cause, found.where["order"]) == ("weights.transposed", "transposed")


def test_a_shape_in_the_other_order_over_the_same_values_is_transposed(tmp_path: Path) -> None:
    def plant(weights: Weights) -> None:
        weights[UP1] = weights[UP1].reshape(weights[UP1].shape[::-1])

    found = finding(*written(tmp_path, plant))
    assert (found.cause, found.where["order"]) == ("weights.transposed", "shape")


def test_a_bias_whose_halves_are_interleaved_is_permuted(tmp_path: Path) -> None:
    name = "model.layers.1.self_attn.q_proj.bias"

    def plant(weights: Weights) -> None:
        weights[name] = interleaved(weights[name], 4)

    found = finding(*written(tmp_path, plant, "qwen2", to="gguf"))
    assert (found.cause, found.where["tensor"], found.where["order"]) == ("weights.permuted", name, "interleaved")


# heads that are tied or not


def test_a_copy_of_a_tied_embedding_is_the_same(tmp_path: Path) -> None:
    config = tiny.config(tie_word_embeddings=True)
    for first, second in (("safetensors", "apr"), ("apr", "gguf")):
        a = tiny.write(tmp_path / f"{first} a", first, config)
        assert compared(a, tiny.write(tmp_path / f"{second} b", second, config)).verdict == "same"


def test_an_untied_head_that_is_the_embedding_is_the_same_as_a_tied_one(tmp_path: Path) -> None:
    tied, untied = tiny.config(tie_word_embeddings=True), tiny.config()
    values = tiny.tensors(tied)
    a = tiny.write(tmp_path / "a", "safetensors", tied, values)
    b = tiny.write(tmp_path / "b", "gguf", untied, values | {HEAD: values[EMBEDDING]})
    assert compared(a, b).verdict == "same"
    assert compared(b, a).verdict == "same"


@pytest.mark.parametrize("to", ["safetensors", "gguf", "apr"])
def test_a_head_that_is_not_the_embedding_it_should_be_is_a_broken_tie(to: str, tmp_path: Path) -> None:
    first = tiny.write(tmp_path / "a", "safetensors", tiny.config(tie_word_embeddings=True))
    second = tiny.write(tmp_path / "b", to, tiny.config())
    found = finding(first, second)
    assert (found.cause, found.where["tensor"]) == ("weights.tied", HEAD)
    forced = weights.force(Pair(subject(first), subject(second)), [found])
    assert forced.config.tie_word_embeddings
    assert weights.compare(Pair(subject(first), forced)).is_benign


@pytest.mark.parametrize("to", ["safetensors", "gguf", "apr"])
def test_a_tie_that_the_reference_does_not_have_is_a_broken_tie(to: str, tmp_path: Path) -> None:
    config = tiny.config()
    values = tiny.tensors(config)
    first = tiny.write(tmp_path / "a", "safetensors", config, values)
    tied = {name: w for name, w in values.items() if name != HEAD}
    second = tiny.write(tmp_path / "b", to, tiny.config(tie_word_embeddings=True), tied)
    found = finding(first, second)
    assert (found.cause, found.where["tensor"]) == ("weights.tied", HEAD)
    forced = weights.force(Pair(subject(first), subject(second)), [found])
    assert not forced.config.tie_word_embeddings
    assert weights.compare(Pair(subject(first), forced)).verdict == "same"


def test_padding_behind_the_vocabulary_is_left_out(tmp_path: Path) -> None:
    config = tiny.config()
    values = tiny.tensors(config)
    first = tiny.write(tmp_path / "a", "safetensors", config, values)
    padded = values | {name: np.pad(values[name], ((0, 64), (0, 0))) for name in (EMBEDDING, HEAD)}
    second = tiny.write(tmp_path / "b", "gguf", tiny.config(vocab_size=384), padded)
    assert compared(first, second).verdict == "same"
    assert compared(second, first).verdict == "same"
    real = values | {name: np.concatenate([values[name], values[name][:64]]) for name in (EMBEDDING, HEAD)}
    third = tiny.write(tmp_path / "c", "gguf", tiny.config(vocab_size=384), real)
    assert not compared(first, third).is_benign


# blocks


def rewritten(path: Path, tensor: str, change: Callable[[np.ndarray], None]) -> Path:
    """A GGUF file with the bytes of one tensor changed in place."""
    with open_model(path) as file:
        info = file.tensors[tensor]
    raw = np.fromfile(path, dtype=np.uint8)
    change(raw[info.offset : info.offset + info.n_bytes].reshape(info.shape[0], -1))
    raw.tofile(path)
    return path


def _swap_nibbles(rows: np.ndarray) -> None:
    blocks = rows.reshape(-1, 18)
    blocks[:, 2:] = (blocks[:, 2:] >> 4) | (blocks[:, 2:] << 4)


def _one_block_of_noise(rows: np.ndarray) -> None:
    rows.reshape(-1, 18)[21, 2:] = np.random.default_rng(0).integers(0, 256, 16)


def _one_scale_doubled(rows: np.ndarray) -> None:
    scale = rows.reshape(-1, 18)[21, :2].view("<f2")
    scale *= np.float16(2)


def _one_scale_zeroed(rows: np.ndarray) -> None:
    rows.reshape(-1, 18)[21, :2] = 0


def _one_too_many(rows: np.ndarray) -> None:
    quants = rows.reshape(-1, 18)[:, 2:]
    low, high = quants & 0x0F, quants >> 4
    quants[:] = np.minimum(low + 1, 15) | (np.minimum(high + 1, 15) << 4)


@pytest.mark.parametrize(
    "damage, block",
    [
        (_swap_nibbles, None),
        (_one_block_of_noise, 21),
        (_one_scale_doubled, 21),
        (_one_scale_zeroed, 21),
        (_one_too_many, None),
    ],
)
def test_faults_of_a_quantiser_and_damaged_blocks_are_found(
    damage: Callable[[np.ndarray], None], block: int | None, reference: Path, tmp_path: Path
) -> None:
    path = rewritten(tiny.write(tmp_path, "gguf", codec="q4_0"), "blk.1.ffn_up.weight", damage)
    found = finding(reference, path)
    assert (found.cause, found.where["tensor"]) == ("weights.quantization", UP1)
    assert block is None or (found.where["block"], found.where["n_blocks"]) == (block, 1)


def test_numbers_cut_off_in_place_of_rounded_are_found(reference: Path, tmp_path: Path) -> None:
    planted = tiny.tensors(tiny.config())
    planted[UP1] = (planted[UP1].view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)
    found = finding(reference, tiny.write(tmp_path, "safetensors", weights=planted, codec="f16"))
    assert (found.cause, found.where["tensor"]) == ("weights.quantization", UP1)
    assert "towards zero" in found.sentence


def test_a_requantised_file_is_held_to_its_own_rounding(tmp_path: Path) -> None:
    """Half a step of the reference explains nothing once the candidate is seen to be made from it."""
    first = tiny.write(tmp_path / "first", "gguf", codec="q4_0")
    with open_model(first) as file:
        decoded = {name: Checkpoint(file).array(name).copy() for name in Checkpoint(file).tensors}
    again = tiny.write(tmp_path / "again", "gguf", weights=decoded, codec="f16")
    assert compared(first, again).is_benign
    decoded[UP1][3] *= np.float32(1.02)
    found = finding(first, tiny.write(tmp_path / "planted", "gguf", weights=decoded, codec="f16"))
    assert (found.cause, found.where["tensor"]) == ("weights.scaled", UP1)


# the link itself


def test_wrong_metadata_does_not_make_the_weights_look_wrong(reference: Path, tmp_path: Path) -> None:
    second = subject(tiny.write(tmp_path, "gguf"))
    lied = second.with_config(
        dataclasses.replace(second.config, num_attention_heads=8, head_dim=8, num_key_value_heads=4)
    )
    assert weights.compare(Pair(subject(reference), lied)).verdict == "same"


def test_what_is_forced_compares_as_the_same(reference: Path, tmp_path: Path) -> None:
    planted = tiny.tensors(tiny.config())
    for defect in DEFECTS:
        if defect.name in ("heads interleaved", "norm less one", "scaled by 2", "other weights"):
            defect.plant(planted)
    pair = Pair(subject(reference), subject(tiny.write(tmp_path, "gguf", weights=planted)))
    result = weights.compare(pair)
    causes = [f.cause for f in result.findings]
    assert causes == ["weights.permuted", "weights.offset", "weights.scaled", "weights.unexplained"]
    forced = weights.force(pair, result.findings)
    assert weights.compare(pair.with_candidate(forced)).verdict == "same"
    forced.checkpoint.weights(threads=1)


def test_drift_is_not_forced_beside_a_defect(reference: Path, tmp_path: Path) -> None:
    planted = tiny.tensors(tiny.config())
    planted[UP1] *= np.float32(2)
    pair = Pair(subject(reference), subject(tiny.write(tmp_path, "gguf", weights=planted, codec="q8_0")))
    forced = weights.force(pair, weights.compare(pair).findings)
    assert forced.checkpoint.tensors[UP1].info.codec == "f32"
    assert forced.checkpoint.tensors[O1].info.codec == "q8_0"
    assert [f.cause for f in weights.compare(pair.with_candidate(forced)).findings] == ["drift.quantization"]


def test_an_incomplete_reference_is_not_comparable(reference: Path, tmp_path: Path) -> None:
    values = tiny.tensors(tiny.config())
    del values[UP1]
    result = compared(tiny.write(tmp_path, "safetensors", weights=values), reference)
    assert result.verdict == "not_comparable" and UP1 in result.sentence


def test_a_candidate_that_cannot_be_read_is_a_finding(reference: Path, tmp_path: Path) -> None:
    path = tiny.write(tmp_path, "gguf")
    path.write_bytes(path.read_bytes()[:-5000])
    assert [f.cause for f in compared(reference, path).findings] == ["file.unreadable"]


def test_encodings_that_are_not_known_are_compared_by_their_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        gguf.quants,
        "quantize",
        lambda values, kind: np.full((values.shape[0], values.shape[1] // 32 * 18), byte, dtype=np.uint8),
    )
    byte = 1
    first = tiny.write(tmp_path / "first", "gguf", codec="iq4_nl")
    again = tiny.write(tmp_path / "again", "gguf", codec="iq4_nl")
    byte = 2
    other = tiny.write(tmp_path / "other", "gguf", codec="iq4_nl")
    assert compared(first, again).verdict == "same"
    result = compared(first, other)
    assert result.verdict == "cannot_tell" and "iq4_nl" in result.sentence


def test_the_result_is_plain_data(reference: Path, tmp_path: Path) -> None:
    planted = tiny.tensors(tiny.config())
    planted[NORM1][:] = np.nan
    planted[Q0] = interleaved(planted[Q0], 4)
    result = compared(reference, tiny.write(tmp_path, "gguf", weights=planted, codec="q8_0"))
    text = json.dumps(dataclasses.asdict(result), allow_nan=False)
    assert result.measure["n_tensors"] == 21 and "weights.nonfinite" in text
    assert {row["verdict"] for row in result.measure["tensors"]} == {"rounded", "different"}


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parity
@pytest.mark.parametrize("codec", ["f32", "f16", "bf16", "q8_0", "q5_1", "q4_0"])
def test_copies_of_a_real_model_raise_no_alarm(codec: str, real_model: Callable[[str], Path], tmp_path: Path) -> None:
    """Two of SmolLM2's layers, requantised by ggml."""
    with open_model(real_model("smollm2")) as file:
        checkpoint = Checkpoint(file)
        config = checkpoint.config
        names = [
            name
            for name in checkpoint.tensors
            if "layers." not in name or ".layers.0." in name or ".layers.17." in name
        ]
        short = dataclasses.replace(config, num_hidden_layers=2)
        values = {name.replace(".17.", ".1."): checkpoint.array(name).copy() for name in names}
    first = tiny.write(tmp_path / "first", "safetensors", short, values)
    second = written_by_ggml(tmp_path / "second", short, codec, planted=values)
    result = compared(first, second)
    assert result.is_benign, result.sentence
    assert (result.verdict == "same") == (codec == "f32")
    values["model.layers.1.mlp.up_proj.weight"][5] *= 1.5
    third = written_by_ggml(tmp_path / "third", short, codec, planted=values)
    found = finding(first, third)
    assert (found.cause, found.where["rows"]) == ("weights.scaled", [5])
