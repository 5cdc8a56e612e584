"""What the model writes does not fall into a loop, drift into another script or turn to rubbish."""

from __future__ import annotations

from collections.abc import Iterator

from apr.engines._language_model import Run
from apr.evals._passing import wilson
from apr.qa import _degeneration
from apr.qa._degeneration import Degeneration
from apr.qa._judged import Judged
from apr.qa.gate import Finding, gate

_PROMPTS = (
    "Write a short story about a lighthouse.",
    "Explain how rain forms.",
    "What is a prime number?",
    "Give three tips for learning to cook.",
    "What is 2+2?",
)
_TEXTS = (
    "The history of the city begins with",
    "Once upon a time",
    "def fib(n):\n",
)
_TOKENS = {"smoke": 64}
_TOKENS_RELEASE = 128
_BATCH = 8
# small models that are well fall into a loop now and then, when they must always say what is most likely
_MOST_DEGENERATE = 0.25


@gate(
    rationale="A damaged model, cache or template shows first in text that repeats itself, changes its script or is no text at all.",
    source="ship-two 7.3 and requirement R9; rates of the detector: benchmarks/degeneration.py",
    severity="P0",
    profiles=("smoke", "release"),
)
def check(judged: Judged) -> Iterator[Finding]:
    """Greedy answers and continuations, looked at as tokens and as text; at most a quarter of them degenerate."""
    model = judged.language_model
    tokens = _TOKENS.get(judged.profile, _TOKENS_RELEASE)
    runs = [model.run(text, regime="raw", max_tokens=tokens) for text in _TEXTS]
    if model.template is not None:
        runs += [model.run(text, regime="chat", max_tokens=tokens) for text in _PROMPTS]
    for _ in model.run_together(runs, batch_size=_BATCH):
        pass
    found = [(run, one) for run in runs if (one := found_in(run)) is not None]
    share = len(found) / len(runs)
    measure = {
        "n_degenerate": len(found),
        "n_outputs": len(runs),
        "n_tokens": sum(len(run.steps) for run in runs),
        "degenerate_share": share,
    }
    interval = wilson(len(found), len(runs))
    if not found:
        message = f"{len(runs)} outputs of up to {tokens} tokens, none degenerate"
        yield Finding("pass", "sound", message, {}, measure, interval)
        return
    run, one = found[0]
    asked = run.prompt.text if run.prompt.decision == "raw" else _PROMPTS[runs.index(run) - len(_TEXTS)]
    message = f"{len(found)} of {len(runs)} outputs; after {asked!r}: {one}"
    where = {
        "prompt": asked,
        "text_offset": one.start,
        "position": one.token,
        "kind": one.kind,
        "fragment": one.fragment[:80],
        "all": [{"prompt_text": r.prompt.text, "text_offset": o.start, "kind": o.kind} for r, o in found],
    }
    if share > _MOST_DEGENERATE:
        yield Finding("fail", one.kind, message, where, measure, interval)
    else:
        yield Finding(
            "pass",
            "isolated",
            f"{message}; up to {_MOST_DEGENERATE:.0%} is what greedy choice does",
            where,
            measure,
            interval,
        )


def found_in(run: Run) -> Degeneration | None:
    """What is degenerate in an ended run, by its text and its tokens."""
    steps = run.steps[:-1] if run.finish_reason == "eos" else run.steps
    return _degeneration.find(
        run.text,
        prompt=run.prompt.text,
        token_ids=[step.token_id for step in steps],
        token_texts=[step.text for step in steps],
    )
