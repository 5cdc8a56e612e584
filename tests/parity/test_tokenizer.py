"""The tokenizer link: planted faults are named with a text that shows them; what shows in no text is a note."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer as LibraryTokenizer

from apr.parity import tokenizer
from mutants._patient import Patient
from mutants._patient_apr import AprPatient
from mutants._patient_gguf import GgufPatient
from mutants.models import Stock
from parity.static_pairs import compared, found, healthy, operated, pair_of

VARIANTS = ("llama", "mistral", "qwen2", "qwen3", "gemma3_text", "phi3")


def swap_entries(patient: Patient) -> None:
    tokens = patient.tokens()
    patient.swap_tokens(tokens.index("e"), tokens.index("t"))


def rename_entry(patient: Patient) -> None:
    assert isinstance(patient, GgufPatient)
    tokens = patient.tokens()
    tokens[tokens.index("e")] = "ẽẽ"
    patient.set_tokens(tokens)


def late_merge(patient: Patient) -> None:
    """The first join of two letters comes last."""
    merges = patient.merges()
    letters = next(i for i, merge in enumerate(merges) if merge.replace(" ", "").isascii() and len(merge) == 3)
    patient.set_merges([*merges[:letters], *merges[letters + 1 :], merges[letters]])


def halve_merges(patient: Patient) -> None:
    patient.set_merges(patient.merges()[: len(patient.merges()) // 2])


def no_merges(patient: Patient) -> None:
    patient.set_merges([])


def reverse_scores(patient: Patient) -> None:
    assert isinstance(patient, GgufPatient)
    scores = patient.parts.get("tokenizer.ggml.scores")
    patient.parts.set("tokenizer.ggml.scores", [-1000.0 - score for score in scores])


def other_rule(patient: Patient) -> None:
    if isinstance(patient, GgufPatient):
        patient.parts.set("tokenizer.ggml.pre", "gpt-2")
    else:
        assert isinstance(patient, AprPatient)
        patient.metadata["tokenizer.pre_type"] = "gpt-2"


def no_rule(patient: Patient) -> None:
    assert isinstance(patient, GgufPatient)
    del patient.parts.keys["tokenizer.ggml.pre"]


def unknown_rule(patient: Patient) -> None:
    assert isinstance(patient, GgufPatient)
    patient.parts.set("tokenizer.ggml.pre", "nobody-knows-this")


def no_space(patient: Patient) -> None:
    assert isinstance(patient, GgufPatient)
    patient.parts.set("tokenizer.ggml.add_space_prefix", False)


def special_is_normal(patient: Patient) -> None:
    patient.make_normal(patient.token_id("<|im_start|>"))


def add_bos(patient: Patient) -> None:
    patient.set_id("bos", patient.token_id("<|endoftext|>"))
    patient.set_add_bos(True)


def lose_bos(patient: Patient) -> None:
    patient.set_add_bos(False)


def wrong_eos(patient: Patient) -> None:
    patient.set_id("eos", patient.token_id("e"))


def wrong_bos(patient: Patient) -> None:
    patient.set_id("bos", patient.token_id(","))


def short_table(patient: Patient) -> None:
    assert isinstance(patient, GgufPatient)
    patient.set_tokens(patient.tokens()[:-8])
    types = patient.parts.get("tokenizer.ggml.token_type")
    patient.parts.set("tokenizer.ggml.token_type", types[:-8])


PLANTED = [
    ("llama/gguf", swap_entries, "tokenizer.vocab"),
    ("qwen2/safetensors", swap_entries, "tokenizer.vocab"),
    ("gemma3_text/gguf", swap_entries, "tokenizer.vocab"),
    ("llama/gguf", rename_entry, "tokenizer.vocab"),
    ("llama/gguf", late_merge, "tokenizer.merges"),
    ("qwen2/safetensors", late_merge, "tokenizer.merges"),
    ("mistral/apr", halve_merges, "tokenizer.merges"),
    ("llama/gguf", no_merges, "tokenizer.merges"),
    ("phi3/gguf", reverse_scores, "tokenizer.merges"),
    ("qwen2/gguf", other_rule, "tokenizer.pre"),
    ("qwen2/apr", other_rule, "tokenizer.pre"),
    ("qwen2/gguf", no_rule, "tokenizer.pre"),
    ("qwen3/gguf", unknown_rule, "tokenizer.pre"),
    ("phi3/gguf", no_space, "tokenizer.pre"),
    ("qwen2/gguf", special_is_normal, "tokenizer.special"),
    ("qwen3/safetensors", special_is_normal, "tokenizer.special"),
    ("qwen2/gguf", wrong_eos, "tokenizer.special"),
    ("mistral/gguf", wrong_bos, "tokenizer.special"),
    ("qwen2/gguf", add_bos, "tokenizer.bos"),
    ("gemma3_text/gguf", lose_bos, "tokenizer.bos"),
]


@pytest.mark.parametrize(("site", "edit", "cause"), PLANTED)
def test_a_planted_fault_is_named_and_its_counterfactual_agrees(
    site: str, edit: object, cause: str, stock: Stock, tmp_path: Path
) -> None:
    with pair_of(stock, tmp_path, site, edit) as pair:  # type: ignore[arg-type]
        assert found(tokenizer, pair).cause == cause


def test_an_entry_is_named_by_its_id_and_both_spellings(stock: Stock, tmp_path: Path) -> None:
    with pair_of(stock, tmp_path, "llama/gguf", swap_entries) as pair:
        where = tokenizer.compare(pair).findings[0].where
        assert where["reference"] == pair.reference.spec.tokens[where["token_id"]]
        assert {where["reference"], where["candidate"]} == {"e", "t"} and where["n_different"] == 2


def test_the_text_that_shows_a_merge_is_cut_otherwise_by_the_library_too(stock: Stock, tmp_path: Path) -> None:
    with pair_of(stock, tmp_path, "qwen2/safetensors", late_merge) as pair:
        text = tokenizer.compare(pair).findings[0].where["text"]
        document = (pair.candidate.path / "tokenizer.json").read_text()
        theirs = LibraryTokenizer.from_str(document).encode(text, add_special_tokens=False).ids
        assert theirs == pair.candidate.tokenizer.encode(text) != pair.reference.tokenizer.encode(text)


def test_a_table_that_does_not_fit_the_embedding_is_found(stock: Stock, tmp_path: Path) -> None:
    with pair_of(stock, tmp_path, "qwen2/gguf", short_table) as pair:
        assert tokenizer.compare(pair).findings[0].cause == "tokenizer.padding"


@pytest.mark.parametrize("variant", VARIANTS)
def test_three_formats_of_one_model_are_no_alarm(variant: str, stock: Stock) -> None:
    paths = {f: stock.path(variant, f) for f in ("safetensors", "gguf", "apr")}
    for reference in paths:
        for candidate in paths.keys() - {reference}:
            result = compared(tokenizer, paths[reference], paths[candidate])
            assert result.verdict == "same", f"{reference} {candidate}: {result.sentence}"


def test_a_merge_that_never_happens_is_a_note(stock: Stock, tmp_path: Path) -> None:
    def repeat_at_the_end(patient: Patient) -> None:  # a second, later rank of a merge changes nothing
        tokens = patient.tokens()
        merges = patient.merges()
        made = next(
            t
            for t in tokens
            if len(t) == 4 and t[:1] in tokens and t[1:] in tokens and f"{t[:1]} {t[1:]}" not in merges
        )
        patient.set_merges([*merges, f"{made[:1]} {made[1:]}"])

    with pair_of(stock, tmp_path, "llama/gguf", repeat_at_the_end) as pair:
        result = tokenizer.compare(pair)
        assert result.verdict == "same", result.sentence
        assert any("no text was found" in note for note in result.measure["notes"])


def test_another_name_of_the_same_rule_is_no_alarm(stock: Stock, tmp_path: Path) -> None:
    def rename(patient: Patient) -> None:
        assert isinstance(patient, GgufPatient)
        patient.parts.set("tokenizer.ggml.pre", "deepseek-r1-qwen")

    with pair_of(stock, tmp_path, "qwen2/gguf", rename) as pair:
        assert tokenizer.compare(pair).verdict == "same"


def test_padding_that_nobody_reads_is_a_note(stock: Stock, tmp_path: Path) -> None:
    def rename(patient: Patient) -> None:
        assert isinstance(patient, GgufPatient)
        tokens = patient.tokens()
        patient.set_tokens([*tokens[:-1], "<|nobody|>"])
        patient.set_id("pad", patient.token_id("<|im_end|>"))

    with pair_of(stock, tmp_path, "qwen2/gguf", rename) as pair:
        result = tokenizer.compare(pair)
        assert result.verdict == "same", result.sentence
        assert len(result.measure["notes"]) == 2


def test_a_normalisation_that_gguf_cannot_say_is_a_note(stock: Stock, tmp_path: Path) -> None:
    def compose(patient: Patient) -> None:
        patient.tokenizer["normalizer"] = {"type": "NFC"}  # type: ignore[attr-defined]

    original = operated(stock, tmp_path, "qwen2/safetensors", compose)
    result = compared(tokenizer, original, stock.path("qwen2", "gguf"))
    assert result.verdict == "same" and "NFC" in " ".join(result.measure["notes"])
    plain = compared(tokenizer, original, stock.path("qwen2", "safetensors"))
    assert plain.findings[0].where["key"] == "normalization"


def test_an_unreadable_reference_is_not_comparable(stock: Stock, tmp_path: Path) -> None:
    path = operated(stock, tmp_path, "qwen2/gguf", no_rule)
    assert compared(tokenizer, path, stock.path("qwen2", "gguf")).verdict == "not_comparable"


def test_a_copy_that_nothing_was_done_to_is_no_alarm(stock: Stock, tmp_path: Path) -> None:
    for site in ("llama/gguf", "phi3/apr", "qwen3/safetensors"):
        with pair_of(stock, tmp_path, site, healthy) as pair:
            assert tokenizer.compare(pair).verdict == "same"
