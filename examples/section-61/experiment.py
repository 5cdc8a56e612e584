"""The runs: each question under each subject, what the model really saw, and what records allow to be compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from questions import QUESTIONS, Question

from apr.engines._record import RunRecord
from apr.engines._subject import Subject
from apr.errors import AprError
from apr.parity.records import RecordComparison, compare_records

GGUF, APR, LLAMA = "GGUF", ".apr", "llama.cpp"
# what may differ between the GGUF under our engine and each of the others
UNDER_TEST = {APR: ("model",), LLAMA: ("engine", "precision")}


@dataclass(frozen=True, slots=True)
class Seen:
    """One run.

    decision, reason:  what was done about the template
    complaint:         what is wrong with the answer; None if it is clean
    """

    question: str
    called: str
    typed: str
    subject: str
    engine: str
    decision: str
    reason: str
    prompt_token_ids: tuple[int, ...]
    output_token_ids: tuple[int, ...]
    text: str
    finish_reason: str
    complaint: str | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """One run compared with the same question to the GGUF under our engine."""

    question: str
    subject: str
    comparison: RecordComparison


@dataclass(frozen=True, slots=True)
class Prediction:
    """PRED-61-A or -B: what was asked of what, and what came of it. verdict: GREEN if the text is clean, else RED."""

    id: str
    experiment: str
    observed: str
    verdict: str


@dataclass(frozen=True, slots=True)
class Runs:
    """All of it.

    unlike:   questions for which llama.cpp's own template and tokenizer make other ids; None if it could not be asked
    skipped:  subjects that could not run, and why
    """

    seen: tuple[Seen, ...]
    agreements: tuple[Agreement, ...]
    predictions: tuple[Prediction, ...]
    unlike: tuple[str, ...] | None
    skipped: dict[str, str]


def prompt_of(subject: Subject, question: Question) -> str:
    """The text that is handed over."""
    if question.way != "rendered":
        return question.text
    template = subject.template
    assert template is not None, "main asks for a model with a template"
    return template.render([{"role": "user", "content": question.text}]).text


def ask(subject: Subject, question: Question, *, max_tokens: int) -> RunRecord:
    """One run, through the generation that `apr run` uses."""
    regime = "raw" if question.way == "raw" else "auto"
    return subject.language_model.generate(prompt_of(subject, question), regime=regime, max_tokens=max_tokens)


def run_all(subjects: dict[str, Subject], *, max_tokens: int) -> Runs:
    """Every question to every subject, one subject loaded at a time; a subject that cannot run is skipped, with its reason."""
    records: dict[tuple[str, str], RunRecord] = {}
    skipped: dict[str, str] = {}
    for name, subject in subjects.items():
        try:
            for question in QUESTIONS:
                records[name, question.id] = ask(subject, question, max_tokens=max_tokens)
        except AprError as exc:
            if name == GGUF:
                raise
            skipped[name] = str(exc)
        subject.unload()
    return Runs(
        seen=tuple(
            _seen(q, name, records[name, q.id]) for q in QUESTIONS for name in subjects if (name, q.id) in records
        ),
        agreements=tuple(
            Agreement(q.id, name, compare_records(records[GGUF, q.id], records[name, q.id], under_test=allowed))
            for q in QUESTIONS
            for name, allowed in UNDER_TEST.items()
            if (name, q.id) in records
        ),
        predictions=tuple(_predictions(records)),
        unlike=None if LLAMA in skipped else tuple(_unlike(subjects[LLAMA], records)),
        skipped=skipped,
    )


def _unlike(subject: Subject, records: dict[tuple[str, str], RunRecord]) -> Iterator[str]:
    """The questions for which an engine's own way to token ids gives others than the record has."""
    voice = subject.voice
    for question in QUESTIONS:
        text = prompt_of(subject, question)
        record = records[LLAMA, question.id]
        if record.template.decision == "applied":
            text = voice.render([{"role": "user", "content": text}]) or ""
        ids = voice.encode(text) if record.template.decision == "raw" else voice.encode_rendered(text)
        if tuple(ids) != record.prompt_token_ids:
            yield question.id


def _seen(question: Question, subject: str, record: RunRecord) -> Seen:
    return Seen(
        question=question.id,
        called=question.called,
        typed=question.text,
        subject=subject,
        engine=record.engine,
        decision=record.template.decision,
        reason=record.template.reason,
        prompt_token_ids=record.prompt_token_ids,
        output_token_ids=record.output_token_ids,
        text=record.text,
        finish_reason=record.finish_reason,
        complaint=question.wrong(record.text),
    )


def _predictions(records: dict[tuple[str, str], RunRecord]) -> list[Prediction]:
    """Each as the specification ran it, and as it meant it."""
    asked: Sequence[tuple[str, str, str]] = (
        ("PRED-61-A", GGUF, "chat, rendered"),
        ("PRED-61-A", LLAMA, "chat, rendered"),
        ("PRED-61-B", APR, "continuation, as run"),
        ("PRED-61-B", APR, "continuation"),
    )
    by_id = {question.id: question for question in QUESTIONS}
    found = []
    for name, subject, question in asked:
        record = records.get((subject, question))
        if record is not None:
            complaint = by_id[question].wrong(record.text)
            verdict = "GREEN" if complaint is None else f"RED: {complaint}"
            found.append(Prediction(name, f"{subject}, {question}", record.text, verdict))
    return found
