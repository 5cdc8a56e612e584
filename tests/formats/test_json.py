"""Strict JSON: one byte string per rule, limits that hold before memory is spent, and agreement with Python's parser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apr.errors import BadMetadata, BadString, DuplicateName, FormatError, LimitExceeded
from apr.formats import _json

PATH = Path("model.bin")
U64_MAX = 2**64 - 1


def parse(data: bytes, offset: int = 0) -> dict[str, object]:
    return _json.parse_object(PATH, data, offset=offset, what="header")


REFUSED = [
    # bytes, error, position
    (b"", BadMetadata, 0),
    (b"[]", BadMetadata, 0),
    (b"1", BadMetadata, 0),
    (b'"a"', BadMetadata, 0),
    (b'{"a":1', BadMetadata, 6),
    (b'{"a":1}x', BadMetadata, 7),
    (b'{"a":1}\0', BadMetadata, 7),
    (b'{"\xc3\xa9":1,}', BadMetadata, 8),
    (b"{'a':1}", BadMetadata, 1),
    (b'{"a":"\n"}', BadMetadata, 6),
    (b'{"a":"\\x"}', BadMetadata, 6),
    (b"\xef\xbb\xbf{}", BadMetadata, 0),
    (b'{"a":NaN}', BadMetadata, 5),
    (b'{"a":[1,-Infinity]}', BadMetadata, 8),
    (b'{"a":1e999}', BadMetadata, 5),
    (b'{"a":01}', BadMetadata, 6),
    (b'{"a":"\xff"}', BadString, 6),
    (b'{"a":"\xed\xa0\x80"}', BadString, 6),
    (b'{"a":"\\ud800"}', BadString, 5),
    (b'{"ok":"\\ud83d\\ude00","\\udc00":1}', BadString, 21),
    (b'{"a":1,"b":{"a":1},"a":2}', DuplicateName, 19),
    (b'{"a":1,"b":[{"c":1,"\\u0063":2}]}', DuplicateName, 19),
    (b'{"9999999999999999999999":1,"a":123456789012345678901}', LimitExceeded, 32),
    (b'{"a":-123456789012345678901}', LimitExceeded, 5),
    (b'{"a":' + b"[" * 64 + b"]" * 64 + b"}", LimitExceeded, 68),
    (b'{"\\\\":' + b"[" * 64 + b"]" * 64 + b"}", LimitExceeded, 69),
    (b'{"[[":' + b'{"a":' * 64 + b"1" + b"}" * 65, LimitExceeded, 6 + 5 * 63),
]


@pytest.mark.parametrize(("data", "error", "position"), REFUSED, ids=[repr(case[0][:32]) for case in REFUSED])
def test_each_broken_rule_has_its_error_and_its_byte(data: bytes, error: type[FormatError], position: int) -> None:
    with pytest.raises(error) as caught:
        parse(data, offset=1000)
    assert type(caught.value) is error
    assert caught.value.offset == 1000 + position
    assert str(PATH) in str(caught.value)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b' \t\r\n{"a" : 1} \n', {"a": 1}),
        (b'{"a":18446744073709551615}', {"a": U64_MAX}),
        (b'{"a":-0.5,"b":1e-999,"c":true,"d":null}', {"a": -0.5, "b": 0.0, "c": True, "d": None}),
        (b'{"a":' + b"[" * 63 + b"]" * 63 + b"}", None),
        (b'{"' + b"[{" * 200 + b'":1}', {"[{" * 200: 1}),
        (b'{"\\"' + b"[" * 200 + b'":"\\\\"}', {'"' + "[" * 200: "\\"}),
        (b'{"a":"\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        (b'{"a":"\\\\ud800"}', {"a": "\\ud800"}),
        (b"{}", {}),
    ],
)
def test_what_is_legal_is_read(data: bytes, value: object) -> None:
    assert parse(data) == (value if value is not None else json.loads(data))


def test_minus_zero_is_no_integer() -> None:
    assert isinstance(parse(b'{"a":-0}')["a"], float)


def test_a_million_digits_and_a_million_brackets_end_in_an_error_of_ours() -> None:
    for data in (b'{"a":' + b"7" * 1_000_000 + b"}", b'{"a":' + b"[" * 1_000_000, b'{"a":' * 1_000_000):
        with pytest.raises(LimitExceeded):
            parse(data)


def test_depth_is_counted_across_the_chunks_of_the_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_json, "_CHUNK_BYTES", 3)
    deep = b'{"[[\\"[":"]]]",  "a":' + b"[" * 63
    assert parse(deep + b"]" * 63 + b"}")
    with pytest.raises(LimitExceeded) as caught:
        parse(deep + b"[" + b"]" * 64 + b"}")
    assert caught.value.offset == len(deep)


def test_a_list_of_empty_lists_is_refused_before_it_takes_memory() -> None:
    with pytest.raises(LimitExceeded, match="values"):
        _json.parse_object(PATH, b'{"a":[' + b"[]," * 1000 + b"[]]}", what="header", max_values=1000)


def test_the_size_limit_is_inclusive() -> None:
    assert _json.parse_object(PATH, b'{"a":1}', what="header", max_bytes=7) == {"a": 1}
    with pytest.raises(LimitExceeded, match="7 bytes"):
        _json.parse_object(PATH, b'{"a":1}', what="header", max_bytes=6)


def test_find_key_looks_at_the_outermost_object_only() -> None:
    data = b'{"x":{"a":1},"y":["a"],"z":"a", "a" :1}'
    assert data[_json.find_key(data, "a") :].startswith(b'"a" :1')
    assert _json.find_key(data, "no") == 0


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), U64_MAX)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), values), st.booleans())
def test_it_agrees_with_the_standard_parser_on_what_json_can_say(value: dict[str, object], ascii_only: bool) -> None:
    data = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert parse(data) == json.loads(data)


@given(st.binary(max_size=60) | st.text('{}[]",:\\u0d8 1-eE.aN', max_size=40).map(str.encode))
def test_any_bytes_are_an_object_or_an_error_of_ours(data: bytes) -> None:
    try:
        value = parse(data)
    except FormatError:
        return
    assert value == json.loads(data)
