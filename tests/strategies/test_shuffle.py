from __future__ import annotations

from typing import Any

import pytest

from unified_ranker import Candidate, Ranker, RankingExample
from unified_ranker.backends import ScriptedBackend

CANDIDATES = tuple(Candidate(str(i), f"text{i}") for i in range(8))


def shown(seed: int | None, *, id: str = "one", **options: Any) -> list[str]:
    """Return the candidates in the order in which the first prompt lists them."""
    backend = ScriptedBackend(lambda request: "?")
    example = RankingExample(id=id, query="q", candidates=CANDIDATES)
    list(Ranker(backend, shuffle_seed=seed, **options).rank_batch([example]))
    content = backend.requests[0].messages[-1].content
    return sorted((c.id for c in CANDIDATES), key=lambda id: content.index(f"text{id}"))


@pytest.mark.parametrize("options", [{"layout": "append"}, {"layout": "rounds"}, {"method": "dranker"}])
def test_a_seed_changes_the_listing_and_repeats_it(options: dict[str, str]) -> None:
    given = [c.id for c in CANDIDATES]
    assert shown(None, **options) == given
    assert shown(3, **options) != given
    assert sorted(shown(3, **options)) == given
    assert shown(3, **options) == shown(3, **options)
    assert shown(3, **options) != shown(4, **options)


def test_lists_are_shuffled_each_in_its_own_way() -> None:
    assert shown(3, id="one") != shown(3, id="two")


def test_all_layouts_show_the_same_order() -> None:
    assert shown(3, layout="append") == shown(3, layout="rounds") == shown(3, method="dranker")


def test_a_failed_step_takes_the_last_as_listed_not_as_given() -> None:
    backend = ScriptedBackend(lambda request: "?")
    ranking = Ranker(backend, shuffle_seed=3).rank("q", CANDIDATES)
    content = backend.requests[0].messages[-1].content
    assert list(ranking.ids) == sorted(ranking.ids, key=lambda id: content.index(f"text{id}"))
