"""One pass looked into: figures against NumPy's own, where a NaN is born, how far a layer goes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tiny
from apr.engines._subject import Subject
from apr.errors import EngineError, InternalError, UnsupportedError, UsageError
from apr.trace import Selection, Trace, capture, trace
from traced import N_POSITIONS, PROMPT, model, seen_by_a_tap


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model(tmp_path_factory.mktemp("healthy") / "m")


@pytest.fixture(scope="module")
def healthy(path: Path) -> Trace:
    return trace(path, PROMPT, regime="raw")


@pytest.mark.parametrize("engine", ["native", "numpy"])
def test_the_figures_are_numpys_own_of_what_a_tap_sees(path: Path, engine: str) -> None:
    made = trace(f"{path}@{engine}", PROMPT, regime="raw")
    values = seen_by_a_tap(path, made.header.prompt_token_ids, engine=engine)
    assert [slot.slot for slot in made.slots] == list(values) and len(values) > 30
    for slot in made.slots:
        x = values[slot.slot].reshape(N_POSITIONS, -1).astype(np.float64)
        s = slot.statistics
        assert slot.shape == x.shape and s.count == (x.shape[1],) * N_POSITIONS
        np.testing.assert_array_equal(s.min, x.min(axis=1))
        np.testing.assert_array_equal(s.max, x.max(axis=1))
        for found, expected in (
            (s.mean, x.mean(axis=1)),
            (s.std, x.std(axis=1)),
            (s.rms, np.sqrt((x * x).mean(axis=1))),
        ):
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
        assert set(s.nan) == set(s.inf) == {0}


def test_the_header_says_what_ran_on_what(healthy: Trace, path: Path) -> None:
    header = healthy.header
    assert header.model == str(path) and header.engine == "native" and header.activations == "float32"
    assert header.prompt_text == PROMPT and header.positions == tuple(range(N_POSITIONS))
    assert "".join(header.prompt_tokens) == PROMPT and header.template is not None
    assert header.template.decision == "raw" and len(header.tensors_sha256) == 64


def test_the_template_is_applied_as_run_applies_it(path: Path) -> None:
    made = trace(path, PROMPT, system="Be brief.")
    with Subject(path) as subject:
        run = subject.language_model.run(PROMPT, system="Be brief.")
    assert made.header.prompt_token_ids == run.prompt.token_ids and "<|im_start|>" in made.header.prompt_tokens


def test_top_and_margin_are_those_of_the_last_logits(healthy: Trace, path: Path) -> None:
    logits = seen_by_a_tap(path, healthy.header.prompt_token_ids)["logits"][-1].astype(np.float64)
    order = np.argsort(-logits)
    assert [top.token_id for top in healthy.top] == order[:10].tolist()
    assert healthy.margin == pytest.approx(logits[order[0]] - logits[order[1]], rel=1e-6)
    probabilities = np.exp(logits) / np.exp(logits).sum()
    assert healthy.top[0].logprob == pytest.approx(np.log(probabilities[order[0]]), abs=1e-6)


def test_fast_computes_with_what_run_computes_with(path: Path) -> None:
    made = trace(path, PROMPT, regime="raw", activations="int8")
    assert made.header.activations == "int8" and made.header.kv_cache == "float16"


def test_a_layers_range_is_where_it_goes_farthest(healthy: Trace, path: Path) -> None:
    values = seen_by_a_tap(path, healthy.header.prompt_token_ids)
    assert [found.layer for found in healthy.ranges] == [None, 0, 1, None, None]
    for found in healthy.ranges:
        of_layer = [v for k, v in values.items() if (k.startswith(f"layers.{found.layer}.") or k == found.slot)]
        assert found.max_abs == max(float(np.abs(v).max()) for v in of_layer)
        assert np.abs(values[found.slot][found.position]).max() == found.max_abs
        assert found.of_float16 == found.max_abs / 65504
    assert healthy.highest is not None
    assert healthy.highest.max_abs == max(float(np.abs(v).max()) for v in values.values())


def test_a_selection_keeps_slots_and_positions_and_the_findings_are_of_the_whole_pass(
    healthy: Trace, path: Path
) -> None:
    made = trace(path, PROMPT, regime="raw", selection=Selection(("ffn_*",), layers="1", positions="0,-1"))
    assert {slot.layer for slot in made.slots} == {1} and len(made.slots) == 6
    assert made.header.positions == (0, N_POSITIONS - 1) and made.slots[0].shape == (2, 64)
    whole = next(slot for slot in healthy.slots if slot.slot == "layers.1.ffn_down")
    assert made.slots[-1].statistics.rms == (whole.statistics.rms[0], whole.statistics.rms[-1])
    assert made.ranges == healthy.ranges and made.top == healthy.top


@pytest.mark.parametrize("engine", ["native", "numpy"])
@pytest.mark.parametrize(
    ("tensor", "value", "slot"),
    [
        ("model.layers.1.self_attn.k_proj.weight", np.nan, "layers.1.k"),
        ("model.layers.0.mlp.down_proj.weight", np.inf, "layers.0.ffn_down"),
        ("model.layers.1.post_attention_layernorm.weight", np.nan, "layers.1.ffn_norm"),
        ("lm_head.weight", np.nan, "logits"),
    ],
)
def test_a_planted_value_names_the_slot_where_it_is_born(
    tmp_path: Path, engine: str, tensor: str, value: float, slot: str
) -> None:
    weights = tiny.tensors(tiny.config())[tensor].copy()
    weights[(3,) * weights.ndim] = value
    made = trace(f"{model(tmp_path / 'm', **{tensor: weights})}@{engine}", PROMPT, regime="raw")
    born = made.first_nonfinite
    assert born is not None and made.exit_code == 1
    assert (born.slot, born.position, born.nan + born.inf) == (slot, 0, 1)
    assert made.top == () and made.margin is None


def test_the_position_where_a_nan_is_born_is_named_too(tmp_path: Path, healthy: Trace) -> None:
    table = tiny.tensors(tiny.config())["model.embed_tokens.weight"].copy()
    table[healthy.header.prompt_token_ids[3], 5] = np.nan
    born = trace(model(tmp_path / "m", **{"model.embed_tokens.weight": table}), PROMPT, regime="raw").first_nonfinite
    assert born is not None and (born.slot, born.layer, born.position, born.nan) == ("embed", None, 3, 1)


def test_the_last_tokens_are_shown_where_only_an_earlier_position_is_broken(tmp_path: Path, healthy: Trace) -> None:
    # the NaN of a key is seen by all later queries: only what is not attended to stays where it is
    table = np.array(tiny.tensors(tiny.config())["lm_head.weight"])
    broken = model(tmp_path / "m", **{"lm_head.weight": table})
    with Subject(broken) as subject:
        question = capture.ask(subject, PROMPT, regime="raw")
        subject.session = _BrokenAt(subject.session, position=2)  # type: ignore[misc]
        made = capture.capture(subject, question, Selection())
    assert made.first_nonfinite is not None and made.first_nonfinite.position == 2
    assert made.top == healthy.top


class _BrokenAt:
    """A session whose logits are not finite at one position."""

    def __init__(self, session: object, *, position: int) -> None:
        self._session, self._position = session, position

    def __getattr__(self, name: str) -> object:
        return getattr(self._session, name)

    def forward(self, spans, *, tap=None, rows="last"):  # type: ignore[no-untyped-def]
        if rows == "last":
            return self._session.forward(spans, rows=rows)  # type: ignore[attr-defined]

        def breaking(name: str, value: np.ndarray) -> np.ndarray:
            shown = value.copy()
            if name == "logits":
                shown[self._position, 0] = np.nan
            tap(name, shown)
            return value

        self._session.forward(spans, tap=breaking, rows=rows)  # type: ignore[attr-defined]
        raise EngineError("the logits are not finite")


def test_an_engine_error_that_no_slot_explains_is_not_swallowed(path: Path) -> None:
    with Subject(path) as subject, pytest.raises(EngineError, match="vocabulary"):
        capture.capture(subject, capture.Question("x", (10_000,), None), Selection())


def test_an_engine_that_shows_other_rows_is_never_taken_at_its_word(path: Path) -> None:
    with Subject(path) as subject:
        question = capture.ask(subject, PROMPT, regime="raw")
        subject.session = _LastRowsOnly(subject.session)  # type: ignore[misc]
        with pytest.raises(InternalError, match="showed 1 rows of final_norm for 6 positions"):
            capture.capture(subject, question, Selection())


class _LastRowsOnly:
    def __init__(self, session: object) -> None:
        self._session = session

    def __getattr__(self, name: str) -> object:
        return getattr(self._session, name)

    def forward(self, spans, *, tap=None, rows="last"):  # type: ignore[no-untyped-def]
        return self._session.forward(spans, tap=tap, rows="last")  # type: ignore[attr-defined]


def test_an_engine_without_taps_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apr.engines.numpy.CAPABILITIES", frozenset({"logits"}))
    with pytest.raises(UnsupportedError, match=r"the engine 'numpy' shows nothing of its inside; known: .*native"):
        trace(f"{path}@numpy", PROMPT)


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.npz or \.safetensors"):
        trace(tmp_path / "there is no model.gguf", PROMPT, save=tmp_path / "trace.bin")
