"""HetRec 2011 Last.fm-2k: which user tagged which artist on which day.

The order is weak (a median of 3 different days a user), since only days are published; artists of one day follow in the
order of their id.
"""

from __future__ import annotations

from unified_ranker.tasks.base import BuildOptions, Source
from unified_ranker.tasks.recommendation import Interactions
from unified_ranker.tasks.sources.reading import record, table

from unified_ranker.schema.types import Candidate

SOURCE = Source(
    folder="rec_music_lastfm-2k",
    title="HetRec 2011 Last.fm-2k",
    url="https://grouplens.org/datasets/hetrec-2011/",
    licence="non-commercial use; cite Last.fm and HetRec 2011",
)


def read(options: BuildOptions) -> Interactions:
    """Read the first day on which each user tagged each artist.

    Raises:
        DataError: naming the file and row that are malformed.
    """
    artists = table(options.find(SOURCE, "artists.dat"), ("id", "name"), delimiter="\t", quoted=False)
    items = {
        row["id"]: Candidate(id=row["id"], title=row["name"], text="") for _, row in artists if row["name"].strip()
    }
    first: dict[str, dict[str, tuple[int, int, int]]] = {}
    path = options.find(SOURCE, "user_taggedartists.dat")
    needed = ("userID", "artistID", "day", "month", "year")
    for number, row in table(path, needed, delimiter="\t", quoted=False, encoding="latin-1"):
        with record(path, number):
            artist = row["artistID"]
            if artist not in items:
                continue
            day = (int(row["year"]), int(row["month"]), int(row["day"]))
            days = first.setdefault(row["userID"], {})
            days[artist] = min(day, days.get(artist, day))
    return Interactions({user: _in_order(days) for user, days in first.items()}, items)


def _in_order(days: dict[str, tuple[int, int, int]]) -> list[str]:
    return sorted(days, key=lambda artist: (days[artist], int(artist)))
