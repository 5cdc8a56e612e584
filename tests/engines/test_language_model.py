"""A loaded model from every format: the same text, a whole record, and what the taps see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import apr
import tiny
from apr._plain import plain as plain_of
from apr.engines._language_model import of_file
from apr.engines._sampling import Sampling
from apr.errors import UnsupportedError, UsageError
from apr.formats import open_model
from apr.kernels import _extension
from apr.models._checkpoint import Checkpoint


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: tiny.write(folder / name, name, tiny.config("qwen2")) for name in tiny.FORMATS}


@pytest.fixture(autouse=True)
def _own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("APR_HOME", str(tmp_path / "home"))


def test_every_format_generates_the_same_ids(paths: dict[str, Path]) -> None:
    records = []
    for path in paths.values():
        with apr.load(path, threads=1) as model:
            records.append(model.generate("Hello there", max_tokens=12, at_eos="ignore"))
    assert len({r.output_token_ids for r in records}) == 1 and len(records[0].output_token_ids) == 12
    assert len({r.prompt_token_ids for r in records}) == 1
    assert records[1].tokenizer_sha256 == records[2].tokenizer_sha256, "GGUF and .apr hold the same tables"
    assert len({r.model_sha256 for r in records}) == 3


def test_tensor_contents_have_one_hash_in_every_container(paths: dict[str, Path]) -> None:
    hashes = {Checkpoint(open_model(path)).content_sha256() for path in paths.values()}
    assert len(hashes) == 1


def test_a_record_holds_what_the_run_depended_on(paths: dict[str, Path]) -> None:
    with apr.load(paths["gguf"], threads=1) as model:
        record = model.generate(
            "Hi", max_tokens=3, sampling=Sampling(temperature=0.9, seed=4), stop=["zzz"], at_eos="ignore"
        )
    plain = plain_of(record)
    assert plain["schema"] == "apr.run/1"
    assert plain["engine"] == plain["kernel_set"] == ("numpy" if _extension.native() is None else "native")
    assert plain["activations"] in ("int8", "float32") and plain["kv_cache"] in ("float16", "float32")
    assert plain["threads"] == plain["batch"] == 1 and plain["prompt_id"] is None
    assert plain["template"]["decision"] == "applied" and len(plain["template"]["sha256"]) == 64
    assert plain["prompt_text"].endswith("<|im_start|>assistant\n")
    assert plain["sampling"]["seed"] == 4 and plain["stop_strings"] == ["zzz"]
    assert len(plain["steps"]) == len(plain["output_token_ids"]) == 3
    assert {"load_s", "prefill_s", "prefill_tok_per_s", "decode_tok_per_s"} <= set(plain["timings"])
    assert plain["finish_reason"] == "length" and len(plain["model_sha256"]) == 64


def test_the_run_stops_at_every_stop_id_of_the_generation_config(paths: dict[str, Path]) -> None:
    with apr.load(paths["safetensors"], threads=1) as model:
        spec = tiny.spec()
        assert model.stop_token_ids >= {spec.tokens.index("<|im_end|>"), spec.tokens.index("<|endoftext|>")}


def test_exact_is_float32_from_end_to_end(paths: dict[str, Path]) -> None:
    with apr.load(paths["gguf"], threads=1, activations="float32") as model:
        exact = model.generate("Hi", max_tokens=8, at_eos="ignore")
    with apr.load(paths["gguf"], threads=1, engine="numpy") as model:
        definition = model.generate("Hi", max_tokens=8, at_eos="ignore")
    assert exact.activations == definition.activations == exact.kv_cache == definition.kv_cache == "float32"
    assert definition.kernel_set == "numpy" and exact.output_token_ids == definition.output_token_ids


def test_many_prompts_give_the_records_that_each_gives_alone(paths: dict[str, Path]) -> None:
    prompts = ["Hi", "A longer prompt, by some words", [{"role": "user", "content": "Hi"}], "x"]
    options: dict[str, Any] = {"max_tokens": 7, "sampling": Sampling(temperature=0.9, seed=4), "at_eos": "ignore"}
    with apr.load(paths["gguf"], threads=1) as model:
        alone = [model.generate(prompt, **options) for prompt in prompts]
        together = model.generate_many(prompts, batch_size=3, **options)
    assert [r.batch for r in alone] == [1] * 4 and [r.batch for r in together] == [3, 3, 3, 1]
    for one, other in zip(alone, together, strict=True):
        assert (one.prompt_token_ids, one.output_token_ids, one.text) == (
            other.prompt_token_ids,
            other.output_token_ids,
            other.text,
        )
    assert together[0].output_token_ids == together[2].output_token_ids


def test_one_wrong_prompt_of_many_is_named_before_anything_is_generated(paths: dict[str, Path]) -> None:
    with apr.load(paths["gguf"], threads=1) as model:
        with pytest.raises(UsageError, match=r"prompt 2 of 3: .* the model is made for 256"):
            model.generate_many(["Hi", "hi " * 500, "x"])
        with pytest.raises(UsageError, match="batch_size is 0"):
            model.generate_many(["Hi"], batch_size=0)
        assert model.generate_many([]) == []


def test_an_engine_that_is_not_there_lists_those_that_are(paths: dict[str, Path]) -> None:
    with open_model(paths["gguf"]) as file, pytest.raises(UnsupportedError, match="native"):
        of_file(file, engine="cuda", threads=1)


def test_max_tokens_of_zero_is_refused(paths: dict[str, Path]) -> None:
    with apr.load(paths["gguf"], threads=1) as model, pytest.raises(UsageError, match="at least 1"):
        model.run("x", max_tokens=0)
