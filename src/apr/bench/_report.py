"""What `apr bench` finds, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from apr.bench._machine import Machine
from apr.bench._rounds import Ratio, Spread

# measured: every figure stands; not_comparable: a peer computes something else; wrong: our engine does
Verdict = Literal["measured", "not_comparable", "wrong"]
EXIT_CODES: dict[Verdict, int] = {"measured": 0, "not_comparable": 5, "wrong": 1}


@dataclass(frozen=True, slots=True)
class BenchModel:
    """The file that is measured.

    reference:        as it was asked for
    format:           gguf, safetensors or apr
    size_bytes:       on disk
    bytes_per_token:  of weights that each token reads: all but the embedding look-up; a tied one is the head
    bytes_by_codec:   the same by encoding, the largest share first
    """

    reference: str
    path: str
    format: str
    size_bytes: int
    sha256: str | None
    bytes_per_token: int
    bytes_by_codec: dict[str, int]


@dataclass(frozen=True, slots=True)
class BenchEngine:
    """One that takes part.

    name:            as the rows have it
    engine_version:  its own, and of the package that it came in
    kernel_set, instruction_set: the arithmetic that was used
    activations:     how they meet quantised weights: int8 or float32
    kv_cache:        how keys and values are kept
    """

    name: str
    engine_version: str
    kernel_set: str
    instruction_set: str
    activations: str
    kv_cache: str


@dataclass(frozen=True, slots=True)
class Agreement:
    """Whether an engine computes the model: its logits after the same tokens, against our exact arithmetic.

    engine:          which
    n_positions:     in one pass, and again the later ones token by token: both ways of computing are timed
    kl_mean, kl_max: divergence from the exact logits in nats; null where it gives no numbers
    top1_agreement:  share of positions with the same most likely token
    limit_mean, limit_max: what rounding of this engine's precision does to the exact logits at the same positions, with room for another draw
    is_same:         whether it is within
    sentence:        the same in words
    """

    engine: str
    n_positions: int
    kl_mean: float | None
    kl_max: float | None
    top1_agreement: float | None
    limit_mean: float | None
    limit_max: float | None
    is_same: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class GreedyCheck:
    """What our engine writes, against what `apr run` writes, for every prompt, before anything is timed.

    threads:   of the arithmetic
    is_same:   whether all tokens are
    sentence:  the same in words
    """

    threads: int
    is_same: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class StartRow:
    """Fresh processes of one engine, with the file in the system's cache.

    engine:         which
    threads:        of the arithmetic
    import_s:       from the start of the process until its libraries are there
    load_s:         until the weights are ready to compute; of our engine, file and tokenizer too
    first_token_s:  loading and the first pass, over the shortest prompt
    peak_bytes:     the most memory that the process held by then, mapped file pages included
    """

    engine: str
    threads: int
    import_s: Spread
    load_s: Spread
    first_token_s: Spread
    peak_bytes: Spread


@dataclass(frozen=True, slots=True)
class SpeedRow:
    """One engine, one number of threads, one length of prompt, in a loaded model.

    engine:             which
    threads:            of the arithmetic
    prompt_tokens:      the prompt's
    new_tokens:         written after it
    prefill_tok_per_s:  prompt tokens a second
    first_token_s:      from the question to the first token
    decode_tok_per_s:   later tokens a second
    limit_tok_per_s:    decoding, if nothing but the weights were read, at the bandwidth measured beside each round; null without a bandwidth
    limit_fraction:     decode_tok_per_s over limit_tok_per_s, round by round
    peak_bytes:         the most memory that the process held in all rounds so far, mapped file pages included
    busy_rounds:        rounds in which other processes used more than 0.15 of a core
    """

    engine: str
    threads: int
    prompt_tokens: int
    new_tokens: int
    prefill_tok_per_s: Spread
    first_token_s: Spread
    decode_tok_per_s: Spread
    limit_tok_per_s: Spread | None
    limit_fraction: Spread | None
    peak_bytes: int
    busy_rounds: int


@dataclass(frozen=True, slots=True)
class RatioRow:
    """How many times as fast as a peer, paired within each round. Over 1: faster.

    peer:           the engine that it is compared with
    threads:        of the arithmetic
    prompt_tokens:  the prompt's; null for what does not depend on it
    figure:         decode, prefill, load, first_token or memory; of the last three, the peer's over ours
    ratio:          of the speeds
    """

    peer: str
    threads: int
    prompt_tokens: int | None
    figure: Literal["decode", "prefill", "load", "first_token", "memory"]
    ratio: Ratio


@dataclass(frozen=True, slots=True)
class BandwidthRow:
    """What the machine reads, measured before each round.

    threads:     that read
    gb_per_s:    plain reads of memory, 10^9 bytes a second
    """

    threads: int
    gb_per_s: Spread


@dataclass(frozen=True, slots=True)
class BenchReport:
    """How fast a model runs here.

    model:        what was measured
    machine:      where
    engines:      who took part; the first is the one that the ratios are of
    repeats:      rounds
    greedy:       our engine against itself and `apr run`; empty where another engine is measured alone
    agreements:   every engine against our exact arithmetic
    refused:      peers that are not compared, and why
    bandwidth:    by number of threads; empty without the compiled kernels
    starts, speeds, ratios: the figures
    warnings:     what a careful reader should know
    verdict:      measured; not_comparable: a peer computes something else or cannot be run; wrong: our engine does not compute the model, and nothing was timed
    """

    model: BenchModel
    machine: Machine
    engines: tuple[BenchEngine, ...]
    repeats: int
    greedy: tuple[GreedyCheck, ...]
    agreements: tuple[Agreement, ...]
    refused: dict[str, str]
    bandwidth: tuple[BandwidthRow, ...]
    starts: tuple[StartRow, ...]
    speeds: tuple[SpeedRow, ...]
    ratios: tuple[RatioRow, ...]
    warnings: tuple[str, ...]
    verdict: Verdict
    seconds: float
    exit_code: int
    schema: str = field(default="apr.bench/1")
