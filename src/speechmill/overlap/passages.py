"""Passages that utterances of two manifests share, however each side was cut, and with or without punctuation.

Runs of five words (shingles; Broder, "On the resemblance and containment of documents", 1997) that both sides have are
looked up, and the words that lie in one are counted: what is measured is containment, so a slice is found in the whole
call. Only rare runs count: what more than _RARE utterances of a side say is no sign of a common source.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import polars as pl

WORDS = 5  # of a run: two calls of different companies share 1 to 6 % of their words in such runs
_RARE = 10  # utterances of a side that may have a run of words; it also bounds the pairs of a run, by its square
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Passages:
    """Words that lie in a shared run of WORDS. Rows are numbered as in the tables that were compared."""

    pairs: pl.DataFrame  # row_a, row_b, words: of the one that has fewer of them
    of_a: pl.DataFrame  # row, call, words: of a row of A in what the call of B has
    of_b: pl.DataFrame  # the same, turned


def shared_passages(a: pl.DataFrame, b: pl.DataFrame) -> Passages:
    """Of two tables (`text`: normalised, words parted by single spaces; `call`)."""
    left, right = (Runs.of(table["text"]) for table in (a, b))
    common = np.intersect1d(left.runs, right.runs)
    found_a, found_b = _rare(left.among(common), right.among(common))
    one = _covered(found_a, found_b.select("run", row_b="row").unique(), ["row", "row_b"])
    other = _covered(found_b, found_a.select("run", row_a="row").unique(), ["row", "row_a"])
    both = one.rename({"row": "row_a"}).join(other.rename({"row": "row_b"}), on=["row_a", "row_b"])
    pairs = both.select("row_a", "row_b", words=pl.min_horizontal("words", "words_right"))
    return Passages(pairs, _in_calls(found_a, found_b, b["call"]), _in_calls(found_b, found_a, a["call"]))


@dataclass(frozen=True)
class Runs:
    """Every run of WORDS within a text, as hashes."""

    runs: npt.NDArray[np.uint64]
    rows: npt.NDArray[np.int32]  # of the text
    places: npt.NDArray[np.int32]  # of the run's first word in it

    @classmethod
    def of(cls, texts: pl.Series) -> Runs:
        words, rows, places = hashed_words(texts)
        last = max(0, len(words) - WORDS + 1)
        runs = np.zeros(last, np.uint64)
        for offset in range(WORDS):
            runs = runs * _FACTOR + words[offset : offset + last]
        inside = rows[:last] == rows[len(words) - last :]
        return cls(runs[inside], rows[:last][inside], places[:last][inside])

    def among(self, chosen: npt.NDArray[np.uint64]) -> pl.DataFrame:
        """Those whose hashes are in `chosen` (sorted): run, row, place."""
        if not len(chosen):
            kept = np.zeros(0, np.int64)
        else:
            nearest = np.minimum(np.searchsorted(chosen, self.runs), len(chosen) - 1)
            kept = np.flatnonzero(chosen[nearest] == self.runs)
        return pl.DataFrame({"run": self.runs[kept], "row": self.rows[kept], "place": self.places[kept]})


def hashed_words(texts: pl.Series) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """The words of all texts, end to end: a hash of each, the number of its text, its place in it."""
    split = texts.str.split(" ")
    lengths = split.list.len().to_numpy().astype(np.int64)
    words = split.explode().hash(seed=1).to_numpy()
    rows = np.repeat(np.arange(len(texts), dtype=np.int32), lengths)
    begins = np.cumsum(lengths) - lengths
    return words, rows, (np.arange(len(words)) - begins[rows]).astype(np.int32)


def _rare(a: pl.DataFrame, b: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What is left of both where runs that many rows of either have are taken out."""
    often = pl.concat(
        [side.group_by("run").agg(pl.col("row").n_unique()).filter(pl.col("row") > _RARE).select("run")
         for side in (a, b)]
    )  # fmt: skip
    return a.join(often, on="run", how="anti"), b.join(often, on="run", how="anti")


def _covered(runs: pl.DataFrame, others: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """`keys`, words: how many words lie in a run that is among the others'."""
    step = pl.col("place").sort().diff().clip(upper_bound=WORDS)
    grouped = runs.join(others, on="run").group_by(keys, maintain_order=True)
    return grouped.agg((step.sum() + WORDS).cast(pl.Int64).alias("words"))


def _in_calls(runs: pl.DataFrame, others: pl.DataFrame, calls: pl.Series) -> pl.DataFrame:
    of_call = others.select("run", call=calls.gather(others["row"])).unique()
    return _covered(runs, of_call, ["row", "call"])


def covered_slowly(words: list[str], other: list[str]) -> int:
    """The readable reference of what is counted: words of one text in runs of WORDS that the other has too."""
    theirs = {tuple(other[place : place + WORDS]) for place in range(len(other) - WORDS + 1)}
    places = [p for p in range(len(words) - WORDS + 1) if tuple(words[p : p + WORDS]) in theirs]
    steps = [min(WORDS, after - before) for before, after in pairwise(places)]
    return sum(steps) + WORDS * bool(places)
