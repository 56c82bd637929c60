"""Ranks a large collection on Ray Data: one engine for each actor, on one machine or on a cluster.

Ray Data reads the lists as a stream, hands blocks of them to whichever actor is free, and restarts an actor that dies;
none of that is ours. Each finished block becomes one file in the output folder, written under another name first, so
that what is there is whole. Starting the same command again ranks what no file holds yet.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unified_ranker import errors
from unified_ranker.errors import DataError, OptionError, missing_extra
from unified_ranker.schema.jsonl import dump_line, example_from_dict, parse_line, ranked_id
from unified_ranker.schema.parquet import example_from_row
from unified_ranker.schema.types import RankingExample

#: What finished blocks are called.
PART = "part-{}.jsonl"


class RankActor:
    """Loads one ranker and ranks blocks of lists; Ray makes as many of them as are asked for.

    Args:
        ranker: Arguments of :meth:`~unified_ranker.ranker.Ranker.from_pretrained`, ``name_or_path`` among them.
        out: The output folder, which all nodes must share.
        done: Ids that have a ranking.
        top_k: How many places each ranking shows.
        concurrency: Most lists that are ranked at the same time.
    """

    def __init__(
        self, *, ranker: Mapping[str, Any], out: str, done: frozenset[str], top_k: int | None, concurrency: int
    ) -> None:
        from unified_ranker.ranker import Ranker

        self._ranker = Ranker.from_pretrained(**ranker)
        self._out, self._done, self._top_k, self._concurrency = Path(out), done, top_k, concurrency

    def __call__(self, block: Any) -> dict[str, list[str]]:
        """Rank a block, an Arrow table, and return the ids in it."""
        examples = [_example(row) for row in block.to_pylist()]
        ids = [example.id for example in examples]
        waiting = [example for example in examples if example.id not in self._done]
        if waiting:
            rankings = self._ranker.rank_batch(waiting, top_k=self._top_k, concurrency=self._concurrency)
            text = "".join(dump_line(ranking.to_dict()) for ranking in rankings)
            write_part(self._out, [example.id for example in waiting], text)
        return {"id": ids}


def _example(row: Mapping[str, Any]) -> RankingExample:
    fields = dict(row)
    name = Path(fields.pop("path")).name
    if set(fields) == {"text"}:
        where = f"{name}, the list that begins {fields['text'][:60]!r}"
        return example_from_dict(parse_line(fields["text"], where=where), where=where)
    return example_from_row(fields, where=f"{name}, list {fields.get('id')!r}")


def write_part(out: Path, ids: Sequence[str], text: str) -> Path:
    """Write a finished block in one step: it is there whole, or not at all.

    Its name is given by its ids, so that a block that Ray asks for again, since an actor died after writing it, takes
    its own place.
    """
    path = out / PART.format(hashlib.sha256(json.dumps(list(ids)).encode("utf-8")).hexdigest()[:16])
    passing = path.with_suffix(f".{os.getpid()}.passing")
    passing.write_text(text, encoding="utf-8")
    passing.replace(path)
    return path


def finished(out: Path) -> frozenset[str]:
    """Return the ids that have a ranking in a folder.

    Raises:
        DataError: a file is no list of rankings, or two files rank the same list.
    """
    found: set[str] = set()
    for path in sorted(out.glob(PART.format("*"))):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not UTF-8: {error}; choose another --output") from error
        # Not splitlines: texts may hold line ends of other kinds.
        for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
            where = f"{path}, row {number}"
            name = ranked_id(line, where=where)
            if name in found:
                raise DataError(f"{where}: {name!r} was ranked twice; choose another --output")
            found.add(name)
    return frozenset(found)


def rank_collection(
    *,
    ranker: Mapping[str, Any],
    input: Path,
    output: Path,
    top_k: int | None = None,
    concurrency: int = 64,
    actors: int = 1,
    block: int = 256,
    gpus_per_actor: float = 0.0,
    cpus_per_actor: float = 1.0,
    ray_address: str | None = None,
) -> Iterator[str]:
    """Rank all lists of a file, or of the files of a folder.

    Args:
        ranker: Arguments of :meth:`~unified_ranker.ranker.Ranker.from_pretrained`.
        input: A ``.jsonl`` or ``.parquet`` file, or a folder of such files of one kind.
        output: Folder for the rankings; made if it is not there, gone on with if it is.
        top_k: How many places each ranking shows.
        concurrency: Most lists that an actor ranks at the same time.
        actors: How many engines.
        block: Lists of a block: what is lost of an actor's work if it dies.
        gpus_per_actor: Accelerators of each.
        cpus_per_actor: Processors that Ray counts for each.
        ray_address: Address of a cluster; None for a Ray of its own.

    Yields:
        The id of each list, as its block is done, finished earlier or now.

    Raises:
        MissingExtraError: Ray is not installed.
        OptionError: a number is out of range.
        DataError: the input is not there or malformed, two lists have one id, or the output holds others.
    """
    counts = {"actors": actors, "block": block, "concurrency": concurrency, "top_k": 1 if top_k is None else top_k}
    for name, value in counts.items():
        if value < 1:
            raise OptionError(f"{name}={value} must be ≥ 1")
    if gpus_per_actor < 0 or cpus_per_actor < 0:
        raise OptionError(f"gpus_per_actor={gpus_per_actor} and cpus_per_actor={cpus_per_actor} must be ≥ 0")
    files, kind = _files(input)
    try:
        import ray
        from ray.data import ActorPoolStrategy
    except ImportError as error:
        raise missing_extra("ray", package="ray", purpose="--engine ray") from error
    output.mkdir(parents=True, exist_ok=True)
    for passing in output.glob("*.passing"):
        passing.unlink()
    done = finished(output)
    own = not ray.is_initialized()
    if own:
        # Reading needs a processor besides those of the actors; with none left both would wait for each other.
        room = {} if ray_address else {"num_cpus": math.ceil(actors * cpus_per_actor) + 1}
        ray.init(address=ray_address, log_to_driver=False, include_dashboard=False, logging_level="ERROR", **room)
    try:
        _check_room(ray.cluster_resources(), actors=actors, gpus=gpus_per_actor, cpus=cpus_per_actor)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        read = ray.data.read_parquet if kind == ".parquet" else ray.data.read_text
        # What a list holds has other fields in each line, so that lines are read as text and parsed by the actor.
        rows = read([str(file) for file in files], include_paths=True)
        ids = rows.repartition(target_num_rows_per_block=block).map_batches(
            RankActor,
            batch_size=block,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=actors),
            num_gpus=gpus_per_actor or None,
            num_cpus=cpus_per_actor,
            fn_constructor_kwargs={
                "ranker": dict(ranker),
                "out": str(output.resolve()),
                "done": done,
                "top_k": top_k,
                "concurrency": concurrency,
            },
        )
        seen: set[str] = set()
        for row in _rows(ids):
            if row["id"] in seen:
                raise DataError(f"{input}: two lists have the id {row['id']!r}; ids must differ")
            seen.add(row["id"])
            yield row["id"]
        strangers = done - seen
        if strangers:
            raise DataError(
                f"--output {str(output)!r} holds a ranking of {min(strangers)!r}, which is not in {str(input)!r}; "
                "choose another folder, or remove it"
            )
    finally:
        if own:
            ray.shutdown()


def _check_room(has: Mapping[str, float], *, actors: int, gpus: float, cpus: float) -> None:
    """Check that a cluster can hold the actors, which would otherwise wait for ever.

    Raises:
        OptionError: it cannot.
    """
    for kind, name, wanted in (
        ("GPU", "gpus_per_actor", actors * gpus),
        ("CPU", "cpus_per_actor", actors * cpus + 1),
    ):
        if wanted > has.get(kind, 0.0):
            raise OptionError(
                f"actors={actors} and {name}={gpus if kind == 'GPU' else cpus} take {wanted:g} {kind} (one CPU more is "
                f"for reading), and Ray has {has.get(kind, 0.0):g}; take fewer, or a larger cluster"
            )


def _rows(dataset: Any) -> Iterator[dict[str, str]]:
    """Iterate, and raise our own error where an actor raised one.

    Ray carries it here in words only: the traceback's line that names it is read.
    """
    from ray.exceptions import RayActorError, RayTaskError

    try:
        yield from dataset.iter_rows()
    except (RayActorError, RayTaskError) as error:
        told = re.findall(r"^\s*unified_ranker\.errors\.(\w+): (.*)$", str(error), re.MULTILINE)
        if not told:
            raise
        name, message = told[-1]
        kind = getattr(errors, name)
        raise kind(f"an actor could not go on: {message}") from error


def _files(input: Path) -> tuple[list[Path], str]:
    if not input.exists():
        raise DataError(f"--input {str(input)!r} does not exist")
    kinds = (".jsonl", ".parquet")
    files = sorted(file for file in input.iterdir() if file.suffix in kinds) if input.is_dir() else [input]
    found = {file.suffix for file in files}
    if len(found) != 1 or not found <= set(kinds):
        raise DataError(
            f"--input {str(input)!r}: expected .jsonl or .parquet, one file or a folder of one kind; "
            f"found {', '.join(sorted(found)) or 'none'}"
        )
    return [file.resolve() for file in files], found.pop()
