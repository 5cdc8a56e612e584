"""What the links of a comparison measured, picked out for a reader: figures, marks, differences side by side.

Shared by the terminal's text and the page. Measures are read with `get`: an absent figure is a gap in a report, and
no reason for there to be no report. Every text that came from a model is made visible here or where it is shown.
"""

from __future__ import annotations

import difflib
import math
import shlex
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from apr.reports.text import _escaped, _plural, _quoted, visible

if TYPE_CHECKING:
    from apr.parity._link import Finding, LinkResult
    from apr.parity._report import ParityReport, WhyReport

State = Literal["same", "benign", "different", "not_comparable", "cannot_tell", "skipped"]
MARKS: dict[State, str] = {
    "same": "✓",
    "benign": "≈",
    "different": "✗",
    "not_comparable": "⊘",
    "cannot_tell": "?",
    "skipped": "-",
}
WORDS: dict[State, str] = {
    "same": "same",
    "benign": "benign",
    "different": "different",
    "not_comparable": "not comparable",
    "cannot_tell": "cannot tell",
    "skipped": "skipped",
}
# the characters that stand for invisible ones; themselves in a text, they are escaped, so that nothing can be mistaken
_MARKED = {" ": "·", "\n": "⏎", "\t": "→"}
_TAKEN = frozenset(_MARKED.values())
_NO_MARK = ("Cc", "Cf", "Cs", "Zl", "Zp", "Zs", "Co", "Cn")
_TOKENS_BEFORE = 6
_TOKENS_SHOWN = 48
_LONGEST_SLOT = 40
_CONTEXT = 3  # lines around a change, as diff -u has it


@dataclass(frozen=True, slots=True)
class Piece:
    """A token of one side of a difference.

    is_common:  whether the other side has it at this place too
    """

    text: str
    token_id: int | None
    is_common: bool


@dataclass(frozen=True, slots=True)
class TokenDiff:
    """The tokens of one text on both sides.

    n_before:      equal tokens that are not shown
    reference, candidate:  the tokens shown
    n_after_reference, n_after_candidate:  tokens behind them that are not shown
    """

    n_before: int
    reference: tuple[Piece, ...]
    candidate: tuple[Piece, ...]
    n_after_reference: int
    n_after_candidate: int


@dataclass(frozen=True, slots=True)
class DiffLine:
    """A line of a unified diff; `sign` is "+", "-", " ", or "@" for a heading. The text has its whitespace marked."""

    sign: str
    text: str


def state(result: LinkResult) -> State:
    """A link's verdict, drift told from defects."""
    return "benign" if result.verdict == "different" and result.is_benign else result.verdict


def state_of(report: ParityReport | WhyReport) -> State:
    """The verdict of all, drift told from defects."""
    return "benign" if report.verdict == "different" and report.benign else report.verdict


def marked(text: str) -> str:
    """Text with spaces, tabs and line breaks as signs, and whatever else cannot be seen as escapes."""
    return "".join(_marked(c) for c in text)


def number(value: object) -> str:
    """Three significant digits, or the whole number; a dash for what was not measured."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return visible(str(value))
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "-∞"
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e5:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    digits, _, exponent = f"{value:.2e}".partition("e")
    return f"{digits}e{int(exponent)}"


def interval(value: object) -> str:
    """Two ends as `lo to hi`; a single figure as itself."""
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2:
        return f"{number(value[0])} to {number(value[1])}"
    return number(value)


def percent(value: object) -> str:
    """A share of one as per cent."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return number(value)
    return f"{100 * value:.2f} %" if value != 1 else "100 %"


def rows(measure: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """A list of records inside a measure; what is no record is left out."""
    found = measure.get(key)
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list | tuple) else []


def regimes(measure: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The prompt regimes of a measure and what was measured under each."""
    found = measure.get("regimes")
    return [(name, row) for name, row in found.items() if isinstance(row, dict)] if isinstance(found, dict) else []


def apart(measure: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The runs of a generation's measure whose two texts part."""
    return [row for row in rows(measure, "runs") if row.get("first_divergence") is not None]


def real(row: Mapping[str, Any], key: str) -> float | None:
    """A figure of a record; None where it was not measured."""
    value = row.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def further_findings(result: LinkResult) -> list[Finding]:
    """The findings that the link's own sentence does not say already."""
    return [f for f in result.findings if not result.sentence.startswith(f.sentence)]


def ordinal(index: object) -> str:
    """The number of a token for a person, who counts from one; a dash for none."""
    return str(index + 1) if isinstance(index, int) and not isinstance(index, bool) else number(index)


def n_different(result: LinkResult) -> int:
    """How many texts or conversations differ; a measure may hold the first few only."""
    counts = [result.measure.get("n_different"), *(f.where.get("n_different") for f in result.findings)]
    return max([len(rows(result.measure, "differences")), *(n for n in counts if isinstance(n, int))])


def figure(result: LinkResult) -> str:
    """The one figure of a link that a reader looks at first; empty if it has none."""
    if result.link in _COUNTED:
        what, key = _COUNTED[result.link]
        n = result.measure.get(key)
        found = _differ(n_different(result), n, what) if isinstance(n, int) else ""
    else:
        found = _FIGURES[result.link](result.measure) if result.link in _FIGURES else ""
    if not found and len(result.findings) > 1:
        found = _plural(len(result.findings), "finding")
    return found


def verdict_line(report: ParityReport) -> str:
    """The verdict on all links, in a sentence."""
    by_state: dict[State, list[str]] = {}
    for result in report.links:
        by_state.setdefault(state(result), []).append(result.link)
    n_links = _plural(len(report.links), "link")
    bad = by_state.get("different", [])
    left = "; ".join(
        f"{WORDS[s]}: {', '.join(by_state[s])}" for s in ("not_comparable", "cannot_tell", "skipped") if s in by_state
    )
    if bad:
        said = f"{len(bad)} of {n_links} {'differs' if len(bad) == 1 else 'differ'}; the first is {bad[0]}"
    elif state_of(report) == "benign":
        said = "nothing is broken: what differs is the drift that rounding explains"
    elif report.verdict == "same":
        said = f"{len(by_state.get('same', []))} of {n_links} compared, and nothing differs"
    else:
        said = "no verdict on the whole"
    return f"{said} ({left})" if left else said


def all_clear(report: ParityReport | WhyReport) -> str | None:
    """That nothing is a defect, in a sentence; None unless that was found out."""
    if report.verdict == "different" and report.benign:
        return "This is benign: the drift is what rounding explains, and no defect was found."
    if report.verdict == "same" and report.reference is not None:
        return "Nothing differs: there is no defect to look for."
    return None


def next_command(report: ParityReport | WhyReport) -> str | None:
    """What to type after this report; None if there is nothing to ask."""
    if report.reference is None:
        return f"apr inspect {_file(report.candidate)} --metadata" if state_of(report) == "different" else None
    both = f"{_quoted(report.reference)} {_quoted(report.candidate)}"
    if report.schema.startswith("apr.parity/"):
        # kept runs and saved predictions hold no model to look into
        are_models = not any(key in r.measure for r in report.links for key in ("records", "statistics"))
        return f"apr why {both}" if are_models and state_of(report) == "different" else None
    assert report.schema.startswith("apr.why/")
    return _after_why(report, both) if report.verdict != "same" else None  # type: ignore[arg-type]


def token_diff(difference: Mapping[str, Any]) -> TokenDiff:
    """The tokens of one text on both sides, from shortly before they part."""
    ours, theirs = (_tokens(difference, side) for side in ("reference", "candidate"))
    n_equal = next(
        (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a[1] != b[1]), min(len(ours), len(theirs))
    )
    start = max(0, n_equal - _TOKENS_BEFORE)
    ends = [min(len(tokens), start + _TOKENS_SHOWN) for tokens in (ours, theirs)]
    windows = [tokens[start:end] for tokens, end in zip((ours, theirs), ends, strict=True)]
    ids = [[token_id for _, token_id in window] for window in windows]
    matcher = difflib.SequenceMatcher(a=ids[0], b=ids[1], autojunk=False)
    common: tuple[set[int], set[int]] = (set(), set())
    for block in matcher.get_matching_blocks():
        common[0].update(range(block.a, block.a + block.size))
        common[1].update(range(block.b, block.b + block.size))
    pieces = [
        tuple(Piece(text, token_id, i in known) for i, (text, token_id) in enumerate(window))
        for window, known in zip(windows, common, strict=True)
    ]
    return TokenDiff(start, pieces[0], pieces[1], len(ours) - ends[0], len(theirs) - ends[1])


def rendering_diff(difference: Mapping[str, Any]) -> list[DiffLine]:
    """What two templates made of one conversation, as a unified diff with its whitespace marked."""
    before, after = (_lines(difference.get(side)) for side in ("reference", "candidate"))
    found = []
    for line in list(difflib.unified_diff(before, after, lineterm="", n=_CONTEXT))[2:]:
        sign = "@" if line.startswith("@@") else line[0]
        found.append(DiffLine(sign, line if sign == "@" else line[1:]))
    return found


def distinct(differences: Sequence[dict[str, Any]]) -> list[tuple[dict[str, Any], int]]:
    """Renderings that differ, each change once, with how many further ones have the same change."""
    counted: dict[tuple[tuple[str, str], ...], tuple[dict[str, Any], int]] = {}
    for row in differences:
        change = tuple((line.sign, line.text) for line in rendering_diff(row) if line.sign in "+-")
        first, n_more = counted.get(change, (row, -1))
        counted[change] = (first, n_more + 1)
    return list(counted.values())


def where_rows(where: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The place of a finding, as names and values; long values cut in the middle."""
    return [(visible(str(key)), _short(value)) for key, value in where.items() if value is not None]


def around(text: object, other: object, *, reach: int = 60) -> tuple[str, str, str]:
    """A text where it leaves another: what comes before (cut), the rest from there (cut), and whether it was cut, as "…"."""
    ours, theirs = str(text or ""), str(other or "")
    n = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
    head, tail = ours[max(0, n - reach) : n], ours[n : n + reach]
    return ("…" if n > reach else "") + marked(head), marked(tail), "…" if len(ours) > n + reach else ""


def _marked(c: str) -> str:
    if c in _MARKED:
        return _MARKED[c]
    return _escaped(c) if c in _TAKEN or unicodedata.category(c) in _NO_MARK else c


def _lines(text: object) -> list[str]:
    """Lines with their ends as signs: a line break that only one side has is a difference too."""
    return [marked(line) for line in str(text or "").splitlines(keepends=True)] if text is not None else ["(nothing)"]


def _tokens(difference: Mapping[str, Any], side: str) -> list[tuple[str, int | None]]:
    ids = list(difference.get(f"{side}_ids") or ())
    texts = list(difference.get(f"{side}_tokens") or ())
    n = max(len(ids), len(texts))
    ids += [None] * (n - len(ids))
    texts += ["" if token_id is None else f"<{token_id}>" for token_id in ids[len(texts) :]]
    return [(marked(str(text)), token_id) for text, token_id in zip(texts, ids, strict=True)]


def _short(value: object, limit: int = 200) -> str:
    said = visible(str(value))
    return said if len(said) <= limit else f"{said[: limit // 2]} … {said[-limit // 2 :]}"


def _worst(measure: Mapping[str, Any], key: str) -> tuple[str, float] | None:
    found = [(name, value) for name, row in regimes(measure) if (value := real(row, key)) is not None]
    return max(found, key=lambda item: (not math.isfinite(item[1]), item[1])) if found else None


def _weights(measure: Mapping[str, Any]) -> str:
    n, exact, rounded = (measure.get(key) for key in ("n_tensors", "n_exact", "n_rounded"))
    if not isinstance(n, int) or not isinstance(exact, int):
        return ""
    return f"{exact} of {n} exact" + (f", {rounded} rounded" if rounded else "")


def _activations(measure: Mapping[str, Any]) -> str:
    slots = rows(measure, "slots")
    bad = [row for row in slots if row.get("is_bad")]
    known = [(value, str(row.get("slot"))) for row in bad or slots if (value := real(row, "local")) is not None]
    if not known:
        return ""
    value, slot = known[0] if bad else max(known, key=lambda item: (not math.isfinite(item[0]), item[0]))
    return f"{number(value)} at {visible(slot)[:_LONGEST_SLOT]}" if value else "no error"


def _logits(measure: Mapping[str, Any]) -> str:
    if "statistics" in measure:
        mean, agreed = (measure["statistics"][name][0] for name in ("Mean    KLD", "Same top p"))
        return f"KL {number(mean)}, top-1 {percent(agreed / 100.0)}"
    kl, agreed = _worst(measure, "kl_mean"), [real(row, "top1_agreement") for _, row in regimes(measure)]
    if kl is None:
        return ""
    shares = [share for share in agreed if share is not None]
    return f"KL {number(kl[1])}" + (f", top-1 {percent(min(shares))}" if shares else "")


def _generation(measure: Mapping[str, Any]) -> str:
    counted = [(row.get("n_identical"), row.get("n")) for _, row in regimes(measure)]
    known = [(a, n) for a, n in counted if isinstance(a, int) and isinstance(n, int)]
    return f"{sum(a for a, _ in known)} of {sum(n for _, n in known)} identical" if known else ""


def _differ(n_bad: int, n: int, what: str) -> str:
    return f"{n_bad} of {_plural(n, what)} {'differs' if n_bad == 1 else 'differ'}"


# link -> what is counted, and the key of how many there are
_COUNTED = {"template": ("rendering", "n_conversations"), "tokens": ("text", "n_texts")}
_FIGURES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "weights": _weights,
    "activations": _activations,
    "logits": _logits,
    "generation": _generation,
}


def _after_why(report: WhyReport, both: str) -> str:
    """The command that shows more of what is broken."""
    candidate = _file(report.candidate)
    tensor = report.where.get("tensor")
    if report.verdict != "different" or report.benign:
        return f"apr parity {both} --html parity.html"
    if report.link == "file":
        return f"apr validate {candidate}"
    if report.link == "weights" and isinstance(tensor, str):
        return f"apr tensors {candidate} --stats"
    if report.link in ("metadata", "tokenizer", "template"):
        return f"apr inspect {candidate} --metadata"
    return f"apr parity {both} --html parity.html"


def _file(subject: str) -> str:
    """A subject as a command takes it that looks at files only: without its engine."""
    from apr.engines._subject import parse

    return visible(shlex.quote(parse(subject).reference))
