"""YAML as plain data that knows its lines; read as hostile input.

Built from the nodes of PyYAML's safe composer, so no tag makes an object. Dates stay text, a scalar's own spelling is
kept beside its value (version `1.10` is not the number 1.1), and a key that stands twice is reported, not overwritten in silence.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from apr.errors import ContractError, PredictionError

Refusal = type[ContractError] | type[PredictionError]
Where = tuple[str | int, ...]  # keys and indices from the root

# the largest contract upstream has is 0.2 MB, a prediction far less; these stop a bomb of aliases, a deep nest and a wrong file
LONGEST_BYTES = 1 << 20
MOST_VALUES = 50_000
DEEPEST = 64
_MOST_OPEN = 1000  # brackets that are not closed yet, those in texts counted: PyYAML's scanner takes their square
_TOO_DEEP = f"nested deeper than {DEEPEST} levels, expected far less; make it flatter"
_LONGEST_NUMBER = 100  # digits; what is longer is text, and Python refuses integers of thousands

# every level of a block takes a column at least
_DEEP_INDENT = re.compile(r"^[ \t?:-]{400}", re.MULTILINE)

# what a scalar, list or mapping without a tag of its own gets
_STANDARD_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}"
    for name in ("str", "int", "float", "bool", "null", "timestamp", "merge", "value", "seq", "map")
)

# YAML 1.2: yes, no, on and off are text
_BOOLEANS = {"true": True, "false": False}
_NULL = frozenset({"", "~", "null"})
_INT = re.compile(r"[-+]?[0-9][0-9_]*")
# YAML 1.2 and not 1.1, where 1e-6 is text
_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9_]+)(?:[eE][-+]?[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Tree:
    """A document.

    value:       dicts, lists, text, numbers, booleans, None; keys are text
    lines:       of every value by its place, counted from 1; of a mapping's value, the line of its key
    texts:       scalars as they are spelled
    duplicates:  places of keys that stand more than once, with the line of the later one, which is the one that counts
    unusual:     merged mappings and tags, by line: the first are done, the second make nothing
    """

    value: Any
    lines: Mapping[Where, int]
    texts: Mapping[Where, str]
    duplicates: tuple[tuple[Where, int], ...]
    unusual: tuple[tuple[int, str], ...]

    def line(self, *where: str | int) -> int:
        """Of a value, or of what it would stand in."""
        while where and where not in self.lines:
            where = where[:-1]
        return self.lines.get(where, 1)


def parse(data: bytes, path: Path, error: Refusal = ContractError) -> Tree:
    """Read one document. Raises the error, with the line, for what is no YAML, too large, too deep or not text."""
    if len(data) > LONGEST_BYTES:
        raise error(path, f"{len(data):,} bytes, expected at most {LONGEST_BYTES:,}; is this the file you meant?")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise error(path, f"byte {exc.start} is not UTF-8; save the file as UTF-8") from exc
    if _most_open(text) > _MOST_OPEN:
        raise error(path, _TOO_DEEP)
    try:
        node = yaml.compose(text, Loader=_loader(text))
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        line = mark.line + 1 if mark is not None else None
        raise error(path, f"no YAML: {exc.problem or exc.context}; mend that line", line=line) from exc
    except yaml.YAMLError as exc:
        raise error(path, f"no YAML: {str(exc).splitlines()[0]}") from exc
    except RecursionError as exc:
        raise error(path, _TOO_DEEP) from exc
    if node is None:
        raise error(path, "an empty document, expected a mapping; is this the file you meant?")
    return _Reader(path, error).read(node)


class _Reader:
    """Plain data out of nodes. An alias is read again wherever it stands, and counts each time."""

    def __init__(self, path: Path, error: Refusal) -> None:
        self._path = path
        self._error = error
        self._lines: dict[Where, int] = {}
        self._texts: dict[Where, str] = {}
        self._duplicates: list[tuple[Where, int]] = []
        self._unusual: list[tuple[int, str]] = []
        self._n_values = 0

    def read(self, node: yaml.Node) -> Tree:
        value = self._value(node, (), _line(node))
        return Tree(value, self._lines, self._texts, tuple(self._duplicates), tuple(self._unusual))

    def _value(self, node: yaml.Node, where: Where, line: int) -> Any:
        self._n_values += 1
        if self._n_values > MOST_VALUES:
            raise self._error(
                self._path, f"over {MOST_VALUES:,} values, aliases counted, expected fewer; split the file", line=line
            )
        if len(where) > DEEPEST:
            raise self._error(self._path, _TOO_DEEP, line=line)
        self._lines[where] = line
        if node.tag not in _STANDARD_TAGS:
            self._unusual.append((_line(node), f"the tag {node.tag!r}; values have none here"))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, where)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*where, i), _line(item)) for i, item in enumerate(node.value)]
        self._texts[where] = str(node.value)
        is_plain = isinstance(node, yaml.ScalarNode) and not node.style  # libyaml's plain style is empty, not None
        return _scalar(str(node.value)) if is_plain else str(node.value)

    def _mapping(self, node: yaml.MappingNode, where: Where) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = _line(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._error(self._path, "a key that is itself a list or a mapping; keys are text", line=line)
            key = str(key_node.value)
            if key == "<<" and not key_node.style:
                self._unusual.append((line, "a merge (<<); write what it brings where it belongs"))
                merged = self._value(value_node, (*where, key), line)
                parts = merged if isinstance(merged, list) else [merged]
                for part in filter(lambda part: isinstance(part, dict), parts):
                    found = part | found
                continue
            if (*where, key) in self._lines and key in found:
                self._duplicates.append(((*where, key), line))
            found[key] = self._value(value_node, (*where, key), line)
        return found


def _loader(text: str) -> Any:
    """libyaml's, many times as fast, but where nesting so deep that its recursion could end the process is possible."""
    is_shallow = _most_open(text) <= DEEPEST and _DEEP_INDENT.search(text) is None
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader) if is_shallow else yaml.SafeLoader


def _most_open(text: str) -> int:
    """The most brackets that are open at once."""
    steps = (1 if c in "[{" else -1 for c in text if c in "[]{}")
    return max(itertools.accumulate(steps), default=0)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _scalar(text: str) -> Any:
    """A plain scalar's value; what looks like nothing else is text, dates and versions among it."""
    word = text.lower()
    if word in _NULL:
        return None
    if word in _BOOLEANS:
        return _BOOLEANS[word]
    if len(text) > _LONGEST_NUMBER:
        return text
    if _INT.fullmatch(text):
        return int(text.replace("_", ""))
    if _FLOAT.fullmatch(text):
        return float(text.replace("_", ""))
    if word.lstrip("+-") in (".inf", ".nan"):
        return float(word.replace(".", ""))
    return text
