"""Writes raw files of invention in the formats of the real sources; nothing in them comes from a real data set."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

SYLLABLES = ("ba", "ko", "li", "mur", "nex", "or", "pel", "qui", "ras", "tov", "ul", "zim")
NINE_LLMS = {"tiny": (0.1, 0.1), "small": (0.2, 0.3), "middle": (0.6, 0.6), "large": (1.5, 2.0), "huge": (5.0, 15.0)}
NQ_LLMS = ("lab/tiny", "lab/small", "lab/large", "lab/unlisted")
BENCH_LLMS = ("house/quick", "house/steady", "guild/wise", "guild/dear")
GRAPH_LLMS = ("north-7b", "south-13b", "east-34b", "west-70b")
ASKED_IN_TRAIN_AND_TEST = "Which colour has the zimulor of Pelkoba?"
ASKED_IN_NQ_AND_TEST = "Who carved the stone of Orquira?"
ALL_RIGHT = "How many legs has a murkobali?"
PROMPT_WITH_EXAMPLES = "Which tovul floats?"


def write(path: Path, text: str, *, zipped: bool = False, encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = text.encode(encoding)
    if zipped:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(data, mtime=0))
    else:
        path.write_bytes(data)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue()


def tabbed(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    return "".join("\t".join(map(str, row)) + "\n" for row in (header, *rows))


def word(rng: random.Random) -> str:
    return "".join(rng.choice(SYLLABLES) for _ in range(rng.randint(2, 3)))


def sentence(rng: random.Random, *, words: int = 8) -> str:
    return " ".join(word(rng) for _ in range(words))


def write_movielens(folder: Path) -> None:
    rng = random.Random("movielens")
    movies: list[tuple[object, ...]] = [(n, f"{word(rng).title()} {n} (1999)", "Drama|Comedy") for n in range(1, 59)]
    movies += [(59, 'Dust, "Rain" and 59 (2001)', "(no genres listed)"), (60, "Café 60 (2003)", "Western")]
    ratings = []
    for user in range(1, 41):
        # Several ratings of one second, as when a user rates a page at once; users 39 and 40 rated too little.
        for place, movie in enumerate(rng.sample(range(1, 61), 4 if user > 38 else rng.randint(8, 35))):
            ratings.append((user, movie, 3.5, 1_000_000_000 + place // 2))
    ratings.append((1, 9999, 4.0, 1_000_000_000))
    rng.shuffle(ratings)
    write(folder / "movies.csv", table(("movieId", "title", "genres"), movies))
    write(folder / "ratings.csv", table(("userId", "movieId", "rating", "timestamp"), ratings), zipped=True)


def write_lastfm(folder: Path) -> None:
    rng = random.Random("lastfm")
    artists = [(n, f"{word(rng).title()} {n}", f"http://invalid/{n}", "") for n in range(1, 63)]
    artists[0] = (1, 'The "Murko', "http://invalid/1", "")
    artists[1] = (2, "Zïmulør", "http://invalid/2", "")
    artists[61] = (62, " ", "http://invalid/62", "")
    tags = []
    for user in range(2, 34):
        for artist in rng.sample(range(1, 63), rng.randint(7, 30)):
            for tag in range(rng.randint(1, 3)):
                tags.append((user, artist, tag, rng.randint(1, 28), rng.randint(1, 12), rng.randint(2006, 2010)))
    tags.append((2, 9999, 1, 1, 1, 2009))
    write(folder / "artists.dat", tabbed(("id", "name", "url", "pictureURL"), artists), zipped=True)
    header = ("userID", "artistID", "tagID", "day", "month", "year")
    write(folder / "user_taggedartists.dat", tabbed(header, tags), encoding="latin-1")


def write_games(folder: Path) -> None:
    rng = random.Random("games")
    items = [(n, f"{word(rng).title()} &amp; {n}") for n in range(60)]
    rows = []
    for user in range(60):
        *history, target = rng.sample(range(60), rng.randint(7, 28))
        rows.append((user, " ".join(map(str, [*history, history[0]])), target))
    write(folder / "Games-6k.item", tabbed(("item_id:token", "title:token_seq"), items))
    header = ("user_id:token", "item_id_list:token_seq", "item_id:token")
    write(folder / "Games-6k.test.inter", tabbed(header, rows), zipped=True)


def write_atomic(folder: Path) -> None:
    rng = random.Random(folder.name)
    if folder.name == "ml-1m":
        header: tuple[str, ...] = (
            "item_id:token",
            "movie_title:token_seq",
            "release_year:token",
            "genre:token_seq",
        )
        items = [(f"m{n}", f"{word(rng).title()} {n}", 1990 + n % 9, "Drama Western") for n in range(70)]
    else:
        header = ("item_id:token", "title:token", "price:float", "categories:token_seq")
        items = [(f"A{n}", f"{word(rng).title()} {n}", "" if n % 3 else "9.99", "'Toys', 'Old'") for n in range(70)]
    names = [item[0] for item in items]
    rows = []
    for user in range(40):
        long = user < 34
        for place, item in enumerate(rng.sample(names, rng.randint(21, 30) if long else rng.randint(3, 20))):
            rows.append((f"u{user}", item, 4.0, f"{978300000 + place}.0"))
    rows.append(("u0", "unknown", 4.0, "1.0"))
    rng.shuffle(rows)
    write(folder / f"{folder.name}.item", tabbed(header, items), zipped=folder.name == "ml-1m")
    header = ("user_id:token", "item_id:token", "rating:float", "timestamp:float")
    write(folder / f"{folder.name}.inter", tabbed(header, rows), zipped=folder.name != "ml-1m")


def write_llmrouter(folder: Path) -> None:
    rng = random.Random("llmrouter")

    def row(question: str, *, equal: bool = False) -> dict[str, Any]:
        names = list(NINE_LLMS)
        rng.shuffle(names)
        return {"question": question, "scores": {name: 1.0 if equal else rng.choice((0.0, 0.5, 1.0)) for name in names}}

    train = [row(f"What is {sentence(rng, words=6)}?") for _ in range(40)]
    train[3] = row(ASKED_IN_TRAIN_AND_TEST)
    train[5] = row(ALL_RIGHT, equal=True)
    train.append(row(train[0]["question"]))
    test = [row(f"Why is {sentence(rng, words=6)}?") for _ in range(10)]
    test[2] = row("  which colour has the ZIMULOR of pelkoba ?")
    test[4] = row(ASKED_IN_NQ_AND_TEST)
    prices = {
        name: {
            "size": f"{place}B",
            "feature": f"The {name} model.",
            "input_price": low,
            "output_price": high,
            "model": f"lab/{name}",
            "service": "Nobody",
        }
        for place, (name, (low, high)) in enumerate(NINE_LLMS.items(), start=1)
    }
    questions = [f"who is {sentence(rng, words=5)}" for _ in range(30)]
    questions[7] = ASKED_IN_NQ_AND_TEST.lower()
    nq = [
        {
            "q_id": number,
            "query": question,
            "llm_name_list": list(NQ_LLMS),
            "perf_list": [rng.choice((0.0, 0.5, 1.0)) for _ in NQ_LLMS],
            "cost_list": [rng.uniform(1, 100) for _ in NQ_LLMS],
        }
        for number, question in enumerate(questions)
    ]
    write(folder / "dcrouter_train.json", json.dumps(train, indent=1), zipped=True)
    write(folder / "dcrouter_test.json", json.dumps(test, indent=1))
    write(folder / "default_llm.json", json.dumps(prices, indent=1))
    write(folder / "nq_train_6llm_cost.json", json.dumps(nq, indent=1), zipped=True)


def write_routerbench(folder: Path) -> None:
    rng = random.Random("routerbench")
    close = 'Print only a single choice  from "A" or "B" without explanation.'
    header = (
        "",
        "sample_id",
        "prompt",
        "eval_name",
        *BENCH_LLMS,
        *(f"{model}|model_response" for model in reversed(BENCH_LLMS)),
        *(f"{model}|total_cost" for model in reversed(BENCH_LLMS)),
        "oracle_model_to_route_to",
    )
    for name in ("arc_challenge", "winograde", "mbpp"):
        for split, count in (("train", 12), ("test", 6)):
            rows: list[list[object]] = []
            for number in range(count):
                asked = f"{PROMPT_WITH_EXAMPLES if number == 0 else sentence(rng)} {name} {split} {number}"
                if name == "mbpp":
                    prompt = [f"Write a function for {asked}."]
                elif name == "winograde":
                    frame = "Please answer with the letter of the correct answer.\n\n"
                    example = f"{frame}{sentence(rng)}\nA) one\nB) two\n{close} Answer:\nB\n\n"
                    prompt = [f"{example}{frame}{asked}\nA) one\nB) two\n{close} Answer:"]
                else:
                    example = f"{sentence(rng)}\nA) one\nB) two\n{close}\nAnswer:\nA\n\n"
                    prompt = [f"{example}{example}{asked}\nA) one's\nB) two\n{close}\nAnswer:"]
                scores: list[object] = [rng.choice((0.0, 1.0)) for _ in BENCH_LLMS]
                if number == 1:
                    scores[2] = ""
                answers = [f"['{sentence(rng)}',\n'a second line']" for _ in BENCH_LLMS]
                costs = [rng.uniform(1e-5, 1e-2) for _ in BENCH_LLMS]
                sample = f"{name}.{split}.{number}"
                rows.append([number, sample, str(prompt), name, *scores, *answers, *costs, "no_model_correct"])
            write(folder / f"{name}_{split}.csv", table(header, rows), zipped=split == "train")


def write_graphrouter(folder: Path) -> None:
    rng = random.Random("graphrouter")
    rows: list[tuple[object, ...]] = []
    for number in range(32):
        task = ("alpaca_data", "GSM8K", "SQuAD", "multi_news")[0 if number < 12 else 1 + number % 3]
        asked = f"{sentence(rng)}, {task} {number}"
        for place, model in enumerate(GRAPH_LLMS):
            cost = 0.0 if (number, place) == (2, 0) else rng.uniform(0.001, 1.0)
            answer = "a response\nof two lines"
            rows.append((task, f"about {task}", asked, "truth", "f1", model, answer, rng.choice((0, 0.25, 1)), cost))
    header = (
        "task_id",
        "task_description",
        "query",
        "ground_truth",
        "metric",
        "llm",
        "response",
        "effect",
        "cost",
    )
    write(folder / "router_data.csv", table(header, rows))


def write_scifact(folder: Path) -> None:
    rng = random.Random("scifact")
    subjects = [word(rng) for _ in range(9)]
    corpus: list[tuple[object, ...]] = []
    for number in range(45):
        parts = [f"{subjects[number % 9]} {sentence(rng, words=6)} {number}.{place}" for place in range(3)]
        printed = "[" + "\n ".join(repr(part) for part in parts) + "]"
        corpus.append((1000 + number, f"On {subjects[number % 9]} {number}", printed, False))
    corpus[0] = (1000, "Quotes", '["The rat\'s tail"\n \'was "long" and thin.\']', False)
    header = ("id", "claim", "evidence_doc_id", "evidence_label", "evidence_sentences", "cited_doc_ids")

    def rows(first: int, count: int) -> list[tuple[object, ...]]:
        found: list[tuple[object, ...]] = []
        for number in range(first, first + count):
            text = f"{subjects[number % 9]} raises {sentence(rng, words=4)}, {number}"
            near = [1000 + n for n in range(45) if n % 9 == number % 9]
            if number % 4 == 3:
                found.append((number, text, "", "", "[]", f"[{near[0]}]"))
            elif number % 4 == 2:
                cited = f"[ {near[1]} {near[2]}\n {near[3]}]"
                found += [
                    (number, text, near[1], "SUPPORT", "[2]", cited),
                    (number, text, near[1], "SUPPORT", "[0 1]", cited),
                    (number, text, f"{near[2]}.0", "CONTRADICT", "[1]", cited),
                ]
            else:
                found.append((number, text, near[1], "SUPPORT", "[1]", f"[{near[1]}]"))
        return found

    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / "scifact.zip", "w") as archive:
        archive.writestr("corpus_train.csv", table(("doc_id", "title", "abstract", "structured"), corpus))
        archive.writestr("claims_train.csv", table(header, rows(1, 24)))
        archive.writestr("claims_validation.csv", table(header, rows(101, 12)))


def write_wikiqa(folder: Path) -> None:
    rng = random.Random("wikiqa")
    for split, count in (("train", 20), ("dev", 5), ("test", 8)):
        columns: dict[str, list[str]] = {"id.txt": [], "a.toks": [], "b.toks": [], "sim.txt": []}
        for number in range(1, count + 1):
            asked, size = f"what is {sentence(rng, words=4)} {split} {number} ?", rng.randint(8, 13)
            right = {rng.randrange(size)} if number != 2 else set()
            if number == 3:
                right |= {0, 1}
            for place in range(size):
                columns["id.txt"].append(str(number))
                columns["a.toks"].append(asked)
                columns["b.toks"].append(f"{sentence(rng)} .")
                columns["sim.txt"].append("1" if place in right else "0")
        for part, lines in columns.items():
            write(folder / f"{split}_{part}", "".join(line + "\n" for line in lines), zipped=split == "train")


def write_trec(folder: Path, year: str) -> None:
    rng = random.Random(year)
    run, qrels = [], []
    for query in range(int(year) * 100, int(year) * 100 + 4):
        hits = []
        for rank in range(1, 13):
            document = f"{query}{rank:03d}"
            text = sentence(rng, words=20)
            hits.append({"content": text, "qid": query, "docid": document, "rank": rank, "score": 20.0 - rank})
            if rank % 4:
                qrels.append(f"{query} Q0 {document} {rng.randint(0, 3)}")
        qrels.append(f"{query} Q0 999{query} 3")
        rng.shuffle(hits)
        run.append({"query": f"what is {sentence(rng, words=4)} {query}", "hits": hits})
    write(folder / f"bm25_dl{year}_top100.json", json.dumps(run, indent=1), zipped=year == "19")
    write(folder / f"qrels.dl{year}-passage.txt", "".join(line + "\n" for line in qrels), zipped=year == "20")


def write_ms_marco(folder: Path) -> None:
    rng = random.Random("ms_marco")
    number = 0
    for split, count in (("train", 40), ("validation", 24), ("test", 24)):
        lines = []
        for place in range(count):
            number += 1
            size = (5, 7, 9, 6)[place % 4]
            texts = [f"{sentence(rng)} {number}-{n}" for n in range(size)]
            selected = [0] * size
            selected[rng.randrange(size)] = 1
            if place in (4, 5, 6):
                selected = [1, 1] + [0] * (size - 2)
            if place in (8, 9, 10):
                texts[0] = "long " * 600
            if place == 1:
                selected = [0] * size
            record = {
                "query_id": number,
                "query": f"{sentence(rng, words=4)} {number}",
                "passages": {"is_selected": selected, "passage_text": texts, "url": [""] * size},
            }
            lines.append(json.dumps(record) + "\n")
        write(folder / f"{split}.jsonl", "".join(lines), zipped=split == "train")


def write_all(root: Path) -> Path:
    write_movielens(root / "rec_movie_ml-latest-small")
    write_lastfm(root / "rec_music_lastfm-2k")
    write_games(root / "rec_game_amazon-games-6k")
    for name in ("ml-1m", "Amazon_CDs_and_Vinyl", "Amazon_Video_Games"):
        write_atomic(root / name)
    write_llmrouter(root / "router_llmrouter-9llm")
    write_routerbench(root / "router_routerbench-0shot")
    write_graphrouter(root / "graphrouter")
    write_scifact(root / "passage_scifact")
    write_wikiqa(root / "passage_wikiqa-tok")
    for year in ("19", "20"):
        write_trec(root / f"passage_trec-dl{year}", year)
    write_ms_marco(root / "ms_marco")
    return root
