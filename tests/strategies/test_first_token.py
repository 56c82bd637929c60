"""The order that is read off the first label's log-probabilities."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judges import Critic, best_first, ids_listed, items, mixed

from unified_ranker import Ranker, Ranking, RankingExample
from unified_ranker.backends import ScriptedBackend, WordTools
from unified_ranker.errors import BackendError, OptionError, ReplyError
from unified_ranker.exchange import Completion, Request
from unified_ranker.strategies.base import listing

TOLD = Completion("C", {"A": -2.5, "B": -1.5, "C": -0.5, "D": -3.5})


def ask(script: Any, n: int, **options: Any) -> tuple[Ranking, ScriptedBackend]:
    backend = ScriptedBackend(script)
    return Ranker(backend, method="first_token", **options).rank("fruit", items(n)), backend


def test_the_likeliest_label_is_the_best() -> None:
    ranking, backend = ask([TOLD], 4)
    assert ranking.ids == ("2", "1", "0", "3")
    assert ranking.scores == (-0.5, -1.5, -2.5, -3.5)
    assert ranking.method == "first_token"
    (request,) = backend.requests
    assert request.choices == ("A", "B", "C", "D")
    assert (request.temperature, request.draws, request.session, request.reply_prefix) == (0.0, 1, "", "")
    assert "Rank all candidates" in request.messages[-1].content
    (step,) = ranking.steps
    assert (step.chosen, step.in_play, step.outcome) == (ranking.ids, 4, "ok")
    assert step.logprobs == {"0": -2.5, "1": -1.5, "2": -0.5, "3": -3.5}
    assert step.labels == {"A": "0", "B": "1", "C": "2", "D": "3"}


def test_where_the_worst_is_asked_for_the_likeliest_label_is_the_worst() -> None:
    ranking, backend = ask([TOLD], 4, ask="worst")
    assert ranking.ids == ("3", "0", "1", "2")
    assert ranking.scores == (3.5, 2.5, 1.5, 0.5)
    assert "Remove the candidates one after another" in backend.requests[0].messages[-1].content


@pytest.mark.parametrize("sense", ["best", "worst"])
@pytest.mark.parametrize("seed", [None, 3])
def test_labels_that_are_equally_likely_keep_the_order_in_which_they_are_listed(sense: str, seed: int | None) -> None:
    shown = [c.id for c in listing(RankingExample(id="query", query="", candidates=tuple(items(6))), seed)]
    ranking, _ = ask(
        lambda request: Completion("A", dict.fromkeys(request.choices, -1.0)), 6, ask=sense, shuffle_seed=seed
    )
    assert list(ranking.ids) == shown
    assert ranking.scores == pytest.approx((-1.0 if sense == "best" else 1.0,) * 6)
    assert len(set(ranking.scores)) == 6


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    told=st.lists(st.sampled_from([-0.5, -1.0, -1e-9, -30.0, 0.0]) | st.floats(-1e6, 0), min_size=2, max_size=26),
    sense=st.sampled_from(["best", "worst"]),
)
def test_the_order_is_that_of_the_log_probabilities(told: list[float], sense: str) -> None:
    ranking, _ = ask(
        lambda request: Completion("A", dict(zip(request.choices, told, strict=True))), len(told), ask=sense
    )
    sign = -1 if sense == "best" else 1
    assert list(ranking.ids) == sorted(map(str, range(len(told))), key=lambda id: sign * told[int(id)])


@pytest.mark.parametrize("sense", ["best", "worst"])
@pytest.mark.parametrize("style", ["natural", "compact"])
@pytest.mark.parametrize("n", [1, 2, 9, 26])
def test_a_judge_that_knows_gives_the_order_in_one_request(sense: str, style: str, n: int) -> None:
    worth = mixed(n)
    ranking, backend = ask(Critic(worth), n, ask=sense, style=style)
    assert ranking.ids == best_first(worth)
    assert len(backend.requests) == ranking.usage.calls == min(1, n - 1)


def test_one_candidate_is_ranked_without_a_call() -> None:
    ranking, backend = ask([], 1)
    assert (ranking.ids, ranking.scores, ranking.steps, backend.requests) == (("0",), (0.0,), (), [])


def test_lists_share_a_batch_and_a_shuffle_is_shown() -> None:
    backend = ScriptedBackend(Critic(mixed(8)))
    examples = [RankingExample(id=name, query="q", candidates=tuple(items(8))) for name in ("one", "two")]
    rankings = list(Ranker(backend, method="first_token", shuffle_seed=1).rank_batch(examples))
    assert backend.batches == [2]
    assert [ids_listed(request) for request in backend.requests] == [
        [c.id for c in listing(example, 1)] for example in examples
    ]
    assert {ranking.ids for ranking in rankings} == {best_first(mixed(8))}


@pytest.mark.parametrize("reply", ["C", Completion("C", {"A": -1.0, "C": -0.5}), Completion("?", {})])
def test_a_backend_that_does_not_tell_is_named_with_the_mend(reply: Any) -> None:
    with pytest.raises(BackendError, match=r"told no log-probability of \d of 4 labels .*use labels of one token"):
        ask([reply], 4)


def test_labels_of_several_tokens_are_told_in_the_message() -> None:
    backend = ScriptedBackend(
        lambda request: Completion(request.choices[0]), text=WordTools(single=lambda label: False)
    )
    with pytest.raises(BackendError, match=r"30 of 30 labels \('01', …\)"):
        Ranker(backend, method="first_token").rank("q", items(30))


def test_the_reply_itself_does_not_decide_but_is_judged_and_counted() -> None:
    ranking, _ = ask([Completion("nonsense", TOLD.choice_logprobs)], 4)
    assert ranking.ids == ("2", "1", "0", "3")
    assert (ranking.steps[0].outcome, ranking.usage.failed_steps) == ("failed", 1)
    with pytest.raises(ReplyError, match=r"step 0: .*'nonsense'"):
        ask([Completion("nonsense", TOLD.choice_logprobs)], 4, on_error="raise")
    again, backend = ask([Completion("nonsense", TOLD.choice_logprobs), TOLD], 4, on_error="retry")
    assert (again.steps[0].attempts, again.usage.calls, len(backend.requests)) == (2, 2, 2)


def test_a_label_that_cannot_be_at_all_is_the_last() -> None:
    never = Completion("B", {"A": -math.inf, "B": 0.0, "C": -math.inf})
    ranking, _ = ask([never], 3)
    assert ranking.ids == ("1", "0", "2")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"reasoning": True}, "reasoning=True: first_token reads one forward pass"),
        ({"unguided": True}, "unguided=True: first_token reads one forward pass"),
        ({"temperature": 0.7}, "temperature=0.7: first_token draws nothing"),
        ({"ask": "wrst"}, "ask='wrst' is not known; did you mean 'worst'"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(options: dict[str, Any], named: str) -> None:
    with pytest.raises(OptionError, match=named):
        Ranker(ScriptedBackend([]), method="first_token", **options)


def test_shuffles_join_the_orders_of_several_lists() -> None:
    def first_listed(request: Request) -> Completion:
        return Completion("A", {label: -float(place) for place, label in enumerate(request.choices)})

    ranking, backend = ask(first_listed, 6, shuffles=3)
    assert backend.batches == [3]
    places = {id: sum(ids_listed(request).index(id) for request in backend.requests) for id in map(str, range(6))}
    assert list(ranking.ids) == sorted(places, key=lambda id: (places[id], int(id)))
