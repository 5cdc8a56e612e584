"""The throughput gate: what it makes of known measurements, and of engines whose speed is known by a clock of our own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny
from apr.bench import _machine, _workload
from apr.engines._subject import Subject
from apr.qa import gate
from apr.qa._judged import Judged
from apr.qa.gate import Finding, GateResult
from apr.qa.gates import throughput
from apr.qa.gates.throughput import ROUNDS, Speed, allowed_bytes, verdict
from bench.timed import Clock, timed
from mutants._patient import open_patient

BYTES = 100_000_000  # a token
ALLOWED = 500_000_000  # so that the bound is 0.2 where starting a product costs nothing
GB = 10.0  # a second: 100 tok/s are the limit


def judge(
    rates: list[float], *, others: float | None = 0.0, reads: list[float] | None = None, step_s: float = 0.0
) -> Finding:
    speed = Speed(tuple(rates), tuple(reads or [GB] * len(rates)), step_s, (others,) * len(rates))
    return verdict(speed, BYTES, ALLOWED, n_products=100)


def test_near_the_limit_is_a_pass_with_its_interval() -> None:
    found = judge([80.0, 90.0, 85.0, 70.0, 88.0, 82.0])
    assert (found.status, found.code, found.interval) == ("pass", "near-limit", (0.7, 0.9))
    assert found.measure["limit_fraction"] == pytest.approx(0.835) and found.measure["bound"] == pytest.approx(0.2)


def test_far_under_the_limit_is_a_failure() -> None:
    found = judge([5.0, 6.0, 5.5, 7.0, 5.0, 6.5])
    assert (found.status, found.code) == ("fail", "far-from-limit") and "0.20 is what" in found.message


def test_on_both_sides_of_the_bound_is_undecided() -> None:
    found = judge([5.0, 60.0, 50.0, 70.0, 50.0, 10.0])
    assert (found.status, found.code) == ("undecided", "unsteady")


def test_too_few_rounds_decide_nothing() -> None:
    assert judge([80.0] * 5).code == "unsteady" and judge([80.0] * 5).status == "undecided"
    assert judge([80.0] * 5 + [0.0]).status == "undecided"


def test_a_busy_machine_is_no_failure_and_a_pass_must_hold_against_the_best_read() -> None:
    assert (judge([5.0] * 6, others=1.0).status, judge([5.0] * 6, others=1.0).code) == ("undecided", "busy")
    assert judge([80.0] * 6, others=1.0).status == "pass"
    # slow, but so were the reads beside it, save one
    shaky = judge([10.0] * 6, others=1.0, reads=[1.0, 1.0, 1.0, 1.0, 1.0, 20.0])
    assert (shaky.status, shaky.code) == ("undecided", "busy")
    assert judge([80.0] * 6, others=None).status == "pass"


def test_what_starting_products_costs_lowers_the_bound() -> None:
    # 100 products of 1 ms each beside 50 ms for the bytes that are allowed
    found = judge([8.0] * 6, step_s=1e-3)
    assert found.measure["bound"] == pytest.approx(0.01 / 0.15) and found.status == "pass"
    assert judge([8.0] * 6).status == "fail"


def test_the_bound_follows_from_the_encodings() -> None:
    assert allowed_bytes({"q4_0": 18}, {"q4_0": 32}) == 128  # as if they were float32
    assert allowed_bytes({"bf16": 64}, {"bf16": 32}) == 64 + 256  # written out as float32, and read again
    assert allowed_bytes({"q4_0": 18, "f32": 4}, {"q4_0": 32, "f32": 1}) == 128 + 12


# ---- whole, with a clock of our own


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("model"), "gguf", codec="q8_0")


Judge = Callable[..., GateResult]


@pytest.fixture
def run_gate(path: Path, monkeypatch: pytest.MonkeyPatch) -> Judge:
    """Run the gate over an engine that decodes at a share of the limit of a machine that reads 10 GB/s."""

    def run(share: float, *, others: float = 0.0, profile: str = "smoke") -> GateResult:
        monkeypatch.setattr(_machine, "read_bandwidth", lambda threads, n_bytes=0: GB)
        monkeypatch.setattr(_machine, "step_s", lambda threads: 0.0)
        monkeypatch.setattr(_machine, "cache_bytes", lambda level: 1)
        monkeypatch.setattr(_machine.Watch, "others", lambda self: others)
        with Subject(path) as plain:
            n_bytes = sum(_workload.bytes_by_codec(plain.checkpoint).values())
        clock = Clock().install(monkeypatch)
        loader = timed(clock, prefill_s=0.0, decode_s=n_bytes / (GB * 1e9) / share)
        with Judged(Subject(path, "fake", loader=loader), profile=profile) as judged:
            return gate.run(profile, judged, only=["throughput"]).gates[0]

    return run


@pytest.mark.parametrize("profile", ["smoke", "release"])
def test_an_engine_near_the_limit_passes(profile: str, run_gate: Judge) -> None:
    found = run_gate(0.8, profile=profile)
    assert found.status == "pass", found.message
    assert found.measure["limit_fraction"] == pytest.approx(0.8) and found.measure["rounds"] == ROUNDS
    assert found.interval == pytest.approx((0.8, 0.8))


def test_the_same_engine_slowed_down_fails(run_gate: Judge) -> None:
    found = run_gate(0.02)
    assert (found.status, found.code, found.severity) == ("fail", "far-from-limit", "P1")


def test_the_same_beside_others_is_undecided(run_gate: Judge) -> None:
    assert (run_gate(0.02, others=1.0).status, run_gate(0.02, others=1.0).code) == ("undecided", "busy")


def test_weights_that_the_caches_hold_are_skipped(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_machine, "cache_bytes", lambda level: 1 << 30)
    with Judged(path, profile="smoke") as judged:
        (found,) = throughput.check.check(judged)
    assert (found.status, found.code) == ("skip", "in-cache")


def test_without_compiled_kernels_it_is_skipped(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_machine, "cache_bytes", lambda level: 1)
    monkeypatch.setattr(_machine._extension, "native", lambda: None)
    with Judged(Subject(path, "numpy"), profile="smoke") as judged:
        (found,) = throughput.check.check(judged)
    assert (found.status, found.code) == ("skip", "no-bandwidth")


def test_the_gate_measures_for_real(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("apr.kernels._native")
    monkeypatch.setattr(_machine, "cache_bytes", lambda level: 1)
    with Judged(path, profile="smoke") as judged:
        (found,) = throughput.check.check(judged)
    assert found.measure["decode_tok_per_s"] > 0 and found.measure["read_gb_per_s"] > 0 and found.measure["step_us"] > 0


@pytest.mark.real
@pytest.mark.parametrize("alias", ["smollm2", pytest.param("qwen2.5-coder:0.5b", marks=pytest.mark.slow)])
def test_real_models_do_not_fail(alias: str, real_model: Any) -> None:
    with Judged(real_model(alias), profile="smoke") as judged:
        found = gate.run("smoke", judged, only=["throughput"]).gates[0]
    assert found.status == "pass" or found.code == "busy", found.message


def test_a_file_that_cannot_be_loaded_fails_and_is_no_error_of_the_gate(path: Path, tmp_path: Path) -> None:
    patient = open_patient(path)
    patient.remove("model.norm.weight")
    with Judged(patient.save(tmp_path / "sick"), profile="smoke") as judged:
        found = gate.run("smoke", judged, only=["throughput"]).gates[0]
    assert found.status == "fail" and "norm" in found.message
