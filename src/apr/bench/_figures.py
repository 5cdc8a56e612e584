"""From rounds to the rows of the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from apr.bench._machine import is_busy
from apr.bench._report import BandwidthRow, RatioRow, SpeedRow, StartRow
from apr.bench._rounds import Rounds, Segment, limit_fractions, ratio, spread


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything at one number of threads.

    starts:  fresh processes, by engine
    speeds:  by length of the prompt, then by engine
    """

    threads: int
    starts: Rounds
    speeds: Mapping[int, Rounds]

    def segments(self) -> Iterator[Segment]:
        """Every timed answer."""
        for rounds in self.speeds.values():
            for segments in rounds.segments.values():
                yield from segments

    def n_segments(self) -> int:
        """How many there are."""
        return sum(1 for _ in self.segments())

    def busy_rounds(self) -> int:
        """How many of them others disturbed."""
        return sum(is_busy(segment.others_cores) for segment in self.segments())

    def bandwidth(self) -> Sequence[float | None]:
        """GB/s before each round."""
        return next(iter(self.speeds.values())).bandwidth


def bandwidth_rows(measured: Sequence[Measured]) -> tuple[BandwidthRow, ...]:
    """What the machine read, by number of threads."""
    rows = []
    for part in measured:
        known = [value for value in part.bandwidth() if value]
        if known:
            rows.append(BandwidthRow(part.threads, spread(known)))
    return tuple(rows)


def start_rows(measured: Sequence[Measured]) -> tuple[StartRow, ...]:
    """Loading, first token and memory."""
    keys = ("import_s", "load_s", "first_token_s", "peak_bytes")
    return tuple(
        StartRow(name, part.threads, *(spread(part.starts.answers(name, key)) for key in keys))
        for part in measured
        for name in part.starts.segments
    )


def speed_rows(measured: Sequence[Measured], bytes_per_token: int, new_tokens: int) -> tuple[SpeedRow, ...]:
    """Prefill and decode, each decode beside what its round's bandwidth allows."""
    return tuple(
        _speed_row(part, length, name, bytes_per_token, new_tokens)
        for part in measured
        for length in sorted(part.speeds)
        for name in part.speeds[length].segments
    )


def ratio_rows(measured: Sequence[Measured], name: str) -> tuple[RatioRow, ...]:
    """The engine `name` against every other, round by round; of seconds and bytes, where less is better, theirs over ours."""
    rows = []
    for part in measured:
        for peer in (other for other in part.starts.segments if other != name):
            for length in sorted(part.speeds):
                rounds = part.speeds[length]
                for figure, key in (("decode", "decode_tok_per_s"), ("prefill", "prefill_tok_per_s")):
                    found = ratio(rounds.answers(name, key), rounds.answers(peer, key))
                    rows.append(RatioRow(peer, part.threads, length, figure, found))  # type: ignore[arg-type]
            for figure, key in (("load", "load_s"), ("first_token", "first_token_s"), ("memory", "peak_bytes")):
                found = ratio(part.starts.answers(peer, key), part.starts.answers(name, key))
                rows.append(RatioRow(peer, part.threads, None, figure, found))  # type: ignore[arg-type]
    return tuple(rows)


def _speed_row(part: Measured, length: int, name: str, bytes_per_token: int, new_tokens: int) -> SpeedRow:
    rounds = part.speeds[length]
    decode = rounds.answers(name, "decode_tok_per_s")
    fractions = limit_fractions(decode, bytes_per_token, rounds.bandwidth)
    limits = [b * 1e9 / bytes_per_token for b in rounds.bandwidth if b]
    segments = rounds.segments[name]
    return SpeedRow(
        engine=name,
        threads=part.threads,
        prompt_tokens=int(segments[0].answer["prompt_tokens"]),
        new_tokens=new_tokens,
        prefill_tok_per_s=spread(rounds.answers(name, "prefill_tok_per_s")),
        first_token_s=spread(rounds.answers(name, "prefill_s")),
        decode_tok_per_s=spread(decode),
        limit_tok_per_s=spread(limits) if limits else None,
        limit_fraction=spread(fractions) if fractions else None,
        peak_bytes=max(int(segment.answer["peak_bytes"]) for segment in segments),
        busy_rounds=sum(is_busy(segment.others_cores) for segment in segments),
    )
