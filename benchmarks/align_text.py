"""What the texts that `align` gives to train on say of what was said, for part `training` of `benchmarks.align`."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.damage import demo_call
from speechmill.corpora.demo.build import sentence_id
from speechmill.manifest import KNOWN_TEXT, read_manifest, write_manifest
from speechmill.text import WILDCARD, normalize

# A word under a wildcard, a wildcard under which no word is: less than any error, and enough to match what can be.
_OPEN, _USELESS = 0.01, 0.02
_INTO = 1.2  # seconds by which an utterance may reach between two sentences: the longest pause of a demo call


def text_record(manifest: Path, demo: Path) -> dict[str, Any]:
    """Of the words said in the utterances of an aligned manifest, the shares that `known_text` has right, has
    otherwise, leaves open and has nothing for; and per word said, words that were not said and wildcards over nothing.

    Beside it the same of those of which nothing is written (`heard`, align.hear_rest). Utterances in what no true
    transcript has are in neither.
    """
    table = pl.read_parquet(manifest, columns=["call", "start", "end", "text", KNOWN_TEXT])
    counts: dict[bool, Counter[str]] = {False: Counter(), True: Counter()}
    for written, text, inside in zip(table["text"], table[KNOWN_TEXT], said_in(table, demo), strict=True):
        if inside is None:
            continue
        tokens = [token for word in text.split() for token in ([word] if word == WILDCARD else normalize(word).split())]
        counts[not written] += compared(normalize(inside).split(), tokens)
    return _shares(counts[False]) | ({"heard": _shares(counts[True])} if counts[True] else {})


def _shares(counts: Counter[str]) -> dict[str, Any]:
    said = sum(counts[name] for name in ("right", "otherwise", "open", "nothing"))
    return {"words": said} | {
        name: round(counts[name] / max(said, 1), 5)
        for name in ("right", "otherwise", "open", "nothing", "not_said", "useless_wildcards")
    }


def with_what_was_said(manifest: Path, demo: Path, out: Path) -> Path:
    """The manifest with what was said in each utterance for `known_text`; one in which nothing was is left out, and one
    of which it is not known."""
    table = read_manifest(manifest)
    table = table.with_columns(pl.Series(KNOWN_TEXT, said_in(table, demo), pl.String))
    write_manifest(table.filter(pl.col(KNOWN_TEXT).fill_null("") != ""), out)
    return out


def with_true_edges(manifest: Path, demo: Path, out: Path) -> Path:
    """An imported demo corpus, whose sentences begin and end with their first and last words; those whose words are not
    known are as they were imported."""
    table = read_manifest(manifest)
    edges = {
        (call, f"{call}_{sentence_id(place)}"): (said.start, said.end)
        for call in table["call"].unique()
        for place, said in enumerate(demo_call(demo / "MEDIA" / call)[1])
        if said.words
    }
    rows = [
        edges.get((call, name), (start, end))
        for call, name, start, end in table.select("call", "id", "start", "end").iter_rows()
    ]
    start, end = (
        pl.Series(name, values, pl.Float64)
        for name, values in zip(("start", "end"), zip(*rows, strict=True), strict=True)
    )
    write_manifest(table.with_columns(start, end), out)
    return out


def said_in(table: pl.DataFrame, demo: Path) -> list[str | None]:
    """The words of which the middle lies in each utterance, as the true transcript writes them; None where it reaches
    into what no transcript has (as "Operator Instructions" stand for)."""
    calls: dict[str, tuple[list[float], list[str], list[tuple[float, float]]]] = {}
    for call in table["call"].unique():
        said = demo_call(demo / "MEDIA" / call)[1]
        words = sorted(((a + b) / 2, word) for one in said for word, a, b in one.words)
        between = [
            (before.end, after.start)
            for before, one, after in zip(said, said[1:], said[2:], strict=False)
            if not one.words and before.words and after.words
        ]
        calls[call] = [middle for middle, _ in words], [word for _, word in words], between
    found: list[str | None] = []
    for call, start, end in table.select("call", "start", "end").iter_rows():
        middles, words, between = calls[call]
        if any(min(end, high) - max(start, low) > _INTO for low, high in between):
            found.append(None)
        else:
            found.append(" ".join(words[bisect_left(middles, start) : bisect_right(middles, end)]))
    return found


def compared(said: Sequence[str], written: Sequence[str]) -> Counter[str]:
    """Counts of what became of each word: the cheapest way to explain one by the other, a wildcard by any words."""
    Row = list[tuple[float, tuple[int, str]]]
    rows: list[Row] = []
    for place in range(len(written) + 1):
        is_open = place > 0 and written[place - 1] == WILDCARD
        row: Row = []
        for word in range(len(said) + 1):
            ways: list[tuple[float, tuple[int, str]]] = [] if place or word else [(0.0, (0, ""))]
            if place and is_open:
                ways.append((rows[-1][word][0] + _USELESS, (0, "wildcard")))
                if word:
                    ways += [(rows[-1][word - 1][0] + _OPEN, (3, "open")), (row[-1][0] + _OPEN, (1, "open"))]
            elif place:
                ways.append((rows[-1][word][0] + 1, (2, "not_said")))
                if word:
                    right = written[place - 1] == said[word - 1]
                    ways.append((rows[-1][word - 1][0] + (not right), (3, "right" if right else "otherwise")))
            if word and not is_open:
                ways.append((row[-1][0] + 1, (1, "nothing")))
            row.append(min(ways))
        rows.append(row)
    counts: Counter[str] = Counter()
    place, word, used = len(written), len(said), False
    while place or word:
        step, name = rows[place][word][1]
        if name == "wildcard":
            counts["useless_wildcards"] += not used
            used = False
        else:
            counts[name] += 1
            used = name == "open" and step == 1
        place -= step in (0, 2, 3)
        word -= step in (1, 3)
    return counts
