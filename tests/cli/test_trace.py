"""`apr trace`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from apr.trace import load_trace


def test_a_trace_is_a_row_a_layer_and_the_next_token(apr_command: Any, tiny_gguf: Path) -> None:
    outcome = apr_command("trace", tiny_gguf, "a dozen", "--raw")
    assert outcome.exit_code == 0 and outcome.err == "apr: raw prompt: raw was asked for; 6 prompt tokens\n"
    lines = outcome.out.splitlines()
    assert lines[0] == str(tiny_gguf)
    header = next(line.split() for line in lines if line.startswith("LAYER"))
    assert header[1:6] == ["ATTN", "ATTN_OUT", "FFN_SWIGLU", "FFN_DOWN", "OUT"]
    assert "rms at position 5 ('en', the last)" in outcome.out
    assert "next token" in outcome.out and "between the first two" in outcome.out
    assert "✓ finite: no NaN and no infinity in any slot at any position" in outcome.out


def test_a_wide_terminal_gets_a_bar_a_layer_that_grows_with_the_rms(
    apr_command: Any, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apr.reports._trace.terminal_columns", lambda: 120)
    wide = apr_command("trace", tiny_gguf, "a dozen", "--raw")
    rows = [line.split() for line in wide.out.splitlines() if line.strip()[:1] in "01" and "%" in line]
    lengths = {float(row[5]): len(row[-1]) for row in rows[:2] if set(row[-1]) == {"█"}}
    assert len(lengths) == 2 and max(lengths.values()) == 16 == lengths[max(lengths)]
    monkeypatch.setattr("apr.reports._trace.terminal_columns", lambda: 80)
    assert "█" not in apr_command("trace", tiny_gguf, "a dozen", "--raw").out


def test_json_is_complete(apr_command: Any, tiny_gguf: Path) -> None:
    outcome = apr_command("trace", tiny_gguf, "a dozen", "--raw", "--json")
    result = outcome.json()
    assert outcome.exit_code == 0 and result["schema"] == "apr.trace/1"
    assert result["header"]["positions"] == [0, 1, 2, 3, 4, 5] and result["header"]["prompt_text"] == "a dozen"
    assert len(result["slots"]) == 35 and len(result["slots"][0]["statistics"]["rms"]) == 6
    assert result["slots"][1]["slot"] == "layers.0.attn_norm" and result["slots"][1]["shape"] == [6, 64]


def test_chosen_slots_are_rows_with_all_their_figures(apr_command: Any, tiny_gguf: Path) -> None:
    out = apr_command("trace", tiny_gguf, "a dozen", "--raw", "--slots", "q*", "--layers", "1").out
    rows = [line.split() for line in out.splitlines() if line.startswith("layers.")]
    assert [row[:3] for row in rows] == [["layers.1.q", "5", "64"], ["layers.1.q_rope", "5", "64"]]


def test_all_is_every_slot_at_every_position(apr_command: Any, tiny_gguf: Path) -> None:
    out = apr_command("trace", tiny_gguf, "a dozen", "--raw", "--all").out
    assert sum(line.startswith("layers.0.q_rope ") for line in out.splitlines()) == 6


def test_chosen_positions_are_shown_each(apr_command: Any, tiny_gguf: Path) -> None:
    out = apr_command("trace", tiny_gguf, "a dozen", "--raw", "--positions", "0,-1").out
    assert "rms at position 0 ('a')" in out and "rms at position 5 ('en', the last)" in out
    assert "positions  0, 5" in out


def test_the_birth_of_a_nan_exits_with_1(apr_command: Any, damaged_gguf: Path) -> None:
    outcome = apr_command("trace", damaged_gguf, "a dozen", "--raw")
    assert outcome.exit_code == 1
    assert "✗ not finite: born in layers.0.q at position 0 ('a'), 1 NaN; every slot before it is finite" in outcome.out
    assert f"next: apr validate {damaged_gguf}" in outcome.out and "next token" not in outcome.out
    result = apr_command("trace", damaged_gguf, "a dozen", "--raw", "--json").json()
    assert result["first_nonfinite"]["slot"] == "layers.0.q" and result["exit_code"] == 1 and result["margin"] is None


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_kept_trace_is_shown_and_compared(apr_command: Any, tiny_gguf: Path, tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"t{suffix}"
    outcome = apr_command("trace", tiny_gguf, "a dozen", "--raw", "--save", target)
    assert outcome.exit_code == 0 and "of tensors in" in outcome.err and f"kept in  {target}" in outcome.out
    shown = apr_command("trace", target)
    assert shown.exit_code == 0 and "rms at position 5" in shown.out and shown.err == ""
    result = apr_command("trace", target, "--json").json()
    assert result["slots"] == apr_command("trace", tiny_gguf, "a dozen", "--raw", "--json").json()["slots"]
    same = apr_command("trace", f"{tiny_gguf}@numpy", "--against", target)
    assert same.exit_code == 0 and "✓ same: all 35 slots agree within float32 rounding" in same.out
    assert apr_command("trace", target, "--against", target, "--json").json()["verdict"] == "same"


def test_a_different_model_exits_with_1_and_names_the_first_slot(
    apr_command: Any, tiny_gguf: Path, tmp_path: Path
) -> None:
    target = tmp_path / "t.npz"
    apr_command("trace", tiny_gguf, "a dozen", "--raw", "--save", target)
    weights = tiny.tensors(tiny.config())
    weights["model.layers.1.mlp.up_proj.weight"][5] *= -1
    other = tiny.write(tmp_path / "m", "gguf", weights=weights)
    outcome = apr_command("trace", other, "--against", target)
    assert outcome.exit_code == 1 and "the first is layers.1.ffn_up" in outcome.out
    whole = apr_command("trace", other, "--against", target, "--all").out
    assert sum(line.startswith(("layers.", "embed", "final_norm", "logits")) for line in whole.splitlines()) == 35
    result = apr_command("trace", other, "--against", target, "--json").json()
    assert result["first"] == "layers.1.ffn_up" and result["schema"] == "apr.trace-comparison/1"


def test_traces_of_other_positions_exit_with_5_and_name_the_field(
    apr_command: Any, tiny_gguf: Path, tmp_path: Path
) -> None:
    all_, one = tmp_path / "all.npz", tmp_path / "one.npz"
    apr_command("trace", tiny_gguf, "a dozen", "--raw", "--save", all_)
    apr_command("trace", tiny_gguf, "a dozen", "--raw", "--positions", "-1", "--save", one)
    outcome = apr_command("trace", all_, "--against", one)
    assert outcome.exit_code == 5 and "? not_comparable: " in outcome.out and "field      positions" in outcome.out
    assert apr_command("trace", all_, "--against", one, "--json").json()["field"] == "positions"


def test_a_prompt_does_not_go_with_a_kept_trace(apr_command: Any, tiny_gguf: Path, tmp_path: Path) -> None:
    target = tmp_path / "t.npz"
    apr_command("trace", tiny_gguf, "a dozen", "--raw", "--save", target)
    for arguments in ([tiny_gguf, "Hello", "--against", target], [target, "Hello"]):
        outcome = apr_command("trace", *arguments)
        assert outcome.exit_code == 2 and "a prompt does not go with a kept trace" in outcome.err
    assert apr_command("trace", target, "--save", tmp_path / "u.npz").exit_code == 2
    assert apr_command("trace", target, "--against", target, "--positions", "0").exit_code == 2


def test_an_engine_without_taps_is_named(apr_command: Any, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apr.engines.numpy.CAPABILITIES", frozenset({"logits"}))
    outcome = apr_command("trace", f"{tiny_gguf}@numpy", "Hello", "--json")
    assert outcome.exit_code == 2 and outcome.json()["code"] == "unsupported-error"
    assert "the engine 'numpy' shows nothing of its inside" in outcome.err


def test_a_damaged_trace_is_rejected(apr_command: Any, tiny_gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "t.npz").write_bytes(b"PK\x03\x04" + b"\0" * 100)
    assert apr_command("trace", tmp_path / "t.npz").exit_code == 3
    assert apr_command("trace", tiny_gguf, "--against", tmp_path / "t.npz").exit_code == 3
    assert apr_command("trace", tiny_gguf, "--against", tmp_path / "none.npz").exit_code == 2


def test_quiet_says_nothing_on_stderr(apr_command: Any, tiny_gguf: Path, tmp_path: Path) -> None:
    assert apr_command("trace", tiny_gguf, "Hello", "-q", "--save", tmp_path / "t.npz").err == ""


def test_text_of_a_stranger_cannot_steer_the_terminal(apr_command: Any, tiny_gguf: Path, tmp_path: Path) -> None:
    target = tmp_path / "t.npz"
    apr_command("trace", tiny_gguf, "a dozen", "--raw", "--save", target)
    with load_trace(target) as saved:
        arrays = {slot: np.array(saved.array(slot)) for slot in saved.shapes}
        document = json.loads(saved._container.text)
    document["header"]["model"] = document["header"]["prompt_text"] = "\x1b[2J"
    document["header"]["prompt_tokens"] = ["\x1b[2J"] * 6
    document["top"][0]["text"] = document["file"] = "\x1b[2J"
    np.savez(target, **{"apr.trace": np.array(json.dumps(document))}, **arrays)
    outcome = apr_command("trace", target)
    assert outcome.exit_code == 0 and "\x1b" not in outcome.out and "\\x1b[2J" in outcome.out
