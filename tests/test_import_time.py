"""`import apr` and the cheap commands load neither NumPy nor anything else that is slow."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SLOW = (
    "numpy",
    "tokenizers",
    "jinja2",
    "safetensors",
    "huggingface_hub",
    "rich",
    "pydantic",
    "torch",
    "transformers",
    "yaml",
)
MOST_CPU_S = (
    1.0  # generous: the aim of 50 ms is measured by a benchmark; this catches an import of NumPy and friends gone wild
)

REPORT = """
import json, os, sys, time
before = time.process_time()
{statement}
spent = time.process_time() - before
print(json.dumps([spent, sorted({{name.partition('.')[0] for name in sys.modules}})]))
"""
VERSION = """
sys.argv = ["apr", "--version"]
import contextlib, io
from apr.__main__ import main
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    main()
"""


def measured(statement: str) -> tuple[float, list[str]]:
    """CPU seconds that a statement takes in a new process, and the top-level modules loaded after it."""
    script = REPORT.format(statement=statement)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    spent, modules = json.loads(done.stdout.splitlines()[-1])
    return spent, modules


@pytest.mark.parametrize("statement", ["import apr", VERSION], ids=["import", "--version"])
def test_it_is_quick_and_loads_nothing_slow(statement: str) -> None:
    spent, modules = measured(statement)
    assert "apr" in modules and sorted(set(SLOW) & set(modules)) == []
    assert spent < MOST_CPU_S


def test_the_public_names_are_loaded_when_used() -> None:
    _, modules = measured("import apr; apr.load")
    assert "numpy" in modules


def test_a_planted_import_is_seen() -> None:
    _, modules = measured("import apr, numpy")
    assert set(SLOW) & set(modules) == {"numpy"}
