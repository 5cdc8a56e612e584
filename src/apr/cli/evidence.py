"""`apr evidence`: what was found when promises were tested, and whether it can still be believed."""

from __future__ import annotations

from pathlib import Path

import click

from apr.cli._options import complete_model, json_option, store_option

_FINDING, _NOTHING = 1, 5
_key_option = click.option(
    "--key", type=click.Path(path_type=Path), metavar="FILE", required=True, help="The private key."
)


@click.group(short_help="What was found when promises were tested.")
def command() -> None:
    """What was found when promises were tested, and whether it can still be believed.

    \b
    apr evidence list model.gguf
    apr evidence show 20260102T030405Z-0a1b2c3d
    apr evidence verify
    """


@command.command("list", short_help="Every run, and which still hold.")
@click.argument("model", required=False, shell_complete=complete_model)
@store_option
@json_option
def list_command(model: str | None, store: Path, as_json: bool) -> None:
    """Every run of the store; with MODEL, those about it, and whether they still hold.

    Evidence holds until the file, a contract, or the major version of the engine is another.
    """
    from apr import hub
    from apr.ledger._summary import EvidenceList, EvidenceRun
    from apr.ledger.evidence import Store, Subject
    from apr.reports import _attestations, json

    subject = Subject.of(hub.resolve(model, offline=True)) if model is not None else None
    runs = tuple(EvidenceRun.of(entry, subject=subject) for entry in Store(store).entries(about=subject))
    found = EvidenceList(str(store), model, runs, tuple(Store(store).under_way()))
    click.echo(json.dumps(found) if as_json else _attestations.listed(found))


@command.command("show", short_help="One run: what was fixed before, and each verdict.")
@click.argument("run", metavar="ID")
@store_option
@json_option
def show_command(run: str, store: Path, as_json: bool) -> None:
    """One run: what was fixed before it began, and each verdict."""
    from apr.ledger._summary import EvidenceShown
    from apr.ledger.evidence import Store
    from apr.reports import _attestations, json

    entry = Store(store).entry(run)
    found = EvidenceShown(entry.row, str(entry.path), entry.record, entry.is_signed)
    click.echo(json.dumps(found) if as_json else _attestations.shown(found))


@command.command("verify", short_help="Is every run as it was written?")
@store_option
@click.option(
    "--key", type=click.Path(path_type=Path), metavar="FILE", help="A public key; every run must be signed with it."
)
@click.option("--head", metavar="HASH", help="The head that was kept elsewhere; every run before it must be there.")
@json_option
def verify_command(store: Path, key: Path | None, head: str | None, as_json: bool) -> int:
    """Is every run as it was written? Exit status 1 names what was deleted, edited, swapped, cut short, added or never ended.

    Who can write the whole folder can write another one: keep the head elsewhere, or sign.
    """
    from apr.ledger._summary import EvidenceAudit
    from apr.ledger.evidence import Store
    from apr.reports import _attestations, json

    looked = Store(store)
    problems = looked.verify(key=key, head=head)
    n_runs, last = looked.extent()
    exit_code = _FINDING if problems else 0 if n_runs else _NOTHING
    audit = EvidenceAudit(
        str(store),
        n_runs,
        last,
        str(key) if key is not None else None,
        tuple(problems),
        tuple(looked.under_way()),
        exit_code,
    )
    click.echo(json.dumps(audit) if as_json else _attestations.audited(audit))
    return exit_code


@command.command("close", short_help="End a run whose process is gone.")
@click.argument("run", metavar="ID")
@store_option
@json_option
def close_command(run: str, store: Path, as_json: bool) -> None:
    """End a run whose process is gone. It stays in the index, as abandoned unless its statement was written."""
    from apr.ledger._summary import EvidenceWritten
    from apr.ledger.evidence import Store
    from apr.reports import json
    from apr.reports.text import visible

    path = Store(store).close(run)
    click.echo(json.dumps(EvidenceWritten(run, str(path), None)) if as_json else visible(str(path)))


@command.command("key", short_help="Make a pair of keys.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@json_option
def key_command(file: Path, as_json: bool) -> None:
    """Make an ed25519 key in FILE, and the public one in FILE.pub."""
    from apr.ledger import _signing
    from apr.ledger._summary import EvidenceKey
    from apr.reports import _attestations, json

    private, public = _signing.make_key(file)
    if as_json:
        click.echo(json.dumps(EvidenceKey(str(private), str(public))))
    else:
        click.echo(_attestations.key_made(private, public))


@command.command("sign", short_help="Put a signed envelope beside a run.")
@click.argument("run", metavar="ID")
@_key_option
@store_option
@json_option
def sign_command(run: str, key: Path, store: Path, as_json: bool) -> None:
    """Put a signed DSSE envelope beside the statement of a run."""
    from apr.ledger._summary import EvidenceWritten
    from apr.ledger.evidence import Store
    from apr.reports import json
    from apr.reports.text import visible

    path, key_id = Store(store).sign(run, key)
    click.echo(json.dumps(EvidenceWritten(run, str(path), key_id)) if as_json else visible(f"{path} (key {key_id})"))
