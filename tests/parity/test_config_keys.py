"""What a file says under a key, in each format's own words, and what it leaves out."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny
from apr.formats import open_model
from apr.models._config import RopeScaling
from apr.parity import _config_keys

YARN = {"rope_scaling": RopeScaling("yarn", 4.0, original_max_position_embeddings=32)}


@pytest.mark.parametrize("file_format", tiny.FORMATS)
def test_every_format_says_what_was_written(file_format: str, tmp_path: Path) -> None:
    config = tiny.config("llama", rope_theta=50000.0, **YARN)
    with open_model(tiny.write(tmp_path, file_format, config)) as file:
        assert _config_keys.said(file, "rope_theta") == 50000.0
        assert _config_keys.said(file, "hidden_size") == 64
        assert _config_keys.said(file, "vocab_size") == tiny.VOCAB_SIZE
        assert _config_keys.said(file, "rope_scaling") == "yarn"
        assert _config_keys.said(file, "rope_scaling.factor") == 4.0
        assert _config_keys.said(file, "architecture") == "llama"


@pytest.mark.parametrize("file_format", tiny.FORMATS)
def test_what_was_not_written_is_not_said(file_format: str, tmp_path: Path) -> None:
    with open_model(tiny.write(tmp_path, file_format, tiny.config("llama"))) as file:
        for key in ("rope_scaling", "rope_scaling.factor", "sliding_window", "final_logit_softcapping", "nonsense"):
            assert _config_keys.said(file, key) is None, key


def test_a_key_is_spelled_as_the_format_spells_it(tmp_path: Path) -> None:
    spelled = {}
    for file_format in tiny.FORMATS:
        with open_model(tiny.write(tmp_path / file_format, file_format, tiny.config("qwen2"))) as file:
            spelled[file_format] = _config_keys.spelling(file, "num_hidden_layers")
    assert spelled == {"safetensors": "num_hidden_layers", "gguf": "qwen2.block_count", "apr": "num_layers"}
