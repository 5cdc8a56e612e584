"""From YAML to predictions: everything that is not in the form is named with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from apr.errors import PredictionError
from apr.ledger import _predictions_reader, prediction
from ledger import predictions


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"varies": None}, "has no varies"),
        ({"varies": "weather"}, "varies is 'weather', expected one of model"),
        ({"extra": 1}, "'extra' is not known here"),
        ({"control": {"temperature": 1}}, "'temperature' is not known here"),
        ({"control": {"prompt": 4}}, "prompt is a number, expected text; put it in quotes"),
        ({"control": {"messages": [{"role": "user", "content": "x"}]}}, "has both prompt and messages"),
        ({"control": {"max_tokens": 0}}, "max_tokens is 0, expected a whole number"),
        ({"control": {"max_tokens": True}}, "max_tokens is True"),
        ({"control": {"engine": "openai"}}, "engine is 'openai', expected one of"),
        ({"control": {"regime": "direct"}}, "regime is 'direct', expected one of auto, raw, chat"),
        ({"control": {"sampling": {"temperature": -1}}}, "temperature is -1.0, expected 0.0 to 100.0"),
        ({"control": {"sampling": {"seed": 1.5}}}, "seed is 1.5, expected a whole number"),
        ({"control": {"stop": "x"}}, "stop is text, expected a list"),
        ({"expected": []}, "expected is empty"),
        ({"expected": [{"contains": "4", "equals": "4"}]}, "has 2 conditions"),
        ({"expected": [{"contains": ""}]}, "every text contains that"),
        ({"expected": [{"matches": "("}]}, "is no regular expression"),
        ({"expected": [{"contains": "4", "field": "mood"}]}, "which a run record does not have"),
        ({"expected": [{"contains": "4", "run": "experiment"}]}, "asks nothing of the control run"),
        ({"expected": [{"parses_as": "rust"}]}, "expected 'python'"),
        ({"expected": [{"not_degenerate": False}]}, "expected true"),
        ({"expected": [{"same_token_ids_as": "control", "run": "control"}]}, "always has its own token ids"),
        ({"hypotheses": [{"id": "a", "says": "b"}]}, "no run could speak against it"),
        ({"hypotheses": [{"id": "a", "says": "b", "predicts": {"third": "pass"}}]}, "'third' is not known here"),
        ({"hypotheses": [predictions.ONE["hypotheses"][0]] * 2}, "the id 'template' is there twice"),
        ({"outcomes": [{"control": "green", "means": "x"}]}, "control is 'green', expected one of pass, fail"),
        ({"candidates": [{"id": "x", "change": {"engine": "native"}}]}, "is what the control run has"),
        ({"candidates": [{"id": "x", "change": {"threads": 2, "engine": "numpy"}}]}, "changes 2 fields"),
        ({"candidates": [{"id": "control", "change": {"threads": 2}}]}, "which is one of the two runs"),
        ({"id": " "}, "id is empty"),
    ],
)
def test_what_is_not_in_the_form_is_named_with_its_line(tmp_path: Path, parts: dict[str, Any], said: str) -> None:
    with pytest.raises(PredictionError, match=r"predictions\.yaml: line \d+: ") as raised:
        predictions.file_of(tmp_path, **parts)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: 1\nb: 2\na: 3\n", "line 3: the key 'a' stands here twice"),
        (b"a: [1\n", "line 2: no YAML"),
        (b"1: a\n", "line 1: has no schema"),
        (b"schema: s\npredictions: []\n1: a\n", "line 3: '1' is not known here"),
        (b"- a\n", "is a list, expected a mapping"),
        (b"4\n", "is a number, expected a mapping"),
        (b"~\n", "is nothing, expected a mapping"),
        (b"", "an empty document, expected a mapping"),
        (b"a: \xff\n", "byte 3 is not UTF-8"),
        (b"a: !!python/object/apply:os.system [id]\n", "line 1: the tag 'tag:yaml.org,2002:python/object/apply:os"),
        (b"a: {<<: {b: 1}}\n", "line 1: a merge (<<)"),
        (b"a: " + b"[" * 20000, "nested deeper than 64 levels"),
        (b"#" * (1 << 20) + b"\n", "expected at most 1,048,576"),
        (b"a: &x [1, 1, 1]\nb: &y [" + b"*x, " * 200 + b"]\nc: [" + b"*y, " * 200 + b"]\n", "aliases counted"),
        (b"a: 1\n---\nb: 2\n", "line 2: no YAML"),
        (b"a: \x00\n", "no YAML"),
    ],
    ids=lambda v: v[:12].decode("latin-1") if isinstance(v, bytes) else None,
)
def test_a_file_that_is_no_such_document_gets_one_clear_error(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes(content)
    with pytest.raises(PredictionError) as raised:
        prediction.read(path)
    assert said in str(raised.value) and str(raised.value).startswith(f"{path}: ") and raised.value.exit_code == 3


def test_every_key_knows_its_line(tmp_path: Path) -> None:
    block = _predictions_reader._document(tmp_path, b"a: 1\nb:\n  c: 2\n  d: [x, &x {e: 3}]\nf: *x\n")
    assert block == {"a": 1, "b": {"c": 2, "d": ["x", {"e": 3}]}, "f": {"e": 3}}
    assert block.line == 1 and block.lines == {"a": 1, "b": 2, "f": 5}
    assert block["b"].lines == {"c": 3, "d": 4} and block["b"]["d"][1].lines == {"e": 4}


def test_two_predictions_of_one_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PredictionError, match="'P-1' is there twice"):
        prediction.read(predictions.write(tmp_path, predictions.ONE, predictions.ONE))


def test_a_whole_conversation_takes_neither_raw_nor_a_system_message(tmp_path: Path) -> None:
    run = {"model": "m", "messages": [{"role": "user", "content": "x"}], "regime": "raw"}
    made = {**predictions.ONE, "control": run}
    with pytest.raises(PredictionError, match="a whole conversation"):
        prediction.read(predictions.write(tmp_path, made))


def test_everything_that_a_run_takes_is_read(tmp_path: Path) -> None:
    given = {
        "container": "apr",
        "engine": "numpy",
        "system": "Be brief.",
        "control_tokens": "token",
        "sampling": {"temperature": 1, "seed": 7},
        "stop": ["\n"],
        "at_eos": "ignore",
        "activations": "float32",
    }
    candidates = [{"id": "cold", "from": "experiment", "change": {"sampling.temperature": 0.5}}]
    found = predictions.one(tmp_path, control=given, candidates=candidates)
    control = found.control
    assert (control.container, control.engine, control.system, control.stop) == ("apr", "numpy", "Be brief.", ("\n",))
    assert (control.value("sampling.temperature"), control.value("sampling.seed")) == (1.0, 7)
    assert (control.control_tokens, control.at_eos, control.activations) == ("token", "ignore", "float32")
    assert found.candidates[0].settings.sampling.temperature == 0.5 and found.candidates[0].settings.regime == "raw"
