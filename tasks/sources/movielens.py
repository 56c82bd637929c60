"""MovieLens ml-latest-small: ``ratings.csv`` and ``movies.csv``."""

from __future__ import annotations

from collections import defaultdict

from unified_ranker.tasks.base import BuildOptions, Source
from unified_ranker.tasks.recommendation import Interactions
from unified_ranker.tasks.sources.reading import record, table

from unified_ranker.schema.types import Candidate

SOURCE = Source(
    folder="rec_movie_ml-latest-small",
    title="MovieLens ml-latest-small",
    url="https://grouplens.org/datasets/movielens/latest/",
    licence="GroupLens usage licence: research, acknowledge, no commercial use without permission",
)


def read(options: BuildOptions) -> Interactions:
    """Read who rated what, in order of time (then of movie id, where times are equal).

    Raises:
        DataError: naming the file and row that are malformed.
    """
    items = {
        row["movieId"]: Candidate(id=row["movieId"], title=row["title"], text=_genres(row["genres"]))
        for _, row in table(options.find(SOURCE, "movies.csv"), ("movieId", "title", "genres"))
    }
    dated: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    path = options.find(SOURCE, "ratings.csv")
    for number, row in table(path, ("userId", "movieId", "timestamp")):
        with record(path, number):
            if row["movieId"] in items:
                dated[row["userId"]].append((int(row["timestamp"]), int(row["movieId"]), row["movieId"]))
    return Interactions({user: [item for *_, item in sorted(rated)] for user, rated in dated.items()}, items)


def _genres(text: str) -> str:
    return "" if text.startswith("(no genres") else text.replace("|", ", ")
