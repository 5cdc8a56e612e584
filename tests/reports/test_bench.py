"""The text and the picture of `apr bench`."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from apr.bench._machine import Machine
from apr.bench._report import (
    Agreement,
    BandwidthRow,
    BenchEngine,
    BenchModel,
    BenchReport,
    GreedyCheck,
    RatioRow,
    SpeedRow,
    StartRow,
)
from apr.bench._rounds import Ratio, Spread, spread
from apr.errors import UsageError
from apr.reports import _bench, _bench_svg

SVG = "{http://www.w3.org/2000/svg}"


def speed(engine: str, rate: float, *, limit: float | None = 50.0, prompt: int = 32) -> SpeedRow:
    share = None if limit is None else spread([rate / limit])
    around = Spread(rate, rate * 0.9, rate * 1.1)
    return SpeedRow(
        engine,
        2,
        prompt,
        16,
        around,
        spread([0.03]),
        around,
        None if limit is None else spread([limit]),
        share,
        10**8,
        1,
    )


def report(*, peer: bool = True, model: str = "a.gguf", limit: float | None = 50.0) -> BenchReport:
    names = ["native", "llama-cpp"] if peer else ["native"]
    return BenchReport(
        model=BenchModel(model, f"/m/{model}", "gguf", 10**8, None, 4 * 10**8, {"q5_0": 3 * 10**8, "q8_0": 10**8}),
        machine=Machine("a <CPU>", 2, 1 << 20, 1 << 25, 1 << 34, "Linux 6", {"python": "3.11"}, 0.25, 0.0),
        engines=tuple(BenchEngine(n, "1.0", "k", "avx2", "int8", "float16") for n in names),
        repeats=6,
        greedy=(GreedyCheck(2, True, "96 greedy tokens as `apr run` writes them"),),
        agreements=tuple(Agreement(n, 9, 0.1, 0.2, 1.0, 0.3, 0.4, True, "computes the model: said") for n in names),
        refused={},
        bandwidth=() if limit is None else (BandwidthRow(2, spread([20.0, 19.0, 21.0])),),
        starts=tuple(StartRow(n, 2, *(spread([0.25]),) * 3, spread([2e8])) for n in names),
        speeds=tuple(speed(n, r, limit=limit) for n, r in zip(names, (40.0, 20.0), strict=False)),
        ratios=(RatioRow("llama-cpp", 2, 32, "decode", Ratio(2.0, 1.5, 2.5, (1.5, 2.5))),
                RatioRow("llama-cpp", 2, None, "memory", Ratio(3.0, 3.0, 3.0, None))) if peer else (),
        warnings=("the machine is busy",),
        verdict="measured",
        seconds=12.0,
        exit_code=0,
    )  # fmt: skip


def test_every_figure_is_in_the_text() -> None:
    said = _bench.bench(report())
    assert "✓ apr, 2 threads: 96 greedy tokens as `apr run` writes them" in said
    assert "✓ llama-cpp computes the model: said" in said
    assert "a token reads 400.0 MB of weights (q5_0 75%, q8_0 25%)" in said
    assert "2 threads: 20.0 (19.0 – 21.0) GB/s of memory" in said
    lines = {" ".join(line.split()) for line in said.splitlines()}
    assert "apr 2 32 40.0 (36.0 – 44.0) 0.030 (0.030 – 0.030) 40.0 (36.0 – 44.0) 0.80" in lines
    assert "apr 2 0.25 (0.25 – 0.25) 0.25 (0.25 – 0.25) 200.0 MB 100.0 MB" in lines
    assert "llama-cpp 2 32 decode 2.00 (1.50 – 2.50) 1.50 – 2.50" in lines
    assert "llama-cpp 2 memory 3.00 (3.00 – 3.00) –" in lines
    assert "warning: the machine is busy" in lines and "measured; 12 s" in lines


def test_the_proof_stands_before_the_figures() -> None:
    said = _bench.bench(report())
    assert said.index("proved before timing") < said.index("DECODE tok/s") < said.index("95 % INTERVAL")


def test_bars_are_on_one_scale_with_the_limit_as_a_stroke() -> None:
    first, second = _bench.plot(report().speeds).splitlines()[1:]
    assert first.count("█") == 32 and second.count("█") == 16  # 40 and 20 of 50, over 40 columns
    assert first.index("│") == second.index("│") and first.rstrip().endswith("40.0")


def test_a_bar_over_the_limit_keeps_the_stroke_inside() -> None:
    (_, line) = _bench.plot([speed("native", 100.0)]).splitlines()
    assert line.count("█") == 39 and line.index("│") < line.rindex("█")


def test_without_a_bandwidth_there_is_no_column_and_no_stroke() -> None:
    said = _bench.bench(report(peer=False, limit=None))
    assert "OF LIMIT" not in said and "│" not in said and "40.0 (36.0 – 44.0)" in said


def test_what_was_not_timed_says_why() -> None:
    wrong = dataclasses.replace(
        report(), speeds=(), starts=(), ratios=(), engines=(), verdict="wrong", exit_code=1,
        agreements=(Agreement("native", 9, 1.0, 2.0, 0.1, 0.3, 0.4, False, "computes something else: far"),),
    )  # fmt: skip
    said = _bench.bench(wrong)
    assert "✗ apr computes something else: far" in said and "nothing was timed" in said and "DECODE" not in said


def test_names_cannot_steer_a_terminal_nor_a_page() -> None:
    hostile = report(model="<b>\x1b[31m\"&'")
    assert "\x1b[31m" not in _bench.bench(hostile)
    root = ET.fromstring(_bench_svg.picture(hostile))
    assert not [node for node in root.iter() if node.tag not in {SVG + t for t in ("svg", "rect", "text", "line")}]


def test_the_picture_draws_every_figure_in_proportion() -> None:
    root = ET.fromstring(_bench_svg.picture(report()))
    widths = [float(node.get("width", "0")) for node in root.iter(SVG + "rect")][1:]
    assert len(widths) == 4 and widths[0] == pytest.approx(2 * widths[1], abs=0.2)
    dashed = [node for node in root.iter(SVG + "line") if node.get("stroke-dasharray")]
    assert len(dashed) == 2 and dashed[0].get("x1") == dashed[1].get("x1")
    texts = [node.text for node in root.iter(SVG + "text")]
    assert "apr, 2 threads, 32 prompt tokens" in texts and "a.gguf on a <CPU>, 2 cores" in texts


def test_nothing_measured_is_a_picture_too() -> None:
    empty = dataclasses.replace(report(), speeds=())
    assert ET.fromstring(_bench_svg.picture(empty)).tag == SVG + "svg"


def test_a_picture_is_saved_and_a_folder_is_refused(tmp_path: Path) -> None:
    _bench_svg.save(report(), tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_text(encoding="utf-8") == _bench_svg.picture(report())
    with pytest.raises((OSError, UsageError)):
        _bench_svg.save(report(), tmp_path)
