"""As much of JSON Schema as the published schemas use; a keyword that is not known here is an error, not a pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_TYPES: dict[str, Any] = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    "boolean": lambda v: isinstance(v, bool),
    "null": lambda v: v is None,
}
_SAYS_NOTHING = {"$schema", "$id", "$defs", "title", "description", "format", "type"}


def errors_in(value: Any, schema: dict[str, Any]) -> list[str]:
    """Everything about a value that breaks a schema, with its place."""
    return list(_errors(value, schema, schema, "$"))


def _errors(value: Any, schema: dict[str, Any], root: dict[str, Any], at: str) -> Iterator[str]:
    if "type" in schema and not _TYPES[schema["type"]](value):
        yield f"{at}: {value!r} is no {schema['type']}"
        return
    for keyword, rule in schema.items():
        if keyword not in _SAYS_NOTHING:
            yield from _broken(keyword, rule, value, schema, root, at)


def _broken(
    keyword: str, rule: Any, value: Any, schema: dict[str, Any], root: dict[str, Any], at: str
) -> Iterator[str]:
    match keyword:
        case "$ref":
            yield from _errors(value, root["$defs"][rule.removeprefix("#/$defs/")], root, at)
        case "anyOf":
            if all(list(_errors(value, option, root, at)) for option in rule):
                yield f"{at}: {value!r} is none of {rule}"
        case "const":
            if value != rule:
                yield f"{at}: {value!r} is not {rule!r}"
        case "enum":
            if value not in rule:
                yield f"{at}: {value!r} is none of {rule}"
        case "required":
            yield from (f"{at}: {name} is missing" for name in rule if name not in value)
        case "properties":
            for name, inner in rule.items():
                if name in value:
                    yield from _errors(value[name], inner, root, f"{at}.{name}")
        case "additionalProperties":
            for name in set(value) - set(schema.get("properties", {})):
                if rule is False:
                    yield f"{at}: {name} is unknown"
                elif isinstance(rule, dict):
                    yield from _errors(value[name], rule, root, f"{at}.{name}")
        case "propertyNames":
            for name in value:
                yield from _errors(name, rule, root, at)
        case "items":
            for i, item in enumerate(value):
                yield from _errors(item, rule, root, f"{at}[{i}]")
        case "prefixItems":
            for i, (item, inner) in enumerate(zip(value, rule, strict=False)):
                yield from _errors(item, inner, root, f"{at}[{i}]")
        case "minItems":
            if len(value) < rule:
                yield f"{at}: {len(value)} items, at least {rule}"
        case "maxItems":
            if len(value) > rule:
                yield f"{at}: {len(value)} items, at most {rule}"
        case _:
            yield f"{at}: the keyword {keyword!r} is not known to this checker"
