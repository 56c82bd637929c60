"""Variants of the reference among a group's replies: whose replies are changed, and into what."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from tiny_models import make_tokenizer
from unified_ranker.rewards.grade import whole_grade
from unified_ranker.rewards.reward import Reward
from unified_ranker.rewards.score import Scorer

from unified_ranker.backends.tokenizer import TokenizerTools
from unified_ranker.exchange import Request
from unified_ranker.prompts import PromptWriter, load_template
from unified_ranker.schema.types import Candidate, RankingExample
from unified_ranker.strategies.registry import make_strategy
from unified_ranker.training.rl.mutation import Mutation
from unified_ranker.training.rl.play import Tokens, play

LETTERS = TokenizerTools(make_tokenizer(), context_tokens=16_384)
SCALE = ("0", "1", "2", "3", "4")


def fruit(*grades: float, id: str = "basket") -> RankingExample:
    return RankingExample(
        id,
        "fruit",
        tuple(Candidate(f"c{place}", f"text {place}") for place in range(len(grades))),
        relevance={f"c{place}": grade for place, grade in enumerate(grades)},
    )


EXAMPLE = fruit(4, 2, 0, 3)


def strategy_of(**options: Any) -> Any:
    writer = PromptWriter(load_template("natural", "pointwise", "passage"), LETTERS)
    return make_strategy("pointwise", writer=writer, score="grade", **options)


def mutation_of(share: float = 0.25, *, group: int = 8, seed: int = 0, answers: Sequence[str] = SCALE) -> Mutation:
    return Mutation(share, group=group, seed=seed, answers=tuple(answers))


def ids(text: str) -> tuple[int, ...]:
    return tuple(LETTERS.tokenizer(text, add_special_tokens=False)["input_ids"])


def prompt_of(strategy: Any, example: RankingExample, place: int) -> list[int]:
    request = next(strategy.rank(example))[place]
    return LETTERS.prompt_ids(request.messages)


def changed(
    written: str,
    *,
    strategy: Any = None,
    place: int = 1,
    session: int = 7,
    mutation: Mutation | None = None,
    example: RankingExample = EXAMPLE,
) -> Tokens:
    made = strategy or strategy_of()
    return (mutation or mutation_of()).apply(
        example, made, prompt_of(made, example, place), ids(written), LETTERS, session
    )


@pytest.mark.parametrize(
    ("share", "group", "held"),
    [
        (0.0, 8, []),
        (0.125, 8, [7]),
        (0.01, 8, [7]),
        (0.25, 8, [6, 7]),
        (0.5, 5, [3, 4]),
        (0.9, 8, [1, 2, 3, 4, 5, 6, 7]),
        (0.99, 8, [1, 2, 3, 4, 5, 6, 7]),
        (0.5, 2, [1]),
        (0.5, 1, []),
    ],
)
def test_the_last_rollouts_of_a_group_are_changed_at_least_one_and_never_all(
    share: float, group: int, held: list[int]
) -> None:
    mutation = mutation_of(share, group=group)
    assert [session for session in range(group) if mutation.holds(session)] == held


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
@pytest.mark.parametrize("group", [2, 5, 8])
def test_validation_which_has_one_rollout_is_left_alone(share: float, group: int) -> None:
    assert not mutation_of(share, group=group).holds(0)


def variants(place: int, *, example: RankingExample = EXAMPLE, count: int = 600, **options: Any) -> Counter[str]:
    mutation = mutation_of(**options)
    return Counter(mutation.variant(example, example.candidates[place], session) for session in range(count))


def test_half_of_the_variants_are_the_reference_and_the_others_its_neighbours() -> None:
    found = variants(1)
    assert whole_grade(EXAMPLE, EXAMPLE.candidates[1].id, top=4) == 2
    assert set(found) == {"1", "2", "3"}
    assert abs(found["2"] - 300) < 60
    assert abs(found["1"] - 150) < 50
    assert abs(found["3"] - 150) < 50


@pytest.mark.parametrize(("place", "reference", "neighbour"), [(0, "4", "3"), (2, "0", "1")])
def test_no_variant_leaves_the_scale(place: int, reference: str, neighbour: str) -> None:
    assert set(variants(place)) == {reference, neighbour}


@pytest.mark.parametrize(("place", "reference"), [(0, "4"), (2, "0")])
def test_at_the_end_of_the_scale_the_reference_is_drawn_as_often_as_not_too(place: int, reference: str) -> None:
    assert abs(variants(place)[reference] - 300) < 60


def test_a_variant_of_yes_or_no_is_one_of_them() -> None:
    assert set(variants(0, answers=("no", "yes"))) == {"no", "yes"}


def test_a_variant_follows_from_seed_list_candidate_and_rollout() -> None:
    mutation = mutation_of(seed=3)

    def drawn(mutation: Mutation, example: RankingExample, place: int) -> list[str]:
        return [mutation.variant(example, example.candidates[place], session) for session in range(40)]

    one = drawn(mutation, EXAMPLE, 1)
    assert one == drawn(mutation_of(seed=3), EXAMPLE, 1)
    assert one != drawn(mutation_of(seed=4), EXAMPLE, 1)
    assert one != drawn(mutation, fruit(4, 2, 0, 3, id="other"), 1)
    assert len(set(one)) > 1
    # Neither the order of the list nor what was drawn before matters.
    turned = EXAMPLE.with_candidates(EXAMPLE.candidates[::-1])
    assert one == drawn(mutation, turned, 2)


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("written", ["0", "4", "?"])
def test_a_bare_reply_becomes_the_variant_of_its_own_candidate(place: int, written: str) -> None:
    found = changed(written, place=place, session=6)
    assert found == Tokens(ids(mutation_of().variant(EXAMPLE, EXAMPLE.candidates[place], 6)))
    assert found.logprobs == ()


def test_rollouts_of_one_group_may_get_different_variants() -> None:
    assert len({changed("0", session=session).ids for session in range(8)}) > 1


@pytest.mark.parametrize(
    ("thoughts", "answer"),
    [("it fits", "0"), ("", "3"), ("two\nlines; 4 of 5, <b>", "  1 "), ("\\1 \\g<0>", "?"), ("x", "3 or so")],
)
def test_thoughts_stay_and_the_grade_behind_them_changes(thoughts: str, answer: str) -> None:
    strategy = strategy_of(reasoning=True)
    found = changed(f"<think>{thoughts}</think><answer>{answer}</answer>", strategy=strategy)
    wanted = mutation_of().variant(EXAMPLE, EXAMPLE.candidates[1], 7)
    assert LETTERS.decode(found.ids) == f"<think>{thoughts}</think><answer>{wanted}</answer>"
    assert (found.logprobs, found.cut) == ((), False)


@pytest.mark.parametrize("written", ["3", "<think>no end", "<think>so</think>3", "<answer>3", "</answer>3<answer>"])
def test_a_reply_without_an_answer_in_tags_stays_as_it_is(written: str) -> None:
    assert changed(written, strategy=strategy_of(reasoning=True)) == Tokens(ids(written))


def test_tags_with_nothing_between_them_stay_as_they_are() -> None:
    written = "<think>so</think><answer></answer>"
    assert changed(written, strategy=strategy_of(reasoning=True)) == Tokens(ids(written))


def test_an_answer_that_thoughts_speak_of_stays() -> None:
    strategy = strategy_of(reasoning=True)
    found = changed("<think>not <answer>0</answer></think><answer>0</answer>", strategy=strategy)
    wanted = mutation_of().variant(EXAMPLE, EXAMPLE.candidates[1], 7)
    assert wanted != "0"
    assert LETTERS.decode(found.ids) == f"<think>not <answer>0</answer></think><answer>{wanted}</answer>"


def test_a_changed_reply_is_no_longer_than_a_reply_may_be() -> None:
    example = fruit(10, 9)
    written = "<think>aaaaaaaaaa</think><answer>9</answer>"
    strategy = strategy_of(reasoning=True, top_grade=10, max_tokens=len(ids(written)))
    for session in range(8):
        found = changed(
            written,
            strategy=strategy,
            place=0,
            session=session,
            mutation=mutation_of(answers=strategy.answers),
            example=example,
        )
        assert len(found.ids) <= strategy.room(example)


def test_of_several_candidates_of_one_text_the_first_is_meant() -> None:
    twins = RankingExample(
        "twins", "q", (Candidate("a", "same"), Candidate("b", "same"), Candidate("c", "other")), relevance={"b": 1.0}
    )
    for session in range(8):
        found = [changed("2", place=place, session=session, example=twins) for place in (0, 1)]
        assert found == [Tokens(ids(mutation_of().variant(twins, twins.candidates[0], session)))] * 2


def test_a_prompt_of_nobody_is_an_error() -> None:
    with pytest.raises(LookupError, match="'basket': no candidate has this prompt"):
        mutation_of().apply(EXAMPLE, strategy_of(), [1, 2, 3], ids("2"), LETTERS, 7)


@pytest.mark.parametrize("reasoning", [False, True])
def test_a_changed_rollout_is_trained_on_and_rewarded_like_any_other(reasoning: bool) -> None:
    strategy, mutation = strategy_of(reasoning=reasoning), mutation_of()
    scorer = Scorer("tfrank", answers=strategy.answers)

    async def ask(prompt: list[int], request: Request) -> Tokens:
        await asyncio.sleep(0)
        written = "<think>hm</think><answer>1</answer>" if reasoning else "1"
        return mutation.apply(EXAMPLE, strategy, prompt, ids(written), LETTERS, 7)

    def score(example: RankingExample, ranking: Any) -> list[Reward]:
        return scorer.ranking(strategy.parse, example, ranking)

    episode = asyncio.run(play(strategy, EXAMPLE, reader=LETTERS, ask=ask, score=score, ends=frozenset()))
    wanted = [mutation.variant(EXAMPLE, candidate, 7) for candidate in EXAMPLE.candidates]
    assert wanted != ["1"] * 4
    for place, (segment, grade) in enumerate(zip(episode.segments, wanted, strict=True)):
        text = f"<think>hm</think><answer>{grade}</answer>" if reasoning else grade
        assert LETTERS.decode(segment.response) == text
        assert set(segment.mask) == {1}
        assert set(segment.logprobs) == {0.0}
        truth = whole_grade(EXAMPLE, EXAMPLE.candidates[place].id, top=4)
        reached = 0.5 * (int(grade) == truth) + 0.5 * (1 - abs(int(grade) - truth) / 4) + 0.5
        assert segment.turns[0].reward.total == pytest.approx(reached)
