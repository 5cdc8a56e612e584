"""The file says the same as the original that it was made from."""

from __future__ import annotations

from collections.abc import Iterator

from apr.parity import chain
from apr.parity._link import LINKS as CHAIN
from apr.parity._link import LinkResult
from apr.qa._judged import Judged
from apr.qa.gate import Coverage, Finding, Status, gate

# by profile. Comparing weights takes seconds, and what both models compute minutes: activations, logits and generation are
# asked of `apr parity` itself
LINKS = {
    "smoke": ("file", "metadata", "tokenizer", "template", "tokens"),
    "release": ("file", "metadata", "tokenizer", "template", "tokens", "weights"),
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
    pair = chain.pair_of(judged.reference, judged.model, seed=judged.seed, progress=None)
    for link in links:
        yield _finding(chain.compare(link, pair), coverage)


def _finding(result: LinkResult, coverage: Coverage) -> Finding:
    """A link's verdict as a finding; the code is the cause."""
    worst = next((found for found in result.findings if not found.is_benign), next(iter(result.findings), None))
    where = {"link": result.link, **(worst.where if worst is not None else {})}
    message = f"{result.link}: {result.sentence}"
    if result.verdict != "different" or worst is None:
        code = "same" if result.verdict == "same" else result.verdict.replace("_", "-")
        return Finding(_STATUS[result.verdict], code, message, where, result.measure, coverage=coverage)
    code = worst.cause.replace(".", "-").replace("_", "-")
    return Finding("pass" if result.is_benign else "fail", code, message, where, result.measure, coverage=coverage)
