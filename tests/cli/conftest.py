"""What every test of a command needs: tiny models, a home of its own, and a way to run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import tiny
from apr import cli
from schema_check import errors_in

SCHEMAS = Path(__file__).resolve().parents[2] / "docs" / "schemas"


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    exit_code: int
    out: str
    err: str

    def json(self) -> dict[str, Any]:
        """The one object on stdout, which must satisfy the schema that it names."""
        lines = self.out.splitlines()
        assert len(lines) == 1, self.out
        result: dict[str, Any] = json.loads(lines[0])
        schema = json.loads((SCHEMAS / f"{result['schema'].replace('/', '-')}.json").read_text(encoding="utf-8"))
        assert errors_in(result, schema) == []
        return result


Apr = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, a closed network."""
    folder = tmp_path / "home"
    monkeypatch.setenv("APR_HOME", str(folder))
    monkeypatch.setenv("APR_OFFLINE", "1")
    monkeypatch.delenv("APR_DEBUG", raising=False)
    return folder


@pytest.fixture
def apr_command(capsys: pytest.CaptureFixture[str]) -> Apr:
    """Run a command line in this process."""

    def run(*arguments: str | Path) -> Outcome:
        capsys.readouterr()
        exit_code = cli.main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Outcome(exit_code, said.out, said.err)

    return run


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny llama, as GGUF."""
    return tiny.write(tmp_path_factory.mktemp("gguf"), "gguf")


@pytest.fixture(scope="session")
def damaged_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny llama whose structure is right and whose weights hold a NaN."""
    weights = tiny.tensors(tiny.config())
    weights["model.layers.0.self_attn.q_proj.weight"][3, 5] = float("nan")
    return tiny.write(tmp_path_factory.mktemp("damaged"), "gguf", weights=weights)
