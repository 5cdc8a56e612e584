"""Contracts: promises in YAML, each with the test that would falsify it.

Upstream's form is read as it is, and as it varies: `falsification_tests` or `falsification`, as list or map; equations as
map or list; metadata in a block or at the top, where `contract_id` names the contract. Ours adds `check:` to a falsification test:

    check: {gate: python_syntax}
    check: {link: weights, expect: {path: benign, equals: true}}
    check:
      command: eval {model} --task humaneval --regime raw --out {scratch}/answers.jsonl
      expect: {path: "scores[name=pass@1,regime=raw].value", at_least: 0.3, interval: "scores[name=pass@1,regime=raw].interval"}

{model} and {reference} stand for the two models, {scratch} for an empty folder that whoever runs the check provides.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from apr.errors import ContractError, UsageError
from apr.ledger import _check, _yaml
from apr.ledger._expect import OPS, Expect, Op, Outcome, judge

__all__ = [
    "OPS",
    "SUFFIXES",
    "Change",
    "Check",
    "Contract",
    "Equation",
    "Expect",
    "Falsification",
    "Obligation",
    "Op",
    "Outcome",
    "Reading",
    "files_of",
    "fill",
    "has_tests",
    "judge",
    "read",
    "read_bytes",
    "read_with_problems",
]

Kind = Literal["gate", "link", "command"]
SUFFIXES = (".yaml", ".yml")
_TESTS = ("falsification_tests", "falsification", "falsifiers")
_TEST_BLOCK = re.compile(
    rb"^(?:\xef\xbb\xbf)?(?:{ *)?[\"']?(?:%s)[\"']?[ \t]*:" % "|".join(_TESTS).encode(), re.MULTILINE
)
_IDS = ("id", "contract_id", "contract", "name")
_DEFAULT_KIND = "kernel"  # upstream's schema
_BINDINGS = ("test", "test_harness", "harness", "name")  # upstream's binder looks at them in this order


@dataclass(frozen=True, slots=True)
class Check:
    """A test that runs here.

    name:       of the gate, link or command
    arguments:  all that follow the command on its line, `--json` included
    expect:     of the JSON that it leaves
    """

    kind: Kind
    name: str
    arguments: tuple[str, ...]
    expect: tuple[Expect, ...]
    line: int

    @property
    def argv(self) -> tuple[str, ...]:
        """The command line behind `apr`."""
        return ({"gate": "qa", "link": "parity"}.get(self.kind, self.name), *self.arguments)

    @property
    def needs_reference(self) -> bool:
        """Whether it compares with an original."""
        return any("{reference}" in argument for argument in self.arguments)


@dataclass(frozen=True, slots=True)
class Falsification:
    """A test that fails if the promise is false.

    test:    what upstream binds it to: a cargo test, a shell line, a name, or prose; the first of several
    check:   None where nothing of ours can run it
    fields:  every other key; a check that could not be understood too
    """

    id: str
    rule: str
    prediction: str
    test: str
    if_fails: str
    check: Check | None
    line: int
    fields: Mapping[str, Any]

    @property
    def is_blocking(self) -> bool:
        """Whether its failure stops a release: unless the contract says `ship_blocking: false`."""
        return self.fields.get("ship_blocking") is not False


@dataclass(frozen=True, slots=True)
class Change:
    """An entry of the changelog."""

    version: str
    date: str
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Equation:
    """What is claimed, as mathematics."""

    name: str
    formula: str
    line: int
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Obligation:
    """A property to be proved or tested."""

    id: str
    type: str
    property: str
    line: int
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Contract:
    """A contract as its file has it.

    sha256:     of the file's bytes
    version:    as it is spelled; empty if there is none
    kind:       kernel where the file does not say, as upstream has it
    changelog:  in the file's order
    raw:        the whole document
    """

    path: Path
    sha256: str
    id: str
    version: str
    status: str
    kind: str
    description: str
    references: tuple[str, ...]
    depends_on: tuple[str, ...]
    equations: tuple[Equation, ...]
    obligations: tuple[Obligation, ...]
    falsifications: tuple[Falsification, ...]
    changelog: tuple[Change, ...]
    raw: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reading:
    """A contract, its lines, and what in it could not be understood: such a check is None in the contract."""

    contract: Contract
    tree: _yaml.Tree
    problems: tuple[ContractError, ...]


def files_of(paths: Sequence[Path]) -> list[Path]:
    """Files as they are named, and the contracts in folders, each once. Raises UsageError for a path that is not there."""
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            inside = (p for p in path.rglob("*") if p.suffix in SUFFIXES and p.is_file())
            found |= dict.fromkeys(sorted(inside))
        elif path.exists():
            found[path] = None
        else:
            raise UsageError(f"{path}: no such file or folder; give a contract's YAML file, or a folder of them")
    return list(found)


def has_tests(path: Path) -> bool:
    """Whether a YAML file looks like a contract's: a block of falsification tests stands in it. Nothing is parsed."""
    try:
        return path.stat().st_size <= _yaml.LONGEST_BYTES and _TEST_BLOCK.search(path.read_bytes()) is not None
    except OSError:
        return False


def read(path: Path) -> Contract:
    """Read a contract. Raises ContractError with the line for what is no contract, or a check that cannot be understood."""
    reading = read_with_problems(path)
    if reading.problems:
        raise reading.problems[0]
    return reading.contract


def read_with_problems(path: Path) -> Reading:
    """Read a contract with what is wrong in it beside it. Raises ContractError only for what is no contract at all."""
    data = read_bytes(path)
    tree = _yaml.parse(data, path)
    if not isinstance(tree.value, dict):
        raise ContractError(
            path, f"the document is a {type(tree.value).__name__}; a contract is a mapping with metadata"
        )
    problems: list[ContractError] = []
    return Reading(_Form(path, tree, problems).contract(hashlib.sha256(data).hexdigest()), tree, tuple(problems))


def read_bytes(path: Path) -> bytes:
    """A contract's bytes. Raises ContractError for what is no plain file of a contract's size."""
    try:
        size = path.stat().st_size
        data = path.read_bytes() if path.is_file() and size <= _yaml.LONGEST_BYTES else None
    except OSError as exc:
        raise ContractError(path, f"{exc.strerror}; give a contract's YAML file") from exc
    if data is None:
        raise ContractError(path, "no plain file of a contract's size; give a contract's YAML file")
    return data


def fill(check: Check, *, model: str, reference: str | None, scratch: str | None = None) -> Check:
    """The check with models and folder in their places. Raises UsageError if it needs a reference or a folder and there is none."""
    given = {"{model}": model, "{reference}": reference, "{scratch}": scratch}
    return replace(check, arguments=_check.filled(check.arguments, given))


class _Form:
    """The forms that contracts come in, looked through."""

    def __init__(self, path: Path, tree: _yaml.Tree, problems: list[ContractError]) -> None:
        self._path, self._tree, self._problems = path, tree, problems
        self._top: dict[str, Any] = tree.value
        metadata = self._top.get("metadata")
        self._metadata: dict[str, Any] = metadata if isinstance(metadata, dict) else {}

    def contract(self, sha256: str) -> Contract:
        """The contract."""
        return Contract(
            path=self._path,
            sha256=sha256,
            id=next((text for key in _IDS if (text := self._text(key))), self._path.stem),
            version=self._text("version"),
            status=self._text("status"),
            kind=self._text("kind") or _DEFAULT_KIND,
            description=self._text("description"),
            references=self._texts("references"),
            depends_on=self._texts("depends_on"),
            equations=tuple(self._equations()),
            obligations=tuple(self._obligations()),
            falsifications=tuple(self._falsifications()),
            changelog=tuple(self._changelog()),
            raw=self._top,
        )

    def _text(self, key: str) -> str:
        for where, fields in ((("metadata", key), self._metadata), ((key,), self._top)):
            if isinstance(fields.get(key), str | int | float):
                return self._tree.texts.get(where, str(fields[key])).strip()
        return ""

    def _texts(self, key: str) -> tuple[str, ...]:
        found = self._metadata.get(key, self._top.get(key))
        return tuple(_said(item) for item in _items(found) if item is not None)

    def _rows(self, *keys: str) -> Iterator[tuple[_yaml.Where, str, Any]]:
        """Of every block of these names: place, name (empty in a list), value."""
        for key in keys:
            block = self._top.get(key)
            if isinstance(block, dict):
                if key == "falsification" and any(name in block for name in ("id", *_BINDINGS)):
                    yield (key,), "", block  # a single test, not a map of them
                else:
                    yield from (((key, str(name)), str(name), value) for name, value in block.items())
            elif isinstance(block, list):
                yield from (((key, i), "", value) for i, value in enumerate(block))

    def _equations(self) -> Iterator[Equation]:
        for where, name, value in self._rows("equations"):
            fields = value if isinstance(value, dict) else {"formula": value}
            said = name or _said(fields.get("name") or fields.get("id"))
            yield Equation(said, _said(fields.get("formula")), self._tree.line(*where), fields)

    def _obligations(self) -> Iterator[Obligation]:
        for where, name, value in self._rows("proof_obligations", "obligations"):
            fields = value if isinstance(value, dict) else {"property": value}
            about = _said(fields.get("id")) or name
            line = self._tree.line(*where)
            yield Obligation(about, _said(fields.get("type")), _said(fields.get("property")), line, fields)

    def _falsifications(self) -> Iterator[Falsification]:
        for where, name, value in self._rows(*_TESTS):
            fields = value if isinstance(value, dict) else {"test": value}
            check = self._check((*where, "check"), fields["check"]) if "check" in fields else None
            known = {"id", "rule", "prediction", "test", "if_fails", *(["check"] if check is not None else [])}
            bound = next((text for key in _BINDINGS if (text := _first(fields.get(key)))), "")
            yield Falsification(
                id=self._tree.texts.get((*where, "id"), _said(fields.get("id"))) or name,
                rule=_said(fields.get("rule")),
                prediction=_said(fields.get("prediction")),
                test=bound,
                if_fails=_said(fields.get("if_fails")),
                check=check,
                line=self._tree.line(*where),
                fields={key: item for key, item in fields.items() if key not in known},
            )

    def _check(self, where: _yaml.Where, value: Any) -> Check | None:
        try:
            parts = _check.read(value, where, self._tree, self._path)
        except ContractError as exc:
            self._problems.append(exc)
            return None
        return Check(parts.kind, parts.name, parts.arguments, parts.expect, self._tree.line(*where))

    def _changelog(self) -> Iterator[Change]:
        key = "changelog"
        at: _yaml.Where = ("metadata", key) if key in self._metadata else (key,)
        block = self._metadata.get(key, self._top.get(key))
        if isinstance(block, dict):  # version: text
            rows = [((*at, version), {"version": version, "text": value}) for version, value in block.items()]
        else:
            rows = [((*at, i), value) for i, value in enumerate(_items(block))]
        for where, value in rows:
            yield self._change(where, value)

    def _change(self, where: _yaml.Where, value: Any) -> Change:
        line = self._tree.line(*where)
        if not isinstance(value, dict):
            return Change(_check.leading_version(_said(value)), "", _said(value), line)
        if len(value) == 1 and not {"version", "text"} & set(value):  # - 1.0.0: what changed
            ((version, text),) = value.items()
            return Change(str(version), "", _said(text), line)
        text = "; ".join(_said(item) for key, item in value.items() if key not in ("version", "date"))
        version = self._tree.texts.get((*where, "version"), _said(value.get("version")))
        return Change(version.strip(), _said(value.get("date")), text, line)


def _items(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else list(value) if isinstance(value, dict) else [value] if value else []


def _first(value: Any) -> str:
    return next((text for item in _items(value) if (text := _said(item))), "")


def _said(value: Any) -> str:
    """A scalar as text, lists and maps joined; None is empty."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "; ".join(map(_said, value))
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_said(item)}" for key, item in value.items())
    return str(value).strip()
