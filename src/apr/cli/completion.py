"""`apr completion`: the shell's completion script."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script for SHELL.

    \b
    eval "$(apr completion bash)"                      # in ~/.bashrc
    apr completion fish > ~/.config/fish/completions/apr.fish
    """
    from apr.cli import group

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(group, {}, "apr", "_APR_COMPLETE").source())
