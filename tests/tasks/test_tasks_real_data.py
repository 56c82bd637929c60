from __future__ import annotations

import os
from pathlib import Path

import pytest
from test_tasks_leaks import SOURCES, asked, lists_of
from unified_ranker.tasks import NINE, TASKS, BuildOptions
from unified_ranker.tasks.build import check_splits

from unified_ranker.schema.types import SPLITS

DATA = os.environ.get("UNIFIED_RANKER_DATA", "")


@pytest.mark.slow
@pytest.mark.skipif(
    not DATA or not (Path(DATA) / "rec_movie_ml-latest-small").is_dir(),
    reason="UNIFIED_RANKER_DATA does not name a folder with the real data",
)
def test_no_test_question_or_group_of_the_real_data_is_in_training() -> None:
    built = {name: TASKS[name].build["open"](BuildOptions(data_dir=Path(DATA))) for name in NINE}
    for name in NINE:
        check_splits(built[name], task=name)
        assert all(built[name].splits[split] for split in SPLITS)
    for names in SOURCES.values():
        found = [built[name] for name in names if name in built]
        held = {example.group for example in lists_of(found, "test")}
        assert not held & {example.group for example in lists_of(found, "train", "validation")}
    everything = list(built.values())
    held = {asked(example) for example in lists_of(everything, "test")}
    shared = held & {asked(example) for example in lists_of(everything, "train", "validation")}
    assert sorted(shared)[:3] == []
