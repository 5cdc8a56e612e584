"""A tokenizer as tables (vocabulary, types, merges or scores, pre-tokenizer name): what GGUF and `.apr` can hold.

A whole tokenizer.json becomes tables only if nothing is lost: its split rule must have a GGUF name, or its merges must be those that scores imply.
"""

from __future__ import annotations

from dataclasses import replace

from apr.errors import UnsupportedError
from apr.tokenizer import _hf_json, _spm, pre
from apr.tokenizer.spec import TokenizerSpec, TokenType


def as_tables(spec: TokenizerSpec) -> TokenizerSpec:
    """The same tokenizer with kind "bpe" or "spm".

    Raises UnsupportedError, saying which part has no table form.
    """
    if spec.json is None:
        return spec
    if spec.pre:
        return replace(spec, kind="bpe", json=None, scores=())
    document = _hf_json.parse(spec.json)
    if document["model"].get("byte_fallback") and document["model"].get("merges"):
        return _spm_tables(spec, _hf_json.merges(document), _hf_json.has_space_normalizer(document))
    if "merges" not in document["model"]:
        raise UnsupportedError(
            "a Unigram tokenizer cannot be written as tables here", known=("byte-level BPE", "SentencePiece BPE")
        )
    regexes = _hf_json.split_regexes(document)
    raise UnsupportedError(
        f"no GGUF pre-tokenizer cuts text as this tokenizer.json does (regexes {regexes}, "
        f"ignore_merges {bool(document['model'].get('ignore_merges'))})",
        known=pre.names(),
    )


def _spm_tables(spec: TokenizerSpec, merges: list[tuple[str, str]], spaces: str) -> TokenizerSpec:
    if spaces == "no" or spec.normalization != "none":
        raise UnsupportedError(
            "this tokenizer.json normalises text in a way that GGUF cannot say", known=("spaces as ▁",)
        )
    scores = _spm.scores_of_merges(spec.tokens, spec.token_types, merges)
    if scores is None:
        raise UnsupportedError(
            "the merges of this tokenizer.json are not those that any scores imply, and GGUF has only scores"
        )
    # converters spell whole-space added tokens with real spaces, since readers match them in the text as it is
    user_defined = [kind == TokenType.USER_DEFINED for kind in spec.token_types]
    tokens = [
        token.replace(_spm.SPACE, " ") if is_added else token
        for token, is_added in zip(spec.tokens, user_defined, strict=True)
    ]
    return replace(spec, kind="spm", json=None, tokens=tokens, merges=(), scores=scores, pre="")
