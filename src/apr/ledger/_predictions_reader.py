"""From YAML to predictions, strictly: a key that is not known, a value of another type, a name that nothing has, are errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn, cast

from apr import _folder
from apr.engines._record import RunRecord
from apr.engines._sampling import Sampling
from apr.errors import PredictionError, UsageError
from apr.ledger import _pattern, _yaml
from apr.ledger._separation import with_setting
from apr.ledger.prediction import (
    RUNS,
    SCHEMA,
    SETTINGS,
    VARIABLE,
    Candidate,
    Condition,
    Hypothesis,
    OutcomeRow,
    Prediction,
    RunName,
    Settings,
)

_CHOICES: dict[str, tuple[str, ...]] = {
    "container": ("gguf", "apr"),
    "regime": ("auto", "raw", "chat"),
    "control_tokens": ("text", "token"),
    "at_eos": ("stop", "ignore"),
    "activations": ("int8", "float32"),
}
_OPS = ("contains", "equals", "matches", "parses_as", "same_token_ids_as", "not_degenerate")
_ON_FIELDS = ("contains", "equals", "matches")
_RESULTS = ("pass", "fail")
_FIELDS = {field.name for field in fields(RunRecord)} | {"template.decision", "template.reason", "template.source"}


def predictions_of(path: Path, content: bytes) -> tuple[Prediction, ...]:
    """Every prediction of a file. Raises PredictionError."""
    document = _document(path, content)
    reader = _Reader(path)
    reader.check_keys(document, required=("schema", "predictions"), optional=("title",))
    if document["schema"] != SCHEMA:
        reader.fail(document, "schema", f"is {document['schema']!r}, expected {SCHEMA}")
    found = tuple(reader.prediction(block) for block in reader.blocks(document, "predictions"))
    reader.check_unique([(one.id, one.line) for one in found])
    return found


class Block(dict[str, Any]):
    """A mapping that knows on which line it and each of its keys stand, counted from 1."""

    def __init__(self, tree: _yaml.Tree, where: _yaml.Where, values: Mapping[str, Any]) -> None:
        super().__init__({key: _with_lines(tree, (*where, key), value) for key, value in values.items()})
        self.line = tree.line(*where)
        self.lines = {key: tree.line(*where, key) for key in values}


def _with_lines(tree: _yaml.Tree, where: _yaml.Where, value: Any) -> Any:
    """A value whose mappings are Blocks."""
    if isinstance(value, dict):
        return Block(tree, where, value)
    return [_with_lines(tree, (*where, i), one) for i, one in enumerate(value)] if isinstance(value, list) else value


def _document(path: Path, content: bytes) -> Block:
    """The mapping that a file is: no key twice, nothing merged, no tags."""
    tree = _yaml.parse(content, path, PredictionError)
    twice = [(line, f"the key {where[-1]!r} stands here twice; remove one") for where, line in tree.duplicates]
    for line, found in sorted([*twice, *tree.unusual]):
        raise PredictionError(path, found, line=line)
    if not isinstance(tree.value, dict):
        raise PredictionError(path, f"is {_kind_of(tree.value)}, expected a mapping with schema and predictions")
    return Block(tree, (), tree.value)


def _kind_of(value: Any) -> str:
    """What a YAML value is, for a message."""
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    kinds: dict[type, str] = {dict: "a mapping", list: "a list", str: "text", int: "a number", float: "a number"}
    return next(name for kind, name in kinds.items() if isinstance(value, kind))


class _Reader:
    """Blocks to dataclasses; every complaint names the file and the line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def prediction(self, block: Block) -> Prediction:
        self.check_keys(
            block,
            required=("id", "hypotheses", "control", "experiment", "varies", "expected", "outcomes"),
            optional=("question", "candidates"),
        )
        runs = {name: self.settings(self.block(block, name)) for name in RUNS}
        varies = self.one_of(block, "varies", VARIABLE)
        expected = tuple(self.condition(one) for one in self.blocks(block, "expected"))
        for name in RUNS:
            if not any(condition.run in (None, name) for condition in expected):
                self.fail(block, "expected", f"asks nothing of the {name} run; without it nothing is known of it")
        candidates = tuple(self.candidate(one, runs) for one in self.blocks(block, "candidates", least=0))
        self.check_unique([(c.id, block.lines["candidates"]) for c in candidates])
        known = (*RUNS, *(candidate.id for candidate in candidates))
        hypotheses = tuple(self.hypothesis(one, known) for one in self.blocks(block, "hypotheses"))
        self.check_unique([(h.id, block.lines["hypotheses"]) for h in hypotheses])
        return Prediction(
            id=self.text(block, "id"),
            question=self.text(block, "question", default=""),
            line=block.line,
            hypotheses=hypotheses,
            control=runs["control"],
            experiment=runs["experiment"],
            varies=varies,
            expected=expected,
            outcomes=tuple(self.outcome(one) for one in self.blocks(block, "outcomes")),
            candidates=candidates,
        )

    def settings(self, block: Block) -> Settings:
        allowed = {name for name in SETTINGS if "." not in name} | {"sampling", "messages"}
        self.check_keys(block, required=("model",), optional=tuple(sorted(allowed - {"model"})))
        if ("prompt" in block) == ("messages" in block):
            raise self.error(block.line, "has both prompt and messages, or neither; expected one of them")
        name = "prompt" if "prompt" in block else "messages"
        given: dict[str, Any] = {key: self.setting(block, key) for key in block if key not in ("sampling", name)}
        given["prompt"] = self.setting(block, name)
        if "sampling" in block:
            part = self.block(block, "sampling")
            self.check_keys(part, required=(), optional=tuple(field.name for field in fields(Sampling)))
            given["sampling"] = self.made(part, Sampling, {key: self.number(part, key) for key in part})
        made = Settings(**given)
        if name == "messages" and (made.regime == "raw" or made.system is not None):
            self.fail(block, name, "are a whole conversation for the chat template; leave out regime: raw and system")
        return made

    def setting(self, block: Block, name: str) -> Any:
        """One setting's value, as `Settings` has it."""
        value = block[name]
        if name in _CHOICES:
            return None if name == "container" and value is None else self.one_of(block, name, _CHOICES[name])
        if name == "engine":
            return self.one_of(block, name, tuple(n for n in _folder.names("apr.engines") if n != "openai"))
        if name in ("max_tokens", "threads"):
            if name == "threads" and value is None:
                return None
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1 << 20:
                self.fail(block, name, f"is {value!r}, expected a whole number of at least 1")
            return value
        if name == "messages":
            return tuple(self.message(one) for one in self.blocks(block, name))
        if name == "stop":
            return tuple(self.text({"stop": one}, "stop", line=block.lines[name]) for one in self.items(block, name))
        if name == "system" and value is None:
            return None
        return self.text(block, name)

    def message(self, block: Block) -> dict[str, str]:
        self.check_keys(block, required=("role", "content"), optional=())
        return {key: self.text(block, key) for key in ("role", "content")}

    def condition(self, block: Block) -> Condition:
        ops = [op for op in _OPS if op in block]
        if len(ops) != 1:
            raise self.error(block.line, f"has {len(ops)} conditions, expected one of {', '.join(_OPS)}")
        op, value = ops[0], block[ops[0]]
        self.check_keys(block, required=(op,), optional=("run", *(("field",) if op in _ON_FIELDS else ())))
        run = self.one_of(block, "run", RUNS) if "run" in block else None
        field = self.text(block, "field", default="text")
        if field not in _FIELDS:
            self.fail(block, "field", f"is {field!r}, which a run record does not have; expected text, finish_reason …")
        if op == "equals" and not isinstance(value, str | int | float):
            self.fail(block, op, f"is {_kind_of(value)}, expected text or a number")
        if op in ("contains", "matches"):
            value = self.text(block, op)
        if op == "contains" and not value:
            self.fail(block, op, "is empty, and every text contains that")
        if op == "matches" and (said := _pattern.problem(value)):
            self.fail(block, op, said)
        wanted = {"parses_as": "python", "same_token_ids_as": "control", "not_degenerate": True}.get(op, value)
        if value != wanted:
            self.fail(block, op, f"is {value!r}, expected {wanted!r}".replace("True", "true"))
        if op == "same_token_ids_as":
            if run == "control":
                self.fail(block, "run", "is control, which always has its own token ids; ask it of the experiment")
            run = "experiment"
        return Condition(cast("RunName | None", run), field, op, value)

    def hypothesis(self, block: Block, runs: tuple[str, ...]) -> Hypothesis:
        self.check_keys(block, required=("id", "says"), optional=("predicts", "blames"))
        predicts: dict[str, Any] = {}
        if "predicts" in block:
            part = self.block(block, "predicts")
            self.check_keys(part, required=(), optional=runs)
            predicts = {key: self.one_of(part, key, _RESULTS) for key in part}
        blames = self.one_of(block, "blames", VARIABLE) if "blames" in block else None
        if blames is None and not predicts:
            raise self.error(block.line, "predicts nothing and blames nothing: no run could speak against it")
        return Hypothesis(self.text(block, "id"), self.text(block, "says"), predicts, blames)

    def outcome(self, block: Block) -> OutcomeRow:
        self.check_keys(block, required=("means",), optional=RUNS)
        results: dict[str, Any] = {name: self.one_of(block, name, _RESULTS) if name in block else None for name in RUNS}
        return OutcomeRow(results["control"], results["experiment"], self.text(block, "means"))

    def candidate(self, block: Block, runs: dict[RunName, Settings]) -> Candidate:
        self.check_keys(block, required=("id", "change"), optional=("from",))
        name = self.text(block, "id")
        if name in RUNS:
            self.fail(block, "id", f"is {name}, which is one of the two runs")
        based_on = cast("RunName", self.one_of(block, "from", RUNS) if "from" in block else "control")
        change = self.block(block, "change")
        self.check_keys(change, required=(), optional=SETTINGS)
        if len(change) != 1:
            raise self.error(change.line, f"changes {len(change)} fields, expected one: two at once explain nothing")
        (field,) = change
        before = runs[based_on]
        value = self.number(change, field) if field.startswith("sampling.") else self.setting(change, field)
        try:
            after = with_setting(before, field, value)
        except UsageError as exc:
            raise self.error(change.line, str(exc)) from exc
        if after == before:
            self.fail(change, field, f"is what the {based_on} run has; give another value")
        return Candidate(name, based_on, field, value, after)

    # the pieces

    def check_keys(self, block: Block, *, required: tuple[str, ...], optional: tuple[str, ...]) -> None:
        """Raise PredictionError for a key that is missing, or is none."""
        for key in required:
            if key not in block:
                raise self.error(block.line, f"has no {key}; expected {', '.join(required)}")
        for key in block:
            if key not in required and key not in optional:
                known = ", ".join((*required, *optional))
                raise self.error(block.lines[key], f"{key!r} is not known here; known: {known}")

    def check_unique(self, ids: list[tuple[str, int]]) -> None:
        """Raise PredictionError for an id that is there twice."""
        seen: set[str] = set()
        for name, line in ids:
            if name in seen:
                raise self.error(line, f"the id {name!r} is there twice; give each its own")
            seen.add(name)

    def block(self, block: Block, key: str) -> Block:
        value = block[key]
        if not isinstance(value, Block):
            self.fail(block, key, f"is {_kind_of(value)}, expected a mapping")
        return value

    def items(self, block: Block, key: str) -> list[Any]:
        value = block[key]
        if not isinstance(value, list):
            self.fail(block, key, f"is {_kind_of(value)}, expected a list")
        return value

    def blocks(self, block: Block, key: str, *, least: int = 1) -> list[Block]:
        if key not in block and not least:
            return []
        values = self.items(block, key)
        if len(values) < least:
            self.fail(block, key, f"is empty, expected at least {least}")
        for value in values:
            if not isinstance(value, Block):
                self.fail(block, key, f"holds {_kind_of(value)}, expected mappings")
        return values

    def text(self, block: dict[str, Any], key: str, *, default: str | None = None, line: int = 0) -> str:
        if key not in block and default is not None:
            return default
        value = block[key]
        if not isinstance(value, str):
            at = block.lines[key] if isinstance(block, Block) else line
            raise self.error(at, f"{key} is {_kind_of(value)}, expected text; put it in quotes")
        if key in ("id", "model") and not value.strip():
            raise self.error(block.lines[key] if isinstance(block, Block) else line, f"{key} is empty; give it a name")
        return value

    def number(self, block: Block, key: str) -> Any:
        value = block[key]
        if not isinstance(value, int | float) or isinstance(value, bool):
            self.fail(block, key, f"is {_kind_of(value)}, expected a number")
        if key.rpartition(".")[2] in ("top_k", "seed"):
            if not isinstance(value, int):
                self.fail(block, key, f"is {value}, expected a whole number")
            return value
        return float(value)

    def one_of(self, block: Block, key: str, known: tuple[str, ...]) -> Any:
        if block[key] not in known:
            self.fail(block, key, f"is {block[key]!r}, expected one of {', '.join(known)}")
        return block[key]

    def made(self, block: Block, kind: type[Sampling], values: dict[str, Any]) -> Sampling:
        try:
            return kind(**values)
        except UsageError as exc:
            raise self.error(block.line, str(exc)) from exc

    def fail(self, block: Block, key: str, complaint: str) -> NoReturn:
        raise self.error(block.lines.get(key, block.line), f"{key} {complaint}")

    def error(self, line: int, complaint: str) -> PredictionError:
        return PredictionError(self._path, complaint, line=line)
