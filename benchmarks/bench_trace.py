"""How much slower is a pass that takes the statistics of every slot than one that looks at nothing?"""

from __future__ import annotations

import time
from collections.abc import Callable

import _options
import numpy as np
from _contest import alternate, say
from _models import Model
from _options import Options
from _results import Results

import apr
from apr.bench import _machine
from apr.bench._rounds import Segment
from apr.engines._base import Session
from apr.engines._statistics import Statistics
from apr.models._decoder import Span, no_tap

CASES = ("decode", "prefill")
PROMPT_TOKENS = 32


def main() -> None:
    """Measure what the command line asks for."""
    options = _options.parse(__doc__ or "", cases=CASES, n_tokens=512)
    results = Results("trace")
    for model in options.models:
        with apr.load(model.path, threads=options.threads) as loaded:
            for case in options.cases:
                n_tokens = options.n_tokens if case == "prefill" else min(options.n_tokens, 64)
                contest(results, options, model, loaded.session, case, n_tokens)


def contest(results: Results, options: Options, model: Model, session: Session, case: str, n_tokens: int) -> None:
    """Untraced and traced in turns; the traced pass must give the same bits."""
    say(f"{model.name}, {case}, {n_tokens} tokens")
    run = prefilling if case == "prefill" else decoding
    n_slots = check_same_bits(session, model)
    entries = {
        "apr": run(session, model, n_tokens, is_traced=False),
        "apr traced": run(session, model, n_tokens, is_traced=True),
    }
    rounds = alternate(entries, rounds=options.rounds, threads=options.threads, quiet_s=options.quiet_s)
    facts = {"instruction_set": session.instruction_set, "kernel_set": session.kernel_set, "n_slots": n_slots}
    about = dict.fromkeys(entries, facts)
    results.add_contest(
        case, "tok/s", rounds, about=about, model=model.facts(), threads=options.threads, n_tokens=n_tokens
    )


def prefilling(session: Session, model: Model, n_tokens: int, *, is_traced: bool) -> Callable[[], Segment]:
    """A segment: one prompt."""
    ids = np.array(model.prompt(n_tokens), dtype=np.int64)

    def segment() -> Segment:
        tap = Statistics() if is_traced else no_tap
        watch = _machine.Watch(())
        started = time.perf_counter()
        session.forward([Span(ids, session.new_cache())], tap=tap)
        return Segment(n_tokens / (time.perf_counter() - started), {}, watch.others())

    return segment


def decoding(session: Session, model: Model, n_tokens: int, *, is_traced: bool) -> Callable[[], Segment]:
    """A segment: tokens one by one after a prompt."""
    prompt = np.array(model.prompt(PROMPT_TOKENS), dtype=np.int64)
    following = model.prompt(n_tokens, start=PROMPT_TOKENS)

    def segment() -> Segment:
        cache = session.new_cache()
        session.forward([Span(prompt, cache)])
        watch = _machine.Watch(())
        started = time.perf_counter()
        for token_id in following:
            tap = Statistics() if is_traced else no_tap
            session.forward([Span(np.array([token_id], dtype=np.int64), cache)], tap=tap)
        return Segment(n_tokens / (time.perf_counter() - started), {}, watch.others())

    return segment


def check_same_bits(session: Session, model: Model) -> int:
    """The number of slots seen. Exits if looking changes the result."""
    ids = np.array(model.prompt(PROMPT_TOKENS), dtype=np.int64)
    statistics = Statistics()
    plain = session.forward([Span(ids, session.new_cache())])
    traced = session.forward([Span(ids, session.new_cache())], tap=statistics)
    if not np.array_equal(plain, traced):
        raise SystemExit("a traced pass gives other logits than an untraced one")
    return len(statistics.slots())


if __name__ == "__main__":
    main()
