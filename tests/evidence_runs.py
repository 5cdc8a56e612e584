"""Runs of evidence for the tests: a contract that is no more than its hash, and what a check would have found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from apr.ledger import evidence
from apr.ledger._statement import Status, Tested


@dataclass(frozen=True)
class Promise:
    """What evidence needs of a contract."""

    id: str = "qwen-ship-v1"
    version: str = "1.2.0"
    sha256: str = "ab" * 32
    path: Path = Path("contracts/qwen-ship-v1.yaml")


CONTRACT = Promise()


def verdict(name: str = "SHIP-001", status: Status = "pass", *, contract: Promise = CONTRACT) -> Tested:
    """A verdict with every field filled."""
    return Tested(
        id=name,
        contract_id=contract.id,
        contract_sha256=contract.sha256,
        status=status,
        sentence=f"the score is 0.84, the promise 0.80: {status}",
        command=("apr", "eval", "model.gguf", "--task", "humaneval"),
        observed={"scores[0].value": 0.84},
        interval=(0.77, 0.9),
        document={"schema": "apr.eval/1", "scores": [{"value": 0.84, "interval": [0.77, 0.9]}], "n": 164, "none": None},
        seconds=1.5,
    )


def begin(folder: Path, model: Path, *, contracts: Sequence[Promise] = (CONTRACT,)) -> evidence.Pending:
    """A run that was begun."""
    return evidence.begin(folder, model=model, contracts=contracts, command=["apr", "verify", str(model)])


def finished(folder: Path, model: Path, *tests: Tested) -> str:
    """A run from its beginning to its end; its id."""
    pending = begin(folder, model)
    evidence.finish(pending, tests or (verdict(),))
    return pending.id
