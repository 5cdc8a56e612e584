"""The one generation, over a scripted session whose logits are known, so that every stop has its own test."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

import tiny
from apr.engines._generate import PromptCache, Step, StopRule, generate
from apr.engines._sampling import Sampling
from apr.errors import UsageError
from apr.models._decoder import no_tap
from apr.tokenizer.tokenizer import Tokenizer

TOKENIZER = Tokenizer(tiny.spec())
EOS = TOKENIZER.eos_token_id


class ScriptedCache:
    def __init__(self) -> None:
        self.length = 0

    def truncate(self, length: int) -> None:
        self.length = length


class ScriptedSession:
    """Says the given ids one after the other, whatever it is asked; counts what it was fed."""

    engine, engine_version, kernel_set, instruction_set, threads, max_positions = "fake", "0", "none", "none", 1, 100

    def __init__(self, script: Sequence[int]) -> None:
        self.script = list(script)
        self.fed: list[list[int]] = []

    def new_cache(self) -> ScriptedCache:
        return ScriptedCache()

    def forward(
        self, token_ids: np.ndarray, cache: ScriptedCache, *, tap: object = no_tap, rows: str = "last"
    ) -> np.ndarray:
        self.fed.append(token_ids.tolist())
        cache.length += len(token_ids)
        logits = np.zeros((1, tiny.VOCAB_SIZE), dtype=np.float32)
        logits[0, self.script[len(self.fed) - 1]] = 5.0
        logits[0, 0] += 2.0
        return logits


def ids(text: str) -> list[int]:
    return TOKENIZER.encode(text)


def run(
    script: Sequence[int], *, stop: StopRule, prompt: Sequence[int] = (65, 66)
) -> tuple[list[Step], ScriptedSession]:
    session = ScriptedSession(script)
    steps = generate(session, TOKENIZER, prompt, stop=stop, sampling=Sampling(), prompt_cache=PromptCache(session))
    return list(steps), session


def text_of(steps: Sequence[Step]) -> str:
    return "".join(step.text for step in steps)


def test_a_stop_id_ends_the_text_and_is_recorded_and_not_shown() -> None:
    steps, _ = run([*ids("ab"), EOS, *ids("cd")], stop=StopRule(50, frozenset({EOS})))
    assert text_of(steps) == "ab"
    assert [s.token_id for s in steps] == [*ids("ab"), EOS]
    assert steps[-1].finish == "eos"


def test_without_stop_ids_the_end_of_text_is_passed() -> None:
    steps, _ = run([*ids("a"), EOS, *ids("b")], stop=StopRule(3))
    assert len(steps) == 3 and steps[-1].finish == "length"


def test_a_stop_string_is_cut_off_and_never_shown_in_part() -> None:
    steps, _ = run(ids("one END two"), stop=StopRule(50, strings=("END",)))
    assert text_of(steps) == "one " and steps[-1].finish == "stop_string"


def test_what_only_looked_like_a_stop_string_is_shown_in_the_end() -> None:
    script = ids("xEN")
    steps, _ = run(script, stop=StopRule(len(script), strings=("END",)))
    assert text_of(steps) == "xEN" and steps[-1].finish == "length"


def test_a_stop_string_that_begins_inside_another_attempt_is_found() -> None:
    steps, _ = run(ids("aabaab!"), stop=StopRule(50, strings=("aab!",)))
    assert text_of(steps) == "aab" and steps[-1].finish == "stop_string"


def test_half_a_character_is_held_back_until_it_is_whole() -> None:
    script = ids("é€")
    steps, _ = run(script, stop=StopRule(len(script)))
    assert text_of(steps) == "é€"
    assert all("\ufffd" not in s.text for s in steps) and steps[0].text == ""


def test_max_tokens_counts_tokens_and_says_length() -> None:
    steps, session = run(ids("abcdef"), stop=StopRule(3))
    assert len(steps) == 3 and steps[-1].finish == "length"
    assert len(session.fed) == 3, "the last token must not be fed: nobody asks what follows it"


def test_a_full_context_ends_the_generation() -> None:
    session = ScriptedSession([65] * 200)
    steps = list(
        generate(
            session, TOKENIZER, [65] * 90, stop=StopRule(500), sampling=Sampling(), prompt_cache=PromptCache(session)
        )
    )
    assert steps[-1].finish == "context_full" and len(steps) == 10


def test_a_prompt_longer_than_the_context_is_refused_with_both_numbers() -> None:
    with pytest.raises(UsageError, match=r"100 tokens.*100"):
        run([65], stop=StopRule(1), prompt=[65] * 100)


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(UsageError, match="empty"):
        run([65], stop=StopRule(1), prompt=[])


def test_the_margin_is_the_distance_of_the_two_best_logits() -> None:
    steps, _ = run([70], stop=StopRule(1))
    assert steps[0].margin == pytest.approx(3.0)
    assert [token_id for token_id, _ in steps[0].top[:2]] == [70, 0]
    assert sum(np.exp(lp) for _, lp in steps[0].top) < 1.0


def test_a_prompt_cache_feeds_only_what_is_new() -> None:
    session = ScriptedSession([67, 68, 69, 70, 71, 72])
    cache = PromptCache(session)
    list(generate(session, TOKENIZER, [65, 66], stop=StopRule(2), sampling=Sampling(), prompt_cache=cache))
    list(generate(session, TOKENIZER, [65, 66, 67, 99, 98], stop=StopRule(1), sampling=Sampling(), prompt_cache=cache))
    assert session.fed == [[65, 66], [67], [99, 98]]
    list(generate(session, TOKENIZER, [65, 66, 67], stop=StopRule(1), sampling=Sampling(), prompt_cache=cache))
    assert session.fed[-1] == [67], "the last prompt token is always fed: its logits are the question"


def test_a_prompt_cache_survives_an_interrupted_pass() -> None:
    session = ScriptedSession([67, 68])
    cache = PromptCache(session)
    list(generate(session, TOKENIZER, [65, 66], stop=StopRule(1), sampling=Sampling(), prompt_cache=cache))
    cache.token_ids += [1, 2, 3]  # counted, but the pass that should have computed them was interrupted
    assert cache.keep_prefix_of([65, 66, 1, 2, 3, 4]) == 2
