"""Questions answered by several processes of a Ray cluster, dealt round-robin; each loads the model once.

A worker that dies is started again and asked again what it had not answered. Answers come back one batch at a time, and
only this process writes them down, so nothing is lost or counted twice.

A Ray cluster asks nobody for a password, and listens on every address of the machine: who reaches it can run code there.
The one that is started here has no dashboard, and ends with the evaluation.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from apr.engines._language_model import default_threads
from apr.engines._subject import Subject
from apr.errors import EngineError, MissingDependency
from apr.evals._asking import Ask, Question, Record, asking, round_robin
from apr.evals._options import Options

_RESTARTS = 3  # of one shard; a question that kills its worker each time must come to an end
_OBJECT_STORE_BYTES = 128 << 20  # answers are small; the default takes a third of the memory


class Shard:
    """A model in a process of its own."""

    def __init__(self, model: str, *, threads: int, activations: Any, batch_size: int) -> None:
        self._subject = Subject.of(model, threads=threads, activations=activations)
        self._batch_size = batch_size

    def answers(self, questions: Sequence[Question]) -> list[tuple[str, Record]]:
        """The run records of some questions, each with its question's id."""
        ask = asking(self._subject.language_model, batch_size=self._batch_size)
        return list(ask(questions))

    def process_id(self) -> int:
        """The process, for whoever wants to see that it may die."""
        return os.getpid()


def sharded(options: Options, *, model_sha256: str) -> Ask:
    """Ask `options.shards` workers. Raises MissingDependency without Ray, EngineError if a worker gives up.

    model_sha256:  every answer must come from this very file, wherever the worker found it
    """
    ray = _ray()

    def ask(questions: Sequence[Question]) -> Iterator[tuple[str, Record]]:
        with _cluster(ray, options):
            yield from _checked(_answers(ray, questions, options), model_sha256)

    return ask


def _answers(ray: ModuleType, questions: Sequence[Question], options: Options) -> Iterator[tuple[str, Record]]:
    """Every shard works on one batch at a time; it gets its next one when that is back."""
    threads = options.threads or max(1, default_threads() // options.shards)
    made = ray.remote(num_cpus=0, max_restarts=_RESTARTS, max_task_retries=_RESTARTS)(Shard)
    left = [_batches(dealt, options.batch_size) for dealt in round_robin(questions, options.shards)]
    left = [batches for batches in left if batches]
    workers: list[Any] = [
        made.remote(options.model, threads=threads, activations=options.activations, batch_size=options.batch_size)
        for _ in left
    ]
    waiting = {
        worker.answers.remote(batches.pop(0)): i for i, (worker, batches) in enumerate(zip(workers, left, strict=True))
    }
    while waiting:
        (done, *_), _ = ray.wait(list(waiting), num_returns=1)
        i = waiting.pop(done)
        try:
            found = ray.get(done)
        except ray.exceptions.RayTaskError as exc:
            raise exc.cause if isinstance(exc.cause, Exception) else EngineError(f"shard {i}: {exc}") from exc
        except ray.exceptions.RayError as exc:
            raise EngineError(f"shard {i} died {_RESTARTS + 1} times; what was answered is kept: {exc}") from exc
        if left[i]:
            waiting[workers[i].answers.remote(left[i].pop(0))] = i
        yield from found


def _batches(questions: Sequence[Question], size: int) -> list[list[Question]]:
    return [list(questions[at : at + size]) for at in range(0, len(questions), size)]


def _checked(answers: Iterator[tuple[str, Record]], model_sha256: str) -> Iterator[tuple[str, Record]]:
    for item, record in answers:
        if record["model_sha256"] != model_sha256:
            raise EngineError(
                f"{item} was answered by a model with SHA-256 {record['model_sha256']}, {model_sha256} was asked: "
                "the cluster's machines do not hold the same file"
            )
        yield item, record


@contextlib.contextmanager
def _cluster(ray: ModuleType, options: Options) -> Iterator[None]:
    """A running cluster, joined; or one on this machine, ended afterwards."""
    if ray.is_initialized():  # the caller's own
        yield
        return
    path = os.pathsep.join(filter(None, [_source_folder(), os.environ.get("PYTHONPATH")]))
    common: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": "error",
        "runtime_env": {"env_vars": {"PYTHONPATH": path}},
    }
    if options.ray_address is not None:
        ray.init(address=options.ray_address, **common)
    else:
        ray.init(
            num_cpus=max(1, options.shards),
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE_BYTES,
            **common,
        )
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what Ray says of a worker that died is no result
            yield
    finally:
        ray.shutdown()


def _source_folder() -> str:
    """Where `apr` is, for a worker on this machine that was started elsewhere."""
    import apr

    return os.path.dirname(os.path.dirname(os.path.abspath(apr.__file__)))  # noqa: PTH100, PTH120


def _ray() -> ModuleType:
    try:
        import ray
        import ray.exceptions
    except ImportError as exc:
        raise MissingDependency("ray", extra="ray") from exc
    module: ModuleType = ray
    return module
