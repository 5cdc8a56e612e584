"""The `apr` command: one command a file, found by its name. Argument parsing here, arithmetic elsewhere, text in `reports`.

Results go to stdout, everything else to stderr. Exit codes are one table for every command: see `EXIT_CODES`.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

import apr
from apr import _folder
from apr.errors import AprError, HubError, InternalError, UnsupportedError

EXIT_CODES = {
    0: "pass: done, or the same, or a benign difference",
    1: "a finding: a gate failed, outputs differ, a promise is broken",
    2: "usage or configuration: the command line, a name, a missing file or network",
    3: "input rejected: a malformed or unsafe model file",
    4: "an engine failed, or a bug of ours",
    5: "nothing was tested, not comparable, or undecided",
    130: "interrupted",
}
INTERRUPTED = 130


class _ReaderGone(Exception):
    """Whoever read our output has closed it. Not an OSError: click answers a broken pipe with exit code 1."""


class _Commands(click.Group):
    """Commands are the files of this folder; only the one that is asked for is imported."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, sorted."""
        return _folder.names(__name__)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command in the file of that name; None lets click say that there is none."""
        try:
            command: click.Command = _folder.load(__name__, cmd_name).command
        except UnsupportedError:
            return None
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with a near miss named."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as exc:
            from difflib import get_close_matches

            near = get_close_matches(args[0], self.list_commands(ctx), n=1)
            if not near:
                raise
            raise click.UsageError(f"{exc.message.rstrip('.')}. Did you mean {near[0]!r}?", ctx) from exc

    def invoke(self, ctx: click.Context) -> Any:
        """As click does, but a broken pipe is kept from click."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as exc:
            raise _ReaderGone from exc


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nExit codes:\n" + "\n".join(f"{code:>5}  {text}" for code, text in EXIT_CODES.items()),
)
@click.version_option(apr.__version__, prog_name="apr")
def group() -> None:
    """Run a language model, and prove that the copy you ship says the same thing as the original.

    \b
    apr run smollm2 "Why is the sky blue?"
    apr inspect model.gguf
    apr COMMAND --help
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code (`EXIT_CODES`). Errors are printed to stderr, as JSON too under --json."""
    # not list(…): once the command of that name is loaded, `list` in this module is apr.cli.list
    given = [*(sys.argv[1:] if arguments is None else arguments)]
    for stream in (sys.stdout, sys.stderr):
        # a terminal that cannot show a character gets its escape, not a traceback
        if hasattr(stream, "reconfigure") and (stream.encoding or "").lower().replace("-", "") != "utf8":
            stream.reconfigure(errors="backslashreplace")
    try:
        outcome = group.main(args=given, prog_name="apr", standalone_mode=False)
        sys.stdout.flush()
        return outcome if isinstance(outcome, int) else 0
    except (_ReaderGone, BrokenPipeError):
        _discard_output()
        return 0
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except (KeyboardInterrupt, click.Abort):
        return _report(InterruptedError("interrupted"), "interrupted", INTERRUPTED, given)
    except click.ClickException as exc:
        return _report(exc, "usage", 2, given)
    except AprError as exc:
        return _report(exc, exc.code, exc.exit_code, given)
    except OSError as exc:
        return _report(exc, "system", 2, given)
    except MemoryError as exc:
        return _report(exc, "out-of-memory", 4, given)
    except (InternalError, Exception) as exc:  # noqa: BLE001 - the one place where a bug of ours becomes an exit code
        if _debug():
            traceback.print_exc()
        return _report(exc, "internal", 4, given)


def _report(error: BaseException, code: str, exit_code: int, arguments: Sequence[str]) -> int:
    """Say what went wrong: to a person on stderr, to a program on stdout if it asked for JSON. Returns the exit code."""
    from apr.cli._results import Failure
    from apr.reports import json, text

    message = _message(error, code)
    try:
        if "--json" in arguments[: arguments.index("--") if "--" in arguments else None]:
            path, offset = getattr(error, "path", None), getattr(error, "offset", None)
            click.echo(
                json.dumps(
                    Failure(
                        code=code,
                        message=message,
                        exit_code=exit_code,
                        path=str(path) if path is not None else None,
                        offset=offset,
                        known=tuple(getattr(error, "known", ())),
                    )
                )
            )
        click.echo("\n".join([text.problem(message), *(f"     {line}" for line in _next(error, code))]), err=True)
        sys.stdout.flush()
    except OSError:  # nobody reads, or nothing can be written: the exit code says what there is to say
        _discard_output()
    return exit_code


def _message(error: BaseException, code: str) -> str:
    if isinstance(error, click.ClickException):
        return error.format_message()
    if code == "internal":
        return f"a bug of apr ({type(error).__name__}): {error}"
    if code == "out-of-memory":
        return "not enough memory; close other programs, or use a smaller model"
    if isinstance(error, OSError) and error.strerror:
        named = f"{error.filename}: " if error.filename is not None else ""
        return f"{named}{error.strerror}"
    return str(error)


def _next(error: BaseException, code: str) -> list[str]:
    """What to type next."""
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return [f"next: {error.ctx.command_path} --help"]
    if code == "internal" and not _debug():
        return ["next: set APR_DEBUG=1 and type it again, for the traceback to report"]
    if type(error) is HubError:
        return ["next: apr list"]
    return []


def _discard_output() -> None:
    """Let Python's own flush at exit go nowhere, so that it does not complain."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # a stream without a descriptor has no flush to fear
        return


def _debug() -> bool:
    return os.environ.get("APR_DEBUG", "") not in ("", "0")
