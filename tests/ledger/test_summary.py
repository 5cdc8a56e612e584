"""What is said about a store follows from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from apr.ledger._summary import EvidenceRun
from apr.ledger.evidence import Store, Subject
from evidence_runs import CONTRACT, finished, verdict


def test_a_run_is_counted_by_status(store: Path, model: Path) -> None:
    run = finished(store, model, verdict("A"), verdict("B", "fail"), verdict("C", "not_runnable"))
    said = EvidenceRun.of(Store(store).entry(run), subject=None)
    assert said.counts == {"pass": 1, "fail": 1, "undecided": 0, "error": 0, "not_runnable": 1}
    assert (said.result, said.contracts, said.model) == ("FAILED", (f"{CONTRACT.id} {CONTRACT.version}",), "model.gguf")
    assert said.expired is None and not said.is_signed


def test_only_evidence_about_a_model_is_found_for_it(store: Path, model: Path) -> None:
    finished(store, model)
    now = Subject.of(model)
    other = replace(now, name="other.gguf", files={"other.gguf": "00" * 32}, tensors_sha256="11" * 32)
    assert Store(store).entries(about=other) == []
    assert len(Store(store).entries(about=replace(now, name="renamed.gguf"))) == 1
    (changed,) = Store(store).entries(about=replace(other, name="model.gguf"))
    said = EvidenceRun.of(changed, subject=replace(other, name="model.gguf")).expired
    assert said is not None and said.startswith("the model changed")
