"""The five whys: from the text that differs down to what to do, each the reason of the one before.

The first three are measured; the fourth is how such a cause acts, the fifth where it usually comes from. Those two are
knowledge, not evidence, and are worded so.
"""

from __future__ import annotations

from dataclasses import dataclass

from apr.parity._causes import Cause
from apr.parity._link import Finding
from apr.parity._report import Proof


@dataclass(frozen=True, slots=True)
class Lore:
    """What is known of a cause.

    mechanism:  how it reaches the text
    origin:     where it usually comes from, and what to do
    """

    mechanism: str
    origin: str


_LORE: dict[str, Lore] = {
    "file.unreadable": Lore(
        "nothing can be computed from bytes that are not a model",
        "Usually another kind of file, or a page of an error in its place: fetch it again, compare its SHA-256",
    ),
    "file.corrupt": Lore(
        "the header promises bytes that the file does not have, or has otherwise",
        "Usually a download or a copy that was cut short: fetch it again, compare its SHA-256",
    ),
    "metadata.missing": Lore(
        "a key that is not there is filled with a default, and the default is another model's",
        "Usually a converter that did not know the key: convert again with a newer one, or add the key",
    ),
    "metadata.value": Lore(
        "hyper-parameters decide what is computed with the same weights",
        "Usually a converter's default, or a configuration of another revision: convert again from the original",
    ),
    "tokenizer.vocab": Lore(
        "the model reads and writes numbers: another entry under the same number is another word",
        "Usually files of two revisions in one folder, or a vocabulary edited after training",
    ),
    "tokenizer.merges": Lore(
        "merges in another order cut the same text into other tokens, which the model was not trained on",
        "Usually merges that were re-sorted or cut short when the tokenizer was written",
    ),
    "tokenizer.pre": Lore(
        "the split rule decides which merges may happen at all: digits, spaces and contractions fall apart otherwise",
        "Usually a converter that chose the pre-tokenizer by a guess: set tokenizer.ggml.pre to the family's name",
    ),
    "tokenizer.special": Lore(
        "a control token that is read as plain text is no longer the signal that the model was trained to obey",
        "Usually added tokens whose type or id was lost on the way",
    ),
    "tokenizer.bos": Lore(
        "one token too many or too few at the very beginning shifts everything that follows it",
        "Usually template and tokenizer both add it, or neither: set add_bos_token to what the template leaves out",
    ),
    "tokenizer.padding": Lore(
        "rows behind the vocabulary can be chosen, and are no words",
        "Usually an embedding that was padded for speed, and a vocabulary that was not",
    ),
    "template.missing": Lore(
        "a chat model that sees plain text continues it in place of answering",
        "Usually a template that lives in a file of its own and was not copied: add it to the copy",
    ),
    "template.text": Lore(
        "the model sees other words or other blanks around the same question",
        "Usually a template of another revision, or one that somebody improved: take the original's",
    ),
    "template.not_applied": Lore(
        "the model sees the bare question, without the marks that make it a turn",
        "Usually a runner that falls back to a plain prompt: give it the model's own template",
    ),
    "template.double": Lore(
        "a turn inside a turn is a conversation that nobody trained",
        "Usually two layers of software that each apply the template: let one of them do it",
    ),
    "template.generation_prompt": Lore(
        "without the header of the answer the model may go on writing the question",
        "Usually a template that ignores add_generation_prompt: take the original's",
    ),
    "stop.missing": Lore(
        "the model says that its turn is over, and nobody listens",
        "Usually a second end token that generation_config.json has and the copy has not",
    ),
    "stop.extra": Lore(
        "text ends at a token that the model also uses inside its answers",
        "Usually a stop list that was put together by hand",
    ),
    "weights.missing": Lore(
        "a part of the model is not there",
        "Usually a shard that was not copied, or a name that the converter did not map",
    ),
    "weights.extra": Lore(
        "a tensor that nobody reads changes nothing, or stands for a part that is not computed",
        "Usually a file of another architecture, or leftovers of training",
    ),
    "weights.transposed": Lore(
        "a matrix that is read along its other side multiplies by other numbers",
        "Usually a layout that was turned once too often, or not at all",
    ),
    "weights.permuted": Lore(
        "the right rows in the wrong order feed the wrong neighbours",
        "Usually the rotary permutation of q and k, applied once too often or not at all",
    ),
    "weights.swapped": Lore(
        "two parts of the model do each other's work", "Usually two names mixed up in a map of tensors"
    ),
    "weights.scaled": Lore(
        "every product with it is too large or too small",
        "Usually a scale that was applied twice, or folded into the weights and kept beside them",
    ),
    "weights.offset": Lore(
        "a norm's factors are off by a constant",
        "Usually the 1 that some families leave out of their norms, added twice or not at all",
    ),
    "weights.zeroed": Lore("a part of the model is silent", "Usually a tensor that was allocated and never filled"),
    "weights.nonfinite": Lore(
        "one value that is no number makes every later value none",
        "Usually an overflow when it was rounded to a smaller type",
    ),
    "weights.bias_missing": Lore("what should be added is not", "Usually a converter that looks for weights only"),
    "weights.tied": Lore(
        "the output head is not the embedding that it should be, or is it though it should not",
        "Usually a tie flag that was lost or invented in conversion",
    ),
    "weights.quantization": Lore(
        "the error is larger than this type's rounding can be",
        "Usually a fault of the quantiser, or a block that was damaged afterwards: quantise again",
    ),
    "weights.unexplained": Lore(
        "these are other weights",
        "Usually another revision, a fine-tune, or damage that kept the file's structure whole",
    ),
    "engine.op": Lore(
        "this operation gives other results from the same inputs",
        "Usually a kernel for this shape or type: run it under another kernel set to separate the two",
    ),
    "engine.kv_cache": Lore(
        "what was remembered of earlier tokens is not what was computed for them",
        "Usually an index that is off by one, or a window or prefix that is reused wrongly",
    ),
    "engine.position": Lore(
        "tokens are told another place in the text than the one they have",
        "Usually positions that are counted from another start, after a cache or in a batch",
    ),
    "engine.stop": Lore(
        "the engine goes on, or ends, where the model does not", "Usually a stop list of the engine's own"
    ),
    "engine.sampling": Lore(
        "the token that is written is not the one that the model rates highest",
        "Usually a sampler that drops or transforms what greedy decoding must keep",
    ),
    "drift.quantization": Lore(
        "rounded weights move every logit a little; where two tokens are nearly as likely, the choice flips",
        "Nothing is broken: take a larger type where the flips cost too much",
    ),
    "drift.precision": Lore(
        "other rounding moves every logit a little; where two tokens are nearly as likely, the choice flips",
        "Nothing is broken: compute exactly where bits must be equal",
    ),
    "harness": Lore(
        "two answers to two questions say nothing about the models",
        "Ask both sides the same: same prompt ids, template, sampling and engine settings",
    ),
}


def lore(cause: Cause) -> Lore:
    """What is known of a cause."""
    return _LORE[cause]


def five_whys(finding: Finding, link: str, proof: Proof | None, *, subject: str) -> tuple[str, str, str, str, str]:
    """The chain of reasons, from the text to the remedy."""
    known = lore(finding.cause)
    names = {"tokens": "token ids", "generation": "generation"}
    return (
        f"Why does {subject} not say the same? {_text(finding, proof)}",
        f"Why is that? The first link that differs is the {names.get(link, link)}: everything before it is the same.",
        f"Why does it differ? {finding.sentence.rstrip('.')}.{_proved(proof)}",
        f"Why does that reach the text? Because {known.mechanism}.",
        f"Why did it come to that? {known.origin}.",
    )


def _text(finding: Finding, proof: Proof | None) -> str:
    if proof is None and finding.is_benign:
        return "It does, but for rounding: logits move a little, and near ties may turn."
    if proof is None:
        return "It ought not to, by what is known of its kind; how far its text differs needs the original."
    if proof.logit_kl_before is None:
        return "It cannot be run, or be asked, as it is."
    kl = proof.logit_kl_before
    if kl < 1e-6:
        return "Its logits agree where they were compared: what differs shows elsewhere, at the end of a turn or of the context."
    return f"Its predictions are {kl:.3g} nats from the reference's (mean divergence)."


def _proved(proof: Proof | None) -> str:
    if proof is None or proof.logit_kl_after is None:
        return ""
    return f" With {proof.forced} put in its place, the divergence is {proof.logit_kl_after:.3g}."
