"""Texts that are made for a difference show it, and dead differences have none."""

from __future__ import annotations

from dataclasses import replace

import pytest

import tiny
from apr.parity import _tokenizer_tables as tables
from apr.parity._tokenizer_tables import Tables
from apr.tokenizer.byte_alphabet import from_bytes
from apr.tokenizer.from_hf import spec_from_hf
from apr.tokenizer.spec import TokenizerSpec, TokenType
from apr.tokenizer.to_hf import to_hf
from mutants import models

SPEC = tiny.spec()


def test_a_tokenizer_json_and_its_tables_are_brought_into_one_form() -> None:
    both = Tables.of(spec_from_hf(to_hf(SPEC), vocab_size=len(SPEC.tokens)), SPEC)
    assert both.are_alike and both.reference.kind == "bpe"
    assert list(both.reference.merges) == list(SPEC.merges)


def test_overlapping_joins_show_their_order() -> None:
    merges = list(SPEC.merges)
    first = next(m for m in merges if m == "t h")
    other = replace(SPEC, merges=[*(m for m in merges if m != first), first])
    both = Tables(SPEC, other)
    witness = both.witness(other, tables.texts_for_joins(list(SPEC.tokens), merges, list(other.merges)))
    assert witness is not None and witness.reference_ids != witness.candidate_ids


def test_the_same_tables_have_no_witness() -> None:
    both = Tables(SPEC, SPEC)
    assert both.witness(SPEC, tables.texts_for_joins(list(SPEC.tokens), [], [])) is None


def test_tables_that_cannot_be_made_are_a_witness_by_themselves() -> None:
    witness = Tables(SPEC, SPEC).witness(replace(SPEC, merges=["zz yy"]), [])
    assert witness is not None and witness.text == ""


def _with_wide_digits() -> TokenizerSpec:
    """An entry of two wide digits, and the merge that makes it: only a rule that keeps digits together can use it."""
    digits = [from_bytes("１".encode()), from_bytes("０".encode())]
    parts = [[digit[:1], digit[1:2], digit[2:]] for digit in digits]
    merges = [m for a, b, c in parts for m in (f"{a} {b}", f"{a}{b} {c}")] + [" ".join(digits)]
    made = list(dict.fromkeys(m.replace(" ", "") for m in merges))
    at = SPEC.tokens.index("<|endoftext|>")
    tokens = [*SPEC.tokens[:at], *made, *SPEC.tokens[at : at + 3]]
    types = [*SPEC.token_types[:at], *([TokenType.NORMAL] * len(made)), *([TokenType.CONTROL] * 3)]
    moved = {"eos_token_id": None, "pad_token_id": None, "stop_token_ids": ()}
    return replace(
        SPEC, tokens=tokens, token_types=types, merges=[*SPEC.merges, *dict.fromkeys(merges)], pre="qwen2", **moved
    )


def test_an_entry_that_one_rule_cuts_shows_it() -> None:
    one = _with_wide_digits()
    other = replace(one, pre="dbrx")
    texts = list(tables.texts_for_cuts(Tables(one, other)))
    assert texts[0] == "１０"
    witness = Tables(one, other).witness(other, texts)
    assert witness is not None and witness.text == "１０"


def test_scores_become_joins_in_their_order() -> None:
    spec = models.tokenizer("phi3")
    table = Tables.of(spec, spec).reference
    assert table.kind == "spm"
    joined = tables.joins(table)
    assert len(joined) == len(set(joined)) >= 20 and all(" " in join for join in joined)


@pytest.mark.parametrize(
    ("mine", "theirs", "at"), [("ab", "ab", None), ("ab", "ax", 1), ("ab", "abc", 2), ("", "a", 0)]
)
def test_the_first_difference_of_two_lists(mine: str, theirs: str, at: int | None) -> None:
    assert tables.first_difference(list(mine), list(theirs)) == at


def test_a_token_that_is_control_on_one_side_has_another_role() -> None:
    control = SPEC.tokens.index("<|im_start|>")
    types = list(SPEC.token_types)
    types[control] = int(TokenType.NORMAL)
    assert tables.role(SPEC, control) == "control"
    assert tables.role(replace(SPEC, token_types=types), control) == "ordinary"
    assert tables.role(SPEC, 0) == "ordinary" and tables.is_unused(SPEC, len(SPEC.tokens) - 1)


def test_an_entry_is_spelled_as_text() -> None:
    assert tables.spelled("Ġthe") == " the" and tables.spelled("▁the") == " the" and tables.spelled("Ã") == ""
