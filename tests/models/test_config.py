"""Typed reading of metadata, and the checks that every dialect shares."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

import tiny
from apr.errors import BadMetadata
from apr.models._config import MAX_SIZE, Fields, RopeScaling, check, head_dim_of

PATH = Path("model")


def fields(**values: Any) -> Fields:
    return Fields(PATH, values)


@pytest.mark.parametrize("value", [-1, 0, True, False, 1.0, "64", MAX_SIZE + 1, 10**400, [64], float("nan")])
def test_an_integer_out_of_range_or_of_another_type_names_its_key(value: Any) -> None:
    with pytest.raises(BadMetadata, match="model: hidden_size is"):
        fields(hidden_size=value).integer("hidden_size")


@pytest.mark.parametrize("value", [-1.0, 0, True, "1e-5", float("nan"), float("inf"), 1e13, 10**400, [1.0]])
def test_a_number_out_of_range_or_of_another_type_names_its_key(value: Any) -> None:
    with pytest.raises(BadMetadata, match="model: rms_norm_eps is"):
        fields(rms_norm_eps=value).number("rms_norm_eps")


def test_a_whole_number_is_a_number() -> None:
    value = fields(rope_theta=10000).number("rope_theta")
    assert value == 10000.0 and isinstance(value, float)


@pytest.mark.parametrize("value", [0, 1, "true", []])
def test_a_flag_is_true_or_false(value: Any) -> None:
    with pytest.raises(BadMetadata, match=r"tied is .*expected true or false"):
        fields(tied=value).flag("tied", default=False)


@pytest.mark.parametrize("value", ["", 3, ["a"], True])
def test_a_text_is_a_non_empty_string(value: Any) -> None:
    with pytest.raises(BadMetadata, match="hidden_act is"):
        fields(hidden_act=value).text("hidden_act")


@pytest.mark.parametrize("value", [1.0, "1", [1.0, "2"], [0.0], [-1.0], [True], [float("nan")], [float("inf")], {}])
def test_a_list_of_numbers_holds_positive_finite_numbers(value: Any) -> None:
    with pytest.raises(BadMetadata, match="short_factor must be a list of numbers above 0"):
        fields(short_factor=value).numbers("short_factor")


def test_a_missing_required_key_is_named() -> None:
    for read in (Fields.integer, Fields.number, Fields.text):
        with pytest.raises(BadMetadata, match="the key hidden_size is missing"):
            read(fields(), "hidden_size")


def test_null_is_missing_and_the_first_spelling_wins() -> None:
    values = fields(a=None, b=3, c=4)
    assert values.integer("a", "b", "c") == 3
    assert values.optional_integer("nothing") is None and values.optional_number("nothing") is None


def test_defaults_and_leftovers_are_kept() -> None:
    values = fields(known=1, stranger=2, other=3)
    assert values.integer("known") == 1 and values.number("eps", default=1e-6) == 1e-6
    assert values.defaulted == ["eps"] and values.unread() == ("other", "stranger")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"num_key_value_heads": 3}, "4 attention heads cannot share 3 key-value heads"),
        ({"num_key_value_heads": 8}, "4 attention heads cannot share 8 key-value heads"),
        ({"head_dim": 15}, "head_dim is 15"),
        ({"layer_types": ("full_attention",)}, "layer_types has 1 entries for 2 layers"),
        ({"partial_rotary_factor": 1.5}, "expected a share above 0 and at most 1"),
        ({"partial_rotary_factor": 0.0}, "expected a share above 0 and at most 1"),
        ({"rope_scaling": RopeScaling("longrope", long_factor=(1.0,) * 7)}, "long_factor has 7 factors, expected 8"),
        ({"rope_scaling": RopeScaling("llama3", long_factor=(float("nan"),) * 8)}, "expected 8 numbers above 0"),
        ({"rope_scaling": RopeScaling("llama3", low_freq_factor=4.0)}, "expected more than low_freq_factor"),
        ({"rope_scaling": RopeScaling("longrope", original_max_position_embeddings=1)}, "expected at least 2"),
    ],
)
def test_parts_that_do_not_fit_each_other_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadMetadata, match=sentence):
        check(PATH, tiny.config(**changes))


@pytest.mark.parametrize("model_type", tiny.MODEL_TYPES)
def test_healthy_configurations_pass(model_type: str) -> None:
    config = tiny.config(model_type)
    assert check(PATH, config) is config


def test_an_uneven_share_of_the_hidden_size_is_no_head_dim() -> None:
    assert head_dim_of(fields(), "head_dim", hidden_size=64, heads=4) == 16
    assert head_dim_of(fields(head_dim=10), "head_dim", hidden_size=65, heads=4) == 10
    with pytest.raises(BadMetadata, match="head_dim is missing, and the hidden size 65 is no multiple of 4"):
        head_dim_of(fields(), "head_dim", hidden_size=65, heads=4)


def test_a_layer_has_the_window_of_its_type() -> None:
    mixed = tiny.config(sliding_window=8, layer_types=("sliding_attention", "full_attention"))
    assert [mixed.window(i) for i in (0, 1)] == [8, None]
    assert [dataclasses.replace(mixed, layer_types=()).window(i) for i in (0, 1)] == [8, 8]
    assert [tiny.config().window(i) for i in (0, 1)] == [None, None]


def test_what_was_filled_in_does_not_make_two_configurations_differ() -> None:
    assert tiny.config(defaulted=("a",), unread=("b",)) == tiny.config()
    assert tiny.config(rope_theta=5.0) != tiny.config()
