"""Every rule has a planted defect that breaks it alone, and a healthy contract that breaks none."""

from __future__ import annotations

from pathlib import Path

import pytest

from apr.cli import _checks
from apr.errors import UsageError
from apr.ledger import _lint
from apr.ledger._rules import CONTRACT_STATUSES, RULES

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests" / "fixtures" / "contracts"
HEALTHY = (FIXTURES / "healthy.yaml").read_text(encoding="utf-8")

_GATE = "{gate: golden_output}"
# rule, what is in the healthy contract, what stands there instead; each is a defect of its own
PLANTED = [
    ("APR-CON-001", HEALTHY, "- a list\n"),
    ("APR-CON-001", HEALTHY, ""),
    ("APR-CON-001", "equations:\n", "equations: [\n"),
    ("APR-CON-001", "A small contract", "A small \x01 contract"),
    ("APR-CON-002", "  - id: FALSIFY-TOY-002\n    rule", "  - rule"),
    ("APR-CON-002", "    rule: elsewhere\n    prediction: the kernel equals its definition\n", ""),
    ("APR-CON-002", "equations:\n  same_weights:", "equations: none\nelse:\n  same_weights:"),
    ("APR-CON-003", "  kind: release\n", "  kind: release\n  kind: kernel\n"),
    ("APR-CON-003", "    if_fails: the kernel is wrong\n", "    if_fails: a\n    if_fails: b\n"),
    ("APR-CON-004", "  - id: FALSIFY-TOY-004", "  - id: FALSIFY-TOY-003"),
    ("APR-CON-004", "id: OB-TOY-001", "id: FALSIFY-TOY-004"),
    ("APR-CON-006", "removed: [FALSIFY-TOY-000]", "removed: [FALSIFY-TOY-004]"),
    ("APR-CON-006", "changes: Three promises.", "changes: Renamed FALSIFY-TOY-003 and FALSIFY-TOY-009."),
    ("APR-CON-006", "changes: Three promises.", "changes: FALSIFY-TOY-004 was withdrawn."),
    ("APR-CON-007", _GATE, "{gate: golden_outputs}"),
    ("APR-CON-007", "{link: weights}", "{link: weight}"),
    ("APR-CON-007", "command: eval {model}", "command: evaluate {model}"),
    ("APR-CON-007", "command: eval {model} --task humaneval --regime raw --out {scratch}/answers.jsonl\n      arguments: [--samples, 2]", "command: rm {model}"),
    ("APR-CON-007", _GATE, "{gate: golden_output, link: weights}"),
    ("APR-CON-007", _GATE, "golden_output"),
    ("APR-CON-008", "--regime raw", "--regime rare"),
    ("APR-CON-008", "[--samples, 2]", "[--samples, two]"),
    ("APR-CON-008", "[--samples, 2]", "[--sample-count, 2]"),
    ("APR-CON-008", "--task humaneval", "--task inhumaneval"),
    ("APR-CON-008", " --out {scratch}/answers.jsonl", ""),  # it would go on from answers of another day
    ("APR-CON-008", "[--samples, 2]", "[--help]"),
    ("APR-CON-008", "[--samples, 2]", "[--out, /etc/passwd]"),
    ("APR-CON-008", "[--samples, 2]", "[--out, '{scratch}/../x']"),
    ("APR-CON-008", _GATE, "{gate: golden_output, arguments: [--profile, quick]}"),
    ("APR-CON-008", "[--samples, 2]", "[--samples, 2, --ray-address, --json]"),
    ("APR-CON-008", "{link: weights}", "{link: weights, arguments: [--under-test]}"),
    ("APR-CON-009", "      expect:\n        path: scores[name=pass@1,regime=raw].value\n        at_least: 0.30\n        interval: scores[name=pass@1,regime=raw].interval\n", ""),
    ("APR-CON-009", "command: eval {model}", "command: eval smollm2"),
    ("APR-CON-010", "  version: 1.1.0\n  created", "  version: 1.1\n  created"),
    ("APR-CON-010", "  version: 1.1.0\n  created", "  created"),
    ("APR-CON-011", "  version: 1.1.0\n  created", "  version: 1.2.0\n  created"),
    ("APR-CON-011", "    - version: 1.0.0\n      date: 2026-05-01", "    - version: 1.3.0\n      date: 2026-05-01"),
    ("APR-CON-011", "  changelog:\n", "  changelog: []\n  history:\n"),
    ("APR-CON-012", "status: ACTIVE\n", "status: SHIPPED\n"),
    ("APR-CON-012", "  status: ACTIVE\n", ""),
    ("APR-CON-012", "status: DISCHARGED", "status: done"),
    ("APR-CON-013", "    evidence_discharged_by: the run of 2026-05-10\n", ""),
    ("APR-CON-013", "evidence_discharged_by: the run of 2026-05-10", "evidence_discharged_by: ''"),
    ("APR-CON-014", "the run of 2026-05-10", "evidence/toy-004/run.json"),
    ("APR-CON-015", "status: DISCHARGED", "status: PARTIAL_ALGORITHM_LEVEL\n    full_discharge_blocks_on: a run"),
    ("APR-CON-015", "status: DISCHARGED", "status: PARTIAL_ALGORITHM_LEVEL\n    ship_blocking: true"),
    ("APR-CON-016", "test: cargo test -p kernels softmax::tests::sums_to_one", "test: make sure that the kernel is right"),
    ("APR-CON-016", "test: cargo test -p kernels softmax::tests::sums_to_one\n", "\n"),
    ("APR-CON-016", f"check: {_GATE}", "note: nothing runs"),
    ("APR-CON-017", "falsification_tests:", "kept_for_later:"),
    ("APR-CON-019", "falsified_by: [FALSIFY-TOY-001, FALSIFY-TOY-002]", "falsified_by: [FALSIFY-TOY-001, FALSIFY-TOY-022]"),
    ("APR-CON-020", "    if_fails: the model is weaker", "    restated_from: '0.84'\n    if_fails: the model is weaker"),
]  # fmt: skip


def linted(*paths: Path) -> _lint.LintReport:
    return _lint.lint(paths, resolve=_checks.problem)


def written(folder: Path, text: str, name: str = "c.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_healthy_contract_breaks_no_rule() -> None:
    report = linted(FIXTURES / "healthy.yaml")
    assert (report.findings, report.exit_code) == ((), 0)
    (row,) = report.contracts
    assert (row.n_checks, row.n_elsewhere, row.n_pending, row.n_unbound) == (3, 1, 0, 0)


def test_upstream_s_own_forms_break_no_rule() -> None:
    report = linted(FIXTURES / "upstream")
    assert report.findings == () and len(report.contracts) == 4
    assert sum(row.n_elsewhere for row in report.contracts) == 7 and sum(row.n_pending for row in report.contracts) == 1


def test_the_contracts_of_this_project_break_no_rule() -> None:
    report = linted(ROOT / "contracts")
    assert report.findings == () and report.contracts


@pytest.mark.parametrize(("rule", "before", "after"), PLANTED, ids=lambda v: v if str(v).startswith("APR-") else "")
def test_a_planted_defect_breaks_its_rule(rule: str, before: str, after: str, tmp_path: Path) -> None:
    assert HEALTHY.count(before) == 1, "the defect is not planted"
    report = linted(written(tmp_path, HEALTHY.replace(before, after)))
    assert {one.rule for one in report.findings} - _FOLLOWS.get(rule, set()) == {rule}
    assert all(one.line >= 1 and one.severity == RULES[rule].severity for one in report.findings if one.rule == rule)
    assert report.exit_code == (1 if RULES[rule].severity == "error" else 0)


# what a defect cannot help breaking besides
_FOLLOWS = {
    "APR-CON-002": {"APR-CON-004", "APR-CON-019"},  # a test without an id is not found by it
    "APR-CON-010": {"APR-CON-011"},  # a version that is none agrees with no entry
    "APR-CON-017": {"APR-CON-019"},  # criteria name tests that are not there
    "APR-CON-004": {"APR-CON-019"},
}


def test_every_rule_has_a_planted_defect() -> None:
    elsewhere = {"APR-CON-005", "APR-CON-018"}  # two files, no file: tests of their own
    assert {rule for rule, _, _ in PLANTED} | elsewhere == set(RULES)


def test_a_finding_names_the_line(tmp_path: Path) -> None:
    (finding,) = linted(written(tmp_path, HEALTHY.replace(_GATE, "{gate: nothing}"))).findings
    line = HEALTHY[: HEALTHY.index(_GATE)].count("\n") + 1
    assert (finding.line, finding.path) == (line, str(tmp_path / "c.yaml"))


def test_an_id_of_another_file_is_named_with_it(tmp_path: Path) -> None:
    written(tmp_path, HEALTHY, "a.yaml")
    written(
        tmp_path,
        HEALTHY.replace("id: toy-release", "id: another").replace("FALSIFY-TOY-001", "FALSIFY-NEW-001"),
        "b.yaml",
    )
    report = linted(tmp_path)
    assert {one.rule for one in report.findings} == {"APR-CON-005"} and len(report.findings) == 3
    assert all(one.path.endswith("b.yaml") and "a.yaml" in one.message for one in report.findings)


def test_one_file_given_twice_is_one_file(tmp_path: Path) -> None:
    path = written(tmp_path, HEALTHY)
    assert linted(path, path, tmp_path).findings == ()


def test_no_contract_at_all_is_an_error(tmp_path: Path) -> None:
    written(tmp_path, "not a contract", "readme.txt")
    report = linted(tmp_path)
    assert [one.rule for one in report.findings] == ["APR-CON-018"] and report.exit_code == 2


def test_a_path_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="no such file or folder"):
        linted(Path("/nowhere"))


def test_one_broken_file_does_not_hide_the_others(tmp_path: Path) -> None:
    written(tmp_path, "a: [", "a.yaml")
    written(tmp_path, HEALTHY, "b.yaml")
    report = linted(tmp_path)
    assert [row.id for row in report.contracts] == ["toy-release"]
    assert [one.rule for one in report.findings] == ["APR-CON-001"] and report.exit_code == 1


@pytest.mark.parametrize(
    "status", [*sorted(CONTRACT_STATUSES - {"DISCHARGED", "ACTIVE_WITH_LIVE_EVIDENCE"}), "enforced", "tracking"]
)
def test_every_status_word_of_upstream_is_known(status: str, tmp_path: Path) -> None:
    assert linted(written(tmp_path, HEALTHY.replace("status: ACTIVE\n", f"status: {status}\n"))).findings == ()


def test_a_changelog_that_is_written_downwards_is_understood(tmp_path: Path) -> None:
    text = HEALTHY.replace("version: 1.0.0", "version: 9.9.9").replace("version: 1.1.0", "version: 1.0.0")
    text = text.replace("version: 9.9.9", "version: 1.1.0").replace(
        "  version: 1.0.0\n  created", "  version: 1.1.0\n  created"
    )
    assert linted(written(tmp_path, text)).findings == ()


@pytest.mark.parametrize(
    "text",
    [
        "FALSIFY-TOY-004 dropped to PARTIAL",
        "removed the tolerance of FALSIFY-TOY-003",
        "FALSIFY-TOY-004 removed a step.",
    ],
)
def test_a_changelog_that_only_mentions_an_id_retires_nothing(text: str, tmp_path: Path) -> None:
    assert linted(written(tmp_path, HEALTHY.replace("Three promises.", text))).findings == ()


@pytest.mark.parametrize("odd", ["1.5", "{a: b}", "[[x]]", "~"])
def test_an_odd_list_of_retired_ids_retires_nothing(odd: str, tmp_path: Path) -> None:
    assert linted(written(tmp_path, HEALTHY.replace("[FALSIFY-TOY-000]", odd))).findings == ()


def test_evidence_beside_the_contract_is_found(tmp_path: Path) -> None:
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence" / "run.json").write_text("{}")
    (tmp_path / "contracts").mkdir()
    text = HEALTHY.replace("the run of 2026-05-10", "evidence/run.json")
    assert linted(written(tmp_path / "contracts", text)).findings == ()
