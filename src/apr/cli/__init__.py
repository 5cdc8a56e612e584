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
from apr.errors import AprError, InternalError, UnsupportedError

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


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: " + "; ".join(f"{code} {text}" for code, text in EXIT_CODES.items()) + ".",
)
@click.version_option(apr.__version__, prog_name="apr")
def group() -> None:
    """Run a language model, and prove that the copy you ship says the same thing as the original."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code (`EXIT_CODES`). Errors are printed to stderr, as JSON too under --json."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        outcome = group.main(args=given, prog_name="apr", standalone_mode=False)
        sys.stdout.flush()
        return outcome if isinstance(outcome, int) else 0
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        # the reader of our output has gone: nothing is left to say, and Python must not try at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except AprError as exc:
        return _report(exc, exc.code, exc.exit_code, given)
    except OSError as exc:
        return _report(exc, "system", 2, given)
    except (InternalError, Exception) as exc:  # noqa: BLE001 - the one place where a bug of ours becomes an exit code
        if _debug(given):
            traceback.print_exc()
        return _report(exc, "internal", 4, given, prefix=f"a bug of apr ({type(exc).__name__}): ")


def _report(error: BaseException, code: str, exit_code: int, arguments: Sequence[str], *, prefix: str = "") -> int:
    from apr.reports import json, text

    message = prefix + str(error)
    if "--json" in arguments:
        facts: dict[str, Any] = {"schema": "apr.error/1", "code": code, "message": message, "exit_code": exit_code}
        facts |= {
            key: getattr(error, key) for key in ("path", "offset", "known") if getattr(error, key, None) is not None
        }
        click.echo(json.dumps(facts))
    click.echo(f"apr: {text.visible(message)}", err=True)
    if code == "internal" and not _debug(arguments):
        click.echo("apr: set APR_DEBUG=1 for the traceback", err=True)
    return exit_code


def _debug(arguments: Sequence[str]) -> bool:
    return "--debug" in arguments or os.environ.get("APR_DEBUG", "") not in ("", "0")
