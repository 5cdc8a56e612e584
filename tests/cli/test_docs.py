"""docs/cli.md, docs/json.md and docs/schemas are what the code says, and every field has a meaning."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "render_docs.py"


@pytest.fixture(scope="module")
def render_docs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("render_docs", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generated_pages_are_current(render_docs: ModuleType) -> None:
    stale = [path.name for path, text in render_docs.documents() if path.read_text(encoding="utf-8") != text]
    assert stale == [], "run: python scripts/render_docs.py"


def test_no_schema_file_is_left_over(render_docs: ModuleType) -> None:
    written = {path for path, _ in render_docs.documents()}
    assert set((render_docs.DOCS / "schemas").iterdir()) <= written


def test_every_field_has_a_meaning(render_docs: ModuleType) -> None:
    parts = [part for kind, _ in render_docs.COMMANDS_OF.values() for part in render_docs._with_parts(kind)]
    silent = [
        f"{p.__name__}.{name}" for p in parts for name in p.__annotations__ if not render_docs.meaning_of(p, name)
    ]
    assert parts and silent == []
