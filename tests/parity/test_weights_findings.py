"""One defect, one finding; the most telling first."""

from __future__ import annotations

from apr.parity._weights_findings import Outcome, findings, layer_of, relation, row


def outcome(tensor: str, cause: str, kind: str = "", **where: object) -> Outcome:
    return Outcome(tensor, "different", cause, kind, f"is {kind}", dict(where), "f16", "q8_0", 0.5, 0.1, 0.01)  # type: ignore[arg-type]


def name(layer: int, module: str) -> str:
    return f"model.layers.{layer}.{module}.weight"


def test_one_defect_over_many_layers_is_one_finding() -> None:
    found = findings(
        outcome(name(layer, f"self_attn.{m}_proj"), "weights.permuted", "interleaved")
        for layer in range(9)
        for m in "qk"
    )
    assert len(found) == 1
    assert (found[0].where["tensor"], found[0].where["layer"]) == (name(0, "self_attn.q_proj"), 0)
    assert len(found[0].where["tensors"]) == 18
    assert "17 more (k_proj, q_proj in layers 0-8)" in found[0].sentence


def test_what_explains_others_comes_first_and_drift_last() -> None:
    found = findings(
        [
            outcome(name(0, "mlp.up_proj"), "drift.quantization"),
            outcome(name(0, "mlp.down_proj"), "weights.unexplained"),
            outcome(name(5, "mlp.up_proj"), "weights.scaled", "2"),
            outcome(name(3, "mlp.up_proj"), "weights.scaled", "3"),
            outcome(name(7, "mlp.up_proj"), "weights.missing"),
        ]
    )
    assert [f.cause.partition(".")[2] for f in found] == ["missing", "scaled", "scaled", "unexplained", "quantization"]
    assert [f.where["layer"] for f in found[1:3]] == [3, 5]


def test_exchanged_layers_and_modules_are_said_once() -> None:
    layers = [
        outcome(name(a, f"mlp.{m}_proj"), "weights.swapped", other=name(b, f"mlp.{m}_proj"))
        for a, b in ((2, 6), (6, 2))
        for m in ("gate", "up", "down")
    ]
    (found,) = findings(layers)
    assert "layers 2 and 6 have changed places" in found.sentence
    modules = [
        outcome(name(layer, f"mlp.{a}_proj"), "weights.swapped", other=name(layer, f"mlp.{b}_proj"))
        for layer in range(3)
        for a, b in (("gate", "up"), ("up", "gate"))
    ]
    (found,) = findings(modules)
    assert "have changed places, and so in 2 more layers" in found.sentence
    (found,) = findings([outcome(name(2, "mlp.up_proj"), "weights.swapped", other=name(6, "mlp.up_proj"))])
    assert "holds what the reference has in" in found.sentence


def test_relations_are_the_same_from_both_sides() -> None:
    assert relation(name(1, "a"), name(4, "a")) == relation(name(4, "b"), name(1, "b"))
    assert relation(name(1, "a"), name(1, "b")) == relation(name(7, "b"), name(7, "a"))
    assert relation("model.norm.weight", "lm_head.weight") == relation("lm_head.weight", "model.norm.weight")


def test_names_have_layers_or_not() -> None:
    assert layer_of(name(12, "mlp.up_proj")) == 12
    assert layer_of("model.norm.weight") is None
    assert row(outcome(name(0, "a"), "weights.scaled"))["codec_candidate"] == "q8_0"
