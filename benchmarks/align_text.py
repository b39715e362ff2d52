"""What the texts that `align` gives to train on say of what was said, for part `training` of `benchmarks.align`."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from benchmarks.damage import demo_call
from speechmill.manifest import KNOWN_TEXT, read_manifest, write_manifest
from speechmill.text import WILDCARD, normalize

# A word under a wildcard, a wildcard under which no word is: less than any error, and enough to match what can be.
_OPEN, _USELESS = 0.01, 0.02


def text_record(manifest: Path, demo: Path) -> dict[str, float | int]:
    """Of the words said in the utterances of an aligned manifest, the shares that `known_text` has right, has
    otherwise, leaves open and has nothing for; and per word said, words that were not said and wildcards over nothing.
    """
    counts: Counter[str] = Counter()
    table = pl.read_parquet(manifest, columns=["call", "start", "end", KNOWN_TEXT])
    for text, inside in zip(table[KNOWN_TEXT], said_in(table, demo), strict=True):
        written = [
            token for word in text.split() for token in ([word] if word == WILDCARD else normalize(word).split())
        ]
        counts += compared(normalize(inside).split(), written)
    said = sum(counts[name] for name in ("right", "otherwise", "open", "nothing"))
    return {"words": said} | {
        name: round(counts[name] / max(said, 1), 5)
        for name in ("right", "otherwise", "open", "nothing", "not_said", "useless_wildcards")
    }


def with_what_was_said(manifest: Path, demo: Path, out: Path) -> Path:
    """The manifest with what was said in each utterance for `known_text`; one in which nothing was is left out."""
    table = read_manifest(manifest)
    table = table.with_columns(pl.Series(KNOWN_TEXT, said_in(table, demo)))
    write_manifest(table.filter(pl.col(KNOWN_TEXT) != ""), out)
    return out


def said_in(table: pl.DataFrame, demo: Path) -> list[str]:
    """The words of which the middle lies in each utterance, as the true transcript writes them."""
    calls: dict[str, tuple[list[float], list[str]]] = {}
    for call in table["call"].unique():
        words = sorted(((a + b) / 2, word) for said in demo_call(demo / "MEDIA" / call)[1] for word, a, b in said.words)
        calls[call] = [middle for middle, _ in words], [word for _, word in words]
    found = []
    for call, start, end in table.select("call", "start", "end").iter_rows():
        middles, words = calls[call]
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
