"""Whether what is timed computes the model: a fast wrong answer is not a number.

Our engine must write the very tokens that `apr run` writes, whatever the number of threads. Other engines round in their own
way, and a near tie sends two honest ones different ways; so every engine's logits are held against our exact
arithmetic on the same tokens, and its distance to what rounding of its own precision does there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from apr.bench._report import Agreement, GreedyCheck
from apr.engines import _language_model
from apr.engines._base import Activations
from apr.engines._language_model import LanguageModel
from apr.engines._subject import OWN_ENGINE, Subject
from apr.errors import EngineError
from apr.parity._divergence import Divergence, diverge, joined
from apr.parity._drift import Limits
from apr.parity._floor import coarsened, logit_floor, logit_ladder, precision_of
from apr.parity._teacher_forced import VocabularyMismatch, aligned, rows_of, stepwise

# forced on everybody: a third of them is read again token by token
PROOF_TOKENS = 96


def written(model: LanguageModel, texts: Mapping[int, str], new_tokens: int) -> dict[int, list[int]]:
    """What a model writes after each text, greedily, through the function that `apr run --raw` calls."""
    found = {}
    for length, text in texts.items():
        run = model.run(text, regime="raw", max_tokens=new_tokens, at_eos="ignore")
        for _ in run:
            pass
        found[length] = [step.token_id for step in run.steps]
    return found


def written_by_run(
    reference: str, texts: Mapping[int, str], new_tokens: int, *, activations: Activations
) -> dict[int, list[int]]:
    """What `apr run` writes, at its own number of threads."""
    with _language_model.load(reference, activations=activations) as model:
        return written(model, texts, new_tokens)


def check_greedy(
    subject: Subject, texts: Mapping[int, str], expected: Mapping[int, Sequence[int]], new_tokens: int
) -> GreedyCheck:
    """Our engine at a number of threads against what `apr run` writes."""
    found = written(subject.language_model, texts, new_tokens)
    return compared(found, expected, threads=subject.threads)


def compared(found: Mapping[int, Sequence[int]], expected: Mapping[int, Sequence[int]], *, threads: int) -> GreedyCheck:
    """Tokens against those that are expected, prompt by prompt."""
    for length, right in expected.items():
        got = list(found[length])
        if got != list(right):
            at = next(
                (i for i, (a, b) in enumerate(zip(got, right, strict=False)) if a != b), min(len(got), len(right))
            )
            sentence = f"after the prompt of {length} tokens, token {at + 1} is not the one that `apr run` writes"
            return GreedyCheck(threads, False, sentence)
    n = sum(map(len, expected.values()))
    return GreedyCheck(threads, True, f"{n} greedy tokens as `apr run` writes them")


def agreement(exact: Subject, subject: Subject, ids: Sequence[int], *, name: str, seed: int = 0) -> Agreement:
    """An engine's logits against exact arithmetic, forced on the same ids: in one pass, and token by token.

    exact:  our own engine with float32 activations over the same file
    """
    ids = list(ids)[:PROOF_TOKENS]
    n_prompt = max(1, len(ids) - len(ids) // 3)
    try:
        right = rows_of(exact.session, ids)
        found = _distance(exact, subject, right, ids, n_prompt)
    except (EngineError, VocabularyMismatch) as exc:
        return _failed(name, str(exc))
    if not found.is_finite.all():
        return _failed(
            name, f"{int((~found.is_finite).sum())} of {len(found.kl)} positions have logits that are no numbers"
        )
    limits = _limits(exact, subject, ids, seed)
    mean, worst = float(found.kl.mean()), float(found.kl.max())
    is_same = mean <= limits.mean and worst <= limits.worst
    agreed = 1.0 - float(found.is_flip.mean())
    word = "computes the model" if is_same else "computes something else"
    sentence = (
        f"{word}: {mean:.2g} nats from exact arithmetic at {len(found.kl)} positions, worst {worst:.2g}; rounding explains "
        f"{limits.mean:.2g}, worst {limits.worst:.2g}; top-1 agreement {agreed:.1%}"
    )
    return Agreement(name, len(found.kl), mean, worst, agreed, limits.mean, limits.worst, is_same, sentence)


def prove(
    reference: str,
    engines: Mapping[str, str],
    texts: Mapping[int, str],
    *,
    new_tokens: int,
    threads: Sequence[int],
    activations: Activations,
) -> tuple[dict[int, list[int]], list[GreedyCheck], list[Agreement]]:
    """Prove every engine before it is timed.

    engines:  name -> engine, the measured one first; the others as their users run them
    Returns   what `apr run` writes after each prompt, our engine against it, and all engines in their order
    Raises    EngineError where the exact reference cannot be computed
    """
    expected: dict[int, list[int]] = {}
    checks, agreements = [], []
    with Subject(reference, OWN_ENGINE, threads=max(threads), activations="float32") as exact:
        longest = texts[max(texts)]
        ids = exact.language_model.run(longest, regime="raw", max_tokens=1).prompt.token_ids
        for name, engine in reversed(
            list(engines.items())
        ):  # the peers first: one that cannot read the file says so at once
            how: Activations = activations if engine == OWN_ENGINE else "int8"
            with Subject(reference, engine, threads=max(threads), activations=how) as subject:
                try:
                    subject.session  # noqa: B018  made here, so that its errors are this engine's
                except EngineError as exc:
                    agreements.append(_failed(name, str(exc)))
                    continue
                agreements.append(agreement(exact, subject, ids, name=name))
    if OWN_ENGINE in engines.values():
        expected = written_by_run(reference, texts, new_tokens, activations=activations)
        for count in threads:
            with Subject(reference, OWN_ENGINE, threads=count, activations=activations) as subject:
                checks.append(check_greedy(subject, texts, expected, new_tokens))
    return expected, checks, agreements[::-1]


def _distance(exact: Subject, subject: Subject, right: np.ndarray, ids: Sequence[int], n_prompt: int) -> Divergence:
    whole = rows_of(subject.session, ids)
    # rows that choose the tokens after the prompt: feeding all but the last of them
    steps = stepwise(subject.session, ids[:n_prompt], ids[n_prompt:])
    later = right[n_prompt - 1 : n_prompt - 1 + len(steps)]
    return joined([diverge(*aligned(right, whole, exact)), diverge(*aligned(later, steps, exact))])


def _limits(exact: Subject, subject: Subject, ids: Sequence[int], seed: int) -> Limits:
    floor = joined(logit_floor(exact.session, [ids], seed=seed)).kl
    ladder = joined(logit_ladder(exact.session, [ids], coarsened(precision_of(subject)))).kl
    return Limits(float(floor.mean()), float(floor.max()), float(ladder.mean()), float(ladder.max()))


def _failed(name: str, why: str) -> Agreement:
    return Agreement(name, 0, None, None, None, None, None, False, f"cannot be compared: {why}")
