from __future__ import annotations

import random

import pytest
import torch

from unified_ranker.training.together import chosen_together

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
