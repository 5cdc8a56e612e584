"""From rounds to rows."""

from __future__ import annotations

from apr.bench._figures import Measured, bandwidth_rows, ratio_rows, speed_rows
from apr.bench._rounds import Rounds, Segment


def segment(rate: float, others: float | None = 0.0, peak: int = 10) -> Segment:
    answer = {
        "decode_tok_per_s": rate, "prefill_tok_per_s": 2 * rate, "prefill_s": 1 / rate, "prompt_tokens": 7, "peak_bytes": peak,
        "import_s": 1.0, "load_s": 1.0, "first_token_s": 2.0,
    }  # fmt: skip
    return Segment(rate, answer, others)


def measured() -> Measured:
    ours = [segment(40.0), segment(10.0, others=1.0), segment(20.0, others=None, peak=30)]
    theirs = [segment(20.0), segment(5.0), segment(5.0)]
    rounds = Rounds({"native": ours, "peer": theirs}, [20.0, 5.0, None])
    return Measured(2, rounds, {7: rounds})


def test_a_share_is_of_the_limit_of_its_own_round() -> None:
    (row, _) = speed_rows([measured()], 10**9, 4)
    assert row.limit_fraction is not None and row.limit_fraction.values == (2.0, 2.0)
    assert row.limit_tok_per_s is not None and row.limit_tok_per_s.values == (20.0, 5.0)
    assert (row.prompt_tokens, row.new_tokens, row.busy_rounds, row.peak_bytes) == (7, 4, 1, 30)
    assert row.first_token_s.median == 1 / 20


def test_a_ratio_is_ours_over_theirs_round_by_round_and_theirs_over_ours_in_seconds() -> None:
    rows = {row.figure: row.ratio for row in ratio_rows([measured()], "native")}
    assert (rows["decode"].median, rows["decode"].min, rows["decode"].max) == (2.0, 2.0, 4.0)
    assert (rows["memory"].median, rows["memory"].min) == (1.0, 10 / 30)
    assert rows["decode"].interval is None


def test_bandwidth_that_was_not_measured_is_left_out() -> None:
    (row,) = bandwidth_rows([measured()])
    assert (row.threads, row.gb_per_s.values) == (2, (20.0, 5.0))
    assert bandwidth_rows([Measured(1, Rounds({}, []), {7: Rounds({}, [None])})]) == ()


def test_disturbed_rounds_are_counted_over_all() -> None:
    assert (measured().busy_rounds(), measured().n_segments()) == (1, 6)
