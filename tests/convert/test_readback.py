"""The comparison with the source sees what goes wrong: each test plants one defect in what is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from apr.convert import _items, _readback, convert
from apr.errors import AprError, ConversionError
from apr.formats._base import Outgoing
from apr.tokenizer.spec import TokenizerSpec, TokenType
from convert.conversion_runs import ENDING, leftovers

PAIRS = [(a, b) for a in tiny.FORMATS for b in tiny.FORMATS]


def plant(monkeypatch: pytest.MonkeyPatch, to: str, defect: Callable[[Outgoing], Outgoing]) -> None:
    """Let the writer of a format write a model with a defect."""
    module = import_module(f"apr.formats.{to}")
    write = module.write
    monkeypatch.setattr(module, "write", lambda path, model: write(path, defect(model)))


def with_data(model: Outgoing, change: Callable[[str, np.ndarray], np.ndarray]) -> Outgoing:
    data = model.data
    return replace(model, data=lambda name: change(name, data(name)))


@pytest.mark.parametrize(("origin", "to"), PAIRS)
def test_one_flipped_bit_is_found_and_named(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch, origin: str, to: str
) -> None:
    def flip(name: str, raw: np.ndarray) -> np.ndarray:
        if name not in ("model.layers.1.mlp.down_proj.weight", "blk.1.ffn_down.weight"):
            return raw
        changed = raw.copy()
        changed[4 * (5 * 96 + 7)] ^= 1  # the value at [5, 7]
        return changed

    plant(monkeypatch, to, lambda model: with_data(model, flip))
    with pytest.raises(
        ConversionError, match=r"(down_proj|ffn_down)\.weight' reads back differently from index \[5, 7\]"
    ):
        convert(tiny.write(tmp_path / "source", origin), target / f"m{ENDING[to]}")
    assert leftovers(target) == []


def test_a_flipped_bit_in_a_block_names_the_block(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flip(name: str, raw: np.ndarray) -> np.ndarray:
        changed = raw.copy()
        changed[34 * 3 + 9] ^= 128  # in the fourth block of 32, the second of row 1
        return changed if name == "output.weight" else raw

    plant(monkeypatch, "gguf", lambda model: with_data(model, flip))
    with pytest.raises(ConversionError, match=r"'output\.weight' reads back differently from index \[1, 32\]"):
        convert(tiny.write(tmp_path / "source", "gguf", codec="q8_0"), target / "m.gguf")


@pytest.mark.parametrize("dequantize", ["f32", "f16", "bf16"])
def test_a_flipped_bit_in_a_dequantised_tensor_is_found(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch, dequantize: str
) -> None:
    def flip(name: str, raw: np.ndarray) -> np.ndarray:
        changed = raw.copy()
        changed[-1] ^= 1
        return changed if name == "lm_head.weight" else raw

    plant(monkeypatch, "apr", lambda model: with_data(model, flip))
    with pytest.raises(ConversionError, match=r"'lm_head\.weight' reads back differently from index \[319, 63\]"):
        convert(tiny.write(tmp_path / "source", "gguf", codec="q8_0"), target / "m.apr", dequantize=dequantize)


def test_rows_that_are_not_interleaved_are_found(tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_items, "gguf_rows", lambda *arguments: None)
    with pytest.raises(ConversionError, match=r"q_proj\.weight' reads back differently"):
        convert(tiny.write(tmp_path / "source", "apr"), target / "m.gguf")
    convert(tiny.write(tmp_path / "qwen", "apr", tiny.config("qwen2")), target / "q.gguf")  # whose rows are not


def test_a_norm_without_its_offset_is_found(tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = _items.encoded

    def forget(checkpoint: Any, item: _items.Item, target_format: str) -> np.ndarray:
        raw = original(checkpoint, item, target_format)
        return (raw.view("<f4") - 1).view(np.uint8) if item.name == "model.norm.weight" else raw

    monkeypatch.setattr(_items, "encoded", forget)
    with pytest.raises(ConversionError, match=r"'model\.norm\.weight' reads back differently from index \[0\]"):
        convert(tiny.write(tmp_path, "safetensors", tiny.config("gemma3_text")), target / "m.gguf")


def test_two_swapped_tensors_are_found(tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swapped = {"blk.0.ffn_gate.weight": "blk.0.ffn_up.weight", "blk.0.ffn_up.weight": "blk.0.ffn_gate.weight"}
    plant(monkeypatch, "gguf", lambda m: replace(m, data=lambda name: m.data(swapped.get(name, name))))
    with pytest.raises(ConversionError, match=r"gate_proj\.weight' reads back differently"):
        convert(tiny.write(tmp_path / "source", "apr"), target / "m.gguf")


@pytest.mark.parametrize("to", tiny.FORMATS)
def test_a_missing_tensor_is_found(tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch, to: str) -> None:
    plant(monkeypatch, to, lambda m: replace(m, tensors=tuple(t for t in m.tensors if "up" not in t[0])))
    with pytest.raises(ConversionError, match="does not hold the"):
        convert(tiny.write(tmp_path / "source", "gguf"), target / f"m{ENDING[to]}")


DROPPED = {"gguf": "tokenizer.ggml.merges", "apr": "tokenizer.merges"}


@pytest.mark.parametrize("to", DROPPED)
@pytest.mark.parametrize("origin", ["safetensors", "gguf", "apr"])
def test_a_dropped_merge_is_found(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch, origin: str, to: str
) -> None:
    def drop(model: Outgoing) -> Outgoing:
        merges = model.metadata[DROPPED[to]]
        merges = replace(merges, value=list(merges.value)[:-1]) if hasattr(merges, "value") else list(merges)[:-1]
        return replace(model, metadata=dict(model.metadata) | {DROPPED[to]: merges})

    plant(monkeypatch, to, drop)
    with pytest.raises(ConversionError, match=r"merges differ from entry 14|metadata reads back"):
        convert(tiny.write(tmp_path / "source", origin), target / f"m{ENDING[to]}")


def test_a_dropped_merge_in_tokenizer_json_is_found(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    def drop(model: Outgoing) -> Outgoing:
        document = json.loads(model.documents["tokenizer.json"])
        document["model"]["merges"].pop()
        return replace(model, documents=dict(model.documents) | {"tokenizer.json": json.dumps(document)})

    plant(monkeypatch, "safetensors", drop)
    with pytest.raises(ConversionError, match=r"the tokenizer reads back differently: 'so.* gives the ids"):
        convert(tiny.write(tmp_path / "source", "gguf"), target / "m")


CHANGED = {
    "rope_theta": ("gguf", "llama.rope.freq_base", 20000.0),
    "rms_norm_eps": ("apr", "rms_norm_eps", 1e-5),
    "max_position_embeddings": ("gguf", "llama.context_length", 512),
}


@pytest.mark.parametrize("field", CHANGED)
def test_a_changed_setting_is_found_and_named(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    to, key, value = CHANGED[field]
    plant(monkeypatch, to, lambda model: replace(model, metadata=dict(model.metadata) | {key: value}))
    with pytest.raises(ConversionError, match=f"{field} is .* in the source and {value}"):
        convert(tiny.write(tmp_path / "source", "safetensors"), target / f"m{ENDING[to]}")


def test_a_changed_template_is_found(tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "tokenizer.chat_template"
    plant(monkeypatch, "gguf", lambda m: replace(m, metadata=dict(m.metadata) | {key: m.metadata[key] + " "}))
    with pytest.raises(ConversionError, match="chat template"):
        convert(tiny.write(tmp_path / "source", "apr"), target / "m.gguf")


def test_a_damaged_checksum_is_found(tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from apr.formats import apr

    write = apr.write

    def damage(path: Path, model: Outgoing) -> None:
        write(path, model)
        with path.open("r+b") as file:
            file.seek(-200, 2)
            byte = file.read(1)
            file.seek(-200, 2)
            file.write(bytes([byte[0] ^ 1]))

    monkeypatch.setattr(apr, "write", damage)
    with pytest.raises(AprError, match="checksum"):
        convert(tiny.write(tmp_path / "source", "gguf"), target / "m.apr")
    assert leftovers(target) == []


def sentencepiece_spec() -> TokenizerSpec:
    """A SentencePiece vocabulary with bytes, as GGUF has it."""
    words = ["▁", "t", "h", "e", "n", "th", "the", "▁the", "then", "▁then"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    kinds = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL, *[TokenType.BYTE] * 256]
    types = [int(kind) for kind in [*kinds, *[TokenType.NORMAL] * len(words)]]
    scores = [0.0] * 259 + [-float(i) for i in (9, 8, 7, 6, 5, 0, 1, 2, 3, 4)]
    return TokenizerSpec(
        "spm", tokens, types, scores=scores, add_bos=True, add_space_prefix=True, bos_token_id=1, eos_token_id=2,
        unk_token_id=0, stop_token_ids=(2,),
    )  # fmt: skip


def test_a_sentencepiece_tokenizer_survives_tokenizer_json_and_scores(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny, "spec", lambda **options: sentencepiece_spec())
    config = tiny.config(vocab_size=269)
    report = convert(tiny.write(tmp_path / "source", "gguf", config), target / "m")
    assert any("the same ids for the text of all 269 tokens" in s or "same hash" in s for s in report.checked)
    convert(target / "m", target / "back.gguf")
    convert(target / "back.gguf", target / "m.apr")


def test_a_normalisation_that_gguf_cannot_say_is_told(tmp_path: Path, target: Path) -> None:
    import json

    source = tiny.write(tmp_path / "source", "safetensors")
    document = json.loads((source / "tokenizer.json").read_text())
    document["normalizer"] = {"type": "NFC"}
    (source / "tokenizer.json").write_text(json.dumps(document))
    assert any("NFC" in note for note in convert(source, target / "m.gguf").notes)
    assert not any("NFC" in note for note in convert(source, target / "m.apr").notes)


def test_stop_ids_that_do_not_fit_are_told(tmp_path: Path) -> None:
    spec = replace(tiny.spec(), stop_token_ids=(3, 4, 5))
    _, notes = _readback.check_tokenizer(spec, replace(spec, stop_token_ids=(3, 4)))
    assert notes == ["stop ids differ: [5] were left out, [] came in; the target has no place for more than it names"]
