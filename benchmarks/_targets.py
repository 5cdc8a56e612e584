"""What the project promises of its speed, as data: each target says which row of which bench decides it, and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from _results import Row

LLAMA = "llama.cpp"
TORCH = "torch float32"
Q4_K_SHARE = 0.98  # of the bytes of a token; norms stay float32

Measure = Callable[[Row], float | None]


@dataclass(frozen=True, slots=True)
class Target:
    """One promise.

    text, model:  of the table: what, and on which of `KINDS`
    bound:        the figure to reach; `sense` says from which side
    bench, case, contestant: the row that decides; a case "threads" is any number of threads but one
    measure:      the figure, out of the row; None if it was not measured
    """

    text: str
    model: str
    sense: Literal["at least", "at most"]
    bound: float
    bench: str
    case: str
    contestant: str
    measure: Measure
    unit: str = "x"

    def is_met(self, figure: float) -> bool:
        """Whether the promise is kept."""
        return figure >= self.bound if self.sense == "at least" else figure <= self.bound


def ratio_to(peer: str) -> Measure:
    """The median of per-round ratios to a peer."""

    def measure(row: Row) -> float | None:
        found = row.get("ratio_to", {}).get(peer)
        return float(found["median"]) if found else None

    return measure


def inverse_ratio_to(peer: str) -> Measure:
    """The same the other way round: for seconds, where less is better, and for what a trace costs."""

    def measure(row: Row) -> float | None:
        found = ratio_to(peer)(row)
        return 1 / found if found else None

    return measure


def median(row: Row) -> float | None:
    """The figure itself."""
    return float(row["median"])


def limit(row: Row) -> float | None:
    """The fraction of what the memory allows."""
    found = row.get("limit_fraction")
    return None if found is None else float(found)


KINDS: dict[str, Callable[[Row], bool]] = {
    "0.5B": lambda row: row["model"]["name"] == "qwen2.5-coder:0.5b",
    "135M": lambda row: row["model"]["name"] == "smollm2",
    "pure Q4_K": lambda row: q4_k_share(row) >= Q4_K_SHARE,
}


def q4_k_share(row: Row) -> float:
    """The part of a token's bytes that is Q4_K."""
    counts = row["model"]["bytes_by_codec"]
    return float(counts.get("q4_k", 0) / sum(counts.values()))


def _each(
    text: str, sense: Literal["at least", "at most"], bound: float, *where: str, measure: Measure, unit: str = "x"
) -> list[Target]:
    """The same target on both real models."""
    bench, case, contestant = where
    return [Target(text, m, sense, bound, bench, case, contestant, measure, unit) for m in ("0.5B", "135M")]


_THREADS = ("decode", "threads", "apr")
TARGETS: tuple[Target, ...] = (
    Target("decode, 2 threads, against llama.cpp", "0.5B", "at least", 2.3, *_THREADS, ratio_to(LLAMA)),
    Target("decode, 2 threads, of the memory limit", "0.5B", "at least", 0.88, *_THREADS, limit, ""),
    Target("decode, 2 threads, against llama.cpp", "135M", "at least", 3.0, *_THREADS, ratio_to(LLAMA)),
    Target("decode, 2 threads, against llama.cpp", "pure Q4_K", "at least", 1.5, *_THREADS, ratio_to(LLAMA)),
    *_each("decode, 1 thread, against llama.cpp", "at least", 2.0, "decode", "1 thread", "apr", measure=ratio_to(LLAMA)),
    *_each("decode, `APR_ISA=avx2`, against llama.cpp native", "at least", 1.8, "decode", "threads", "apr avx2",
           measure=ratio_to(LLAMA)),
    *_each("decode, busy machine, against llama.cpp", "at least", 3.0, "decode", "busy", "apr", measure=ratio_to(LLAMA)),
    *_each("decode, busy machine, of our quiet speed", "at least", 0.4, "decode", "busy", "apr",
           measure=ratio_to("quiet apr")),
    *_each("decode, 8 sequences, against llama.cpp's batch", "at least", 2.5, "batch", "8 sequences", "apr",
           measure=ratio_to(LLAMA)),
    *_each("prefill 512, against llama.cpp", "at least", 2.3, "prefill", "threads", "apr", measure=ratio_to(LLAMA)),
    *_each("prefill 512, against PyTorch float32", "at least", 1.0, "prefill", "threads", "apr", measure=ratio_to(TORCH)),
    *_each("start to first token, warm, against llama.cpp (seconds)", "at most", 1.0, "load", "first token", "apr",
           measure=ratio_to(LLAMA)),
    Target("loaded and ready", "0.5B", "at most", 0.5, "load", "load", "apr", median, "s"),
    *_each("re-laying, one core", "at least", 2.0, "load", "re-laying", "all", measure=median, unit="GB/s"),
    *_each("peak memory without keys and values, of the file", "at most", 1.3, "load", "peak over file", "apr",
           measure=median),
    *_each("decode, exact activations, against llama.cpp", "at least", 1.0, "decode", "threads", "apr exact",
           measure=ratio_to(LLAMA)),
    *_each("statistics of every slot, decode, seconds against untraced", "at most", 1.5, "trace", "decode", "apr traced",
           measure=inverse_ratio_to("apr")),
    *_each("statistics of every slot, prefill, seconds against untraced", "at most", 1.5, "trace", "prefill", "apr traced",
           measure=inverse_ratio_to("apr")),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target and what was measured; None if it was not.

    is_disturbed:  in most rounds, by other processes
    ceiling:       the ratio to llama.cpp in decode at which the memory limit would be reached; None for other targets
    """

    target: Target
    figure: float | None
    row: Row | None
    is_disturbed: bool = False
    ceiling: float | None = None

    @property
    def word(self) -> str:
        """met, missed, undecided or not measured."""
        if self.figure is None:
            return "not measured"
        if self.is_disturbed:
            return "undecided: the machine was busy"
        return "met" if self.target.is_met(self.figure) else "**missed**"


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    """Every target with what the newest rows say of it."""
    return [_verdict(target, rows) for target in TARGETS]


def _verdict(target: Target, rows: Sequence[Row]) -> Verdict:
    for row in rows:
        is_place = row["bench"] == target.bench and row["contestant"] == target.contestant
        if is_place and _is_case(row, target.case) and KINDS[target.model](row):
            return Verdict(target, target.measure(row), row, is_disturbed(row, rows), _ceiling(target, row, rows))
    return Verdict(target, None, None)


def _ceiling(target: Target, row: Row, rows: Sequence[Row]) -> float | None:
    """How many times llama.cpp's speed in the same contest the memory allows."""
    if target.bench != "decode" or target.case == "busy" or "llama.cpp" not in target.text:
        return None
    same = (r for r in rows if all(r.get(key) == row.get(key) for key in ("bench", "case", "model", "run")))
    share = next((limit(r) for r in same if r["contestant"] == LLAMA), None)
    return 1 / share if share else None


def is_disturbed(row: Row, rows: Sequence[Row]) -> bool:
    """Whether others were busy in most rounds of any contestant of a row's contest: peers suffer more than we do.

    Memory is what it is, however busy the machine.
    """
    if row["unit"] in ("bytes", ""):
        return False
    same = [r for r in rows if all(r.get(key) == row.get(key) for key in ("bench", "case", "model", "run"))]
    return any(2 * r.get("busy_rounds", 0) > len(r["values"]) for r in same)


def _is_case(row: Row, case: str) -> bool:
    found: str = row["case"]
    return found.endswith(" threads") if case == "threads" else found == case
