"""Elimination in blocks: who meets whom, who goes on, what it costs, and what can be relied on."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import cycle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judges import Judge, best_first, counting, erratic, ids_listed, items

from unified_ranker import Candidate, Ranker, Ranking, RankingExample
from unified_ranker.backends import ScriptedBackend, WordTools
from unified_ranker.errors import OptionError, ReplyError
from unified_ranker.exchange import Completion
from unified_ranker.prompts import PromptWriter, load_template
from unified_ranker.strategies import Elimination
from unified_ranker.strategies.base import listing
from unified_ranker.strategies.tournament import Tournament

PERMUTED: dict[str, Any] = {"style": "compact", "permute": True}
WORTH = {"0": 3.0, "1": 6.0, "2": 1.0, "3": 2.0, "4": 5.0, "5": 4.0}


def ask(script: Any, n: int, **options: Any) -> tuple[Ranking, ScriptedBackend]:
    backend = ScriptedBackend(script)
    return Ranker(backend, **{"method": "tournament", **options}).rank("fruit", items(n)), backend


def mixed(n: int, seed: int = 0) -> dict[str, float]:
    """Return what each of n candidates is worth, the list being in no order of it."""
    order = list(range(n))
    random.Random(seed).shuffle(order)
    return {str(number): float(worth) for number, worth in enumerate(order)}


def kept(size: int, survivors: float) -> int:
    """Return how many of a block go on: its share, but at least one leaves and one stays; whoever is alone stays."""
    return 1 if size == 1 else min(max(round(survivors * size), 1), size - 1)


def by_hand(listed: list[str], worth: dict[str, float], block: int, survivors: float) -> tuple[list[str], int]:
    """Return the order that the documentation promises for a judge that knows the worth, and how many places of it are
    sure to be the true ones."""
    standing, gone, sure = list(listed), list[str](), len(listed)
    while len(standing) > block:
        count = -(-len(standing) // block)
        leaving = []
        for first in range(count):
            dealt = [id for place, id in enumerate(standing) if place % count == first]
            stay = kept(len(dealt), survivors)
            # Whoever is among the best so many of a block stays in it.
            sure = min(sure, stay)
            worst = sorted(dealt, key=worth.__getitem__)[: len(dealt) - stay]
            leaving += [(step, -listed.index(id), id) for step, id in enumerate(worst)]
        gone += [id for _, _, id in sorted(leaving)]
        standing = [id for id in standing if id not in gone]
    return [*sorted(standing, key=worth.__getitem__, reverse=True), *reversed(gone)], sure


# Who meets whom


def test_blocks_are_dealt_like_cards_and_the_last_one_is_eliminated_to_the_end() -> None:
    # Item 2 and item 3 are the first to leave their blocks, item 0 and item 5 the second.
    ranking, backend = ask(Judge(WORTH), 6, block=3, survivors=0.34, layout="rounds")
    assert [ids_listed(request) for request in backend.requests] == [
        ["0", "2", "4"],
        ["1", "3", "5"],
        ["0", "4"],
        ["1", "5"],
        ["1", "4"],
    ]
    assert backend.batches == [2, 2, 1]
    assert [step.chosen for step in ranking.steps] == [("2",), ("0",), ("3",), ("5",), ("4",)]
    # At the same step, the one listed later goes below: 3 below 2, 5 below 0, whatever they are worth.
    assert ranking.ids == ("1", "4", "0", "5", "2", "3")
    assert ranking.scores == (5.0, 4.0, 3.0, 2.0, 1.0, 0.0)
    assert ranking.method == "tournament"


def test_survivors_are_dealt_anew_in_the_order_in_which_they_are_listed() -> None:
    worth = {str(i): float(value) for i, value in enumerate([1, 2, 9, 8, 7, 3, 6, 5])}
    ranking, backend = ask(Judge(worth), 8, block=2, **PERMUTED)
    assert [ids_listed(request) for request in backend.requests] == [
        # One card to each of four blocks, and another one to each.
        ["0", "4"],
        ["1", "5"],
        ["2", "6"],
        ["3", "7"],
        # Items 4, 5, 2 and 3 go on, and are dealt as they were listed.
        ["2", "4"],
        ["3", "5"],
        ["2", "3"],
    ]
    assert backend.batches == [4, 2, 1]
    assert ranking.ids == ("2", "3", "4", "5", "0", "1", "6", "7")


@pytest.mark.parametrize("n", [1, 2, 5, 19, 20])
@pytest.mark.parametrize("options", [{}, {"layout": "rounds"}, PERMUTED, {"drop_per_step": 3}, {"shuffle_seed": 4}])
def test_a_list_that_fits_into_a_block_is_a_plain_elimination(n: int, options: dict[str, Any]) -> None:
    tournament, backend = ask(erratic, n, **options)
    plain, other = ask(erratic, n, method="iranker", **options)
    assert replace(tournament, method="", usage=replace(tournament.usage, seconds=0.0)) == replace(
        plain, method="", usage=replace(plain.usage, seconds=0.0)
    )
    assert (tournament.method, plain.method) == ("tournament", "iranker")
    assert backend.batches == other.batches
    assert [replace(request, session="") for request in backend.requests] == [
        replace(request, session="") for request in other.requests
    ]


@pytest.mark.parametrize("n", [21, 40, 41])
def test_no_prompt_shows_more_than_a_block_and_blocks_differ_by_one_at_most(n: int) -> None:
    _, backend = ask(Judge(mixed(n)), n, **PERMUTED)
    sizes = [len(ids_listed(request)) for request in backend.requests]
    first = sizes[: backend.batches[0]]
    assert sum(first) == n
    assert max(first) - min(first) <= 1
    assert max(sizes) <= 20


def test_the_order_is_drawn_once_for_all_rounds() -> None:
    n, seed = 16, 3
    worth = mixed(n)
    shown = [c.id for c in listing(RankingExample(id="query", query="", candidates=tuple(items(n))), seed)]
    assert shown != [c.id for c in items(n)]
    ranking, backend = ask(Judge(worth), n, block=4, shuffle_seed=seed, **PERMUTED)
    listed = [ids_listed(request) for request in backend.requests]
    assert backend.batches == [4, 2, 1]
    assert listed[:4] == [shown[first::4] for first in range(4)]
    for later in listed[4:]:
        assert later == sorted(later, key=shown.index)
    assert list(ranking.ids) == by_hand(shown, worth, 4, 0.5)[0]


def test_without_a_seed_the_list_is_dealt_as_it_comes() -> None:
    _, backend = ask(Judge(mixed(9)), 9, block=3, **PERMUTED)
    assert [ids_listed(request) for request in backend.requests[:3]] == [["0", "3", "6"], ["1", "4", "7"], list("258")]


# What can be relied on

lists = st.builds(mixed, st.integers(1, 200), st.integers(0, 99))
shares = st.floats(0.01, 0.99)


def check_places(worth: dict[str, float], block: int, survivors: float, **options: Any) -> Ranking:
    """Check what a judge that knows the worth has to come to."""
    ranking, backend = ask(Judge(worth), len(worth), block=block, survivors=survivors, **options)
    true, (_, sure) = best_first(worth), by_hand(list(worth), worth, block, survivors)
    assert sorted(ranking.ids) == sorted(worth)
    assert ranking.ids[0] == true[0]
    assert ranking.ids[:sure] == true[:sure]
    # Each candidate but the winner was eliminated once.
    assert sorted(id for step in ranking.steps for id in step.chosen) == sorted(set(worth) - {true[0]})
    assert all(2 <= len(ids_listed(request)) <= block for request in backend.requests)
    # Those that met in the last block are in their true order.
    last = ids_listed(backend.requests[-1]) if backend.requests else list(worth)
    assert list(ranking.ids[: len(last)]) == sorted(last, key=worth.__getitem__, reverse=True)
    return ranking


@settings(max_examples=30, deadline=None, derandomize=True)
@given(worth=lists, block=st.integers(2, 26), survivors=shares)
def test_the_best_wins_and_the_first_places_are_right(worth: dict[str, float], block: int, survivors: float) -> None:
    ranking = check_places(worth, block, survivors, **PERMUTED)
    assert list(ranking.ids) == by_hand(list(worth), worth, block, survivors)[0]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(worth=lists, block=st.integers(2, 26), survivors=shares, drop=st.integers(1, 4))
def test_the_best_wins_and_the_first_places_are_right_step_by_step(
    worth: dict[str, float], block: int, survivors: float, drop: int
) -> None:
    ranking = check_places(worth, block, survivors, drop_per_step=drop)
    assert list(ranking.ids) == by_hand(list(worth), worth, block, survivors)[0]


# Dealt into blocks of two, an odd number leaves one without anybody to be compared with, who goes on.
@settings(max_examples=25, deadline=None, derandomize=True)
@given(worth=lists, survivors=shares)
def test_the_best_wins_where_two_meet_at_a_time(worth: dict[str, float], survivors: float) -> None:
    ranking = check_places(worth, 2, survivors, **PERMUTED)
    assert list(ranking.ids) == by_hand(list(worth), worth, 2, survivors)[0]


@pytest.mark.parametrize("n", [3, 5, 6, 7, 9, 25])
def test_blocks_of_two_take_a_list_of_any_length(n: int) -> None:
    worth = mixed(n)
    ranking, _ = ask(Judge(worth), n, block=2)
    assert sorted(ranking.ids) == sorted(worth)
    assert ranking.ids[0] == best_first(worth)[0]


@pytest.mark.parametrize("n", [2, 4, 8, 64, 128])
def test_a_power_of_two_is_a_cup(n: int) -> None:
    worth = mixed(n)
    ranking, backend = ask(Judge(worth), n, block=2)
    assert ranking.ids[0] == best_first(worth)[0]
    assert backend.batches == [n >> round for round in range(1, n.bit_length())]


@pytest.mark.parametrize("block", [100, 200])
def test_numbers_are_labels_where_letters_do_not_suffice(block: int) -> None:
    worth = mixed(200)
    ranking, backend = ask(Judge(worth), 200, block=block, drop_per_step=10)
    assert list(ranking.ids) == by_hand(list(worth), worth, block, 0.5)[0]
    assert backend.requests[0].choices[0] == str(1).zfill(3)


replies = st.lists(
    st.lists(st.sampled_from([*"ABCDEF", "b", "?", " > ", "\n", "[", "<answer>"]), max_size=6).map("".join),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize("permute", [False, True])
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    replies=replies,
    n=st.integers(1, 25),
    block=st.integers(2, 6),
    survivors=shares,
    unguided=st.booleans(),
    shuffle_seed=st.none() | st.integers(0, 3),
)
def test_any_reply_gives_a_permutation_and_every_flaw_is_counted(
    permute: bool,
    replies: list[str],
    n: int,
    block: int,
    survivors: float,
    unguided: bool,
    shuffle_seed: int | None,
) -> None:
    script = cycle(replies)
    own = PERMUTED if permute else {"unguided": unguided}
    ranking, backend = ask(
        lambda request: next(script), n, block=block, survivors=survivors, shuffle_seed=shuffle_seed, **own
    )
    assert sorted(ranking.ids, key=int) == [str(i) for i in range(n)]
    assert len(ranking.steps) == n - 1
    assert [step.index for step in ranking.steps] == list(range(n - 1))
    outcomes = [step.outcome for step in ranking.steps]
    assert ranking.usage.repaired_steps == outcomes.count("repaired")
    assert ranking.usage.failed_steps == outcomes.count("failed")
    assert ranking.usage.calls == len(backend.requests) == sum(backend.batches)


def test_candidates_with_the_same_text_stay_two() -> None:
    backend = ScriptedBackend(lambda request: request.choices[-1])
    ranking = Ranker(backend, method="tournament", block=3).rank("fruit", [Candidate(str(i), "same") for i in range(7)])
    assert sorted(ranking.ids) == [str(i) for i in range(7)]


# What it costs


def words(backend: ScriptedBackend) -> int:
    return sum(backend.text.count_prompt(request.messages, request.reply_prefix) for request in backend.requests)


@pytest.mark.parametrize("survivors", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("n", [100, 1000])
def test_all_prompts_together_show_a_fixed_number_of_times_the_list(n: int, survivors: float) -> None:
    worth = mixed(n)
    ranking, backend = ask(Judge(worth), n, survivors=survivors, **PERMUTED)
    shown = sum(len(ids_listed(request)) for request in backend.requests)
    assert n <= shown <= n / (1 - survivors) + 20
    assert ranking.ids[0] == best_first(worth)[0]


@pytest.mark.parametrize("n", [100, 1000])
def test_step_by_step_each_candidate_is_listed_as_often_as_in_one_decode(n: int) -> None:
    worth = mixed(n)
    _, at_once = ask(Judge(worth), n, **PERMUTED)
    _, step_by_step = ask(Judge(worth), n, style="compact")
    # One prompt a session: the steps of a block extend it.
    prompts = {request.session: request.messages for request in step_by_step.requests}
    assert list(prompts.values()) == [request.messages for request in at_once.requests]
    assert len(step_by_step.requests) == n - 1


@pytest.mark.parametrize("options", [PERMUTED, {}, {"layout": "rounds"}, {"drop_per_step": 5}], ids=str)
def test_the_words_of_all_prompts_grow_with_the_list_and_not_with_its_square(options: dict[str, Any]) -> None:
    short, long = (ask(Judge(mixed(n)), n, **options)[1] for n in (100, 1000))
    assert 9 < words(long) / words(short) < 11.5


def test_all_blocks_of_a_round_go_out_together() -> None:
    worth = mixed(100)
    _, at_once = ask(Judge(worth), 100, **PERMUTED)
    # 5 blocks of 20, 50 left; 17, 17 and 16, 24 left; twice 12, 12 left.
    assert at_once.batches == [5, 3, 2, 1]
    assert [len(ids_listed(request)) for request in at_once.requests] == [20] * 5 + [17, 17, 16] + [12] * 3
    for layout in ("append", "rounds"):
        _, step_by_step = ask(Judge(worth), 100, layout=layout)
        # Of 17, nine leave, of 16 eight: the last step of that round is of two blocks.
        assert step_by_step.batches == [5] * 10 + [3] * 8 + [2] + [2] * 6 + [1] * 11


def test_two_lists_share_the_batches_of_their_rounds() -> None:
    backend = ScriptedBackend(Judge(mixed(20)))
    ranker = Ranker(backend, method="tournament", block=5, **PERMUTED)
    examples = [RankingExample(id=name, query="fruit", candidates=tuple(items(20))) for name in ("one", "two")]
    first, second = ranker.rank_batch(examples)
    assert backend.batches == [8, 4, 2]
    assert first.ids == second.ids


def test_what_all_rounds_cost_and_did_is_added_up() -> None:
    paid: list[Completion] = []
    ranking, backend = ask(counting(Judge(mixed(30)), paid), 30, block=7)
    assert ranking.usage.calls == len(paid) == len(backend.requests) == 29
    assert ranking.usage.prompt_tokens == sum(entry.prompt_tokens for entry in paid)
    assert ranking.usage.reused_tokens == sum(entry.reused_tokens for entry in paid)
    assert ranking.usage.generated_tokens == sum(entry.generated_tokens for entry in paid)
    assert len(ranking.steps) == 29
    assert [step.index for step in ranking.steps] == list(range(29))
    assert all(step.chosen[0] in step.logprobs for step in ranking.steps)


def test_what_is_cut_in_any_block_is_counted() -> None:
    long = [Candidate(str(i), "word " * 200) for i in range(8)]
    backend = ScriptedBackend(lambda request: request.choices[-1])
    ranking = Ranker(backend, method="tournament", block=4, token_budget=300).rank("fruit", long)
    # Two blocks of four, and then one.
    assert ranking.usage.truncated_candidates == 12


# What becomes of a reply that cannot be used


def test_raise_gives_up_the_sessions_of_all_blocks() -> None:
    backend = ScriptedBackend(["A", "A", "nonsense"])
    with pytest.raises(ReplyError, match=r"example 'query', step 0: .*'nonsense'"):
        Ranker(backend, method="tournament", block=4, on_error="raise").rank("fruit", items(12))
    sessions = [request.session for request in backend.requests]
    assert len(set(sessions)) == 3
    assert sorted(backend.forgotten) == sorted(sessions)


def test_retry_asks_a_block_again_and_the_others_wait_for_nothing() -> None:
    ranking, backend = ask(["?", "A", "C", "B", "A", "B", "A", "C"], 8, block=4, on_error="retry")
    # Items 0, 2, 4 and 6 meet, and items 1, 3, 5 and 7; the first block needs a second attempt at its first step.
    assert backend.batches == [2, 2, 1, 1, 1, 1]
    assert [step.attempts for step in ranking.steps] == [2, 1, 1, 1, 1, 1, 1]
    assert ranking.usage.calls == 8


# What is refused


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"block": 1}, "block=1 must be ≥ 2"),
        ({"block": 0}, "block=0 must be ≥ 2"),
        ({"block": -3}, "block=-3 must be ≥ 2"),
        ({"survivors": 0}, "survivors=0 must be above 0 and below 1"),
        ({"survivors": 1}, "survivors=1 must be above 0 and below 1"),
        ({"survivors": -0.1}, "survivors=-0.1 must be"),
        ({"survivors": 1.5}, "survivors=1.5 must be"),
        ({"survivors": float("nan")}, "survivors=nan must be"),
        ({"max_steps": 3}, "max_steps=3: the method 'tournament' does not take it"),
        ({"stop_at": 3}, "stop_at=3: the method 'tournament' does not take it"),
        ({"finish": "dranker"}, "finish='dranker': the method 'tournament' does not take it"),
        ({"guided": True}, "guided=True: the method 'tournament' does not take it"),
        ({"layout": "circle"}, "layout='circle' is not known"),
        ({"drop_per_step": 0}, "drop_per_step=0 must be ≥ 1"),
        ({"permute": True, "style": "natural"}, "use style='compact'"),
        ({"permute": True, "style": "compact", "layout": "rounds"}, "permute=True needs layout='append'"),
    ],
)
def test_what_cannot_be_used_is_refused_at_once(options: dict[str, Any], named: str) -> None:
    backend = ScriptedBackend([])
    with pytest.raises(OptionError, match=named):
        Ranker(backend, method="tournament", **options)
    assert backend.requests == []


@pytest.mark.parametrize("name", ["max_steps", "stop_at"])
def test_an_elimination_that_stops_by_itself_makes_no_tournament(name: str) -> None:
    writer = PromptWriter(load_template("natural", "elimination", "passage"), WordTools())
    limits: dict[str, Any] = {name: 2}
    with pytest.raises(OptionError, match=f"{name} does not go with method='tournament'"):
        Tournament(elimination=Elimination(writer=writer, **limits))
