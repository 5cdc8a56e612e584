"""How many tokens a second do 1, 2, 4 and 8 sequences get together, against llama.cpp's batched decoding?

A batch reads each weight once for all sequences. Every sequence has a prompt of its own; 64 greedy tokens each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import _options
from _contest import Child, alternate, loaded, rate, say
from _equality import prove
from _models import Model
from _options import Options
from _results import Results

from apr.bench._rounds import Rounds, Segment

SIZES = (1, 2, 4, 8)
PROMPT_TOKENS = 32
PROOF_TOKENS = 64
APART = 40  # tokens between the beginnings of two prompts


def main() -> None:
    """Measure what the command line asks for."""
    options = _options.parse(__doc__ or "", n_tokens=64)
    results = Results("batch")
    for model in options.models:
        contest(results, options, model)


def contest(results: Results, options: Options, model: Model) -> None:
    """All sizes, in turns."""
    say(f"{model.name}, {options.threads} threads")
    threads = options.threads
    contestants = [
        _options.ours(threads),
        _options.llama_cpp(options, threads, n_sequences=max(SIZES)),
        _options.ik_llama_cpp(options, threads, n_sequences=max(SIZES)),
    ]
    with loaded(contestants, model.path) as children:
        proof = prove(children, model.path, model.prompt(PROOF_TOKENS), _options.REFERENCE)
        measured = {}
        for size in SIZES:
            say(f" {size} sequences")
            prompts = prompts_of(model, size)
            entries = {name: batching(child, prompts, options.n_tokens) for name, (child, _) in children.items()}
            measured[size] = alternate(entries, rounds=options.rounds, threads=threads, quiet_s=options.quiet_s)
        check_batching_changes_nothing(measured)
        for size, rounds in measured.items():
            about = {
                name: {
                    "versions": answer.get("versions"),
                    "instruction_set": answer.get("instruction_set"),
                    "equality": proof.get(name),
                }
                for name, (_, answer) in children.items()
            }
            results.add_contest(
                "1 sequence" if size == 1 else f"{size} sequences",
                "tok/s",
                rounds,
                about=about,
                model=model.facts(),
                threads=threads,
                n_sequences=size,
                n_tokens=options.n_tokens,
                prompt_tokens=PROMPT_TOKENS,
            )


def prompts_of(model: Model, size: int) -> list[list[int]]:
    """Different stretches of the same text."""
    return [model.prompt(PROMPT_TOKENS, start=APART * i) for i in range(size)]


def batching(child: Child, prompts: Sequence[Sequence[int]], n_tokens: int) -> Callable[[], Segment]:
    """A segment: all prompts, untimed, then steps of all sequences, timed."""
    return lambda: rate(child, "batch", prompts=[list(p) for p in prompts], n_tokens=n_tokens)


def check_batching_changes_nothing(measured: dict[int, Rounds]) -> None:
    """Exit if one of our sequences got other tokens in company than in a smaller batch: it must not know of the others."""
    largest = measured[max(measured)].segments["apr"][0].answer["sequences"]
    for size, rounds in measured.items():
        for segment in rounds.segments["apr"]:
            if segment.answer["sequences"] != largest[:size]:
                raise SystemExit(f"a batch of {size} gave other tokens than a batch of {max(measured)}")


if __name__ == "__main__":
    main()
