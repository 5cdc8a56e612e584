"""Hand-made comparisons, with every figure that a report draws: a healthy one, a benign one, a broken one, a hostile one."""

from __future__ import annotations

import math
import random
from typing import Any

from apr.parity._link import LINKS, Finding, LinkResult, different, same, undecided
from apr.parity._report import ParityReport, Proof, WhyReport

SLOTS = ["attn_norm", "q", "k", "v", "q_rope", "k_rope", "attn", "attn_out", "attn_residual", "ffn_norm", "ffn_gate", "ffn_up", "ffn_act", "ffn_swiglu", "ffn_down", "out"]  # fmt: skip
HOSTILE = (
    "</script><script>document.title='pwned'</script><img src=x onerror=document.title='pwned'>\"'&\x1b[31m\u202e\u200b"
)
THRESHOLD = 3e-6


def activations(*, n_layers: int = 24, broken: str | None = None, seed: int = 0) -> dict[str, Any]:
    """Rounding noise everywhere; from the slot named `broken` on, an error that is passed on."""
    draw = random.Random(seed)
    slots: list[dict[str, Any]] = []
    has_broken = False
    for layer in (None, *range(n_layers), None):
        names = SLOTS if layer is not None else ("embed",) if not slots else ("final_norm", "logits")
        for name in names:
            slot = name if layer is None else f"layers.{layer}.{name}"
            is_bad = slot == broken
            has_broken |= is_bad
            local = 0.31 if is_bad else 10 ** draw.uniform(-8.5, -6.2)
            inherited = 10 ** draw.uniform(-1.5, -0.2) if has_broken else 10 ** draw.uniform(-7.5, -5)
            slots.append(
                {"slot": slot, "layer": layer, "name": name, "local": local, "inherited": inherited, "cosine": 1 - local / 2,
                 "max_abs": 4 * local, "snr_db": -20 * math.log10(local), "spread_ratio": 1 + local, "threshold": THRESHOLD,
                 "is_bad": is_bad}
            )  # fmt: skip
    return {"prompt": "sum/chat", "n_positions": 38, "floor": 5e-7, "slots": slots}


def regime(kl: float, *, n: int = 256, n_flips: int = 0, predicted: tuple[float, float] = (0, 2)) -> dict[str, Any]:
    """What the logits of one regime measure."""
    return {
        "n_positions": n, "n_prompts": 4, "kl_mean": kl, "kl_median": kl / 3, "kl_p90": 2 * kl, "kl_p95": 3 * kl,
        "kl_p99": 8 * kl, "kl_p999": 14 * kl, "kl_max": 20 * kl, "kl_interval": [kl * 0.8, kl * 1.3],
        "worst_1pct_share": 0.13, "top1_agreement": 1 - n_flips / n, "rms_dp": 20 * kl**0.5, "n_flips": n_flips,
        "flips_predicted": list(predicted), "n_nonfinite": 0,
    }  # fmt: skip


def strip(probe: str, regime_name: str, text: str, *, scale: float, seed: int = 0) -> dict[str, Any]:
    """A text word by word with drawn margins, and errors of about `scale`."""
    draw = random.Random(seed)
    tokens = [part for word in text.split(" ") for part in (" " + word,)]
    margin = [abs(draw.gauss(3, 2.5)) for _ in tokens]
    error = [abs(draw.gauss(scale, scale)) for _ in tokens]
    flip = [e > 1.15 * m for m, e in zip(margin, error, strict=True)]
    return {
        "probe": probe, "regime": regime_name, "tokens": tokens, "margin": margin, "error": error,
        "kl": [0.1 * e * e for e in error], "flip": flip,
    }  # fmt: skip


TEXT = (
    "The harbour master kept three books. In the first he wrote the ships: name, master, tonnage, cargo, and the hour "
    "at which each one passed the outer mark. In the second he wrote the weather, because the insurers in the capital "
    "asked for it every spring and paid 40 crowns for a fair copy.\nThe third book had no title. Its entries were short."
)


def logits(kl: float, *, scale: float, n_flips: int = 0) -> dict[str, Any]:
    """All five regimes, bands of margins, and two strips."""
    names = ("raw", "chat", "multi-turn", "pre-formatted", "long")
    return {
        "floor": 2.4e-12,
        "regimes": {
            name: regime(kl * (1 + i / 2), n_flips=n_flips, predicted=(n_flips * 0.5, n_flips * 1.6 + 1))
            for i, name in enumerate(names)
        },
        "bands": [
            {"from": 0.0, "to": 0.1, "n": 41, "flips": 11 if n_flips else 0, "predicted": 9.6 if n_flips else 0.0},
            {"from": 0.1, "to": 0.5, "n": 120, "flips": 7 if n_flips else 0, "predicted": 6.1 if n_flips else 0.0},
            {"from": 0.5, "to": 2.0, "n": 402, "flips": 1 if n_flips else 0, "predicted": 0.8 if n_flips else 0.0},
            {"from": 2.0, "to": math.inf, "n": 713, "flips": 0, "predicted": 0.0},
        ],
        "strips": [
            strip("harbour", "long", TEXT, scale=scale, seed=1),
            strip("sum", "chat", "2 + 2 is 4 . Is there anything else that I can help you with ?", scale=scale, seed=2),
        ],
    }  # fmt: skip


def tokens_differ() -> LinkResult:
    """A split rule that takes digits one by one on one side, and a zero-width space that the other side drops."""
    measure = {
        "n_texts": 96,
        "n_different": 2,
        "differences": [
            {"text": "Flight 2047 leaves", "text_offset": 7, "position": 1,
             "reference_ids": [43233, 216, 34, 32, 36, 39, 7116], "candidate_ids": [43233, 216, 9801, 7116],
             "reference_tokens": ["Flight", " ", "2", "0", "4", "7", " leaves"],
             "candidate_tokens": ["Flight", " ", "2047", " leaves"]},
            {"text": "zero\u200bwidth\n\tand tab", "text_offset": 4, "position": 1,
             "reference_ids": [11231, 20, 8123, 198, 197, 392, 5593], "candidate_ids": [11231, 8123, 198, 197, 392, 5593],
             "reference_tokens": ["zero", "\u200b", "width", "\n", "\t", "and", " tab"],
             "candidate_tokens": ["zero", "width", "\n", "\t", "and", " tab"]},
        ],
    }  # fmt: skip
    finding = Finding(
        "tokenizer.pre",
        "digits are cut one by one by the reference and kept together by the candidate: 2 of 96 texts differ",
        {"position": 1, "text_offset": 7, "reference": [216, 34], "candidate": [216, 9801]},
    )
    return different("tokens", [finding], measure)


def template_differs() -> LinkResult:
    """A generation prompt that one side leaves out."""
    rendered = "<|im_start|>user\nWhat is 2+2?<|im_end|>\n"
    measure = {
        "n_conversations": 14,
        "differences": [
            {"conversation": "one question", "reference": rendered + "<|im_start|>assistant\n", "candidate": rendered},
            {"conversation": "spaces", "reference": "a\n\tb \n", "candidate": "a\n\tb\n"},
        ],
    }
    finding = Finding("template.generation_prompt", "the candidate's template ignores add_generation_prompt", {})
    return different("template", [finding], measure)


def weights_differ() -> LinkResult:
    """Two projections of queries that were never turned back, and rounding elsewhere."""
    rounded = [
        {"tensor": f"model.layers.{i}.mlp.down_proj.weight", "verdict": "rounded", "cause": "weights.quantization",
         "codec_reference": "f16", "codec_candidate": "q4_k", "rel_l2": 0.071 + i / 1000, "max_abs": 0.012, "bound": 0.0125}
        for i in range(3)
    ]  # fmt: skip
    permuted = [
        {"tensor": f"model.layers.{i}.self_attn.q_proj.weight", "verdict": "different", "cause": "weights.permuted",
         "codec_reference": "f16", "codec_candidate": "q4_k", "rel_l2": 1.38, "max_abs": 0.81, "bound": 0.0125}
        for i in range(2)
    ]  # fmt: skip
    findings = [
        Finding("weights.permuted", "the rows of model.layers.0.self_attn.q_proj.weight stand in another order (head halves interleaved)",
                {"tensor": "model.layers.0.self_attn.q_proj.weight", "layer": 0}),
        Finding("weights.permuted", "the rows of model.layers.1.self_attn.q_proj.weight stand in another order (head halves interleaved)",
                {"tensor": "model.layers.1.self_attn.q_proj.weight", "layer": 1}),
    ]  # fmt: skip
    return different(
        "weights", findings, {"n_tensors": 290, "n_exact": 285, "n_rounded": 3, "tensors": permuted + rounded}
    )


def generation(*, is_explained: bool) -> dict[str, Any]:
    """Two texts that part, one that does not."""
    return {
        "regimes": {"raw": {"n": 3, "n_identical": 2, "first_divergence": [14, None, None]},
                    "chat": {"n": 2, "n_identical": 1, "first_divergence": [9, None]}},
        "runs": [
            {"probe": "fact", "regime": "raw", "mode": "greedy", "reference_ids": [1, 2, 3], "candidate_ids": [1, 2, 4],
             "reference_text": " 0 degrees Celsius.\nThe boiling point of water is 100", "candidate_text": " 0 degrees Celsius.\nThe freezing point is where ice",
             "first_divergence": 14, "n_forced": 64, "forced_flips": 2, "is_explained": is_explained},
            {"probe": "list", "regime": "raw", "mode": "greedy", "reference_ids": [5, 6], "candidate_ids": [5, 6],
             "reference_text": " Thursday", "candidate_text": " Thursday", "first_divergence": None, "n_forced": 0, "forced_flips": 0, "is_explained": None},
        ],
    }  # fmt: skip


def _links(**changed: LinkResult) -> tuple[LinkResult, ...]:
    sentences = {
        "file": "both files are whole",
        "metadata": "38 keys say the same",
        "tokenizer": "49,152 tokens, 48,900 merges and 17 special tokens are the same",
        "template": "14 renderings are the same to the byte",
        "tokens": "96 texts give the same ids",
        "weights": "272 tensors are the same, bit for bit",
        "activations": "no slot adds more than its noise",
        "logits": "the predictions are the same within the reference's own noise",
        "generation": "9 of 9 texts are the same",
    }
    return tuple(changed.get(link) or same(link, sentences[link]) for link in LINKS)


def healthy() -> ParityReport:
    """Nothing differs."""
    links = _links(
        activations=same("activations", "no slot adds more than its noise", activations()),
        logits=same("logits", "the predictions are the same within the reference's own noise", logits(1.1e-11, scale=1e-5)),
        weights=same("weights", "272 tensors are the same, bit for bit", {"n_tensors": 272, "n_exact": 272, "n_rounded": 0, "tensors": []}),
    )  # fmt: skip
    return ParityReport("smollm2", "smollm2.apr", "same", True, links, 12.4, 0)


def benign() -> WhyReport:
    """An honest quantisation."""
    drift = Finding(
        "drift.quantization",
        "each weight is within the rounding of its block; the flips are those that the margins predict",
    )
    links = _links(
        weights=LinkResult("weights", "different", drift.sentence, {"n_tensors": 272, "n_exact": 61, "n_rounded": 211, "tensors": []}, (drift,), 3.2),
        logits=LinkResult("logits", "different", "mean KL 0.021, and as many flips as the margins predict", logits(0.014, scale=0.35, n_flips=4), (drift,), 18.0),
        generation=LinkResult("generation", "different", "3 of 5 texts are the same; the others part where the drift explains it", generation(is_explained=True), (drift,), 9.0),
        activations=undecided("activations", "skipped", "the weights differ by rounding: every slot differs with them"),
    )  # fmt: skip
    return WhyReport(
        "original/", "model-q4_k.gguf", "different", "weights", "drift.quantization", {}, "The candidate is the reference, rounded to 4 bits, and nothing else.",
        ("the texts part because a few positions have another most likely token", "…because their margins are smaller than the drift", "…because every weight was rounded to 4 bits",
         "…because Q4_K has 16 levels a block", "…which is what quantising is: use more bits if it matters"),
        Proof("the reference's weights", "same", 0.021, 1.2e-11), (), links, True, 41.7, (), 0,
    )  # fmt: skip


def broken() -> WhyReport:
    """Another rope_theta, with everything else that a report can hold."""
    cause = Finding(
        "metadata.value",
        "rope_theta is 10000 in the candidate and 1000000 in the reference",
        {"key": "rope_theta", "reference": 1000000.0, "candidate": 10000.0},
    )
    op = Finding(
        "engine.op",
        "layers.0.q_rope adds 0.31 of its norm where noise adds 3e-06",
        {"slot": "layers.0.q_rope", "layer": 0},
    )
    flips = Finding("engine.op", "72 of 256 most likely tokens differ where the margins predict 3", {})
    links = _links(
        metadata=different("metadata", [cause]),
        template=template_differs(),
        tokens=tokens_differ(),
        weights=weights_differ(),
        activations=different("activations", [op], activations(broken="layers.0.q_rope")),
        logits=different("logits", [flips], logits(0.31, scale=2.0, n_flips=72)),
        generation=LinkResult("generation", "different", "3 of 5 texts are the same", generation(is_explained=False), (flips,), 9.0),
    )  # fmt: skip
    return WhyReport(
        "hf://Qwen/Qwen2.5-Coder-0.5B-Instruct", "qwen2.5-coder-0.5b-q4_k_m.gguf@llama-cpp", "different", "metadata", "metadata.value", cause.where,
        "First broken link: metadata. rope_theta is 10000 in the candidate and 1000000 in the reference; with that put right, nothing else differs.",
        ("the texts differ because the predictions differ: mean KL 0.31 nats over five regimes",
         "…because queries and keys are turned by other angles: layers.0.q_rope is the first slot that fails while its inputs agree",
         "…because rope_theta is 10000 instead of 1000000",
         "…because a key that is not in the file is filled with a default, and the default is another model's",
         "…because the converter did not know the key: convert again, or set it with the value of the original"),
        Proof("rope_theta=1000000.0", "same", 0.31, 1.4e-11), (tokens_differ().findings[0],), links, False, 41.2, ("records/reference.json",), 1,
    )  # fmt: skip


def hostile() -> WhyReport:
    """Whatever a model file or a path can say, is meant to be run."""
    h = HOSTILE
    finding = Finding("tokenizer.vocab", h, {h: h, "token_id": 3, "reference": h})
    links = (
        LinkResult("file", "different", h, {}, (finding,)),
        LinkResult("template", "different", h, {"n_conversations": 1, "differences": [{"conversation": h, "reference": h, "candidate": h + "x"}]}, (finding,)),
        LinkResult("tokens", "different", h, {"n_texts": 1, "n_different": 1, "differences": [{"text": h, "reference_ids": [1, 2], "candidate_ids": [1, 3], "reference_tokens": [h, h], "candidate_tokens": [h, "y" + h]}]}, (finding,)),
        LinkResult("weights", "different", h, {"n_tensors": 1, "n_exact": 0, "n_rounded": 0, "tensors": [{"tensor": h, "verdict": h, "cause": h, "codec_reference": h, "codec_candidate": h, "rel_l2": 1.0, "max_abs": math.nan, "bound": None}]}, (finding,)),
        LinkResult("activations", "different", h, {"prompt": h, "n_positions": 2, "floor": 0.0, "slots": [{"slot": h, "layer": 0, "name": h, "local": math.inf, "inherited": math.nan, "threshold": 1e-6, "is_bad": True}, {"slot": h + "2", "layer": None, "name": h, "local": None, "inherited": None}]}, (finding,)),
        LinkResult("logits", "different", h, {"floor": None, "regimes": {h: regime(math.inf)}, "bands": [], "strips": [{"probe": h, "regime": h, "tokens": [h, "\n"], "margin": [1.0, 0.0], "error": [math.nan, 2.0], "kl": [0.0, 1.0], "flip": [False, True]}]}, (finding,)),
        LinkResult("generation", "different", h, {"regimes": {h: {"n": 1, "n_identical": 0, "first_divergence": [0]}}, "runs": [{"probe": h, "regime": h, "mode": h, "reference_ids": [1], "candidate_ids": [2], "reference_text": h, "candidate_text": "z" + h, "first_divergence": 0, "n_forced": 1, "forced_flips": 1, "is_explained": False}]}, (finding,)),
    )  # fmt: skip
    return WhyReport(
        h,
        h,
        "different",
        "file",
        "tokenizer.vocab",
        finding.where,
        h,
        (h,) * 5,
        Proof(h, h, 1.0, math.nan),
        (finding,),
        links,
        False,
        1.0,
        (h,),
        1,
    )


def as_parity(report: WhyReport) -> ParityReport:
    """The same links, as `apr parity` reports them."""
    assert report.reference is not None
    return ParityReport(report.reference, report.candidate, report.verdict, report.benign, report.links, report.seconds, report.exit_code)  # fmt: skip
