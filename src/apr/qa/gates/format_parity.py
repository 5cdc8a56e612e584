"""The file says the same as the original that it was made from."""

from __future__ import annotations

from collections.abc import Iterator

from apr.parity import chain
from apr.parity._link import LINKS as CHAIN
from apr.parity._link import LinkResult
from apr.qa._judged import Judged
from apr.qa.gate import Coverage, Finding, Status, gate

# by profile; generation and activations are `apr parity`'s own, which takes minutes
LINKS = {
    "smoke": ("metadata", "tokenizer", "template", "tokens", "weights"),
    "release": ("file", "metadata", "tokenizer", "template", "tokens", "weights", "logits"),
}
_STATUS: dict[str, Status] = {
    "same": "pass", "not_comparable": "undecided", "cannot_tell": "undecided", "skipped": "undecided",
}  # fmt: skip


@gate(
    rationale="A conversion that drops a bias, swaps tensors or keeps half a tokenizer gives a file that runs and says something else.",
    source="DESIGN 2: the chain; the links of `apr parity`, whose thresholds are measured floors and rounding bounds",
    severity="P0",
    profiles=("smoke", "release"),
)
def check(judged: Judged) -> Iterator[Finding]:
    """Links of the chain against the reference, each a finding: a defect fails, drift that rounding explains passes."""
    if judged.reference is None:
        message = (
            f"no reference: apr qa {judged.model.name} --reference ORIGINAL, or apr parity ORIGINAL {judged.model.name}"
        )
        yield Finding("skip", "no-reference", message)
        return
    links = LINKS.get(judged.profile, LINKS["release"])
    coverage = Coverage(len(links), len(CHAIN), "links of the chain")
    # comparing two files wants exact arithmetic: 8-bit activations are the engine's doing, not the file's
    candidate = judged.model.on_engine(judged.model.engine, activations="float32", loader=judged.model.loader)
    pair = chain.pair_of(judged.reference, candidate, seed=judged.seed, progress=None)
    try:
        for link in links:
            yield _finding(chain.compare(link, pair), coverage)
    finally:
        candidate.close()
        judged.reference.unload()


def _finding(result: LinkResult, coverage: Coverage) -> Finding:
    where = {"link": result.link, **(result.findings[0].where if result.findings else {})}
    message = f"{result.link}: {result.sentence}"
    interval = result.measure.get("kl_interval")
    shown = (
        (float(interval[0]), float(interval[1])) if isinstance(interval, list | tuple) and len(interval) == 2 else None
    )
    if result.verdict != "different":
        code = "same" if result.verdict == "same" else result.verdict.replace("_", "-")
        return Finding(_STATUS[result.verdict], code, message, where, result.measure, shown, coverage)
    worst = next((found for found in result.findings if not found.is_benign), result.findings[0])
    code = worst.cause.replace(".", "-").replace("_", "-")
    return Finding("pass" if result.is_benign else "fail", code, message, where, result.measure, shown, coverage)
