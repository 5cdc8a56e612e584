"""How many prompt tokens a second are read in, 512 at once, against llama.cpp and float32 matrix products in PyTorch?

transformers on PyTorch runs the same model with every weight dequantised beforehand: the bar that 8-bit products on
packed weights must not be behind.
"""

from __future__ import annotations

from collections.abc import Callable

import _options
from _contest import Child, alternate, loaded, rate, say
from _equality import prove
from _models import Model
from _options import Options
from _results import Results

from apr.bench._rounds import Segment

CASES = ("threads", "one thread")
PROOF_TOKENS = 64


def main() -> None:
    """Measure what the command line asks for."""
    options = _options.parse(__doc__ or "", cases=CASES, n_tokens=512)
    results = Results("prefill")
    for model in options.models:
        if "threads" in options.cases:
            contest(results, options, model, _options.in_words(options.threads), options.threads)
        if "one thread" in options.cases:
            contest(results, options, model, "1 thread", 1)


def contest(results: Results, options: Options, model: Model, case: str, threads: int) -> None:
    """One contest."""
    say(f"{model.name}, {case}")
    contestants = [
        _options.ours(threads),
        _options.llama_cpp(options, threads),
        _options.ik_llama_cpp(options, threads),
        _options.torch(threads),
    ]
    if threads > 1:
        contestants += [*_options.ours_on_avx2(threads), _options.ours(threads, name="apr exact", exact=True)]
        contestants.append(_options.xllamacpp(options, threads))
    with loaded(contestants, model.path) as children:
        proof = prove(children, model.path, model.prompt(PROOF_TOKENS), _options.REFERENCE)
        entries = {name: prefilling(child, model, options.n_tokens) for name, (child, _) in children.items()}
        rounds = alternate(entries, rounds=options.rounds, threads=threads, quiet_s=options.quiet_s)
        about = {
            name: {
                "versions": answer.get("versions"),
                "instruction_set": answer.get("instruction_set"),
                "kernel_set": answer.get("kernel_set"),
                "equality": proof.get(name),
                "first_token_id": rounds.segments[name][0].answer["token_ids"][0],
            }
            for name, (_, answer) in children.items()
            if name in rounds.segments
        }
    results.add_contest(
        case, "tok/s", rounds, about=about, model=model.facts(), threads=threads, n_tokens=options.n_tokens
    )


def prefilling(child: Child, model: Model, n_tokens: int) -> Callable[[], Segment]:
    """A segment: one prompt into an empty cache, and the most likely next token."""
    return lambda: rate(child, "prefill", token_ids=model.prompt(n_tokens))


if __name__ == "__main__":
    main()
