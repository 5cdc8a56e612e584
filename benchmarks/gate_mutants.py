"""Of defects planted in the real models, how many does `apr qa` fail by the gate that knows them, and does it fail healthy ones?

python benchmarks/gate_mutants.py            about a quarter of an hour; one case after the other, so that speeds are speeds
python benchmarks/gate_mutants.py --only determinism. --verbose

Exit status 1 when a promise is missed: see `tests/mutants/gate_judge.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from _tables import markdown

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from mutants import gate_cases, gate_judge  # noqa: E402 - found on the path made above
from mutants.gate_cases import GateCase  # noqa: E402
from mutants.gate_judge import GateScore  # noqa: E402
from mutants.models import Stock  # noqa: E402
from mutants.mutant import Ward  # noqa: E402
from mutants.page import known, put  # noqa: E402

PAGE = ROOT / "docs" / "mutants.md"


def main() -> int:
    """Plant, run the gates, count, say."""
    given = _options()
    cases = [
        case
        for case in [*gate_cases.defects(), *gate_cases.sound()]
        if not given.only or any(word in case.id for word in given.only)
    ]
    if not cases:
        print("no case has that in its name", file=sys.stderr)
        return 2
    earlier = known(given.json, (case.id for case in cases)) if given.resume else []
    scores = [GateScore(**fields | {"others": tuple(fields["others"])}) for fields in earlier]
    asked = {score.id for score in scores}
    if given.json and not given.resume:
        given.json.write_text("", encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="apr-gate-mutants-") as folder:
        ward = Ward(Stock(Path(folder) / "stock"), Path(folder) / "scratch")
        for case in (case for case in cases if case.id not in asked):
            scores.append(gate_judge.judge(case, ward))
            if given.json:
                with given.json.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(scores[-1])) + "\n")
            _report_one(case, scores[-1], len(scores), len(cases), verbose=given.verbose)
    order = {case.id: place for place, case in enumerate(cases)}
    text = page(sorted(scores, key=lambda score: order[score.id]))
    if given.write:
        put(PAGE, text, "gates")
    else:
        print(text)
    return 0 if all(kept for *_, kept in gate_judge.verdicts(scores)) else 1


def page(scores: Sequence[GateScore]) -> str:
    """The tables, in Markdown."""
    rows = []
    for what, share, bound, kept in gate_judge.verdicts(scores):
        sign = "≤" if what.startswith("healthy") else "≥"
        rows.append((what, f"{100 * share:.1f} %", f"{sign} {100 * bound:.0f} %", "kept" if kept else "**missed**"))
    defects, healthy = [s for s in scores if not s.is_healthy], [s for s in scores if s.is_healthy]
    parts = [
        f"{len(defects)} defects and {len(healthy)} healthy models and copies; all gates of a profile run over each.",
        markdown(("promise", "measured", "promised", ""), rows),
    ]
    if defects:
        lines = [
            (f"`{s.id}`", "failed" if s.is_right else "**missed**", _code(s), ", ".join(s.others) or "none")
            for s in defects
        ]
        parts.append(markdown(("defect", "its gate", "code", "other gates that did not pass"), lines))
    if healthy:
        lines = [(f"`{s.id}`", s.verdict if s.is_right else f"**{s.verdict}**", f"{s.seconds:.0f} s") for s in healthy]
        parts.append(markdown(("healthy", "verdict", "seconds"), lines))
    missed = [s for s in scores if not s.is_right]
    if missed:
        parts.append("Missed:\n\n" + "\n".join(f"- `{s.id}`: {s.said}" for s in missed))
    return "\n\n".join(parts) + "\n"


def _code(score: GateScore) -> str:
    return score.said.split(":", 1)[0].rpartition(" ")[2]


def _report_one(case: GateCase, score: GateScore, done: int, n: int, *, verbose: bool) -> None:
    if verbose or not score.is_right:
        print(f"{done}/{n} {'ok' if score.is_right else 'MISSED'} {score.id} {score.seconds:.1f} s", file=sys.stderr)
        print(f"    wanted {' | '.join(sorted(case.codes)) or 'pass'}\n    said   {score.said[:300]}", file=sys.stderr)
        print(f"    others {', '.join(score.others) or 'none'}", file=sys.stderr, flush=True)
        if score.error:
            print("    " + "\n    ".join(score.error.strip().splitlines()[-6:]), file=sys.stderr)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], metavar="TEXT", help="cases with this in their id")
    parser.add_argument("--verbose", action="store_true", help="every case on stderr, not only the misses")
    parser.add_argument("--json", type=Path, metavar="FILE", help="one line a case, as it comes")
    parser.add_argument("--resume", action="store_true", help="do not ask again what --json holds already")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.relative_to(ROOT)}")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
