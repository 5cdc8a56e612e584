"""The tensors that the architecture needs, in their shapes, no strangers, and none that is unlike its kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from apr.errors import AprError
from apr.parity import _weights_alone
from apr.parity._weights_alone import Facts
from apr.parity._weights_findings import layer_of
from apr.qa import _outliers
from apr.qa._judged import Judged
from apr.qa.gate import Coverage, Finding, gate
from apr.tokenizer.spec import TokenType

_HEAD, _EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
# buffers that old transformers saved with the weights and that every reader computes anew
_IGNORED = ("rotary_emb.inv_freq",)
# what counts as one standard deviation at least: 2 % of size, 2 % of the values
_FLOOR_SIZE, _FLOOR_SHARE = 0.02, 0.02


@gate(
    severity="P0",
    profiles=("file", "smoke", "release"),
    rationale="A missing bias or a transposed matrix of square shape loads everywhere and is noticed by nobody but the reader.",
    source="the architecture's census in apr/models, tested against transformers; ship-two 13.3; median and MAD, measured on real models",
)
def check(judged: Judged) -> Iterator[Finding]:
    """Census, shapes and ties; then dead and duplicated tensors, and sizes and densities beside those of the other layers."""
    yield from _census(judged)
    checkpoint = judged.checkpoint
    facts, unread = _weights_alone.measured(checkpoint, threads=judged.model.threads)
    reported: set[str] = set()
    for look in (_duplicated, _of_weights_alone, _dead_rows, _out_of_line):
        for finding in look(judged, facts):
            if finding.where["tensor"] not in reported:
                reported.add(finding.where["tensor"])
                yield finding
    n_layers = checkpoint.config.num_hidden_layers
    ranges = "" if n_layers >= _outliers.LEAST_LAYERS else f"; {n_layers} layers are too few for robust ranges"
    yield Finding(
        "pass",
        "values",
        f"none of {len(facts)} tensors is dead, a copy of another or out of line{ranges}"
        if not reported
        else f"{len(facts)} tensors looked at{ranges}",
        measure={"n_read": len(facts), "n_layers": n_layers, "n_found": len(reported)},
        coverage=Coverage(len(facts), len(facts) + len(unread), "tensors") if unread else None,
    )


def _census(judged: Judged) -> Iterator[Finding]:
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


def _duplicated(judged: Judged, facts: Mapping[str, Facts]) -> Iterator[Finding]:
    """Two names with the same values: one was written over the other. Vectors of one value throughout say nothing."""
    checkpoint = judged.checkpoint
    seen: dict[tuple[bytes, tuple[int, ...], str], str] = {}
    for name, found in facts.items():
        info = checkpoint.tensors[name].info
        values = judged.tensor_facts.get(info.name)
        if name == _HEAD or not found.rms or values is None or values.min == values.max:
            continue
        first = seen.setdefault((found.digest, info.shape, info.codec), name)
        if first != name:
            message = f"{name} holds the same values as {first}: one was written in the place of the other"
            yield Finding("fail", "duplicate", message, {"tensor": name, "other": first})


def _of_weights_alone(judged: Judged, facts: Mapping[str, Facts]) -> Iterator[Finding]:
    """What `apr why` says of one file: rows or columns of zeros in a layer's matrix, a bias of zeros where other layers have
    one, norms that are off by one, matrices of another size than both layers beside them. The census is told above."""
    codes = {"weights.offset": "norm-offset", "weights.scaled": "size-outlier"}
    for outcome in _weights_alone.judged(judged.checkpoint, facts):
        is_part = outcome.cause == "weights.zeroed" and outcome.kind != "whole"
        is_bias = outcome.cause == "weights.bias_missing" and outcome.tensor in facts
        code = "dead" if is_part or is_bias else codes.get(outcome.cause or "")
        if code is not None:
            where = {"tensor": outcome.tensor, **outcome.where}
            yield Finding("fail", code, f"{outcome.tensor} {outcome.phrase}", where)


def _dead_rows(judged: Judged, facts: Mapping[str, Facts]) -> Iterator[Finding]:
    """Tokens that text is made of and whose row of the embedding is zero."""
    try:
        tokens, types = judged.tokenizer_spec.tokens, judged.tokenizer_spec.token_types
    except AprError:  # the gates of the tokenizer say why
        return
    wanted = {TokenType.NORMAL, TokenType.BYTE, TokenType.USER_DEFINED}
    for name in (_EMBEDDING, _HEAD):
        if name not in facts or not facts[name].rms:
            continue
        rows = [int(i) for i in facts[name].zero_rows if i < len(types) and types[int(i)] in wanted]
        rows = [i for i in rows if tokens[i] != f"[PAD{i}]"]  # tokenizer.json has no type for padding
        if rows:
            message = f"{name}: the rows of {len(rows)} tokens that text is made of are zero, the first {rows[0]}"
            yield Finding("fail", "dead", message, {"tensor": name, "rows": rows[:64], "token_id": rows[0]})


def _out_of_line(judged: Judged, facts: Mapping[str, Facts]) -> Iterator[Finding]:
    """Layers whose tensor of a role is larger, smaller or emptier than the same role's around it."""
    checkpoint, values = judged.checkpoint, judged.tensor_facts

    def size(name: str) -> float:
        return math.log(min(max(facts[name].rms, 1e-30), 1e30))

    def zeros(name: str) -> float:
        info = checkpoint.tensors[name].info
        return values[info.name].n_zero / max(1, info.n_elements)

    looks: tuple[tuple[str, Callable[[str], float], float], ...] = (
        ("size-outlier", size, _FLOOR_SIZE),
        ("density-outlier", zeros, _FLOOR_SHARE),
    )
    for role, layers in _roles(judged, facts).items():
        for code, figure, floor in looks:
            found = {layer: figure(name) for layer, name in layers.items()}
            for outlier in _outliers.outliers(found, floor=floor):
                name = layers[outlier.layer]
                by = (
                    f"{math.exp(outlier.deviation):.3g} times as large as"
                    if code == "size-outlier"
                    else f"{outlier.deviation:+.1%} of zeros against"
                )
                message = (
                    f"{name} is {by} {role} of the layers around it: {outlier.z:.0f} robust standard deviations, "
                    f"healthy models stay below {outlier.bound:.0f}"
                )
                measure = {"deviation": outlier.deviation, "z": outlier.z, "bound": outlier.bound}
                yield Finding("fail", code, message, {"tensor": name, "layer": outlier.layer}, measure)


def _roles(judged: Judged, facts: Mapping[str, Facts]) -> dict[str, dict[int, str]]:
    """role -> layer -> name, of matrices and norms: biases differ from layer to layer by more than any defect."""
    roles: dict[str, dict[int, str]] = {}
    for name in facts:
        layer = layer_of(name)
        if (
            layer is not None
            and not name.endswith(".bias")
            and judged.checkpoint.tensors[name].info.name in judged.tensor_facts
        ):
            roles.setdefault(name.split(".", 3)[3], {})[layer] = name
    return roles
