"""The one generation, over a scripted session whose logits are known, so that every stop has its own test."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

import tiny
from apr import _folder
from apr.engines._base import Session
from apr.engines._generate import Generation, PromptCache, Step, StopRule, generate
from apr.engines._sampling import Sampling
from apr.errors import UsageError
from apr.formats import open_model
from apr.models._checkpoint import Checkpoint
from apr.models._decoder import Span, no_tap
from apr.tokenizer.tokenizer import Tokenizer

TOKENIZER = Tokenizer(tiny.spec())
EOS = TOKENIZER.eos_token_id


class ScriptedCache:
    """Knows what is to be said of its sequence, and how much of that has been."""

    def __init__(self, script: Sequence[int]) -> None:
        self.length = 0
        self.script = iter(script)

    def truncate(self, length: int) -> None:
        self.length = length


class ScriptedSession:
    """Says the given ids one after the other, each sequence its own, whatever it is asked; keeps what each pass was fed."""

    engine, engine_version, kernel_set, instruction_set, threads, max_positions = "fake", "0", "none", "none", 1, 100
    activations = kv_cache_dtype = "none"

    def __init__(self, *scripts: Sequence[int]) -> None:
        self.scripts = iter(scripts)
        self.passes: list[list[list[int]]] = []

    @property
    def fed(self) -> list[list[int]]:
        """What each pass was fed of its first sequence."""
        return [spans[0] for spans in self.passes]

    def new_cache(self) -> ScriptedCache:
        return ScriptedCache(next(self.scripts))

    def forward(self, spans: Sequence[Span], *, tap: object = no_tap, rows: str = "last") -> np.ndarray:
        self.passes.append([span.token_ids.tolist() for span in spans])
        logits = np.zeros((len(spans), tiny.VOCAB_SIZE), dtype=np.float32)
        for row, span in zip(logits, spans, strict=True):
            assert isinstance(span.cache, ScriptedCache)
            span.cache.length += len(span.token_ids)
            row[next(span.cache.script)] = 5.0
            row[0] += 2.0
        return logits


def ids(text: str) -> list[int]:
    return TOKENIZER.encode(text)


def alone(
    session: ScriptedSession, prompt: Sequence[int], stop: StopRule, *, prompt_cache: PromptCache | None = None
) -> list[Step]:
    generation = Generation(prompt, stop=stop, prompt_cache=prompt_cache)
    steps = [step for _, step in generate(session, TOKENIZER, [generation])]
    assert generation.steps == steps
    return steps


def run(
    script: Sequence[int], *, stop: StopRule, prompt: Sequence[int] = (65, 66)
) -> tuple[list[Step], ScriptedSession]:
    session = ScriptedSession(script)
    return alone(session, prompt, stop), session


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
    steps = alone(session, [65] * 90, StopRule(500))
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
    alone(session, [65, 66], StopRule(2), prompt_cache=cache)
    alone(session, [65, 66, 67, 99, 98], StopRule(1), prompt_cache=cache)
    assert session.fed == [[65, 66], [67], [99, 98]]
    alone(session, [65, 66, 67], StopRule(1), prompt_cache=cache)
    assert session.fed[-1] == [67], "the last prompt token is always fed: its logits are the question"


def test_a_prompt_cache_survives_an_interrupted_pass() -> None:
    session = ScriptedSession([67, 68])
    cache = PromptCache(session)
    alone(session, [65, 66], StopRule(1), prompt_cache=cache)
    cache.token_ids += [1, 2, 3]  # counted, but the pass that should have computed them was interrupted
    assert cache.keep_prefix_of([65, 66, 1, 2, 3, 4]) == 2


def test_sequences_of_unequal_length_share_passes_and_drop_out_as_they_end() -> None:
    session = ScriptedSession(ids("abc"), [*ids("x"), EOS])
    rule = StopRule(3, frozenset({EOS}))
    generations = [Generation([65, 66, 67], stop=rule), Generation([68], stop=rule)]
    steps = list(generate(session, TOKENIZER, generations, batch_size=2))
    assert session.passes == [[[65, 66, 67], [68]], [ids("a"), ids("x")], [ids("b")]]
    assert [(i, step.finish) for i, step in steps] == [(0, None), (1, None), (0, None), (1, "eos"), (0, "length")]
    assert [text_of(g.steps) for g in generations] == ["abc", "x"]
    assert [g.batch for g in generations] == [2, 2]


def test_a_prompt_joins_as_soon_as_another_has_ended() -> None:
    session = ScriptedSession(ids("abcd"), ids("x"), ids("yz"))
    generations = [Generation([65], stop=StopRule(4)), Generation([66], stop=StopRule(1))]
    generations.append(Generation([67, 68], stop=StopRule(2)))
    taken: list[int] = []
    waiting = (taken.append(i) or g for i, g in enumerate(generations))  # type: ignore[func-returns-value]
    steps = generate(session, TOKENIZER, waiting, batch_size=2)
    next(steps)
    assert taken == [0, 1], "the third is not even asked for before there is room for it"
    list(steps)
    assert session.passes[1] == [ids("a"), [67, 68]]
    assert [text_of(g.steps) for g in generations] == ["abcd", "x", "yz"]
    assert generations[2].times[0] > generations[1].times[-1], "its clock starts when it joins"


def test_a_batch_of_one_never_shares_a_pass() -> None:
    session = ScriptedSession(ids("ab"), ids("cd"))
    generations = [Generation([65], stop=StopRule(2)), Generation([66], stop=StopRule(2))]
    list(generate(session, TOKENIZER, generations))
    assert all(len(spans) == 1 for spans in session.passes)
    assert [g.batch for g in generations] == [1, 1]


def test_nothing_to_generate_asks_the_session_nothing() -> None:
    session = ScriptedSession()
    assert list(generate(session, TOKENIZER, [], batch_size=4)) == [] and session.passes == []


def test_what_came_before_an_interruption_can_be_used_again_whole() -> None:
    session = ScriptedSession(ids("abcd"), ids("wxyz"))
    caches = [PromptCache(session), PromptCache(session)]
    generations = [Generation([65 + i], stop=StopRule(4), prompt_cache=cache) for i, cache in enumerate(caches)]
    steps = generate(session, TOKENIZER, generations, batch_size=2)
    next(steps)
    steps.close()  # type: ignore[attr-defined]
    assert [cache.token_ids for cache in caches] == [[65], [66]], (
        "the second's pass is done, though nobody saw its token"
    )


# One by one or together: on the real sessions, whose arithmetic is what could differ.

PROMPTS = (list(range(5, 25)), [7], [9, 8, 7, 6, 5], list(range(40, 120)), [11, 12, 13])
SAMPLINGS = (
    Sampling(),
    Sampling(temperature=0.9, seed=4),
    Sampling(temperature=1.2, top_k=40, repetition_penalty=1.3, seed=4),
    Sampling(temperature=0.8, top_p=0.9, seed=9),
    Sampling(temperature=1.0, min_p=0.01, seed=2),
)


@pytest.fixture(scope="module", params=["native", "numpy"])
def session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Session:
    made = tiny.config("qwen2", hidden_size=128, intermediate_size=160, vocab_size=tiny.VOCAB_SIZE)
    path = tiny.write(tmp_path_factory.mktemp("model"), "gguf", made, codec="q8_0")
    loaded: Session = _folder.load("apr.engines", request.param).load(Checkpoint(open_model(path)), threads=1)
    return loaded


def generated(session: Session, *, batch_size: int) -> list[Generation]:
    made = [
        Generation(prompt, stop=StopRule(10 + 3 * i), sampling=sampling)
        for i, (prompt, sampling) in enumerate(zip(PROMPTS, SAMPLINGS, strict=True))
    ]
    for _ in generate(session, TOKENIZER, made, batch_size=batch_size):
        pass
    return made


def assert_alike(session: Session, one: Generation, other: Generation) -> None:
    """Equal to the last bit on the compiled kernels; on NumPy, whose products of one row and of many differ in theirs, nearly."""
    if session.kernel_set == "native":
        assert one.steps == other.steps
    assert [(s.token_id, s.text, s.finish) for s in one.steps] == [(s.token_id, s.text, s.finish) for s in other.steps]
    np.testing.assert_allclose([s.logprob for s in one.steps], [s.logprob for s in other.steps], atol=1e-4)


@pytest.mark.parametrize("batch_size", [2, 3, 5])
def test_a_batch_generates_what_each_would_alone(session: Session, batch_size: int) -> None:
    expected, actual = generated(session, batch_size=1), generated(session, batch_size=batch_size)
    assert [g.batch for g in actual] == [batch_size] * 5
    assert min(len(g.steps) for g in actual) >= 10
    for one, other in zip(expected, actual, strict=True):
        assert_alike(session, one, other)


def test_a_reused_prefix_changes_nothing(session: Session) -> None:
    cache = PromptCache(session)
    earlier = Generation(PROMPTS[3][:50], stop=StopRule(5), prompt_cache=cache)
    reused = Generation(PROMPTS[3], stop=StopRule(20), prompt_cache=cache)
    fresh = Generation(PROMPTS[3], stop=StopRule(20))
    for generation in (earlier, reused, fresh):
        list(generate(session, TOKENIZER, [generation]))
    assert reused.cached_prompt_tokens >= 50 and fresh.cached_prompt_tokens == 0
    assert_alike(session, reused, fresh)
