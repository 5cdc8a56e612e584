"""Write docs/performance.md from the newest results in build/bench/."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import _machine
import _tables
from _results import FOLDER, Row, newest, read
from _targets import verdicts

DOCUMENT = _machine.REPOSITORY / "docs" / "performance.md"
TITLES = {
    "decode": "Decode: one sequence, after a prompt of 32 tokens",
    "prefill": "Prefill: a prompt in one pass",
    "batch": "Several sequences at once: all their tokens together",
    "load": "From the start of the process to the first token",
    "trace": "Tracing: the statistics of every slot",
    "kernels": "Kernels",
}
HOW = """\
Each contestant is a process of its own that has loaded the same file and is given the same token ids; segments
alternate, so that what disturbs one disturbs all. A figure is the median of all rounds; a ratio is the median of the
ratios within each round. Before anything is timed, the logits of each contestant are held against the NumPy kernels'
(mean divergence, and the most likely token wherever the margin is clear); if ours fail, there is no figure. The memory
limit is the bandwidth of a plain read, measured beside each round, over the bytes that a token reads: all weights but
the embedding look-up. A round is *disturbed* if other processes used more than 0.15 of a core meanwhile.
`apr generate` is the public interface, sampler, text and run record included; the others are forward pass and argmax.

llama.cpp is compiled for this machine's CPU (`GGML_NATIVE`), with its defaults; `llama.cpp wheel` is xllamacpp, as it is
published. On machines with AMX, llama.cpp built by GCC 12 faults when it loads a tile configuration, so it is built with
`benchmarks/gcc_tile_loadconfig.h`, which makes the compiler keep what it drops. ONNX Runtime GenAI is not here: it needs
the weights quantised again, to other values.

"""
MISSES = """\
**Decode against llama.cpp.** The ratios were promised beside CPUs without VNNI, where llama.cpp decodes at a third of the
memory limit. With VNNI and AMX it comes to half of it and more, and nobody is faster than the limit: *memory allows* is
the ratio at which it would be reached. On the 0.5B the best times of a pass's steps add up to 17.5 ms, 0.95 of a plain
read; the median pass takes 20.5 ms, because on a shared host not every step has its best time.

**The 135M.** A token is 150 small products and 30 times attention; what is started and joined so often is not free, and
norms and attention, 7 µs a layer, leave the second core idle. In prefill and in batches llama.cpp uses AMX here, and we
do not: an AMX product with the same bits was 1.3 to 1.45 times as fast as the VNNI one for the simple codecs and no faster
for Q6_K when it was tried; it is not in.

**Busy machine.** Two spinning processes leave each thread about half a core; the figure swings with what the scheduler does
(its least and most are in the table), for llama.cpp even more.

**Re-laying.** Memory bandwidth bounds it, and moves between runs on this host by a third: 1.7 to 2.5 GB/s a core were seen.

**Peak memory of the 135M.** The weights are 1.0 of the file; interpreter, NumPy, tokenizer and buffers come to the rest and
do not grow with the model: the 0.5B is within its promise.
"""
KERNELS_HOW = """\
From memory: copies larger than every cache; in brackets the fraction of a plain read beside it. From cache: one thread,
weights in its second-level cache, the ceiling when memory is no limit. 512 tokens: in brackets the ratio to NumPy's
float32 product of the same shape. Bytes are those of the file's encoding. `int8`, `float32`: how activations are held.
"""


def main() -> None:
    """Read, render, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=FOLDER, help="folder of the JSON lines (default: build/bench)")
    parser.add_argument("--out", type=Path, default=DOCUMENT, help="(default: docs/performance.md)")
    given = parser.parse_args()
    rows = newest(read(given.results))
    if not rows:
        raise SystemExit(f"{given.results} has no results; run scripts/bench")
    given.out.write_text(document(rows), encoding="utf-8")


def document(rows: Sequence[Row]) -> str:
    """The whole page."""
    parts = [
        "# Performance",
        "Written by `make bench` from the results in `build/bench/`; every figure there has its command and its commit.",
        "## Targets",
        _tables.targets(verdicts(rows)),
        "## How it was measured",
        HOW.strip(),
        machine(rows),
        "## Where a promise is missed, and what bounds it",
        MISSES.strip(),
    ]
    for bench, title in TITLES.items():
        chosen = [row for row in rows if row["bench"] == bench]
        if chosen:
            parts += [f"## {title}", *(kernel_tables(chosen) if bench == "kernels" else contest_tables(chosen))]
    parts += ["## Commands", "```\n" + "\n".join(commands(rows)) + "\n```"]
    return "\n\n".join(parts) + "\n"


def machine(rows: Sequence[Row]) -> str:
    """Where, what and with which versions: a line each."""
    about = rows[-1]["machine"]
    versions = {f"{name} {version}" for row in rows for name, version in (row.get("versions") or {}).items()}
    peers = {row["contestant"]: row["instruction_set"] for row in rows if row.get("instruction_set")}
    bandwidth = [b for row in rows if row["bench"] == "decode" for b in row["bandwidth_gb_per_s"] if b]
    lines = [
        f"- {about['cpu']}, {about['cores']} cores, L2 {about['l2_bytes'] >> 10} KiB a core, "
        f"L3 {about['l3_bytes'] >> 20} MiB, {about['memory_bytes'] >> 30} GiB memory; {about['system']}",
        f"- Commit {', '.join(sorted({row['machine']['commit'] for row in rows}))}; Python {about['python']}; "
        + ", ".join(sorted(versions)),
    ]
    if bandwidth:
        lines.append(f"- Plain reads beside the rounds of decode: {min(bandwidth):.1f} to {max(bandwidth):.1f} GB/s")
    if "apr" in peers:
        lines.append(
            f"- Instruction sets: apr {peers['apr']}; llama.cpp built with {peers.get('llama.cpp', 'unknown')}"
        )
    small = {row["model"]["name"] for row in rows if row.get("fits_l3")}
    if small:
        lines.append(
            f"- The weights of {', '.join(sorted(small))} would fit the last-level cache, which a host may share with "
            "others: its fraction of the memory limit is no bound"
        )
    return "\n".join(lines)


def contest_tables(rows: Sequence[Row]) -> list[str]:
    """A table for each model and case."""
    parts = []
    for model, case in dict.fromkeys((row["model"]["name"], row["case"]) for row in rows):
        chosen = [row for row in rows if (row["model"]["name"], row["case"]) == (model, case)]
        length = f", {chosen[0]['n_tokens']} tokens" if "n_tokens" in chosen[0] else ""
        parts += [f"### {model}, {case}{length}", _tables.contest(chosen)]
        before = [row["resident_before_loading"] for row in chosen if row["case"] == "peak memory"]
        if before:
            parts.append(
                f"Peaks count the mapped file, and the interpreter with its imports: {min(before) >> 20} to "
                f"{max(before) >> 20} MiB before loading begins."
            )
    return parts


def kernel_tables(rows: Sequence[Row]) -> list[str]:
    """A table for each case."""
    parts = [KERNELS_HOW.strip()]
    for case in dict.fromkeys(row["case"] for row in rows):
        parts += [f"### {case}", _tables.kernels([row for row in rows if row["case"] == case])]
    return parts


def commands(rows: Sequence[Row]) -> list[str]:
    """What was run, once each; where the peers are installed is this machine's affair."""
    return ["make bench", *dict.fromkeys(re.sub(r" --peers \S+", "", row["command"]) for row in rows)]


if __name__ == "__main__":
    main()
