"""Models with one defect planted, and what single gates say of them: shared by the tests of the gates."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import tiny
from apr.qa import gate
from apr.qa._judged import Judged
from apr.qa.gate import GateResult, Report
from apr.tokenizer.spec import TokenizerSpec

Q = "model.layers.0.self_attn.q_proj.weight"
UP = "model.layers.1.mlp.up_proj.weight"


def judged(path: Path, *, profile: str = "file", only: tuple[str, ...] = ()) -> Report:
    """A profile's report, or that of some of its gates."""
    with Judged(path, profile=profile) as subject:
        return gate.run(profile, subject, only=only)


def one(path: Path, name: str, *, profile: str = "file") -> GateResult:
    """One gate's result."""
    return judged(path, profile=profile, only=(name,)).gates[0]


def named(report: Report) -> dict[str, GateResult]:
    """The results by gate."""
    return {result.id: result for result in report.gates}


def codes(result: GateResult) -> set[tuple[str, str]]:
    """Status and code of every finding that is not a pass."""
    return {(f.status, f.code) for f in result.findings if f.status != "pass"}


def alarms(report: Report) -> set[str]:
    """The gates that did not pass."""
    return {r.id for r in report.gates if r.status != "pass"}


def only(report: Report, name: str) -> GateResult:
    """The one gate that raised an alarm; no other may."""
    assert alarms(report) == {name}, [(r.id, r.message) for r in report.gates]
    return named(report)[name]


def weights_of(model_type: str = "llama", **config: Any) -> dict[str, np.ndarray]:
    """The weights of a tiny model."""
    return tiny.tensors(tiny.config(model_type, **config))


def altered(
    folder: Path, file_format: str, changes: dict[str, Any], *, model_type: str = "llama", **config: Any
) -> Path:
    """A tiny model whose weights `changes` replaces; None drops one."""
    made = tiny.config(model_type, **config)
    weights = {k: v for k, v in (tiny.tensors(made) | changes).items() if v is not None}
    return tiny.write(folder, file_format, made, weights)


def speaking(folder: Path, file_format: str, spec: TokenizerSpec, *, model_type: str = "llama") -> Path:
    """A tiny model with another tokenizer."""
    return tiny.write(folder / file_format, file_format, tiny.config(model_type), tokenizer=spec)


def patched(path: Path, offset: int, content: bytes) -> Path:
    """The file with other bytes in one place."""
    whole = bytearray(path.read_bytes())
    whole[offset : offset + len(content)] = content
    path.write_bytes(whole)
    return path


def reconfigured(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A safetensors folder whose config.json is changed in place."""
    path = folder / "config.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return folder
