"""The switch between NFC and no normalisation."""

from __future__ import annotations

import pytest

from apr.errors import UnsupportedError
from apr.tokenizer.from_hf import spec_from_hf
from apr.tokenizer.normalization import with_normalization
from apr.tokenizer.tokenizer import Tokenizer
from tokenizer import trained


def test_normalisation_of_a_tokenizer_json_can_be_switched() -> None:
    spec = spec_from_hf(trained.documents(trained.of_family("qwen2")))
    nfc = with_normalization(spec, "nfc")
    assert Tokenizer(nfc).encode("e\u0301") == Tokenizer(spec).encode("é")
    assert with_normalization(nfc, "none").normalization == "none"
    assert Tokenizer(with_normalization(nfc, "none")).encode("e\u0301") == Tokenizer(spec).encode("e\u0301")
    with pytest.raises(UnsupportedError, match="normalisers"):
        with_normalization(spec_from_hf(trained.documents(trained.unigram(), bos="<s>", eos="</s>")), "nfc")
