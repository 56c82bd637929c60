"""What is ours of ranking on Ray Data; a small stand-in for Ray hands blocks to actors in this process."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from toy_tasks import oracle, toy_list

from unified_ranker import ray_rank
from unified_ranker.backends import ScriptedBackend
from unified_ranker.errors import BackendError, DataError, MissingExtraError, OptionError
from unified_ranker.exchange import Request
from unified_ranker.ranker import Ranker
from unified_ranker.ray_rank import RankActor, finished, rank_collection, write_part
from unified_ranker.schema.jsonl import dump_line, example_to_dict, write_examples
from unified_ranker.schema.parquet import write_parquet
from unified_ranker.schema.types import Candidate, RankingExample

LISTS = [toy_list(f"q{n}", [n % 3, 3, 0, 1][: 2 + n % 3]) for n in range(7)]
IDS = [example.id for example in LISTS]


def rankings(out: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for part in sorted(out.glob("part-*.jsonl")):
        for line in part.read_text(encoding="utf-8").split("\n")[:-1]:
            record = json.loads(line)
            assert record["id"] not in found
            found[record["id"]] = [place["id"] for place in record["ranking"]]
    return found


def expected(examples: Sequence[RankingExample]) -> dict[str, list[str]]:
    return {r.example_id: list(r.ids) for r in Ranker(ScriptedBackend(oracle), method="iranker").rank_batch(examples)}


@dataclass
class Loaded:
    """The rankers that were loaded, and the backends behind them."""

    asked: list[dict[str, Any]] = field(default_factory=list)
    backends: list[ScriptedBackend] = field(default_factory=list)

    @property
    def queries(self) -> set[str]:
        """Queries that any of them was asked for."""
        requests = [request for backend in self.backends for request in backend.requests]
        return {e.query for e in LISTS for r in requests if f"Query: {e.query}\n" in r.messages[-1].content}


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Loaded:
    """Let a ranker that knows the grades stand in for every model."""
    found = Loaded()

    def load(**given: Any) -> Ranker:
        found.asked.append(given)
        found.backends.append(ScriptedBackend(oracle))
        return Ranker(found.backends[-1], method="iranker")

    monkeypatch.setattr(Ranker, "from_pretrained", load)
    return found


def actor(out: Path, **changes: Any) -> RankActor:
    given = {"ranker": {"name_or_path": "mine"}, "out": str(out), "done": frozenset(), "top_k": None, "concurrency": 8}
    return RankActor(**{**given, **changes})


def text_block(examples: Sequence[RankingExample], *, path: str = "/somewhere/lists.jsonl") -> pyarrow.Table:
    lines = [dump_line(example_to_dict(example)).rstrip("\n") for example in examples]
    return pyarrow.table({"text": lines, "path": [path] * len(lines)})


def parquet_block(examples: Sequence[RankingExample], folder: Path) -> pyarrow.Table:
    write_parquet(folder / "lists.parquet", examples)
    table = pyarrow.parquet.read_table(folder / "lists.parquet")
    return table.append_column("path", pyarrow.array([str(folder / "lists.parquet")] * len(table)))


# --- parts ------------------------------------------------------------------------------------------------------------


def test_a_part_is_named_by_its_ids(tmp_path: Path) -> None:
    first = write_part(tmp_path, ["é", "b"], '{"id": "é"}\n{"id": "b"}\n')
    other = write_part(tmp_path, ["b2"], '{"id": "b2"}\n')
    assert first != other
    # What is ranked again takes its own place, whatever came of it.
    again = '{"id": "é", "usage": {}}\n{"id": "b"}\n'
    assert write_part(tmp_path, ["é", "b"], again) == first
    assert sorted(tmp_path.iterdir()) == sorted([first, other])
    assert first.read_text(encoding="utf-8") == again
    assert finished(tmp_path) == {"é", "b", "b2"}


@pytest.mark.parametrize(
    ("one", "other"),
    [(["a", "b"], ["b", "a"]), (["ab"], ["a", "b"]), (["a"], ["a", ""]), (["a\nb"], ["a", "b"])],
    ids=str,
)
def test_blocks_of_other_ids_have_other_names(tmp_path: Path, one: list[str], other: list[str]) -> None:
    assert write_part(tmp_path, one, "1\n") != write_part(tmp_path, other, "2\n")


def test_a_crash_while_a_part_is_written_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Path.write_text

    def half(path: Path, text: str, **options: Any) -> int:
        whole(path, text[: len(text) // 2], **options)
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", half)
        with pytest.raises(OSError, match="no space left"):
            write_part(tmp_path, ["a", "b"], '{"id": "a"}\n{"id": "b"}\n')
    assert list(tmp_path.glob("part-*.jsonl")) == []
    assert finished(tmp_path) == frozenset()
    # What is left does not stand in the way of the next attempt.
    write_part(tmp_path, ["a", "b"], '{"id": "a"}\n{"id": "b"}\n')
    assert finished(tmp_path) == {"a", "b"}


def test_a_part_gets_its_name_when_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, seen = '{"id": "a"}\n', list[tuple[str, list[Path]]]()

    def crash(path: Path, target: Path) -> Path:
        seen.append((path.read_text(encoding="utf-8"), list(tmp_path.glob("part-*.jsonl"))))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            write_part(tmp_path, ["a"], text)
    assert seen == [(text, [])]
    assert finished(tmp_path) == frozenset()


def test_two_processes_write_under_names_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passing: list[str] = []
    monkeypatch.setattr(Path, "replace", lambda path, target: passing.append(path.name))
    for process in (17, 18):
        monkeypatch.setattr(os, "getpid", lambda process=process: process)
        write_part(tmp_path, ["a"], "same\n")
    assert len(set(passing)) == 2


def test_finished_reads_the_ids_of_all_parts_and_of_nothing_else(tmp_path: Path) -> None:
    assert finished(tmp_path) == frozenset()
    (tmp_path / "part-1.jsonl").write_text('{"id": "a", "ranking": []}\n{"id": "b"}\n', encoding="utf-8")
    (tmp_path / "part-2.jsonl").write_text('{"id": "ü \\u2028"}\n', encoding="utf-8")
    (tmp_path / "part-3.17.passing").write_text('{"id": "half', encoding="utf-8")
    (tmp_path / "notes.jsonl").write_text("nonsense", encoding="utf-8")
    assert finished(tmp_path) == {"a", "b", "ü \u2028"}


@pytest.mark.parametrize(
    "parts", [{"1": '{"id": "a"}\n{"id": "a"}\n'}, {"1": '{"id": "a"}\n', "2": '{"id": "b"}\n{"id": "a"}\n'}]
)
def test_a_list_that_was_ranked_twice_is_refused(tmp_path: Path, parts: dict[str, str]) -> None:
    for name, text in parts.items():
        (tmp_path / f"part-{name}.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=rf"part-{len(parts)}\.jsonl, row 2: 'a' was ranked twice"):
        finished(tmp_path)


@pytest.mark.parametrize("line", ["nonsense", "[]", "{}", "17", "null", '{"id": 3}', '{"id": null}', '{"id": "a"'])
def test_a_part_that_is_no_ranking_is_refused_with_its_row(tmp_path: Path, line: str) -> None:
    (tmp_path / "part-1.jsonl").write_text('{"id": "b"}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"part-1\.jsonl, row 2: (no ranking|not a JSON object)"):
        finished(tmp_path)


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85"])
def test_texts_with_line_ends_of_other_kinds_are_read_back(tmp_path: Path, loaded: Loaded, mark: str) -> None:
    odd = RankingExample(id="odd", query=f"two{mark}lines", candidates=(Candidate("a", f"grade 1 of {mark} place 0"),))
    actor(tmp_path)(text_block([odd]))
    assert finished(tmp_path) == {"odd"}


def test_a_part_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "part-1.jsonl").write_bytes('{"id": "é"}\n'.encode("latin-1"))
    with pytest.raises(DataError, match=r"part-1\.jsonl"):
        finished(tmp_path)


# --- an actor ---------------------------------------------------------------------------------------------------------


def test_an_actor_ranks_lines_of_text(tmp_path: Path, loaded: Loaded) -> None:
    made = actor(tmp_path, ranker={"name_or_path": "mine", "method": "iranker"})
    assert loaded.asked == [{"name_or_path": "mine", "method": "iranker"}]
    assert made(text_block(LISTS)) == {"id": IDS}
    assert rankings(tmp_path) == expected(LISTS)
    assert len(list(tmp_path.iterdir())) == 1


def test_an_actor_ranks_rows_of_parquet(tmp_path: Path, loaded: Loaded) -> None:
    (tmp_path / "out").mkdir()
    assert actor(tmp_path / "out")(parquet_block(LISTS, tmp_path)) == {"id": IDS}
    assert rankings(tmp_path / "out") == expected(LISTS)


def test_an_actor_loads_its_ranker_once_and_writes_a_part_a_block(tmp_path: Path, loaded: Loaded) -> None:
    made = actor(tmp_path)
    for start in (0, 3, 6):
        made(text_block(LISTS[start : start + 3]))
    assert len(loaded.asked) == 1
    assert len(list(tmp_path.iterdir())) == 3
    assert rankings(tmp_path) == expected(LISTS)


def test_lists_that_are_done_are_told_and_not_ranked(tmp_path: Path, loaded: Loaded) -> None:
    made = actor(tmp_path, done=frozenset(["q1", "q4", "elsewhere"]))
    assert made(text_block(LISTS)) == {"id": IDS}
    assert set(rankings(tmp_path)) == set(IDS) - {"q1", "q4"}
    assert loaded.queries == {example.query for example in LISTS} - {"query of q1", "query of q4"}


def test_a_block_that_is_done_writes_nothing(tmp_path: Path, loaded: Loaded) -> None:
    made = actor(tmp_path, done=frozenset(IDS))
    assert made(text_block(LISTS)) == {"id": IDS}
    assert list(tmp_path.iterdir()) == []
    assert loaded.backends[0].requests == []


def test_an_actor_shows_as_many_places_and_runs_as_many_lists_as_it_is_told(tmp_path: Path, loaded: Loaded) -> None:
    actor(tmp_path, top_k=2, concurrency=3)(text_block(LISTS))
    assert {id: ids[:2] for id, ids in expected(LISTS).items()} == rankings(tmp_path)
    assert max(loaded.backends[0].batches) == 3


@pytest.mark.parametrize("kind", ["text", "parquet"])
def test_the_embedded_model_ranks_in_an_actor_as_it_does_alone(kind: str, tmp_path: Path) -> None:
    examples = [
        RankingExample(
            id=f"q{n}",
            query=query,
            candidates=tuple(Candidate(text[:3], text) for text in ("red apple", "blue sky", "green lime")),
        )
        for n, query in enumerate(("a red fruit", "what is above"))
    ]
    (tmp_path / "out").mkdir()
    made = actor(tmp_path / "out", ranker={"name_or_path": None, "permute": True})
    made(text_block(examples) if kind == "text" else parquet_block(examples, tmp_path))
    alone = {ranking.example_id: list(ranking.ids) for ranking in Ranker(permute=True).rank_batch(examples)}
    assert rankings(tmp_path / "out") == alone


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nonsense", "not a JSON object"),
        ("[]", "expected an object"),
        ('{"id": "x", "query": 3, "candidates": [{"id": "1", "text": "t"}]}', "field 'query'"),
        ('{"id": "x", "query": "q"}', "field 'candidates' is missing"),
        ('{"id": "x", "query": "q", "candidates": []}', "field 'candidates' is empty"),
    ],
)
def test_a_malformed_line_is_named_by_its_file_and_how_it_begins(
    line: str, words: str, tmp_path: Path, loaded: Loaded
) -> None:
    whole = text_block(LISTS[:1])
    block = pyarrow.table({"text": [*whole["text"].to_pylist(), line], "path": ["/deep/down/lists.jsonl"] * 2})
    with pytest.raises(DataError) as caught:
        actor(tmp_path)(block)
    told = str(caught.value)
    assert told.startswith(f"lists.jsonl, the list that begins {line[:60]!r}")
    assert words in told
    # Nothing of a block is kept that cannot be read whole.
    assert list(tmp_path.iterdir()) == []


def test_a_long_line_is_not_told_whole(tmp_path: Path, loaded: Loaded) -> None:
    block = pyarrow.table({"text": ["x" * 10_000], "path": ["lists.jsonl"]})
    with pytest.raises(DataError) as caught:
        actor(tmp_path)(block)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("query", None, "field 'query'"),
        ("domain", "song", "field 'domain' is 'song'"),
        ("candidates", [], "field 'candidates' is empty"),
        ("relevance", [{"id": "z", "grade": 1.0}], "field 'relevance' grades 'z'"),
    ],
)
def test_a_malformed_row_of_parquet_is_named_by_its_file_and_id(
    column: str, value: object, words: str, tmp_path: Path, loaded: Loaded
) -> None:
    (tmp_path / "out").mkdir()
    table = parquet_block(LISTS[:2], tmp_path)
    rows = table.to_pylist()
    rows[1][column] = value
    with pytest.raises(DataError) as caught:
        actor(tmp_path / "out")(pyarrow.Table.from_pylist(rows, schema=table.schema))
    assert str(caught.value).startswith(f"lists.parquet, list 'q1': {words}")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("restarted", [True, False], ids=["by a new actor", "by the same actor"])
def test_a_block_that_ray_asks_for_again_is_there_once(restarted: bool, tmp_path: Path, loaded: Loaded) -> None:
    first = actor(tmp_path)
    first(text_block(LISTS[:3]))
    (actor(tmp_path) if restarted else first)(text_block(LISTS[:3]))
    assert finished(tmp_path) == set(IDS[:3])


# --- input ------------------------------------------------------------------------------------------------------------


def test_a_file_is_its_own_collection(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.parquet"):
        (tmp_path / name).touch()
        assert ray_rank._files(tmp_path / name) == ([(tmp_path / name).resolve()], Path(name).suffix)


@pytest.mark.parametrize("kind", [".jsonl", ".parquet"])
def test_a_folder_is_all_of_its_files_of_one_kind_in_order(tmp_path: Path, kind: str) -> None:
    for name in ("c", "a", "b"):
        (tmp_path / f"{name}{kind}").touch()
    (tmp_path / "card.json").touch()
    (tmp_path / "README.md").touch()
    files, found = ray_rank._files(tmp_path)
    assert ([file.name for file in files], found) == ([f"a{kind}", f"b{kind}", f"c{kind}"], kind)
    assert all(file.is_absolute() for file in files)


def test_paths_are_made_absolute_since_actors_may_run_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jsonl").touch()
    monkeypatch.chdir(tmp_path)
    assert ray_rank._files(Path("a.jsonl"))[0] == [tmp_path.resolve() / "a.jsonl"]
    assert ray_rank._files(Path())[0] == [tmp_path.resolve() / "a.jsonl"]


@pytest.mark.parametrize(
    ("names", "asked", "words"),
    [
        ([], "missing", "'missing' does not exist"),
        ([], ".", "found none"),
        (["notes.txt"], ".", "found none"),
        (["notes.txt"], "notes.txt", r"found \.txt"),
        (["a.jsonl", "b.parquet"], ".", r"found \.jsonl, \.parquet"),
        (["plain"], "plain", "one file or a folder of one kind"),
    ],
)
def test_other_inputs_are_refused(
    names: list[str], asked: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=words):
        ray_rank._files(Path(asked))


# --- room -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("has", "wanted"),
    [
        ({"CPU": 3.0}, {"actors": 2, "gpus": 0.0, "cpus": 1.0}),
        ({"CPU": 2.0}, {"actors": 4, "gpus": 0.0, "cpus": 0.25}),
        ({"CPU": 3.0, "GPU": 2.0}, {"actors": 2, "gpus": 1.0, "cpus": 1.0}),
        ({"CPU": 1.0, "GPU": 1.0}, {"actors": 2, "gpus": 0.5, "cpus": 0.0}),
    ],
)
def test_actors_that_fit_beside_reading_pass(has: dict[str, float], wanted: dict[str, Any]) -> None:
    ray_rank._check_room(has, **wanted)


@pytest.mark.parametrize(
    ("has", "wanted", "words"),
    [
        ({"CPU": 2.0}, {"actors": 2, "gpus": 0.0, "cpus": 1.0}, "cpus_per_actor=1.0 take 3 CPU .* Ray has 2;"),
        ({"CPU": 64.0}, {"actors": 2, "gpus": 1.0, "cpus": 1.0}, "gpus_per_actor=1.0 take 2 GPU .* Ray has 0;"),
        ({"CPU": 64.0, "GPU": 1.0}, {"actors": 3, "gpus": 0.5, "cpus": 1.0}, "gpus_per_actor=0.5 take 1.5 GPU"),
        ({}, {"actors": 1, "gpus": 0.0, "cpus": 0.0}, "cpus_per_actor=0.0 take 1 CPU"),
    ],
)
def test_actors_that_would_wait_for_ever_are_refused(has: dict[str, float], wanted: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=rf"actors={wanted['actors']} and {words}"):
        ray_rank._check_room(has, **wanted)


# --- a collection -----------------------------------------------------------------------------------------------------


class RayActorError(Exception):
    """Stands in for what Ray raises where an actor could not start."""


class RayTaskError(Exception):
    """Stands in for what Ray raises where a task failed."""

    def __init__(self, cause: BaseException) -> None:
        # Ray carries the traceback as text; each wrapping adds lines of its own.
        words = (
            cause.args[0]
            if isinstance(cause, RayTaskError)
            else f"{type(cause).__module__}.{type(cause).__name__}: {cause}"
        )
        super().__init__(f"ray::MapWorker.submit() (pid=7)\n    {words}\n\nUserCodeException: UDF failed.\n")


@dataclass
class FakeRay:
    """Does what Ray does for us, in this process, and notes what it was asked for."""

    running: bool = False
    resources: dict[str, float] = field(default_factory=dict)
    started: list[dict[str, Any]] = field(default_factory=list)
    stopped: int = 0
    mapped: dict[str, Any] = field(default_factory=dict)
    read: list[tuple[str, list[str]]] = field(default_factory=list)
    fails: Callable[[BaseException], BaseException] | None = None

    def init(self, **options: Any) -> None:
        self.started.append(options)
        self.running = True
        self.resources = self.resources or {"CPU": float(options.get("num_cpus", 64))}

    def shutdown(self) -> None:
        self.stopped += 1
        self.running = False

    def read_text(self, files: list[str], *, include_paths: bool) -> FakeDataset:
        assert include_paths
        self.read.append(("text", files))
        rows = [
            {"text": line, "path": file}
            for file in files
            for line in Path(file).read_text(encoding="utf-8").split("\n")
            if line.strip()
        ]
        return FakeDataset(self, pyarrow.Table.from_pylist(rows))

    def read_parquet(self, files: list[str], *, include_paths: bool) -> FakeDataset:
        assert include_paths
        self.read.append(("parquet", files))
        tables = [pyarrow.parquet.read_table(file) for file in files]
        named = [
            table.append_column("path", pyarrow.array([file] * len(table)))
            for table, file in zip(tables, files, strict=True)
        ]
        return FakeDataset(self, pyarrow.concat_tables(named))


@dataclass
class FakeDataset:
    ray: FakeRay
    table: Any
    size: int = 0

    def repartition(self, *, target_num_rows_per_block: int) -> FakeDataset:
        self.size = target_num_rows_per_block
        return self

    def map_batches(self, kind: type[RankActor], **options: Any) -> FakeDataset:
        assert kind is RankActor
        assert options["batch_format"] == "pyarrow"
        assert options["batch_size"] == self.size
        self.ray.mapped = options
        return self

    def iter_rows(self) -> Iterator[dict[str, str]]:
        try:
            made = RankActor(**self.ray.mapped["fn_constructor_kwargs"])
            for start in range(0, len(self.table), self.size):
                for id in made(self.table.slice(start, self.size))["id"]:
                    yield {"id": id}
        except Exception as error:
            if self.ray.fails is None:
                raise
            raise self.ray.fails(error) from None


@pytest.fixture
def fake_ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    found = FakeRay()
    ray, data, exceptions = ModuleType("ray"), ModuleType("ray.data"), ModuleType("ray.exceptions")
    context = SimpleNamespace(enable_progress_bars=True)
    for module, members in (
        (
            ray,
            {
                "is_initialized": lambda: found.running,
                "init": found.init,
                "shutdown": found.shutdown,
                "cluster_resources": lambda: found.resources,
                "data": data,
                "exceptions": exceptions,
            },
        ),
        (
            data,
            {
                "read_text": found.read_text,
                "read_parquet": found.read_parquet,
                "ActorPoolStrategy": lambda size: ("pool", size),
                "DataContext": SimpleNamespace(get_current=lambda: context),
            },
        ),
        (exceptions, {"RayActorError": RayActorError, "RayTaskError": RayTaskError}),
    ):
        for name, member in members.items():
            setattr(module, name, member)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return found


def collect(source: Path, out: Path, **options: Any) -> list[str]:
    return list(rank_collection(ranker={"name_or_path": "mine"}, input=source, output=out, **options))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_examples(tmp_path / "lists.jsonl", LISTS)
    return tmp_path / "lists.jsonl"


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize("block", [1, 3, 256])
def test_each_list_is_ranked_once_and_told_once(
    kind: str, block: int, tmp_path: Path, loaded: Loaded, fake_ray: FakeRay
) -> None:
    folder, out = tmp_path / "in", tmp_path / "deep" / "out"
    folder.mkdir()
    write = write_examples if kind == "jsonl" else write_parquet
    write(folder / f"b.{kind}", LISTS[:4])
    write(folder / f"a.{kind}", LISTS[4:])
    assert collect(folder, out, block=block) == [*IDS[4:], *IDS[:4]]
    assert rankings(out) == expected(LISTS)
    assert fake_ray.read == [("text" if kind == "jsonl" else kind, [str(folder / f"{name}.{kind}") for name in "ab"])]
    assert len(list(out.iterdir())) == ceil(len(LISTS) / block)


def test_a_second_start_ranks_what_no_part_holds(
    source: Path, tmp_path: Path, loaded: Loaded, fake_ray: FakeRay
) -> None:
    out = tmp_path / "out"
    collect(source, out, block=2)
    lost = next(part for part in out.iterdir() if '"q2"' in part.read_text(encoding="utf-8"))
    lost.unlink()
    (out / "part-0.1.passing").write_text("half a li", encoding="utf-8")
    kept = {part: part.stat().st_mtime_ns for part in out.glob("part-*.jsonl")}
    loaded.backends.clear()
    assert collect(source, out, block=2) == IDS
    assert loaded.queries == {"query of q2", "query of q3"}
    assert rankings(out) == expected(LISTS)
    assert {part: part.stat().st_mtime_ns for part in kept} == kept
    assert list(out.glob("*.passing")) == []


def test_lists_that_come_later_are_added(source: Path, tmp_path: Path, loaded: Loaded, fake_ray: FakeRay) -> None:
    write_examples(source, LISTS[:3])
    collect(source, tmp_path / "out")
    write_examples(source, LISTS)
    assert collect(source, tmp_path / "out") == IDS
    assert rankings(tmp_path / "out") == expected(LISTS)


def test_two_lists_with_the_same_id_are_refused(
    source: Path, tmp_path: Path, loaded: Loaded, fake_ray: FakeRay
) -> None:
    write_examples(source, [*LISTS, LISTS[1]])
    with pytest.raises(DataError, match="two lists have the id 'q1'"):
        collect(source, tmp_path / "out")
    assert fake_ray.stopped == 1


def test_an_output_of_other_lists_is_refused(source: Path, tmp_path: Path, loaded: Loaded, fake_ray: FakeRay) -> None:
    collect(source, tmp_path / "out", block=1)
    write_examples(source, LISTS[2:])
    with pytest.raises(DataError, match="holds a ranking of 'q0', which is not in"):
        collect(source, tmp_path / "out")


def test_settings_reach_ray_and_the_actors(source: Path, tmp_path: Path, loaded: Loaded, fake_ray: FakeRay) -> None:
    fake_ray.resources = {"CPU": 64.0, "GPU": 8.0}
    collect(source, tmp_path / "out", top_k=1, concurrency=2, actors=3, block=4, gpus_per_actor=0.5, cpus_per_actor=1.5)
    assert loaded.asked == [{"name_or_path": "mine"}]
    assert {key: fake_ray.mapped[key] for key in ("batch_size", "compute", "num_gpus", "num_cpus")} == {
        "batch_size": 4,
        "compute": ("pool", 3),
        "num_gpus": 0.5,
        "num_cpus": 1.5,
    }
    assert fake_ray.mapped["fn_constructor_kwargs"] == {
        "ranker": {"name_or_path": "mine"},
        "out": str((tmp_path / "out").resolve()),
        "done": frozenset(),
        "top_k": 1,
        "concurrency": 2,
    }
    assert {len(ids) for ids in rankings(tmp_path / "out").values()} == {1}
    (started,) = fake_ray.started
    # Three actors and a half each, and one to read with.
    assert (started["address"], started["num_cpus"]) == (None, 6)


def test_without_accelerators_none_are_asked_for(
    source: Path, tmp_path: Path, loaded: Loaded, fake_ray: FakeRay
) -> None:
    collect(source, tmp_path / "out")
    assert fake_ray.mapped["num_gpus"] is None
    assert fake_ray.mapped["num_cpus"] == 1.0


def test_a_cluster_is_joined_as_it_is(source: Path, tmp_path: Path, loaded: Loaded, fake_ray: FakeRay) -> None:
    collect(source, tmp_path / "out", ray_address="ray://head:10001")
    (started,) = fake_ray.started
    assert started["address"] == "ray://head:10001"
    assert "num_cpus" not in started


def test_a_ray_of_its_own_is_stopped_also_where_nobody_listens_any_more(
    source: Path, tmp_path: Path, loaded: Loaded, fake_ray: FakeRay
) -> None:
    collect(source, tmp_path / "a")
    assert (len(fake_ray.started), fake_ray.stopped) == (1, 1)
    rows = rank_collection(ranker={}, input=source, output=tmp_path / "b", block=1)
    assert (next(rows), fake_ray.stopped) == ("q0", 1)
    rows.close()  # type: ignore[attr-defined]
    assert fake_ray.stopped == 2


def test_a_ray_that_was_running_is_left_as_it_is(
    source: Path, tmp_path: Path, loaded: Loaded, fake_ray: FakeRay
) -> None:
    fake_ray.running, fake_ray.resources = True, {"CPU": 2.0}
    assert collect(source, tmp_path / "out") == IDS
    assert (fake_ray.started, fake_ray.stopped, fake_ray.running) == ([], 0, True)


def test_a_cluster_without_room_is_told_and_left(
    source: Path, tmp_path: Path, loaded: Loaded, fake_ray: FakeRay
) -> None:
    fake_ray.resources = {"CPU": 2.0}
    with pytest.raises(OptionError, match="actors=2"):
        collect(source, tmp_path / "out", actors=2)
    assert (fake_ray.stopped, loaded.asked) == (1, [])


@pytest.mark.parametrize("depth", [1, 2])
def test_an_error_of_ours_that_an_actor_raised_is_raised_here(
    depth: int, source: Path, tmp_path: Path, loaded: Loaded, fake_ray: FakeRay
) -> None:
    def wrapped(error: BaseException) -> BaseException:
        for _ in range(depth):
            error = RayTaskError(error)
        return error

    fake_ray.fails = wrapped
    with source.open("a", encoding="utf-8") as file:
        file.write('{"id": "x", "query": 3, "candidates": [{"id": "1", "text": "t"}]}\n')
    with pytest.raises(DataError, match=r"lists\.jsonl, the list that begins .*field 'query'"):
        collect(source, tmp_path / "out")
    assert fake_ray.stopped == 1


def test_another_error_of_an_actor_passes_as_it_is(
    source: Path, tmp_path: Path, fake_ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Request) -> str:
        raise ZeroDivisionError("not ours")

    monkeypatch.setattr(Ranker, "from_pretrained", lambda **_: Ranker(ScriptedBackend(broken), method="iranker"))
    fake_ray.fails = RayTaskError
    with pytest.raises(RayTaskError, match="not ours"):
        collect(source, tmp_path / "out")
    assert fake_ray.stopped == 1


def test_an_actor_that_cannot_start_is_told_in_words(
    source: Path, tmp_path: Path, fake_ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(**_: Any) -> Ranker:
        raise BackendError("model folder './nowhere' does not exist")

    def died(error: BaseException) -> BaseException:
        return RayActorError(
            f"The actor died because of an error raised in its creation task\n  File x, line 3\n"
            f"unified_ranker.errors.{type(error).__name__}: {error}"
        )

    monkeypatch.setattr(Ranker, "from_pretrained", load)
    fake_ray.fails = died
    with pytest.raises(BackendError, match=r"^an actor could not go on: model folder './nowhere' does"):
        collect(source, tmp_path / "out")
    fake_ray.fails = lambda _: RayActorError("the node died")
    with pytest.raises(RayActorError, match="the node died"):
        collect(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"actors": 0}, "actors=0 must be ≥ 1"),
        ({"block": 0}, "block=0 must be ≥ 1"),
        ({"concurrency": -1}, "concurrency=-1 must be ≥ 1"),
        ({"gpus_per_actor": -0.5}, "gpus_per_actor=-0.5 .* must be ≥ 0"),
        ({"cpus_per_actor": -1.0}, "cpus_per_actor=-1.0 must be ≥ 0"),
    ],
)
def test_numbers_out_of_range_are_refused_before_ray_starts(
    options: dict[str, Any], words: str, source: Path, tmp_path: Path, fake_ray: FakeRay
) -> None:
    with pytest.raises(OptionError, match=words):
        collect(source, tmp_path / "out", **options)
    assert (fake_ray.started, (tmp_path / "out").exists()) == ([], False)


def test_a_number_of_places_below_one_is_refused_before_ray_starts(
    source: Path, tmp_path: Path, loaded: Loaded, fake_ray: FakeRay
) -> None:
    with pytest.raises(OptionError, match="top_k=0"):
        collect(source, tmp_path / "out", top_k=0)
    assert fake_ray.started == []


def test_without_ray_the_message_names_the_extra_and_the_command(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"--engine ray needs .*'ray'.*pip install 'unified-ranker\[ray\]'"):
        collect(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
