"""The words of a selection, and how many of the test's were never seen in training."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from speechmill.text import normalize


@dataclass(frozen=True)
class Unseen:
    """Test words that no training utterance has, normalised as for WER."""

    tokens: int  # words of the test text
    types: int  # different ones
    unseen_tokens: int
    unseen_types: int

    @property
    def token_share(self) -> float:
        """Unseen words among all test words, 0 to 1."""
        return self.unseen_tokens / max(1, self.tokens)

    @property
    def type_share(self) -> float:
        """Unseen word types among all test word types, 0 to 1."""
        return self.unseen_types / max(1, self.types)


class WordCounts:
    """Counts the words of text that comes in slices, as the scorer normalises them.

    Raw words are counted first and normalised once each: nine million rows have few different ones.
    """

    def __init__(self) -> None:
        self._raw = pl.DataFrame(schema={"word": pl.String, "count": pl.UInt64})

    def add(self, text: pl.Series) -> None:
        # What else than a space may stand between words is for `normalize` to part.
        words = text.alias("word").to_frame().lazy().select(pl.col("word").str.split(" ")).explode("word").drop_nulls()
        counted = words.group_by("word").agg(pl.len().cast(pl.UInt64).alias("count")).collect(engine="streaming")
        self._raw = pl.concat([self._raw, counted]).group_by("word").agg(pl.col("count").sum())

    def table(self) -> pl.DataFrame:
        """A table of `word`, `count`."""
        normal = pl.Series("word", [normalize(word).split() for word in self._raw["word"]], dtype=pl.List(pl.String))
        every = self._raw.with_columns(normal).explode("word").drop_nulls()
        return every.group_by("word").agg(pl.col("count").sum())


def unseen_words(train: WordCounts, test: WordCounts) -> Unseen:
    """Which words of the test split never occur in the train split, counted as tokens and as types."""
    counts = test.table()
    unseen = counts.join(train.table(), on="word", how="anti")
    return Unseen(int(counts["count"].sum()), len(counts), int(unseen["count"].sum()), len(unseen))
