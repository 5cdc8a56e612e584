"""Which ids end a turn."""

from __future__ import annotations

from apr.tokenizer.stop import stop_ids


def test_named_ids_and_well_known_texts_stop() -> None:
    tokens = ["a", "<|im_end|>", "<|endoftext|>", "<end_of_turn>"]
    assert stop_ids(tokens, [1, 3, 3, 4], [0]) == (0, 1, 2, 3)


def test_a_normal_token_with_a_well_known_text_does_not_stop() -> None:
    assert stop_ids(["a", "</s>"], [1, 1], [0]) == (0,)


def test_missing_and_foreign_ids_are_passed_over() -> None:
    assert stop_ids(["a"], [1], [None, 5]) == ()


def test_a_message_separator_does_not_stop_where_turns_end_otherwise() -> None:
    tokens = ["<|end|>", "<|return|>", "<|call|>"]
    assert stop_ids(tokens, [3, 3, 3], []) == (1, 2)
    assert stop_ids(tokens[:2], [3, 3], []) == (0, 1)
    assert stop_ids(["</s>", "<|tool_response>"], [3, 3], []) == (1,)
