"""Evidence holds for what was tested, and for nothing else."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

import apr
from apr.ledger import _expiry, evidence
from apr.ledger.evidence import Store, Subject, contracts_now, expired, installed
from evidence_runs import CONTRACT, Promise, begin, finished, verdict

HERE: dict[str, str | None] = {CONTRACT.id: CONTRACT.sha256}


def test_evidence_holds_for_what_was_tested(store: Path, model: Path) -> None:
    finished(store, model)
    (entry,) = Store(store).entries()
    assert expired(entry, subject=Subject.of(model), contracts=HERE) is None


def test_evidence_expires_with_the_file_the_contract_and_the_engine(store: Path, model: Path) -> None:
    finished(store, model)
    (entry,) = Store(store).entries()
    now = Subject.of(model)

    def said(subject: Subject = now, contracts: dict[str, str | None] = HERE, native: str = apr.__version__) -> str:
        return expired(entry, subject=subject, contracts=contracts, engines={"native": native}) or ""

    assert said(replace(now, files={"model.gguf": "00" * 32}, tensors_sha256="00" * 32)).startswith("the model changed")
    assert "its tensors did not" in said(replace(now, files={"model.gguf": "00" * 32}))
    assert said(contracts={CONTRACT.id: "cd" * 32}).startswith("the contract qwen-ship-v1 changed")
    assert "is not here" in said(contracts={}) and "is not here" in said(contracts={CONTRACT.id: None})
    assert "major version differs" in said(native="1.0.0") and "major version differs" in said(native="0.2.0")
    assert said(native="0.1.7") == "" and said(replace(now, path="elsewhere")) == ""
    assert "is not here" in (expired(entry, subject=now, contracts=HERE, engines={}) or "")


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [("1.2.3", "1.9", True), ("1.2", "2.0", False), ("0.1.0", "0.2.0", False), ("0.1.0", "0.1.9", True), ("b1", "b1", True), ("b1", "b2", False), ("0", "0.0.1", True)],
)  # fmt: skip
def test_a_major_version_is_that_of_semantic_versioning(one: str, other: str, is_same: bool) -> None:
    assert (_expiry._major(one) == _expiry._major(other)) is is_same


def test_the_contracts_as_they_are_now_are_read_where_they_lay(store: Path, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "contract.yaml"
    path.write_text("promise: 1")
    promise = Promise(path=path, sha256=hashlib.sha256(b"promise: 1").hexdigest())
    evidence.finish(begin(store, model, contracts=[promise]), [verdict(contract=promise)])
    (entry,) = Store(store).entries()
    assert expired(entry, subject=Subject.of(model), contracts=contracts_now(entry)) is None
    path.write_text("promise: 0.5")
    assert "changed" in (expired(entry, subject=Subject.of(model), contracts=contracts_now(entry)) or "")
    path.unlink()
    assert contracts_now(entry) == {promise.id: None}


def test_an_engine_is_of_the_version_that_is_installed() -> None:
    assert installed("native") == installed("numpy") == apr.__version__ and installed("nobody") is None


def test_an_abandoned_run_never_held(store: Path, model: Path) -> None:
    evidence.abandon(begin(store, model))
    (entry,) = Store(store).entries()
    assert "abandoned" in (expired(entry, subject=Subject.of(model), contracts=HERE) or "")
