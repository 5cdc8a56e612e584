"""The metadata of `.apr`: typed keys, second spellings, and JSON text as serde_json writes it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from apr.errors import BadMetadata
from apr.formats._apr_findings import Findings, LenientFindings
from apr.formats._apr_json import dump, float_text
from apr.formats._apr_metadata import SPELLINGS, canonical, check_metadata, check_outgoing, clashes, wrong_types

HERE = Path("model.apr")
FULL = {
    "model_type": "llama",
    "license": None,
    "total_size": 0,
    "param_count": 2**64 - 1,
    "quantization": {"quant_type": "int8", "bits": 8, "block_size": None, "symmetric": True},
    "sharding": {"shard_count": 2, "shard_index": 0, "total_size": 10, "pattern": None},
    "special_tokens": {"bos_token": "<s>", "eos_token": None},
    "hidden_size": 64,
    "rope_theta": 1000000,
    "rope_type": 2,
    "rms_norm_eps": 1e-6,
    "anything": [1, {"deep": None}],
}


def test_a_full_set_of_keys_is_accepted() -> None:
    assert wrong_types(FULL) == [] == clashes(FULL)
    check_outgoing(HERE, FULL)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", None),
        ("total_size", None),
        ("name", 3),
        ("hidden_size", 64.0),
        ("hidden_size", -1),
        ("hidden_size", 2**64),
        ("hidden_size", True),
        ("d_model", "64"),
        ("rope_type", 2**32),
        ("rope_theta", "10000"),
        ("rms_norm_eps", 1e39),
        ("layer_norm_eps", False),
        ("quantization", {"quant_type": "int8", "bits": 256, "symmetric": True}),
        ("quantization", {"quant_type": "int8", "bits": 8}),
        ("sharding", {"shard_count": 2}),
        ("special_tokens", {"bos_token": 1}),
        ("special_tokens", []),
    ],
)
def test_a_typed_key_with_the_wrong_type_is_refused(key: str, value: Any) -> None:
    raw = json.dumps({"x": 1, key: value}).encode()
    with pytest.raises(BadMetadata, match=key) as caught:
        check_metadata(HERE, json.loads(raw), raw=raw, offset=64, findings=Findings())
    assert caught.value.offset == 64 + 9
    with pytest.raises(BadMetadata, match="not written"):
        check_outgoing(HERE, {key: value})


@pytest.mark.parametrize("names", SPELLINGS, ids=lambda names: names[0])
def test_two_spellings_of_a_field_clash_in_any_order(names: tuple[str, ...]) -> None:
    for first in names:
        for second in names:
            if first != second:
                findings = LenientFindings()
                check_metadata(HERE, {first: None, second: 1}, raw=b"", offset=64, findings=findings)
                assert [warned.code for warned in findings.warnings] == ["apr.bad-metadata"]
    for alias in names[1:]:
        with pytest.raises(BadMetadata, match=f"rename it|{names[0]}"):
            check_outgoing(HERE, {alias: 1})


def test_canonical_names_win_over_null() -> None:
    found = canonical({"hidden_size": None, "n_embd": 8, "n_layer": 3, "other": 1, "num_heads": 4})
    assert found == {"hidden_size": 8, "num_layers": 3, "other": 1, "num_heads": 4}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_reads_back_as_itself(value: float) -> None:
    read = float(float_text(value))
    assert read == value and math.copysign(1, read) == math.copysign(1, value)


@given(st.floats(allow_nan=False, allow_infinity=False) | st.floats(-1e-3, 1e-3) | st.floats(1e12, 1e18))
def test_a_float_is_written_as_serde_json_writes_it(value: float) -> None:
    text = Tokenizer(models.Unigram([("a", value)], 0)).to_str()
    theirs = text.split('"vocab":[["a",')[1].split("]")[0]
    assert dump(HERE, {"x": value}) == b'{"x":' + theirs.encode() + b"}"


@pytest.mark.parametrize("value", [0.1, 0.001, 1e-4, 1e-5, 1e-6, 1e-7, 1.5e-6, 0.5, 1.0])
def test_a_32_bit_field_has_more_zeros_before_its_exponent(value: float) -> None:
    text = Tokenizer(models.BPE({}, [], dropout=value)).to_str()
    theirs = text.split('"dropout":')[1].split(",")[0]
    assert dump(HERE, {"rms_norm_eps": value}) == b'{"rms_norm_eps":' + theirs.encode() + b"}"


@given(st.lists(st.text(st.characters(codec="utf-8")), max_size=5))
def test_strings_are_written_as_serde_json_writes_them(texts: list[str]) -> None:
    vocabulary = [(text, 1.0) for text in ["u", *texts]]
    theirs = Tokenizer(models.Unigram(vocabulary, 0)).to_str().split('"vocab":')[1].split(',"byte_fallback"')[0]
    assert dump(HERE, {"x": vocabulary}) == b'{"x":' + theirs.encode() + b"}"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1: 2}, b"bytes", 2**64, -(2**63) - 1, object()])
def test_what_json_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(BadMetadata, match="not written"):
        dump(HERE, {"x": value})


def test_endless_nesting_is_refused() -> None:
    nested: list[Any] = []
    nested.append(nested)
    with pytest.raises(BadMetadata, match="nests deeper"):
        dump(HERE, {"x": nested})
