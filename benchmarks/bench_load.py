"""How long from the start of the process to the first token, how much memory, and how fast are weights re-laid?

Every figure is of a fresh process with the file in the page cache. The import is told apart from the loading.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import _options
import numpy as np
from _contest import Child, Contestant, alternate, say
from _models import Model
from _options import Options
from _results import Results

from apr.bench import _machine
from apr.bench._rounds import Rounds, Segment

CASES = ("process", "re-laying")
PROMPT_TOKENS = 32
# figure of a fresh process -> its unit
FIGURES = {
    "first token": "s",
    "import": "s",
    "load": "s",
    "first pass": "s",
    "peak memory": "bytes",
    "peak over file": "",
}


def main() -> None:
    """Measure what the command line asks for."""
    options = _options.parse(__doc__ or "", cases=CASES)
    results = Results("load")
    for model in options.models:
        if "process" in options.cases:
            fresh_processes(results, options, model)
        if "re-laying" in options.cases:
            relaying(results, options, model)


def fresh_processes(results: Results, options: Options, model: Model) -> None:
    """Start, import, load, first pass, end: in turns."""
    say(f"{model.name}: to the first token")
    contestants = [
        _options.ours(options.threads),
        _options.llama_cpp(options, options.threads),
        _options.ik_llama_cpp(options, options.threads),
    ]
    entries = {contestant.name: starting(contestant, model) for contestant in contestants}
    rounds = alternate(entries, rounds=options.rounds, threads=options.threads, quiet_s=options.quiet_s)
    first_ids = {name: segments[0].answer["token_id"] for name, segments in rounds.segments.items()}
    if any(first_ids["apr"] != s.answer["token_id"] for s in rounds.segments["apr"]):
        raise SystemExit("the first token differs from one process to the next")
    for figure, unit in FIGURES.items():
        results.add_contest(
            figure,
            unit,
            of_figure(rounds, figure),
            about={name: about(rounds, name, first_ids) for name in rounds.segments},
            model=model.facts(),
            threads=options.threads,
            prompt_tokens=PROMPT_TOKENS,
        )


def starting(contestant: Contestant, model: Model) -> Callable[[], Segment]:
    """A segment: a process from its start to its first token."""

    def segment() -> Segment:
        with Child(contestant) as child:
            watch = _machine.Watch((child.pid,))
            imported = child.ask("hello")
            load = child.ask("load", path=str(model.path), **contestant.options)
            first = child.ask("prefill", token_ids=model.prompt(PROMPT_TOKENS))
            others, memory = watch.others(), child.ask("memory")
            figures = {
                "first token": first["at"] - child.started,
                "import": imported["imported"] - child.started,
                "load": load["seconds"],
                "first pass": first["seconds"],
                "peak memory": memory["peak_bytes"],
                "peak over file": (memory["peak_bytes"] - memory.get("kv_bytes", 0)) / model.size_bytes,
            }
            answer = {
                "figures": figures,
                "memory": memory,
                "before_loading": imported,
                "token_id": first["token_ids"][0],
            }
            return Segment(figures["first token"], {**answer, "versions": load.get("versions")}, others)

    return segment


def of_figure(rounds: Rounds, figure: str) -> Rounds:
    """The same rounds with another of their figures in front."""
    return Rounds(
        {
            name: [Segment(s.answer["figures"][figure], s.answer, s.others_cores) for s in segments]
            for name, segments in rounds.segments.items()
        },
        rounds.bandwidth,
    )


def about(rounds: Rounds, name: str, first_ids: dict[str, int]) -> dict[str, Any]:
    """What a row says besides its figure."""
    answer = rounds.segments[name][-1].answer
    return {
        "versions": answer["versions"],
        "memory": answer["memory"],
        "resident_before_loading": answer["before_loading"]["resident_bytes"],
        "first_token_id": first_ids[name],
    }


def relaying(results: Results, options: Options, model: Model) -> None:
    """All matrices of the model into row blocks, on one thread: GB/s of the file's bytes."""
    from apr.kernels import _native

    matrices = [place.info for place in model.checkpoint.tensors.values() if len(place.info.shape) == 2]
    matrices = [info for info in matrices if info.codec not in ("f16", "bf16", "f32")]  # read where they lie
    by_codec: dict[str, list[float]] = defaultdict(list)
    totals = []
    for i in range(options.rounds + 1):
        _machine.wait_until_quiet(options.quiet_s)
        seconds: dict[str, float] = defaultdict(float)
        n_bytes: dict[str, int] = defaultdict(int)
        for info in matrices:
            raw = model.checkpoint.file.raw(info.name)
            weight = _native.Weight(info.codec, *info.shape)
            started = time.perf_counter()
            weight.fill(raw, 0, info.shape[0], None)
            seconds[info.codec] += time.perf_counter() - started
            n_bytes[info.codec] += info.n_bytes
            if i == 0:  # the first round is not timed: it pages the file in
                check_relaid(model, info.name, weight)
        if i:
            totals.append(sum(n_bytes.values()) / sum(seconds.values()) / 1e9)
            for codec in seconds:
                by_codec[codec].append(n_bytes[codec] / seconds[codec] / 1e9)
    say(f"{model.name}: re-laying {statistics.median(totals):.3g} GB/s a core")
    for codec, values in {"all": totals, **by_codec}.items():
        results.add("re-laying", codec, "GB/s", values, model=model.facts(), threads=1,
                    instruction_set=_native.instruction_set())  # fmt: skip


def check_relaid(model: Model, name: str, weight: Any) -> None:
    """Exit unless rows read back are the file's."""
    rows = np.array([0, 1, weight.rows // 2, weight.rows - 1], dtype=np.int64)
    expected = model.checkpoint.file.array(name)[rows]
    if not np.array_equal(weight.decode(rows), expected):
        raise SystemExit(f"{name} is not the same after re-laying")


if __name__ == "__main__":
    main()
