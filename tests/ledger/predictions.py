"""Predictions to test with: a file of one, with any part of it replaced, about models that say what a test wrote down."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

import scripted
from apr.engines._language_model import LanguageModel
from apr.engines._subject import Subject
from apr.ledger import _runs, prediction
from apr.ledger.prediction import Prediction, PredictionFile, Settings

QUESTION = "What is 2+2?"
RUN = {"model": "model.gguf", "prompt": QUESTION, "max_tokens": 8, "threads": 1}
ONE: dict[str, Any] = {
    "id": "P-1",
    "question": "does the template matter?",
    "hypotheses": [
        {"id": "template", "says": "the template spoils it", "blames": "regime"},
        {"id": "model", "says": "it cannot add", "predicts": {"control": "fail", "experiment": "fail"}},
    ],
    "control": {**RUN, "regime": "chat"},
    "experiment": {**RUN, "regime": "raw"},
    "varies": "regime",
    "expected": [{"contains": "4"}],
    "outcomes": [
        {"control": "fail", "experiment": "pass", "means": "the template is at fault"},
        {"control": "fail", "experiment": "fail", "means": "the model cannot add"},
        {"control": "pass", "means": "nothing is wrong with the template"},
    ],
}


def changed(**parts: Any) -> dict[str, Any]:
    """The prediction with top-level parts replaced; a mapping is merged into the part of that name, None drops one."""
    made = copy.deepcopy(ONE)
    for name, part in parts.items():
        made[name] = {**made[name], **part} if isinstance(part, dict) and name in made else part
    return {name: part for name, part in made.items() if part is not None}


def write(folder: Path, *predictions: Mapping[str, Any], name: str = "predictions.yaml") -> Path:
    """A file of predictions."""
    path = folder / name
    document = {"schema": "apr.predictions/1", "predictions": list(predictions or (ONE,))}
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return path


def file_of(folder: Path, **parts: Any) -> PredictionFile:
    """One prediction, read from a file in `folder`."""
    return prediction.read(write(folder, changed(**parts)))


def one(folder: Path, **parts: Any) -> Prediction:
    """The prediction of such a file."""
    return file_of(folder, **parts).predictions[0]


def loader(script: scripted.Script, **options: Any) -> _runs.Load:
    """Loads what says by heart, in the place of every engine."""

    def load(path: Path, settings: Settings) -> LanguageModel:
        subject = Subject(path, loader=script.loader(**options), threads=settings.threads or 1)
        subject.activations = settings.activations
        return subject.language_model

    return load
