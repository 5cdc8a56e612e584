"""YAML as hostile input: a line for every key, no key twice, no merges, few aliases, a limit on size and depth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from apr.errors import PredictionError

MAX_BYTES = 1 << 20
MAX_ALIASES = 100
MAX_DEPTH = 32
_MAP = "tag:yaml.org,2002:map"


class Block(dict[str, Any]):
    """A mapping that knows on which line it and each of its keys stand, counted from one."""

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: dict[str, int] = {}


def load(path: Path, content: bytes) -> Block:
    """The mapping that a file is. Raises PredictionError with the line."""
    if len(content) > MAX_BYTES:
        raise PredictionError(
            path, f"has {len(content)} bytes, expected at most {MAX_BYTES}; split it into several files"
        )
    try:
        text = content.decode("utf-8")
        _check_shape(path, text)
        loader = _Loader(text)
        try:
            found = loader.get_single_data()
        finally:
            loader.dispose()
    except UnicodeDecodeError as exc:
        raise PredictionError(path, "is not UTF-8; save it as UTF-8", offset=exc.start) from exc
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise PredictionError(path, f"{where}is no YAML: {exc.problem or exc.context}") from exc
    except yaml.YAMLError as exc:
        raise PredictionError(path, f"is no YAML: {exc}") from exc
    except ValueError as exc:
        raise PredictionError(path, f"holds a number or date that is none ({exc}); put it in quotes") from exc
    if not isinstance(found, Block):
        raise PredictionError(path, f"is {kind_of(found)}, expected a mapping with schema and predictions")
    return found


def _check_shape(path: Path, text: str) -> None:
    """Raise PredictionError for what is nested deeper, or refers back more often, than any prediction: parsing it takes for ever."""
    depth = n_aliases = 0
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
        n_aliases += isinstance(token, yaml.AliasToken)
        if depth > MAX_DEPTH or n_aliases > MAX_ALIASES:
            found = f"is nested over {MAX_DEPTH} deep" if depth > MAX_DEPTH else f"has over {MAX_ALIASES} aliases"
            raise PredictionError(path, f"line {token.start_mark.line + 1}: {found}; predictions need far less")


_OPENING = (
    yaml.FlowSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.BlockMappingStartToken,
)
_CLOSING = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken, yaml.BlockEndToken)


def kind_of(value: Any) -> str:
    """What a YAML value is, for a message."""
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    kinds: dict[type, str] = {dict: "a mapping", list: "a list", str: "text", int: "a number", float: "a number"}
    return next((name for kind, name in kinds.items() if isinstance(value, kind)), f"a {type(value).__name__}")


class _Loader(yaml.SafeLoader):
    """The safe loader with `Block` for mappings."""


def _block(loader: _Loader, node: yaml.MappingNode) -> Any:
    """Built in two steps, as PyYAML's own mappings are: an alias may stand within what it names."""
    found = Block(node.start_mark.line + 1)
    yield found
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is no text", key_node.start_mark)
        if key in found:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key!r} stands here twice", key_node.start_mark
            )
        found[key] = loader.construct_object(value_node, deep=True)
        found.lines[key] = key_node.start_mark.line + 1


_Loader.add_constructor(_MAP, _block)
