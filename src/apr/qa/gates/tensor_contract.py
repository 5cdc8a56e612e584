"""The tensors that the architecture needs, in their shapes, and no strangers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from apr.qa._judged import Judged
from apr.qa.gate import Finding, gate

_HEAD, _EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
# buffers that old transformers saved with the weights and that every reader computes anew
_IGNORED = ("rotary_emb.inv_freq",)


@gate(
    severity="P0",
    profiles=("file",),
    rationale="A missing bias or a transposed matrix of square shape loads everywhere and is noticed by nobody but the reader.",
    source="the architecture's census in apr/models, tested against transformers",
)
def check(judged: Judged) -> Iterator[Finding]:
    """Census: every expected tensor is there with its expected shape, and every tensor there is expected."""
    checkpoint = judged.checkpoint
    model_type = checkpoint.config.model_type
    for name, shape in checkpoint.expected.items():
        place = checkpoint.tensors.get(name)
        if place is None:
            yield Finding("fail", "missing", f"no tensor {name}, which {model_type} needs", {"tensor": name})
        elif place.info.shape != shape:
            message = f"{place.info.name} is {list(place.info.shape)}, the configuration says {list(shape)}"
            yield Finding("fail", "shape", message, {"tensor": place.info.name})
    for name in checkpoint.extra:
        if name.endswith(_IGNORED):
            yield Finding("pass", "ignored", f"{name} is computed anew by every reader", {"tensor": name})
        else:
            yield Finding("fail", "stranger", f"{name}: {model_type} has no place for it", {"tensor": name})
    for name in sorted(set(checkpoint.tensors) - set(checkpoint.expected)):
        yield _tied_head(judged) if name == _HEAD else _unexpected(name)
    yield Finding("pass", "census", f"{len(checkpoint.expected)} tensors expected by {model_type}, all compared")


def _unexpected(name: str) -> Finding:
    message = f"{name} is there although the configuration does without it"
    return Finding("fail", "unexpected", message, {"tensor": name})


def _tied_head(judged: Judged) -> Finding:
    """An output head beside `tie_word_embeddings`: `.apr` files always hold a copy, and a copy is all that it may be."""
    checkpoint = judged.checkpoint
    head, embedding = checkpoint.tensors[_HEAD].info, checkpoint.tensors.get(_EMBEDDING)
    if embedding is None or embedding.info.shape != head.shape:
        return _unexpected(_HEAD)
    if embedding.info.codec != head.codec:
        message = f"{_HEAD} is {head.codec} and the embedding that it is tied to {embedding.info.codec}; engines may read either"
        return Finding("undecided", "tied-recoded", message, {"tensor": _HEAD})
    if not np.array_equal(checkpoint.raw(_HEAD), checkpoint.raw(_EMBEDDING)):
        message = f"{_HEAD} differs from the embedding, although the configuration ties them; engines may read either"
        return Finding("fail", "unexpected", message, {"tensor": _HEAD})
    return Finding("pass", "tied-copy", f"{_HEAD} is a copy of the embedding that it is tied to", {"tensor": _HEAD})
