"""Options that several commands share, spelled once."""

from __future__ import annotations

import click

from apr import hub

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
threads_option = click.option(
    "--threads", type=click.IntRange(1, 1024), help="Threads of the arithmetic. [default: all cores]"
)
engine_option = click.option(
    "--engine", default="native", show_default=True, help="What runs the model: a file of apr/engines."
)


def complete_model(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[click.shell_completion.CompletionItem]:
    """Aliases that begin so, else whatever the shell finds as a file."""
    from click.shell_completion import CompletionItem

    found = [
        CompletionItem(name, help=alias.description)
        for name, alias in hub.aliases().items()
        if name.startswith(incomplete)
    ]
    return found or [CompletionItem(incomplete, type="file")]


model_argument = click.argument("model", shell_complete=complete_model)
