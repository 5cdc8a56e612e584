"""`apr chat`: a conversation at the terminal, or line by line from a pipe."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import click

from apr.cli._options import engine_option, exact_option, subject_argument, threads_option
from apr.errors import AprError, UsageError

if TYPE_CHECKING:
    from apr.engines._base import Activations
    from apr.engines._generate import PromptCache
    from apr.engines._language_model import LanguageModel, Run
    from apr.engines._sampling import Sampling

_HELP = """/system TEXT  set the system message (empty clears it) and start again
/reset        forget the conversation, keep the system message
/help         this list
/exit         leave (Ctrl-D does too); Ctrl-C stops an answer, not the program"""
_LEAVE = ("/exit", "/quit", "/bye")
_COMMANDS = ("/system ", "/reset", "/help", "/exit")
_HISTORY_LINES = 1000


@click.command(short_help="Talk with a model, turn by turn.")
@subject_argument
@click.option("--system", help="The system message.")
@click.option("--max-tokens", "-n", type=click.IntRange(1), default=1024, show_default=True, help="Longest answer.")
@click.option("--temperature", "-t", type=float, default=0.7, show_default=True, help="0 is greedy.")
@click.option("--top-k", type=int, default=0, help="Keep the k most likely tokens; 0 keeps all.")
@click.option(
    "--top-p", type=float, default=0.9, show_default=True, help="Keep the most likely tokens that together reach p."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random draws.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print each answer's run record as one line of JSON instead of streaming it.",
)
@threads_option
@engine_option
@exact_option
def command(
    model: str,
    system: str | None,
    max_tokens: int,
    temperature: float,
    top_k: int,
    top_p: float,
    seed: int,
    as_json: bool,
    threads: int | None,
    engine: str,
    activations: Activations,
) -> None:
    """Talk with MODEL, turn by turn. /help lists what can be said to the program itself.

    Ctrl-C stops an answer, Ctrl-D leaves. From a pipe, each line is one turn.

    \b
    apr chat smollm2
    apr chat qwen2.5-coder:0.5b --system "Answer in one sentence."
    printf 'Hello\\nTell me more\\n' | apr chat smollm2
    """
    from apr.cli._model import loaded
    from apr.engines._sampling import Sampling

    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    with loaded(model, engine=engine, threads=threads, activations=activations) as language_model, _line_editing():
        if language_model.template is None:
            raise UsageError(f"{model} has no chat template, so it cannot chat; use `apr run --raw` to continue a text")
        output: Literal["stream", "json"] = "json" if as_json else "stream"
        chat = Conversation(language_model, sampling, system=system, max_tokens=max_tokens, output=output)
        if sys.stdin.isatty():
            _say(f"{language_model.file.path.name}; /help lists the commands, Ctrl-D leaves")
        chat.loop()


class Conversation:
    """The turns so far, and the cache that holds what the model has read of them."""

    def __init__(
        self,
        model: LanguageModel,
        sampling: Sampling,
        *,
        system: str | None,
        max_tokens: int,
        output: Literal["stream", "json"],
    ) -> None:
        self.model = model
        self.sampling = sampling
        self.system = system
        self.max_tokens = max_tokens
        self.output = output
        self.messages: list[dict[str, Any]] = []
        self._cache: PromptCache | None = None

    def loop(self) -> None:
        """Read and answer until the end of input. At a terminal, Ctrl-C throws away a line or stops an answer."""
        while True:
            try:
                line = _read()
                if line.startswith("/"):
                    if line.split()[0] in _LEAVE:
                        return
                    self.obey(line)
                elif line.strip():
                    self._answer_or_say(line)
            except EOFError:
                if sys.stdin.isatty():
                    click.echo(err=True)
                return
            except KeyboardInterrupt:
                if not sys.stdin.isatty():
                    raise
                click.echo(err=True)

    def obey(self, line: str) -> None:
        """Do what a line that begins with a slash says."""
        name, _, rest = line.strip().partition(" ")
        if name == "/system":
            self.system, self.messages = rest.strip() or None, []
            _say(f"system message {'set' if self.system else 'cleared'}; the conversation starts again")
        elif name == "/reset":
            self.messages = []
            _say("the conversation starts again")
        elif name == "/help":
            click.echo(_HELP, err=True)
        else:
            _say(f"no command {name}; /help lists them")

    def answer(self, line: str) -> None:
        """One turn. An interrupted answer is kept as far as it went. Raises UsageError if the context is full."""
        from apr.engines._generate import PromptCache
        from apr.reports import json, text

        self._cache = self._cache or PromptCache(self.model.session)
        first = [{"role": "system", "content": self.system}] if self.system is not None else []
        asked = [*self.messages, {"role": "user", "content": line}]
        run = self.model.run(
            [*first, *asked], max_tokens=self.max_tokens, sampling=self.sampling, prompt_cache=self._cache
        )
        is_stopped = False
        try:
            self._stream(run)
        except KeyboardInterrupt:
            is_stopped = True
        if self.output == "json":
            click.echo(json.dumps(run.record()))
        else:
            click.echo()
        if sys.stderr.isatty():
            click.echo(text.speed_line(run.finish_reason, len(run.steps), run.timings()), err=True)
        sys.stdout.flush()
        self.messages = [*asked, {"role": "assistant", "content": run.text}]
        if is_stopped and not sys.stdin.isatty():  # nobody is there to ask on
            raise KeyboardInterrupt

    def _stream(self, run: Run) -> None:
        from apr.reports import text

        is_terminal = sys.stdout.isatty()
        for piece in run:
            if self.output == "stream":
                click.echo(text.safe_for_terminal(piece) if is_terminal else piece, nl=False)
                sys.stdout.flush()

    def _answer_or_say(self, line: str) -> None:
        """At a terminal, a turn that fails is said and forgotten; elsewhere it ends the program."""
        from apr.reports import text

        if not sys.stdin.isatty():
            self.answer(line)
            return
        try:
            self.answer(line)
        except AprError as exc:
            click.echo(text.problem(f"{exc}\nnext: /reset begins a new conversation"), err=True)


def _say(sentence: str) -> None:
    from apr.reports import text

    click.echo(f"apr: {text.visible(sentence)}", err=True)


def _read() -> str:
    """The next line, without its end. Raises EOFError at the end of input."""
    if sys.stdin.isatty() and sys.stdout.isatty():
        return input("> ")
    if sys.stdin.isatty():  # the answers go to a file: the prompt must not
        click.echo("> ", nl=False, err=True)
    try:
        line = sys.stdin.readline()
    except UnicodeDecodeError as exc:
        raise UsageError(f"standard input is not UTF-8: {exc}") from exc
    if not line:
        raise EOFError
    return line.rstrip("\n")


@contextlib.contextmanager
def _line_editing() -> Iterator[None]:
    """Arrow keys, Tab for the slash commands, and a history file only its owner can read, where there is a terminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        yield
        return
    try:
        import readline
    except ImportError:
        yield
        return
    from apr import hub

    path = hub.state_dir() / "chat_history"
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        readline.read_history_file(path)
    readline.set_history_length(_HISTORY_LINES)
    readline.set_completer_delims("")
    readline.set_completer(complete_command)
    readline.parse_and_bind("tab: complete")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            readline.write_history_file(path)


def complete_command(line: str, state: int) -> str | None:
    """The state-th slash command that a line may become, as readline asks for it."""
    found = [name for name in _COMMANDS if line.startswith("/") and name.startswith(line)]
    return found[state] if state < len(found) else None
