"""Every tensor gets the encoding that llama.cpp's own tool gives it: its choices for eight models, by fixtures/mixtures/make.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apr.convert import _mixture
from apr.convert._mixture import MIXTURES, Shape

TABLE: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "fixtures" / "mixtures" / "types.json").read_text(encoding="utf-8")
)


def by_name(runs: dict[str, list[Any]]) -> dict[str, Any]:
    """What `by_stem` of the maker put together."""
    return dict(_unrolled(runs))


def _unrolled(runs: dict[str, list[Any]]) -> Iterator[tuple[str, Any]]:
    for stem, found in runs.items():
        values = [value for value, n in found for _ in range(n)]
        yield from ((stem.replace("*", str(i)), value) for i, value in enumerate(values))


@pytest.mark.parametrize("name", TABLE)
def test_each_tensor_gets_what_llama_cpp_gives_it(name: str) -> None:
    case = TABLE[name]
    shapes = by_name(case["shapes"])
    asked = {f"{mixture} {kind}" for mixture in MIXTURES for kind in ("plain", "importance")}
    assert set(case["types"]) == asked - {
        "q2_k_s plain",
        "f32 plain",
        "f32 importance",
    }  # it wants importance for q2_k_s
    for name_of_run, runs in case["types"].items():
        mixture, kind = name_of_run.split()
        model = Shape(case["layers"], case["gqa"], has_importance=kind == "importance")
        chosen = _mixture.codecs(MIXTURES[mixture], shapes, model)
        expected = {key: codec for key, codec in by_name(runs).items() if key in chosen}
        assert chosen == expected, name_of_run
        assert {key for key, shape in shapes.items() if len(shape) > 1} == set(chosen)


@pytest.mark.parametrize("name", ["blk.0.attn_norm.weight", "output_norm.weight", "blk.0.ffn_gate_inp.weight", "blk.0.attn_q.bias", "rope_freqs"])  # fmt: skip
def test_what_is_small_or_no_matrix_is_left_alone(name: str) -> None:
    assert not _mixture.is_quantised(name, (4, 256))


def test_experts_get_more_where_they_share() -> None:
    shapes = {
        "blk.0.attn_v.weight": (64, 256),
        "blk.0.attn_k.weight": (64, 256),
        "blk.0.ffn_down_exps.weight": (8, 64, 256),
    }
    found = _mixture.codecs(MIXTURES["q4_k_m"], shapes, Shape(layers=1, gqa=4, experts=8))
    assert found == {"blk.0.attn_v.weight": "q8_0", "blk.0.attn_k.weight": "q8_0", "blk.0.ffn_down_exps.weight": "q6_k"}
