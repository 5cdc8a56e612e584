"""Whether two contestants compute the same model: logits after the same tokens, against a reference in exact arithmetic.

Greedy text alone proves little: a near tie sends two honest engines different ways. So the divergence of the
distributions counts, and the most likely token wherever the reference is not nearly undecided.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _contest import Child, Contestant, loaded, say

from apr.errors import AprError

# logits between the two most likely tokens; 8-bit activations move a logit by some tenths
CLEAR_MARGIN = 0.5

_REFERENCES: dict[tuple[str, Path, tuple[int, ...]], np.ndarray] = {}  # a model is asked once, then ended


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far logits are from the reference's.

    kl_div:          mean over positions of KL(reference | actual), in nats
    kl_div_max:      the largest
    top1_agreement:  fraction of positions with the same most likely token
    top1_wrong:      positions where it differs although the reference's margin is clear
    """

    kl_div: float
    kl_div_max: float
    top1_agreement: float
    top1_wrong: int

    def is_same_model(self, kl_limit: float) -> bool:
        """Whether this is rounding, and nothing else."""
        return self.kl_div <= kl_limit and self.top1_wrong == 0


def compare(reference: np.ndarray, actual: np.ndarray) -> Agreement:
    """Compare logits, float32 [n_positions, vocab_size] each."""
    assert reference.shape == actual.shape, (reference.shape, actual.shape)
    expected, found = _log_softmax(reference), _log_softmax(actual)
    divergence = (np.exp(expected) * (expected - found)).sum(axis=1)
    is_same = reference.argmax(axis=1) == actual.argmax(axis=1)
    best = np.partition(reference, -2, axis=1)[:, -2:]
    is_clear = best[:, 1] - best[:, 0] > CLEAR_MARGIN
    return Agreement(
        kl_div=float(max(0.0, divergence.mean())),
        kl_div_max=float(max(0.0, divergence.max())),
        top1_agreement=float(is_same.mean()),
        top1_wrong=int((~is_same & is_clear).sum()),
    )


def prove(
    children: Mapping[str, tuple[Child, Any]], model: Path, token_ids: Sequence[int], reference: Contestant
) -> dict[str, dict[str, Any]]:
    """Each contestant's agreement with the reference, and `is_same_model`. Exits if one of ours computes something else.

    Those that are timed give the logits after half of the tokens, read in one pass, and after each later one: both ways
    of computing are proved. One that gives no logits is not judged; a peer that is wrong is said to be, and still timed.
    """
    judged: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="apr-bench-") as folder:
        expected = _reference_logits(reference, model, token_ids, Path(folder))
        for name, (child, _) in children.items():
            try:
                actual = _logits(child, token_ids, Path(folder))
            except AprError as error:
                say(f"  {error}")
                continue
            agreement = compare(expected[-len(actual) :], actual)
            is_same = agreement.is_same_model(child.contestant.kl_limit)
            judged[name] = {**asdict(agreement), "is_same_model": is_same}
            say(
                f"  {name}: KL {agreement.kl_div:.2g}, top-1 {agreement.top1_agreement:.3f}"
                + ("" if is_same else " WRONG")
            )
            if child.contestant.is_ours and not is_same:
                raise SystemExit(
                    f"{name} does not compute {model.name}: {agreement}; a fast wrong answer is not a number"
                )
    return judged


def common_prefix(sequences: Iterable[Sequence[int]]) -> int:
    """How many tokens at the beginning are the same in all."""
    count = 0
    for tokens in zip(*sequences, strict=False):
        if len(set(tokens)) > 1:
            break
        count += 1
    return count


def _reference_logits(reference: Contestant, model: Path, token_ids: Sequence[int], folder: Path) -> np.ndarray:
    key = reference.name, model, tuple(token_ids)
    if key not in _REFERENCES:
        with loaded([reference], model) as children:
            child, _ = children[reference.name]
            _REFERENCES[key] = _logits(child, token_ids, folder)
    return _REFERENCES[key]


def _logits(child: Child, token_ids: Sequence[int], folder: Path) -> np.ndarray:
    out = folder / "logits.npy"
    child.ask("logits", token_ids=list(token_ids), out=str(out))
    logits: np.ndarray = np.load(out)
    return logits


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    log_probabilities: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return log_probabilities
