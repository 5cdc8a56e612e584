"""Reports of gates, made by hand: what the pages and the texts are looked at with."""

from __future__ import annotations

from apr.qa.gate import Coverage, Finding, GateResult, Report, Status


def result(
    name: str, status: Status, message: str, *findings: Finding, severity: str = "P0", coverage: Coverage | None = None
) -> GateResult:
    """A gate's outcome."""
    return GateResult(
        name,
        status,
        f"{status}-code",
        message,
        findings or (Finding(status, f"{status}-code", message),),
        f"Why {name} matters.",
        "a text",
        severity,
        1.25,
        measure={"ratio": 0.5, "texts": 12},
        interval=(0.4, 0.6) if status == "undecided" else None,
        coverage=coverage,
    )


def report(*gates: GateResult, verdict: Status, profile: str = "release", minimum: int = 2) -> Report:
    """A report of some gates."""
    statuses: tuple[Status, ...] = ("pass", "skip", "undecided", "fail", "error")
    counts = {status: sum(g.status == status for g in gates) for status in statuses}
    return Report(
        subject="model.gguf",
        model_sha256="ab" * 32,
        computed_by="native 0.1.0, avx2, int8 activations, 2 threads",
        reference=None,
        profile=profile,
        verdict=verdict,
        counts=counts,
        n_executed=len(gates) - counts["skip"],
        minimum=minimum,
        gates=gates,
        seconds=3.5,
        exit_code={"pass": 0, "fail": 1, "error": 4, "undecided": 5, "skip": 5}[verdict],
        schema="apr.qa/1",
    )


def healthy() -> Report:
    """Nothing found; one gate looked at a part."""
    return report(
        result("file_structure", "pass", "all well"),
        result("golden_output", "pass", "6 of 6 answers", coverage=Coverage(6, 9, "prompts")),
        verdict="pass",
    )


def broken() -> Report:
    """One gate of each status, one of them a warning."""
    bad = Finding("fail", "zeros", "blk.0.ffn_up.weight is \u202e all zero", {"tensor": "blk.0.ffn_up.weight"})
    return report(
        result("file_structure", "pass", "all well"),
        result("tensor_contract", "fail", "2 findings, first: zero <b>", bad, bad),
        result("determinism", "error", "the gate itself failed"),
        result("throughput", "undecided", "too noisy"),
        result("regression", "fail", "slower", severity="P1"),
        result("format_parity", "skip", "no reference"),
        verdict="fail",
    )


def short() -> Report:
    """All skipped but one: too few came to a result."""
    return report(
        result("file_structure", "pass", "all well"),
        result("format_parity", "skip", "no reference"),
        verdict="undecided",
        minimum=14,
    )
