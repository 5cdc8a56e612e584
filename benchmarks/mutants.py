"""Of defects planted in healthy models, how many does `apr why` notice, name and place, and how often does it cry wolf?

python benchmarks/mutants.py             twins of every architecture, made on the spot: minutes
python benchmarks/mutants.py --real      the two real models: much longer
python benchmarks/mutants.py --only weights. --verbose

Exit status 1 when a promise is missed: see `tests/mutants/judge.py`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# `mutants` is the package of the tests; beside this file it would be this file
sys.path.insert(0, str(ROOT / "tests"))

from mutants import catalogue, judge  # noqa: E402 - found on the path made above
from mutants.judge import Score, Tally  # noqa: E402
from mutants.models import Stock  # noqa: E402
from mutants.mutant import Healthy, Mutant, Ward  # noqa: E402
from mutants.page import known, put  # noqa: E402

PAGE = ROOT / "docs" / "mutants.md"
_WARD: Ward | None = None


def main() -> int:
    """Plant, ask, count, say."""
    given = _options()
    cases = _chosen(given)
    if not cases:
        print("no case has that in its name", file=sys.stderr)
        return 2
    earlier = known(given.json, (case.id for case in cases)) if given.resume else []
    scores = [Score(**fields | {"warned": tuple(fields["warned"])}) for fields in earlier]
    asked = {score.id for score in scores}
    cases = [case for case in cases if case.id not in asked]
    n_cases = len(scores) + len(cases)
    if given.json and not given.resume:
        given.json.write_text("", encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="apr-mutants-") as folder:
        stock = Stock(Path(folder) / "stock")
        catalogue.stock_up(stock, cases)
        for score in _judged(cases, Path(folder), given.jobs):
            scores.append(score)
            if given.json:  # as they come: an hour's work is not lost with the last minute
                with given.json.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(judge.as_json(score)) + "\n")
            _report_one(score, len(scores), n_cases, verbose=given.verbose)
    text = page(scores)
    if given.write:
        put(PAGE, text, "real" if given.real else "twins")
    else:
        print(text)
    return 0 if all(kept for *_, kept in judge.verdicts(scores)) else 1


def page(scores: Sequence[Score]) -> str:
    """The tables, in Markdown."""
    mutants, healthy = [s for s in scores if s.is_mutant], [s for s in scores if not s.is_mutant]
    seconds = sorted(score.seconds for score in scores)
    parts = [
        f"{len(mutants)} defects and {len(healthy)} healthy pairs; half of the answers came within "
        f"{seconds[len(seconds) // 2]:.1f} s.",
        _table(("promise", "measured", "promised", ""), _promises(scores)),
    ]
    if mutants:
        parts.append(_table(_HEAD("group"), _lines(judge.tallies(scores, "group"))))
        parts.append(_table(_HEAD("cause"), _lines(judge.tallies(scores, "cause"))))
    if healthy:
        groups = sorted({s.group for s in healthy})
        lines = []
        for group in groups:
            of_group = [s for s in healthy if s.group == group]
            lines.append((group, str(len(of_group)), str(sum(s.is_detected for s in of_group))))
        parts.append(_table(("healthy pairs", "n", "false alarms"), lines))
    missed = judge.misses(scores)
    if missed:
        parts.append("Missed:\n\n" + "\n".join(f"- `{s.id}`: {_what(s)}" for s in missed))
    return "\n\n".join(parts) + "\n"


def _HEAD(by: str) -> tuple[str, ...]:
    return (by, "n", "detected", "cause right", "place right", "link right")


def _lines(tallies: dict[str, Tally]) -> list[tuple[str, ...]]:
    lines = [(f"`{name}`", *map(str, (t.n, t.detected, t.cause, t.place, t.link))) for name, t in tallies.items()]
    every = list(tallies.values())
    total = [sum(getattr(t, key) for t in every) for key in ("n", "detected", "cause", "place", "link")]
    return [*lines, ("all", *map(str, total))]


def _promises(scores: Sequence[Score]) -> list[tuple[str, ...]]:
    rows = []
    for what, share, bound, kept in judge.verdicts(scores):
        sign = "≤" if what == "false alarms" else "≥"
        rows.append((what, f"{100 * share:.1f} %", f"{sign} {100 * bound:.0f} %", "kept" if kept else "**missed**"))
    return rows


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, rule, *lines])


def _what(score: Score) -> str:
    if not score.is_mutant:
        return f"a false alarm: {score.found}"
    if not score.is_detected:
        return f"not noticed; wanted {score.wanted}; said {score.found}"
    wrong = [word for word, right in (("cause", score.is_cause_right), ("place", score.is_place_right)) if not right]
    return f"wrong {' and '.join(wrong)}; wanted {score.wanted}; said {score.found}"


def _report_one(score: Score, done: int, n: int, *, verbose: bool) -> None:
    right = not score.is_detected
    if score.is_mutant:
        right = score.is_detected and score.is_cause_right and score.is_place_right
    if verbose or not right:
        print(f"{done}/{n} {'ok' if right else 'MISSED'} {score.id} {score.seconds:.1f} s", file=sys.stderr)
        print(f"    wanted {score.wanted}\n    said   {score.found}", file=sys.stderr)
        if score.error:
            print("    " + score.error.strip().splitlines()[-3].strip(), file=sys.stderr)
        for warned in score.warned:
            print(f"    warned {warned}", file=sys.stderr)
        sys.stderr.flush()
    elif done % 50 == 0:
        print(f"{done}/{n}", file=sys.stderr, flush=True)


def _judged(cases: Sequence[Mutant | Healthy], folder: Path, jobs: int) -> Iterator[Score]:
    """Scores in the order of the cases; each process judges one case at a time."""
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    context = multiprocessing.get_context("spawn")
    places = [(case.id, case.is_real) for case in cases]
    with context.Pool(jobs, _start, (folder,)) as pool:
        yield from pool.imap(_judge_one, places)


def _start(folder: Path) -> None:
    global _WARD
    scratch = folder / f"scratch-{os.getpid()}"
    _WARD = Ward(Stock(folder / "stock"), scratch)


def _judge_one(place: tuple[str, bool]) -> Score:
    """A case by its id: planters are closures, which cannot be sent to another process."""
    assert _WARD is not None
    name, is_real = place
    case = next(c for c in _all(is_real=is_real) if c.id == name)
    return judge.judge(case, _WARD)


def _all(*, is_real: bool) -> list[Mutant | Healthy]:
    if is_real:
        return [*catalogue.real(), *catalogue.healthy_real()]
    return [*catalogue.twins(), *catalogue.healthy_twins()]


def _chosen(given: argparse.Namespace) -> list[Mutant | Healthy]:
    cases = _all(is_real=given.real)
    if given.short:
        wanted = {*catalogue.SHORT, *catalogue.SHORT_HEALTHY}
        cases = [case for case in cases if case.id in wanted]
    cases = [case for case in cases if not given.only or any(word in case.id for word in given.only)]
    first, step = map(int, given.part.split("/"))
    return cases[first - 1 :: step]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", action="store_true", help="the two real models instead of the twins")
    parser.add_argument("--short", action="store_true", help="the selection that runs with every change")
    parser.add_argument("--only", action="append", default=[], metavar="TEXT", help="cases with this in their id")
    parser.add_argument("--part", default="1/1", metavar="I/N", help="the I-th of N interleaved parts")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument("--verbose", action="store_true", help="every case on stderr, not only the misses")
    parser.add_argument("--json", type=Path, metavar="FILE", help="one line a case, as it comes")
    parser.add_argument("--resume", action="store_true", help="do not ask again what --json holds already")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.relative_to(ROOT)}")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
