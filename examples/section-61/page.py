"""The report as Markdown, for a terminal and, with the story around it, for docs/section-61.md."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from curves import Candidate, Curves, Line, Ratio
from experiment import GGUF, Runs
from faults import WrongGate, WrongPositions
from result import Result

LEVELS = "▁▂▃▄▅▆▇█"
LOWEST, STEP = 0.03, 3.0  # logits: below the first all is ▁, and each level is three times the one before
WIDTH = 110

STORY = {
    "": """Section 61 of SPEC-SHIP-TWO-001 meets a model that answers well in one way and writes gibberish in another, after every
layer had been shown to agree with its original. It explains: a direct prompt has wide margins and survives the small
drift of the copy, a ChatML prompt has narrow ones, and the drift compounds with each token. Two predictions are to decide.
No margin, no drift and no token of divergence was ever measured, and the explanation was wrong: the gate that saw gibberish ran
another engine than the command that wrote well. This page runs the experiment on a model of today, with what was not
measured measured, and then plants the two faults of the story to see whether they are called what they are.""",
    "What each run saw": """The record of a run holds the exact ids that went in and what was done about the template. Section 61's working
case, `apr run --prompt "def fib(n):"`, is listed there as a direct prompt. A command that applies templates wraps it in ChatML, as
the one of that time did without a word; so the contrast between a direct prompt and ChatML was none. The same goes for
PRED-61-B. The rendered prompt of PRED-61-A was wrapped a second time then; here it is recognised and sent as it is.""",
    "The predictions": """A text is clean if it answers: the number four (14 is not four), or a function `fib` that parses and returns
something. Section 61 concludes that the fault is on the copy's side, in the template's handling, if A is clean, and in the handling of special
tokens if B is. It found A red and B green, which neither conclusion covers: the original had a fault of its own, a GPU product that
read its matrix transposed. Here both run on the CPU.""",
    "One question, three ways": """The GGUF under this engine is the reference; what may differ is said, and if anything else did, the two would not be
comparable. The `.apr` is a conversion that decodes every block, so it holds the same numbers: only the model is under test.""",
    "Margin and drift, step by step": """Margin is the distance in logits between the two best tokens of the reference. Drift is how much of it a candidate
uses up, on the reference's own tokens: max over all others of the error that they have more than the best token. A token
flips only where drift reaches the margin. Both on one logarithmic scale, one character a step.""",
    "Flips by margin": """All prompts together. Predicted is what the drift of *other* prompts does to each step's own logits: that drift
exceeded the margin where a token flipped is true by definition, and explains nothing.""",
    "Do low margins explain anything?": "",
    "A gate that runs another engine": """The golden question through `apr run`, and through a gate that loads the same file into an engine of its own, which
turns positions by another base. The gate's text is bad and the model is blamed. The records say which runs these were.""",
    "Seven positions against one": """Before section 61, the spread of one slot was compared between two engines and found 18 times too large: one
side pooled all positions of the prompt, the other had the last alone. Here both sides are one model under one engine, so that whatever the
ratio is, no defect made it.""",
}


def render(result: Result, *, story: str) -> str:
    """Markdown. story: "told" for the page in docs, "left out" for a terminal."""
    parts = [f"# Section 61, replayed on {result.model}"]
    for title, body in _sections(result):
        level = "###" if title in ("A gate that runs another engine", "Seven positions against one") else "##"
        parts += [f"{level} {title}"] if title else []
        parts += [STORY[title]] if story == "told" and STORY.get(title) else []
        parts += body
    return "\n\n".join(parts) + "\n"


def _sections(result: Result) -> Iterator[tuple[str, list[str]]]:
    yield "", [result.summary]
    yield "What each run saw", _saw(result.runs)
    yield "The predictions", _predictions(result.runs)
    yield "One question, three ways", _agreements(result.runs)
    yield "Margin and drift, step by step", [_strips(result.curves.lines)]
    yield "Flips by margin", [_bands(result.curves.candidates)]
    yield "Do low margins explain anything?", [_kinds(result.curves), _answers(result.curves, result.runs)]
    yield "The two faults, planted", []
    yield "A gate that runs another engine", _gate(result.gate)
    yield "Seven positions against one", _positions(result.positions)
    yield "Run it", [_how(result)]


def _saw(runs: Runs) -> list[str]:
    ours = [seen for seen in runs.seen if seen.subject == GGUF]
    rows = [(s.question, f"`{_inline(s.typed)}`", s.called, s.decision, str(len(s.prompt_token_ids))) for s in ours]
    ids = [f"{s.question}: {' '.join(map(str, s.prompt_token_ids))}" for s in ours]
    wrapped = "\n".join(line for text in ids for line in textwrap.wrap(text, WIDTH, subsequent_indent="    "))
    if runs.unlike is None:
        own = []
    else:
        like = len(ours) - len(runs.unlike)
        own = [f"llama.cpp's own template and tokenizer make the same ids in {like} of {len(ours)} runs."]
    head = ("run", "typed", "section 61 calls it", "template", "ids")
    return [table(head, rows), f"```text\n{wrapped}\n```", *own]


def _predictions(runs: Runs) -> list[str]:
    rows = [(p.id, p.experiment, f"`{_inline(p.observed)}`", p.verdict) for p in runs.predictions]
    return [table(("prediction", "run", "text", "verdict"), rows), *_skips(runs.skipped)]


def _agreements(runs: Runs) -> list[str]:
    rows = [
        (a.question, f"{GGUF} and {a.subject}", a.comparison.verdict, a.comparison.sentence) for a in runs.agreements
    ]
    by_text: dict[tuple[str, str, str], list[str]] = {}
    for s in runs.seen:
        by_text.setdefault((s.question, s.complaint or "clean", s.text), []).append(s.subject)
    texts = [(question, ", ".join(by), said, f"`{_inline(text)}`") for (question, said, text), by in by_text.items()]
    return [
        table(("run", "between", "verdict", "because"), rows),
        table(("run", "by", "answer", "text"), texts),
    ]


def _strips(lines: Sequence[Line]) -> str:
    out = [
        f"one step a character; {LEVELS[0]} is below {LOWEST} logits, each level above is {STEP:g} times the one before"
    ]
    for line in lines:
        names = ["margin", *(f"drift of {name}" for name in line.drift)]
        width = max(map(len, names))
        out += ["", f"{line.kind}: {_inline(line.prompt)}"]
        for name, values in zip(names, (line.margin, *line.drift.values()), strict=True):
            out.append(f"  {name:<{width}}  {strip(values):<48}  {min(values):.2g} to {max(values):.3g}")
        out.append(f"  {'text':<{width}}  {_inline(''.join(line.tokens), 72)}")
    return "```text\n" + "\n".join(out) + "\n```"


def strip(values: Iterable[float]) -> str:
    """A character a value, on a logarithmic scale."""
    return "".join(LEVELS[_level(value)] for value in values)


def _level(value: float) -> int:
    if math.isnan(value) or value < LOWEST:
        return 0
    return min(len(LEVELS) - 1, 1 + int(math.log(value / LOWEST, STEP))) if math.isfinite(value) else len(LEVELS) - 1


def _bands(candidates: Sequence[Candidate]) -> str:
    """A row a band; of each candidate, the flips and, in brackets, those predicted."""
    rows = []
    for bands in zip(*(candidate.bands for candidate in candidates), strict=True):
        band = bands[0]
        to = "and more" if band["to"] is None else f"to {band['to']:g}"
        counts = [
            f"{b['flips']} ({b['predicted']:.1f}) {'█' * round(20 * b['flips'] / max(b['n'], 1))}".rstrip()
            for b in bands
        ]
        rows.append((f"{band['from']:g} {to}", str(band["n"]), *counts))
    return table(("margin", "steps", *(f"flips (predicted) of {candidate.name}" for candidate in candidates)), rows)


def _kinds(curves: Curves) -> str:
    names = [candidate.name for candidate in curves.candidates]
    rows = [
        (
            kind.kind, str(kind.n_prompts), str(kind.n_steps), *(f"{kind.margin[q]:.2g}" for q in ("p5", "p25", "p50", "p75")),
            *(str(kind.n_in_reach[name]) for name in names),
        )
        for kind in curves.kinds
    ]  # fmt: skip
    reach = [f"within p99 drift of {name}" for name in names]
    return table(("kind", "prompts", "steps", "margin p5", "p25", "p50", "p75", *reach), rows)


def _answers(curves: Curves, runs: Runs) -> str:
    told = [
        f"**Are margins lower under ChatML?** {_than(curves.chat_over_direct, 'ChatML', 'direct')}"
        f" {_than(curves.continuation_over_direct, 'Continuations', 'direct')}"
    ]
    for c in curves.candidates:
        share = f"{c.n_flips} of {c.n_steps} steps" + (
            "" if c.highest is None else f", at margins up to {c.highest:.2g}"
        )
        told.append(
            f"**{c.name}:** drift {c.drift['p50']:.2g} at the median, {c.drift['p99']:.2g} at p99, {c.drift['max']:.2g} at most. "
            f"The error of late steps is {_ratio(c.growth)} that of early ones: {_trend(c.growth)}. "
            f"Flips: {share}; {c.verdict}: {c.sentence}."
        )
    told += [_conclusion(curves, runs), *_skips(curves.skipped)]
    return "\n".join(f"- {line}" for line in told)


def _conclusion(curves: Curves, runs: Runs) -> str:
    """What the counts say of section 61's explanation, whichever way they fall."""
    n_flips = sum(c.n_flips for c in curves.candidates)
    highest = max((c.highest for c in curves.candidates if c.highest is not None), default=None)
    n_steps = sum(kind.n_steps for kind in curves.kinds)
    clean = {seen.question for seen in runs.seen if seen.subject == GGUF and seen.complaint is None}
    n_spoiled = sum(seen.question in clean and seen.complaint is not None for seen in runs.seen)
    n_parted = sum(agreement.comparison.verdict == "different" for agreement in runs.agreements)
    if highest is None:
        where = f"No candidate flipped at any of {n_steps} steps."
    else:
        benign = all(c.verdict == "benign" for c in curves.candidates)
        where = (
            f"All {n_flips} flips lie at margins up to {highest:.2g}, as {curves.n_below_highest} of {n_steps} steps do: "
            f"low margins say where a token may turn, and drift explains {'every' if benign else 'not every'} count."
        )
    spoiled = "and none that is clean in the reference is spoiled" if not n_spoiled else f"and {n_spoiled} are spoiled"
    return f"**So:** {where} Of {len(runs.agreements)} answers beside the reference's own, {n_parted} take another turn, {spoiled}."


def _than(ratio: Ratio, one: str, other: str) -> str:
    if ratio.low <= 1 <= ratio.high:
        return f"{one} against {other}: not shown; the ratio of margins is {_ratio(ratio)}."
    return (
        f"{one} against {other}: {'higher' if ratio.value > 1 else 'lower'}; the ratio of margins is {_ratio(ratio)}."
    )


def _trend(ratio: Ratio) -> str:
    if ratio.low <= 1 <= ratio.high:
        return "no growth is shown"
    return "it grows" if ratio.value > 1 else "it shrinks"


def _ratio(ratio: Ratio) -> str:
    return f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"


def _gate(gate: WrongGate) -> list[str]:
    rows = [
        ("`apr run`", f"`{_inline(gate.run_text)}`", gate.run_complaint or "clean"),
        ("the gate", f"`{_inline(gate.gate_text)}`", gate.gate_complaint or "clean"),
    ]
    at, reached = gate.diverged.first_divergence, gate.diverged.reference_margin
    if at is None or reached is None:
        told = "- The outputs do not part, so that there is nothing for drift to explain."
    else:
        flips = ", ".join(f"{'none' if m is None else f'{m:.2g}'} ({name})" for name, m in gate.highest.items())
        told = (
            f"- Would drift explain it? They part at token {at}, where the margin is {reached:.3g} logits. The largest margins at "
            f"which measured drift turned a token are {flips}."
        )
    return [
        table(("who", "text", "answer"), rows),
        f"- The records: **{gate.verdict.verdict}**, cause **{gate.verdict.cause}**: {gate.verdict.sentence}.\n{told}\n"
        f"- The gate through the generation of `apr run`: **{gate.repaired.verdict}**: {gate.repaired.sentence}.",
    ]


def _positions(found: WrongPositions) -> list[str]:
    ids = " ".join(map(str, found.prompt_token_ids))
    rows = [
        (f"`{s.slot}`", why, f"{s.pooled:.3g}", f"{s.first:.3g}", f"{s.last:.3g}", f"{s.ratio:.3g}")
        for s, why in ((found.named, "section 60's"), (found.largest, "the largest ratio"))
    ]
    n = len(found.prompt_token_ids)
    return [
        f"Standard deviations over the {n} ids {ids}:",
        table(("slot", "which", "all positions", "the first", "the last", "all / last"), rows),
        f"- The traces compared: **{found.verdict.verdict}**: {found.verdict.sentence}.\n"
        f"- The same positions on both sides: **{found.alike.verdict}**: {found.alike.sentence}.",
    ]


def _how(result: Result) -> str:
    ran = f"This page: {result.command} on {result.machine}."
    return f"```console\n$ python examples/section-61/replay.py\n$ python examples/section-61/replay.py --model smollm2\n```\n\n{ran}"


def _skips(skipped: dict[str, str]) -> list[str]:
    return [f"{name} was skipped: {reason}" for name, reason in skipped.items()]


def _inline(text: str, limit: int = 60) -> str:
    """Text that fits into a cell: breaks and bars made visible, backticks taken out, cut to `limit` characters."""
    shown = text.replace("\n", "⏎").replace("`", "'").replace("|", "¦")
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its columns aligned for reading as it is."""
    lines = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    padded = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |" for line in lines]
    return "\n".join([padded[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *padded[1:]])
