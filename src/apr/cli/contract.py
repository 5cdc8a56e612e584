"""`apr contract`: promises about a model, in files that can be checked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from apr.cli._options import complete_model, json_option, store_option

if TYPE_CHECKING:
    from apr.ledger.contract import Contract

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(short_help="Promises about a model: well made, kept, changed?")
def command() -> None:
    """Work with contracts: YAML files of promises, each with the test that would falsify it.

    \b
    apr contract lint contracts/
    apr contract verify qwen2.5-coder:0.5b
    apr contract status qwen2.5-coder:0.5b
    apr contract diff old.yaml new.yaml
    """


@command.command("lint", short_help="Are the contracts well made?")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@json_option
def lint(paths: tuple[Path, ...], as_json: bool) -> int:
    """Hold contracts, files or folders of them, to every rule; nothing is run. Without PATHS, the folder contracts.

    Ids must be given out once and never again, every check must name a gate, link or command that is there, with arguments
    that it takes, versions must agree with the changelog, statuses with their evidence; a test of prose binds to nothing.
    To look at no contract at all is an error (exit status 2).

    \b
    apr contract lint
    apr contract lint contracts/ship-two/model-1.yaml --json
    """
    from apr.cli import _checks
    from apr.ledger import _lint
    from apr.reports import _contract, json

    report = _lint.lint(paths or (Path("contracts"),), resolve=_checks.problem)
    click.echo(json.dumps(report) if as_json else _contract.linted(report))
    return report.exit_code


@command.command("diff", short_help="What does the later version promise less?")
@click.argument("old", type=_FILE)
@click.argument("new", type=_FILE)
@json_option
def diff(old: Path, new: Path, as_json: bool) -> int:
    """Hold the version NEW of a contract against OLD: tests, checks and equations that are gone, bars that are lower,
    tests that no longer block, and whether the step between the versions is as large as the change.

    MAJOR is for an equation removed, a bar moved, a new required obligation; MINOR for what is only added; PATCH for wording.
    Exit status 1 if something is promised less, or the step is too small.

    \b
    apr contract diff model-1-v1.0.0.yaml contracts/ship-two/model-1.yaml
    """
    from apr.ledger import _diff, contract
    from apr.reports import _contract, json

    report = _diff.diff(contract.read(old), contract.read(new))
    click.echo(json.dumps(report) if as_json else _contract.difference(report))
    return report.exit_code


_contracts_option = click.option(
    "--contract",
    "paths",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    metavar="PATH",
    help="A contract, or a folder of them; may be repeated. [default: contracts]",
)


@command.command("verify", short_help="Run what the contracts promise, on a model.")
@click.argument("model", shell_complete=complete_model)
@_contracts_option
@click.option("--reference", metavar="R", shell_complete=complete_model, help="The original that MODEL was made from.")
@click.option("--only", multiple=True, metavar="ID", help="Only this test; may be repeated.")
@click.option(
    "--timeout", type=click.FloatRange(min=1), default=3600, show_default=True, help="Seconds that one test may run."
)
@click.option(
    "--markdown",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the report as Markdown too.",
)
@store_option
@json_option
def verify(
    model: str,
    paths: tuple[Path, ...],
    reference: str | None,
    only: tuple[str, ...],
    timeout: float,
    markdown: Path | None,
    store: Path,
    as_json: bool,
) -> int:
    """Run every falsification test of the contracts on MODEL, and keep what came of it as evidence.

    Contracts, model, command and machine are fixed before anything runs. A test that no check of ours stands behind, or that needs an
    original and has none, is not runnable, which is no pass: the verdict is kept, broken, open or error (exit status 0, 1, 5, 4).

    \b
    apr contract verify qwen2.5-coder:0.5b
    apr contract verify model.gguf --contract contracts/ship-two --reference original/
    apr contract verify model.gguf --only FALSIFY-SHIP-002
    """
    import sys

    from apr import hub
    from apr.cli import _chain, _checks, _progress
    from apr.ledger import verify as ledger
    from apr.reports import _markdown, _promises, json

    _chain.check_page(markdown, option="--markdown", endings=(".md",))
    contracts = _read_all(paths)
    with _progress.downloading() as download:
        path = hub.resolve(model, progress=download)
        original = hub.resolve(reference, progress=download) if reference is not None else None
    with _chain.testing("verifying") as tell:
        report = ledger.verify(
            model,
            path,
            contracts,
            reference=reference,
            reference_path=original,
            folder=store,
            only=only,
            timeout_s=timeout,
            argv=("apr", *sys.argv[1:]),
            resolve=_checks.problem,
            tell=tell or (lambda what, share: None),
        )
    click.echo(json.dumps(report) if as_json else _promises.verified(report))
    if markdown is not None:
        _markdown.save(report, markdown)
    return report.exit_code


@command.command("status", short_help="How does each promise stand for a model?")
@click.argument("model", shell_complete=complete_model)
@_contracts_option
@store_option
@json_option
def status(model: str, paths: tuple[Path, ...], store: Path, as_json: bool) -> int:
    """Say of every test how it stands for MODEL, from the evidence; nothing is run.

    discharged: it passed on these very bytes, and neither contract nor engine has changed since. partial: it passed on another model.
    expired, failed, undecided, error, not runnable, not run: as they say. Exit status 0 if all that blocks is discharged, 1 if
    something failed or the evidence is not as it was left, else 5.

    \b
    apr contract status qwen2.5-coder:0.5b
    """
    from apr import hub
    from apr.cli import _progress
    from apr.ledger import standing
    from apr.reports import _promises, json

    contracts = _read_all(paths)
    with _progress.downloading() as download:
        path = hub.resolve(model, progress=download)
    report = standing.status(model, path, contracts, folder=store)
    click.echo(json.dumps(report) if as_json else _promises.stands(report))
    return report.exit_code


def _read_all(paths: tuple[Path, ...]) -> list[Contract]:
    """Every contract of some files and folders. Raises UsageError where there is none, ContractError for one that is wrong."""
    from apr.errors import UsageError
    from apr.ledger import contract

    named = paths or (Path("contracts"),)
    files = contract.files_of(named)
    if not files:
        raise UsageError(f"no contract in {', '.join(map(str, named))}; name one with --contract")
    return [contract.read(file) for file in files]
