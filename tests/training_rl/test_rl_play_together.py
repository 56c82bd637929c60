"""Strategies that ask for several replies at once: each reply is a sequence of its own."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from tiny_models import make_tokenizer
from unified_ranker.rewards.reward import Reward
from unified_ranker.rewards.score import Scorer

from unified_ranker.backends.tokenizer import TokenizerTools
from unified_ranker.errors import DataError
from unified_ranker.exchange import Message, Request
from unified_ranker.prompts import PromptWriter, load_template
from unified_ranker.schema.types import Candidate, Ranking, RankingExample, Step
from unified_ranker.strategies.base import Asking
from unified_ranker.strategies.registry import make_strategy, method_named
from unified_ranker.training.rl.play import Episode, Tokens, play

LETTERS = TokenizerTools(make_tokenizer(), context_tokens=16_384)
END = int(LETTERS.tokenizer.eos_token_id)


def fruit(*grades: float) -> RankingExample:
    return RankingExample(
        "basket",
        "fruit",
        tuple(Candidate(f"c{place}", f"text {place}") for place in range(len(grades))),
        relevance={f"c{place}": grade for place, grade in enumerate(grades)},
    )


def strategy_of(method: str, **options: Any) -> Any:
    template = load_template("natural", method_named(method).template, "passage")
    return make_strategy(method, writer=PromptWriter(template, LETTERS), **options)


def ids(text: str) -> tuple[int, ...]:
    return tuple(LETTERS.tokenizer(text, add_special_tokens=False)["input_ids"])


def numbered(example: RankingExample, ranking: Ranking) -> list[Reward]:
    return [Reward(10.0 + step.index) for step in ranking.steps]


class Engine:
    """Answers by rule, a number of replies at a time, and keeps who was asked when."""

    def __init__(self, rule: Callable[[str, Request], str], *, order: random.Random | None = None) -> None:
        self.rule, self.order = rule, order
        self.prompts: list[tuple[int, ...]] = []
        self.requests: list[Request] = []
        self.running = self.most = 0

    async def __call__(self, prompt: list[int], request: Request) -> Tokens:
        number = len(self.prompts)
        self.prompts.append(tuple(prompt))
        self.requests.append(request)
        self.running += 1
        # All that are asked together come in before any goes out, in an order of their own.
        for _ in range(self.order.randrange(1, 9) if self.order else 1):
            await asyncio.sleep(0)
        self.most = max(self.most, self.running)
        self.running -= 1
        written = ids(self.rule(request.messages[-1].content, request))
        return Tokens(written, tuple(-1.0 - number - place / 100 for place in range(len(written))))


def played(
    strategy: Any,
    example: RankingExample,
    rule: Callable[[str, Request], str],
    *,
    score: Any = numbered,
    order: random.Random | None = None,
    ends: frozenset[int] = frozenset(),
) -> tuple[Episode, Engine]:
    engine = Engine(rule, order=order)
    episode = asyncio.run(play(strategy, example, reader=LETTERS, ask=engine, score=score, ends=ends))
    assert [turn.step for turn in episode.turns] == list(range(len(episode.ranking.steps)))
    for segment in episode.segments:
        assert len(segment.response) == len(segment.mask) == len(segment.logprobs)
    return episode, engine


def place_in(text: str) -> int:
    """Return which candidate a prompt shows."""
    (place,) = [number for number in range(30) if f"text {number}\n" in text]
    return place


def grade_by(grades: Sequence[str]) -> Callable[[str, Request], str]:
    return lambda text, request: grades[place_in(text)]


@pytest.mark.parametrize("size", [2, 3, 6])
def test_each_grade_of_a_list_is_a_sequence_of_its_own(size: int) -> None:
    example = fruit(*range(size))
    episode, engine = played(strategy_of("pointwise", score="grade"), example, grade_by("0123401234"))
    assert len(episode.segments) == size
    assert engine.most == size
    for place, segment in enumerate(episode.segments):
        request = engine.requests[place]
        assert place_in(request.messages[-1].content) == place
        assert segment.prompt == LETTERS.prompt_ids(request.messages) == list(engine.prompts[place])
        assert segment.response == list(ids("0123401234"[place]))
        assert segment.mask == [1]
        assert segment.logprobs == [-1.0 - place]
        assert [(turn.step, turn.start, turn.end) for turn in segment.turns] == [(place, 0, 1)]
        assert [turn.reward.total for turn in segment.turns] == [10.0 + place]


def test_grades_order_the_list_and_equals_keep_its_order() -> None:
    episode, _ = played(strategy_of("pointwise", score="grade"), fruit(0, 0, 0, 0), grade_by("2040"))
    assert episode.ranking.ids == ("c2", "c0", "c1", "c3")
    assert [step.chosen for step in episode.ranking.steps] == [("c0",), ("c1",), ("c2",), ("c3",)]


@pytest.mark.parametrize("seed", range(8))
def test_whoever_answers_first_every_reply_gets_to_its_own_sequence(seed: int) -> None:
    replies = "31402"
    strategy = strategy_of("pointwise", score="grade")
    episode, engine = played(strategy, fruit(0, 1, 2, 3, 4), grade_by(replies), order=random.Random(seed))
    assert engine.most > 1
    for place, segment in enumerate(episode.segments):
        assert place_in(LETTERS.decode(segment.prompt)) == place
        assert LETTERS.decode(segment.response) == replies[place]
        assert segment.logprobs == [-1.0 - place]
        assert segment.turns[0].reward.total == 10.0 + place


def test_all_grades_of_a_list_are_asked_for_at_the_same_time() -> None:
    arrived = 0

    async def go() -> Episode:
        there = asyncio.Event()

        async def ask(prompt: list[int], request: Request) -> Tokens:
            nonlocal arrived
            arrived += 1
            if arrived == 5:
                there.set()
            # Waits for all the others: one after the other would never come to an end.
            await asyncio.wait_for(there.wait(), timeout=20)
            return Tokens(ids("1"))

        strategy = strategy_of("pointwise", score="grade")
        return await play(strategy, fruit(*range(5)), reader=LETTERS, ask=ask, score=numbered, ends=frozenset())

    assert len(asyncio.run(go()).segments) == 5


def test_a_failing_engine_fails_the_episode() -> None:
    def rule(text: str, request: Request) -> str:
        if place_in(text) == 2:
            raise ConnectionError("gone")
        return "1"

    with pytest.raises(ConnectionError, match="gone"):
        played(strategy_of("pointwise", score="grade"), fruit(0, 1, 2, 3), rule)


def test_thoughts_before_a_grade_are_trained_on_with_it() -> None:
    replies = [f"<think>{'hm ' * place}</think><answer>{place}</answer>" for place in range(4)]
    strategy = strategy_of("pointwise", score="grade", reasoning=True)
    episode, engine = played(strategy, fruit(0, 1, 2, 3), grade_by(replies))
    assert [request.stop for request in engine.requests] == [("</answer>",)] * 4
    for place, segment in enumerate(episode.segments):
        assert LETTERS.decode(segment.response) == replies[place]
        assert set(segment.mask) == {1}
        (turn,) = segment.turns
        assert (turn.start, turn.end) == (0, len(segment.response))
    assert episode.ranking.ids == ("c3", "c2", "c1", "c0")


def test_a_token_that_ends_a_grade_is_trained_on_but_not_read() -> None:
    strategy = strategy_of("pointwise", score="grade", unguided=True)
    rule = grade_by(["4<|im_end|>", "0<|im_end|>"])
    episode, _ = played(strategy, fruit(0, 1), rule, ends=frozenset({END}))
    assert [segment.response for segment in episode.segments] == [[*ids("4"), END], [*ids("0"), END]]
    assert [step.reply for step in episode.ranking.steps] == ["4", "0"]
    assert [segment.mask for segment in episode.segments] == [[1, 1]] * 2


def test_rewards_of_grades_are_those_of_the_scorer() -> None:
    strategy = strategy_of("pointwise", score="grade", unguided=True)
    scorer = Scorer("tfrank", answers=strategy.answers)
    # Wanted are 4, 0 and 2: one right, one right but badly put, one far off, one not to be read.
    episode, _ = played(
        strategy,
        fruit(2, 0, 1, 2),
        grade_by(["4", "0.", "4", "?"]),
        score=lambda example, ranking: scorer.ranking(strategy.parse, example, ranking),
    )
    assert [turn.reward.total for turn in episode.turns] == [1.5, 1.0, 0.75, 0.0]
    assert [step.outcome for step in episode.ranking.steps] == ["ok", "repaired", "ok", "failed"]


def test_a_grade_is_rewarded_by_the_grades_of_the_other_sequences() -> None:
    strategy = strategy_of("pointwise", score="grade")
    scorer = Scorer("erank", answers=strategy.answers)
    found = []
    for other in "04":
        episode, _ = played(
            strategy,
            fruit(1, 0),
            grade_by(["2", other]),
            score=lambda example, ranking: scorer.ranking(strategy.parse, example, ranking),
        )
        found.append([turn.reward.total for turn in episode.turns])
    assert found == [[1.0, 1.0], [0.5, -1.0]]


def test_a_list_of_one_is_one_sequence() -> None:
    episode, engine = played(strategy_of("pointwise", score="grade"), fruit(1), grade_by("3"))
    assert len(episode.segments) == len(engine.requests) == 1
    assert episode.turns[0].end == 1


def test_a_grade_that_is_asked_for_twice_is_refused_with_the_mend() -> None:
    strategy = strategy_of("pointwise", score="grade", unguided=True, on_error="retry", retries=1)
    with pytest.raises(DataError, match="'basket': 3 replies for 2 steps; use on_error='repair'"):
        played(strategy, fruit(0, 1), grade_by(["1", "?"]))


def test_a_set_is_one_reply_and_one_sequence() -> None:
    episode, engine = played(strategy_of("setwise", places=1), fruit(0, 1, 2), lambda text, request: "C")
    (segment,) = episode.segments
    assert engine.requests[0].choices == ("A", "B", "C")
    assert (segment.mask, len(segment.turns)) == ([1], 1)
    assert episode.ranking.ids[0] == "c2"


def best_of(grades: Sequence[float]) -> Callable[[str, Request], str]:
    """Name the best of those that a prompt shows."""

    def rule(text: str, request: Request) -> str:
        shown = [(line[1], int(line.rsplit(" ", 1)[1])) for line in text.splitlines() if line.startswith("[")]
        return max(shown, key=lambda entry: grades[entry[1]])[0]

    return rule


def shown_in(request: Request) -> list[int]:
    lines = request.messages[-1].content.splitlines()
    return [int(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("[")]


def test_subtrees_of_a_heap_that_come_together_are_sequences_of_their_own() -> None:
    # Nodes 1 and 2 of a binary heap of seven share nothing; the root, and what sinks from it, comes after them.
    grades = (6.0, 1.0, 2.0, 3.0, 4.0, 5.0, 0.0)
    episode, engine = played(strategy_of("setwise", set_size=3, places=1), fruit(*grades), best_of(grades))
    assert [shown_in(request) for request in engine.requests] == [[1, 3, 4], [2, 5, 6], [0, 4, 5]]
    assert engine.most == 2
    assert [step.chosen for step in episode.ranking.steps] == [("c4",), ("c5",), ("c0",)]
    assert len(episode.segments) == 3
    for segment, request in zip(episode.segments, engine.requests, strict=True):
        assert segment.prompt == LETTERS.prompt_ids(request.messages)
        assert (segment.mask, len(segment.turns)) == ([1], 1)
    assert [turn.reward.total for turn in episode.turns] == [10.0, 11.0, 12.0]
    assert episode.ranking.ids[0] == "c0"


def test_subtrees_that_sink_further_go_on_together_and_steps_stay_in_order() -> None:
    # Each of nodes 1 and 2 heads a tree of three levels whose best stands at the bottom.
    grades = [0.0] * 15
    for place in (1, 2):
        grades[place] = 0.5
    for place in range(3, 7):
        grades[place] = 1.0 + place
    for place in range(7, 15):
        grades[place] = 20.0 + place
    for seed in range(4):
        strategy = strategy_of("setwise", set_size=3, places=1)
        episode, engine = played(strategy, fruit(*grades), best_of(grades), order=random.Random(seed))
        assert engine.most >= 2
        assert len(episode.segments) == len(engine.requests) == len(episode.ranking.steps)
        for step, segment, request in zip(episode.ranking.steps, episode.segments, engine.requests, strict=True):
            # Who was shown, and who was chosen, are those of the sequence that carries the step.
            assert list(step.labels.values()) == [f"c{place}" for place in shown_in(request)]
            (label,) = [label for label, id in step.labels.items() if id == step.chosen[0]]
            assert LETTERS.decode(segment.response) == label
            assert segment.turns[0].step == step.index
        assert episode.ranking.ids[0] == "c14"


def test_rewards_of_sets_are_those_of_the_scorer() -> None:
    grades = (0.0, 1.0, 2.0, 0.0, 0.0, 2.0, 0.0)
    strategy, scorer = strategy_of("setwise", set_size=3, places=1, unguided=True), Scorer("rank_r1")
    # Right; the second of three, which is right; and a reply that names nobody.
    replies = iter(["A", "B", "?"])
    episode, _ = played(
        strategy,
        fruit(*grades),
        lambda text, request: next(replies),
        score=lambda example, ranking: scorer.ranking(strategy.parse, example, ranking),
    )
    assert [step.labels for step in episode.ranking.steps][1] == {"A": "c2", "B": "c5", "C": "c6"}
    assert [turn.reward.total for turn in episode.turns] == [1.0, 1.0, 0.0]


class Growing:
    """Asks for one reply, then for two that both go on from it, then for one that goes on from the last."""

    name = "growing"

    def rank(self, example: RankingExample) -> Asking:
        def request(said: str) -> Request:
            return Request((Message("user", example.query),), reply_prefix=said)

        (first,) = yield [request("")]
        one, other = yield [request(first.text), request(first.text)]
        (last,) = yield [request(first.text + other.text)]
        said = [first.text, one.text, other.text, last.text]
        return Ranking(
            example.id,
            example.candidates,
            tuple(float(-place) for place in range(len(example.candidates))),
            steps=tuple(Step(place, text, "ok") for place, text in enumerate(said)),
        )


def test_what_is_asked_together_never_joins_an_earlier_sequence() -> None:
    replies = iter("wxyz")
    episode, _ = played(Growing(), fruit(1, 0), lambda text, request: next(replies))
    start = LETTERS.prompt_ids([Message("user", "fruit")])
    assert [LETTERS.decode(segment.prompt[len(start) :]) for segment in episode.segments] == ["", "w", "w"]
    # What comes alone goes on with the last of them.
    assert [LETTERS.decode(segment.response) for segment in episode.segments] == ["w", "x", "yz"]
    assert [[turn.step for turn in segment.turns] for segment in episode.segments] == [[0], [1], [2, 3]]
    assert [(turn.start, turn.end) for turn in episode.segments[2].turns] == [(0, 1), (1, 2)]
    assert [segment.logprobs for segment in episode.segments] == [[-1.0], [-2.0], [-3.0, -4.0]]
