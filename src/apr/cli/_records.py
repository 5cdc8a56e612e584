"""`apr why --records`: the probes as `apr run` would be asked them, on both sides, kept as run records.

Greedy runs repeat to the bit, so these are the texts that were compared, in a form that `apr parity A.json B.json` reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from apr.errors import AprError

if TYPE_CHECKING:
    from apr.engines._base import Activations
    from apr.engines._language_model import Run
    from apr.engines._subject import Subject

Progress = Callable[[str, float], None]


def keep(
    folder: Path,
    reference: str,
    candidate: str,
    *,
    threads: int | None,
    activations: Activations,
    progress: Progress | None,
) -> tuple[str, ...]:
    """Write a record a probe and side into `folder`, made if it is not there; the files' names.

    A side that cannot be run has none, and standard error says why: the answer of `why` stands without them.
    """
    from apr.engines._subject import Subject
    from apr.reports import _parity, json

    folder.mkdir(parents=True, exist_ok=True)
    written: list[str] = []
    with (
        Subject.of(reference, threads=threads, activations=activations) as original,
        Subject.of(candidate, threads=threads, activations=activations) as copy,
    ):
        for side, subject in (("reference", original), ("candidate", copy)):
            if progress is not None:
                progress(f"{side}: runs to keep", 0.0)
            try:
                for name, run in _runs(subject, original):
                    for _ in run:
                        pass
                    file = folder / f"{side}-{name}.json"
                    json.save(run.record(), file)
                    written.append(str(file))
            except AprError as exc:
                click.echo(_parity.not_kept_line(side, str(exc)), err=True)
            subject.unload()
    return tuple(written)


def _runs(subject: Subject, reference: Subject) -> Iterator[tuple[str, Run]]:
    """Every probe that both sides can be asked, by regime and id."""
    from apr.parity import _probes
    from apr.parity._teacher_forced import NEW_TOKENS

    for probe in _probes.PROBES:
        prompt = _probes.prompt(subject, probe, reference=reference)
        if prompt is None:
            continue
        if probe.regime == "pre-formatted":
            run = subject.language_model.run(prompt.text, max_tokens=NEW_TOKENS, prompt_id=probe.id)
        elif probe.text is not None:
            run = subject.language_model.run(probe.text, regime="raw", max_tokens=NEW_TOKENS, prompt_id=probe.id)
        else:
            run = subject.language_model.run(list(probe.messages), max_tokens=NEW_TOKENS, prompt_id=probe.id)
        yield f"{probe.regime}-{probe.id}", run
