"""The tables of slots: complete for every architecture, true of transformers' modules and of GGUF's tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tiny
from apr import models
from apr.engines import _alignment
from apr.engines._alignment import places, split_slot
from apr.formats import open_model
from engines.tapping import checkpoint, numpy_session, slots


def test_every_architecture_has_a_table_and_no_table_is_without_one() -> None:
    assert sorted(path.stem for path in _alignment.FOLDER.iterdir()) == models.names()


@pytest.mark.parametrize("model_type", tiny.MODEL_TYPES)
def test_the_table_has_the_slots_of_the_forward_pass_and_no_others(model_type: str, tmp_path: Path) -> None:
    path = tiny.write(tmp_path, "safetensors", tiny.config(model_type))
    seen = slots(numpy_session(path))
    assert set(places(checkpoint(path).config)) == set(seen)


@pytest.mark.parametrize("model_type", tiny.MODEL_TYPES)
def test_the_parts_of_fused_projections_and_the_heads_have_the_sizes_of_the_slots(
    model_type: str, tmp_path: Path
) -> None:
    path = tiny.write(tmp_path, "safetensors", tiny.config(model_type, head_dim=32))
    seen = slots(numpy_session(path))
    for slot, place in places(checkpoint(path).config).items():
        shape = seen[slot].shape
        assert (place.heads is not None) == (len(shape) == 3)
        assert place.heads is None or shape[1] == place.heads
        assert place.columns is None or place.columns.stop - place.columns.start == shape[1]
        assert place.row_order is None or place.row_order.size == seen[slot][0].size


@pytest.mark.parity
@pytest.mark.parametrize("model_type", tiny.MODEL_TYPES)
def test_transformers_has_every_named_module(model_type: str, tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    path = tiny.write(tmp_path, "safetensors", tiny.config(model_type))
    modules = dict(AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(path)).named_modules())
    named = [place.module for place in places(checkpoint(path).config).values()]
    assert [name for name in named if name not in modules] == []


@pytest.mark.parametrize("model_type", tiny.MODEL_TYPES)
def test_the_file_has_every_named_tensor(model_type: str, tmp_path: Path) -> None:
    made = tiny.config(model_type, tie_word_embeddings=False)
    file = open_model(tiny.write(tmp_path, "gguf", made))
    named = {f"{t}.weight" for place in places(made).values() for t in (place.tensor, place.into) if t is not None}
    assert named - set(file.tensors) == set()
    weights = {name for name in file.tensors if name.endswith(".weight")}
    assert weights - named == set(), "a tensor that makes no slot"


@pytest.mark.parametrize("model_type", tiny.MODEL_TYPES)
def test_heads_are_put_in_order_exactly_where_files_interleave_them(model_type: str) -> None:
    made = tiny.config(model_type)
    is_permuted = models.for_model_type(model_type).Model.GGUF_PERMUTES_QK
    for slot, place in places(made).items():
        is_rotated = split_slot(slot)[1] in ("q", "k", "q_rope", "k_rope")
        assert (place.row_order is not None) == (is_permuted and is_rotated)
        if place.row_order is not None:
            assert sorted(place.row_order) == list(range(place.row_order.size))
            assert place.row_order[1] == 2 and not np.array_equal(place.row_order, np.sort(place.row_order))


def test_a_key_that_nobody_reads_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {"model": {"embed": {"hf": "model.embed_tokens", "colums": "q"}}, "layer": {}}
    monkeypatch.setattr(_alignment, "_table", lambda _: table)
    with pytest.raises(TypeError, match="colums"):
        places(tiny.config())


def test_a_slot_is_a_layer_and_a_name() -> None:
    assert split_slot("layers.12.q_rope") == (12, "q_rope")
    assert split_slot("final_norm") == (None, "final_norm")
