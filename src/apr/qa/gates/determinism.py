"""The same question gets the same answer: again, with other threads, from the prompt cache and in a batch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from apr.engines._generate import PromptCache
from apr.engines._language_model import LanguageModel, Run
from apr.qa._judged import Judged
from apr.qa.gate import Finding, gate

# the second begins as the first does, so that a prompt cache holds a part of it; lengths differ in a batch
_TEXTS = (
    "The harbour master kept three books. In the first he wrote the ships",
    "The harbour master kept three books. In the second he wrote the weather, because",
    "def fib(n):\n",
    "1, 2, 3,",
)
_TOKENS = {"smoke": 12}
_TOKENS_RELEASE = 24


@gate(
    rationale="An answer that depends on who else is asking, or on how many cores are free, can be neither tested nor reproduced.",
    source="DESIGN 3: one generation function; any batch, cache and thread count gives the same tokens; ship-two R6",
    severity="P0",
    profiles=("smoke", "release"),
)
def check(judged: Judged) -> Iterator[Finding]:
    """Greedy token ids of some prompts, alone, against: repeated; other threads; a warm prompt cache; a batch of all."""
    model = judged.language_model
    tokens = _TOKENS.get(judged.profile, _TOKENS_RELEASE)
    plain = [_ended(model, text, tokens) for text in _TEXTS]
    yield _compared("repeat", "asked again", plain, [_ended(model, text, tokens) for text in _TEXTS])
    cache = PromptCache(model.session)
    cached = [_ended(model, text, tokens, prompt_cache=cache) for text in (*_TEXTS, _TEXTS[0], _TEXTS[0])]
    held = sum(run.generation.cached_prompt_tokens for run in cached)
    if held == 0:
        message = "the prompt cache held nothing of a prompt that had just been computed"
        yield Finding("fail", "cache-unused", message)
    yield _compared("cache", f"with {held} tokens from the prompt cache", [*plain, plain[0], plain[0]], cached)
    together = [model.run(text, regime="raw", max_tokens=tokens, at_eos="ignore") for text in _TEXTS]
    for _ in model.run_together(together, batch_size=len(together)):
        pass
    yield _compared("batch", f"in a batch of {len(together)}", plain, together)
    threads = 1 if model.session.threads > 1 else 2
    other = judged.model.on_engine(judged.model.engine, threads=threads, loader=judged.model.loader)
    try:
        runs = [_ended(other.language_model, text, tokens) for text in _TEXTS]
    finally:
        other.close()
    yield _compared(
        "threads",
        f"with {threads} {'thread' if threads == 1 else 'threads'} in place of {model.session.threads}",
        plain,
        runs,
    )


def _ended(model: LanguageModel, text: str, tokens: int, *, prompt_cache: PromptCache | None = None) -> Run:
    run = model.run(text, regime="raw", max_tokens=tokens, at_eos="ignore", prompt_cache=prompt_cache)
    for _ in run:
        pass
    return run


def _compared(code: str, how: str, expected: Sequence[Run], found: Sequence[Run]) -> Finding:
    """Token ids of each prompt side by side; how far the log-probabilities lie apart is shown."""
    apart = 0.0
    n_tokens = 0
    for one, other in zip(expected, found, strict=True):
        for position, (a, b) in enumerate(zip(one.steps, other.steps, strict=False)):
            n_tokens += 1
            gap = abs(a.logprob - b.logprob)
            apart = max(apart, gap if math.isfinite(gap) else math.inf)
            if a.token_id != b.token_id:
                where = {
                    "prompt": one.prompt.text,
                    "position": position,
                    "reference": a.token_id,
                    "candidate": b.token_id,
                }
                message = (
                    f"{how}, {one.prompt.text!r} goes on otherwise at generated token {position}: {b.token_id} ({b.text!r}) "
                    f"in place of {a.token_id} ({a.text!r}), whose margin was {a.margin:.3g}"
                )
                return Finding("fail", code, message, where, {"margin": a.margin, "max_logprob_change": apart})
        if len(one.steps) != len(other.steps):
            message = f"{how}, {one.prompt.text!r} gets {len(other.steps)} tokens in place of {len(one.steps)}"
            return Finding("fail", code, message, {"prompt": one.prompt.text})
    measure = {"n_prompts": len(expected), "n_tokens": n_tokens, "max_logprob_change": apart}
    return Finding("pass", code, f"the same {n_tokens} tokens {how}", measure=measure)
