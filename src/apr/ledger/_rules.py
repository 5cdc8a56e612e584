"""What `apr contract lint` holds a contract to: every rule, its id and what it means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Rule:
    """id: never reused for another rule; meaning: in one line."""

    id: str
    severity: Severity
    meaning: str


RULES = {
    rule.id: rule
    for rule in (
        Rule("APR-CON-001", "error", "the file is a contract: YAML, UTF-8, one mapping, of a contract's size"),
        Rule("APR-CON-002", "error", "fields have their types; a falsification test has an id, and a prediction or rule"),
        Rule("APR-CON-003", "error", "no key stands twice in a mapping: the later one would replace the earlier in silence"),
        Rule("APR-CON-004", "error", "an id stands once in its file"),
        Rule("APR-CON-005", "error", "an id belongs to one file"),
        Rule("APR-CON-006", "error", "an id that the changelog retired is not used again"),
        Rule("APR-CON-007", "error", "a check has the form of one, and names a gate, link or command that is there"),
        Rule("APR-CON-008", "error", "a check's arguments are those of its command, and it writes into {scratch} alone"),
        Rule("APR-CON-009", "error", "a check looks at {model}, and expects something"),
        Rule("APR-CON-010", "error", "the version is MAJOR.MINOR.PATCH"),
        Rule("APR-CON-011", "error", "the newest entry of the changelog is of the contract's version, and versions go up"),
        Rule("APR-CON-012", "error", "a status is one of the known words"),
        Rule("APR-CON-013", "error", "what is called discharged names its evidence"),
        Rule("APR-CON-014", "error", "evidence that is named as a file is there"),
        Rule("APR-CON-015", "error", "what is shown only in part blocks, and says what is missing"),
        Rule("APR-CON-016", "error", "a test binds to something that runs; prose does not"),
        Rule("APR-CON-017", "error", "a contract has a falsification test: without one it promises nothing"),
        Rule("APR-CON-018", "error", "there is a contract to look at"),
        Rule("APR-CON-019", "error", "an acceptance criterion names falsification tests that are there"),
        Rule("APR-CON-020", "warning", "a bar that was restated says why"),
    )
}  # fmt: skip

# 3.6 of the specification lists what was found in files; there is no single enumeration upstream
CONTRACT_STATUSES = frozenset({
    "DRAFT", "PROPOSED", "ACTIVE", "ACTIVE_ALGORITHM_LEVEL", "ACTIVE_FUNCTIONAL", "ACTIVE_WITH_LIVE_EVIDENCE", "FUNCTIONAL",
    "IMPLEMENTED", "DISCHARGED", "FALSIFIED", "ENFORCED", "TRACKING", "DEPRECATED", "PARTIAL_ALGORITHM_LEVEL",
})  # fmt: skip
TEST_STATUSES = frozenset({
    "UNBOUND", "PARTIAL", "PARTIAL_ALGORITHM_LEVEL", "INTEGRATION", "FUNCTIONAL", "DISCHARGED", "LIVE_DISCHARGED",
    "STRUCTURALLY_DISCHARGED", "BLOCKED", "BLOCKER_FIXTURE_ABSENT", "LIVE_PENDING", "FALSIFIED",
})  # fmt: skip
NEEDS_EVIDENCE = frozenset({"DISCHARGED", "LIVE_DISCHARGED", "STRUCTURALLY_DISCHARGED", "ACTIVE_WITH_LIVE_EVIDENCE"})
IN_PART = frozenset({"PARTIAL", "PARTIAL_ALGORITHM_LEVEL"})
EXEMPT_KINDS = frozenset(
    {"registry", "model-family", "pattern", "schema"}
)  # upstream: these promise nothing by themselves


def word(status: str) -> str:
    """A status as the tables spell it: of `LIVE-DISCHARGED (2026-05-10)`, LIVE_DISCHARGED."""
    return status.split("(")[0].split(":")[0].strip().upper().replace("-", "_").replace(" ", "_")
