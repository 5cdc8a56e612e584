"""Several generations at once, as text for a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from apr.reports._style import paint
from apr.reports.text import _aside, _plural, visible

if TYPE_CHECKING:
    from apr.engines._prompt import Prompt

_DECISIONS = {"applied": "chat template applied", "raw": "raw", "pre-formatted": "sent as they are"}


def heading(name: str) -> str:
    """The line above one of several texts, as `head` and `tail` have it."""
    return paint(f"==> {visible(name)} <==", "bold")


def prompts_line(prompts: Sequence[Prompt], *, batch_size: int) -> str:
    """What was done about the chat template, and how many run together, in one line for standard error."""
    decided = Counter(prompt.decision for prompt in prompts)
    done = ", ".join(
        f"{_DECISIONS[decision]}" + (f" to {n}" if len(decided) > 1 else "") for decision, n in decided.items()
    )
    n_tokens = sum(len(prompt.token_ids) for prompt in prompts)
    together = min(batch_size, len(prompts))
    counted = f"{_plural(len(prompts), 'prompt')}, {_plural(n_tokens, 'prompt token')}"
    return _aside(f"{counted}, {together} at a time; {done}")


def batch_line(*, n_ended: int, n_prompts: int, n_tokens: int, seconds: float, load_s: float) -> str:
    """Counts and the rate of all together, in one line for standard error."""
    parts = [_plural(n_tokens, "token")]
    if n_ended < n_prompts:
        parts[0] += f", interrupted after {n_ended} of {_plural(n_prompts, 'prompt')}"
    if seconds and n_tokens:
        parts.append(f"{n_tokens / seconds:.1f} tok/s, prefill included")
    return _aside("; ".join([*parts, f"load {load_s:.2f} s"]))
