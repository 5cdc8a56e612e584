"""All links together: which are run, what the verdict of all is, and what is said behind a broken one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import tiny
from apr.engines._subject import Subject
from apr.errors import UsageError
from apr.parity._causes import Cause
from apr.parity._link import LINKS, Finding, LinkResult, Verdict
from apr.parity.chain import exit_code, module_of, parity, verdict_of
from apr.reports import _parity as reports


def result(link: str, verdict: Verdict, cause: Cause | None = None) -> LinkResult:
    return LinkResult(link, verdict, "said", findings=(Finding(cause, "said"),) if cause else ())


def whole(**changed: LinkResult) -> list[LinkResult]:
    return [changed.get(link, result(link, "same")) for link in LINKS]


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path]:
    made = tiny.config("llama")
    turned = dataclasses.replace(made, rope_theta=100.0)
    return {
        "gguf": tiny.write(tmp_path / "a", "gguf", made),
        "safetensors": tiny.write(tmp_path / "b", "safetensors", made),
        "turned": tiny.write(tmp_path / "c", "gguf", turned),
    }


@pytest.mark.parametrize(
    ("results", "verdict", "benign", "code"),
    [
        (whole(), "same", True, 0),
        (whole(weights=result("weights", "different", "drift.quantization")), "different", True, 0),
        (whole(weights=result("weights", "different", "weights.scaled")), "different", False, 1),
        (whole(logits=result("logits", "not_comparable")), "not_comparable", False, 5),
        (whole(logits=result("logits", "cannot_tell")), "cannot_tell", False, 5),
        (whole(activations=result("activations", "skipped")), "same", True, 0),
        ([result(link, "skipped") for link in LINKS], "cannot_tell", False, 5),
        ([], "cannot_tell", False, 5),
        (
            whole(logits=result("logits", "cannot_tell"), metadata=result("metadata", "different", "metadata.value")),
            "different",
            False,
            1,
        ),
    ],
)
def test_the_verdict_of_all_links(results: list[LinkResult], verdict: str, benign: bool, code: int) -> None:
    found, is_benign = verdict_of(results)
    assert (found, is_benign, exit_code(found, benign=is_benign)) == (verdict, benign, code)


def test_nothing_but_skips_is_no_pass() -> None:
    assert (
        verdict_of(whole(logits=result("logits", "skipped"), generation=result("generation", "skipped")))[0] != "same"
    )


def test_every_link_has_a_file_that_compares() -> None:
    for link in LINKS:
        assert callable(module_of(link).compare)


def test_another_container_is_the_same_in_every_link(paths: dict[str, Path]) -> None:
    report = parity(str(paths["gguf"]), str(paths["safetensors"]), threads=1)
    assert [(r.link, r.verdict) for r in report.links] == [(link, "same") for link in LINKS]
    assert (report.verdict, report.exit_code) == ("same", 0)


def test_only_the_links_that_are_asked_for_are_compared_in_the_order_of_the_chain(paths: dict[str, Path]) -> None:
    report = parity(str(paths["gguf"]), str(paths["turned"]), only=("weights", "metadata"), threads=1)
    assert [(r.link, r.verdict) for r in report.links] == [("metadata", "different"), ("weights", "same")]
    assert report.exit_code == 1


def test_the_engine_is_not_blamed_for_the_metadata(paths: dict[str, Path]) -> None:
    report = parity(str(paths["gguf"]), str(paths["turned"]), threads=1)
    verdicts = {r.link: r for r in report.links}
    assert verdicts["activations"].verdict == "same"
    assert verdicts["logits"].verdict == "different"
    assert "follow from the metadata link" in verdicts["logits"].sentence


def test_a_link_that_does_not_exist_is_refused_with_those_that_do(paths: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match="activations"):
        parity(str(paths["gguf"]), str(paths["gguf"]), only=("wieghts",))


def test_an_endpoint_skips_what_needs_a_file() -> None:
    report = parity(Subject("openai://localhost:1/x", "openai"), Subject("nothing.gguf"), only=("weights",))
    assert report.links[0].verdict == "skipped"
    assert report.exit_code == 5


def test_a_regime_alone_is_asked_and_the_report_says_so(paths: dict[str, Path]) -> None:
    report = parity(str(paths["gguf"]), str(paths["safetensors"]), regimes=("raw",), threads=1)
    assert (report.verdict, report.regimes) == ("same", ("raw",))
    assert [link.link for link in report.links] == [link for link in LINKS if link != "template"]
    asked = {row["probe"] for row in report.links[-1].measure["runs"]}
    assert asked == {"code", "fact", "list"}
    assert "  asked      raw only" in reports.parity(report)


def test_texts_of_ones_own_are_asked_and_a_fault_shows_in_them(paths: dict[str, Path]) -> None:
    told = {"prompts": ("the inner one", "a third"), "only": ("logits", "generation"), "threads": 1}
    same = parity(str(paths["gguf"]), str(paths["safetensors"]), regimes=("chat",), **told)
    broken = parity(str(paths["gguf"]), str(paths["turned"]), regimes=("raw",), **told)
    assert same.verdict == "same" and {row["probe"] for row in same.links[-1].measure["runs"]} == {
        "prompt 1",
        "prompt 2",
    }
    assert (broken.verdict, broken.exit_code) == ("different", 1)


def test_a_regime_that_the_reference_has_no_template_for_is_not_comparable(tmp_path: Path) -> None:
    bare = tiny.write(tmp_path, "gguf", tokenizer=dataclasses.replace(tiny.spec(), chat_template=None))
    report = parity(str(bare), str(bare), regimes=("chat",), threads=1)
    assert report.verdict == "not_comparable" and report.exit_code == 5
    assert "no template, or no room, for any prompt of the regime chat" in report.links[-1].sentence


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"regimes": ("prose",)}, "the regimes are raw, chat"),
        ({"prompts": ("a",)}, "name it: raw or chat"),
        ({"prompts": ("a",), "regimes": ("long",)}, "not under the regime 'long'"),
    ],
)
def test_what_cannot_be_asked_is_refused(paths: dict[str, Path], asked: dict[str, tuple[str, ...]], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parity(str(paths["gguf"]), str(paths["gguf"]), **asked)  # type: ignore[arg-type]
