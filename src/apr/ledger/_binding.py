"""What the `test:` of a falsification test binds to: something of ours, something that runs elsewhere, or nothing.

Upstream's binder skipped 619 of 4,206 entries in silence, prose among them; here every one is of a class.
"""

from __future__ import annotations

import re
import shlex
from typing import Literal

from apr.ledger.contract import Falsification

Binding = Literal["check", "elsewhere", "pending", "prose"]

_PENDING = re.compile(r"LIVE[-_]PENDING\b:?\s*", re.IGNORECASE)
# programs that upstream's tests are lines of
_PROGRAMS = frozenset({
    "apr", "batuta", "bash", "cargo", "cmp", "curl", "docker", "gh", "grep", "jq", "kani", "lake", "llama-bench", "llama-cli",
    "llama-perplexity", "npm", "ollama", "pmat", "probar", "pv", "pytest", "python3", "realizar", "sh", "sha256sum", "uv",
    "wget", "xargs", "yq",
})  # fmt: skip
# these begin sentences too: a line of them has an option or a path
_AMBIGUOUS = frozenset({"diff", "find", "git", "lean", "make", "node", "python", "test"})
# a path of Rust or Python, or one word that is written as tests are: softmax::tests::sums_to_one, test_sums, tests/a.py::test_b
_IDENTIFIER = re.compile(
    r"[A-Za-z_][\w./-]*(?:::[\w<>\[\]-]+)+|[A-Za-z]\w*_\w+(?:\(\))?|(?:[\w.-]+/)+[\w.-]+\.(?:rs|py|sh|ts|js|lean)"
)
_ENVIRONMENT = re.compile(r"[A-Z_][A-Z0-9_]*=")
_SHELL_LINE = re.compile(r"\s(?:\|\||&&|\|)\s|^\./|^\$\s")


def binding(test: Falsification) -> Binding:
    """Of one falsification test."""
    if test.check is not None:
        return "check"
    text = test.test.strip().strip("`")
    if _PENDING.match(text):
        return "pending"
    return "elsewhere" if text and _runs(text) else "prose"


def _runs(text: str) -> bool:
    first_line = text.splitlines()[0].strip().strip("`")
    if _IDENTIFIER.fullmatch(first_line) or _SHELL_LINE.search(first_line):
        return True
    try:
        words = shlex.split(first_line)
    except ValueError:  # an apostrophe of prose
        words = first_line.split()
    words = [w for w in words if not _ENVIRONMENT.match(w)]
    if not words:
        return False
    if words[0] in _AMBIGUOUS:
        return any(word.startswith("-") or "/" in word or "." in word[1:-1] for word in words[1:])
    # a name with notes behind it: `test_sums (proptest)`
    return words[0] in _PROGRAMS or _IDENTIFIER.fullmatch(words[0].rstrip(",;")) is not None
