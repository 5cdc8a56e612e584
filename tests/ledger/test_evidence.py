"""What was reported is there, whatever kills its writer; and evidence holds only for what was tested."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import apr
import tiny
from apr.errors import FormatError, HostileFile, UsageError
from apr.ledger import _index, _noted, _statement, evidence
from apr.ledger.evidence import Store, Subject
from evidence_runs import CONTRACT, Promise, begin, finished, verdict


def test_a_run_is_there_with_all_that_was_known(store: Path, model: Path) -> None:
    tests = (verdict("A"), verdict("B", "fail"))
    run = finished(store, model, *tests)
    (entry,) = Store(store).entries()
    record = entry.record
    assert entry.row.id == run == record.begun.id and record.tests == tests and record.ended == "finished"
    assert record.begun.model == Subject.of(model) and record.begun.command == ("apr", "verify", str(model))
    assert record.begun.contracts[0].sha256 == CONTRACT.sha256 and record.begun.versions["apr"] == apr.__version__
    assert record.begun.machine["cores"] and record.begun.started_at <= record.finished_at
    assert Store(store).entry(run) == entry and not entry.is_signed
    assert sorted(path.name for path in store.iterdir()) == [
        ".lock",
        "head.json",
        "index.jsonl",
        "pending",
        "statements",
    ]
    assert list((store / "pending").iterdir()) == []


def test_what_is_fixed_is_on_the_disk_before_anything_runs(store: Path, model: Path) -> None:
    pending = begin(store, model)
    written = json.loads((store / "pending" / f"{pending.id}.json").read_text())
    assert written == _statement.plain(pending.begun) and written["contracts"][0]["sha256"] == CONTRACT.sha256
    assert Store(store).entries() == []


def test_the_reference_is_recorded_and_is_no_subject(store: Path, model: Path, tmp_path: Path) -> None:
    original = tiny.write(tmp_path / "original", "safetensors")
    pending = evidence.begin(store, model=model, reference=original, contracts=[CONTRACT], command=["x"])
    statement = json.loads(evidence.finish(pending, [verdict()]).read_text())
    digest = Subject.of(original).tensors_sha256
    assert pending.begun.reference is not None and pending.begun.reference.tensors_sha256 == digest
    assert digest in [d["digest"]["sha256"] for d in statement["predicate"]["configuration"]]
    assert digest not in [s["digest"]["sha256"] for s in statement["subject"]]


def test_a_contract_that_changed_between_is_refused(store: Path, model: Path) -> None:
    pending = begin(store, model)
    with pytest.raises(UsageError, match="the contract changed"):
        evidence.finish(pending, [verdict(contract=replace(CONTRACT, sha256="cd" * 32))])
    with pytest.raises(UsageError, match="none of that"):
        evidence.finish(pending, [verdict(contract=Promise(id="another"))])


def test_a_model_that_changed_while_it_was_tested_is_refused(store: Path, model: Path) -> None:
    pending = begin(store, model)
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.write_bytes(data)
    with pytest.raises(HostileFile, match="changed while it was tested"):
        evidence.finish(pending, [verdict()])
    evidence.abandon(pending)
    assert Store(store).verify() == []


def test_what_was_fixed_cannot_be_changed_while_it_runs(store: Path, model: Path) -> None:
    pending = begin(store, model)
    path = store / "pending" / f"{pending.id}.json"
    path.write_text(path.read_text().replace(CONTRACT.sha256, "cd" * 32))
    with pytest.raises(HostileFile, match="was changed or removed while it ran"):
        evidence.finish(pending, [verdict()])


def test_a_test_has_one_verdict_in_a_run(store: Path, model: Path) -> None:
    with pytest.raises(UsageError, match="a test twice"):
        evidence.finish(begin(store, model), [verdict("A"), verdict("A", "fail")])


@pytest.mark.parametrize("contracts", [(), (CONTRACT, CONTRACT)])
def test_a_run_is_about_contracts_each_once(store: Path, model: Path, contracts: tuple[Promise, ...]) -> None:
    with pytest.raises(UsageError, match="contract"):
        begin(store, model, contracts=contracts)


def test_what_is_no_model_leaves_no_store(store: Path, tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"no model")
    with pytest.raises(FormatError):
        begin(store, tmp_path / "x.gguf")
    assert not store.exists()


def test_nothing_is_begun_in_a_damaged_store(store: Path, model: Path) -> None:
    finished(store, model)
    (store / "index.jsonl").write_bytes(b"")
    with pytest.raises(FormatError, match="nothing is added to a damaged index"):
        begin(store, model)


def test_a_disk_that_is_full_leaves_no_half_statement(
    store: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pending = begin(store, model)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            evidence.finish(pending, [verdict()])
    assert list((store / "statements").iterdir()) == [] and Store(store).under_way() == [pending.id]
    evidence.finish(pending, [verdict()])
    assert Store(store).verify() == []


def test_an_abandoned_run_stays_in_the_index(store: Path, model: Path) -> None:
    evidence.abandon(begin(store, model))
    (entry,) = Store(store).entries()
    assert entry.record.ended == "abandoned" and entry.record.result == "FAILED" and entry.record.tests == ()
    assert Store(store).verify() == []


def test_a_run_that_died_can_be_closed_and_one_under_way_cannot(store: Path, model: Path) -> None:
    pending = begin(store, model)
    with pytest.raises(UsageError, match="under way"):
        Store(store).close(pending.id)
    os.close(pending._lock)
    Store(store).close(pending.id)
    assert Store(store).entries()[0].record.ended == "abandoned" and Store(store).verify() == []
    with pytest.raises(UsageError, match=r"no run .* is unfinished"):
        Store(store).close(pending.id)


def died(store: Path, model: Path, *tests: Any) -> str:
    """A run whose process died after these tests were reported."""
    pending = begin(store, model)
    for test in tests:
        evidence.note(pending, test)
    os.close(pending._lock)
    return pending.id


def test_closing_keeps_what_a_killed_run_had_reported(store: Path, model: Path) -> None:
    run = died(store, model, verdict("A"), verdict("B", "fail"))
    (problem,) = Store(store).verify()
    assert problem.kind == "unfinished" and "2 of its tests were reported, which closing it keeps" in problem.sentence
    Store(store).close(run)
    (entry,) = Store(store).entries()
    assert (entry.record.ended, entry.record.tests) == ("abandoned", (verdict("A"), verdict("B", "fail")))
    assert Store(store).verify() == [] and list((store / "pending").iterdir()) == []
    assert evidence.expired(entry, subject=evidence.Subject.of(model), contracts={CONTRACT.id: CONTRACT.sha256}) is None


def test_a_line_that_was_cut_off_was_not_reported_and_a_strange_one_is_refused(store: Path, model: Path) -> None:
    run = died(store, model, verdict("A"), verdict("B"))
    path = _noted.path_of(store, run)
    path.write_bytes(path.read_bytes()[:-9])
    assert [test.id for test in _noted.read(store, run)] == ["A"]
    path.write_bytes(b"[]\n")
    with pytest.raises(FormatError, match="line 1 is no test"):
        Store(store).close(run)


def test_what_was_noted_of_a_model_that_is_another_now_is_not_kept(store: Path, model: Path) -> None:
    run = died(store, model, verdict("A"))
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.write_bytes(data)
    Store(store).close(run)
    (entry,) = Store(store).entries()
    assert entry.record.tests == ()


def test_closing_lists_a_statement_that_was_written_and_not_listed(store: Path, model: Path) -> None:
    pending = begin(store, model)
    content = _statement.make(pending.begun, [verdict()], finished_at="2026-01-02T03:04:05Z", ended="finished")
    _index.statement_path(store, pending.id).write_bytes(content)
    os.close(pending._lock)
    assert [problem.kind for problem in Store(store).verify()] == ["unfinished"]
    Store(store).close(pending.id)
    assert Store(store).entry(pending.id).record.result == "PASSED" and Store(store).verify() == []


def test_entries_that_are_not_as_listed_are_refused(store: Path, model: Path) -> None:
    run = finished(store, model)
    path = _index.statement_path(store, run)
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(FormatError, match="is not what row 1 of the index lists; next: apr evidence verify"):
        Store(store).entries()
    with pytest.raises(UsageError, match="no run"):
        Store(store).entry("20260102T030405Z-0a1b2c3d")


def test_the_export_has_a_line_a_run(store: Path, model: Path, tmp_path: Path) -> None:
    runs = [finished(store, model) for _ in range(3)]
    assert Store(store).export(tmp_path / "all.jsonl") == 3
    lines = (tmp_path / "all.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        json.loads(_index.statement_path(store, run).read_text()) for run in runs
    ]


def test_many_writers_at_once_make_one_chain(store: Path, model: Path) -> None:
    Subject.of(model)
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda _: finished(store, model), range(16)))
    assert Store(store).verify() == [] and {entry.row.id for entry in Store(store).entries()} == set(runs)


# forks writers and has them killed; a writer says on the same pipe which run it has finished, whole lines at once
KILLER = """
import os, random, signal, sys, time
from pathlib import Path
from typing import Any
from evidence_runs import finished, verdict
store, model, how = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]

def report():
    os.write(1, (finished(store, model, verdict("A"), verdict("B", "fail")) + "\\n").encode())

def kill_at(step):
    "Just before the file operation of that number in the store."
    count = 0
    def hook(event, arguments):
        nonlocal count
        if (event == "open" or event.startswith(("os.", "fcntl."))) and any(str(store) in str(a) for a in arguments):
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)

report()  # everything is imported
when = random.Random(7)
for step in range(1, 10_000):
    writer = os.fork()
    if writer == 0:
        if how == "stepwise":
            kill_at(step)
            report()
            os._exit(0)
        while True:
            report()
    if how == "random":
        time.sleep(when.uniform(0.0, 0.25))
        os.kill(writer, signal.SIGKILL)
    print("killed" if os.waitpid(writer, 0)[1] else "done", flush=True)
    if not sys.stdin.readline():
        break
"""
KILLS = int(os.environ.get("APR_TEST_KILLS", "16"))


def look(store: Path, reported: list[str]) -> int:
    """Hold a store against what was reported after a kill; how many runs it calls unfinished, which are then closed."""
    found = Store(store).verify()
    assert {problem.kind for problem in found} <= {"unfinished", "index_half_row"}, found
    names = [Path(problem.where).stem for problem in found if problem.kind == "unfinished"]
    assert len(names) <= 1 and not set(names) & set(reported)
    listed = [entry.row.id for entry in Store(store).entries()]
    assert [run for run in listed if run in set(reported)] == reported
    for run in names:
        Store(store).close(run)
    return len(names)


def killed(store: Path, model: Path, how: str, *, most: int) -> tuple[list[str], list[tuple[str, int]]]:
    """What was reported, and of each writer whether it was killed and how many runs it left unfinished."""
    Subject.of(model)  # remembered, so that a writer spends its time on writing
    path = os.pathsep.join(filter(None, sys.path))
    reported: list[str] = []
    outcomes: list[tuple[str, int]] = []
    command = [sys.executable, "-c", KILLER, str(store), str(model), how]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=os.environ | {"PYTHONPATH": path}) as killer:
        assert killer.stdout is not None and killer.stdin is not None
        for line in killer.stdout:
            if (said := line.rstrip("\n")) not in ("killed", "done"):
                reported.append(said)
                continue
            outcomes.append((said, look(store, reported)))
            if said == "done" or len(outcomes) == most:
                break
            killer.stdin.write("next\n")
            killer.stdin.flush()
        killer.stdin.close()
    return reported, outcomes


def test_sigkill_at_a_random_moment_loses_nothing_that_was_reported(store: Path, model: Path) -> None:
    reported, outcomes = killed(store, model, "random", most=KILLS)
    assert Store(store).verify() == [] and len(outcomes) == KILLS
    assert {said for said, _ in outcomes} == {"killed"} and {n for _, n in outcomes} == {0, 1} and reported


def test_sigkill_before_each_file_operation_leaves_a_store_that_says_what_happened(store: Path, model: Path) -> None:
    reported, outcomes = killed(store, model, "stepwise", most=200)
    assert Store(store).verify() == [] and len(reported) == 2
    assert outcomes[-1] == ("done", 0) and len(outcomes) > 15  # so many operations on files has a run
    assert set(outcomes[:-1]) == {("killed", 0), ("killed", 1)}
