"""`apr contract`: promises about a model, in files that can be checked."""

from __future__ import annotations

from pathlib import Path

import click

from apr.cli._options import json_option

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(short_help="Promises about a model: are they well made, and what changed?")
def command() -> None:
    """Work with contracts: YAML files of promises, each with the test that would falsify it.

    \b
    apr contract lint contracts/
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
