"""The metadata of `.apr` files made from other formats."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny
from apr.convert import _to_apr, convert
from apr.errors import UsageError
from apr.formats import _apr_metadata, open_model
from apr.tokenizer import spec_of


@pytest.mark.parametrize("origin", ["gguf", "safetensors"])
@pytest.mark.parametrize("model_type", tiny.MODEL_TYPES)
def test_metadata_has_upstreams_order_types_and_one_spelling(tmp_path: Path, origin: str, model_type: str) -> None:
    config = tiny.config(model_type)
    convert(tiny.write(tmp_path / "source", origin, config), tmp_path / "m.apr")
    with open_model(tmp_path / "m.apr") as file:
        metadata, warnings = dict(file.metadata), list(file.warnings)
        spec = spec_of("apr", metadata, {}, vocab_size=config.vocab_size)
    assert warnings == []
    assert list(_apr_metadata.wrong_types(metadata)) == [] and _apr_metadata.clashes(metadata) == []
    typed = [key for key in metadata if key in _to_apr.ORDER]
    assert typed == [key for key in _to_apr.ORDER if key in metadata] and list(metadata)[: len(typed)] == typed
    # the provenance rule: never silently missing
    assert all(key in metadata for key in ("license", "data_source", "data_license"))
    assert {key for key, value in metadata.items() if value is None} <= {"license", "data_source", "data_license"}
    assert (metadata["original_format"], metadata["rope_type"]) == (origin, 2)
    assert (list(spec.tokens), list(spec.merges)) == (list(tiny.spec().tokens), list(tiny.spec().merges))
    assert metadata["chat_template"] == metadata["tokenizer.chat_template"] == tiny.CHATML


def test_a_tied_head_is_a_copy_and_says_so(tmp_path: Path) -> None:
    config = tiny.config(tie_word_embeddings=True)
    report = convert(tiny.write(tmp_path / "source", "gguf", config), tmp_path / "m.apr")
    with open_model(tmp_path / "m.apr") as file:
        assert file.metadata["tied_embeddings"] is True
        assert file.raw("lm_head.weight").tobytes() == file.raw("model.embed_tokens.weight").tobytes()
        n_elements = sum(i.n_elements for i in file.tensors.values() if i.name != "lm_head.weight")
        assert file.metadata["param_count"] == n_elements
    assert "lm_head.weight was written as a copy of the embedding, to which it is tied" in report.notes


def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    source = tiny.write(tmp_path / "source", "gguf")
    reports = [convert(source, tmp_path / name) for name in ("a.apr", "b.apr")]
    assert reports[0].target_sha256 == reports[1].target_sha256


def test_the_date_is_the_one_that_the_build_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tiny.write(tmp_path / "source", "gguf")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    convert(source, tmp_path / "m.apr")
    with open_model(tmp_path / "m.apr") as file:
        assert file.metadata["created_at"] == "2023-11-14T22:13:20Z"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(UsageError, match="'yesterday'"):
        convert(source, tmp_path / "n.apr")
