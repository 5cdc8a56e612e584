"""The house keeps its rules: sizes, tests beside the tree, no rooms without a name."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import apr

SOURCE = Path(apr.__file__).parent
TESTS = Path(__file__).parent
MODULES = sorted(p.relative_to(SOURCE) for p in SOURCE.rglob("*.py") if p.name != "__init__.py")

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
# a command's function is its options, one a line
LONG_FUNCTIONS = {"cli/run.py: command"}
# folders whose files are all tested by one file that walks the registry
REGISTRIES = {"kernels/quants": "test_codecs.py", "qa/gates": "test_gates.py", "models": "test_against_transformers.py"}
# commands that are alike are tested together
TOGETHER = {
    "cli/test_files.py": ("inspect", "tensors", "validate", "convert"),
    "cli/test_cache.py": ("list", "pull", "rm"),
}
# machinery that is tested through its room's public names; every other file has a test of its own name
THROUGH_THE_ROOM = {
    "cli": "test_main.py",
    "engines": "test_language_model.py",
    "formats": "test_formats.py",
    "hub": "test_pull.py",
    "kernels": "test_attention.py",
    "convert": "test_transcode.py",
    "evals": "test_sandbox.py",
    "tokenizer": "test_tokenizer.py",
    "bench": "test_measure.py",
    "parity": "test_why.py",
    "qa": "test_gate.py",
    "ledger": "test_lint.py",
    "reports": "test_text.py",
    "models": "test_against_transformers.py",
    "kernels/quants": "test_codecs.py",
}


def has_test(module: Path) -> bool:
    folder = module.parent.as_posix()
    if (TESTS / module.parent / f"test_{module.stem.lstrip('_')}.py").exists():
        return True
    if any(folder == Path(test).parent.as_posix() and module.stem in stems for test, stems in TOGETHER.items()):
        return True
    if folder in REGISTRIES and not module.stem.startswith("_"):
        return (TESTS / module.parent / REGISTRIES[folder]).exists()
    return (
        module.stem.startswith("_")
        and folder in THROUGH_THE_ROOM
        and (TESTS / folder / THROUGH_THE_ROOM[folder]).exists()
    )


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_module_has_a_test(module: Path) -> None:
    assert has_test(module) or module.name == "__main__.py"


def test_a_module_without_a_test_is_seen() -> None:
    assert not has_test(Path("engines/nobody_tests_this.py"))


def test_no_file_is_longer_than_400_lines() -> None:
    lengths = {str(m): len((SOURCE / m).read_text(encoding="utf-8").splitlines()) for m in MODULES}
    assert {name: n for name, n in lengths.items() if n > MAX_FILE_LINES} == {}


def test_no_function_is_longer_than_60_lines() -> None:
    long = set()
    for module in MODULES:
        for node in ast.walk(ast.parse((SOURCE / module).read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.end_lineno is not None:
                length = node.end_lineno - node.lineno + 1 - _docstring_lines(node)
                if length > MAX_FUNCTION_LINES:
                    long.add(f"{module.as_posix()}: {node.name}")
    assert long <= LONG_FUNCTIONS


def test_every_module_says_what_it_is() -> None:
    silent = [str(m) for m in MODULES if not ast.get_docstring(ast.parse((SOURCE / m).read_text(encoding="utf-8")))]
    assert silent == []


def test_nothing_is_called_utils() -> None:
    assert [str(m) for m in MODULES if m.stem.strip("_") in {"utils", "util", "helpers", "common", "misc"}] == []


def _docstring_lines(node: ast.FunctionDef) -> int:
    return len((ast.get_docstring(node, clean=False) or "").splitlines())


def test_every_skip_stands_in_the_quarantine() -> None:
    page = (TESTS / "QUARANTINE.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `([^`]+\.py)`", page, re.MULTILINE))
    skips = re.compile(r"importorskip\(|pytest\.skip\(|mark\.skip|\.xfail\b")
    found = {
        path.relative_to(TESTS).as_posix()
        for path in TESTS.rglob("*.py")
        if path != Path(__file__) and skips.search(path.read_text(encoding="utf-8"))
    }
    assert listed == found
