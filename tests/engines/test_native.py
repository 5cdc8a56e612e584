"""The compiled engine against the defining one, and against itself: however the work is cut, the bits are the same."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from apr.engines import native
from apr.engines import numpy as numpy_engine
from apr.engines._base import Session, Span
from apr.engines._native_session import PIECE_TOKENS, NativeSession, pieces
from apr.engines._statistics import Statistics
from apr.errors import EngineError, MissingTensor
from apr.formats import open_model
from apr.kernels import _extension, _native
from apr.models._checkpoint import Checkpoint
from apr.models._config import ModelConfig, RopeScaling

TOKEN_IDS = np.random.default_rng(7).integers(0, 250, 40)
CODECS = ("q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "f16", "bf16", "f32")
PLAIN = ("f16", "bf16", "f32")
EXACT_BOUND = 2e-5  # of the largest logit: float32 sums in another order
INT8_BOUND = 0.05  # of the largest logit: activations in 8 bits are 0.5 % off in each product, keys and values 0.05 %

Write = Callable[..., Path]


def config(model_type: str, codec: str, **changes: Any) -> ModelConfig:
    """A tiny model whose rows fill the codec's blocks."""
    return tiny.config(model_type, **(tiny.BLOCKS_OF_256 if codec in tiny.SCALES else {}), **changes)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes each tiny model once."""
    written: dict[tuple[str, str], Path] = {}

    def write(model_type: str, codec: str = "q8_0") -> Path:
        key = (model_type, codec)
        if key not in written:
            folder = tmp_path_factory.mktemp(f"{model_type}-{codec}")
            written[key] = tiny.write(folder, "gguf", config(model_type, codec), codec=codec)
        return written[key]

    return write


def load(path: Path, *, threads: int = 1, activations: Any = "int8") -> NativeSession:
    session = native.load(Checkpoint(open_model(path)), threads=threads, activations=activations)
    assert isinstance(session, NativeSession)
    return session


def defined(path: Path) -> numpy_engine.NumpySession:
    return numpy_engine.load(Checkpoint(open_model(path)), threads=1)


def logits(session: Session, token_ids: np.ndarray = TOKEN_IDS, **options: Any) -> np.ndarray:
    return session.forward([Span(token_ids, session.new_cache())], **({"rows": "all"} | options))


def off(actual: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, of the largest value."""
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


@pytest.fixture(params=_native.instruction_sets())
def _each_instruction_set(request: pytest.FixtureRequest) -> Iterator[None]:
    before = _native.instruction_set()
    _native.use_instruction_set(request.param)
    yield
    _native.use_instruction_set(before)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("model_type", tiny.MODEL_TYPES)
def test_it_computes_what_numpy_computes(model_type: str, codec: str, path: Write) -> None:
    model = path(model_type, codec)
    expected = logits(defined(model))
    assert expected.std() > 0.05
    assert off(logits(load(model, activations="float32")), expected) < EXACT_BOUND
    assert off(logits(load(model)), expected) < INT8_BOUND


@pytest.mark.usefixtures("_each_instruction_set")
@pytest.mark.parametrize("codec", ["q4_k", "q5_0", "f16"])
def test_every_instruction_set_computes_it(codec: str, path: Write) -> None:
    model = path("qwen2", codec)
    expected = logits(defined(model))
    session = load(model, activations="float32")
    assert session.instruction_set == _native.instruction_set()
    assert off(logits(session), expected) < EXACT_BOUND
    assert off(logits(load(model)), expected) < INT8_BOUND


@pytest.mark.parametrize("rope", ["longrope", "yarn", "llama3"])
def test_stretched_positions_are_those_of_the_definition(rope: Any, tmp_path: Path) -> None:
    factors = {"short_factor": (1.5,) * 8, "long_factor": (4.0,) * 8} if rope == "longrope" else {}
    scaling = RopeScaling(rope, 8.0, original_max_position_embeddings=32, **factors)
    model_type = "phi3" if rope == "longrope" else "llama"
    model = tiny.write(tmp_path, "safetensors", tiny.config(model_type, rope_scaling=scaling))
    for n_tokens in (20, 40):
        actual = logits(load(model, activations="float32"), TOKEN_IDS[:n_tokens])
        assert off(actual, logits(defined(model), TOKEN_IDS[:n_tokens])) < EXACT_BOUND


@pytest.mark.parametrize("codec", ["apr_q4", "apr_q8"])
def test_a_codec_without_a_kernel_is_decoded_and_said(
    codec: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny.write(tmp_path, "apr", tiny.config("gemma3_text"), codec=codec)
    with caplog.at_level(logging.INFO, logger="apr.engines"):
        session = load(model, activations="float32")
    assert [record.getMessage() for record in caplog.records].count(
        f"{codec} has no compiled kernel: its tensors are decoded to float32"
    ) == 1
    assert off(logits(session), logits(defined(model))) < EXACT_BOUND


def tapped(session: Session, **options: Any) -> dict[str, np.ndarray]:
    seen: dict[str, np.ndarray] = {}

    def tap(name: str, value: np.ndarray) -> np.ndarray:
        assert name not in seen
        seen[name] = value
        return value

    logits(session, tap=tap, **options)
    return seen


@pytest.mark.parametrize("activations", ["int8", "float32"])
@pytest.mark.parametrize("model_type", tiny.MODEL_TYPES)
def test_a_tap_changes_no_bit_and_sees_what_it_sees_on_numpy(model_type: str, activations: str, path: Write) -> None:
    session, expected = load(path(model_type), activations=activations), tapped(defined(path(model_type)))
    for rows in ("all", "last"):
        plain = logits(session, rows=rows)
        np.testing.assert_array_equal(logits(session, rows=rows, tap=lambda _, value: value), plain)
        np.testing.assert_array_equal(logits(session, rows=rows, tap=Statistics()), plain)
    seen = tapped(session)
    assert list(seen) == list(expected)
    assert {name: value.shape for name, value in seen.items()} == {n: value.shape for n, value in expected.items()}
    bound = EXACT_BOUND if activations == "float32" else 2 * INT8_BOUND
    assert {name for name, value in seen.items() if off(value, expected[name]) > bound} == set()


@pytest.mark.parametrize(
    "slot", ["embed", "layers.0.k", "layers.0.q_rope", "layers.1.ffn_act", "layers.1.attn", "logits"]
)
@pytest.mark.parametrize("model_type", ["llama", "gemma3_text", "phi3"])
def test_a_slot_that_is_replaced_changes_the_logits_as_it_does_on_numpy(
    model_type: str, slot: str, path: Write
) -> None:
    def tap(name: str, value: np.ndarray) -> np.ndarray:
        return value + np.float32(0.5) * (value > 0) if name == slot else value

    session, reference = load(path(model_type), activations="float32"), defined(path(model_type))
    expected = logits(reference, tap=tap)
    assert off(expected, logits(reference)) > 100 * EXACT_BOUND
    assert off(logits(session, tap=tap), expected) < 2 * EXACT_BOUND


@pytest.mark.parametrize("model_type", tiny.MODEL_TYPES)
def test_statistics_are_those_of_the_values(model_type: str, path: Write) -> None:
    session, tap, expected = load(path(model_type)), Statistics(), Statistics()
    logits(session, tap=tap, rows="last")
    for name, value in tapped(session, rows="last").items():
        expected(name, value)
    found = tap.slots()
    assert list(found) == list(expected.slots())
    for name, rows in expected.slots().items():
        np.testing.assert_allclose(found[name], rows, rtol=1e-6, atol=1e-9, err_msg=name)


@pytest.mark.usefixtures("_each_instruction_set")
@pytest.mark.parametrize("activations", ["int8", "float32"])
@pytest.mark.parametrize("codec", ["q4_0", "q4_k", "bf16"])
def test_the_bits_do_not_depend_on_how_the_work_is_cut(codec: str, activations: str, path: Write) -> None:
    model = path("gemma3_text", codec)
    one, two = load(model, activations=activations), load(model, threads=2, activations=activations)
    whole = logits(one)
    np.testing.assert_array_equal(logits(two), whole, err_msg="threads")
    np.testing.assert_array_equal(logits(one, rows="last"), whole[-1:], err_msg="rows")
    cache = one.new_cache()
    steps = [one.forward([Span(ids, cache)], rows="all") for ids in np.split(TOKEN_IDS, [1, 2, 9, 25])]
    np.testing.assert_array_equal(np.concatenate(steps), whole, err_msg="steps")
    prompts = [TOKEN_IDS[:5], TOKEN_IDS[5:25], TOKEN_IDS[3:4]]
    together = one.forward([Span(ids, one.new_cache()) for ids in prompts])
    np.testing.assert_array_equal(together, np.concatenate([logits(one, p, rows="last") for p in prompts]))


def test_long_prompts_and_large_batches_are_cut_without_a_trace(path: Write) -> None:
    session = load(path("qwen2"))
    long = np.resize(TOKEN_IDS, 2 * PIECE_TOKENS + 40)
    prompts = [TOKEN_IDS[:3], long, *([TOKEN_IDS[i : i + 1]] for i in range(2))]
    prompts = [np.asarray(p).reshape(-1) for p in prompts]
    caches = [session.new_cache() for _ in prompts]
    together, figures = session.forward([Span(p, c) for p, c in zip(prompts, caches, strict=True)]), Statistics()
    assert [cache.length for cache in caches] == [len(p) for p in prompts]
    whole = session.forward([Span(p, session.new_cache()) for p in prompts], tap=lambda _, value: value)
    np.testing.assert_array_equal(together, whole)
    session.forward([Span(p, session.new_cache()) for p in prompts], tap=figures)
    rows = {name: len(found) for name, found in figures.slots().items()}
    assert rows["embed"] == rows["layers.1.out"] == len(np.concatenate(prompts)) and rows["logits"] == len(prompts)


def test_pieces_are_full_and_keep_the_order() -> None:
    class Held:
        length = 0

        def truncate(self, length: int) -> None:
            raise NotImplementedError

    spans = [Span(np.zeros(n, dtype=np.int64), Held()) for n in (3, 9, 1)]
    found = [[(len(p.span.token_ids), p.start, p.stop, p.is_last) for p in piece] for piece in pieces(spans, 5)]
    assert found == [
        [(3, 0, 3, True), (9, 0, 2, False)],
        [(9, 2, 7, False)],
        [(9, 7, 9, True), (1, 0, 1, True)],
    ]


def test_an_interrupted_pass_leaves_the_caches_as_they_were(path: Write) -> None:
    session = load(path("llama"))
    cache = session.new_cache()
    session.forward([Span(TOKEN_IDS[:7], cache)])

    def tap(name: str, value: np.ndarray) -> np.ndarray:
        if name == "layers.1.attn":
            raise KeyboardInterrupt
        return value

    with pytest.raises(KeyboardInterrupt):
        session.forward([Span(TOKEN_IDS[20:], cache)], tap=tap)
    assert cache.length == 7
    again = session.forward([Span(TOKEN_IDS[7:], cache)], rows="all")
    np.testing.assert_array_equal(again, logits(session)[7:])


def test_what_no_engine_takes_is_refused(path: Write, tmp_path: Path) -> None:
    session = load(path("llama"))
    for bad in ([-1], [tiny.VOCAB_SIZE], []):
        with pytest.raises(EngineError, match="vocabulary"):
            logits(session, np.array(bad, dtype=np.int64))
    weights = tiny.tensors(tiny.config())
    weights["model.norm.weight"][3] = np.nan
    with pytest.raises(EngineError, match="not finite"):
        logits(load(tiny.write(tmp_path / "nan", "safetensors", tiny.config(), weights)))
    del weights["model.layers.1.self_attn.k_proj.weight"]
    with pytest.raises(MissingTensor, match=r"layers\.1\.self_attn\.k_proj\.weight"):
        load(tiny.write(tmp_path / "missing", "safetensors", tiny.config(), weights))


def test_what_computes_is_said(path: Write) -> None:
    session = load(path("llama"), threads=2)
    assert (session.engine, session.kernel_set, session.threads) == ("native", "native", 2)
    assert (session.activations, session.kv_cache_dtype, session.max_positions) == ("int8", "float16", 256)
    assert session.instruction_set in _native.instruction_sets()
    exact = load(path("llama"), activations="float32")
    assert (exact.activations, exact.kv_cache_dtype) == ("float32", "float32")


@pytest.mark.parametrize("file_format", tiny.FORMATS)
@pytest.mark.parametrize("model_type", ["llama", "gemma3_text"])
def test_loading_tells_the_bytes_of_every_tensor(model_type: str, file_format: str, tmp_path: Path) -> None:
    told: list[int] = []
    checkpoint = Checkpoint(open_model(tiny.write(tmp_path, file_format, tiny.config(model_type))))
    native.load(checkpoint, threads=2, progress=told.append)
    assert sum(told) == sum(checkpoint.tensors[name].info.n_bytes for name in checkpoint.expected)


def test_without_compiled_kernels_numpy_computes(path: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_extension, "native", lambda: None)
    session = native.load(Checkpoint(open_model(path("llama"))), threads=1)
    assert (session.engine, session.kernel_set, session.activations) == ("numpy", "numpy", "float32")
    np.testing.assert_array_equal(logits(session), logits(defined(path("llama"))))


def test_without_compiled_kernels_one_line_says_so_once(path: Write) -> None:
    script = (
        "import sys; sys.modules['apr.kernels._native'] = None\n"
        "from pathlib import Path; from apr.engines import native; from apr.formats import open_model\n"
        "from apr.models._checkpoint import Checkpoint\n"
        f"for _ in range(2): native.load(Checkpoint(open_model(Path({str(path('llama'))!r}))), threads=1)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert len(done.stderr.splitlines()) == 1 and "the compiled kernels are not installed" in done.stderr
