"""What a version promises less: every way of weakening that is planted is seen, and its step is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from apr.errors import UsageError
from apr.ledger import _diff
from apr.ledger.contract import read

FIXTURES = Path(__file__).parents[1] / "fixtures" / "contracts"
HEALTHY = (FIXTURES / "healthy.yaml").read_text(encoding="utf-8")
EVAL = "      interval: scores[name=pass@1,regime=raw].interval\n"

# what is done to the healthy contract, what kind of difference that is, what step it asks for
PLANTED = {
    "a test removed": ("  - id: FALSIFY-TOY-002\n    rule: answers\n    prediction: at least 3 of 4 answers are right\n    check: {gate: golden_output}\n    if_fails: the model is broken\n", "", "weakened", "major"),
    "an equation removed": ("  same_weights:\n    formula: for all t in tensors, decode(copy[t]) = decode(original[t])\n    postconditions: [all 290 tensors are compared]\n", "  other: x\n", "weakened", "major"),
    "an obligation removed": ("  - id: OB-TOY-001\n    type: bound\n    property: the copy answers as the original does\n    tolerance: 0.001\n", "  []\n", "weakened", "major"),
    "a tolerance loosened": ("tolerance: 0.001", "tolerance: 0.01", "weakened", "major"),
    "a tolerance tightened": ("tolerance: 0.001", "tolerance: 0.0001", "strengthened", "major"),
    "a tolerance dropped": ("    tolerance: 0.001\n", "", "weakened", "major"),
    "a bar lowered": ("at_least: 0.30", "at_least: 0.25", "weakened", "major"),
    "a bar raised": ("at_least: 0.30", "at_least: 0.35", "strengthened", "major"),
    "an interval dropped": ("  " + EVAL, "", "weakened", "major"),
    "a bar lowered in prose": ("pass@1 >= 0.30", "pass@1 >= 0.25", "weakened", "major"),
    "a count lowered in prose": ("at least 3 of 4", "at least 2 of 4", "weakened", "major"),
    "a count raised in prose": ("at least 3 of 4", "at least 4 of 4", "strengthened", "major"),
    "a figure without a sense": ("all 290 tensors", "all 20 tensors", "changed", "major"),
    "a formula changed": ("decode(copy[t])", "round(copy[t])", "changed", "major"),
    "a check removed": ("    check: {gate: golden_output}\n", "    test: pytest tests/golden.py\n", "weakened", "major"),
    "another gate": ("gate: golden_output", "gate: degeneration", "changed", "major"),
    "a lesser profile": ("{gate: golden_output}", "{gate: golden_output, arguments: [--profile, smoke]}", "weakened", "major"),
    "fewer samples": ("[--samples, 2]", "[--samples, 1]", "weakened", "major"),
    "a limit": ("[--samples, 2]", "[--samples, 2, --limit, 8]", "weakened", "major"),
    "another regime": ("--regime raw", "--regime chat", "changed", "major"),
    "more verdicts accepted": ("{gate: golden_output}", "{gate: golden_output, expect: {path: 'gates[id=golden_output].status', one_of: [pass, fail]}}", "weakened", "major"),
    "no longer blocks": ("ship_blocking: true", "ship_blocking: false", "weakened", "major"),
    "a test unbound": ("test: cargo test -p kernels softmax::tests::sums_to_one", "test: look at it", "weakened", "major"),
    "a criterion removed": ("  - id: AC-TOY-001\n    statement: the weights are kept\n    falsified_by: [FALSIFY-TOY-001, FALSIFY-TOY-002]\n", "  []\n", "weakened", "major"),
    "a criterion held by fewer tests": ("[FALSIFY-TOY-001, FALSIFY-TOY-002]", "[FALSIFY-TOY-001]", "weakened", "major"),
    "history rewritten": ("changes: Three promises.", "changes: Two promises.", "weakened", "patch"),
    "a test added": ("falsification_tests:\n", "falsification_tests:\n  - {id: FALSIFY-TOY-009, rule: new, test: cargo test x}\n", "added", "minor"),
    "an obligation added": ("proof_obligations:\n", "proof_obligations:\n  - {id: OB-TOY-002, property: new}\n", "strengthened", "major"),
    "a free obligation added": ("proof_obligations:\n", "proof_obligations:\n  - {id: OB-TOY-002, property: new, required: false}\n", "added", "minor"),
    "an equation added": ("equations:\n", "equations:\n  more: {formula: x = y}\n", "added", "minor"),
    "wording": ("if_fails: the model is broken", "if_fails: the model is damaged", "reworded", "patch"),
    "a description": ("A small contract", "A little contract", "reworded", "patch"),
    "evidence": ("the run of 2026-05-10", "the run of 2026-05-11", "reworded", "patch"),
}  # fmt: skip


def compared(tmp_path: Path, before: str, after: str) -> _diff.ContractDiff:
    paths = tmp_path / "old.yaml", tmp_path / "new.yaml"
    for path, text in zip(paths, (before, after), strict=True):
        path.write_text(text, encoding="utf-8")
    return _diff.diff(*map(read, paths))


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_change_is_of_its_kind_and_size(name: str, tmp_path: Path) -> None:
    before, after, kind, size = PLANTED[name]
    assert HEALTHY.count(before) == 1, "the change is not planted"
    report = compared(tmp_path, HEALTHY, HEALTHY.replace(before, after))
    assert report.differences[0].kind == kind, report.differences
    assert report.needed == size and report.bump == "none" and report.fit == "too small"
    assert report.exit_code == 1 and (report.n_weakened > 0) == (kind == "weakened")


def test_the_same_contract_promises_the_same(tmp_path: Path) -> None:
    report = compared(tmp_path, HEALTHY, HEALTHY)
    assert (report.differences, report.fit, report.exit_code) == ((), "right", 0)


@pytest.mark.parametrize(
    ("version", "bump", "fit", "exit_code"),
    [
        ("1.1.0", "none", "too small", 1),
        ("1.1.1", "patch", "too small", 1),
        ("1.2.0", "minor", "right", 0),
        ("2.0.0", "major", "too large", 0),
        ("1.0.9", "backwards", "backwards", 1),
        ("latest", "unknown", "unknown", 1),
    ],
)
def test_the_step_is_held_against_the_change(version: str, bump: str, fit: str, exit_code: int, tmp_path: Path) -> None:
    before, after, *_ = PLANTED["a test added"]
    new = HEALTHY.replace(before, after).replace("  version: 1.1.0\n  created", f"  version: {version}\n  created")
    report = compared(tmp_path, HEALTHY, new)
    assert (report.bump, report.fit, report.exit_code) == (bump, fit, exit_code)


def test_a_weakened_contract_is_a_finding_even_with_an_honest_version(tmp_path: Path) -> None:
    new = HEALTHY.replace("at_least: 0.30", "at_least: 0.20").replace(
        "  version: 1.1.0\n  created", "  version: 2.0.0\n  created"
    )
    report = compared(tmp_path, HEALTHY, new)
    assert (report.fit, report.n_weakened, report.exit_code) == ("right", 1, 1)


def test_the_order_of_tests_says_nothing(tmp_path: Path) -> None:
    head, _, tests = HEALTHY.partition("falsification_tests:\n")
    rows = ["  - id:" + row for row in tests.split("  - id:")[1:]]
    assert compared(tmp_path, HEALTHY, head + "falsification_tests:\n" + "".join(reversed(rows))).differences == ()


def test_two_contracts_are_no_versions_of_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two versions of one"):
        compared(tmp_path, HEALTHY, HEALTHY.replace("id: toy-release", "id: other"))
