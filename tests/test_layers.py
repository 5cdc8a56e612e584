"""Rooms stand in a line: a room imports only rooms above it, imports inside functions included."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import apr

LINE = (
    "kernels",
    "formats",
    "hub",
    "tokenizer",
    "models",
    "engines",
    "convert",
    "trace",
    "parity",
    "bench",
    "evals",
    "qa",
    "ledger",
    "reports",
    "cli",
    "server",
    "pytest_plugin",  # one file: a door, as cli is
)
FREE = {"errors", "_folder", "_atomic", "_plain"}  # everyone may import these
SOURCE = Path(apr.__file__).parent


def arrows(file: Path) -> set[str]:
    """The rooms of `apr` that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            modules = [node.module] if node.module != "apr" else [f"apr.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        else:
            continue
        found |= {m.split(".")[1] for m in modules if m.startswith("apr.") and m.split(".")[1] not in FREE}
    return found


def wrong_arrows(room: str, file: Path) -> list[str]:
    above = set(LINE[: LINE.index(room) + 1])
    return [
        f"{file.relative_to(SOURCE)}: {room} -> {target}" for target in sorted(arrows(file) - above) if target in LINE
    ]


@pytest.mark.parametrize("room", [room for room in LINE if (SOURCE / room).is_dir()])
def test_a_room_imports_only_rooms_above_it(room: str) -> None:
    assert [arrow for file in (SOURCE / room).rglob("*.py") for arrow in wrong_arrows(room, file)] == []


def test_every_folder_is_a_room_of_the_line() -> None:
    assert {p.name for p in SOURCE.iterdir() if p.is_dir() and p.name != "__pycache__"} <= set(LINE)


def test_a_wrong_arrow_is_seen(tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text("def f():\n    from apr.engines import native\n")
    assert arrows(planted) == {"engines"} and "engines" not in LINE[: LINE.index("models") + 1]
