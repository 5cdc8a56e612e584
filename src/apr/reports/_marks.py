"""The mark and the colour of each word by which a check, a test or a promise is said to stand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from apr.reports._style import Style

if TYPE_CHECKING:
    from apr.ledger._statement import Status as TestStatus
    from apr.ledger.ship import Status as ShipStatus
    from apr.ledger.standing import Word
    from apr.qa.gate import Status as GateStatus

MARKS: Mapping[TestStatus | Word | ShipStatus | GateStatus, tuple[str, Style]] = {
    "pass": ("✓", "green"),
    "discharged": ("✓", "green"),
    "fail": ("✗", "red"),
    "failed": ("✗", "red"),
    "blocked": ("⊘", "red"),
    "undecided": ("?", "yellow"),
    "expired": ("?", "yellow"),
    "partial": ("?", "yellow"),
    "error": ("!", "red"),
    "skip": ("-", "dim"),
    "not_runnable": ("-", "dim"),
    "not_run": ("-", "dim"),
}
