"""A tokenizer.json as tables."""

from __future__ import annotations

import json

import pytest

from apr.errors import UnsupportedError
from apr.tokenizer import _spm
from apr.tokenizer.from_hf import spec_from_hf
from apr.tokenizer.tables import as_tables
from tokenizer import trained


def test_tables_stay_as_they_are() -> None:
    tables = as_tables(spec_from_hf(trained.documents(trained.of_family("qwen2"))))
    assert tables.kind == "bpe" and tables.json is None
    assert as_tables(tables) is tables


def test_merges_that_no_scores_imply_are_refused() -> None:
    documents = trained.documents(trained.sentencepiece(prefix=True), bos="<s>", eos="</s>")
    document = json.loads(documents["tokenizer.json"])
    document["model"]["merges"].pop(7)
    with pytest.raises(UnsupportedError, match="not those that any scores imply"):
        as_tables(spec_from_hf({**documents, "tokenizer.json": json.dumps(document)}))


def test_scores_and_merges_are_each_others_reverse() -> None:
    tokens, types = ["a", "b", "ab", "ba", "aba"], [1] * 5
    merges = [("a", "b"), ("b", "a"), ("ab", "a"), ("a", "ba")]
    scores = _spm.scores_of_merges(tokens, types, merges)
    assert scores is not None
    assert _spm.derive_merges(tokens, types, scores) == merges


def test_no_merge_builds_a_control_token() -> None:
    tokens, types = ["<", "s", ">", "<s", "<s>"], [1, 1, 1, 1, 3]
    assert _spm.derive_merges(tokens, types, [0.0, -1.0, -2.0, -3.0, 0.0]) == [("<", "s")]
