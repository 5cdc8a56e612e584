"""Comparisons as text: the answer first, everything invisible made visible, nothing that could steer a terminal."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from typing import Any

import click
import pytest

import parity_samples as samples
from apr.cli import group
from apr.parity._causes import CAUSES
from apr.parity._link import LINKS, LinkResult, same, undecided
from apr.parity._report import ParityReport, WhyReport
from apr.reports import _evidence, _parity, _parity_detail, _table


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> int:
    """A terminal of 72 columns, without colour."""
    for module in (_table, _parity):
        monkeypatch.setattr(module, "terminal_columns", lambda: 72)
    return 72


def test_the_answer_is_the_first_line() -> None:
    lines = _parity.why(samples.broken()).splitlines()
    assert lines[0].startswith("✗ First broken link: metadata. rope_theta is 10000 in the candidate")


def test_an_answer_has_its_place_its_proof_and_five_whys() -> None:
    said = _parity.why(samples.broken())
    order = [
        "\nwhere\n",
        "key        rope_theta",
        "\nproof\n",
        "0.31 before → 1.40e-11 after",
        "\nwhy\n",
        "  1. ",
        "  5. ",
        "\nalso\n",
        "\nlinks\n",
    ]
    assert [said.index(part) for part in order] == sorted(said.index(part) for part in order)


def test_benign_is_said_plainly_and_defects_never_are() -> None:
    assert "This is benign" in _parity.why(samples.benign())
    assert "benign" not in _parity.why(samples.broken())


def test_what_one_file_cannot_say_of_itself_is_no_all_clear() -> None:
    alone = replace(samples.benign(), reference=None, verdict="cannot_tell", link=None, cause=None, proof=None)
    assert alone.benign and _evidence.all_clear(alone) is None and "benign:" not in _parity.why(alone)


def test_a_healthy_pair_has_one_row_a_link_and_no_next_step() -> None:
    said = _parity.parity(samples.healthy())
    assert [len(re.findall(rf"✓ same +{link} ", said)) for link in LINKS] == [1] * len(LINKS)
    assert said.endswith("same: 9 of 9 links compared, and nothing differs; 12.4 s") and "✗" not in said


def test_a_broken_pair_names_the_first_broken_link_and_the_command_that_explains_it() -> None:
    said = _parity.parity(samples.as_parity(samples.broken()))
    assert "different: 7 of 9 links differ; the first is metadata" in said
    command = "apr why hf://Qwen/Qwen2.5-Coder-0.5B-Instruct qwen2.5-coder-0.5b-q4_k_m.gguf@llama-cpp"
    assert said.splitlines()[-1] == f"next: {command}"


def test_a_link_that_was_skipped_is_no_pass() -> None:
    links = (
        same("file", "whole"),
        undecided("logits", "skipped", "no engine"),
        undecided("tokens", "cannot_tell", "too few"),
    )
    line = _evidence.verdict_line(ParityReport("a", "b", "cannot_tell", False, links, 1.0, 5))
    assert line == "no verdict on the whole (cannot tell: tokens; skipped: logits)"


def test_tokens_stand_side_by_side_with_invisible_ones_visible() -> None:
    lines = _parity_detail.detail(samples.tokens_differ()).splitlines()
    assert lines[2] == "  reference  Flight#43233  ·#216  [2#34]  [0#32]  [4#36]  [7#39]  ·leaves#7116"
    assert lines[3] == "  candidate  Flight#43233  ·#216  [2047#9801]  ·leaves#7116"
    assert lines[5] == "  text       zero\\u200bwidth⏎→and·tab"
    assert "[\\u200b#20]" in lines[6] and "[" not in lines[7]


def test_tokens_that_are_equal_make_no_difference() -> None:
    diff = _evidence.token_diff(
        {
            "reference_ids": [1, 2],
            "candidate_ids": [1, 2],
            "reference_tokens": ["a", "b"],
            "candidate_tokens": ["a", "b"],
        }
    )
    assert all(piece.is_common for piece in (*diff.reference, *diff.candidate))


def test_a_long_text_is_shown_from_shortly_before_it_parts() -> None:
    ids = list(range(1000))
    diff = _evidence.token_diff({"reference_ids": ids, "candidate_ids": [*ids[:500], 7777, *ids[501:]]})
    assert diff.n_before == 494 and diff.reference[6].text == "<500>" and not diff.reference[6].is_common
    assert diff.n_after_reference == 1000 - 494 - len(diff.reference)


def test_a_template_diff_shows_the_space_that_only_one_side_has() -> None:
    lines = _parity_detail.detail(samples.template_differs()).splitlines()
    assert "    - <|im_start|>assistant⏎" in lines
    assert "    - →b·⏎" in lines and "    + →b⏎" in lines


def test_one_change_in_many_conversations_is_shown_once() -> None:
    first = samples.template_differs()
    (row, other) = first.measure["differences"]
    rows = [row, {**row, "conversation": "two"}, other, {**row, "conversation": "three"}]
    found = replace(
        first,
        measure={"n_conversations": 14, "differences": rows},
        findings=(replace(first.findings[0], where={"n_different": 9}),),
    )
    said = _parity_detail.detail(found)
    assert "conversation one question (and the same change in 2 more)" in said and "conversation two" not in said
    assert (
        said.endswith("  and 5 more renderings; --json has 4")
        and _evidence.figure(found) == "9 of 14 renderings differ"
    )


def test_texts_that_a_result_does_not_keep_are_counted() -> None:
    found = samples.tokens_differ()
    said = _parity_detail.detail(replace(found, measure=found.measure | {"n_different": 40}))
    assert said.endswith("  and 38 more texts; --json has 2")


def test_renderings_that_are_equal_have_no_diff() -> None:
    assert _evidence.rendering_diff({"reference": "a\nb", "candidate": "a\nb"}) == []


def test_a_rendering_that_is_missing_is_not_an_empty_one() -> None:
    lines = _evidence.rendering_diff({"reference": "", "candidate": None})
    assert [(line.sign, line.text) for line in lines if line.sign != "@"] == [("+", "(nothing)")]


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a b", "a·b"), ("a\tb\n", "a→b⏎"), ("a·b→⏎", "a\\xb7b\\u2192\\u23ce"), ("\u00a0\u3000\u200b", "\\xa0\\u3000\\u200b"), ("\x1b[2J", "\\x1b[2J"), ("é🙂", "é🙂")],
)  # fmt: skip
def test_no_invisible_character_is_left_and_no_sign_is_ambiguous(text: str, shown: str) -> None:
    assert _evidence.marked(text) == shown


@pytest.mark.parametrize("make", [samples.hostile, lambda: samples.as_parity(samples.hostile())])
def test_hostile_text_cannot_steer_a_terminal(make: Any) -> None:
    report = make()
    said = _parity.why(report) if isinstance(report, WhyReport) else _parity.parity(report)
    assert not set(said) & {"\x1b", "\u202e", "\u200b", "\r", "\t"}


def test_every_figure_is_taken_from_its_measure() -> None:
    figures = {result.link: _evidence.figure(result) for result in samples.broken().links}
    assert figures == {
        "file": "", "metadata": "", "tokenizer": "", "template": "2 of 14 renderings differ", "tokens": "2 of 96 texts differ",
        "weights": "285 of 290 exact, 3 rounded", "activations": "0.31 at layers.0.q_rope", "logits": "KL 0.93, top-1 71.88 %",
        "generation": "3 of 5 identical",
    }  # fmt: skip


def test_the_worst_figure_is_one_that_is_not_a_number() -> None:
    regimes = {"raw": samples.regime(0.1), "chat": samples.regime(float("nan"))}
    assert _evidence.figure(LinkResult("logits", "different", "", {"regimes": regimes})).startswith("KL NaN")


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "–"), (0.0, "0"), (7, "7"), (0.3106, "0.311"), (1.4e-11, "1.40e-11"), (float("nan"), "NaN"), (float("-inf"), "-∞"), (123456.0, "1.23e5")]
)  # fmt: skip
def test_numbers_are_short_and_never_hide_that_they_are_none(value: object, shown: str) -> None:
    assert _evidence.number(value) == shown


def test_a_row_fits_the_terminal(narrow: int) -> None:
    said = _parity.parity(samples.healthy())
    assert max(map(len, said.splitlines())) <= narrow
    assert "49,152 tokens" in said


def test_a_why_fits_the_terminal(narrow: int) -> None:
    whys = replace(samples.broken(), links=(), sentence="short")
    assert max(map(len, _parity.why(whys).splitlines()[1:-1])) <= narrow


def test_many_findings_are_cut_and_say_so() -> None:
    many = tuple(replace(samples.tokens_differ().findings[0], sentence=f"finding {i}") for i in range(30))
    said = _parity.why(replace(samples.broken(), also=many))
    assert "finding 9 " in said and "finding 10 " not in said and "and 20 more; --json has them all" in said


def test_one_subject_alone_has_no_reference() -> None:
    said = _parity.why(replace(samples.broken(), reference=None, proof=None))
    assert "\n  candidate  qwen" in said and "\n  reference  hf:" not in said


def suggestions() -> list[str]:
    """What every kind of report says to type next."""
    report = samples.broken()
    made: list[ParityReport | WhyReport] = [
        samples.as_parity(report),
        samples.benign(),
        replace(report, reference=None),
    ]
    for cause in CAUSES:
        for link in LINKS:
            made.append(
                replace(
                    report,
                    link=link,
                    cause=cause,
                    where={"tensor": "model.norm.weight"},
                    reference="my original",
                    candidate="a b'.gguf",
                )
            )
    made.append(replace(report, verdict="cannot_tell", exit_code=5))
    return sorted({command for r in made if (command := _evidence.next_command(r))})


def test_every_command_that_a_report_suggests_exists_and_parses() -> None:
    commands = suggestions()
    assert len(commands) >= 6
    for line in commands:
        program, name, *arguments = shlex.split(line)
        root = click.Context(group, info_name="apr")
        command = group.get_command(root, name)
        assert program == "apr" and command is not None, line
        command.make_context(name, list(arguments), parent=root)
