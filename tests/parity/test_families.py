"""What published models say: each entry agrees with itself, real files agree with theirs, and a lost key does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from apr.engines._subject import Subject
from apr.models._config import ModelConfig, RopeScaling
from apr.parity import _families, metadata, tokenizer
from apr.parity._families import PUBLISHED, Published


def config_of(published: Published) -> ModelConfig:
    """A configuration that says what an entry says."""
    fields = """model_type hidden_size num_hidden_layers intermediate_size vocab_size num_attention_heads num_key_value_heads
    head_dim rope_theta rms_norm_eps sliding_window rope_local_base_freq query_pre_attn_scalar partial_rotary_factor"""
    scaling = None
    if published.rope_scaling is not None:
        kind, factor = published.rope_scaling
        scaling = RopeScaling(kind, factor or 1.0)  # type: ignore[arg-type]
    said = {name: getattr(published, name) for name in fields.split()}
    return ModelConfig(**said, rope_scaling=scaling, max_position_embeddings=published.contexts[0])


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda published: published.name)
def test_every_entry_agrees_with_itself(published: Published) -> None:
    verdict = _families.closest(config_of(published))
    assert verdict is not None and verdict.differences == ()


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda published: published.name)
def test_a_wrong_epsilon_disagrees_with_every_entry(published: Published) -> None:
    verdict = _families.closest(replace(config_of(published), rms_norm_eps=1e-3))
    assert verdict is not None and verdict.is_certain
    assert [difference.key for difference in verdict.differences] == ["rms_norm_eps"]


def test_every_entry_is_possible() -> None:
    for each in PUBLISHED:
        assert each.num_attention_heads % each.num_key_value_heads == 0
        assert each.head_dim % 2 == 0 and each.rope_theta >= 1e4 and each.rms_norm_eps in (1e-5, 1e-6)


def test_the_context_length_decides_between_models_of_one_shape() -> None:
    smol = next(each for each in PUBLISHED if each.name == "SmolLM2-135M")
    config = config_of(smol)
    lost = _families.closest(replace(config, rope_theta=1e4))
    older = _families.closest(replace(config, rope_theta=1e4, max_position_embeddings=2048))
    assert lost is not None and [d.key for d in lost.differences] == ["rope_theta"] and lost.is_certain
    assert older is not None and older.published.name == "SmolLM-135M" and older.differences == ()


def test_a_stretched_model_is_not_certainly_wrong() -> None:
    qwen = next(each for each in PUBLISHED if each.name.startswith("Qwen2.5-7B,"))
    verdict = _families.closest(replace(config_of(qwen), rope_theta=5e6, max_position_embeddings=524288))
    assert verdict is not None and verdict.differences and not verdict.is_certain


def test_an_unknown_shape_is_unknown() -> None:
    assert _families.closest(replace(config_of(PUBLISHED[0]), hidden_size=577)) is None


def test_no_two_entries_of_a_shape_say_the_same() -> None:
    said = [(each.shape, each.contexts, each.rope_theta, each.rope_scaling, each.rms_norm_eps) for each in PUBLISHED]
    assert len(said) == len(set(said))


@pytest.mark.real
@pytest.mark.parametrize("alias", ["smollm2", "qwen2.5-coder:0.5b"])
def test_real_files_are_as_published(alias: str, real_model: Callable[[str], Path]) -> None:
    with Subject(real_model(alias), threads=1) as one:
        assert metadata.examine(one).verdict == "same", metadata.examine(one).sentence
        assert tokenizer.examine(one).verdict == "same", tokenizer.examine(one).sentence


@pytest.mark.real
def test_a_real_file_with_a_lost_rotary_base_is_found_alone(real_model: Callable[[str], Path]) -> None:
    with Subject(real_model("smollm2"), threads=1) as one:
        lost = one.with_config(replace(one.config, rope_theta=1e4))
        finding = metadata.examine(lost).findings[0]
        assert (finding.cause, finding.where["key"]) == ("metadata.value", "rope_theta")
        assert finding.where["reference"] == 1e5


@pytest.mark.real
def test_a_real_vocabulary_with_another_rule_or_bos_is_found_alone(real_model: Callable[[str], Path]) -> None:
    from apr.parity import _single_tokenizer

    with Subject(real_model("smollm2"), threads=1) as one:
        spec = one.spec
        for change, cause in (({"pre": "qwen2"}, "tokenizer.pre"), ({"add_bos": True}, "tokenizer.bos")):
            vars(one)["spec"] = replace(spec, **change)  # type: ignore[arg-type]
            assert [finding.cause for finding in _single_tokenizer.judge(one).findings] == [cause]
