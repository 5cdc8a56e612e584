"""How many tokens a second does one sequence get, and how near is that to what the memory allows?

128 greedy tokens after a prompt of 32, against llama.cpp built for this CPU and other peers, in five situations:
two threads (our AVX2 kernels and our exact mode beside it), one thread, and beside two spinning processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import _options
from _contest import Child, Contestant, alternate, loaded, rate, say, spinning
from _equality import common_prefix, prove
from _models import Model
from _options import Options
from _results import Results

from apr.bench import _machine
from apr.bench._rounds import Rounds, Segment

CASES = ("threads", "one thread", "busy")
PROMPT_TOKENS = 32
PROOF_TOKENS = 64
N_SPINNERS = 2
LIMIT_S = 60.0  # a contestant that is starved still ends
BUSY_TOKENS = 32
GENERATE_PROMPT = "def fib(n):\n"

Children = Mapping[str, tuple[Child, dict[str, Any]]]


def main() -> None:
    """Measure what the command line asks for."""
    options = _options.parse(__doc__ or "", cases=CASES, n_tokens=128)
    results = Results("decode")
    for model in options.models:
        if "threads" in options.cases:
            contest(results, options, model, _options.in_words(options.threads), in_threads(options), options.threads)
        if "one thread" in options.cases:
            contest(results, options, model, "1 thread", in_one_thread(options), 1)
        if "busy" in options.cases:
            busy_contest(results, options, model)


def in_threads(options: Options) -> list[Contestant]:
    """Everybody."""
    threads = options.threads
    return [
        _options.ours(threads),
        *_options.ours_on_avx2(threads),
        _options.ours(threads, name="apr exact", exact=True),
        _options.llama_cpp(options, threads),
        _options.ik_llama_cpp(options, threads),
        _options.xllamacpp(options, threads),
    ]


def in_one_thread(options: Options) -> list[Contestant]:
    """The two that matter, and the fork."""
    return [_options.ours(1), _options.llama_cpp(options, 1), _options.ik_llama_cpp(options, 1)]


def contest(
    results: Results, options: Options, model: Model, case: str, contestants: list[Contestant], threads: int
) -> None:
    """One contest of decoding, on a machine as quiet as it gets."""
    say(f"{model.name}, {case}")
    with loaded(contestants, model.path) as children:
        proof = prove(children, model.path, model.prompt(PROOF_TOKENS), _options.REFERENCE)
        entries = {name: decoding(child, model, options.n_tokens) for name, (child, _) in children.items()}
        if case != "1 thread":
            entries["apr generate"] = generating(children["apr"][0], options.n_tokens)
        rounds = alternate(entries, rounds=options.rounds, threads=threads, quiet_s=options.quiet_s)
        report(results, model, case, rounds, children, proof, threads=threads, n_tokens=options.n_tokens)


def busy_contest(results: Results, options: Options, model: Model) -> None:
    """Beside two spinning processes at normal priority; our quiet speed is measured in the same rounds."""
    say(f"{model.name}, busy machine")
    threads = options.threads
    contestants = [_options.ours(threads), _options.llama_cpp(options, threads)]
    with loaded(contestants, model.path) as children:
        proof = prove(children, model.path, model.prompt(PROOF_TOKENS), _options.REFERENCE)
        entries: dict[str, Callable[[], Segment]] = {
            name: decoding(child, model, BUSY_TOKENS, n_spinners=N_SPINNERS) for name, (child, _) in children.items()
        }
        entries["quiet apr"] = decoding(children["apr"][0], model, options.n_tokens)
        rounds = alternate(entries, rounds=options.rounds, threads=threads, quiet_s=options.quiet_s)
        report(results, model, "busy", rounds, children, proof, threads=threads, n_tokens=BUSY_TOKENS)


def decoding(child: Child, model: Model, n_tokens: int, *, n_spinners: int = 0) -> Callable[[], Segment]:
    """A segment: the prompt, untimed, then tokens, timed."""

    def segment() -> Segment:
        child.ask("prefill", token_ids=model.prompt(PROMPT_TOKENS))
        with spinning(n_spinners) as spinners:
            return rate(child, "decode", beside=spinners, n_tokens=n_tokens, limit_s=LIMIT_S)

    return segment


def generating(child: Child, n_tokens: int) -> Callable[[], Segment]:
    """A segment through the public interface: sampler, text and record included."""
    return lambda: rate(child, "generate", prompt=GENERATE_PROMPT, n_tokens=n_tokens)


def report(
    results: Results,
    model: Model,
    case: str,
    rounds: Rounds,
    children: Children,
    proof: Mapping[str, Any],
    *,
    threads: int,
    n_tokens: int,
) -> None:
    """Write the rows."""
    owners = {name: children[{"apr generate": "apr", "quiet apr": "apr"}.get(name, name)] for name in rounds.segments}
    texts = {name: segments[0].answer["token_ids"] for name, segments in rounds.segments.items()}
    about = {
        name: {
            "versions": loaded_as.get("versions"),
            "instruction_set": loaded_as.get("instruction_set"),
            "kernel_set": loaded_as.get("kernel_set"),
            "environment": dict(child.contestant.environment),
            "equality": proof.get(name.removeprefix("quiet ")),
            "same_text_as_apr": common_prefix([texts[name], texts["apr"]]) if name != "apr generate" else None,
        }
        for name, (child, loaded_as) in owners.items()
    }
    results.add_contest(
        case,
        "tok/s",
        rounds,
        about=about,
        bytes_per_token=model.bytes_per_token,
        model=model.facts(),
        threads=threads,
        n_tokens=n_tokens,
        prompt_tokens=PROMPT_TOKENS,
        fits_l3=model.bytes_per_token < _machine.cache_bytes(3),
    )


if __name__ == "__main__":
    main()
