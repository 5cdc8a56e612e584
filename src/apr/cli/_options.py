"""Options that several commands share, spelled once."""

from __future__ import annotations

from pathlib import Path

import click
from click.shell_completion import CompletionItem

from apr import _folder, hub

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
threads_option = click.option(
    "--threads", type=click.IntRange(1, 1024), help="Threads of the arithmetic. [default: all cores]"
)
engine_option = click.option(
    "--engine",
    type=click.Choice(_folder.names("apr.engines")),
    default="native",
    show_default=True,
    help="What runs the model.",
)
exact_option = click.option(
    "--exact",
    "activations",
    flag_value="float32",
    default="int8",
    help="Compute with float32 activations: the reference for comparisons, slower.",
)

store_option = click.option(
    "--store",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("evidence"),
    show_default=True,
    metavar="FOLDER",
    help="Where evidence is kept.",
)


def complete_model(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Aliases and cached models that begin so, else whatever the shell finds as a file."""
    found = {name: alias.description for name, alias in hub.aliases().items()}
    found = {model.reference: "in the cache" for model in hub.cached()} | found
    items = [CompletionItem(name, help=said) for name, said in found.items() if name.startswith(incomplete)]
    return items or [CompletionItem(incomplete, type="file")]


def complete_subject(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """As `complete_model`; behind MODEL@, the engines."""
    model, at, begun = incomplete.rpartition("@")
    if not at or Path(incomplete).exists():
        return complete_model(ctx, param, incomplete)
    # an engine that talks to an endpoint runs no file
    names = [name for name in _folder.names("apr.engines") if name != "openai" and name.startswith(begun)]
    return [CompletionItem(f"{model}@{name}") for name in names] or complete_model(ctx, param, incomplete)


def complete_cached(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Models in the cache that begin so."""
    return [CompletionItem(m.reference) for m in hub.cached() if m.reference.startswith(incomplete)]


model_argument = click.argument("model", shell_complete=complete_model)
subject_argument = click.argument("model", shell_complete=complete_subject)
cached_model_argument = click.argument("model", shell_complete=complete_cached)
