"""The hash that says whether two tokenizers give the same ids for every text."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable
from itertools import islice

from apr.tokenizer import pre
from apr.tokenizer.spec import TokenizerSpec, is_padding


def fingerprint(spec: TokenizerSpec) -> str:
    """SHA-256, hex, over what decides ids: vocabulary, types, merges or scores, split rule, BOS and EOS rule, normalisation.

    Equal for a GGUF file, the `.apr` made from it, and a tokenizer.json that is the same tables. Left out: vocabulary padding at the end (an
    embedding's business), scores of byte-level BPE (nobody reads them), and names of one pre-tokenizer that differ only in spelling.
    """
    digest = hashlib.sha256()
    if spec.json is not None and not spec.pre:
        document = json.dumps(json.loads(spec.json), sort_keys=True).encode()
        digest.update(b"hf" + document)
        return _with_rules(digest, spec)
    n_tokens = len(spec.tokens)
    while n_tokens and is_padding(spec, n_tokens - 1):
        n_tokens -= 1
    is_spm = spec.kind == "spm"
    digest.update(b"spm" if is_spm else f"bpe {pre.family(spec.pre)}".encode())
    _add_texts(digest, islice(spec.tokens, n_tokens))
    digest.update(bytes(islice(spec.token_types, n_tokens)))
    if is_spm:
        digest.update(struct.pack(f"<{n_tokens}f", *(spec.scores[i] for i in range(n_tokens))))
    else:
        _add_texts(digest, spec.merges)
    return _with_rules(digest, spec)


def _add_texts(digest: hashlib._Hash, texts: Iterable[str]) -> None:
    # JSON keeps the borders between texts, whatever they hold
    digest.update(json.dumps(list(texts)).encode())


def _with_rules(digest: hashlib._Hash, spec: TokenizerSpec) -> str:
    rules = [
        spec.add_bos,
        spec.add_eos,
        spec.add_space_prefix,
        spec.bos_token_id,
        spec.eos_token_id,
        spec.normalization,
    ]
    digest.update(json.dumps(rules).encode())
    return digest.hexdigest()
