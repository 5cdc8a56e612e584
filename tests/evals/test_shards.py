"""Shards of a Ray cluster say what one process says, and outlive a worker that is killed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import tiny
from apr.engines._subject import Subject
from apr.errors import EngineError, MissingDependency
from apr.evals import _shards
from apr.evals._asking import Question, asking
from apr.evals._options import Options
from apr.hub import digest

QUESTIONS = [Question(f"q{i}", f"question {i}", "raw" if i % 2 else "chat", 8, 0.0, i) for i in range(9)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("m"), "gguf")


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependency, match=r"apr\[ray\]"):
        _shards.sharded(Options(model=str(model), shards=2), model_sha256="")


def test_answers_of_another_file_are_refused() -> None:
    with pytest.raises(EngineError, match="do not hold the same file"):
        list(_shards._checked(iter([("a", {"model_sha256": "1"})]), "2"))


def test_batches_are_all_of_it_in_order() -> None:
    batches = _shards._batches(QUESTIONS, 4)
    assert [len(batch) for batch in batches] == [4, 4, 1] and [q for batch in batches for q in batch] == QUESTIONS


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_two_shards_say_what_one_process_says_though_a_worker_is_killed(model: Path) -> None:
    pytest.importorskip("ray")
    with Subject.of(model, threads=1, activations="int8") as subject:
        sha256 = digest.of_files(subject.file.files)
        alone = dict(asking(subject.language_model, batch_size=1)(QUESTIONS))
    found: dict[str, tuple[int, ...]] = {}
    workers: list[int] = []
    options = Options(model=str(model), shards=2, batch_size=2, threads=1)
    for item, record in _shards.sharded(options, model_sha256=sha256)(QUESTIONS):
        assert item not in found, "counted twice"
        found[item] = record["output_token_ids"]
        if len(found) == 1:
            workers = _descendants(lambda command: command.startswith(b"ray::Shard"))
            os.kill(workers[0], signal.SIGKILL)
    assert len(workers) == 2
    assert found == {item: record["output_token_ids"] for item, record in alone.items()}


def _descendants(is_wanted: Callable[[bytes], bool]) -> list[int]:
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and is_wanted((process / "cmdline").read_bytes()) and _is_ours(int(process.name)):
                found.append(int(process.name))
        except OSError:
            continue
    return sorted(found)


def _is_ours(pid: int) -> bool:
    while pid > 1 and pid != os.getpid():
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid == os.getpid()
