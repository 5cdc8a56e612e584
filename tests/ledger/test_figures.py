"""Figures in prose and in fields: which side they bound, and which way they turned."""

from __future__ import annotations

import pytest

from apr.ledger._figures import Figure, figures, sense_of, turn_of_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cosine >= 0.999", [("floor", 0.999)]),
        ("≥0.999 and at most 1e-3", [("floor", 0.999), ("ceiling", 0.001)]),
        ("|sum - 1| < 1.0e-6", [("none", 1.0), ("ceiling", 1e-6)]),
        ("at least 84.80%", [("floor", 84.8)]),
        ("10,000 documents", [("none", 10000)]),
        ("FALSIFY-SHIP-005 of q4_k_m and v2", []),
        ("section 61", [("none", 61)]),
        ("within 8 ULP", [("ceiling", 8)]),
        ("-0.5 to .5", [("none", -0.5), ("none", 0.5)]),
    ],
)
def test_figures_are_found_with_their_sense(text: str, expected: list[tuple[str, float]]) -> None:
    assert [(one.sense, one.value) for one in figures(text)] == expected


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("x >= 0.9", "x >= 0.8", "weakened"),
        ("x >= 0.9", "x >= 0.95", "strengthened"),
        ("x <= 3 of 100", "x <= 4 of 100", "weakened"),
        ("at most 1 error", "at most 2 errors of any kind", "weakened"),
        ("x >= 0.9 and y <= 2", "x >= 0.95 and y <= 3", "weakened"),
        ("x >= 0.9", "x is large", "changed"),
        ("28 layers", "24 layers", "changed"),
        ("x >= 0.9 always", "always x >= 0.9", None),
        ("no figures", "none here", None),
    ],
)
def test_a_text_turns_with_its_worst_figure(old: str, new: str, expected: str | None) -> None:
    turned = turn_of_text(old, new)
    assert (turned[0] if turned is not None else None) == expected


@pytest.mark.parametrize(
    ("name", "sense"),
    [
        ("tolerance", "ceiling"),
        ("max_abs", "ceiling"),
        ("min_cosine", "floor"),
        ("n_cases", "floor"),
        ("threshold", "none"),
    ],
)
def test_a_field_bounds_as_its_name_says(name: str, sense: str) -> None:
    assert sense_of(name) == sense


def test_a_figure_is_a_side_and_a_value() -> None:
    assert figures("under 5") == (Figure("ceiling", 5.0),)
