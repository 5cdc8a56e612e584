"""Link "tokenizer": the tables that turn text into ids, compared under one spelling.

Reported is what changes something: every difference comes with a text that shows it, or is one of rules (BOS, special
ids) whose use is plain. The rest goes to the notes. Whether engines follow the tables is the token link's question.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from apr.engines._subject import Subject
from apr.errors import AprError, FormatError, TokenizerError, UnsupportedError
from apr.parity import _single_tokenizer, _tokenizer_tables
from apr.parity._batteries import TEXTS
from apr.parity._causes import Cause
from apr.parity._link import Finding, LinkResult, different, same, undecided
from apr.parity._pair import Pair
from apr.parity._tokenizer_tables import Tables, Witness, family, is_unused, role
from apr.tokenizer import pre
from apr.tokenizer.spec import TokenizerSpec

LINK = "tokenizer"
_READ_ERRORS = (FormatError, UnsupportedError, TokenizerError)
# the parts of a tokenizer as the formats spell them
_KEYS = {
    "gguf": {"tokens": "tokenizer.ggml.tokens", "merges": "tokenizer.ggml.merges", "pre": "tokenizer.ggml.pre"},
    "apr": {"tokens": "tokenizer.vocabulary", "merges": "tokenizer.merges", "pre": "tokenizer.pre_type"},
}
_ROLES_TRIED = 40


def compare(pair: Pair) -> LinkResult:
    """Vocabulary, merges, split rule, special tokens, BOS and EOS rules.

    measure:  "n_tokens" and "kinds" of both sides, "n_merges", "notes": what differs and shows in no text
    """
    try:
        reference = pair.reference.spec
        pair.reference.tokenizer  # noqa: B018 - made here, so that what fails below is the candidate's
    except _READ_ERRORS as exc:
        return undecided(LINK, "not_comparable", f"the reference's tokenizer cannot be read: {exc}")
    try:
        pair.candidate.config  # noqa: B018 - as above
    except _READ_ERRORS as exc:
        reason = f"the candidate's configuration cannot be read, so its tokenizer was not: {exc}"
        return undecided(LINK, "cannot_tell", reason)
    notes: list[str] = []
    try:
        candidate = pair.candidate.spec
    except (TokenizerError, UnsupportedError) as exc:
        return different(LINK, [_unreadable(pair.candidate, exc)])
    tables = Tables.of(reference, candidate)
    try:
        pair.candidate.tokenizer  # noqa: B018
    except (
        TokenizerError,
        UnsupportedError,
    ) as exc:  # merges that name entries which are gone: the entries are at fault
        return different(LINK, list(_vocabulary(tables, notes)) or [_unreadable(pair.candidate, exc)])
    findings = list(_differences(pair, tables, notes))
    measure = {
        "n_tokens": [len(reference.tokens), len(candidate.tokens)],
        "n_merges": [len(reference.merges), len(candidate.merges)],
        "kinds": [reference.kind, candidate.kind],
        "notes": notes,
    }
    if findings:
        return different(LINK, findings, measure)
    n_tokens = min(len(reference.tokens), len(candidate.tokens))
    return same(LINK, f"the tables are the same: {n_tokens} tokens, {len(candidate.merges)} merges", measure)


def force(pair: Pair, findings: Sequence[Finding]) -> Subject:
    """The candidate with the reference's tables; with its stop ids, too, where a wrong eos id was found."""
    forced = pair.candidate.with_tokenizer(pair.reference)
    if any(finding.where.get("key") == "eos_token_id" for finding in findings):
        return forced.with_stop(pair.reference.stop_token_ids)
    return forced


def examine(subject: Subject) -> LinkResult:
    """One tokenizer by itself: it can be read, its special ids are special, and it is as its family was published."""
    try:
        subject.config  # noqa: B018
    except _READ_ERRORS as exc:
        return undecided(LINK, "cannot_tell", f"the configuration cannot be read, so the tokenizer was not: {exc}")
    try:
        subject.tokenizer  # noqa: B018
    except (TokenizerError, UnsupportedError) as exc:
        return different(LINK, [_unreadable(subject, exc)])
    return _single_tokenizer.judge(subject)


def _differences(pair: Pair, tables: Tables, notes: list[str]) -> Iterator[Finding]:
    yield from _vocabulary(tables, notes)
    yield from _rows(pair.candidate, notes)
    yield from _merges(tables, notes)
    yield from _split_rule(pair, tables, notes)
    yield from _roles(tables, notes)
    yield from _ends(tables)
    yield from _special_ids(pair, notes)


def _vocabulary(tables: Tables, notes: list[str]) -> Iterator[Finding]:
    reference, candidate = tables.reference, tables.candidate
    mine, theirs = _entries(reference, tables), _entries(candidate, tables)
    n = min(len(mine), len(theirs))
    wrong: dict[Cause, list[int]] = {}
    n_dead = 0
    for i in [i for i in range(n) if mine[i] != theirs[i]]:
        if is_unused(reference, i) and is_unused(candidate, i):
            n_dead += 1
        else:
            wrong.setdefault(_kind_of_loss(reference, candidate, i), []).append(i)
    if n_dead:
        notes.append(f"{n_dead} unused entries have other names")
    for cause, ids in wrong.items():
        i = ids[0]
        sentence = f"token {i} is {theirs[i]!r} in the candidate and {mine[i]!r} in the reference{_and_more(len(ids), 'entries')}"
        where = {"token_id": i, "reference": mine[i], "candidate": theirs[i], "n_different": len(ids)}
        yield Finding(cause, sentence, where)
    longer, entries = (reference, mine) if len(mine) > n else (candidate, theirs)
    beyond = [i for i in range(n, len(entries)) if not is_unused(longer, i)]
    if beyond:
        i = beyond[0]
        is_lost = longer is reference
        cause = "tokenizer.special" if role(longer, i) == "control" else "tokenizer.vocab"
        sentence = f"token {i} ({entries[i]!r}) is only in the {'reference' if is_lost else 'candidate'}{_and_more(len(beyond), 'tokens')}"
        sides = {"reference": entries[i] if is_lost else None, "candidate": None if is_lost else entries[i]}
        yield Finding(cause, sentence, {"token_id": i, "n_different": len(beyond), **sides})
    elif len(entries) > n:
        notes.append(f"{len(mine)} and {len(theirs)} entries: the rest is padding")


def _rows(subject: Subject, notes: list[str]) -> Iterator[Finding]:
    """The vocabulary against the rows of the embedding. llama.cpp refuses a GGUF file in which they differ in number."""
    n_tokens, n_rows = len(subject.spec.tokens), subject.config.vocab_size
    if n_tokens == n_rows:
        return
    sentence = f"the vocabulary has {n_tokens} entries for {n_rows} rows of the embedding"
    if n_tokens < n_rows and subject.file.format != "gguf":
        notes.append(f"{sentence}: the rest is padding that nobody wrote down")  # as upstream's importers leave it
        return
    where = {"key": "vocab_size", "reference": n_rows, "candidate": n_tokens, "token_id": min(n_tokens, n_rows)}
    yield Finding("tokenizer.padding", f"{sentence}: entries and rows do not stand for each other to the end", where)


def _entries(spec: TokenizerSpec, tables: Tables) -> list[str]:
    """The vocabulary; SentencePiece's spaces are spelled in two ways where only one side is tables."""
    tokens = list(spec.tokens)
    if tables.reference.kind == tables.candidate.kind or "bpe" in (tables.reference.kind, tables.candidate.kind):
        return tokens
    return [token.replace("▁", " ") for token in tokens]


def _kind_of_loss(reference: TokenizerSpec, candidate: TokenizerSpec, token_id: int) -> Cause:
    if is_unused(candidate, token_id):
        return "tokenizer.padding"
    is_special = "control" in (role(reference, token_id), role(candidate, token_id))
    return "tokenizer.special" if is_special else "tokenizer.vocab"


def _merges(tables: Tables, notes: list[str]) -> Iterator[Finding]:
    reference, candidate = tables.reference, tables.candidate
    if reference.kind != candidate.kind:
        notes.append("one side is a tokenizer.json that is no tables: the token link compares how they cut text")
        return
    mine, theirs = _tokenizer_tables.joins(reference), _tokenizer_tables.joins(candidate)
    at = _tokenizer_tables.first_difference(mine, theirs)
    if at is None and list(reference.scores) == list(candidate.scores):
        return
    if at is None:
        notes.append("the scores differ and say the same order")
        return
    texts = _tokenizer_tables.texts_for_joins(list(reference.tokens), mine, theirs)
    is_spm = reference.kind == "spm"
    parts = {"scores": candidate.scores} if is_spm else {"merges": candidate.merges}
    fits = not is_spm or len(candidate.scores) == len(reference.tokens)
    witness = tables.witness(tables.only(**parts) if fits else candidate, texts)
    n_lost, n_new = len(set(mine) - set(theirs)), len(set(theirs) - set(mine))
    said = [side[at] if at < len(side) else None for side in (mine, theirs)]
    by = ", as its scores say," if is_spm else ""
    sentence = (
        f"what is joined in place {at} is {said[1]!r} in the candidate{by} and {said[0]!r} in the reference "
        f"({n_lost} merges lost, {n_new} new)"
    )
    where = {"rank": at, "reference": said[0], "candidate": said[1], "n_lost": n_lost, "n_new": n_new}
    yield from _shown("tokenizer.merges", sentence, where, witness, notes)


def _split_rule(pair: Pair, tables: Tables, notes: list[str]) -> Iterator[Finding]:
    """How a text is prepared and cut into words before anything is joined."""
    reference, candidate = tables.reference, tables.candidate
    families = family(reference), family(candidate)
    if None in families:
        notes.append("a split rule without a name: the token link compares what it does")
    elif families[0] != families[1]:
        key = _KEYS.get(pair.candidate.file.format, {}).get("pre", "pre_tokenizer")
        texts = _tokenizer_tables.texts_for_cuts(tables) if tables.are_alike else TEXTS
        yield from _rule(tables, "pre", key, "text is cut into words by the rule", notes, texts=texts)
    if reference.add_space_prefix != candidate.add_space_prefix:
        yield from _rule(tables, "add_space_prefix", "add_space_prefix", "a space before a text is", notes)
    if reference.normalization != candidate.normalization:
        sides = (pair.reference, pair.candidate)
        unable = [side.name for side in sides if side.file.format == "gguf" and side.spec.normalization == "none"]
        if unable:  # no fault of the file
            notes.append(
                f"{unable[0]} does not compose text (NFC), which GGUF cannot say: decomposed text gets other ids"
            )
        else:
            yield from _rule(tables, "normalization", "normalization", "text is normalised by", notes)


def _rule(
    tables: Tables, part: str, key: str, said: str, notes: list[str], *, texts: Iterable[str] = TEXTS
) -> Iterator[Finding]:
    mine, theirs = getattr(tables.reference, part), getattr(tables.candidate, part)
    witness = tables.witness(tables.only(**{part: theirs}), texts)
    sentence = f"{said} {theirs!r} in the candidate, {mine!r} in the reference"
    where = {"key": key, "reference": mine, "candidate": theirs}
    yield from _shown("tokenizer.pre", sentence, where, witness, notes)


def _roles(tables: Tables, notes: list[str]) -> Iterator[Finding]:
    """Tokens that are control tokens on one side only, or matched whole on one side only."""
    reference, candidate = tables.reference, tables.candidate
    n = min(len(reference.tokens), len(candidate.tokens))
    mine, theirs = list(reference.token_types)[:n], list(candidate.token_types)[:n]
    if mine == theirs:
        return
    ids = [
        i for i in range(n) if role(reference, i) != role(candidate, i) and reference.tokens[i] == candidate.tokens[i]
    ]
    if not ids:
        return
    altered = tables.only(token_types=[*theirs, *list(reference.token_types)[n:]])
    tried = ids[:_ROLES_TRIED]
    witness = tables.witness(altered, _tokenizer_tables.texts_for_tokens(reference, tried), control=True)
    i = tried[0]
    if witness is not None:
        i = next((each for each in tried if reference.tokens[each] in witness.text), i)
    sentence = (
        f"token {i} ({reference.tokens[i]!r}) is {role(candidate, i)} in the candidate, {role(reference, i)} in the reference"
        f"{_and_more(len(ids), 'tokens')}"
    )
    where = {"token_id": i, "token": reference.tokens[i], "n_different": len(ids)}
    where |= {"reference": role(reference, i), "candidate": role(candidate, i)}
    yield from _shown("tokenizer.special", sentence, where, witness, notes)


def _ends(tables: Tables) -> Iterator[Finding]:
    """Whether BOS and EOS are put around a raw text."""
    for name in ("bos", "eos"):
        mine, theirs = (_put(spec, name) for spec in (tables.reference, tables.candidate))
        if mine is not None and theirs is not None and mine != theirs:
            sentence = f"a text {'begins' if name == 'bos' else 'ends'} with token {theirs} in the candidate, {mine} in the reference"
            where = {"key": f"{name}_token_id", "token_id": theirs, "reference": mine, "candidate": theirs}
            yield Finding("tokenizer.special", sentence, where)
        elif mine != theirs:
            does, token_id = ("leaves out", mine) if theirs is None else ("adds", theirs)
            behind = "before a text" if name == "bos" else "behind a text"
            other = "adds" if theirs is None else "does not add"
            sentence = (
                f"the candidate {does} the {name.upper()} token ({token_id}) {behind}, which the reference {other}"
            )
            where = {
                "key": f"add_{name}_token",
                "token_id": token_id,
                "reference": theirs is None,
                "candidate": theirs is not None,
            }
            yield Finding("tokenizer.bos", sentence, where)


def _put(spec: TokenizerSpec, name: str) -> int | None:
    token_id: int | None = getattr(spec, f"{name}_token_id")
    return token_id if getattr(spec, f"add_{name}") else None


def _special_ids(pair: Pair, notes: list[str]) -> Iterator[Finding]:
    """Ids whose use is not in the tables: a template may write them, and generation stops at eos."""
    reference, candidate = pair.reference.spec, pair.candidate.spec
    templates = f"{reference.chat_template}{candidate.chat_template}"
    for name in ("bos", "eos", "unk", "pad"):
        key = f"{name}_token_id"
        mine, theirs = getattr(reference, key), getattr(candidate, key)
        if mine == theirs or (getattr(reference, f"add_{name}", False) and getattr(candidate, f"add_{name}", False)):
            continue
        is_wrong_end = name == "eos" and theirs is not None and theirs not in pair.reference.stop_token_ids
        if is_wrong_end or f"{name}_token" in templates:
            sentence = (
                f"{key} is {_token(candidate, theirs)} in the candidate and {_token(reference, mine)} in the reference"
            )
            yield Finding(
                "tokenizer.special", sentence, {"key": key, "token_id": theirs, "reference": mine, "candidate": theirs}
            )
        else:
            notes.append(f"{key} is {theirs} in place of {mine}, and nothing uses it")


def _token(spec: TokenizerSpec, token_id: int | None) -> str:
    return "missing" if token_id is None else f"{token_id} ({spec.tokens[token_id]!r})"


def _shown(
    cause: Cause, sentence: str, where: dict[str, Any], witness: Witness | None, notes: list[str]
) -> Iterator[Finding]:
    """The finding if some text shows it, else a note."""
    if witness is None:
        notes.append(f"{sentence}: no text was found that shows it")
        return
    if witness.text:
        sentence += (
            f"; {witness.text!r} becomes {_ids(witness.candidate_ids)} in place of {_ids(witness.reference_ids)}"
        )
    yield Finding(cause, sentence, where | {"text": witness.text})


def _ids(token_ids: tuple[int, ...]) -> str:
    if not token_ids:
        return "nothing"
    return f"{list(token_ids[:8])}{' …' if len(token_ids) > 8 else ''}"


def _and_more(n: int, what: str) -> str:
    return f" ({n} {what} differ)" if n > 1 else ""


def _unreadable(subject: Subject, error: AprError) -> Finding:
    """A tokenizer that cannot be made, by the part that is at fault."""
    file, text = subject.file, str(error)
    keys = _KEYS.get(file.format)
    if keys is None:
        cause: Cause = "tokenizer.merges" if "merge" in text else "tokenizer.vocab"
        return Finding(cause, f"the tokenizer cannot be read: {text}", {"key": "tokenizer.json"})
    said = {part: file.metadata.get(key) for part, key in keys.items()}
    if not said["tokens"]:
        cause, part = "tokenizer.vocab", "tokens"
    elif "pre" in text and (said["pre"] in (None, "", "default") or said["pre"] not in pre.names()):
        cause, part = "tokenizer.pre", "pre"
    elif not said["merges"] or "merge" in text:
        cause, part = "tokenizer.merges", "merges"
    else:
        cause, part = (
            ("tokenizer.special" if "token id" in text or "token type" in text else "tokenizer.vocab"),
            "tokens",
        )
    value = said[part] if part == "pre" else None
    return Finding(cause, f"the tokenizer cannot be read: {text}", {"key": keys[part], "candidate": value})
