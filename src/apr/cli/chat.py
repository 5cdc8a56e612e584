"""`apr chat`: a conversation at the terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from apr.cli._options import engine_option, model_argument, threads_option

if TYPE_CHECKING:
    from apr.engines._generate import PromptCache
    from apr.engines._language_model import LanguageModel
    from apr.engines._sampling import Sampling

_HELP = """/system TEXT   set the system message (empty clears it) and start again
/reset         forget the conversation, keep the system message
/help          this list
/exit          leave (Ctrl-D does too); Ctrl-C stops an answer, not the program"""


@click.command()
@model_argument
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
) -> None:
    """Talk with MODEL, turn by turn. /help lists what can be said to the program itself.

    \b
    apr chat smollm2
    apr chat qwen2.5-coder:0.5b --system "Answer in one sentence."
    """
    from apr.cli._model import loaded
    from apr.engines._sampling import Sampling

    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    with loaded(model, engine=engine, threads=threads) as language_model, _history():
        chat = Conversation(language_model, sampling, system=system, max_tokens=max_tokens, as_json=as_json)
        click.echo("apr: /help lists the commands, Ctrl-D leaves", err=True)
        chat.loop()


class Conversation:
    """The turns so far, and the cache that holds what the model has read of them."""

    def __init__(
        self, model: LanguageModel, sampling: Sampling, *, system: str | None, max_tokens: int, as_json: bool
    ) -> None:
        self.model = model
        self.sampling = sampling
        self.system = system
        self.max_tokens = max_tokens
        self.as_json = as_json
        self.messages: list[dict[str, Any]] = []
        self._cache: PromptCache | None = None

    def loop(self) -> None:
        """Read and answer until the end of input."""
        while True:
            try:
                line = self._read()
            except EOFError:
                click.echo(err=True)
                return
            except KeyboardInterrupt:  # at the prompt: throw the line away, as a shell does
                click.echo(err=True)
                continue
            if line.startswith("/"):
                if line.split()[0] in ("/exit", "/quit", "/bye"):
                    return
                self.obey(line)
            elif line.strip():
                self.answer(line)

    def obey(self, line: str) -> None:
        """Do what a line that begins with a slash says."""
        name, _, rest = line.partition(" ")
        if name == "/system":
            self.system, self.messages = rest.strip() or None, []
            click.echo(
                "apr: system message " + ("set" if self.system else "cleared") + "; the conversation starts again",
                err=True,
            )
        elif name == "/reset":
            self.messages = []
            click.echo("apr: the conversation starts again", err=True)
        elif name == "/help":
            click.echo(_HELP, err=True)
        else:
            click.echo(f"apr: no command {name}; /help lists them", err=True)

    def answer(self, line: str) -> None:
        """One turn. An interrupted answer is kept as far as it went."""
        from apr.engines._generate import PromptCache
        from apr.reports import json, text

        self._cache = self._cache or PromptCache(self.model.session)
        first = [{"role": "system", "content": self.system}] if self.system is not None else []
        asked = [*self.messages, {"role": "user", "content": line}]
        run = self.model.run(
            [*first, *asked], max_tokens=self.max_tokens, sampling=self.sampling, prompt_cache=self._cache
        )
        is_terminal = sys.stdout.isatty()
        try:
            for piece in run:
                if not self.as_json:
                    click.echo(text.safe_for_terminal(piece) if is_terminal else piece, nl=False)
                    sys.stdout.flush()
        except KeyboardInterrupt:
            click.echo(" …stopped", err=True)
        if self.as_json:
            click.echo(json.dumps(run.record()))
        else:
            click.echo()
            click.echo(text.speed_line(run.finish_reason, len(run.steps), run.timings()), err=True)
        self.messages = [*asked, {"role": "assistant", "content": "".join(step.text for step in run.steps)}]

    def _read(self) -> str:
        if sys.stdin.isatty():
            return input("> ")
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.rstrip("\n")


@contextlib.contextmanager
def _history() -> Iterator[None]:
    """Line editing and a history file, where there is a terminal and a readline."""
    if not sys.stdin.isatty():
        yield
        return
    try:
        import readline
    except ImportError:
        yield
        return
    from platformdirs import user_state_path

    path: Path = user_state_path("apr") / "chat_history"
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        readline.read_history_file(path)
    readline.set_history_length(1000)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            readline.write_history_file(path)
            path.chmod(0o600)
