"""The words of a selection, and how many of the test's were never seen in training."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from speechmill.text import normalize

_SLICE = 200_000  # rows whose words are in memory at a time


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


def word_counts(text: pl.Series) -> pl.DataFrame:
    """Count the normalised words of a column of text: a table of `word`, `count`.

    Raw words are counted first and normalised once each: nine million rows have few different ones.
    """
    counted: list[pl.DataFrame] = []
    for offset in range(0, len(text), _SLICE):
        lines = text.slice(offset, _SLICE).to_frame("word")
        words = lines.select(pl.col("word").str.replace_all(r"\s+", " ").str.split(" ")).explode("word")
        counted.append(words.group_by("word").len("count"))
    if not counted:
        return pl.DataFrame(schema={"word": pl.String, "count": pl.UInt32})
    raw = pl.concat(counted).drop_nulls().group_by("word").agg(pl.col("count").sum())
    normal = pl.Series("word", [normalize(word).split() for word in raw["word"]], dtype=pl.List(pl.String))
    every = raw.with_columns(normal).explode("word").drop_nulls()
    return every.group_by("word").agg(pl.col("count").sum())


def unseen_words(train: pl.Series, test: pl.Series) -> Unseen:
    """Which words of the test split never occur in the train split, counted as tokens and as types."""
    counts = word_counts(test)
    unseen = counts.join(word_counts(train), on="word", how="anti")
    return Unseen(int(counts["count"].sum()), len(counts), int(unseen["count"].sum()), len(unseen))
