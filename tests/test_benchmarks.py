"""The benchmarks' arithmetic and rendering, and that every script starts. Nothing is timed here."""

from __future__ import annotations

import ast
import importlib
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from apr.errors import AprError

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
SCRIPTS = sorted(FOLDER.glob("bench_*.py"))
MACHINERY = ("_machine", "_contest", "_equality", "_models", "_options", "_results", "_targets", "_tables")

Module = Callable[[str], Any]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[Module]:
    """A module of the benchmarks' folder by name."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if name in MACHINERY or name.startswith(("bench_", "render_")):
            del sys.modules[name]


def row(module: Module, **more: Any) -> dict[str, Any]:
    machine = {
        "cpu": "a CPU", "cores": 2, "l2_bytes": 1 << 20, "l3_bytes": 1 << 25, "memory_bytes": 1 << 34,
        "system": "Linux 6", "python": "3.11.7", "commit": "abc",
    }  # fmt: skip
    return {
        "bench": "decode", "run": "2026-01-01T00:00:00Z", "machine": machine, "command": "python benchmarks/bench_decode.py",
        "case": "2 threads", "contestant": "apr", "unit": "tok/s", "bandwidth_gb_per_s": [20.0], "busy_rounds": 0,
        "model": {"name": "qwen2.5-coder:0.5b", "bytes_by_codec": {"q5_0": 9, "q4_k": 1}},
        **module("_results").spread([40.0, 50.0, 45.0]), **more,
    }  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_says_its_question_and_its_options(
    script: Path, module: Module, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    question = (ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or "").splitlines()[0]
    assert question.endswith("?")
    if script.stem in {"bench_kernels", "bench_quantize"}:
        pytest.importorskip("apr.kernels._native")
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    with pytest.raises(SystemExit) as ended:  # in this process: `module` has put the folder on the path
        runpy.run_path(str(script), run_name="__main__")
    assert not ended.value.code
    assert "--rounds" in capsys.readouterr().out


def test_a_script_starts_as_a_process_of_its_own() -> None:
    done = subprocess.run([sys.executable, str(SCRIPTS[0]), "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "--rounds" in done.stdout, done.stderr


def test_no_file_is_too_long() -> None:
    lengths = {str(p): len(p.read_text(encoding="utf-8").splitlines()) for p in FOLDER.rglob("*.py")}
    assert {name: n for name, n in lengths.items() if n > 400} == {}


def test_a_ratio_is_the_median_of_the_rounds_ratios(module: Module) -> None:
    found = module("_results").ratio([10.0, 40.0, 30.0], [10.0, 10.0, 10.0])
    assert (found["median"], found["min"], found["max"]) == (3.0, 1.0, 4.0)


def test_rounding_is_the_same_model_and_a_swapped_row_is_not(module: Module) -> None:
    equality: ModuleType = module("_equality")
    logits = np.random.default_rng(0).normal(0, 4, (24, 500)).astype(np.float32)
    logits[np.arange(24), np.arange(24)] = 20.0  # a clear winner in each row
    rounded = logits + np.random.default_rng(1).normal(0, 0.01, logits.shape).astype(np.float32)
    assert equality.compare(logits, rounded).is_same_model(0.02)
    wrong = logits.copy()
    wrong[3] = logits[4]
    found = equality.compare(logits, wrong)
    assert not found.is_same_model(100.0)
    assert (found.top1_agreement, found.top1_wrong) == (pytest.approx(23 / 24), 1)


def test_a_near_tie_may_go_either_way(module: Module) -> None:
    reference, actual = np.array([[1.0, 1.1, -5.0]]), np.array([[1.1, 1.0, -5.0]])
    found = module("_equality").compare(reference, actual)
    assert (found.top1_agreement, found.top1_wrong) == (0.0, 0)


def test_common_prefix_counts_tokens_that_all_share(module: Module) -> None:
    assert module("_equality").common_prefix([[1, 2, 3], [1, 2, 4]]) == 2
    assert module("_equality").common_prefix([[1, 2], [1, 2, 4]]) == 2


def test_only_the_last_run_of_a_case_counts(module: Module) -> None:
    old, new = row(module), row(module, run="2026-01-02T00:00:00Z")
    other = row(module, case="1 thread")
    assert module("_results").newest([old, new, other]) == [new, other]


def test_a_target_reads_its_row_and_is_met_or_missed(module: Module) -> None:
    targets: ModuleType = module("_targets")
    ratios = {"llama.cpp": module("_results").spread([2.0, 2.5, 2.4])}
    rows = [row(module, ratio_to=ratios, limit_fraction=0.8)]
    words = {
        (v.target.text, v.target.model): (v.figure, v.word) for v in targets.verdicts(rows) if v.figure is not None
    }
    assert words == {
        ("decode, 2 threads, against llama.cpp", "0.5B"): (2.4, "met"),
        ("decode, 2 threads, of the memory limit", "0.5B"): (0.8, "**missed**"),
    }


def test_a_contest_on_a_busy_machine_decides_nothing(module: Module) -> None:
    ratios = {"llama.cpp": module("_results").spread([2.0, 2.5, 2.4])}
    rows = [row(module, ratio_to=ratios), row(module, contestant="llama.cpp", busy_rounds=2)]
    found = [v.word for v in module("_targets").verdicts(rows) if v.figure is not None]
    assert found == ["undecided: the machine was busy"]


def test_less_is_better_where_the_target_says_so(module: Module) -> None:
    rows = [row(module, bench="load", case="load", unit="s", **module("_results").spread([0.6]))]
    found = [v for v in module("_targets").verdicts(rows) if v.figure is not None]
    assert [(v.figure, v.word) for v in found] == [(0.6, "**missed**")]


def test_the_share_of_q4_k_tells_a_pure_file(module: Module) -> None:
    kinds = module("_targets").KINDS
    pure = row(module, model={"name": "x", "bytes_by_codec": {"q4_k": 999, "f32": 1}})
    assert kinds["pure Q4_K"](pure)
    assert not kinds["pure Q4_K"](row(module))


def test_the_page_has_targets_tables_machine_and_commands(module: Module) -> None:
    spread = module("_results").spread
    wrong = {"kl_div": 2.0, "kl_div_max": 3.0, "top1_agreement": 0.5, "top1_wrong": 9, "is_same_model": False}
    rows = [
        row(module, ratio_to={"llama.cpp": spread([2.4])}, limit_fraction=0.9, versions={"apr": "1"}),
        row(
            module,
            contestant="llama.cpp",
            busy_rounds=1,
            equality=wrong,
            limit_fraction=0.4,
            **spread([20.0, 21.0, 22.0]),
        ),
    ]
    kernel = {
        "bench": "kernels", "case": "memory, 2 threads", "contestant": "q4_k avx2 int8", "codec": "q4_k",
        "activations": "int8", "instruction_set": "avx2", "shape": [16, 256], "fractions": [0.9, 0.8, 0.7], "model": {},
    }  # fmt: skip
    page = module("render_performance").document([*rows, row(module, **kernel)])
    assert "| decode, 2 threads, against llama.cpp (0.5B) | ≥ 2.3x | 2.40x | 2.50x | met |" in page
    assert (
        "| llama.cpp (its output is wrong) (1 of 3 rounds disturbed) | 21.0 | 20.0 – 22.0 | 2.40 (2.40 – 2.40) | 0.40 |"
        in page
    )
    assert "| q4_k, int8, 16 x 256 | 45.0 (0.80) |" in page
    assert "not measured" in page
    assert "python benchmarks/bench_decode.py" in page


def test_spinning_processes_end(module: Module) -> None:
    with module("_contest").spinning(1) as pids:
        assert Path(f"/proc/{pids[0]}").exists()
    assert not Path(f"/proc/{pids[0]}").exists()


def test_a_contestant_that_fails_is_an_error_with_its_words(module: Module, tmp_path: Path) -> None:
    contest: ModuleType = module("_contest")
    contestant = contest.Contestant("nobody", "numpy_reference", Path(sys.executable), {"threads": 1})
    with contest.Child(contestant) as child, pytest.raises(AprError, match="is no file"):
        child.ask("load", path=str(tmp_path / "nothing.gguf"), threads=1)
