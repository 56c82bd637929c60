from __future__ import annotations

import random

import numpy
import pytest
import torch

from unified_ranker.training.together import _near, chosen_together

TASTES = [[f"{kind} {number}" for number in range(8)] for kind in ("noir", "farce")]
NAMES = [name for taste in TASTES for name in taste]


def users(count: int, *, seed: int = 0) -> list[list[str]]:
    """Users of two tastes, who choose four of their own kind each."""
    rng = random.Random(seed)
    return [rng.sample(TASTES[user % 2], 4) for user in range(count)]


def test_names_of_one_taste_are_alike_and_those_of_another_are_not() -> None:
    found = chosen_together(users(60), NAMES, 6)
    assert set(found) == set(NAMES)
    table = torch.stack([found[name] for name in NAMES])
    assert torch.allclose(table.norm(dim=1), torch.ones(16), atol=1e-5)
    alike = table @ table.T
    own = torch.block_diag(torch.ones(8, 8), torch.ones(8, 8)).bool()
    assert float(alike[own].mean()) > 0.3
    assert abs(float(alike[~own].mean())) < 0.1


def test_only_names_that_are_asked_for_and_chosen_are_placed_however_they_are_written() -> None:
    histories = [["NOIR  0", "noir 1", "unheard of"], ["noir 0", "Noir 1"], ["farce 0", "farce 1"]]
    found = chosen_together(histories, ["noir 0", "noir 1", "farce 0", "farce 1", "never chosen"], 3)
    assert set(found) == {"noir 0", "noir 1", "farce 0", "farce 1"}
    assert float(found["noir 0"] @ found["noir 1"]) > float(found["noir 0"] @ found["farce 0"])


def test_a_name_that_a_user_chose_twice_counts_once() -> None:
    first, second = (chosen_together([user + user[:again] for user in users(30)], NAMES, 5) for again in (0, 2))
    assert set(first) == set(NAMES)
    assert all(torch.equal(first[name], second[name]) for name in NAMES)


def test_it_is_the_same_each_time_in_whatever_order_names_are_given() -> None:
    first, second = chosen_together(users(30), NAMES, 5), chosen_together(users(30), NAMES[::-1], 5)
    assert all(torch.equal(first[name], second[name]) for name in NAMES)


@pytest.mark.parametrize("histories", [[], [[]], [["noir 0"]], [["other"]]])
def test_without_pairs_no_name_is_placed(histories: list[list[str]]) -> None:
    assert chosen_together(histories, NAMES, 4) == {}


def test_a_name_that_everyone_chose_is_nowhere() -> None:
    histories = [["noir 0", "hit"], ["farce 0", "hit"]] * 5
    assert set(chosen_together(histories, ["noir 0", "farce 0", "hit"], 4)) == {"noir 0", "farce 0"}


def test_there_may_be_fewer_names_than_dimensions() -> None:
    found = chosen_together([["noir 0", "noir 1"], ["farce 0", "farce 1"]], NAMES, 12)
    assert [tuple(vector.shape) for vector in found.values()] == [(12,)] * 4
    assert all(abs(float(vector.norm()) - 1) < 1e-5 for vector in found.values())


def phases(count: int) -> list[list[str]]:
    """Users who choose four of one taste, and then four of the other."""
    found = users(2 * count)
    return [[*found[2 * user + user % 2], *found[2 * user + 1 - user % 2]] for user in range(count)]


def test_within_a_window_what_was_chosen_years_apart_is_not_together() -> None:
    own = torch.block_diag(torch.ones(8, 8), torch.ones(8, 8)).bool()
    apart = {}
    for window in (0, 3):
        found = chosen_together(phases(60), NAMES, 6, window=window)
        table = torch.stack([found[name] for name in NAMES])
        alike = table @ table.T
        apart[window] = float(alike[own].mean() - alike[~own].mean())
    assert apart[3] > apart[0] + 0.2


def test_pairs_count_by_how_near_they_stand_and_no_name_beside_itself() -> None:
    # Places 0 to 3 in a row, twice 0 and 1; a window of three has 2/3 for neighbours and 1/3 for one in between.
    found = _near([[0, 1, 2, 3], [0, 1]], 4, 3).toarray()
    near, next_but_one = 2 / 3, 1 / 3
    expected = [
        [0, 2 * near, next_but_one, 0],
        [2 * near, 0, near, next_but_one],
        [next_but_one, near, 0, near],
        [0, next_but_one, near, 0],
    ]
    assert found == pytest.approx(numpy.array(expected))


def test_a_window_does_not_reach_from_one_user_to_the_next() -> None:
    assert _near([[0], [1], [2, 3]], 4, 10).toarray().nonzero()[0].tolist() == [2, 3]


@pytest.mark.parametrize("histories", [[], [[]], [["noir 0"]], [["noir 0"], ["noir 1"]]])
def test_without_neighbours_no_name_is_placed(histories: list[list[str]]) -> None:
    assert chosen_together(histories, NAMES, 4, window=3) == {}


def test_the_power_decides_how_much_the_first_factors_weigh() -> None:
    even, first = (chosen_together(users(60), NAMES, 6, power=power) for power in (1e-6, 3.0))
    tastes = [torch.stack([found[f"noir {n}"] for n in range(8)]) for found in (even, first)]
    # By the first factor alone all of one taste are the same.
    assert float((tastes[1] @ tastes[1].T).min()) > 0.9 > 0.5 > float((tastes[0] @ tastes[0].T).mean())
