"""Whole rankings, scored as training scores them: played by the strategy that serves, read by its own parser."""

from __future__ import annotations

from dataclasses import replace
from math import log2
from typing import Any

import pytest
from reward_cases import MALFORMED_GRADES, MALFORMED_LABELS, MALFORMED_ORDERS, example
from unified_ranker.rewards import Reward
from unified_ranker.rewards.score import REWARDS, Scorer

from unified_ranker.backends import ScriptedBackend, WordTools
from unified_ranker.drivers import run_batch
from unified_ranker.errors import DataError, OptionError
from unified_ranker.exchange import Completion, Request
from unified_ranker.parsing import parse_label, parse_order
from unified_ranker.prompts import PromptWriter, load_template
from unified_ranker.schema import Ranking, RankingExample, Step
from unified_ranker.strategies.base import Sampling
from unified_ranker.strategies.one_shot import OneShot
from unified_ranker.strategies.pointwise import Pointwise
from unified_ranker.strategies.registry import method_named
from unified_ranker.strategies.setwise import Setwise

FRUIT = example({"apple": 2.0, "banana": 1.0, "cherry": 0.0})
# A seed that does not leave the list as it is.
SHUFFLED = 0
OF_GRADES = ["erank", "tfrank", "tfrank_list", "rarl"]
OF_ORDERS = ["reasonrank", "rearank", "gr2"]


def writer(method: str) -> PromptWriter:
    return PromptWriter(load_template("natural", method_named(method).template, "passage"), WordTools())


def pointwise(*, reasoning: bool = False, unguided: bool = True, **options: Any) -> Pointwise:
    sampling = Sampling(reasoning=reasoning, unguided=unguided)
    return Pointwise(writer=writer("pointwise"), sampling=sampling, **{"score": "grade", **options})


def play(strategy: Any, replies: Any, asked: RankingExample = FRUIT) -> Ranking:
    (ranking,) = run_batch(strategy, [asked], ScriptedBackend(replies))
    return ranking


def scored(reward: str, strategy: Pointwise, replies: Any, asked: RankingExample = FRUIT) -> list[Reward]:
    scorer = Scorer(reward, answers=strategy.answers)
    return scorer.ranking(strategy.parse, asked, play(strategy, replies, asked))


# On the scale to 4 the truth is 4, 2 and 0; the list is shown in its ideal order.
@pytest.mark.parametrize(
    ("reward", "replies", "totals"),
    [
        ("erank", ["4", "2", "0"], [1, 1, 1]),
        ("erank", ["2", "3", "2"], [1 / 3, -1, 1 - 2 / 4]),
        ("erank", ["[4]", "grade 3", "?"], [1 - 0.25, 3 / 4 - 0.25, -1]),
        ("erank", ["none", "0", "0"], [-1, -1, -1]),
        ("tfrank", ["4", "2", "0"], [1.5, 1.5, 1.5]),
        ("tfrank", ["3", "[2]", "?"], [3 / 8 + 0.5, 1, 0]),
        ("tfrank_list", ["4", "2", "0"], [1.5, 1.5, 1.5]),
        # One of three is accurate, the order is as good, the error is sqrt((1 + 1 + 0) / 3) / 4.
        ("tfrank_list", ["3", "1.", "0"], [(1 / 3 + 1 + 1 - (2 / 3) ** 0.5 / 4) / 3 + form for form in (0.5, 0, 0.5)]),
        ("rarl", ["4", "2", "0"], [2.1, 2.1, 2.1]),
        ("rarl", ["3", "3", "?"], [3 / 4 + 3 / 4 + 0.1, 3 / 4 + 3 / 4 + 0.1, 0]),
        ("rarl", ["(4)", "2", "2"], [1 + 1, 1 + 3 / 4 + 0.1, 0 + 3 / 4 + 0.1]),
    ],
)
def test_a_pointwise_ranking_by_hand(reward: str, replies: list[str], totals: list[float]) -> None:
    found = scored(reward, pointwise(), replies)
    assert [entry.total for entry in found] == pytest.approx(totals, rel=0, abs=1e-12)


@pytest.mark.parametrize("reward", OF_GRADES)
def test_thoughts_are_read_as_the_strategy_reads_them(reward: str) -> None:
    strategy = pointwise(reasoning=True)
    replies = [f"<think>hm, 3</think><answer>{grade}</answer>" for grade in (4, 1, 0)]
    assert scored(reward, strategy, replies) == scored(reward, pointwise(), ["4", "1", "0"])
    # Without the tags that were asked for there is no grade.
    bare = scored(reward, strategy, [*replies[:2], "0"])
    assert bare[2].total == {"erank": -1, "rarl": 0, "tfrank": 0}.get(reward, bare[0].total - 0.5)


@pytest.mark.parametrize(("reward", "right", "wrong"), [("tfrank", 1.5, 0.5), ("rarl", 2.1, 0.1), ("erank", 1, -1)])
def test_yes_and_no_are_the_grades_1_and_0(reward: str, right: float, wrong: float) -> None:
    asked = example({"apple": 1.0, "cherry": 0.0, "date": 0.0})
    strategy = pointwise(scale="yes_no")
    assert strategy.answers == ("no", "yes")
    assert [entry.total for entry in scored(reward, strategy, ["yes", "no", "no"], asked)] == [right] * 3
    # The last one says yes where the best of the list says no.
    assert scored(reward, strategy, ["no", "no", "yes"], asked)[2].total == pytest.approx(wrong, rel=0, abs=1e-12)


def test_the_top_grade_is_the_last_answer() -> None:
    found = scored("tfrank", pointwise(top_grade=10), ["10", "4", "0"])
    # Targets 10, 5 and 0.
    assert [entry.total for entry in found] == pytest.approx([1.5, 0.5 * 9 / 10 + 0.5, 1.5], rel=0, abs=1e-12)


@pytest.mark.parametrize("reward", OF_GRADES)
@pytest.mark.parametrize("score", ["grade", "expectation", "likely"])
def test_what_a_grade_is_worth_to_the_ranking_does_not_matter(score: str, reward: str) -> None:
    likely = {"0": log2(0.1), "1": log2(0.1), "2": log2(0.5), "3": log2(0.2), "4": log2(0.1)}

    def answer(request: Request) -> Completion:
        said = next(grade for grade, name in zip("413", FRUIT.relevance, strict=True) if name in str(request.messages))
        return Completion(text=said, choice_logprobs=likely)

    strategy = pointwise(unguided=False, score=score)
    assert scored(reward, strategy, answer) == scored(reward, pointwise(), ["4", "1", "3"])


@pytest.mark.parametrize(
    ("reward", "totals"), [("erank", [1 / 3, -1, -1]), ("tfrank", [0.5, 1.5, 0.5]), ("rarl", [0.1, 1.1, 0.1])]
)
def test_rewards_come_in_the_order_of_the_steps_whatever_the_order_of_the_list(
    reward: str, totals: list[float]
) -> None:
    strategy = pointwise()
    ranking = play(strategy, ["0", "2", "4"])
    assert ranking.ids == ("cherry", "banana", "apple")
    scorer = Scorer(reward, answers=strategy.answers)
    found = scorer.ranking(strategy.parse, FRUIT, ranking)
    assert [entry.total for entry in found] == pytest.approx(totals, rel=0, abs=1e-12)
    turned = replace(ranking, steps=ranking.steps[::-1])
    assert scorer.ranking(strategy.parse, FRUIT, turned) == found[::-1]


@pytest.mark.parametrize("reward", OF_GRADES)
def test_a_grade_is_that_of_the_candidate_that_was_shown(reward: str) -> None:
    def answer(request: Request) -> str:
        return next(grade for grade, name in zip("413", FRUIT.relevance, strict=True) if name in str(request.messages))

    strategy = replace(pointwise(), sampling=Sampling(unguided=True, shuffle_seed=SHUFFLED))
    ranking = play(strategy, answer)
    names = [step.chosen[0] for step in ranking.steps]
    assert names != list(FRUIT.relevance)
    found = dict(
        zip(names, Scorer(reward, answers=strategy.answers).ranking(strategy.parse, FRUIT, ranking), strict=True)
    )
    assert found == dict(zip(FRUIT.relevance, scored(reward, pointwise(), ["4", "1", "3"]), strict=True))


@pytest.mark.parametrize("reward", OF_GRADES)
def test_any_reply_to_a_pointwise_question_has_a_reward(reward: str) -> None:
    low, high = {"erank": (-1.25, 1), "rarl": (0, 2.1), "tfrank": (0, 1.5), "tfrank_list": (-1 / 3, 1.5)}[reward]
    for reasoning in (False, True):
        for row in MALFORMED_GRADES:
            found = scored(reward, pointwise(reasoning=reasoning), [row.reply, "2", row.reply])
            assert len(found) == 3
            assert all(low - 1e-12 <= entry.total <= high + 1e-12 for entry in found), row


def test_steps_that_were_asked_again_count_once() -> None:
    strategy = replace(pointwise(), sampling=Sampling(unguided=True, on_error="retry"))

    def answer(request: Request) -> str:
        return "?" if request.temperature == 0 else "4"

    ranking = play(strategy, answer)
    assert [step.attempts for step in ranking.steps] == [2, 2, 2]
    found = Scorer("erank", answers=strategy.answers).ranking(strategy.parse, FRUIT, ranking)
    assert [entry.total for entry in found] == [1 / 3, 1 / 2, 0]


def test_a_setwise_ranking_by_hand() -> None:
    strategy = Setwise(writer=writer("setwise"), sampling=Sampling(unguided=True), set_size=3, places=2)
    asked = example({"apple": 0.0, "banana": 3.0, "cherry": 1.0, "date": 3.0, "elder": 0.0})
    # The heap is built from below. Its top, cherry, is found, and the last of the list is sifted down from its place.
    ranking = play(strategy, ["A", "C", "B", "[B]."], asked)
    shown = [" ".join(step.labels.values()) for step in ranking.steps]
    assert shown == ["banana date elder", "apple banana cherry", "elder banana apple", "elder date"]
    found = Scorer("rank_r1").ranking(strategy.parse, asked, ranking)
    assert [entry.total for entry in found] == [1, 0, 1, 0]


def test_each_comparison_of_a_set_is_paid_by_that_set() -> None:
    strategy = Setwise(
        writer=writer("setwise"), sampling=Sampling(unguided=True), sort="bubblesort", set_size=2, places=1
    )
    asked = example({"apple": 3.0, "banana": 0.0, "cherry": 1.0, "date": 0.0})
    scorer = Scorer("rank_r1")
    # Two by two from the end: {cherry, date}, {banana, winner}, {apple, winner}.
    for replies, sets, totals in (
        (["A", "B", "A"], ["cherry date", "banana cherry", "apple cherry"], [1, 1, 1]),
        (["B", "B", "A"], ["cherry date", "banana date", "apple date"], [0, 1, 1]),
        (["a", "?", "A or B"], ["cherry date", "banana cherry", "apple banana"], [0, 0, 0]),
        (["A", "A", "[A]"], ["cherry date", "banana cherry", "apple banana"], [1, 0, 0]),
    ):
        ranking = play(strategy, replies, asked)
        assert [" ".join(step.labels.values()) for step in ranking.steps] == sets
        assert [entry.total for entry in scorer.ranking(strategy.parse, asked, ranking)] == totals


def test_a_failed_comparison_earns_nothing_though_the_best_of_the_set_wins_it() -> None:
    strategy = Setwise(writer=writer("setwise"), sampling=Sampling(unguided=True), places=1)
    ranking = play(strategy, ["no idea"])
    assert ranking.steps[0].chosen == ("apple",)
    (found,) = Scorer("rank_r1").ranking(strategy.parse, FRUIT, ranking)
    assert (found.total, found.parts) == (0, {"choice": 0, "format": 0})


@pytest.mark.parametrize("reasoning", [False, True])
def test_any_reply_to_a_setwise_question_is_worth_1_or_0(reasoning: bool) -> None:
    strategy = Setwise(writer=writer("setwise"), sampling=Sampling(reasoning=reasoning, unguided=True), places=1)
    scorer = Scorer("rank_r1")
    for row in MALFORMED_LABELS:
        (found,) = scorer.ranking(strategy.parse, FRUIT, play(strategy, [row.reply]))
        assert found.total == 0
    reply = "<think>hm</think><answer>A</answer>" if reasoning else "A"
    assert scorer.ranking(strategy.parse, FRUIT, play(strategy, [reply]))[0].total == 1


# On apple (2), banana (1), cherry (0), shown in that order.
@pytest.mark.parametrize(
    ("reward", "reply", "total"),
    [
        ("reasonrank", "A > B > C", 1.3),
        ("reasonrank", "B > A > C", (1 + 2 / log2(3)) / (2 + 1 / log2(3)) + 0.2 + 0.1 * 2 / 3),
        ("reasonrank", "", 0),
        ("rearank", "A > B > C", 1),
        ("rearank", "B > A > C", 0.8 * (1 + 2 / log2(3)) / (2 + 1 / log2(3)) + 0.2),
        ("rearank", "", -0.7),
        ("gr2", "A > B > C", 0),
        ("gr2", "C > B > A", -1),
        ("gr2", "", -1),
    ],
)
def test_an_order_by_hand(reward: str, reply: str, total: float) -> None:
    strategy = OneShot(writer=writer("dranker"))
    (found,) = Scorer(reward).ranking(strategy.parse, FRUIT, play(strategy, [reply]))
    assert found.total == pytest.approx(total, rel=0, abs=1e-12)


@pytest.mark.parametrize("reward", OF_ORDERS)
def test_any_reply_to_a_listwise_question_has_a_reward(reward: str) -> None:
    low, high = {"reasonrank": (-1, 1.3), "rearank": (-0.8, 1), "gr2": (-1, 1.2)}[reward]
    for reasoning in (False, True):
        strategy = OneShot(writer=writer("dranker"), sampling=Sampling(reasoning=reasoning))
        for row in MALFORMED_ORDERS:
            (found,) = Scorer(reward).ranking(strategy.parse, FRUIT, play(strategy, [row.reply]))
            assert low - 1e-12 <= found.total <= high + 1e-12, row


@pytest.mark.parametrize("reward", ["rearank", "gr2"])
def test_the_list_as_shown_is_that_of_the_prompt(reward: str) -> None:
    strategy = OneShot(writer=writer("dranker"), sampling=Sampling(shuffle_seed=SHUFFLED))
    ranking = play(strategy, ["A > B > C"])
    assert ranking.ids != ("apple", "banana", "cherry")
    (found,) = Scorer(reward).ranking(strategy.parse, FRUIT, ranking)
    assert found.parts.get("gain", found.parts.get("promotion")) == 0


@pytest.mark.parametrize("reward", OF_GRADES)
def test_a_single_step_cannot_be_judged_by_the_whole_list(reward: str) -> None:
    step = Step(0, "4", "ok", chosen=("apple",), labels={"A": "apple"})
    with pytest.raises(DataError, match=f"reward='{reward}' judges a grade by those of the whole list; score the rank"):
        Scorer(reward, answers=("0", "1")).step(FRUIT, step, parse_label("1", ["0", "1"]))


@pytest.mark.parametrize("reward", OF_GRADES)
def test_grades_that_were_read_as_an_order_are_refused(reward: str) -> None:
    strategy = pointwise()
    ranking = play(strategy, ["4", "2", "0"])
    with pytest.raises(DataError, match=f"reward='{reward}' is for single grades, and the reply was read as an order"):
        Scorer(reward, answers=strategy.answers).ranking(parse_order, FRUIT, ranking)


@pytest.mark.parametrize("reward", OF_GRADES)
def test_the_answers_have_to_be_known(reward: str) -> None:
    strategy = pointwise()
    ranking = play(strategy, ["4", "2", "0"])
    with pytest.raises((DataError, OptionError), match="answers"):
        Scorer(reward).ranking(strategy.parse, FRUIT, ranking)


@pytest.mark.parametrize("reward", OF_GRADES)
def test_a_candidate_that_was_graded_twice_is_refused(reward: str) -> None:
    strategy = pointwise()
    ranking = play(strategy, ["4", "2", "0"])
    twice = replace(ranking, steps=(*ranking.steps, ranking.steps[0]))
    with pytest.raises(DataError, match="'apple'"):
        Scorer(reward, answers=strategy.answers).ranking(strategy.parse, FRUIT, twice)


@pytest.mark.parametrize("reward", [*OF_ORDERS, "rank_r1"])
def test_a_reply_that_was_read_in_another_way_is_refused(reward: str) -> None:
    step = Step(0, "A", "ok", labels={"A": "apple", "B": "banana"})
    parsed = parse_order("A > B", ("A", "B")) if reward == "rank_r1" else parse_label("A", ("A", "B"))
    with pytest.raises(DataError, match=reward):
        Scorer(reward).step(FRUIT, step, parsed)


@pytest.mark.parametrize("reward", REWARDS)
def test_a_reward_is_for_one_method_and_the_others_are_told_what_fits(reward: str) -> None:
    fitting = {
        "iranker": "binary, graded",
        "dranker": "permutation, reasonrank, rearank, gr2",
        "setwise": "rank_r1",
        "pointwise": "erank, tfrank, tfrank_list, rarl",
    }
    scorer = Scorer(reward)
    for method, names in fitting.items():
        if reward in names.split(", "):
            scorer.check(method)
            continue
        with pytest.raises(OptionError) as caught:
            scorer.check(method)
        assert str(caught.value) == f"reward={reward!r} is not for method {method!r}; choose one of: {names}"


@pytest.mark.parametrize(("name", "nearest"), [("tfrank_lists", "tfrank_list"), ("rankr1", "rank_r1")])
def test_an_unknown_reward_is_refused_with_the_nearest_name(name: str, nearest: str) -> None:
    with pytest.raises(OptionError, match=f"reward='{name}' is not known; did you mean '{nearest}'"):
        Scorer(name)
