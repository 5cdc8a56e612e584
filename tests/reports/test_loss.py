"""The loss as text, as a card's block and as the file's own words: the same figures, and hostile names are text."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from apr.parity._tensor_loss import TensorLoss
from apr.parity.loss import Loss, RegimeLoss
from apr.reports import _loss

TENSOR = TensorLoss("model.layers.0.a", "q4_k", 0.9951, 0.0712, 0.01, 0.4, 3, 256, 0.18, "q3_k", 0.14)
LOSS = Loss(
    "source", "copy", 21, 21, 5.25, (TENSOR,), 1e-10,
    (RegimeLoss("raw", 95, 0.0395, (0.03, 0.05), 0.2, 0.916, 8),), "different", True, "the logits drift", (), 1.0,
)  # fmt: skip


def test_text_has_every_figure() -> None:
    text = _loss.loss(LOSS)
    for part in (
        "q4_k",
        "0.0712",
        "0.995100",
        "raw",
        "0.0395",
        "0.0300 to 0.0500",
        "91.6 %",
        "5.25 bits",
        "row 3, column 256",
    ):
        assert part in text
    assert "✓ an honest rounding" in text
    refused = dataclasses.replace(LOSS, refusals=("model.layers.0.a: off the ladder",))
    assert "✗ no honest rounding" in _loss.loss(refused) and "off the ladder" in _loss.loss(refused)


def test_the_file_says_the_same() -> None:
    said = json.loads(_loss.metadata(LOSS, is_forced=True)[_loss.METADATA_KEY])
    assert said["worst_tensor"] == "model.layers.0.a" and said["worst_relative_error"] == 0.0712
    assert said["regimes"]["raw"]["kl_interval"] == [0.03, 0.05] and said["forced"] is True


def test_the_card_s_block_is_replaced_and_escaped(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("# Mine\n", encoding="utf-8")
    _loss.save_card(LOSS, path, title="a|<b>.gguf")
    once = path.read_text(encoding="utf-8")
    _loss.save_card(LOSS, path, title="a|<b>.gguf")
    assert path.read_text(encoding="utf-8") == once and once.startswith("# Mine\n")
    assert "a\\|&lt;b&gt;.gguf" in once and once.count(_loss.BEGIN) == 1 and "|---|---|" in once


def test_the_same_file_has_a_table_too() -> None:
    assert "the same values" in _loss.loss(dataclasses.replace(LOSS, tensors=()))


def test_what_was_left_out_is_said() -> None:
    assert "all 21 compared" in _loss.loss(LOSS)
    assert "19 of 21 compared" in _loss.loss(dataclasses.replace(LOSS, n_measured=19))
