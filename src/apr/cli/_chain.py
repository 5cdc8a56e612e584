"""What `apr parity` and `apr why` share: two subjects on the command line, the link under test on stderr, the page."""

from __future__ import annotations

import contextlib
import json as _json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from apr.cli import _progress
from apr.cli._options import complete_subject
from apr.errors import UsageError

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

    from apr.engines._base import Activations
    from apr.parity._link import LinkResult
    from apr.parity._report import ParityReport, WhyReport

RECORD_SCHEMA = "apr.run/1"
_EXITS = {"same": 0, "different": 1, "not_comparable": 5, "cannot_tell": 5}
_NO_PAGE = 2
_LONGEST_RECORD = 256 * 1024 * 1024  # bytes; a longer file is no record of one run
_PAGES = (".html", ".htm")

reference_argument = click.argument("reference", metavar="A", shell_complete=complete_subject)
candidate_argument = click.argument("candidate", metavar="B", shell_complete=complete_subject)
html_option = click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the report as one HTML page too.",
)
fast_option = click.option(
    "--fast",
    "activations",
    flag_value="int8",
    default="float32",
    help="Compute with 8-bit activations, as `apr run` does: quicker, and a wider noise floor.",
)
seed_option = click.option("--seed", type=int, default=0, show_default=True, help="Of what is drawn at random.")


def check_page(path: Path | None, *, option: str = "--html", endings: tuple[str, ...] = _PAGES) -> None:
    """Raise UsageError, before minutes of work, for a page that could not be written, or a file that is no page."""
    if path is None:
        return
    if not path.parent.is_dir():
        raise UsageError(f"{option} {path}: {path.parent} is not a folder; create it first")
    if path.suffix.lower() not in endings and path.exists():
        raise UsageError(f"{option} {path}: that file is there and is no page; give a name that ends in {endings[0]}")


def check_folder(*paths: Path | None) -> None:
    """Raise UsageError, before minutes of work, for a file that could not be written."""
    for path in paths:
        if path is not None and not path.parent.is_dir():
            raise UsageError(f"{path}: {path.parent} is not a folder; create it first")


def written(
    report: Any, *wanted: tuple[Path | None, Callable[[Any, Path], None]], option: str = "", what: str = "report"
) -> int:
    """Write what else is asked for of a report, which took minutes: the answer is out before anything can fail. The exit code.

    wanted:  where, and by what
    option:  that asked for it, where an error should name it
    """
    from apr.reports import text

    sys.stdout.flush()
    exit_code: int = report.exit_code
    for path, save in wanted:
        if path is None:
            continue
        try:
            save(report, path)
            click.echo(text.written_line(path, what=what), err=True)
        except (OSError, UsageError) as exc:
            click.echo(text.problem(f"{option} {path}: {exc}".lstrip()), err=True)
            exit_code = _NO_PAGE
    return exit_code


def fetch(*subjects: str) -> None:
    """Have every subject's file here, pulled with a bar if it is not. Raises HubError for a name that nobody knows."""
    from apr import hub
    from apr.engines._subject import Subject

    with _progress.downloading() as download:
        for text in subjects:
            subject = Subject.of(text)
            if not subject.is_endpoint:
                hub.resolve(subject.reference, progress=download)


def are_records(reference: str, candidate: str) -> bool:
    """Whether both sides are run records. Raises UsageError if one is and the other is not."""
    first, second = is_record(reference), is_record(candidate)
    if first != second:
        record, other = (reference, candidate) if first else (candidate, reference)
        raise UsageError(f"{record} is a run record and {other} is not; give two records, or two models")
    return first


def is_record(path: str) -> bool:
    """Whether a file is a run record, as `apr run --record` keeps it."""
    file = Path(path)
    try:
        if file.suffix.lower() != ".json" or not file.is_file() or file.stat().st_size > _LONGEST_RECORD:
            return False
        found = _json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("schema") == RECORD_SCHEMA


def parity_of_records(reference: Path, candidate: Path, *, under_test: Sequence[str]) -> ParityReport:
    """Two kept runs as a report of one link: their figures are its measure."""
    from apr._plain import plain
    from apr.parity._link import Finding, LinkResult
    from apr.parity.records import compare_records

    started = time.perf_counter()
    found = compare_records(reference, candidate, under_test=under_test)
    place = {"position": found.first_divergence} if found.first_divergence is not None else {}
    findings = (Finding(found.cause, found.sentence, place),) if found.cause and found.verdict == "different" else ()
    result = LinkResult("generation", found.verdict, found.sentence, {"records": plain(found)}, findings)
    return _of_one_link(str(reference), str(candidate), result, started)


def is_saved_predictions(path: str) -> bool:
    """Whether a file holds predictions that llama.cpp saved (`llama-perplexity --kl-divergence-base`)."""
    from apr.parity._kld_base import is_base

    return Path(path).is_file() and is_base(Path(path))


def check_no_predictions(*subjects: str) -> None:
    """Raise UsageError for saved predictions in the place of a model."""
    for subject in filter(is_saved_predictions, subjects):
        raise UsageError(
            f"{subject} holds predictions that llama.cpp saved, and no model; next: apr parity {subject} MODEL"
        )


def parity_with_predictions(
    base: Path,
    candidate: str,
    *,
    chunks: int | None,
    seed: int,
    progress: Callable[[str, float], None] | None,
    threads: int | None,
    activations: Activations,
) -> ParityReport:
    """A model against saved predictions, as a report of one link."""
    from apr.engines._subject import Subject
    from apr.parity import _kld_base, _kld_statistics

    started = time.perf_counter()
    saved = _kld_base.read(base)
    with Subject.of(candidate, threads=threads, activations=activations) as subject:
        found = _kld_statistics.compare(saved, subject, chunks=chunks, seed=seed, progress=progress)
        result = _kld_statistics.link(saved, subject, found)
    return _of_one_link(str(base), candidate, result, started)


def _of_one_link(reference: str, candidate: str, result: LinkResult, started: float) -> ParityReport:
    from apr.parity._report import ParityReport

    seconds = time.perf_counter() - started
    exit_code = _EXITS[result.verdict]
    return ParityReport(
        reference, candidate, result.verdict, result.is_benign, (replace(result, seconds=seconds),), seconds, exit_code
    )


@contextlib.contextmanager
def testing(doing: str = "comparing") -> Iterator[Callable[[str, float], None] | None]:
    """What a comparison reports to: the link or gate under test, and the share that is done. None where nobody looks."""
    if not _progress._is_shown("normal"):
        yield None
        return
    line = _Line(doing)
    try:
        yield line.show
    finally:
        line.close()


def finish(report: ParityReport | WhyReport, said: str, *, as_json: bool, html: Path | None) -> int:
    """Print the result, write the page; the exit code."""
    from apr.reports import json

    click.echo(json.dumps(report) if as_json else said)
    if html is None:
        return report.exit_code
    from apr.reports import html as pages

    return written(report, (html, pages.save), option="--html")


class _Line:
    """One line that says what is being compared, drawn once the work takes long enough to wonder; gone at the end."""

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._phase, self._done = "", 0.0
        self._is_due, self._is_over = False, False
        self._bars: Bars | None = None
        self._task: Any = None
        self._lock = threading.Lock()  # a link may report from the threads that it works with
        # a link may be silent for a minute after it has said its name
        self._timer = threading.Timer(_progress._SHOW_AFTER_S, self._begin)
        self._timer.daemon = True
        self._timer.start()

    def show(self, phase: str, done: float) -> None:
        """Say what is being done, and the share of it that is done."""
        from apr.reports.text import visible

        with self._lock:
            is_new = visible(phase) != self._phase
            self._phase, self._done = visible(phase), min(1.0, max(0.0, done))
            if self._is_due and not self._is_over:
                self._draw(is_new=is_new)

    def close(self) -> None:
        """Wipe the line."""
        self._timer.cancel()
        self._timer.join()
        with self._lock:
            self._is_over = True
            if self._bars is not None:
                self._bars.update(self._task, visible=False)
                self._bars.stop()

    def _begin(self) -> None:
        with self._lock:
            if self._is_over:
                return
            self._is_due = True
            if self._phase:
                self._draw(is_new=True)

    def _draw(self, *, is_new: bool) -> None:
        said = f"{self._doing} {self._phase}"
        if os.environ.get("TERM") == "dumb":
            if is_new:
                print(f"apr: {said} …", file=sys.stderr)  # noqa: T201 - the terminal can do no more than lines
            return
        if self._bars is None:
            self._bars = _stages()
            self._task = self._bars.add_task(said, total=1.0)
            self._bars.start()
        self._bars.update(self._task, description=said, completed=self._done)


def _stages() -> Bars:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

    from apr.reports._style import is_coloured

    console = Console(stderr=True, no_color=not is_coloured(sys.stderr), highlight=False)
    return Progress(
        SpinnerColumn("line"),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
