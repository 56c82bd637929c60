from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet as parquet
import pytest
from unified_ranker.tasks import BuildOptions, Built
from unified_ranker.tasks.beside import (
    FILES,
    Beside,
    History,
    LLMOutcome,
    read_histories,
    read_judged,
    read_outcomes,
    write_beside,
)
from unified_ranker.tasks.build import build_task
from unified_ranker.tasks.recommendation import Interactions
from unified_ranker.tasks.registry import CDS, ML_1M, VIDEO_GAMES
from unified_ranker.tasks.routing import SCENARIOS, Question, utilities
from unified_ranker.tasks.sources import amazon_games, lastfm, movielens, recbole_atomic

from unified_ranker.errors import DataError, MissingSourceError
from unified_ranker.schema.types import RankingExample

READ: dict[tuple[str, str], Callable[[BuildOptions], Interactions]] = {
    ("movie", "open"): movielens.read,
    ("music", "open"): lastfm.read,
    ("game", "open"): amazon_games.read,
    ("movie", "paper"): lambda options: recbole_atomic.read(options, ML_1M),
    ("music", "paper"): lambda options: recbole_atomic.read(options, CDS),
    ("game", "paper"): lambda options: recbole_atomic.read(options, VIDEO_GAMES),
}
WHOLE = Beside(
    histories=(
        History("movie-user:1", "train", ("i3", "i1", "i2")),
        History("movie-user:é 2", "test", ("i1",)),
        History("movie-user:3", "validation", ()),
    ),
    outcomes={"q1": {"small": LLMOutcome(0.0, 1e-6), "large": LLMOutcome(1.0, 12.5)}, "q0": {"a": LLMOutcome(1, 3)}},
    judged={"19": {"999": 3.0, "7": 0.0}, "20": {"999": 1.0}},
)


def ranked(built: Built) -> list[RankingExample]:
    return [*built.splits["validation"], *built.splits["test"]]


def known(built: Built) -> dict[str, History]:
    return {history.user: history for history in built.beside.histories}


@pytest.mark.parametrize(("name", "edition"), READ)
def test_a_users_ranked_choice_never_stands_in_their_history(
    build: Callable[..., Built], name: str, edition: str
) -> None:
    built = build(name, edition)
    assert ranked(built)
    for example in ranked(built):
        found = known(built)[example.group]
        assert found.split == example.split
        assert not set(found.items) & {candidate.id for candidate in example.candidates}


@pytest.mark.parametrize(("name", "edition"), READ)
def test_a_ranked_users_history_is_all_that_came_before_the_choice(
    build: Callable[..., Built], data_dir: Path, name: str, edition: str
) -> None:
    data = READ[name, edition](BuildOptions(edition=edition, data_dir=data_dir))
    built = build(name, edition)
    for example in ranked(built):
        whole = list(data.histories[example.group.removeprefix(f"{name}-user:")])
        (target,) = example.relevance
        items = known(built)[example.group].items
        assert list(items) == whole[: whole.index(target)]
        assert example.context == tuple(data.items[item].title for item in items[-20:])


@pytest.mark.parametrize(("name", "edition"), READ)
def test_a_training_users_history_is_whole(
    build: Callable[..., Built], data_dir: Path, name: str, edition: str
) -> None:
    data = READ[name, edition](BuildOptions(edition=edition, data_dir=data_dir))
    built = build(name, edition)
    training = [history for history in built.beside.histories if history.split == "train"]
    assert {history.user for history in training} >= {example.group for example in built.splits["train"]}
    for history in training:
        assert history.items == tuple(data.histories[history.user.removeprefix(f"{name}-user:")])


@pytest.mark.parametrize(("name", "edition"), READ)
def test_each_user_has_one_history_and_no_list_is_without(build: Callable[..., Built], name: str, edition: str) -> None:
    built = build(name, edition)
    users = [history.user for history in built.beside.histories]
    assert len(set(users)) == len(users)
    assert set(users) == {example.group for examples in built.splits.values() for example in examples}
    assert built.beside.outcomes is built.beside.judged is None


@pytest.mark.parametrize("edition", ["open", "paper"])
def test_a_limit_of_the_lists_leaves_the_histories_as_they_are(build: Callable[..., Built], edition: str) -> None:
    assert build("movie", edition, limit=1).beside == build("movie", edition).beside


@pytest.mark.parametrize("edition", ["open", "paper"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_the_outcomes_of_a_list_give_its_relevance(build: Callable[..., Built], name: str, edition: str) -> None:
    built = build(name, edition)
    outcomes = built.beside.outcomes
    assert outcomes is not None
    lists = [example for examples in built.splits.values() for example in examples]
    assert {example.id for example in lists} == set(outcomes)
    for example in lists:
        found = outcomes[example.id]
        assert set(found) == {candidate.id for candidate in example.candidates}
        quality = {name: outcome.quality for name, outcome in found.items()}
        cost = {name: outcome.cost for name, outcome in found.items()}
        assert utilities(Question("", "", quality, cost), SCENARIOS[name]) == example.relevance
    assert built.beside.histories == ()


def test_where_cost_weighs_nothing_quality_is_the_relevance(build: Callable[..., Built]) -> None:
    built = build("router-performance")
    assert built.beside.outcomes is not None
    for example in built.splits["test"]:
        for name, outcome in built.beside.outcomes[example.id].items():
            assert example.grade(name) == pytest.approx(100 * outcome.quality, abs=0.51)
            assert outcome.cost > 0


@pytest.mark.parametrize("year", ["19", "20"])
def test_judged_holds_what_the_list_of_trec_does_not(build: Callable[..., Built], year: str) -> None:
    built = build(f"trec-dl-20{year}")
    queries = [f"{year}0{number}" for number in range(4)]
    assert built.beside.judged == {query: {f"999{query}": 3.0} for query in queries}
    assert (built.beside.histories, built.beside.outcomes) == ((), None)


@pytest.mark.parametrize("name", ["passage-5", "passage-9"])
@pytest.mark.parametrize("edition", ["open", "paper"])
def test_nothing_stands_beside_passages(build: Callable[..., Built], name: str, edition: str) -> None:
    assert build(name, edition).beside == Beside()


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("movie", "histories.parquet"),
        ("router-cost", "outcomes.parquet"),
        ("trec-dl-2019", "judged.parquet"),
        ("passage-7", None),
    ],
)
def test_a_build_writes_what_there_is_and_removes_what_an_older_one_left(
    data_dir: Path, tmp_path: Path, name: str, file: str | None
) -> None:
    (tmp_path / name).mkdir()
    for old in FILES:
        (tmp_path / name / old).write_bytes(b"old")
    build_task(name, tmp_path, BuildOptions(data_dir=data_dir))
    assert [found for found in FILES if (tmp_path / name / found).exists()] == ([file] if file else [])


@pytest.mark.parametrize(("name", "edition"), [("movie", "open"), ("game", "paper")])
def test_built_histories_read_back_equal(
    build: Callable[..., Built], data_dir: Path, tmp_path: Path, name: str, edition: str
) -> None:
    build_task(name, tmp_path, BuildOptions(edition=edition, data_dir=data_dir))
    assert read_histories(tmp_path / name) == tuple(build(name, edition).beside.histories)


def test_all_that_is_written_reads_back_equal(tmp_path: Path) -> None:
    write_beside(tmp_path, WHOLE)
    assert {path.name for path in tmp_path.iterdir()} == set(FILES)
    assert read_histories(tmp_path) == WHOLE.histories
    assert read_outcomes(tmp_path) == WHOLE.outcomes
    assert read_judged(tmp_path) == WHOLE.judged


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    first = []
    for _ in range(2):
        write_beside(tmp_path, WHOLE)
        first.append([(tmp_path / name).read_bytes() for name in FILES])
    assert first[0] == first[1]


@pytest.mark.parametrize("nothing", [Beside(), Beside(outcomes={}, judged={"19": {}})])
def test_writing_nothing_removes_the_files(tmp_path: Path, nothing: Beside) -> None:
    write_beside(tmp_path, WHOLE)
    write_beside(tmp_path, nothing)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("read", [read_histories, read_outcomes])
def test_a_missing_file_says_how_to_build_it(tmp_path: Path, read: Callable[[Path], object]) -> None:
    (tmp_path / "movie").mkdir()
    with pytest.raises(MissingSourceError, match="unified-ranker data build movie --out") as raised:
        read(tmp_path / "movie")
    assert str(raised.value).endswith(str(tmp_path))
    assert "is not there" in str(raised.value)


def test_a_task_without_judgements_outside_its_lists_has_none(tmp_path: Path) -> None:
    assert read_judged(tmp_path) == {}


READERS = (
    ("histories.parquet", read_histories, {"user": ["u"], "split": ["train"], "items": [["i"]]}),
    ("outcomes.parquet", read_outcomes, {"id": ["q"], "candidate": ["m"], "quality": [1.0], "cost": [2.0]}),
    ("judged.parquet", read_judged, {"id": ["q"], "document": ["d"], "grade": [1.0]}),
)
COLUMNS = [(*reader, column) for reader in READERS for column in reader[2]]


@pytest.mark.parametrize(("name", "read", "columns"), READERS)
def test_a_file_that_is_no_parquet_is_named(
    tmp_path: Path, name: str, read: Callable[[Path], object], columns: dict[str, list[object]]
) -> None:
    (tmp_path / name).write_text("user,split,items\n", encoding="utf-8")
    with pytest.raises(DataError, match=f"{name}: not a parquet file") as raised:
        read(tmp_path)
    assert not isinstance(raised.value, MissingSourceError)


@pytest.mark.parametrize(("name", "read", "columns", "column"), COLUMNS)
def test_a_missing_column_is_named_with_those_that_are_there(
    tmp_path: Path, name: str, read: Callable[[Path], object], columns: dict[str, list[object]], column: str
) -> None:
    rest = {key: values for key, values in columns.items() if key != column}
    parquet.write_table(pyarrow.table(rest), tmp_path / name)
    with pytest.raises(DataError, match=f"{name}: column '{column}' is missing; it has {', '.join(rest)}"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "read", "column", "value"),
    [
        ("histories.parquet", read_histories, "items", "abc"),
        ("histories.parquet", read_histories, "items", None),
        ("outcomes.parquet", read_outcomes, "cost", "dear"),
        ("outcomes.parquet", read_outcomes, "quality", None),
        ("judged.parquet", read_judged, "grade", "high"),
    ],
)
def test_a_value_of_another_kind_is_refused_by_its_column(
    tmp_path: Path, name: str, read: Callable[[Path], object], column: str, value: object
) -> None:
    columns = next(columns for found, _, columns in READERS if found == name)
    parquet.write_table(pyarrow.table({**columns, column: [value]}), tmp_path / name)
    with pytest.raises(DataError, match=column):
        read(tmp_path)
