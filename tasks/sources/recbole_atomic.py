"""RecBole atomic files: ``NAME.inter`` and ``NAME.item``, tab separated, headers such as ``item_id:token``."""

from __future__ import annotations

from collections import defaultdict

from unified_ranker.tasks.base import BuildOptions, Source
from unified_ranker.tasks.recommendation import Interactions
from unified_ranker.tasks.sources.reading import record, table

from unified_ranker.schema.types import Candidate

# Column that names an item, and the one that describes it, by data set.
TITLE_COLUMNS = ("movie_title", "title", "name")
TEXT_COLUMNS = ("genre", "categories", "category", "class")
YEAR_COLUMN = "release_year"


def source(name: str, *, title: str) -> Source:
    """Return where an atomic data set is expected: a folder of its own name."""
    return Source(
        folder=name,
        title=title,
        url="https://recbole.io/dataset_list.html",
        licence="see the original data set; MovieLens and Amazon forbid or do not grant redistribution",
    )


def read(options: BuildOptions, where: Source) -> Interactions:
    """Read interactions in order of time, and the items' titles.

    Raises:
        DataError: a column is missing, naming the file.
    """
    name = where.folder
    items: dict[str, Candidate] = {}
    for _, row in table(options.find(where, f"{name}.item"), ("item_id",), delimiter="\t", quoted=False):
        title = next((row[column] for column in TITLE_COLUMNS if row.get(column)), "")
        text = next((row[column] for column in TEXT_COLUMNS if row.get(column)), "")
        year = row.get(YEAR_COLUMN) or ""
        if title and year and year not in title:
            title = f"{title} ({year})"
        if title or text:
            text = text if "," in text else ", ".join(text.split())
            items[row["item_id"]] = Candidate(id=row["item_id"], title=title, text=text)
    path = options.find(where, f"{name}.inter")
    dated: dict[str, list[tuple[float, int, str]]] = defaultdict(list)
    for number, row in table(path, ("user_id", "item_id", "timestamp"), delimiter="\t", quoted=False):
        with record(path, number):
            if row["item_id"] in items:
                dated[row["user_id"]].append((float(row["timestamp"]), number, row["item_id"]))
    histories = {user: list(dict.fromkeys(item for *_, item in sorted(rows))) for user, rows in dated.items()}
    return Interactions(histories, items)
