"""Architectures are found by any of their names."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

from apr import _folder, models
from apr.errors import UnsupportedError
from apr.models._checkpoint import GLOBAL_NAMES, expected_tensors
from apr.models._config import ModelConfig
from config_variants import VARIANTS, made

MODULES = [_folder.load("apr.models", name) for name in models.names()]
LOOKUPS = {
    "MODEL_TYPES": models.for_model_type,
    "GGUF_ARCHITECTURES": models.for_gguf,
    "HF_ARCHITECTURES": models.for_class,
}


def test_every_file_is_an_architecture() -> None:
    assert models.names() == ["gemma3", "llama", "phi3", "qwen2", "qwen3"]


@pytest.mark.parametrize("attribute", LOOKUPS)
@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__)
def test_each_name_finds_its_file_and_only_it(module: ModuleType, attribute: str) -> None:
    for name in getattr(module, attribute):
        assert LOOKUPS[attribute](name) is module
        assert sum(name in getattr(other, attribute) for other in MODULES) == 1


@pytest.mark.parametrize("find", LOOKUPS.values(), ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", ["mamba", "", "LLAMA", "_config"])
def test_another_name_lists_those_we_have(find: Callable[[str], ModuleType], name: str) -> None:
    with pytest.raises(UnsupportedError, match=r"known: .*[lL]lama") as caught:
        find(name)
    assert list(caught.value.known) == sorted(caught.value.known) and len(caught.value.known) >= len(MODULES)


@pytest.mark.parametrize("config", [made(v) for v in VARIANTS], ids=list(VARIANTS))
def test_every_expected_tensor_has_one_gguf_name(config: ModelConfig) -> None:
    architecture = models.for_model_type(config.model_type).Model
    assert set(architecture.layer_shapes(config)) <= set(architecture.LAYER_NAMES)
    assert len(set(architecture.LAYER_NAMES.values())) == len(architecture.LAYER_NAMES)
    assert ("lm_head.weight" in expected_tensors(config)) is not config.tie_word_embeddings
    assert set(expected_tensors(config)) - set(GLOBAL_NAMES) == {
        f"model.layers.{i}.{name}"
        for i in range(config.num_hidden_layers)
        for name in architecture.layer_shapes(config)
    }


@pytest.mark.parity
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_census_is_transformers(variant: str) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from apr.models._config_hf import to_hf

    config = made(variant)
    with torch.device("meta"):
        theirs = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(**to_hf(config, torch_dtype="float32"), pad_token_id=0)
        )
    shapes = {name: tuple(p.shape) for name, p in theirs.named_parameters()}
    assert expected_tensors(config) == shapes
