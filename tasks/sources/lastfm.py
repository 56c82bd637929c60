"""HetRec 2011 Last.fm-2k: which user tagged which artist on which day.

The order is weak (a median of 3 different days a user), since only days are published; artists of one day follow in
the order of their id.
"""

from __future__ import annotations

import csv

from unified_ranker.tasks.base import BuildOptions, Source, open_text
from unified_ranker.tasks.recommendation import Interactions

from unified_ranker.schema.types import Candidate

SOURCE = Source(
    folder="rec_music_lastfm-2k",
    title="HetRec 2011 Last.fm-2k",
    url="https://grouplens.org/datasets/hetrec-2011/",
    licence="non-commercial use; cite Last.fm and HetRec 2011",
)


def read(options: BuildOptions) -> Interactions:
    """Read the first day on which each user tagged each artist."""
    with open_text(options.find(SOURCE, "artists.dat")) as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        items = {row["id"]: Candidate(id=row["id"], title=row["name"], text="") for row in rows if row["name"].strip()}
    first: dict[str, dict[str, tuple[int, int, int]]] = {}
    with open_text(options.find(SOURCE, "user_taggedartists.dat"), encoding="latin-1") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            artist = row["artistID"]
            if artist not in items:
                continue
            day = (int(row["year"]), int(row["month"]), int(row["day"]))
            days = first.setdefault(row["userID"], {})
            days[artist] = min(day, days.get(artist, day))
    histories = {
        user: sorted(days, key=lambda artist, days=days: (days[artist], int(artist)))  # type: ignore[misc]
        for user, days in first.items()
    }
    return Interactions(histories, items)
