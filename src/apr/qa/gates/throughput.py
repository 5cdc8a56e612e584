"""Decoding is not far slower than this machine reads the weights. Measured in the same moment; no constant speed is asked for."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from apr.bench import _machine, _workload
from apr.bench._rounds import limit_fractions, median_interval
from apr.engines._generate import PromptCache
from apr.qa._judged import Judged
from apr.qa.gate import Finding, gate

# the fewest whose least and most hold the median with 95 %
ROUNDS = 6
PROMPT_TOKENS = 16
NEW_TOKENS = {"smoke": 12, "release": 32}
# read each time: twice the last-level cache, and no less than this
_LEAST_READ = 128 << 20
_FLOAT32 = 4
# read where they lie in the file; every other encoding is in blocks, and cheaper to read than float32
_PLAIN = frozenset({"f16", "bf16", "f32", "f64"})


@dataclass(frozen=True, slots=True)
class Speed:
    """What was measured, round by round.

    tok_per_s:     decoding; bandwidth: GB/s of plain reads, the mean of before and after the round
    step_s:        seconds to start and join a product that is nothing in itself
    others_cores:  cores that other processes kept busy; None where it cannot be told
    """

    tok_per_s: tuple[float, ...]
    bandwidth: tuple[float, ...]
    step_s: float
    others_cores: tuple[float | None, ...]


@gate(
    rationale="A release whose weights meet no kernel made for them runs many times slower than the machine allows, and no other gate sees it.",
    source="decode reads every weight once a token: bytes of weights over the machine's read bandwidth is its limit (DESIGN: Speed)",
    severity="P1",
    profiles=("smoke", "release"),
)
def check(judged: Judged) -> Iterator[Finding]:
    """Decode in rounds beside plain reads of memory, and hold the share of the limit against the slowest that is sound."""
    _ = judged.language_model  # a file that cannot be loaded says so
    by_codec = _workload.bytes_by_codec(judged.checkpoint)
    n_bytes = sum(by_codec.values())
    held = _machine.cache_bytes(2) * judged.model.threads
    if n_bytes <= held:
        message = (
            f"a token reads {n_bytes:,} bytes of weights, which the cores' own caches hold: no read of memory bounds it"
        )
        yield Finding("skip", "in-cache", message, measure={"bytes_per_token": n_bytes, "cache_bytes": held})
        return
    speed = measure(judged)
    if speed is None:
        message = "the machine's read bandwidth is measured with the compiled kernels, which are not here"
        yield Finding("skip", "no-bandwidth", message)
        return
    allowed = allowed_bytes(by_codec, _workload.values_by_codec(judged.checkpoint))
    n_products = sum(len(judged.checkpoint.expected[name]) == 2 for name in _workload.read_weights(judged.checkpoint))
    yield verdict(speed, n_bytes, allowed, n_products=n_products)


def allowed_bytes(bytes_by_codec: Mapping[str, int], values_by_codec: Mapping[str, int]) -> int:
    """What a sound engine reads and writes for a token at the most, from the file's encodings alone.

    Weights in blocks must be cheaper than if they were float32: 4 bytes each. Weights that are no blocks may at worst be
    written out as float32 and read again: their own bytes, and 8 each.
    """
    return sum(
        2 * _FLOAT32 * n + bytes_by_codec[codec] if codec in _PLAIN else _FLOAT32 * n
        for codec, n in values_by_codec.items()
    )


def measure(judged: Judged) -> Speed | None:
    """Rounds of decoding, a read of memory before and after each; None where reads cannot be measured."""
    step_s = _machine.step_s(judged.model.threads)
    if step_s is None:
        return None
    model = judged.language_model
    text = _workload.prompt_of(model.tokenizer, PROMPT_TOKENS)
    cache = PromptCache(model.session)
    n_tokens = NEW_TOKENS.get(judged.profile, NEW_TOKENS["smoke"])
    speeds, reads, others = [], [], []
    for i in range(-1, ROUNDS):  # the first round warms up
        watch = _machine.Watch(())
        run = model.run(text, regime="raw", max_tokens=n_tokens + 1, at_eos="ignore", prompt_cache=cache)
        for _ in run:
            pass
        if i >= 0:
            speeds.append(run.timings().decode_tok_per_s)
            others.append(watch.others())
        reads.append(_bandwidth(judged) or 0.0)
    beside = [(a + b) / 2 for a, b in pairwise(reads)]
    return Speed(tuple(speeds), tuple(beside), step_s, tuple(others))


def verdict(speed: Speed, bytes_per_token: int, allowed: int, *, n_products: int) -> Finding:
    """Pass over the bound and fail under it, each with the whole interval; undecided across it.

    The bound is the share of the limit that is left when a token moves `allowed` bytes and starts every product by itself.

    Others on the machine slow both the reads and the decoding, not always alike. Beside them a pass must hold against the
    best read as well, and there is no failure.
    """
    rates, reads = [rate for rate in speed.tok_per_s if rate], [read for read in speed.bandwidth if read]
    fractions = limit_fractions(rates, bytes_per_token, reads) if len(rates) == len(reads) else []
    interval = median_interval(fractions)
    if interval is None:
        return Finding("undecided", "unsteady", f"of {ROUNDS} rounds {min(len(rates), len(reads))} came to a figure")
    low, high = interval
    read = statistics.median(reads) * 1e9
    bound = bytes_per_token / (allowed + n_products * speed.step_s * read)
    rate, share = statistics.median(rates), statistics.median(fractions)
    least = min(rates) * bytes_per_token / (max(reads) * 1e9)
    busy = sum(map(_machine.is_busy, speed.others_cores))
    figures = {
        "decode_tok_per_s": rate,
        "read_gb_per_s": read / 1e9,
        "bytes_per_token": bytes_per_token,
        "limit_fraction": share,
        "bound": bound,
        "step_us": speed.step_s * 1e6,
        "rounds": len(fractions),
        "busy_rounds": busy,
    }
    said = f"decodes {rate:.1f} tok/s, {share:.2f} of what the machine reads ({low:.2f} to {high:.2f})"
    asked = f"{bound:.2f} is what weights of float32 without kernels would reach"
    is_busy = 2 * busy > len(fractions)
    if low >= bound and (not is_busy or least >= bound):
        return Finding("pass", "near-limit", f"{said}; {asked}", measure=figures, interval=interval)
    if is_busy:
        message = f"{said}, with others busy in {busy} of {len(fractions)} rounds; {asked}: measure on a quiet machine"
        return Finding("undecided", "busy", message, measure=figures, interval=interval)
    if high < bound:
        return Finding("fail", "far-from-limit", f"{said}; {asked}", measure=figures, interval=interval)
    return Finding("undecided", "unsteady", f"{said}, on both sides of {bound:.2f}", measure=figures, interval=interval)


def _bandwidth(judged: Judged) -> float | None:
    size = max(_LEAST_READ, 2 * _machine.cache_bytes(3))
    return _machine.read_bandwidth(judged.model.threads, n_bytes=min(size, _machine.BANDWIDTH_BYTES))
