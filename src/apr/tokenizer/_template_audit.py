"""A look at a chat template without rendering it: what no honest template needs.

The template is parsed and its tree is walked; nothing of it runs. A finding is a reason to read the template, not a
proof of malice, and no finding is no promise: rendering has its own sandbox, process and limits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from jinja2 import nodes
from jinja2.exceptions import TemplateError

from apr.tokenizer._template_child import environment

MAX_SOURCE_BYTES = 2**20
MAX_FINDINGS = 50
LARGE = 10_000  # repetitions in one range, product or padding; real templates count messages

_DUNDER = re.compile(r"__\w")
_FRAMES = frozenset(
    {"mro", "gi_frame", "gi_code", "cr_frame", "f_globals", "f_builtins", "f_back", "tb_frame", "format_map"}
)
_GLOBALS = frozenset({"cycler", "lipsum", "joiner", "self", "config", "request"})
_PADDING = frozenset({"center", "ljust", "rjust", "zfill", "indent", "wordwrap", "expandtabs"})


def suspicious(source: str) -> list[str]:
    """What is suspicious in a template, one sentence each with its line; empty if nothing is."""
    if len(source.encode(errors="replace")) > MAX_SOURCE_BYTES:
        return [f"longer than {MAX_SOURCE_BYTES} bytes: not parsed"]
    try:
        tree = environment().parse(source)
        found = list(dict.fromkeys(_findings(tree)))
    except RecursionError:
        return ["nested too deeply to be parsed"]
    except TemplateError as exc:
        return [f"line {getattr(exc, 'lineno', 0)}: not valid Jinja: {exc}"[:300]]
    except (ValueError, SyntaxError, MemoryError) as exc:  # a number of 5,000 digits, an impossible escape
        return [f"not parsed: {type(exc).__name__}: {exc}"[:300]]
    if len(found) > MAX_FINDINGS:
        return [*found[:MAX_FINDINGS], f"and {len(found) - MAX_FINDINGS} more"]
    return found


def _findings(tree: nodes.Template) -> Iterator[str]:
    stored = {name.name for name in tree.find_all(nodes.Name) if name.ctx != "load"}
    called = {id(call.node) for call in tree.find_all(nodes.Call)}
    for node in tree.find_all(nodes.Node):
        for finding in _look(node, stored, called):
            yield f"line {node.lineno}: {finding}"


def _look(node: nodes.Node, stored: set[str], called: set[int]) -> Iterator[str]:
    match node:
        case nodes.Getattr(attr=str(name)) if _DUNDER.search(name) or name in _FRAMES:
            yield f"attribute {name!r} leads to the interpreter's internals"
        case nodes.Getattr(attr="format") if id(node) not in called:
            yield "str.format is taken without being called, as sandbox escapes do"
        case nodes.Const(value=str(text)) if _DUNDER.search(text):
            yield f"string {text[:60]!r} names the interpreter's internals"
        case nodes.Name(name=name, ctx="load") if name in _GLOBALS - stored:
            yield f"global {name!r} is used; chat templates do not need it"
        case nodes.Name(name=name) | nodes.NSRef(attr=name) | nodes.Keyword(key=name) if _DUNDER.search(name):
            yield f"name {name!r} is one of the interpreter's internals"
        case nodes.Filter(name="attr"):
            yield "filter 'attr' reaches attributes by computed names"
        case nodes.Include() | nodes.Import() | nodes.FromImport() | nodes.Extends():
            yield f"{type(node).__name__.lower()} asks for another template; there is none"
        case nodes.Call(node=nodes.Name(name="range")) if _largest(node.args) >= LARGE:
            yield f"range of {_largest(node.args):,} steps"
        case nodes.Call(node=nodes.Getattr(attr=name)) if name in _PADDING and _largest(node.args) >= LARGE:
            yield f"{name} to {_largest(node.args):,} characters"
        case nodes.Filter(name=name) if name in _PADDING and _largest(node.args) >= LARGE:
            yield f"{name} to {_largest(node.args):,} characters"
        case nodes.Mul() if max(_largest([node.left, node.right]), _constant(node)) >= LARGE:
            yield f"multiplication by {max(_largest([node.left, node.right]), _constant(node)):,}"
        case nodes.Pow():
            yield "a power: chat templates do not need large numbers"


def _largest(arguments: list[nodes.Expr]) -> int:
    return max((_constant(argument) for argument in arguments), default=0)


def _constant(node: nodes.Expr) -> int:
    """The value of a number or of a product of numbers; 0 for anything else. A power is never computed."""
    if isinstance(node, nodes.Const) and isinstance(node.value, int):
        return min(node.value, 10**18)
    if isinstance(node, nodes.Mul):
        return min(_constant(node.left) * _constant(node.right), 10**18)
    return 0
