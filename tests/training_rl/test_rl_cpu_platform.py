from __future__ import annotations

import pytest
import torch

from unified_ranker.training.rl.cpu_platform import ENVIRONMENT, SWITCH, asked_for


@pytest.mark.parametrize(
    ("value", "accelerator", "asked"),
    [("1", False, True), ("1", True, False), ("0", False, False), ("", False, False), (None, False, False)],
)
def test_the_platform_is_asked_for_by_a_switch_and_where_there_is_nothing_better(
    value: str | None, accelerator: bool, asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: accelerator)
    if value is None:
        monkeypatch.delenv(SWITCH, raising=False)
    else:
        monkeypatch.setenv(SWITCH, value)
    assert asked_for() is asked


def test_the_environment_of_a_run_on_cpus_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name, value in ENVIRONMENT.items():
        assert isinstance(value, str)
        monkeypatch.setenv(name, value)
    assert asked_for()
