"""How often does the degeneration detector of `apr qa` cry wolf over healthy texts, and how often does it sleep over degenerate ones?

python benchmarks/degeneration.py
python benchmarks/degeneration.py --verbose      every miss and every false alarm

Exit status 1 when a promise is missed: at most 0.5 % of healthy texts, at least 98 % of degenerate ones.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import degeneration_corpus as corpus  # noqa: E402 - found on the path made above
from apr.evals._passing import wilson  # noqa: E402
from apr.qa import _degeneration  # noqa: E402

MOST_FALSE_ALARMS, LEAST_DETECTED = 0.005, 0.98


def main() -> int:
    """Make both corpora, ask, count, say."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--clean", type=int, default=4400, help="healthy texts")
    options.add_argument("--degenerate", type=int, default=1600, help="degenerate texts")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--verbose", action="store_true", help="print every text that was judged wrongly")
    given = options.parse_args()
    false_alarms = _counted("healthy", corpus.clean(given.clean, seed=given.seed), wanted=False, verbose=given.verbose)
    detected = _counted(
        "degenerate", corpus.degenerate(given.degenerate, seed=given.seed), wanted=True, verbose=given.verbose
    )
    return 0 if false_alarms <= MOST_FALSE_ALARMS and detected >= LEAST_DETECTED else 1


def _counted(name: str, samples: Sequence[corpus.Sample], *, wanted: bool, verbose: bool) -> float:
    """The share of samples in which something was found; printed, with those kinds in which not all was as it should be."""
    n_found = 0
    per_kind: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for sample in samples:
        found = _degeneration.find(
            sample.text, prompt=sample.prompt, token_ids=sample.token_ids, token_texts=sample.token_texts
        )
        n_found += found is not None
        per_kind[sample.kind] += 1
        if (found is not None) != wanted:
            wrong[sample.kind] += 1
            if verbose:
                print(f"  {sample.kind}: {found or 'nothing found'}: {sample.text[:160]!r}")
    low, high = wilson(n_found, len(samples))
    what = "detected" if wanted else "false alarms"
    print(
        f"{name}: {n_found} of {len(samples)} texts, {what} {n_found / len(samples):.2%} (95 %: {low:.2%} to {high:.2%})"
    )
    for kind, n in wrong.most_common():
        print(f"  {kind}: {n} of {per_kind[kind]} wrong")
    return n_found / len(samples)


if __name__ == "__main__":
    sys.exit(main())
