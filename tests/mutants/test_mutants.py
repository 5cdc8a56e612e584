"""The bench: its models behave like trained ones, its surgeons cut what they say, its judge can say no, and `why` passes."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import tiny
from apr.engines._subject import Subject
from apr.models._decoder import Span
from apr.parity._causes import BENIGN, CAUSES
from apr.parity._probes import prompts
from mutants import _quantisers, catalogue, judge, models
from mutants._patient import open_patient
from mutants.mutant import Answer, Healthy, Mutant, Planted, Ward, agrees
from mutants.page import known, put

ROOT = Path(__file__).resolve().parents[2]
ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3", "gemma3_text", "phi3")


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Ward:
    """Healthy models and room for sick ones, for all tests of this file."""
    root = tmp_path_factory.mktemp("ward")
    return Ward(models.Stock(root / "stock"), root / "scratch")


def case(name: str) -> Mutant | Healthy:
    every: list[Mutant | Healthy] = [*catalogue.twins(), *catalogue.healthy_twins()]
    return next(c for c in every if c.id == name)


# the instrument, on a selection; `make mutants` asks about all of them


@pytest.mark.parametrize("name", catalogue.SHORT)
def test_a_planted_defect_is_noticed_and_named_and_placed(name: str, ward: Ward) -> None:
    score = judge.judge(case(name), ward)
    assert score.is_detected and score.is_cause_right and score.is_place_right, (
        f"wanted {score.wanted}; said {score.found}\n{score.error}"
    )
    assert score.warned == ()


@pytest.mark.parametrize("name", catalogue.SHORT_HEALTHY)
def test_a_healthy_pair_raises_no_alarm(name: str, ward: Ward) -> None:
    score = judge.judge(case(name), ward)
    assert not score.is_detected, f"{score.found}\n{score.error}"
    assert score.warned == ()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_promise_is_kept_on_all_twins() -> None:
    done = subprocess.run([sys.executable, "benchmarks/mutants.py"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]


# the catalogue


def test_every_cause_is_planted_several_times() -> None:
    counts = {cause: sum(cause in m.causes for m in catalogue.twins()) for cause in CAUSES if cause not in BENIGN}
    assert {cause: n for cause, n in counts.items() if n < 3} == {}


def test_names_are_unique_and_the_selections_exist() -> None:
    every: list[Mutant | Healthy] = [
        *catalogue.twins(), *catalogue.healthy_twins(), *catalogue.real(), *catalogue.healthy_real(),
    ]  # fmt: skip
    names = [c.id for c in every]
    assert len(names) == len(set(names))
    assert {*catalogue.SHORT, *catalogue.SHORT_HEALTHY} <= set(names)


def test_every_architecture_and_container_has_mutants_and_healthy_pairs() -> None:
    twins = catalogue.twins()
    sites = {(m.variant, m.format) for m in twins}
    assert {(a, f) for a in ARCHITECTURES for f in tiny.FORMATS} <= sites
    assert set(ARCHITECTURES) <= {h.variant for h in catalogue.healthy_twins()}


# the models


@pytest.mark.parametrize("variant", ARCHITECTURES)
def test_a_twin_has_wide_margins_and_writes_varied_text(variant: str, ward: Ward) -> None:
    with ward.subject(ward.healthy(variant, "gguf")) as subject:
        margins = []
        for _, prompt in prompts(subject)[:7]:
            logits = _logits(subject, prompt.token_ids)
            best = np.sort(logits, axis=1)[:, -2:]
            margins += (best[:, 1] - best[:, 0]).tolist()
        written = subject.language_model.generate("Monday, Tuesday,", max_tokens=24, regime="raw").output_token_ids
    assert np.median(margins) > 1.0
    assert len(set(written)) > 1


def test_attention_of_a_twin_looks_at_other_positions(ward: Ward) -> None:
    """A word at the beginning is still felt at the end."""
    with ward.subject(ward.healthy("llama", "gguf")) as subject:
        ids = np.array(prompts(subject)[1][1].token_ids)
        other = ids.copy()
        other[3] = ids[3] + 1
        moved = _logits(subject, other)[-1] - _logits(subject, ids)[-1]
    assert np.abs(moved).max() > 0.05


def test_a_twin_is_the_same_each_time() -> None:
    first, second = models.weights("qwen3"), models.weights("qwen3")
    assert all(np.array_equal(first[name], second[name]) for name in first)


# the surgeons


@pytest.mark.parametrize("file_format", tiny.FORMATS)
@pytest.mark.parametrize("variant", ["llama", "gemma3_text", "phi3"])
def test_a_patient_that_nothing_is_done_to_comes_out_as_it_went_in(
    variant: str, file_format: str, ward: Ward, tmp_path: Path
) -> None:
    healthy = ward.healthy(variant, file_format)
    path = open_patient(healthy).save(tmp_path / "out")
    with Subject(healthy) as before, Subject(path) as after:
        assert before.checkpoint.content_sha256() == after.checkpoint.content_sha256()
        assert before.config == after.config
        assert before.tokenizer.sha256 == after.tokenizer.sha256
        assert before.stop_token_ids == after.stop_token_ids


def test_gguf_py_reads_what_the_surgeon_writes(ward: Ward, tmp_path: Path) -> None:
    import gguf

    patient = open_patient(ward.healthy("llama", "gguf"))
    patient.change("model.layers.1.mlp.up_proj.weight", lambda w: 2.0 * w)
    patient.set("rope_theta", 777.0)
    path = patient.save(tmp_path)
    reader = gguf.GGUFReader(path)
    found = next(t for t in reader.tensors if t.name == "blk.1.ffn_up.weight")
    expected = 2.0 * models.weights("llama")["model.layers.1.mlp.up_proj.weight"]
    assert np.array_equal(np.asarray(found.data), expected)
    assert reader.get_field("llama.rope.freq_base").contents() == 777.0


def test_the_safetensors_library_reads_what_the_surgeon_writes(ward: Ward, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    patient = open_patient(ward.healthy("qwen2", "safetensors"))
    patient.swap("model.layers.0.mlp.gate_proj.weight", "model.layers.0.mlp.up_proj.weight")
    path = patient.save(tmp_path / "out")
    found = load_file(path / "model.safetensors")["model.layers.0.mlp.gate_proj.weight"]
    assert np.array_equal(found, models.weights("qwen2")["model.layers.0.mlp.up_proj.weight"])


@pytest.mark.parametrize("codec", _quantisers.ENCODERS)
def test_an_honest_quantiser_stays_within_half_a_step(codec: str) -> None:
    import gguf

    values = models.weights("llama-wide")["model.layers.0.mlp.up_proj.weight"][:64]
    kind, encode = _quantisers.ENCODERS[codec]
    decoded = gguf.quants.dequantize(encode(values), gguf.GGMLQuantizationType(kind))
    error = np.abs(decoded - values).reshape(-1, 32).max(axis=1)
    spread = (values.max() - values.min()) / {"q4_k": 15, "q5_k": 31, "q6_k": 63}[codec]
    assert error.max() < 0.75 * spread
    assert np.sqrt((error**2).mean()) > 0.05 * spread  # and it does round


@pytest.mark.parametrize(
    "name", [n for n in catalogue.SHORT if n.split(".")[0] in ("metadata", "tokenizer", "template", "stop", "weights")]
)
def test_what_is_planted_is_in_the_candidate_and_not_in_the_reference(name: str, ward: Ward) -> None:
    mutant = case(name)
    assert isinstance(mutant, Mutant)
    made = mutant.plant(ward, mutant)
    healthy = ward.healthy(mutant.variant, mutant.format, codec=mutant.codec)
    with made.reference, made.candidate:
        assert _bytes(made.candidate.path) != _bytes(healthy)
        assert made.reference.path != made.candidate.path


# the judge


def answer(**changed: Any) -> Answer:
    plain = Answer("different", False, 1, "weights", "weights.scaled", {"tensor": "a"}, "", 0.0)
    return dataclasses.replace(plain, **changed)


def scored(**changed: Any) -> judge.Score:
    doubled = case("weights.doubled/llama/gguf")
    assert isinstance(doubled, Mutant)
    mutant = dataclasses.replace(doubled, causes=frozenset({"weights.scaled"}), where={"tensor": "a"})
    return judge.score(mutant, Planted(None, None), answer(**changed))  # type: ignore[arg-type]


def test_a_right_answer_is_right() -> None:
    score = scored()
    assert score.is_detected and score.is_cause_right and score.is_place_right and score.is_link_right
    assert judge.misses([score]) == []


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        ({"verdict": "same", "benign": True, "exit_code": 0}, "is_detected"),
        ({"benign": True, "exit_code": 0, "cause": "drift.quantization"}, "is_detected"),
        ({"cause": "weights.offset"}, "is_cause_right"),
        ({"where": {"tensor": "b"}}, "is_place_right"),
        ({"where": {}}, "is_place_right"),
        ({"link": "logits"}, "is_link_right"),
    ],
)
def test_a_wrong_answer_is_a_miss(changed: dict[str, Any], wrong: str) -> None:
    score = scored(**changed)
    assert not getattr(score, wrong)
    assert (judge.misses([score]) == [score]) == (wrong != "is_link_right")


def test_an_answer_that_is_not_given_is_noticed_and_names_nothing() -> None:
    score = scored(verdict="cannot_tell", exit_code=5, cause=None, where={}, link=None)
    assert score.is_detected and not score.is_cause_right


def test_a_broken_promise_is_seen() -> None:
    right, wrong = scored(), scored(cause="weights.offset")
    kept = {what: ok for what, _, _, ok in judge.verdicts([right] * 90 + [wrong] * 10)}
    assert kept == {"defects detected": True, "cause right": False, "place right": True}


def test_a_false_alarm_counts_against_the_healthy_pairs() -> None:
    pair = Healthy("format", "x", "llama", lambda ward, h: None)  # type: ignore[arg-type, return-value]
    quiet = judge.score(pair, Planted(None, None), answer(verdict="same", benign=True, exit_code=0))  # type: ignore[arg-type]
    loud = judge.score(pair, Planted(None, None), answer(verdict="cannot_tell", exit_code=5))  # type: ignore[arg-type]
    assert [s.is_detected for s in (quiet, loud)] == [False, True]
    assert judge.verdicts([quiet] * 99 + [loud])[0][3] and not judge.verdicts([quiet] * 9 + [loud])[0][3]


def test_an_instrument_that_raises_has_missed() -> None:
    failed = judge._failed(case(catalogue.SHORT[0]), ValueError("oh"))
    assert not failed.is_detected and "oh" in failed.error
    assert judge._failed(case(catalogue.SHORT_HEALTHY[0]), ValueError("oh")).is_detected


@pytest.mark.parametrize(
    ("expected", "found", "is_so"),
    [
        (frozenset({1, 2}), 2, True), (frozenset({1, 2}), 3, False), (1e-5, 1.00001e-5, True), (1e-5, 2e-5, False),
        ("a", frozenset({"a", "b"}), True), ("c", frozenset({"a", "b"}), False), ("a", None, False),
    ],
)  # fmt: skip
def test_places_agree(expected: Any, found: Any, is_so: bool) -> None:
    assert agrees(expected, found) is is_so


# the page


@pytest.fixture
def bench() -> Callable[[], ModuleType]:
    """benchmarks/mutants.py, under a name that is not this package's."""

    def load() -> ModuleType:
        found = importlib.util.spec_from_file_location("bench_of_mutants", ROOT / "benchmarks" / "mutants.py")
        assert found is not None and found.loader is not None
        module = importlib.util.module_from_spec(found)
        found.loader.exec_module(module)
        return module

    return load


def test_the_page_counts_and_lists_every_miss(bench: Callable[[], ModuleType]) -> None:
    text = bench().page([scored(), scored(cause="weights.offset")])
    assert "| cause right | 50.0 % | ≥ 95 % | **missed** |" in text
    assert "| `weights.scaled` | 2 | 2 | 1 | 2 | 2 |" in text
    assert "- `weights.doubled/llama/gguf`: wrong cause; wanted weights.scaled" in text


def test_what_an_earlier_run_found_out_is_not_asked_again(tmp_path: Path) -> None:
    kept = judge.as_json(scored())
    line = json.dumps(kept)
    (tmp_path / "scores").write_text(f"{line}\n{line[: len(line) // 2]}", encoding="utf-8")
    assert known(tmp_path / "scores", [str(kept["id"]), "weights.zeroed/llama/gguf"]) == [json.loads(line)]
    assert (tmp_path / "scores").read_text(encoding="utf-8") == f"{line}\n"
    assert known(tmp_path / "scores", ["weights.zeroed/llama/gguf"]) == []


def test_the_tables_are_put_between_their_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "a\n<!-- twins: begin -->\nold\n<!-- twins: end -->\nb\n<!-- real: begin --><!-- real: end -->\n",
        encoding="utf-8",
    )
    put(page, "new", "twins")
    assert page.read_text(encoding="utf-8") == (
        "a\n<!-- twins: begin -->\n\nnew\n<!-- twins: end -->\nb\n<!-- real: begin --><!-- real: end -->\n"
    )


def _logits(subject: Subject, token_ids: Any) -> np.ndarray:
    session = subject.session
    return session.forward([Span(np.asarray(token_ids, dtype=np.int64), session.new_cache())], rows="all")


def _bytes(path: Path) -> list[bytes]:
    files = sorted(p for p in path.iterdir() if p.suffix != ".complete") if path.is_dir() else [path]
    return [file.read_bytes() for file in files if file.is_file() and file.name != ".complete"]
