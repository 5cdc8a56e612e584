"""`apr trace`: what happens inside a run, and whether it is what happened inside another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from apr.cli import _progress, _prompts
from apr.cli._options import json_option, subject_argument, threads_option
from apr.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from apr.engines._base import Activations
    from apr.engines._subject import Subject
    from apr.reports._trace import View
    from apr.trace.compare import TraceComparison
    from apr.trace.record import Trace
    from apr.trace.selection import Selection

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(short_help="See inside a run, layer by layer.")
@subject_argument
@click.argument("prompt", required=False)
@click.option("--prompt", "-p", "prompt_option", help="The prompt; else the argument, else standard input.")
@click.option("--raw", "regime", flag_value="raw", help="Trace the prompt as it is; no chat template.")
@click.option("--chat", "regime", flag_value="chat", help="Insist on the chat template.")
@click.option("--system", help="A system message for the chat template.")
@click.option(
    "--special", "control", flag_value="token", default="text", help="Control tokens written in the prompt are tokens."
)
@click.option(
    "--slots",
    multiple=True,
    metavar="PATTERN",
    help="Only these slots, as q_rope, ffn_*, layers.3.* or, for all but these, !ffn_*; may be repeated.",
)
@click.option("--layers", metavar="LIST", help="Only these layers, as 0,4-6,-1.")
@click.option("--positions", metavar="LIST", help="Only these positions, as 0,4-6,-1.")
@click.option("--all", "is_whole", is_flag=True, help="Show every slot, and in a trace every position.")
@click.option(
    "--save", type=_FILE, metavar="FILE", help="Keep whole tensors, not only figures: a .npz or .safetensors."
)
@click.option(
    "--against", type=_FILE, metavar="FILE", help="Compare with a kept trace: its prompt, positions and slots."
)
@threads_option
@click.option(
    "--fast",
    "activations",
    flag_value="int8",
    default="float32",
    help="Compute as apr run does, where activations are rounded; otherwise they are exact.",
)
@click.option("--quiet", "-q", "verbosity", flag_value="quiet", default="normal", help="Nothing on stderr but errors.")
@json_option
def command(
    model: str,
    prompt: str | None,
    prompt_option: str | None,
    regime: str | None,
    system: str | None,
    control: str,
    slots: tuple[str, ...],
    layers: str | None,
    positions: str | None,
    is_whole: bool,
    save: Path | None,
    against: Path | None,
    threads: int | None,
    activations: Activations,
    verbosity: _progress.Verbosity,
    as_json: bool,
) -> int:
    """Run a prompt through MODEL once and show what every layer made of it.

    MODEL is a path, an alias or a URL, with @ENGINE if another engine than ours shall run it (model.gguf@numpy), or a kept
    trace. The prompt is made as `apr run` makes it. Figures are of each slot and position; --save keeps the values too.
    Exits with 1 if a NaN or an infinity is born, and says where.

    With --against, the same token ids are run through MODEL, or MODEL is another kept trace: exits with 0 if all
    slots agree within the rounding of the engines, 1 if not, 5 if the two cannot be compared.

    \b
    apr trace smollm2 "def fib(n):" --raw
    apr trace smollm2 "Hello" --slots ffn_down --layers 0-3 --positions -1
    apr trace model.gguf@numpy "Hello" --save numpy.npz
    apr trace model.gguf --against numpy.npz
    """
    from apr.reports import json
    from apr.reports._trace import comparison, trace
    from apr.trace.selection import Selection

    selection = Selection(slots, layers, positions)
    question = {"prompt": prompt, "prompt_option": prompt_option, "regime": regime, "system": system}
    source = _Source(model, threads, activations, verbosity)
    if against is not None or source.is_trace:
        _refuse({**question, "save": save, "positions": positions})
    if against is not None:
        compared = _against(source, against, selection)
        click.echo(json.dumps(compared) if as_json else comparison(compared, n_slots=None if is_whole else 12))
        return compared.exit_code
    has_chosen = any(not pattern.startswith("!") for pattern in slots)
    view: View = "all" if is_whole else "slots" if has_chosen else "layers"
    if source.is_trace:
        found = _kept(source.path, selection)
    else:
        text = _prompts.one(prompt, prompt_option)
        options = {"regime": regime or "auto", "system": system, "control": control}
        found = _traced(source, text, options, selection, save)
    click.echo(json.dumps(found) if as_json else trace(found, view=view))
    return found.exit_code


class _Source:
    """What is to be looked into: a kept trace, or a model and what runs it."""

    def __init__(
        self, model: str, threads: int | None, activations: Activations, verbosity: _progress.Verbosity
    ) -> None:
        from apr.trace.store import is_trace

        self.model, self.threads, self.activations, self.verbosity = model, threads, activations, verbosity
        self.path = Path(model)
        self.is_trace = is_trace(self.path)

    def loaded(self) -> Subject:
        """The model, pulled first if it is not here, and loaded; the caller closes it."""
        from apr import hub
        from apr.engines._subject import Subject, parse
        from apr.trace.capture import require_taps

        address = parse(self.model)
        options: dict[str, Any] = {"threads": self.threads, "activations": self.activations}
        require_taps(Subject(address.reference, address.engine, name=self.model))
        with _progress.downloading(verbosity=self.verbosity) as download:
            path = hub.resolve(address.reference, progress=download)
        subject = Subject(path, address.engine, name=self.model, **options)

        def total_bytes() -> int:
            return sum(info.n_bytes for info in subject.file.tensors.values())

        try:
            with _progress.working(f"loading {path.name}", total_bytes, verbosity=self.verbosity) as advance:
                subject.progress = advance
                _ = subject.session
        except BaseException:
            subject.close()
            raise
        return subject

    def tracing(self, subject: Subject, n_positions: int) -> AbstractContextManager[Callable[[int], None] | None]:
        """Progress of a pass, by the bytes that its slots take."""
        from apr.engines._recording import record

        def total_bytes() -> int:
            return 4 * n_positions * sum(slot.value.width for slot in record(subject.config, rows="all").slots)

        return _progress.working("tracing", total_bytes, verbosity=self.verbosity)

    def say(self, line: str) -> None:
        """A line for standard error."""
        if self.verbosity != "quiet":
            click.echo(line, err=True)


def _refuse(options: dict[str, object]) -> None:
    """Raise UsageError for what a kept trace has already decided."""
    names = {"prompt_option": "--prompt", "prompt": "a prompt"}
    given = [names.get(name, f"--{name}") for name, value in options.items() if value is not None]
    if given:
        raise UsageError(f"{given[0]} does not go with a kept trace: prompt and positions are those it was made with")


def _traced(source: _Source, text: str, options: dict[str, Any], selection: Selection, save: Path | None) -> Trace:
    from apr.engines._prompt import Prompt
    from apr.reports import _trace
    from apr.reports.text import template_line
    from apr.trace import capture, store

    if save is not None:
        store.check_target(save)
    with source.loaded() as subject:
        question = capture.ask(subject, text, **options)
        assert question.template is not None  # only token ids that were given have none
        decided = question.template
        asked = Prompt(question.text, question.token_ids, decided.decision, decided.reason)
        source.say(template_line(asked))
        with source.tracing(subject, len(question.token_ids)) as advance:
            made = capture.capture(subject, question, selection, progress=advance)
        if save is None:
            return made
        n_bytes = store.tensor_bytes(made)
        source.say(_trace.saving_line(save, n_bytes))
        with source.tracing(subject, len(question.token_ids)) as advance:
            return capture.keep(subject, made, save, progress=advance)


def _kept(path: Path, selection: Selection) -> Trace:
    """A kept trace, with its figures."""
    from apr.trace.store import load_trace

    with load_trace(path) as saved:
        return saved.with_figures(selection)


def _against(source: _Source, against: Path, selection: Selection) -> TraceComparison:
    from apr.trace.compare import compare, compare_run
    from apr.trace.store import load_trace

    with load_trace(against) as reference:
        if source.is_trace:
            with load_trace(source.path) as candidate:
                return compare(candidate, reference, selection)
        with source.loaded() as subject:
            n_positions = len(reference.trace.header.prompt_token_ids)
            with source.tracing(subject, n_positions) as advance:
                return compare_run(subject, reference, selection, progress=advance)
