"""Who wrote which token: playing a strategy with an engine that follows a script."""

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
from unified_ranker.errors import DataError, ReplyError
from unified_ranker.exchange import Message, Request
from unified_ranker.prompts import PromptWriter, load_template
from unified_ranker.schema.types import Candidate, Ranking, RankingExample, Step, places_below
from unified_ranker.strategies.base import Asking
from unified_ranker.strategies.registry import make_strategy, method_named
from unified_ranker.training.rl.play import Episode, Segment, Tokens, Turn, play

LABELS = ("<1>", "<2>", "<3>", "<4>", "<5>", "<6>")
# Each byte is a token, and so is each label of the second one.
LETTERS = TokenizerTools(make_tokenizer(), context_tokens=16_384)
TAGS = TokenizerTools(make_tokenizer(labels=LABELS), context_tokens=16_384, labels=LABELS)
END = int(LETTERS.tokenizer.eos_token_id)
GRADES = (0.0, 2.0, 1.0, 0.0)


def fruit(grades: Sequence[float] = GRADES) -> RankingExample:
    return RankingExample(
        "basket",
        "fruit",
        tuple(Candidate(f"c{place}", f"text {place}") for place in range(len(grades))),
        relevance={f"c{place}": grade for place, grade in enumerate(grades)},
    )


def strategy_of(tools: TokenizerTools, *, style: str = "natural", method: str = "iranker", **options: Any) -> Any:
    template = load_template(style, method_named(method).template, "passage")
    return make_strategy(method, writer=PromptWriter(template, tools), **options)


def ids(tools: TokenizerTools, text: str) -> tuple[int, ...]:
    return tuple(tools.tokenizer(text, add_special_tokens=False)["input_ids"])


class Engine:
    """Writes what it is told to, and keeps what it was asked."""

    def __init__(
        self, tools: TokenizerTools, replies: Sequence[str] | Callable[[Request], str], *, ends: bool = False
    ) -> None:
        self.tools, self.replies, self.ends = tools, replies, ends
        self.prompts: list[list[int]] = []
        self.requests: list[Request] = []
        self.written: list[tuple[int, ...]] = []
        self.logprobs: list[tuple[float, ...]] = []

    async def __call__(self, prompt: list[int], request: Request) -> Tokens:
        reply = self.replies(request) if callable(self.replies) else self.replies[len(self.prompts)]
        tokens = ids(self.tools, reply) + ((END,) if self.ends else ())
        self.prompts.append(list(prompt))
        self.requests.append(request)
        self.written.append(tokens)
        self.logprobs.append(tuple(-1.0 - len(self.prompts) - place / 100 for place in range(len(tokens))))
        return Tokens(tokens, self.logprobs[-1])


def numbered(example: RankingExample, ranking: Ranking) -> list[Reward]:
    """Return rewards that tell their step."""
    return [Reward(10.0 + step.index) for step in ranking.steps]


def played(
    tools: TokenizerTools,
    replies: Sequence[str] | Callable[[Request], str],
    *,
    example: RankingExample | None = None,
    ends: bool = False,
    score: Any = numbered,
    strategy: Any = None,
    **options: Any,
) -> tuple[Episode, Engine]:
    engine = Engine(tools, replies, ends=ends)
    made = strategy or strategy_of(tools, **options)
    known = frozenset({END} if ends else ())
    episode = asyncio.run(play(made, example or fruit(), reader=tools, ask=engine, score=score, ends=known))
    check(episode, engine)
    return episode, engine


def check(episode: Episode, engine: Engine) -> None:
    """Check what holds for every episode: each token of the model follows what the model saw, and is counted once."""
    turns = [(segment, turn) for segment in episode.segments for turn in segment.turns]
    assert [turn.step for _, turn in turns] == list(range(len(turns)))
    assert episode.turns == [turn for _, turn in turns]
    assert len(turns) == len(episode.ranking.steps)
    if len(engine.prompts) == len(turns):
        asked = list(zip(engine.prompts, engine.written, engine.logprobs, strict=True))
    else:
        # One request carried all steps, a token each.
        (prompt,), (whole,), (logprobs,) = engine.prompts, engine.written, engine.logprobs
        asked = [([*prompt, *whole[:i]], (whole[i],), (logprobs[i],)) for i in range(len(whole))]
    for (segment, turn), (prompt, written, logprobs) in zip(turns, asked, strict=True):
        assert segment.prompt + segment.response[: turn.start] == prompt
        assert tuple(segment.response[turn.start : turn.end]) == written
        assert segment.mask[turn.start : turn.end] == [1] * len(written)
        assert tuple(segment.logprobs[turn.start : turn.end]) == logprobs
    for segment in episode.segments:
        assert len(segment.response) == len(segment.mask) == len(segment.logprobs)
        owned = {place for turn in segment.turns for place in range(turn.start, turn.end)}
        assert {place for place, own in enumerate(segment.mask) if own} == owned
        assert all(segment.logprobs[place] == 0 for place in range(len(segment.mask)) if place not in owned)


def bounds(segment: Segment) -> list[tuple[int, int]]:
    return [(turn.start, turn.end) for turn in segment.turns]


def test_a_permutation_is_one_request_one_sequence_and_a_turn_for_each_token() -> None:
    episode, engine = played(TAGS, ["<3><1><4>"], style="compact", permute=True)
    (segment,) = episode.segments
    assert len(engine.requests) == 1
    assert engine.requests[0].draws == 3
    assert segment.prompt == engine.prompts[0]
    assert segment.response == list(ids(TAGS, "<3><1><4>"))
    assert segment.mask == [1, 1, 1]
    assert bounds(segment) == [(0, 1), (1, 2), (2, 3)]
    assert episode.ranking.ids == ("c1", "c3", "c0", "c2")


def test_a_permutation_of_two_is_a_single_token() -> None:
    episode, _ = played(TAGS, ["<2>"], example=fruit((0.0, 1.0)), style="compact", permute=True)
    (segment,) = episode.segments
    assert bounds(segment) == [(0, 1)]
    assert episode.ranking.ids == ("c0", "c1")


def test_a_whole_order_is_a_single_turn() -> None:
    episode, _ = played(TAGS, ["<2><3><1><4>"], style="compact", method="dranker", permute=True)
    (segment,) = episode.segments
    assert bounds(segment) == [(0, 4)]
    assert episode.ranking.ids == ("c1", "c2", "c0", "c3")


def test_steps_without_a_separator_share_a_sequence_without_foreign_tokens() -> None:
    episode, engine = played(TAGS, ["<3>", "<1>", "<4>"], style="compact", layout="append")
    (segment,) = episode.segments
    assert segment.response == list(ids(TAGS, "<3><1><4>"))
    assert segment.mask == [1, 1, 1]
    assert bounds(segment) == [(0, 1), (1, 2), (2, 3)]
    assert [len(prompt) - len(engine.prompts[0]) for prompt in engine.prompts] == [0, 1, 2]


def test_step_by_step_and_at_once_train_on_the_same_sequence() -> None:
    stepwise, _ = played(TAGS, ["<3>", "<1>", "<4>"], style="compact", layout="append")
    at_once, _ = played(TAGS, ["<3><1><4>"], style="compact", permute=True)
    for name in ("prompt", "response", "mask"):
        assert getattr(stepwise.segments[0], name) == getattr(at_once.segments[0], name)
    assert stepwise.turns == at_once.turns
    assert stepwise.ranking.ids == at_once.ranking.ids


def test_separators_are_masked_and_belong_to_no_turn() -> None:
    episode, engine = played(LETTERS, ["C", "A", "D"], layout="append")
    (segment,) = episode.segments
    assert LETTERS.decode(segment.response) == "C\nA\nD"
    assert segment.mask == [1, 0, 1, 0, 1]
    assert bounds(segment) == [(0, 1), (2, 3), (4, 5)]
    assert segment.logprobs == [engine.logprobs[0][0], 0.0, engine.logprobs[1][0], 0.0, engine.logprobs[2][0]]


def test_rounds_have_a_sequence_each_with_its_own_prompt() -> None:
    episode, engine = played(LETTERS, ["C", "A", "B"], layout="rounds")
    assert [segment.prompt for segment in episode.segments] == engine.prompts
    assert len({tuple(prompt) for prompt in engine.prompts}) == 3
    assert [bounds(segment) for segment in episode.segments] == [[(0, 1)]] * 3
    assert [segment.mask for segment in episode.segments] == [[1]] * 3
    assert [segment.turns[0].step for segment in episode.segments] == [0, 1, 2]


# Replies to four candidates without restriction, the outcomes, the turns of each sequence, and how each goes on.
UNGUIDED = {
    "bare labels": (["C", "A", "D"], "ok ok ok", [3], ["C\nA\nD"]),
    "a label and its separator": (["C\n", "A\n", "D\n"], "ok ok ok", [3], ["C\nA\nD\n"]),
    "the separator at times": (["C\n", "A", "D"], "ok ok ok", [3], ["C\nA\nD"]),
    "junk behind a label": (["C.", "A", "D"], "repaired ok ok", [1, 2], ["C.", "A\nD"]),
    "junk behind two labels": (["C.", "A!", "D"], "repaired repaired ok", [1, 1, 1], ["C.", "A!", "D"]),
    "junk behind the last label": (["C", "A", "D."], "ok ok repaired", [3], ["C\nA\nD."]),
    "a wrong label": (["Z", "A", "B"], "failed ok ok", [1, 2], ["Z", "A\nB"]),
    "a label that has left": (["C", "C", "A"], "ok failed ok", [2, 1], ["C\nC", "A"]),
    "the wrong case": (["c", "A", "D"], "repaired ok ok", [1, 2], ["c", "A\nD"]),
    "a reply that runs on": (["C\nA", "A", "D"], "ok ok ok", [1, 2], ["C\nA", "A\nD"]),
    "white space before": ([" C", "A", "D"], "ok ok ok", [1, 2], [" C", "A\nD"]),
    "only junk": (["??", "??", "??"], "failed failed failed", [1, 1, 1], ["??", "??", "??"]),
    "junk on the next line": (["D\n?", "A", "B"], "ok ok ok", [1, 2], ["D\n?", "A\nB"]),
}


@pytest.mark.parametrize("name", UNGUIDED)
def test_a_reply_that_had_to_be_repaired_ends_its_sequence(name: str) -> None:
    replies, outcomes, turns, responses = UNGUIDED[name]
    episode, engine = played(LETTERS, replies, layout="append", unguided=True)
    assert [step.outcome for step in episode.ranking.steps] == outcomes.split()
    assert [len(segment.turns) for segment in episode.segments] == turns
    assert [LETTERS.decode(segment.response) for segment in episode.segments] == responses
    first = [segment.turns[0].step for segment in episode.segments]
    for segment, step in zip(episode.segments, first, strict=True):
        request = engine.requests[step]
        assert segment.prompt == LETTERS.prompt_ids(request.messages, request.reply_prefix)


def test_a_new_sequence_begins_with_what_the_strategy_settled() -> None:
    episode, engine = played(LETTERS, ["Z", "so: B", "A"], layout="append", unguided=True)
    # "Z" is no label: the last in play, D, leaves; "so: B" is read as B.
    assert [request.reply_prefix for request in engine.requests] == ["", "D\n", "D\nB\n"]
    start = engine.prompts[0]
    assert [segment.prompt[len(start) :] for segment in episode.segments] == [
        [],
        list(ids(LETTERS, "D\n")),
        list(ids(LETTERS, "D\nB\n")),
    ]


def test_an_unguided_reply_without_separator_counts_by_its_first_label_and_is_trained_on_whole() -> None:
    episode, _ = played(TAGS, ["<3><1><4>", "<1><4>", "<4>"], style="compact", layout="append", unguided=True)
    assert [len(segment.response) for segment in episode.segments] == [3, 2, 1]
    assert [bounds(segment) for segment in episode.segments] == [[(0, 3)], [(0, 2)], [(0, 1)]]
    assert episode.ranking.ids == ("c1", "c3", "c0", "c2")


@pytest.mark.parametrize("layout", ["append", "rounds"])
def test_a_token_that_ends_a_reply_is_trained_on_but_not_read(layout: str) -> None:
    replies = ["C", "A", "D" if layout == "append" else "B"]
    episode, engine = played(LETTERS, replies, ends=True, layout=layout, unguided=True)
    assert [step.outcome for step in episode.ranking.steps] == ["ok", "ok", "ok"]
    assert [step.reply for step in episode.ranking.steps] == replies
    # Nothing goes on behind an end, so that each step has a sequence of its own.
    assert [segment.response for segment in episode.segments] == [[*ids(LETTERS, reply), END] for reply in replies]
    assert [bounds(segment) for segment in episode.segments] == [[(0, 2)]] * 3
    assert [segment.mask for segment in episode.segments] == [[1, 1]] * 3
    assert episode.ranking.usage.generated_tokens == sum(map(len, engine.written)) == 6


def test_an_end_is_read_as_text_where_it_is_not_known_as_one() -> None:
    engine = Engine(LETTERS, ["C", "A", "B"], ends=True)
    strategy = strategy_of(LETTERS, layout="rounds", unguided=True)
    episode = asyncio.run(play(strategy, fruit(), reader=LETTERS, ask=engine, score=numbered, ends=frozenset()))
    assert [step.reply for step in episode.ranking.steps] == ["C<|im_end|>", "A<|im_end|>", "B<|im_end|>"]


def test_a_reply_of_an_end_alone_is_an_empty_reply() -> None:
    episode, _ = played(LETTERS, ["", "A", "B"], ends=True, layout="rounds", unguided=True)
    assert [step.outcome for step in episode.ranking.steps] == ["failed", "ok", "ok"]
    assert episode.segments[0].response == [END]


def test_an_end_that_a_label_follows_is_text() -> None:
    # Only the last token can end a reply.
    episode, _ = played(LETTERS, ["<|im_end|>C", "A", "B"], ends=True, layout="rounds", unguided=True)
    assert episode.ranking.steps[0].reply == "<|im_end|>C"


@pytest.mark.parametrize("layout", ["append", "rounds"])
def test_thoughts_are_trained_on_with_their_step(layout: str) -> None:
    names = ["C", "A", "D" if layout == "append" else "B"]
    replies = [f"<think>not {name}</think><answer>{name}</answer>" for name in names]
    episode, engine = played(LETTERS, replies, layout=layout, reasoning=True)
    assert [step.outcome for step in episode.ranking.steps] == ["ok", "ok", "ok"]
    assert [request.stop for request in engine.requests] == [("</answer>",)] * 3
    if layout == "rounds":
        assert [LETTERS.decode(segment.response) for segment in episode.segments] == replies
    else:
        (segment,) = episode.segments
        assert LETTERS.decode(segment.response) == "\n".join(replies)
        assert segment.mask.count(0) == 2


def test_a_thought_that_is_settled_otherwise_begins_a_new_sequence() -> None:
    replies = [
        "<think> wide </think><answer>C</answer>",
        "so <answer>A</answer>",
        "<think>x</think><answer>D</answer>",
    ]
    episode, engine = played(LETTERS, replies, layout="append", reasoning=True)
    assert [step.outcome for step in episode.ranking.steps] == ["ok", "repaired", "ok"]
    assert [LETTERS.decode(segment.response) for segment in episode.segments] == replies
    settled = "<think>wide</think><answer>C</answer>\n"
    assert engine.requests[1].reply_prefix == settled
    assert engine.requests[2].reply_prefix == f"{settled}<think></think><answer>A</answer>\n"


def test_a_label_of_several_tokens_is_one_turn() -> None:
    # Labels 01, 02, …: two bytes each, since there are more candidates than letters.
    example = fruit([float(place == 3) for place in range(30)])
    episode, _ = played(LETTERS, lambda request: request.choices[-1], example=example, layout="append")
    (segment,) = episode.segments
    assert len(segment.turns) == 29
    assert {turn.end - turn.start for turn in segment.turns} == {2}
    assert [turn.start for turn in segment.turns] == list(range(0, 29 * 3, 3))


def test_a_list_of_one_is_an_episode_without_a_sequence() -> None:
    episode, engine = played(LETTERS, [], example=fruit((1.0,)))
    assert (episode.segments, episode.turns, engine.prompts) == ([], [], [])
    assert episode.ranking.ids == ("c0",)


@pytest.mark.parametrize(
    ("tools", "replies", "options"),
    [
        (TAGS, ["<3><1><4>"], {"style": "compact", "permute": True}),
        (TAGS, ["<3>", "<1>", "<4>"], {"style": "compact"}),
        (LETTERS, ["C", "A", "D"], {}),
        (LETTERS, ["C", "A", "B"], {"layout": "rounds"}),
        (LETTERS, ["C.", "A", "D"], {"unguided": True}),
    ],
)
def test_each_turn_gets_the_reward_of_its_step(
    tools: TokenizerTools, replies: list[str], options: dict[str, Any]
) -> None:
    episode, _ = played(tools, replies, **options)
    assert [(turn.step, turn.reward.total) for turn in episode.turns] == [(0, 10.0), (1, 11.0), (2, 12.0)]


def test_rewards_are_those_of_the_scorer() -> None:
    strategy = strategy_of(LETTERS, unguided=True)
    scorer = Scorer("binary")
    # B is the best (2): its removal is worth nothing, a malformed reply costs a quarter, and no label a half besides.
    episode, _ = played(
        LETTERS,
        ["A.", "B", "x"],
        strategy=strategy,
        score=lambda example, ranking: scorer.ranking(strategy.parse, example, ranking),
    )
    assert [turn.reward.total for turn in episode.turns] == [0.75, 0.0, -0.75]


def test_the_scorer_sees_the_list_and_the_finished_ranking() -> None:
    seen: list[tuple[str, tuple[str, ...]]] = []

    def score(example: RankingExample, ranking: Ranking) -> list[Reward]:
        seen.append((example.id, ranking.ids))
        return numbered(example, ranking)

    played(LETTERS, ["C", "A", "D"], score=score)
    assert seen == [("basket", ("c1", "c3", "c0", "c2"))]


def test_what_an_engine_does_not_tell_counts_as_zero() -> None:
    async def ask(prompt: list[int], request: Request) -> Tokens:
        return Tokens(ids(LETTERS, request.choices[0]))

    episode = asyncio.run(
        play(strategy_of(LETTERS), fruit(), reader=LETTERS, ask=ask, score=numbered, ends=frozenset())
    )
    assert episode.segments[0].logprobs == [0.0] * 5


LAYOUTS: dict[str, tuple[TokenizerTools, dict[str, Any]]] = {
    "compact": (TAGS, {"style": "compact"}),
    "compact, unguided": (TAGS, {"style": "compact", "unguided": True}),
    "compact, rounds": (TAGS, {"style": "compact", "layout": "rounds"}),
    "natural": (LETTERS, {}),
    "natural, unguided": (LETTERS, {"unguided": True}),
    "natural, rounds": (LETTERS, {"layout": "rounds", "unguided": True}),
    "reasoning": (LETTERS, {"reasoning": True}),
    "reasoning, rounds": (LETTERS, {"reasoning": True, "layout": "rounds"}),
    "dranker": (LETTERS, {"method": "dranker"}),
    "dranker, reasoning": (LETTERS, {"method": "dranker", "reasoning": True}),
}
PIECES = ["A", "B", "C", "D", "E", "F", "\n", "<1>", "<2>", "<3>", "<4>", " ", "?", "<answer>", "</answer>", "<think>"]


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("name", LAYOUTS)
def test_every_token_follows_what_the_model_saw_whatever_it_writes(name: str, ends: bool) -> None:
    tools, options = LAYOUTS[name]
    for seed in range(30):
        rng = random.Random(f"{name}/{seed}")
        example = fruit([float(rng.randrange(3)) for _ in range(rng.randrange(2, 7))])

        def reply(request: Request, rng: random.Random = rng) -> str:
            if request.choices and rng.random() < 0.9:
                return rng.choice(request.choices)
            if rng.random() < 0.3:
                return f"<think>{rng.choice(PIECES)}</think><answer>{rng.choice('ABC')}</answer>"
            return "".join(rng.choices(PIECES, k=rng.randrange(1, 5)))

        episode, engine = played(tools, reply, example=example, ends=ends, **options)
        assert sum(sum(segment.mask) for segment in episode.segments) == sum(map(len, engine.written))
        assert sorted(episode.ranking.ids) == sorted(c.id for c in example.candidates)


class Several:
    """Asks for two replies at once."""

    name = "several"

    def rank(self, example: RankingExample) -> Asking:
        request = Request((Message("user", example.query),))
        replies = yield [request, request]
        steps = tuple(Step(place, reply.text, "ok") for place, reply in enumerate(replies))
        return Ranking(example.id, example.candidates, places_below(len(example.candidates)), steps=steps)


def test_several_requests_at_once_are_sequences_of_their_own() -> None:
    episode, engine = played(LETTERS, ["A", "B"], strategy=Several())
    assert engine.prompts[0] == engine.prompts[1]
    assert [LETTERS.decode(segment.response) for segment in episode.segments] == ["A", "B"]
    assert [bounds(segment) for segment in episode.segments] == [[(0, 1)]] * 2


@pytest.mark.parametrize(("reply", "count"), [("<3>", 1), ("<3><1>", 2), ("<3><1><4><2>", 4)])
def test_a_permutation_of_the_wrong_length_is_refused(reply: str, count: int) -> None:
    with pytest.raises(DataError, match=f"'basket': {count} labels were written for 3 steps"):
        played(TAGS, [reply], style="compact", permute=True)


@pytest.mark.parametrize("extra", [-1, 1])
def test_rewards_that_do_not_fit_the_steps_are_refused(extra: int) -> None:
    with pytest.raises(DataError, match=f"'basket': {3 + extra} rewards for 3 steps"):
        played(LETTERS, ["C", "A", "D"], score=lambda example, ranking: [Reward(1.0)] * (3 + extra))


def test_a_step_that_is_asked_twice_is_refused_with_the_mend() -> None:
    with pytest.raises(DataError, match="'basket': 4 replies for 3 steps; use on_error='repair'"):
        played(LETTERS, ["?", "C", "A", "D"], unguided=True, on_error="retry")


def test_a_reply_that_the_strategy_refuses_is_an_error_of_the_strategy() -> None:
    with pytest.raises(ReplyError, match="'basket', step 0"):
        played(LETTERS, ["?"], unguided=True, on_error="raise")


def test_what_a_turn_is_by_default() -> None:
    assert Turn(3, 5, 7).reward == Reward(0.0)
    assert Segment([1, 2]) == Segment([1, 2], [], [], [], [])
