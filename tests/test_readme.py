"""What README.md shows is what happens: its Python runs, its commands and files exist, its output is real."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from apr.cli import group, main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.real
def test_the_python_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out == "The answer to this classic math problem is 4. eos applied\n"


@pytest.mark.real
def test_the_first_command_of_the_readme_prints_what_it_says(capfd: pytest.CaptureFixture[str]) -> None:
    assert 'apr run smollm2 --prompt "What is 2+2?"' in README
    assert main(["run", "smollm2", "--prompt", "What is 2+2?"]) == 0
    shown = capfd.readouterr()
    for line in (*shown.out.splitlines(), shown.err.splitlines()[0]):
        assert line in README


def test_every_command_in_the_readme_exists() -> None:
    named = set(re.findall(r"`apr (\w+)", README)) | set(re.findall(r"^\$ apr (\w+)", README, re.M))
    assert named and named <= set(group.list_commands(None))  # type: ignore[arg-type]


def test_every_command_is_in_the_readme() -> None:
    assert [name for name in group.list_commands(None) if f"apr {name}" not in README and name != "completion"] == []  # type: ignore[arg-type]


def test_every_link_of_the_readme_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert links and [link for link in links if not _leads(*link.partition("#")[::2])] == []


def _leads(path: str, anchor: str) -> bool:
    """Whether a file is there, and the heading in it that an anchor names."""
    if not (ROOT / path).exists():
        return False
    headings = re.findall(r"^#+ (.*)$", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE) if anchor else [""]
    return anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
