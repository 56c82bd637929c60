from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from speed_judges import best_first, judge, shown, worth_list, writers
from unified_ranker.benchmarks.speed.references import heapsort, lock_step

from unified_ranker.backends import ScriptedBackend
from unified_ranker.errors import BackendError
from unified_ranker.exchange import Completion
from unified_ranker.schema.types import Ranking, Usage

LENGTHS = (3, 1, 7, 5, 2, 6, 4)
DOMAINS = ("passage", "recommendation", "routing")


def assert_unknown_order_below(ranking: Ranking, count: int) -> None:
    assert sorted(candidate.id for candidate in ranking.order) == sorted(best_first(count))


@pytest.mark.parametrize("seed", range(4))
def test_lock_step_gives_the_true_order_of_lists_of_different_length(seed: int) -> None:
    examples = [worth_list(n, id=f"q{n}", seed=seed) for n in LENGTHS]
    rankings = lock_step(examples, ScriptedBackend(judge), writers())
    assert [ranking.example_id for ranking in rankings] == [example.id for example in examples]
    assert [list(ranking.ids) for ranking in rankings] == [best_first(n) for n in LENGTHS]
    assert [len(ranking.scores) for ranking in rankings] == list(LENGTHS)


def test_lock_step_asks_one_batch_a_step_with_every_list_that_still_runs() -> None:
    backend = ScriptedBackend(judge)
    lock_step([worth_list(n, id=f"q{n}") for n in LENGTHS], backend, writers())
    assert backend.batches == [6, 5, 4, 3, 2, 1]


def test_each_prompt_of_lock_step_is_fresh_and_lists_what_is_left_in_the_order_given() -> None:
    examples = [worth_list(n, id=f"q{n}") for n in LENGTHS]
    backend = ScriptedBackend(judge)
    lock_step(examples, backend, writers())
    expected = [
        # The worst of each list go first, so that after so many steps those of that worth and more are left.
        (example.query, [int(c.id) for c in example.candidates if int(c.id) >= step])
        for step in range(max(LENGTHS) - 1)
        for example in examples
        if len(example.candidates) - step > 1
    ]
    found = []
    for request in backend.requests:
        (query,) = (e.query for e in examples if f"Query: {e.query}\n" in request.messages[-1].content)
        found.append((query, list(shown(request).values())))
        assert (request.reply_prefix, request.session, request.draws, request.temperature) == ("", "", 1, 0.0)
        assert request.choices == tuple("ABCDEFG"[: len(request.choices)])
    assert found == expected


def test_lock_step_counts_what_each_list_cost() -> None:
    rankings = lock_step([worth_list(n, id=f"q{n}") for n in LENGTHS], ScriptedBackend(judge), writers())
    for n, ranking in zip(LENGTHS, rankings, strict=True):
        shown_in_all = sum(range(2, n + 1))
        assert ranking.usage == Usage(
            calls=n - 1,
            prompt_tokens=100 * (n - 1) + shown_in_all,
            reused_tokens=shown_in_all,
            generated_tokens=n - 1,
        )


def test_lock_step_asks_for_the_writer_of_each_lists_domain() -> None:
    asked: list[str] = []
    examples = [worth_list(2, id=domain, domain=domain) for domain in DOMAINS]
    rankings = lock_step(examples, ScriptedBackend(["A", "B", "A"]), writers(asked))
    assert asked == list(DOMAINS)
    first = [example.candidates[place].id for example, place in zip(examples, (1, 0, 1), strict=True)]
    assert [ranking.ids[0] for ranking in rankings] == first


@pytest.mark.parametrize("lengths", [(), (1,), (1, 1, 1)])
def test_lock_step_asks_nothing_where_there_is_nothing_to_decide(lengths: Sequence[int]) -> None:
    backend = ScriptedBackend([])
    rankings = lock_step([worth_list(n, id=str(place)) for place, n in enumerate(lengths)], backend, writers())
    assert backend.batches == []
    assert [(ranking.ids, ranking.usage) for ranking in rankings] == [(("0",), Usage())] * len(lengths)


def test_lock_step_follows_the_reply_and_not_the_likelihoods() -> None:
    def first(request: object) -> Completion:
        return Completion("A", {"A": -9.0, "B": -1.0, "C": -1.0})

    example = worth_list(3)
    (ranking,) = lock_step([example], ScriptedBackend(first), writers())
    assert list(ranking.ids) == [c.id for c in reversed(example.candidates)]


def sorts(worths: Sequence[int], children: int, top: int) -> tuple[list[int], int]:
    """Find the best by a heap of our own; return them and how many comparisons it took."""
    heap, count = list(worths), 0

    def settle(place: int, end: int) -> None:
        nonlocal count
        while kids := range(children * place + 1, end)[:children]:
            count += 1
            best = max((place, *kids), key=heap.__getitem__)
            if best == place:
                return
            heap[place], heap[best] = heap[best], heap[place]
            place = best

    for place in range(len(heap) - 1, -1, -1):
        settle(place, len(heap))
    found = heap[:1]
    for end in range(len(heap) - 1, max(len(heap) - top, 0), -1):
        heap[0] = heap[end]
        settle(0, end)
        found.append(heap[0])
    return found, count


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.integers(1, 60), st.integers(2, 19), st.data())
def test_heapsort_with_a_perfect_judge_finds_the_best_of_any_list(n: int, children: int, data: st.DataObject) -> None:
    top = data.draw(st.integers(1, n))
    example = worth_list(n, seed=data.draw(st.integers(0, 9)))
    backend = ScriptedBackend(judge)
    (ranking,) = heapsort([example], backend, writers(), children=children, top=top)
    assert list(ranking.ids[:top]) == best_first(n)[:top]
    assert_unknown_order_below(ranking, n)
    found, comparisons = sorts([int(c.id) for c in example.candidates], children, top)
    assert [str(worth) for worth in found] == best_first(n)[:top]
    assert ranking.usage.calls == len(backend.requests) == comparisons
    assert backend.batches == [1] * comparisons
    assert max((len(request.choices) for request in backend.requests), default=0) <= children + 1


@pytest.mark.parametrize(
    ("n", "children", "top", "comparisons"),
    [
        # One comparison of all builds the heap; each place after the first takes one more, while two are left.
        (20, 19, 10, 1 + 9),
        (20, 19, 1, 1),
        (20, 19, 20, 1 + 18),
        (10, 19, 10, 1 + 8),
        (5, 19, 10, 1 + 3),
        (2, 19, 10, 1),
        (1, 19, 10, 0),
        (3, 2, 3, 1 + 1),
    ],
)
def test_a_heap_of_one_level_takes_one_comparison_a_place(n: int, children: int, top: int, comparisons: int) -> None:
    backend = ScriptedBackend(judge)
    (ranking,) = heapsort([worth_list(n)], backend, writers(), children=children, top=top)
    assert ranking.usage.calls == len(backend.requests) == comparisons
    # All that are left stand in each comparison.
    assert [len(request.choices) for request in backend.requests] == [n, *range(n - 1, 1, -1)][:comparisons]


def test_a_hundred_candidates_take_the_comparisons_of_a_heap_of_two_levels() -> None:
    example = worth_list(100)
    backend = ScriptedBackend(judge)
    (ranking,) = heapsort([example], backend, writers(), children=19, top=10)
    assert list(ranking.ids[:10]) == best_first(100)[:10]
    _, comparisons = sorts([int(c.id) for c in example.candidates], 19, 10)
    # Five nodes below the root have children; each of the nine sifts then goes one level down, or two.
    assert 1 + 5 + 9 <= comparisons <= 1 + 5 + 1 + 2 * 9
    assert len(backend.requests) == comparisons


def test_nineteen_children_and_ten_places_are_what_is_published() -> None:
    backend, same = ScriptedBackend(judge), ScriptedBackend(judge)
    example = worth_list(45)
    assert heapsort([example], backend, writers()) == heapsort([example], same, writers(), children=19, top=10)
    assert backend.requests == same.requests


def test_heapsort_takes_one_query_after_the_other_and_one_comparison_at_a_time() -> None:
    examples = [worth_list(n, id=f"q{n}") for n in (5, 1, 3)]
    backend = ScriptedBackend(judge)
    rankings = heapsort(examples, backend, writers())
    queries = [next(e.id for e in examples if e.query in r.messages[-1].content) for r in backend.requests]
    assert queries == ["q5"] * 4 + ["q3"] * 2
    assert backend.batches == [1] * 6
    assert [ranking.example_id for ranking in rankings] == ["q5", "q1", "q3"]
    assert [list(ranking.ids) for ranking in rankings] == [best_first(5), best_first(1), best_first(3)]


def test_each_comparison_of_heapsort_is_a_fresh_prompt_and_is_counted() -> None:
    backend = ScriptedBackend(judge)
    (ranking,) = heapsort([worth_list(4)], backend, writers())
    assert all((r.reply_prefix, r.session, r.draws, r.temperature) == ("", "", 1, 0.0) for r in backend.requests)
    assert ranking.usage == Usage(calls=3, prompt_tokens=309, reused_tokens=9, generated_tokens=3)


def test_what_heapsort_was_not_asked_for_keeps_the_order_of_the_heap() -> None:
    example = worth_list(6, seed=3)
    (ranking,) = heapsort([example], ScriptedBackend(judge), writers(), top=1)
    order = [c.id for c in example.candidates]
    # The best changed places with the first; when it had left, the last took its place.
    place = order.index("5")
    order[0], order[place] = order[place], order[0]
    assert list(ranking.ids) == ["5", order[-1], *order[1:-1]]


def test_heapsort_asks_for_the_writer_of_each_lists_domain() -> None:
    asked: list[str] = []
    replies = [Completion("A", {"A": -1.0, "B": -2.0})] * 3
    heapsort([worth_list(2, id=d, domain=d) for d in DOMAINS], ScriptedBackend(replies), writers(asked))
    assert asked == list(DOMAINS)


def test_heapsort_refuses_a_backend_that_tells_no_likelihoods() -> None:
    with pytest.raises(BackendError, match="log-probabilities"):
        heapsort([worth_list(3)], ScriptedBackend(["A"]), writers())
