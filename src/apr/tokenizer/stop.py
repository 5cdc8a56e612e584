"""Which token ids end a turn.

The rule, the same for every source, so that two copies of one model stop alike:

1. the ids that the source names: eos, `eot_token_id` and `eom_token_id` in GGUF, `eos_token_id` (one or a list) in
   generation_config.json and config.json;
2. every special token (type control or user-defined) whose text is a well-known end of turn. llama.cpp goes by text too; it also
   takes such text on a *normal* token (`</s>` in Qwen's vocabulary), which we do not, and the fill-in-the-middle tokens, which end no turn;
3. but not `<|end|>` where the vocabulary has `<|return|>` and `<|call|>`, or `<|flush|>` and `<|calls|>`: there it only separates messages;
   and not `</s>` where `<|tool_response>` exists.

Source of the texts and of the exceptions: llama.cpp, `llama-vocab.cpp`, `special_eog_ids`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from apr.tokenizer.spec import TokenType, places_of

END_OF_TURN = frozenset(
    {
        "<|eot_id|>",
        "<|eom_id|>",
        "<|im_end|>",
        "<|end|>",
        "<|return|>",
        "<|call|>",
        "<|calls|>",
        "<|flush|>",
        "<end_of_turn>",
        "<turn|>",
        "<|tool_response>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<end_of_utterance>",
        "<｜end▁of▁sentence｜>",
        "</s>",
        "<eos>",
        "<EOT>",
        "_<EOT>",
        "[EOT]",
        "[EOS]",
        "[e~[",
    }
)

_NOT_A_STOP_BESIDE = (
    ("<|end|>", {"<|return|>", "<|call|>"}),
    ("<|end|>", {"<|flush|>", "<|calls|>"}),
    ("<|end|>", {"<|flush|>", "<|call|>"}),
    ("</s>", {"<|tool_response>"}),
)


def stop_ids(tokens: Sequence[str], token_types: Sequence[int], named: Iterable[int | None]) -> tuple[int, ...]:
    """Ids that end a turn, ascending.

    named:  the ids that the source itself names (rule 1); None is skipped, and so is an id outside the vocabulary
    """
    special = places_of(token_types, (TokenType.CONTROL, TokenType.USER_DEFINED))
    by_text = {text: i for i in special if (text := tokens[i]) in END_OF_TURN}
    for text, beside in _NOT_A_STOP_BESIDE:
        if beside <= by_text.keys():
            by_text.pop(text, None)
    return tuple(sorted({i for i in named if i is not None and 0 <= i < len(tokens)} | set(by_text.values())))
