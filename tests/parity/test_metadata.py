"""The metadata link: every planted key is named, with both values; honest spellings of one model are no alarm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import pytest

import config_variants
import tiny
from apr.models._config import ModelConfig
from apr.parity import metadata
from apr.parity._pair import Pair
from mutants._patient import Patient
from mutants._patient_gguf import GgufPatient
from mutants.models import Stock
from parity.static_pairs import compared, dropped, found, operated, pair_of, setting, subject

CHANGED = [
    ("qwen2/gguf", "rope_theta", 10000.0),
    ("qwen2/safetensors", "rope_theta", 10000.0),
    ("qwen3/apr", "rope_theta", 10000.0),
    ("llama/gguf", "rms_norm_eps", 1e-6),
    ("gemma3_text/apr", "rms_norm_eps", 1e-3),
    ("llama/gguf", "num_key_value_heads", 4),
    ("qwen3/safetensors", "head_dim", 32),
    ("llama/safetensors", "num_hidden_layers", 2),
    ("mistral/gguf", "sliding_window", 48),
    ("gemma3_text/safetensors", "final_logit_softcapping", 5.0),
    ("gemma3_text/gguf", "rope_local_base_freq", 100000.0),
    ("phi3/gguf", "partial_rotary_factor", 8),
    ("gemma3_text/safetensors", "query_pre_attn_scalar", 64),
    ("qwen2/safetensors", "hidden_act", "gelu_pytorch_tanh"),
    ("llama-yarn/gguf", "rope_scaling.factor", 8.0),
    ("llama/safetensors", "vocab_size", 640),
    ("mistral/apr", "max_position_embeddings", 128),
]
GONE = [
    ("qwen2/gguf", "rope_theta"),
    ("qwen2/safetensors", "rope_theta"),
    ("llama/safetensors", "rms_norm_eps"),
    ("qwen2/gguf", "rms_norm_eps"),
    ("llama/safetensors", "hidden_size"),
    ("mistral/gguf", "hidden_size"),
    ("qwen2/gguf", "num_key_value_heads"),
    ("gemma3_text/gguf", "sliding_window"),
    ("gemma3_text/apr", "final_logit_softcapping"),
]


@pytest.mark.parametrize(("site", "key", "value"), CHANGED)
def test_a_changed_value_is_named_and_its_counterfactual_agrees(
    site: str, key: str, value: Any, stock: Stock, tmp_path: Path
) -> None:
    with pair_of(stock, tmp_path, site, setting(key, value)) as pair:
        finding = found(metadata, pair)
        assert (finding.cause, finding.where["key"]) == ("metadata.value", key), finding.sentence
        assert str(finding.where["candidate"]) in finding.sentence or "candidate" in finding.sentence


@pytest.mark.parametrize(("site", "key"), GONE)
def test_a_key_that_is_gone_is_named_and_its_counterfactual_agrees(
    site: str, key: str, stock: Stock, tmp_path: Path
) -> None:
    with pair_of(stock, tmp_path, site, dropped(key)) as pair:
        finding = found(metadata, pair)
        assert (finding.cause, finding.where["key"]) == ("metadata.missing", key), finding.sentence


def test_a_scaling_that_is_gone_is_missing_as_a_whole(stock: Stock, tmp_path: Path) -> None:
    for site in ("llama-linear/gguf", "llama-yarn/safetensors"):
        with pair_of(stock, tmp_path, site, dropped("rope_scaling")) as pair:
            finding = found(metadata, pair)
            assert (finding.cause, finding.where["key"]) == ("metadata.missing", "rope_scaling")


def test_a_configuration_that_is_gone_is_missing_as_a_whole(stock: Stock, tmp_path: Path) -> None:
    path = operated(stock, tmp_path, "llama/safetensors", setting("rope_theta", 500000.0))
    (path / "config.json").unlink()
    pair = Pair(subject(stock.path("llama", "gguf")), subject(path))
    finding = found(metadata, pair)
    assert (finding.cause, finding.where["key"]) == ("metadata.missing", "config.json")
    pair.close()


def test_all_wrong_keys_are_found_and_put_right_together(stock: Stock, tmp_path: Path) -> None:
    def edit(patient: Patient) -> None:
        patient.set("rms_norm_eps", 1e-3)
        patient.set("rope_theta", 500.0)
        patient.set("max_position_embeddings", 64)

    with pair_of(stock, tmp_path, "llama/gguf", edit) as pair:
        keys = [finding.where["key"] for finding in metadata.compare(pair).findings]
        assert keys == ["rope_theta", "rms_norm_eps", "max_position_embeddings"]
        assert found(metadata, pair).where == {"key": "rope_theta", "reference": 100000.0, "candidate": 500.0}


def test_an_architecture_under_another_name_is_named(stock: Stock, tmp_path: Path) -> None:
    with pair_of(stock, tmp_path, "qwen2/safetensors", setting("model_type", "llama")) as pair:
        finding = metadata.compare(pair).findings[0]
        assert finding.where == {"key": "architecture", "reference": "qwen2", "candidate": "llama"}


def test_the_context_length_is_said_to_change_lengths_only(stock: Stock, tmp_path: Path) -> None:
    with pair_of(stock, tmp_path, "llama/gguf", setting("max_position_embeddings", 64)) as pair:
        assert "how long a text may be" in metadata.compare(pair).findings[0].sentence


def test_a_missing_key_is_named_as_the_file_spells_it(stock: Stock, tmp_path: Path) -> None:
    with pair_of(stock, tmp_path, "qwen2/gguf", dropped("rope_theta")) as pair:
        finding = metadata.compare(pair).findings[0]
        assert finding.where["spelling"] == "qwen2.rope.freq_base" and "10000" in finding.sentence


def test_an_embedding_that_is_gone_is_no_fault_of_a_key(stock: Stock, tmp_path: Path) -> None:
    def edit(patient: Patient) -> None:
        patient.remove("model.embed_tokens.weight")

    with pair_of(stock, tmp_path, "llama/gguf", edit) as pair:
        assert metadata.compare(pair).findings[0].cause == "weights.missing"


def test_a_value_that_gguf_cannot_say_is_named_when_it_is_lost(tmp_path: Path) -> None:
    config = config_variants.made("gemma3 query scale")
    first, second = (tiny.write(tmp_path / f, f, config) for f in ("safetensors", "gguf"))
    finding = compared(metadata, first, second).findings[0]
    assert (finding.cause, finding.where["key"]) == ("metadata.missing", "query_pre_attn_scalar")


@pytest.mark.parametrize("variant", sorted(config_variants.VARIANTS.keys() - {"gemma3 query scale"}))
def test_three_formats_of_one_model_are_no_alarm(variant: str, tmp_path: Path) -> None:
    config = config_variants.made(variant)
    paths = {}
    for file_format in tiny.FORMATS:
        try:
            paths[file_format] = _written(tmp_path / file_format, file_format, config)
        except Exception as exc:  # noqa: BLE001 - what GGUF cannot say is refused by the writer
            assert "GGUF" in str(exc), exc
    for reference in paths:
        for candidate in paths:
            result = compared(metadata, paths[reference], paths[candidate])
            assert result.verdict == "same", f"{reference} {candidate}: {result.sentence}"


def _written(folder: Path, file_format: str, config: ModelConfig) -> Path:
    """A model; the rotary factors of a llama3 or longrope GGUF are tensors, which `convert` writes."""
    scaling = config.rope_scaling
    if file_format != "gguf" or scaling is None or scaling.rope_type not in ("llama3", "longrope"):
        return tiny.write(folder, file_format, config)
    from apr.convert.transcode import convert

    source = tiny.write(folder / "source", "safetensors", config)
    convert(source, folder / "model.gguf")
    return folder / "model.gguf"


def test_a_head_that_is_a_copy_of_the_embedding_is_no_alarm(stock: Stock, tmp_path: Path) -> None:
    def store(patient: Patient) -> None:
        patient.put("lm_head.weight", patient.array("model.embed_tokens.weight"))

    with pair_of(stock, tmp_path, "llama-tied/gguf", store) as pair:
        result = metadata.compare(pair)
        assert result.verdict == "same" and "copy" in result.measure["notes"][0]


def test_a_key_that_denies_the_head_in_the_file_is_at_fault_itself(stock: Stock, tmp_path: Path) -> None:
    with pair_of(stock, tmp_path, "llama/safetensors", setting("tie_word_embeddings", True)) as pair:
        assert found(metadata, pair).where["key"] == "tie_word_embeddings"


def test_a_head_that_is_gone_is_left_to_the_weights(stock: Stock, tmp_path: Path) -> None:
    with pair_of(stock, tmp_path, "llama/gguf", lambda patient: patient.remove("lm_head.weight")) as pair:
        result = metadata.compare(pair)
        assert result.verdict == "same" and "weights" in result.measure["notes"][0]


def test_an_unreadable_reference_is_not_comparable(stock: Stock, tmp_path: Path) -> None:
    path = operated(stock, tmp_path, "llama/gguf", dropped("hidden_size"))
    assert compared(metadata, path, stock.path("llama", "gguf")).verdict == "not_comparable"


def test_a_value_of_the_wrong_type_is_named(stock: Stock, tmp_path: Path) -> None:
    with pair_of(stock, tmp_path, "llama/safetensors", setting("rope_theta", "ten thousand")) as pair:
        assert found(metadata, pair).where["key"] == "rope_theta"


def test_a_file_written_by_another_library_says_what_gguf_py_put_in(tmp_path: Path) -> None:
    path = tiny.write(tmp_path, "gguf", tiny.config(rope_theta=123456.0))
    reader = gguf.GGUFReader(path)
    said = float(reader.fields["llama.rope.freq_base"].parts[-1][0])
    source = tiny.write(tmp_path / "source", "safetensors", tiny.config(rope_theta=500000.0))
    document = json.loads((source / "config.json").read_text())
    finding = compared(metadata, source, path).findings[0]
    assert (finding.where["reference"], finding.where["candidate"]) == (document["rope_theta"], said)


def test_a_gguf_key_of_another_architectures_prefix_is_missing(stock: Stock, tmp_path: Path) -> None:
    def edit(patient: Patient) -> None:
        assert isinstance(patient, GgufPatient)
        keys = patient.parts.keys
        keys["llama.rope.freq_base"] = keys.pop("qwen2.rope.freq_base")

    with pair_of(stock, tmp_path, "qwen2/gguf", edit) as pair:
        assert found(metadata, pair).cause == "metadata.missing"
