"""transformers as an engine: its slots are those of our own forward pass, and what is forced in one moves both alike."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tiny
from apr.engines import _transformers_taps
from apr.engines import transformers as engine
from apr.engines._alignment import places
from apr.engines._base import Activations, Span
from apr.engines._generate import Generation, StopRule, generate
from apr.engines._language_model import of_file
from apr.engines._transformers_session import TransformersSession
from apr.errors import EngineError, MissingDependency, UnsupportedError
from apr.formats import open_model
from engines.tapping import LONG_IDS, TOKEN_IDS, all_rows, checkpoint, distance, forced, numpy_session, slots

pytestmark = pytest.mark.parity

BOUND = 1e-5  # of a slot's largest value: float32 sums in another order; measured: 9e-7
# of Gemma 3, transformers reads neither layer types nor query scale from GGUF, of Qwen3 not the size of a head: its defaults
# are those of published models
GROUPS = [(model_type, "safetensors") for model_type in tiny.MODEL_TYPES]
GROUPS += [(model_type, "gguf") for model_type in ("llama", "qwen2", "phi3")]


def load(path: Path, activations: Activations = "float32") -> TransformersSession:
    return engine.load(checkpoint(path), threads=1, activations=activations)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("llama"), "safetensors", tiny.config("llama"))


@pytest.fixture(scope="module")
def session(llama: Path) -> TransformersSession:
    return load(llama)


@pytest.mark.parametrize(("model_type", "file_format"), GROUPS)
def test_every_slot_and_every_intervention_is_as_in_numpy(model_type: str, file_format: str, tmp_path: Path) -> None:
    path = tiny.write(tmp_path, file_format, tiny.config(model_type))
    if file_format == "gguf":
        pytest.importorskip("accelerate")
    theirs, ours = load(path), numpy_session(path)
    found, expected = slots(theirs), slots(ours)
    assert set(found) == set(expected) == set(theirs.slots) == set(places(checkpoint(path).config))
    assert {slot: d for slot in expected if (d := distance(found[slot], expected[slot])) > BOUND} == {}
    for slot in expected:
        moved = forced(theirs, slot)
        assert distance(moved, found["logits"]) > 1e-3, f"forcing {slot} moves nothing"
        assert distance(moved, forced(ours, slot)) < BOUND, slot


@pytest.mark.parametrize("model_type", ["mistral", "gemma3_text", "phi3"])
def test_logits_with_a_cache_equal_those_without_also_after_truncation(model_type: str, tmp_path: Path) -> None:
    path = tiny.write(tmp_path, "safetensors", tiny.config(model_type, sliding_window=8))
    theirs = load(path)
    full = all_rows(theirs, LONG_IDS)
    assert distance(full, all_rows(numpy_session(path), LONG_IDS)) < BOUND
    cache = theirs.new_cache()
    theirs.forward([Span(LONG_IDS[:30], cache)])
    theirs.forward([Span(LONG_IDS[:5], cache)])
    cache.truncate(20)  # beyond the window of 8
    steps = [theirs.forward([Span(part, cache)])[-1] for part in np.split(LONG_IDS[20:], [1, 2, 9])]
    assert cache.length == 40
    assert distance(np.stack(steps), full[[20, 21, 28, 39]]) < BOUND


def test_a_forced_key_stays_in_the_cache(session: TransformersSession, llama: Path) -> None:
    def after(theirs: Any, *, is_forced: bool) -> np.ndarray:
        cache = theirs.new_cache()

        def tap(name: str, value: np.ndarray) -> np.ndarray:
            return np.ones_like(value) if name == "layers.0.k_rope" else value

        theirs.forward([Span(TOKEN_IDS, cache)], **({"tap": tap} if is_forced else {}))
        return theirs.forward([Span(TOKEN_IDS[:1], cache)])

    changed = after(session, is_forced=True)
    assert distance(changed, after(session, is_forced=False)) > 1e-3
    assert distance(changed, after(numpy_session(llama), is_forced=True)) < BOUND


def test_the_last_row_alone_is_shown_where_it_alone_is_wanted(session: TransformersSession) -> None:
    seen: dict[str, tuple[int, ...]] = {}
    logits = session.forward(
        [Span(TOKEN_IDS, session.new_cache())], tap=lambda name, v: (seen.__setitem__(name, v.shape), v)[1]
    )
    assert seen["final_norm"] == (1, 64) and seen["logits"] == logits.shape == (1, tiny.VOCAB_SIZE)
    assert seen["layers.1.out"] == (4, 64)


def test_what_a_tap_keeps_does_not_change_afterwards_and_cannot_be_written(session: TransformersSession) -> None:
    kept = slots(session)
    before = {name: value.copy() for name, value in kept.items()}
    all_rows(session, LONG_IDS)
    assert all((kept[name] == before[name]).all() for name in kept)
    with pytest.raises(ValueError, match="read-only"):
        kept["embed"][:] = 0


def test_several_sequences_are_computed_one_by_one_and_never_tapped_together(session: TransformersSession) -> None:
    prompts = [TOKEN_IDS, TOKEN_IDS[:2]]
    together = session.forward([Span(p, session.new_cache()) for p in prompts])
    alone = np.concatenate([session.forward([Span(p, session.new_cache())]) for p in prompts])
    assert (together == alone).all()
    with pytest.raises(EngineError, match="one by one"):
        session.forward([Span(p, session.new_cache()) for p in prompts], tap=lambda _, value: value)


def test_a_pass_that_a_tap_ends_leaves_the_cache_as_it_was(session: TransformersSession) -> None:
    def tap(name: str, value: np.ndarray) -> np.ndarray:
        if name == "layers.1.attn":
            raise KeyboardInterrupt
        return value

    cache = session.new_cache()
    first = session.forward([Span(TOKEN_IDS, cache)])
    with pytest.raises(KeyboardInterrupt):
        session.forward([Span(TOKEN_IDS, cache)], tap=tap)
    cache.truncate(0)
    assert (session.forward([Span(TOKEN_IDS, cache)]) == first).all() and cache.length == 4
    modules = list(session.model.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks or m in _transformers_taps._watched for m in modules)


def test_the_type_is_the_folders_own_unless_float32_is_asked_for(tmp_path: Path) -> None:
    path = tiny.write(tmp_path, "safetensors", tiny.config("llama"), codec="f16")
    import json

    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"dtype": "float16", "torch_dtype": "float16"}))
    rough, exact = load(path, "int8"), load(path, "float32")
    assert (rough.activations, exact.activations) == ("float16", "float32")
    reference = all_rows(numpy_session(path))
    assert distance(all_rows(exact), reference) < BOUND < distance(all_rows(rough), reference) < 1e-2
    assert all_rows(rough).dtype == np.float32


def test_a_tensor_that_is_missing_is_not_made_up(tmp_path: Path) -> None:
    made = tiny.config("llama")
    weights = tiny.tensors(made)
    del weights["model.layers.1.mlp.up_proj.weight"]
    path = tiny.write(tmp_path, "safetensors", made, weights)
    with pytest.raises(EngineError, match=r"random numbers: missing keys .*layers\.1\.mlp\.up_proj"):
        load(path)


def test_a_tensor_of_another_size_is_not_made_up(tmp_path: Path) -> None:
    made = tiny.config("llama")
    weights = tiny.tensors(made)
    weights["model.layers.1.mlp.up_proj.weight"] = np.ones((95, 64), dtype=np.float32)
    with pytest.raises(EngineError, match=r"random numbers: mismatched keys .*layers\.1\.mlp\.up_proj"):
        load(tiny.write(tmp_path, "safetensors", made, weights))


def test_logits_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    made = tiny.config("llama")
    weights = tiny.tensors(made)
    weights["model.norm.weight"][3] = np.nan
    theirs = load(tiny.write(tmp_path, "safetensors", made, weights))
    with pytest.raises(EngineError, match="not finite"):
        all_rows(theirs)


def test_a_file_that_transformers_cannot_read_is_an_engine_error(tmp_path: Path) -> None:
    path = tiny.write(tmp_path, "safetensors", tiny.config("llama"))
    ready = checkpoint(path)
    (path / "config.json").write_text('{"model_type": "no-such-model"}')
    with pytest.raises(EngineError, match="transformers refuses the model"):
        engine.load(ready, threads=1)


def test_what_it_does_not_read_is_refused_with_the_way_out(tmp_path: Path, llama: Path) -> None:
    path = tiny.write(tmp_path, "apr", tiny.config("llama"))
    with pytest.raises(UnsupportedError, match="run: apr convert"):
        load(path)
    ready = checkpoint(llama)
    changed = tiny.config("llama", rope_theta=20000.0)
    with pytest.raises(UnsupportedError, match="another configuration"):
        engine.load(ready.altered(config=changed), threads=1)
    swapped = {"model.norm.weight": checkpoint(llama).tensors["model.norm.weight"]}
    with pytest.raises(UnsupportedError, match="other tensors"):
        engine.load(ready.altered(tensors=swapped), threads=1)


def test_without_the_package_the_error_names_the_extra(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else found(name))
    with pytest.raises(MissingDependency, match=r"pip install 'apr\[transformers\]'"):
        load(llama)


def test_loading_is_silent(llama: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("accelerate")
    load(llama)
    load(tiny.write(tmp_path, "gguf", tiny.config("llama")))
    assert capfd.readouterr() == ("", "")


def test_its_voice_takes_control_tokens_of_a_prompt_as_text(llama: Path) -> None:
    voice = engine.voice(checkpoint(llama))
    spec = tiny.spec()
    control = spec.tokens.index("<|im_start|>")
    assert control not in voice.encode("then<|im_start|>on") and voice.encode_rendered("<|im_start|>") == [control]
    assert voice.decode(voice.encode("then<|im_start|>on")) == "then<|im_start|>on"
    messages = [{"role": "user", "content": "hello"}]
    assert voice.render(messages) == "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    voice.tokenizer.chat_template = "{{ raise_exception('no such role') }}"
    with pytest.raises(EngineError, match="no such role"):
        voice.render(messages)
    voice.tokenizer.chat_template = None
    assert voice.render(messages) is None


def test_the_one_generation_runs_on_it(llama: Path, session: TransformersSession) -> None:
    with of_file(open_model(llama), engine="transformers", threads=1) as model:
        record = model.generate("then", regime="raw", max_tokens=5, at_eos="ignore")
        generation = Generation(record.prompt_token_ids, stop=StopRule(max_tokens=5))
        for _ in generate(numpy_session(llama), model.tokenizer, [generation]):
            pass
    assert record.engine == "transformers" and record.kernel_set == "torch"
    assert record.output_token_ids == tuple(step.token_id for step in generation.steps)


@pytest.mark.slow  # its GGUF reader, not ours, takes half a minute
@pytest.mark.real
def test_a_real_gguf_file_has_the_logits_of_our_own_engine(real_model: Callable[[str], Path]) -> None:
    pytest.importorskip("accelerate")
    from apr.engines import native

    ready = checkpoint(real_model("smollm2"))
    theirs = engine.load(ready, threads=2)
    ours = native.load(ready, threads=2, activations="float32")
    token_ids = np.array([1, 4093, 198, 504, 3575, 282, 4649, 314])
    assert distance(all_rows(theirs, token_ids), all_rows(ours, token_ids)) < 1e-5  # measured: 1.3e-6


def test_modules_that_are_not_there_are_slots_that_it_does_not_have(llama: Path, session: TransformersSession) -> None:
    model: Any = SimpleNamespace(dtype="torch.float32", named_modules=lambda: [("model.norm", None)])
    assert TransformersSession(model, checkpoint(llama).config, threads=1).slots == ("final_norm",)
