"""Contracts as text: findings as compilers write them, versions with what they promise less."""

from __future__ import annotations

from apr.ledger._diff import ContractDiff, Difference
from apr.ledger._lint import LintedContract, LintFinding, LintReport
from apr.reports import _contract

FINDING = LintFinding("c.yaml", 7, "APR-CON-016", "error", "F-1: 'look\x1b[31m' binds to nothing")
ROW = LintedContract("c.yaml", "toy", "", "DRAFT", "ab" * 32, 1, 2, 0, 3)
WEAKENED = Difference("weakened", "F-1", "a", None, 3, "major", "the falsification test F-1 is gone: a")


def changed(**fields: object) -> ContractDiff:
    given = {
        "id": "toy", "old": "a", "new": "b", "old_version": "1.0.0", "new_version": "1.0.1", "bump": "patch",
        "needed": "major", "fit": "too small", "n_weakened": 1, "differences": (WEAKENED,), "exit_code": 1,
    } | fields  # fmt: skip
    return ContractDiff(**given)  # type: ignore[arg-type]


def test_a_finding_is_a_line_that_editors_can_jump_to() -> None:
    said = _contract.linted(LintReport((ROW,), (FINDING,), 1, 0, 1))
    assert said.splitlines()[0] == "c.yaml:7: error APR-CON-016 F-1: 'look\\x1b[31m' binds to nothing"
    assert "1 run here, 2 elsewhere, 3 bound to nothing" in said and said.endswith("fail: 1 contract, 1 error")


def test_without_a_contract_there_is_no_verdict_but_the_finding() -> None:
    said = _contract.linted(LintReport((), (FINDING,), 1, 0, 2))
    assert len(said.splitlines()) == 1 and "pass" not in said


def test_what_is_weakened_comes_with_the_step() -> None:
    said = _contract.difference(changed())
    assert "toy: 1.0.0 → 1.0.1" in said and "✗ weakened  the falsification test F-1 is gone: a" in said
    assert said.endswith("1 promise weakened; the version step is PATCH, too small: the changes ask for MAJOR")


def test_steps_that_cannot_be_judged_are_said() -> None:
    same = changed(differences=(), n_weakened=0, needed="none")
    assert "the two promise the same" in _contract.difference(same)
    assert "goes backwards" in _contract.difference(changed(fit="backwards"))
    assert "cannot be compared" in _contract.difference(changed(fit="unknown"))
