"""llama.cpp as an engine: its slots are those of our own forward pass, and a file that it dies of kills nobody else."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from apr.engines import _llama_graph, _llama_library
from apr.engines import llama_cpp as engine
from apr.engines._alignment import SlotPlace, places
from apr.engines._base import Activations, Span
from apr.engines._generate import Generation, StopRule, generate
from apr.engines._language_model import of_file
from apr.engines._llama_graph import Node, as_array, find_slots
from apr.engines._llama_library import context_offsets, library, vocab_only_at
from apr.engines._llama_session import LlamaSession
from apr.errors import EngineError, MissingDependency, UnsupportedError
from apr.formats import open_model
from engines.tapping import LONG_IDS, TOKEN_IDS, all_rows, checkpoint, distance, forced, numpy_session, slots

pytestmark = pytest.mark.parity

BOUND = 1e-5  # of a slot's largest value, on float32 weights with a float32 cache; measured: 8e-7
# llama.cpp looks GELU up in a table of float16 (ggml-cpu, ggml_table_gelu_f16); measured: 6e-4
GELU_BOUND = 2e-3
F16_CACHE_BOUND = 5e-3  # keys and values rounded to float16; measured: 1.2e-3


def load(path: Path, activations: Activations = "float32") -> LlamaSession:
    return engine.load(checkpoint(path), threads=1, activations=activations)


def bound(model_type: str) -> float:
    return GELU_BOUND if model_type == "gemma3_text" else BOUND


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("llama"), "gguf", tiny.config("llama"))


@pytest.fixture(scope="module")
def session(llama: Path) -> LlamaSession:
    return load(llama)


VARIANTS: dict[str, dict[str, Any]] = {name: {} for name in tiny.MODEL_TYPES} | {
    "llama biased": {"attention_bias": True}
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_slot_and_every_intervention_is_as_in_numpy(variant: str, tmp_path: Path) -> None:
    model_type = variant.split()[0]
    path = tiny.write(tmp_path, "gguf", tiny.config(model_type, **VARIANTS[variant]))
    theirs, ours = load(path), numpy_session(path)
    found, expected = slots(theirs), slots(ours)
    # llama.cpp has the gate's function and the product in one op
    assert set(expected) - set(found) == {"layers.0.ffn_act", "layers.1.ffn_act"} and set(found) <= set(expected)
    assert theirs.slots == tuple(slot for slot in places(checkpoint(path).config) if slot in found)
    assert {slot: d for slot in found if (d := distance(found[slot], expected[slot])) > bound(model_type)} == {}
    for slot in found:
        moved = forced(theirs, slot)
        assert distance(moved, found["logits"]) > 5 * bound(model_type), f"forcing {slot} moves nothing"
        assert distance(moved, forced(ours, slot)) < bound(model_type), slot


@pytest.mark.parametrize("model_type", tiny.MODEL_TYPES)
def test_slots_are_shown_and_forced_beside_the_fused_attention_too(model_type: str, tmp_path: Path) -> None:
    path = tiny.write(tmp_path, "gguf", tiny.config(model_type))
    theirs, ours = load(path, "int8"), numpy_session(path)
    found, expected = slots(theirs), slots(ours)
    assert {slot: d for slot in found if (d := distance(found[slot], expected[slot])) > F16_CACHE_BOUND} == {}
    for slot in ("layers.0.k_rope", "layers.1.v", "layers.1.attn"):
        moved = forced(theirs, slot)
        assert distance(moved, forced(ours, slot)) < F16_CACHE_BOUND < distance(moved, found["logits"])


def test_a_tapped_pass_computes_what_an_untapped_one_does(session: LlamaSession) -> None:
    assert (slots(session, LONG_IDS)["logits"] == all_rows(session, LONG_IDS)).all()


def test_heads_that_are_left_interleaved_would_be_seen(session: LlamaSession, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = slots(session)
    monkeypatch.setattr(_llama_graph, "_to_canonical", lambda value, place: value)
    found = slots(session)
    wrong = {name for name in expected if distance(found[name], expected[name]) > 0.1}
    assert wrong == {f"layers.{i}.{slot}" for i in range(2) for slot in ("q", "k", "q_rope", "k_rope")}


@pytest.mark.parametrize(("model_type", "window"), [("llama", None), ("gemma3_text", 8), ("phi3", None)])
@pytest.mark.parametrize("activations", ["float32", "int8"])
def test_logits_with_a_cache_equal_those_without_also_after_truncation(
    model_type: str, window: int | None, activations: Activations, tmp_path: Path
) -> None:
    path = tiny.write(tmp_path, "gguf", tiny.config(model_type, sliding_window=window))
    theirs = load(path, activations)
    allowed = bound(model_type) if activations == "float32" else F16_CACHE_BOUND
    full = all_rows(theirs, LONG_IDS)
    assert distance(full, all_rows(numpy_session(path), LONG_IDS)) < allowed
    cache = theirs.new_cache()
    theirs.forward([Span(LONG_IDS[:30], cache)])
    theirs.forward([Span(LONG_IDS[:5], cache)])
    cache.truncate(20)
    steps = [theirs.forward([Span(part, cache)])[-1] for part in np.split(LONG_IDS[20:], [1, 2, 9])]
    assert cache.length == 40
    assert distance(np.stack(steps), full[[20, 21, 28, 39]]) < allowed


@pytest.mark.parametrize("model_type", ["mistral", "phi3"])
def test_windows_of_mistral_and_phi3_are_known_not_to_be_kept_by_llama_cpp(model_type: str, tmp_path: Path) -> None:
    made = tiny.config(model_type, sliding_window=8)
    theirs = all_rows(load(tiny.write(tmp_path / "window", "gguf", made)), LONG_IDS)
    without = tiny.write(tmp_path / "none", "gguf", tiny.config(model_type))
    assert distance(theirs, all_rows(numpy_session(without), LONG_IDS)) < BOUND


def test_the_cache_says_how_it_is_held(llama: Path, session: LlamaSession) -> None:
    assert session.kv_cache_dtype == "float32" and load(llama, "int8").kv_cache_dtype == "float16"


def test_a_sequence_that_outgrows_its_context_keeps_what_was_forced(tmp_path: Path) -> None:
    path = tiny.write(tmp_path, "gguf", tiny.config("llama", max_position_embeddings=4096))
    token_ids = np.random.default_rng(1).integers(0, 250, 1300)

    def run(theirs: Any) -> np.ndarray:
        cache = theirs.new_cache()
        theirs.forward([Span(token_ids[:10], cache)], tap=lambda name, v: 0 * v if name == "layers.1.v" else v)
        return np.stack([theirs.forward([Span(part, cache)])[-1] for part in np.split(token_ids[10:], [700])])

    theirs = load(path)
    assert distance(run(theirs), run(numpy_session(path))) < BOUND
    long = theirs.new_cache()
    seen = []
    theirs.forward([Span(token_ids, long)], tap=lambda name, v: (seen.append(v.shape), v)[1])
    assert seen[0] == (1300, 64), "a long prompt is shown in one piece"


def test_the_last_row_alone_is_shown_and_forced_where_it_alone_is_wanted(session: LlamaSession, llama: Path) -> None:
    def run(theirs: Any) -> tuple[dict[str, tuple[int, ...]], np.ndarray]:
        seen: dict[str, tuple[int, ...]] = {}

        def tap(name: str, value: np.ndarray) -> np.ndarray:
            seen[name] = value.shape
            return value + 1 if name == "final_norm" else value

        return seen, theirs.forward([Span(TOKEN_IDS, theirs.new_cache())], tap=tap)

    (seen, logits), (expected_seen, expected) = run(session), run(numpy_session(llama))
    assert {name: expected_seen[name] for name in seen} == seen
    assert distance(logits, expected) < BOUND


def test_several_sequences_are_computed_one_by_one_and_never_tapped_together(session: LlamaSession) -> None:
    prompts = [TOKEN_IDS, TOKEN_IDS[:2]]
    together = session.forward([Span(p, session.new_cache()) for p in prompts])
    alone = np.concatenate([session.forward([Span(p, session.new_cache())]) for p in prompts])
    assert (together == alone).all()
    with pytest.raises(EngineError, match="one by one"):
        session.forward([Span(p, session.new_cache()) for p in prompts], tap=lambda _, value: value)


def test_a_pass_that_a_tap_ends_leaves_the_cache_as_it_was(session: LlamaSession) -> None:
    def tap(name: str, value: np.ndarray) -> np.ndarray:
        if name == "layers.1.attn":
            raise KeyboardInterrupt
        return value

    cache = session.new_cache()
    first = session.forward([Span(TOKEN_IDS, cache)], rows="all")
    with pytest.raises(KeyboardInterrupt):
        session.forward([Span(TOKEN_IDS, cache)], tap=tap)
    assert cache.length == 4
    after = session.forward([Span(TOKEN_IDS, cache)], rows="all")
    expected = all_rows(session, np.concatenate([TOKEN_IDS, TOKEN_IDS]))
    assert distance(np.concatenate([first, after]), expected) < BOUND


def test_a_graph_that_is_not_the_one_the_slots_were_found_in_is_refused(llama: Path) -> None:
    theirs = load(llama)
    assert theirs.slots
    at = next(iter(theirs._found or {}))
    theirs._nodes[at] = Node("other", "MUL", 0, ())
    with pytest.raises(EngineError, match="cannot be told apart"):
        slots(theirs)


def test_logits_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    made = tiny.config("llama")
    weights = tiny.tensors(made)
    weights["model.norm.weight"][3] = np.nan
    with pytest.raises(EngineError, match="not finite"):
        all_rows(load(tiny.write(tmp_path, "gguf", made, weights)))


def test_a_file_that_llama_cpp_refuses_is_an_engine_error_with_its_reason(tmp_path: Path) -> None:
    made = tiny.config("llama")
    weights = tiny.tensors(made)
    del weights["model.layers.1.mlp.up_proj.weight"]
    path = tiny.write(tmp_path, "gguf", made, weights)
    with pytest.raises(EngineError, match=r"refuses the file: .*blk\.1\.ffn_up\.weight"):
        load(path)


def test_a_file_that_ends_the_process_ends_only_the_one_that_tries_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_key = tiny._add_key

    def add(writer: Any, key: str, value: Any) -> None:
        add_key(writer, key, ["a"] * tiny.VOCAB_SIZE if key == "tokenizer.ggml.tokens" else value)

    monkeypatch.setattr(tiny, "_add_key", add)
    ready = checkpoint(tiny.write(tmp_path, "gguf", tiny.config("llama")))
    for run in (lambda: engine.load(ready, threads=1), lambda: engine.voice(ready)):
        with pytest.raises(
            EngineError, match=r"ends the process \(SIGABRT\) over this file: .*GGML_ASSERT\(id_to_token"
        ):
            run()


def test_what_it_does_not_read_is_refused_with_the_way_out(tmp_path: Path, llama: Path) -> None:
    for file_format in ("apr", "safetensors"):
        path = tiny.write(tmp_path / file_format, file_format, tiny.config("llama"))
        with pytest.raises(UnsupportedError, match=r"run: apr convert .* -o model\.gguf"):
            load(path)
    changed = tiny.config("llama", rope_theta=20000.0)
    with pytest.raises(UnsupportedError, match="another configuration"):
        engine.load(checkpoint(llama).altered(config=changed), threads=1)


def test_without_a_package_the_error_names_the_extra(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_llama_library, "find_spec", lambda name: None)
    monkeypatch.setattr(_llama_library, "library", _llama_library.library.__wrapped__)
    with pytest.raises(MissingDependency, match=r"pip install 'apr\[llama-cpp\]'"):
        load(llama)


def test_a_structure_that_does_not_show_the_pattern_is_never_written_to(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    defaults = bytes(library().llama_context_default_params())
    assert context_offsets(defaults) == library().context_offsets
    moved = [
        struct.pack("<I", 0) + defaults,  # a field before
        defaults[:84] + struct.pack("<f", 0.5) + defaults[88:],  # another default
        defaults[:88] + bytes(16) + defaults[88:],  # two pointers more
        defaults[:104] + struct.pack("<i", 8) + defaults[108:],  # another type of keys
    ]
    assert [context_offsets(other) for other in moved] == [{}] * 4
    found = library()
    assert {"taps", "forcing"} <= engine.CAPABILITIES
    monkeypatch.setattr(found, "context_offsets", {})
    assert {"logits", "voice"} == engine.CAPABILITIES
    blind = load(llama)
    assert blind.kv_cache_dtype == "float16" and blind.slots == ()
    assert distance(all_rows(blind), all_rows(numpy_session(llama))) < F16_CACHE_BOUND
    with pytest.raises(EngineError, match="does not show where its evaluation callback is set"):
        slots(blind)


def test_the_flag_for_a_vocabulary_alone_is_found_or_left_alone() -> None:
    defaults = bytes(library().llama_model_default_params())
    assert vocab_only_at(defaults) == library().vocab_only_at == 72
    assert vocab_only_at(defaults[:72] + bytes((0, 1, 1, 0, 0, 0, 0, 0)) + defaults[80:]) is None


def test_offsets_are_those_that_llama_cpp_python_knows() -> None:
    bindings = pytest.importorskip("llama_cpp.llama_cpp")
    theirs = bindings.llama_context_params
    found = context_offsets(bytes(library().llama_context_default_params()))
    assert found and {name: getattr(theirs, name).offset for name in found} == found


@pytest.mark.parametrize("order", ["packed", "permuted", "cut out"])
@pytest.mark.parametrize(("ggml_type", "dtype"), [(0, np.float32), (1, np.float16)])
def test_tensors_are_read_whatever_their_strides(order: str, ggml_type: int, dtype: type) -> None:
    values = np.arange(2 * 3 * 4).reshape(1, 2, 3, 4).astype(dtype)
    if order == "permuted":
        values = values.transpose(0, 2, 1, 3)
    elif order == "cut out":
        values = values[..., 1:3]
    first = values.__array_interface__["data"][0]
    spanned = sum((n - 1) * s for n, s in zip(values.shape, values.strides, strict=True)) + values.itemsize
    raw = np.frombuffer(ctypes.string_at(first, spanned), dtype=np.uint8)
    assert (as_array(raw, ggml_type, values.shape[::-1], values.strides[::-1]) == values).all()


def test_a_type_that_is_not_read_is_refused() -> None:
    with pytest.raises(EngineError, match="type 8"):
        as_array(np.zeros(34, dtype=np.uint8), 8, (32, 1, 1, 1), (34, 34, 34, 34))


def test_the_last_of_several_nodes_is_the_slot() -> None:
    nodes = [
        Node("Qcur-0", "MUL_MAT", 1, (("blk.0.attn_q.weight", 90), ("attn_norm-0", 91))),
        Node("Qcur-0", "ADD", 2, (("Qcur-0", 1), ("blk.0.attn_q.bias", 92))),
        Node("Qcur-0", "ROPE", 3, (("Qcur-0", 2),)),
        Node("node_3", "ADD", 4, (("attn_out-0", 93),)),
        Node("norm-0", "RMS_NORM", 5, (("node_3", 4),)),
        Node("ffn_norm-0", "MUL", 6, (("norm-0", 5), ("blk.0.ffn_norm.weight", 94))),
    ]
    wanted = [
        SlotPlace("q", tensor="blk.0.attn_q"),
        SlotPlace("q_rope", node="Qcur-0", op="ROPE"),
        SlotPlace("attn_residual", into="blk.0.ffn_norm"),
        SlotPlace("ffn_act"),
        SlotPlace("k", tensor="blk.0.attn_k"),
    ]
    found = {place.slot: at for at, found in find_slots(nodes, wanted).items() for place in found}
    assert found == {"q": 1, "q_rope": 2, "attn_residual": 3}


def test_its_voice_takes_control_tokens_of_a_prompt_as_text(llama: Path) -> None:
    voice = engine.voice(checkpoint(llama))
    control = tiny.spec().tokens.index("<|im_start|>")
    text = "then <|im_start|>on é 漢"
    assert control not in voice.encode(text) and voice.decode(voice.encode(text)) == text
    assert voice.encode_rendered("<|im_start|>") == [control] and voice.decode([control]) == "<|im_start|>"
    messages = [{"role": "user", "content": "hello"}]
    assert voice.render(messages) == "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    voice.close()


def test_a_file_without_a_template_renders_nothing(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    voice = engine.voice(checkpoint(llama))
    monkeypatch.setattr("apr.engines._llama_voice._TEMPLATE", "tokenizer.no_such_key")
    assert voice.render([{"role": "user", "content": "hello"}]) is None


def test_the_one_generation_runs_on_it(llama: Path) -> None:
    with of_file(open_model(llama), engine="llama-cpp", threads=1) as model:
        record = model.generate("then", regime="raw", max_tokens=5, at_eos="ignore")
        generation = Generation(record.prompt_token_ids, stop=StopRule(max_tokens=5))
        for _ in generate(numpy_session(llama), model.tokenizer, [generation]):
            pass
    assert record.engine == "llama-cpp" and record.kernel_set == "ggml" and "ggml" in record.engine_version
    assert record.output_token_ids == tuple(step.token_id for step in generation.steps)


@pytest.mark.real
def test_a_real_file_has_the_logits_of_our_own_engine_but_for_rounded_activations(
    real_model: Callable[[str], Path],
) -> None:
    from apr.engines import native

    ready = checkpoint(real_model("smollm2"))
    theirs, ours = load(ready.file.path), native.load(ready, threads=2, activations="float32")
    token_ids = np.array([1, 4093, 198, 504, 3575, 282, 4649, 314])
    assert theirs.activations == "int8"
    assert distance(all_rows(theirs, token_ids), all_rows(ours, token_ids)) < 0.08  # measured: 0.035
