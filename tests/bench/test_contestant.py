"""What a contestant reports is what its clock shows, and it generates through the function of `apr run`."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny
from apr.bench import _contestant
from apr.bench._contestant import Contestant, command
from apr.bench._process import Process
from apr.engines import _language_model
from bench.timed import Clock, timed


def test_the_figures_are_those_of_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock().install(monkeypatch, _contestant)
    loader = timed(clock, prefill_s=0.010, decode_s=0.025, load_s=1.5)
    monkeypatch.setattr(_contestant, "_loader", lambda engine: loader)
    contestant = Contestant()
    loaded = contestant.load(str(tiny.write(tmp_path, "gguf")), "fake", 1, "int8")
    assert loaded["load_s"] == pytest.approx(1.5) and loaded["engine"]["kernel_set"] == "fake"
    found = contestant.generate("abcdefgh", 5)
    n = found["prompt_tokens"]
    assert n >= 4 and len(found["token_ids"]) == 5
    assert found["prefill_s"] == pytest.approx(n * 0.010) and found["prefill_tok_per_s"] == pytest.approx(100.0)
    assert found["decode_s"] == pytest.approx(4 * 0.025) and found["decode_tok_per_s"] == pytest.approx(40.0)


def test_a_second_answer_computes_the_whole_prompt_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock().install(monkeypatch, _contestant)
    monkeypatch.setattr(_contestant, "_loader", lambda engine: timed(clock, prefill_s=0.01, decode_s=0.02))
    contestant = Contestant()
    contestant.load(str(tiny.write(tmp_path, "gguf")), "fake", 1, "int8")
    first, second = contestant.generate("abcdefgh", 3), contestant.generate("abcdefgh", 3)
    assert second["prefill_s"] == pytest.approx(first["prefill_s"]) and second["token_ids"] == first["token_ids"]


def test_stop_tokens_do_not_end_a_timing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}
    run = _language_model.LanguageModel.run

    def spy(self: _language_model.LanguageModel, prompt: str, **options: object) -> _language_model.Run:
        seen.update(options)
        return run(self, prompt, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(_language_model.LanguageModel, "run", spy)
    contestant = Contestant()
    contestant.load(str(tiny.write(tmp_path, "gguf")), "fake", 1, "int8")
    contestant.generate("abc", 2)
    assert seen["at_eos"] == "ignore" and seen["regime"] == "raw"


@pytest.mark.parametrize("engine", ["native", "numpy"])
def test_a_contestant_in_its_process_writes_what_apr_run_writes(engine: str, tmp_path: Path) -> None:
    path = tiny.write(tmp_path, "gguf")
    with Process("one", command()) as process:
        process.ask("prepare", engine=engine)
        process.ask("load", reference=str(path), engine=engine, threads=1, activations="int8")
        found = process.ask("generate", text="abcdefgh", new_tokens=6)
    with _language_model.load(path, engine=engine, threads=1) as model:
        expected = model.generate("abcdefgh", regime="raw", max_tokens=6, at_eos="ignore")
    assert tuple(found["token_ids"]) == expected.output_token_ids
    assert found["decode_s"] > 0 and found["peak_bytes"] > 1 << 20
