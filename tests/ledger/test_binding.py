"""What a test's text binds to: lines and names run somewhere, prose does not."""

from __future__ import annotations

import pytest

from apr.ledger._binding import binding
from apr.ledger.contract import Falsification


def of(text: str) -> str:
    return binding(Falsification("F-1", "", "", text, "", None, 1, {}))


@pytest.mark.parametrize(
    "text",
    [
        "cargo test -p aprender-core ship_005",
        "RUST_LOG=debug cargo test x",
        "`cargo test softmax`",
        "softmax::tests::sums_to_one",
        "test_softmax_sums_to_one",
        "proptest_sums (10000 cases)",
        "crates/core/tests/ship.rs",
        "tests/qa/test_gate.py::test_x",
        "pytest tests/x.py",
        "grep -c unwrap src | wc -l",
        "./scripts/check.sh --all",
        "python scripts/x.py",
        "make -C docs html",
        "diff a.json b.json",
        "apr run m.gguf\nand then more",
    ],
)
def test_what_runs_elsewhere(text: str) -> None:
    assert of(text) == "elsewhere"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Load the model and look whether the answer is right",
        "make sure that nothing is lost",
        "test that the sum is one",
        "Manual inspection.",
        "it's checked by hand",
        "python is installed",
        "softmax",
    ],
)
def test_prose_binds_to_nothing(text: str) -> None:
    assert of(text) == "prose"


@pytest.mark.parametrize("text", ["LIVE-PENDING: apr bench m", "live_pending apr qa"])
def test_what_waits_for_a_person(text: str) -> None:
    assert of(text) == "pending"
