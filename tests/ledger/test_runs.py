"""The runs, and the records that can be told before them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

import scripted
import tiny
from apr.engines._sampling import Sampling
from apr.errors import HubError
from apr.ledger import _runs
from apr.ledger.prediction import Settings
from ledger import predictions

LATER = ("engine_version", "kernel_set", "instruction_set", "kv_cache", "prompt_id", "batch")
OUTCOME = ("text", "output_token_ids", "steps", "finish_reason", "timings")


def test_a_run_is_the_run_of_apr_run(tmp_path: Path) -> None:
    path = tiny.write(tmp_path, "gguf")
    settings = Settings(path.name, "Hello", regime="raw", max_tokens=6, threads=1)
    with _runs.Runner(tmp_path) as runner:
        record = runner.run(settings, prompt_id="x")
    with _runs.load(path, settings) as model:
        alone = model.generate("Hello", regime="raw", max_tokens=6)
    assert record.output_token_ids == alone.output_token_ids and record.engine == "native" and record.prompt_id == "x"


@pytest.mark.parametrize("regime", ["raw", "chat"])
def test_what_is_foreseen_is_what_the_run_records(tmp_path: Path, regime: str) -> None:
    path = scripted.write(tmp_path)
    settings = Settings(
        path.name,
        "Hello",
        engine="fake",
        regime=regime,  # type: ignore[arg-type]
        sampling=Sampling(temperature=0.5, seed=3),
        max_tokens=3,
        stop=("never",),
        threads=1,
        at_eos="ignore",
    )
    with _runs.Runner(tmp_path) as runner:
        record = asdict(runner.run(settings, prompt_id="x"))
    before = asdict(_runs.foreseen(settings, tmp_path))
    assert record["sampling"] == asdict(settings.sampling) and record["stop_strings"] == ("never",)
    before["activations"] = record["activations"]  # as asked; the engine may be more exact
    for name in (*LATER, *OUTCOME):
        del record[name], before[name]
    assert before == record


def test_one_model_is_loaded_once_for_runs_that_share_it(tmp_path: Path) -> None:
    path = scripted.write(tmp_path)
    load, loaded = predictions.loader(scripted.Script(path, {})), []

    def counted(path: Path, settings: Settings) -> object:
        loaded.append(settings)
        return load(path, settings)

    one = Settings(path.name, "a", threads=1)
    with _runs.Runner(tmp_path, load=counted) as runner:  # type: ignore[arg-type]
        for settings in (one, Settings(path.name, "b", threads=1), Settings(path.name, "b", threads=2)):
            runner.run(settings, prompt_id="x")
    assert [settings.threads for settings in loaded] == [1, 2]


def test_a_container_is_made_for_the_run_and_taken_away(tmp_path: Path) -> None:
    path = tiny.write(tmp_path, "gguf")
    settings = Settings(path.name, "Hello", container="apr", regime="raw", max_tokens=4, threads=1)
    with _runs.Runner(tmp_path) as runner:
        record = runner.run(settings, prompt_id="x")
    assert record.model_format == "apr" and not Path(record.model).exists()
    assert _runs.foreseen(settings, tmp_path).model_format == "apr"


def test_nothing_is_pulled_to_foresee_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APR_HOME", str(tmp_path / "home"))
    with pytest.raises(HubError):
        _runs.foreseen(Settings("smollm2", "Hello"), tmp_path)


def test_a_path_begins_at_the_files_folder_if_something_is_there(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").touch()
    assert _runs.place("m.gguf", tmp_path) == str(tmp_path / "m.gguf") and _runs.place("smollm2", tmp_path) == "smollm2"
