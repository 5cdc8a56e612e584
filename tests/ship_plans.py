"""Plans, contracts and evidence of a small release, as the tests of `apr ship` need them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tiny
from apr.ledger import contract as contracts
from apr.ledger import evidence, ship
from apr.ledger._statement import Status
from apr.ledger.evidence import Tested

CONTRACT = """
metadata: {id: small, version: 1.0.0, status: PROPOSED, description: d, changelog: [{version: 1.0.0, changes: c}]}
acceptance_criteria:
  - {id: AC-1, statement: it loads, falsified_by: [F-1, F-2]}
falsification_tests:
  - {id: F-1, prediction: it can be read, if_fails: convert it anew, check: {command: "inspect {model}", expect: {path: format, equals: gguf}}}
  - {id: F-2, prediction: it is sound, check: {command: "validate {model}", expect: {path: verdict, equals: pass}}}
  - {id: F-3, prediction: it solves problems, check: {command: "eval {model} --task humaneval --out {scratch}/a", expect: {path: "scores[0].value", at_least: 0.4}}}
  - {id: F-4, prediction: it is the original's, check: {link: weights}}
"""
PLAN = """
models:
  - id: M
    model: model.gguf
    reference: original
    contract: small.yaml
    criteria:
      - {id: AC-1}
      - {id: AC-2, check: F-3, weight: 2, needs: [AC-1]}
      - {id: AC-3, check: F-4, blocking: false}
"""
ALL: Mapping[str, Status] = {"F-1": "pass", "F-2": "pass", "F-3": "pass", "F-4": "pass"}


def scores(value: float) -> dict[str, Any]:
    """What `apr eval` leaves."""
    score = {
        "name": "pass@1",
        "regime": "chat",
        "value": value,
        "interval": [round(value - 0.08, 2), round(value + 0.08, 2)],
        "n": 164,
    }
    return {"schema": "apr.eval/1", "task": "humaneval", "scores": [score]}


def make(folder: Path, *, plan: str = PLAN) -> Path:
    """A release with nothing tested: the plan's path."""
    (folder / "small.yaml").write_text(CONTRACT, encoding="utf-8")
    (folder / "ship.yaml").write_text(plan, encoding="utf-8")
    tiny.write(folder, "gguf")
    tiny.write(folder / "original", "safetensors")
    return folder / "ship.yaml"


def ran(
    folder: Path,
    outcomes: Mapping[str, Status] = ALL,
    *,
    model: Path | None = None,
    reference: Path | None = None,
    score: float = 0.55,
) -> Path:
    """A run of some of its tests with these outcomes: the statement."""
    promise = contracts.read(folder / "small.yaml")
    pending = evidence.begin(
        folder / "evidence",
        model=model or folder / "model.gguf",
        contracts=[promise],
        command=("apr", "contract", "verify"),
        reference=reference or folder / "original",
    )
    found = [
        Tested(
            name, promise.id, promise.sha256, status, f"{name} is {status}", ("apr", "x", "--json"), {}, None,
            scores(score) if name == "F-3" else {}, 1.0,
        )
        for name, status in outcomes.items()
    ]  # fmt: skip
    return evidence.finish(pending, found)


def report(folder: Path) -> ship.ShipReport:
    """How it stands."""
    return ship.ship(ship.read(folder / "ship.yaml"), folder=folder / "evidence", resolve=Path)


def statuses(folder: Path) -> dict[str, str]:
    """By criterion."""
    return {one.id: one.status for one in report(folder).models[0].criteria}
