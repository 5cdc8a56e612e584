"""What commands print as JSON where no other room has a dataclass for it."""

from __future__ import annotations

from dataclasses import dataclass, field

from apr import hub


@dataclass(frozen=True, slots=True)
class Failure:
    """What `--json` prints in place of a result when a command fails.

    code:       stable: the error's class in kebab case, or usage, system, interrupted, out-of-memory, internal
    message:    what was found, what was expected, what to do
    exit_code:  the status that the command exits with
    path:       the file at fault, if it is one file's fault
    offset:     the byte of that file where a rule is broken
    known:      what there is, if something was asked for that there is not
    """

    code: str
    message: str
    exit_code: int
    path: str | None
    offset: int | None
    known: tuple[str, ...]
    schema: str = field(default="apr.error/1")


@dataclass(frozen=True, slots=True)
class ModelList:
    """What `apr list` prints.

    cached:   models in the cache, by reference
    aliases:  every alias, whether its model is in the cache or not
    """

    cached: tuple[hub.CachedModel, ...]
    aliases: tuple[hub.Alias, ...]
    schema: str = field(default="apr.list/1")


@dataclass(frozen=True, slots=True)
class Removed:
    """What `apr rm` prints.

    removed:  the model that was in the cache, as `apr list` showed it
    """

    removed: hub.CachedModel
    schema: str = field(default="apr.rm/1")


@dataclass(frozen=True, slots=True)
class Completion:
    """What `apr completion` prints.

    shell:   bash, zsh or fish
    script:  to be evaluated by that shell
    """

    shell: str
    script: str
    schema: str = field(default="apr.completion/1")
