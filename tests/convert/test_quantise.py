"""Quantised files: each tensor's blocks are those of ggml's own quantiser, all else is the source's, and what cannot be is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import ggml_oracle
import tiny
from apr.convert import _mixture, transcode
from apr.convert._quantise import Importance, recipe
from apr.errors import ConversionError, UsageError
from apr.formats import gguf as gguf_format
from apr.formats import open_model
from apr.formats._base import Outgoing
from apr.models._checkpoint import Checkpoint
from convert.conversion_runs import ENDING, TOKEN_IDS, leftovers, logits
from convert.llama_logits import llama_logits

WIDE = tiny.config(**tiny.BLOCKS_OF_256)
NARROW = tiny.config(hidden_size=96)


def importance_of(path: Path, *, seed: int = 0) -> Importance:
    random = np.random.default_rng(seed)
    with open_model(path) as file:
        columns = {
            name: random.gamma(0.5, size=info.shape[-1]).astype(np.float32)
            for name, info in file.tensors.items()
            if len(info.shape) > 1 and name.startswith("blk")
        }
    return Importance("text.imatrix", columns, ("text",), 3)


@pytest.mark.parametrize("made", [WIDE, NARROW], ids=["rows of 256", "rows of 96"])
@pytest.mark.parametrize("mixture", [m for m in _mixture.MIXTURES if m not in ("f32", "f16", "bf16", "q2_k_s")])
def test_each_tensor_is_what_ggml_makes_of_it(mixture: str, made: Any, tmp_path: Path, target: Path) -> None:
    source = tiny.write(tmp_path / "source", "gguf", made)
    result = transcode.convert(source, target / "q.gguf", quantize=recipe(mixture))
    with open_model(source) as before, open_model(target / "q.gguf") as after:
        assert isinstance(before, gguf_format.GgufFile) and list(before.tensors) == list(after.tensors)
        changed = [name for name in before.tensors if after.tensors[name].codec != "f32"]
        for name in changed:
            codec = after.tensors[name].codec
            assert after.raw(name).tobytes() == (
                ggml_oracle.quantise(codec, before.array(name)) if codec != "f16" else before.array(name).astype("<f2")
            ).tobytes(), name  # fmt: skip
        for name in set(before.tensors) - set(changed):
            assert after.raw(name).tobytes() == before.raw(name).tobytes()
        assert after.metadata["general.file_type"] == _mixture.MIXTURES[mixture].file_type
        kept = {key: value for key, value in before.metadata.items() if key != "general.file_type"}
        assert kept.items() <= dict(after.metadata).items()
    assert result.n_quantized == len(changed) > 10 and result.quantized_to == mixture
    assert sum(result.codecs.values()) == result.n_tensors


def test_importance_weighs_as_ggml_weighs_it(tmp_path: Path, target: Path) -> None:
    source = tiny.write(tmp_path / "source", "gguf", WIDE)
    found = importance_of(source)
    transcode.convert(source, target / "q.gguf", quantize=recipe("q4_k_m", found))
    transcode.convert(source, target / "plain.gguf", quantize=recipe("q4_k_m"))
    differing = 0
    with (
        open_model(source) as before,
        open_model(target / "q.gguf") as after,
        open_model(target / "plain.gguf") as plain,
    ):
        for name, columns in found.columns.items():
            expected = ggml_oracle.quantise(after.tensors[name].codec, before.array(name), columns)
            assert after.raw(name).tobytes() == expected.tobytes()
            differing += after.raw(name).tobytes() != plain.raw(name).tobytes()
        assert differing > len(found.columns) / 2
        said = (after.metadata["quantize.imatrix.file"], after.metadata["quantize.imatrix.chunks_count"])
        assert said == ("text.imatrix", 3)


@pytest.mark.parametrize("origin", ["safetensors", "apr"])
def test_other_sources_give_the_file_that_gguf_gives(origin: str, tmp_path: Path, target: Path) -> None:
    weights = tiny.tensors(WIDE)
    sources = {kind: tiny.write(tmp_path / kind, kind, WIDE, weights) for kind in ("gguf", origin)}
    for kind, source in sources.items():
        transcode.convert(source, target / f"{kind}.gguf", quantize=recipe("q4_k_m"))
    with open_model(target / "gguf.gguf") as one, open_model(target / f"{origin}.gguf") as other:
        assert {n: i.codec for n, i in one.tensors.items()} == {n: i.codec for n, i in other.tensors.items()}
        for name in one.tensors:
            assert one.raw(name).tobytes() == other.raw(name).tobytes(), name


def test_apr_holds_what_every_reader_of_it_decodes(tmp_path: Path, target: Path) -> None:
    source = tiny.write(tmp_path / "source", "gguf", WIDE)
    result = transcode.convert(source, target / f"q{ENDING['apr']}", quantize=recipe("q4_k_m"))
    assert set(result.codecs) == {"f32", "q4_k", "q6_k"}
    narrow = tiny.write(tmp_path / "narrow", "gguf", NARROW)
    plain = transcode.convert(narrow, target / "n.apr", quantize=recipe("q4_k_m"))
    assert set(plain.codecs) == {"f32", "f16"} and "tensors became f16: apr has no blocks" in plain.notes[0]
    assert np.isfinite(logits(target / "q.apr")).all()


@pytest.mark.parametrize("mixture", ["q8_0", "q4_k_m"])
def test_llama_cpp_loads_the_file_and_computes_what_we_do(mixture: str, tmp_path: Path, target: Path) -> None:
    source = tiny.write(tmp_path / "source", "safetensors", WIDE)
    transcode.convert(source, target / "q.gguf", quantize=recipe(mixture))
    (theirs,) = llama_logits([target / "q.gguf"], TOKEN_IDS)
    ours = logits(target / "q.gguf")[-1]
    assert np.linalg.norm(theirs - ours) < 0.05 * np.linalg.norm(ours)  # it rounds activations to 8 bits


def test_an_option_that_did_nothing_is_told(tmp_path: Path, target: Path) -> None:
    source = tiny.write(tmp_path / "source", "gguf", WIDE)
    result = transcode.convert(source, target / "copy.gguf", dequantize="f32")
    assert any("--quantize f32 decodes all" in note for note in result.notes)


def test_an_architecture_that_is_not_ours_is_quantised_all_the_same(tmp_path: Path, target: Path) -> None:
    source = tiny.write(tmp_path / "source", "gguf", WIDE)
    strange = tmp_path / "strange.gguf"
    with open_model(source) as file:
        assert isinstance(file, gguf_format.GgufFile)
        keys = {key.replace("llama.", "mystery."): value for key, value in file.typed_metadata.items()}
        keys["general.architecture"] = gguf_format.Typed("string", "mystery")
        specs = tuple((info.name, info.codec, info.shape) for info in file.tensors.values())
        gguf_format.write(strange, Outgoing(keys, specs, file.raw))
    transcode.convert(strange, target / "q.gguf", quantize=recipe("q4_k_m"))
    transcode.convert(source, target / "known.gguf", quantize=recipe("q4_k_m"))
    with open_model(target / "q.gguf") as one, open_model(target / "known.gguf") as other:
        assert all(one.raw(name).tobytes() == other.raw(name).tobytes() for name in other.tensors)


def test_a_value_that_no_block_holds_is_named(tmp_path: Path, target: Path) -> None:
    weights = tiny.tensors(WIDE)
    weights["model.layers.1.mlp.down_proj.weight"][3, 7] = np.nan
    source = tiny.write(tmp_path / "source", "gguf", WIDE, weights)
    with pytest.raises(ConversionError, match=r"blk\.1\.ffn_down\.weight.*3, 7"):
        transcode.convert(source, target / "q.gguf", quantize=recipe("q4_k_m"))
    assert leftovers(target) == []


def test_blocks_that_read_back_otherwise_are_not_kept(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for origin in ("gguf", "safetensors"):
        source = tiny.write(tmp_path / origin, origin, WIDE)
        monkeypatch.setattr("apr.convert._readback.digest", lambda raw: "another")
        with pytest.raises(ConversionError, match="does not read back as it was quantised"):
            transcode.convert(source, target / "q.gguf", quantize=recipe("q8_0"))
        assert leftovers(target) == []


def test_what_is_measured_stands_in_the_file_and_what_is_refused_is_not_written(tmp_path: Path, target: Path) -> None:
    source = tiny.write(tmp_path / "source", "gguf", WIDE)
    for ending in ("gguf", "apr"):
        path = target / f"q.{ending}"
        transcode.convert(
            source,
            path,
            quantize=recipe("q8_0") if ending == "gguf" else recipe("q6_k"),
            measure=lambda _: {"apr.loss": "{}"},
        )
        with open_model(path) as file:
            assert file.metadata["apr.loss"] == "{}"

    def refuse(staged: Path) -> Any:
        assert staged.exists() and staged.parent.parent == target
        raise ConversionError("no honest rounding")

    with pytest.raises(ConversionError, match="no honest rounding"):
        transcode.convert(source, target / "r.gguf", quantize=recipe("q8_0"), measure=refuse)
    assert leftovers(target) == ["q.apr", "q.gguf"]


def test_what_cannot_be_asked_is_said(tmp_path: Path, target: Path) -> None:
    source = tiny.write(tmp_path / "source", "gguf", WIDE)
    with pytest.raises(UsageError, match="no mixture is called 'q9_k'"):
        recipe("q9_k")
    with pytest.raises(UsageError, match="q2_k_s needs an importance matrix"):
        recipe("q2_k_s")
    with pytest.raises(UsageError, match="safetensors holds no quantised blocks"):
        transcode.convert(source, target / "folder", quantize=recipe("q8_0"))
    found = importance_of(source)
    other = dataclasses.replace(found, columns={name: values[:32] for name, values in found.columns.items()})
    with pytest.raises(ConversionError, match="it was collected on another"):
        transcode.convert(source, target / "q.gguf", quantize=recipe("q8_0", other))
    with pytest.raises(ConversionError, match="names no tensor of this model"):
        transcode.convert(
            source, target / "q.gguf", quantize=recipe("q8_0", dataclasses.replace(found, columns={"x": np.ones(4)}))
        )


def test_already_quantised_tensors_of_the_same_type_are_kept(tmp_path: Path, target: Path) -> None:
    source = tiny.write(tmp_path / "source", "gguf", NARROW, codec="q8_0")
    result = transcode.convert(source, target / "q.gguf", quantize=recipe("q8_0"))
    assert result.n_quantized == 0 and result.notes == ()


@pytest.mark.parametrize("ending", ["gguf", "apr"])
def test_rounding_what_was_rounded_before_is_told(ending: str, tmp_path: Path, target: Path) -> None:
    source = tiny.write(tmp_path / "source", "gguf", NARROW, codec="q8_0")
    result = transcode.convert(source, target / f"q.{ending}", quantize=recipe("q4_0"))
    assert any(f"{result.n_quantized} tensors of the source were quantised already" in note for note in result.notes)


def test_what_a_mixture_must_know_is_the_same_by_configuration_and_by_keys(tmp_path: Path) -> None:
    with open_model(tiny.write(tmp_path, "gguf", NARROW)) as file:
        assert isinstance(file, gguf_format.GgufFile)
        found = recipe("q8_0").shape(Checkpoint(file).config), recipe("q8_0").shape_of_gguf(file)
        assert found == (_mixture.Shape(2, 2), _mixture.Shape(2, 2))


@pytest.mark.parametrize("origin", ["gguf", "safetensors"])
@pytest.mark.parametrize("mixture", ["f16", "bf16"])
def test_a_folder_in_half_precision(tmp_path: Path, target: Path, origin: str, mixture: str) -> None:
    source = tiny.write(tmp_path / "source", origin, WIDE)
    report = transcode.convert(source, target / "half", quantize=recipe(mixture), measure=lambda _: {"apr.loss": "{}"})
    assert report.quantized_to == mixture
    kind = torch.float16 if mixture == "f16" else torch.bfloat16
    found = load_file(target / "half" / "model.safetensors")
    for name, values in tiny.tensors(WIDE).items():
        assert torch.equal(
            found[name], torch.from_numpy(values).to(kind) if values.ndim > 1 else torch.from_numpy(values)
        )
    with open_model(target / "half") as file:
        assert file.metadata["apr.quantized"].startswith(f"{mixture} by apr") and file.metadata["apr.loss"] == "{}"
