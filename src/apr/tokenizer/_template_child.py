"""Renders chat templates in a process of its own, which has nothing to read, to write to, or to lose.

Run as `python -I -S -B _template_child.py FOLDER...` with the folders of jinja2 and markupsafe; it imports nothing of
`apr`, takes its limits on itself before it sees a template, and then answers one request after another until its
standard input ends. Both directions are frames: 8 bytes of length, big-endian, then JSON.

The environment is that of transformers' `apply_chat_template` (`utils/chat_template_utils.py`, 5.23), which decides
what a template means: `environment()` is also what a static look at a template is parsed with.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO

if __name__ == "__main__":
    sys.path[:] = [*sys.path, *sys.argv[1:]]  # -S leaves site-packages out; these are the folders of the two libraries

# Jinja2 imports some of these only when a template needs them; that must not wait until files can no longer be opened.
import encodings.ascii
import encodings.latin_1
import encodings.utf_8  # noqa: F401
import pprint  # noqa: F401
import textwrap  # noqa: F401

import jinja2.constants
import jinja2.debug  # noqa: F401
from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

try:  # now: once the module search path is gone, nothing more can be imported
    import resource
except ImportError:  # Windows; the parent's wall clock and the cap on output are left
    resource = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable

    from jinja2 import Template
    from jinja2.parser import Parser

MEMORY_BYTES = 512 * 2**20
CPU_S = 3
OUTPUT_BYTES = 4 * 2**20
MESSAGE_CHARS = 500
LENGTH_BYTES = 8


class RaisedByTemplate(TemplateError):
    """`raise_exception(...)`: the template itself says that it does not accept the conversation."""


class OutputTooLong(Exception):
    """The text passed OUTPUT_BYTES."""


class GenerationTag(Extension):
    """`{% generation %}` marks what the assistant wrote, for training masks; here its body is simply rendered.

    It is a call block, as in transformers, because that decides the scope of a `set` inside it.
    """

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        """Parse up to `{% endgeneration %}`."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller: Callable[[], str]) -> str:
        return caller()


class PlainDict:
    """`dict` for templates: makes dictionaries, and offers no type to climb from."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        """As `dict.fromkeys`."""
        return dict.fromkeys(*args)


class PlainNamespace(Namespace):
    """`namespace` without names that start with an underscore: through them lie the interpreter's internals."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # a template may say namespace(self=...)
        attributes = dict(*args[1:], **kwargs)
        for name in attributes:
            _refuse_private(name)
        Namespace.__init__(args[0], attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_private(name)
        super().__setitem__(name, value)


def environment(now: Callable[[], datetime] = datetime.now) -> ImmutableSandboxedEnvironment:
    """The sandbox as transformers configures it; `now` is the clock behind `strftime_now`."""

    def strftime_now(form: str) -> str:
        return now().strftime(form)

    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, loopcontrols])
    made.filters["tojson"] = _tojson
    made.globals |= {"raise_exception": _raise, "strftime_now": strftime_now}
    made.globals |= {"dict": PlainDict(), "namespace": PlainNamespace}
    return made


def serve(incoming: BinaryIO, outgoing: BinaryIO, *, limits: list[str]) -> None:
    """Answer requests {"source", "context", "now"} until the end of `incoming`.

    An answer is {"text"} or {"error", "message"}; `error` is one word of `_explain`. The first frame is no answer: it
    is {"text"} with the names of the limits that hold, so that the parent knows what it can rely on.
    """
    clock = [datetime.min]
    sandbox = environment(lambda: clock[0])
    compiled: dict[str, Template] = {}
    _send(outgoing, {"text": " ".join(limits)})
    while header := incoming.read(LENGTH_BYTES):
        request = json.loads(incoming.read(int.from_bytes(header, "big")))
        clock[0] = datetime.fromisoformat(request["now"])
        _limit_cpu()
        try:
            if request["source"] not in compiled:
                compiled.clear()
                compiled[request["source"]] = sandbox.from_string(request["source"])
            _send(outgoing, {"text": _render(compiled[request["source"]], request["context"])})
        except Exception as exc:  # noqa: BLE001 a template can raise anything, and all of it is an answer
            _send(outgoing, _explain(exc))


def _render(template: Template, context: dict[str, Any]) -> str:
    pieces: list[str] = []
    size = 0
    for piece in template.generate(context):
        size += len(piece.encode())
        if size > OUTPUT_BYTES:
            raise OutputTooLong
        pieces.append(piece)
    return "".join(pieces)


def _explain(exc: Exception) -> dict[str, str]:
    kinds: list[tuple[type[Exception], str]] = [
        (OutputTooLong, "output"),
        (MemoryError, "memory"),
        (RecursionError, "recursion"),
        (RaisedByTemplate, "raised"),
        (TemplateSyntaxError, "syntax"),
        (SecurityError, "security"),
        (UnicodeEncodeError, "surrogate"),
    ]
    kind = next((word for cls, word in kinds if isinstance(exc, cls)), "failed")
    line = f"line {exc.lineno}: " if isinstance(exc, TemplateSyntaxError) else ""
    message = (
        str(exc) if kind == "raised" else f"{line}{type(exc).__name__}: {str(exc)[:MESSAGE_CHARS]}".removesuffix(": ")
    )
    return {"error": kind, "message": message[:MESSAGE_CHARS].encode(errors="replace").decode()}


def _send(outgoing: BinaryIO, answer: dict[str, Any]) -> None:
    body = json.dumps(answer, ensure_ascii=False).encode()
    outgoing.write(len(body).to_bytes(LENGTH_BYTES, "big") + body)
    outgoing.flush()


def _raise(message: str) -> None:
    raise RaisedByTemplate(message)


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    # Jinja's own filter escapes <, > and & for HTML, and sorts keys
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse_private(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace cannot hold {name!r}: names that start with an underscore are refused")


def _limit(name: str, value: int) -> bool:
    """Set one limit for good; False where the system does not have it."""
    if resource is None or not hasattr(resource, name):
        return False
    try:
        resource.setrlimit(getattr(resource, name), (value, value))
    except (ValueError, OSError):
        return False
    return True


def _limit_cpu() -> None:
    """Seconds of processor time from now on; the kernel counts from the start of the process."""
    if resource is not None:
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        soft = int(time.process_time()) + 1 + CPU_S
        resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def main() -> None:
    """Take the limits, forget where modules come from, and serve."""
    environment().from_string("{{ [1]|tojson }}{{ strftime_now('%d') }}").render()
    sys.path.clear()
    wanted = {
        "RLIMIT_AS": MEMORY_BYTES,
        "RLIMIT_FSIZE": 0,
        "RLIMIT_CORE": 0,
        "RLIMIT_NPROC": 0,
        "RLIMIT_NOFILE": 3,  # standard input, output and error are open, and nothing else ever will be
    }
    serve(sys.stdin.buffer, sys.stdout.buffer, limits=[name for name, value in wanted.items() if _limit(name, value)])


if __name__ == "__main__":
    main()
