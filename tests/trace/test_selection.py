"""Patterns and numbers as a user writes them."""

from __future__ import annotations

import pytest

from apr.errors import UsageError
from apr.trace.selection import Selection, numbers

SLOTS = ["embed", "layers.0.q", "layers.0.q_rope", "layers.1.q", "layers.1.q_rope", "final_norm", "logits"]


def test_nothing_said_is_everything() -> None:
    assert Selection().choose_slots(SLOTS) == SLOTS
    assert Selection().choose_positions(3) == (0, 1, 2)


def test_a_pattern_is_of_the_full_name_or_of_the_name_in_the_layer() -> None:
    assert Selection(("q",)).choose_slots(SLOTS) == ["layers.0.q", "layers.1.q"]
    assert Selection(("layers.1.*", "embed")).choose_slots(SLOTS) == ["embed", "layers.1.q", "layers.1.q_rope"]


def test_a_pattern_with_an_exclamation_mark_leaves_out() -> None:
    assert Selection(("!q*", "!embed")).choose_slots(SLOTS) == ["final_norm", "logits"]
    assert Selection(("q*", "!layers.0.*")).choose_slots(SLOTS) == ["layers.1.q", "layers.1.q_rope"]
    assert Selection(("!ffn_act",)).choose_slots(SLOTS) == SLOTS, "what is not there is left out already"


def test_layers_leave_out_what_is_in_none() -> None:
    assert Selection(layers="-1").choose_slots(SLOTS) == ["layers.1.q", "layers.1.q_rope"]


def test_numbers_are_counted_from_both_ends() -> None:
    assert numbers("0, 4-6,-1,5", 10, what="layer") == (0, 4, 5, 6, 9)
    assert numbers("-3--1", 10, what="layer") == (7, 8, 9)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("10", "there is no position 10: there are 10"),
        ("-11", "there is no position -11"),
        ("5-4", "ends before it starts"),
        ("one", "found 'one', expected numbers"),
        ("", "found ''"),
        ("1,,2", "found ''"),
    ],
)
def test_a_wrong_number_is_named(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        numbers(text, 10, what="position")


def test_a_pattern_that_matches_nothing_lists_what_there_is() -> None:
    with pytest.raises(UsageError, match="no slot is called 'qrope'; there are embed, q, q_rope, final_norm, logits"):
        Selection(("qrope",)).choose_slots(SLOTS)


def test_slots_and_layers_that_never_meet_are_refused() -> None:
    with pytest.raises(UsageError, match="no slot is left"):
        Selection(("embed",), layers="0").choose_slots(SLOTS)
