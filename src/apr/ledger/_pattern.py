"""Regular expressions of contracts and predictions, as hostile input: what they may be, and a search that ends.

The language is that of Python's `re`, which says what is none. `re` cannot be stopped, so the package regex searches, which can.
Where the two read the same text otherwise, it is refused (a set within a set) or escaped (`{e}`, which is text in `re`).
"""

from __future__ import annotations

import math
import re
import warnings

from apr.errors import UsageError

LIMIT_S = 1.0
LONGEST = 1000
# regex writes `(ab){n}` out n times, nested ones their product: half a million characters are compiled in 0.5 s and 150 MB
_MOST_WRITTEN_OUT = 500_000
_COUNT = re.compile(r"\{(\d+)(?:,\d*)?\}")
_POSIX = re.compile(r"\[:\^?\w+:\]")
_BRACE = re.compile(r"(\\.)|\{(?!(?:\d+(?:,\d*)?|,\d*)\})", re.DOTALL)


def problem(pattern: object) -> str:
    """Why something is no regular expression that is searched for; empty if it is one."""
    if not isinstance(pattern, str):
        return "is no text"
    if len(pattern) > LONGEST:
        return f"has {len(pattern):,} characters, expected at most {LONGEST:,}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)
            re.compile(pattern)
    except FutureWarning as exc:
        return f"can be read in two ways ({exc}); write a backslash before the character"
    except (re.error, OverflowError, RecursionError) as exc:
        return f"is no regular expression: {exc}"
    if posix := _POSIX.search(pattern):
        return f"can be read in two ways ({posix[0]}); write the characters that are meant"
    if len(pattern) * math.prod(max(1, int(n)) for n in _COUNT.findall(pattern)) > _MOST_WRITTEN_OUT:
        return f"has counts that come to over {_MOST_WRITTEN_OUT:,} characters, multiplied; write smaller ones"
    return ""


def is_found(pattern: str, text: str) -> bool:
    """Whether a text holds what a pattern describes. Raises UsageError if it is no pattern, or no answer comes in LIMIT_S."""
    import regex

    if said := problem(pattern):
        raise UsageError(f"the pattern {pattern!r} {said}")
    read_alike = _BRACE.sub(lambda found: found[1] or r"\{", pattern)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return regex.search(read_alike, text, timeout=LIMIT_S) is not None
    except TimeoutError as exc:
        raise UsageError(
            f"the pattern {pattern!r} gave no answer in {LIMIT_S:g} s; a repeat within a repeat tries every split of"
            " the text: write it as one"
        ) from exc
    except (regex.error, RecursionError, MemoryError) as exc:
        raise UsageError(f"the pattern {pattern!r} cannot be searched for: {exc}; write a simpler one") from exc
