"""Contracts as upstream writes them, and the check of ours."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from apr.errors import ContractError, UsageError
from apr.ledger import contract
from apr.ledger.contract import Check, Expect, fill, read

FIXTURES = Path(__file__).parents[1] / "fixtures" / "contracts"
UPSTREAM = FIXTURES / "upstream"


def one_check(tmp_path: Path, text: str) -> Check:
    path = tmp_path / "c.yaml"
    path.write_text(f"falsification_tests:\n  - id: F-1\n    check: {text}\n")
    (test,) = read(path).falsifications
    assert test.check is not None
    return test.check


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("softmax-kernel-v1.yaml", ("softmax-kernel-v1", "1.2.0", "ACTIVE_FUNCTIONAL", "kernel", 1, 2, 3, 2)),
        ("ship-rows-v1.yaml", ("ship-rows-v1", "1.10.0", "ACTIVE_WITH_LIVE_EVIDENCE", "kernel", 2, 0, 3, 2)),
        ("publish-manifest-v1.yaml", ("publish-manifest-v1", "2.0.1", "enforced", "schema", 0, 0, 2, 2)),
        ("families.yml", ("families", "0.1.0", "tracking", "registry", 0, 0, 0, 1)),
    ],
)
def test_every_form_of_upstream_is_read(name: str, expected: tuple[object, ...]) -> None:
    found = read(UPSTREAM / name)
    counts = (len(found.equations), len(found.obligations), len(found.falsifications), len(found.changelog))
    assert (found.id, found.version, found.status, found.kind, *counts) == expected
    assert found.sha256 == hashlib.sha256((UPSTREAM / name).read_bytes()).hexdigest()


def test_a_kernel_contract_keeps_all_that_it_says() -> None:
    found = read(UPSTREAM / "softmax-kernel-v1.yaml")
    assert found.depends_on == ("exp-kernel-v1",) and len(found.references) == 2
    assert found.equations[0].name == "softmax" and found.equations[0].fields["preconditions"] == [
        "n > 0",
        "all finite",
    ]
    assert found.obligations[1].id == "SM-OB-002" and found.obligations[0].fields["tolerance"] == 1e-6
    assert [test.test.split()[0] for test in found.falsifications] == [
        "proptest_softmax_sums_to_one",
        "contract_tests::softmax::shift_invariance",
        "prop_softmax_simd_equivalence",
    ]
    assert [change.version for change in found.changelog] == ["1.0.0", "1.2.0"]
    assert found.raw["kani_harnesses"][0]["bound"] == 4


def test_a_ship_row_keeps_its_discharge_fields_and_blocks() -> None:
    python, humaneval, speed = read(UPSTREAM / "ship-rows-v1.yaml").falsifications
    assert python.line == 17 and python.fields["discharge_status"] == "DISCHARGED"
    assert humaneval.fields["counter_example_classes"][1] == "total = 0"
    assert all(test.is_blocking and test.check is None for test in (python, humaneval, speed))


def test_a_map_of_tests_gives_their_ids() -> None:
    first, second = read(UPSTREAM / "publish-manifest-v1.yaml").falsifications
    assert (first.id, second.id) == ("FALSIFY-PM-001", "FALSIFY-PM-002")
    assert first.test == "cargo test -p apr-cli publish::tests::refuses_http"


def test_a_gate_is_asked_for_by_name_and_passes(tmp_path: Path) -> None:
    check = one_check(tmp_path, "{gate: golden-output}")
    assert check.argv == ("qa", "--json", "{model}", "--only", "golden_output", "--profile", "release")
    assert check.expect == (Expect("gates[id=golden_output].status", "equals", "pass"),) and check.line == 3


def test_a_gate_keeps_the_profile_that_it_names(tmp_path: Path) -> None:
    check = one_check(tmp_path, "{gate: throughput, arguments: [--profile, smoke]}")
    assert check.argv == ("qa", "--json", "{model}", "--only", "throughput", "--profile", "smoke")


def test_a_link_compares_with_the_reference(tmp_path: Path) -> None:
    check = one_check(tmp_path, "{link: weights}")
    assert check.argv == ("parity", "--json", "{reference}", "{model}", "--only", "weights")
    assert check.expect == (Expect("links[link=weights].verdict", "equals", "same"),)


def test_a_command_is_a_line_of_the_shell_that_no_shell_sees(tmp_path: Path) -> None:
    text = "{command: \"apr run {model} 'def fib(n):' -- x\", arguments: [007], expect: {path: exit_code, equals: 0}}"
    check = one_check(tmp_path, text)
    assert check.argv == ("run", "--json", "{model}", "def fib(n):", "--", "x", "007")


def test_models_are_filled_in() -> None:
    check = Check("command", "convert", ("{model}", "-o", "{scratch}/m.gguf"), (), 1)
    filled = fill(check, model="a b.gguf", reference=None, scratch="/s")
    assert filled.argv == ("convert", "a b.gguf", "-o", "/s/m.gguf")


def test_a_name_that_holds_a_place_stays_as_it_is() -> None:
    check = Check("command", "parity", ("{reference}", "{model}@llama-cpp"), (), 1)
    assert fill(check, model="{reference}", reference="r\\1").arguments == ("r\\1", "{reference}@llama-cpp")


@pytest.mark.parametrize("place", ["{reference}", "{scratch}"])
def test_what_is_needed_and_not_given_is_named(place: str) -> None:
    with pytest.raises(UsageError, match=place.strip("{}")):
        fill(Check("command", "run", (place,), (), 1), model="m", reference=None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("golden_output", "is no mapping"),
        ("{}", "none of them"),
        ("{gate: a, link: b}", "gate and link"),
        ("{gate: a, timeout: 3}", "timeout"),
        ("{gate: [a]}", "it is a name"),
        ("{command: 'apr'}", "names no command"),
        ('{command: "run \'x"}', "no command line"),
        ("{gate: a, arguments: {b: c}}", "no list of words"),
        ("{gate: a, expect: {path: status}}", "it has path"),
        ("{gate: a, expect: {path: status, equals: 1, at_least: 2}}", "it has path"),
        ("{gate: a, expect: {path: 'a..b', equals: 1}}", "is no path"),
        ("{gate: a, expect: {equals: 1}}", "is no path"),
        ("{gate: a, expect: {path: b, at_least: high}}", "no number"),
        ("{gate: a, expect: {path: b, at_least: .nan}}", "no number"),
        ("{gate: a, expect: {path: b, at_least: true}}", "no number"),
        ("{gate: a, expect: {path: b, equals: 1, interval: c}}", "belongs to at_least"),
        ("{gate: a, expect: {path: b, one_of: pass}}", "no list of values"),
        ("{gate: a, expect: {path: b, matches: '('}}", "no regular expression"),
    ],
)
def test_a_check_that_cannot_be_understood_names_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ContractError, match=said) as raised:
        one_check(tmp_path, text)
    assert raised.value.line == 3


def test_a_broken_check_does_not_hide_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("falsification_tests:\n  - {id: A, check: 3}\n  - {id: B, check: {gate: x}}\n")
    reading = contract.read_with_problems(path)
    assert len(reading.problems) == 1 and [t.id for t in reading.contract.falsifications] == ["A", "B"]


@pytest.mark.parametrize("text", ["- a\n- b\n", "just text\n"])
def test_a_document_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ContractError, match="is a mapping"):
        read(path)


@pytest.mark.parametrize("path", [Path("/nowhere/c.yaml"), Path("/dev/zero"), Path("/tmp")])
def test_what_is_no_file_is_refused(path: Path) -> None:
    with pytest.raises(ContractError):
        read(path)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"metadata: {}\nfalsification_tests:\n", True),
        (b"\xef\xbb\xbffalsifiers: {}\n", True),
        (b"{ 'falsification': {} }", True),
        (b"services:\n  falsification_tests: no\n", False),
        (b"# falsification_tests:\n", False),
        (b"{{ broken", False),
        (b"", False),
    ],
)
def test_a_yaml_file_with_a_block_of_tests_looks_like_a_contract(tmp_path: Path, data: bytes, expected: bool) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(data)
    assert contract.has_tests(path) == expected and not contract.has_tests(tmp_path)


def test_every_contract_of_upstream_and_ours_looks_like_one() -> None:
    root = Path(__file__).parents[2]
    kept = [*(root / "contracts").rglob("*.yaml"), *(root / "tests" / "fixtures" / "contracts").rglob("*.yaml")]
    with_tests = [path for path in kept if contract.read_with_problems(path).contract.falsifications]
    assert len(with_tests) >= 3 and all(contract.has_tests(path) for path in with_tests)
