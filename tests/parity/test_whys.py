"""The five whys: every cause has its lore, and what is measured is told apart from what is known."""

from __future__ import annotations

import pytest

from apr.parity._causes import CAUSES, Cause
from apr.parity._link import Finding
from apr.parity._report import Proof
from apr.parity._whys import five_whys, lore


@pytest.mark.parametrize("cause", CAUSES)
def test_every_cause_has_a_mechanism_and_an_origin(cause: Cause) -> None:
    assert lore(cause).mechanism and lore(cause).origin


def test_the_whys_carry_the_measured_divergence_before_and_after() -> None:
    finding = Finding("metadata.value", "rope_theta is 10000, the reference has 1000000", {"key": "rope_theta"})
    whys = five_whys(finding, "metadata", Proof("rope_theta=1000000", "same", 0.31, 0.0), subject="b.gguf")
    assert len(whys) == 5
    assert "0.31 nats" in whys[0]
    assert "rope_theta=1000000 put in its place, the divergence is 0" in whys[2]


def test_what_cannot_be_run_is_said_not_to_run() -> None:
    finding = Finding("weights.missing", "model.norm.weight is missing", {"tensor": "model.norm.weight"})
    whys = five_whys(finding, "weights", Proof("tensors", "same", None, 0.0), subject="b.gguf")
    assert "cannot be run" in whys[0]


def test_equal_logits_are_not_called_a_divergence() -> None:
    finding = Finding("stop.missing", "151645 does not end a turn", {"token_id": 151645})
    whys = five_whys(finding, "generation", Proof("stop ids", "same", 0.0, 0.0), subject="b.gguf")
    assert "agree" in whys[0] and "nats" not in whys[0]


def test_a_file_without_an_original_is_not_said_to_be_unable_to_run() -> None:
    finding = Finding("metadata.value", "rope_theta is 10000", {"key": "rope_theta"})
    assert "needs the original" in five_whys(finding, "metadata", None, subject="b.gguf")[0]


def test_drift_is_not_called_a_difference_in_what_is_said() -> None:
    finding = Finding("drift.precision", "every op agrees within its precision", {"slot": "logits"})
    assert "rounding" in five_whys(finding, "activations", None, subject="b.gguf")[0]
