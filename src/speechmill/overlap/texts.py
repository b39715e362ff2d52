"""Which utterances of two manifests have text in common: near-same as a whole, or a passage (passages.py).

Near-same, fast for the many pairs that share nothing: texts that agree in four words of five have three of their rarest
pairs of neighbouring words in common (prefix filtering; Chaudhuri, Ganti and Kaushik 2006, Bayardo, Ma and Srikant
2007). Those that have are compared word by word.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from rapidfuzz.distance import Levenshtein

from speechmill.overlap.passages import Passages, hashed_words, shared_passages
from speechmill.text import normalize

PAIRS: dict[str, pl.DataType] = {
    "a": pl.String(),  # id of an utterance of A
    "b": pl.String(),  # id of an utterance of B
    # Of near-same texts 1 - edit distance in words / words of the longer, of others words / words of the shorter.
    "similarity": pl.Float64(),
    "words": pl.Int64(),  # of the shorter where they are near-same, else those in passages that both have
}
LEAST_WORDS = 6  # what is shorter is said in every call ("thank you for the question")
_ALIKE = 0.8  # words
_LONGEST = 100  # words; in longer texts passages are looked for, and texts that are equal
_COMMON = 3  # of a text's rarest pairs of words that another must have to be compared
_OFTEN = 200  # texts that share a pair of words; where there are more, rarer ones must do
_COPIES = 100  # pairs of copies of a text that are all listed; boilerplate of thousands of calls would be millions
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Said:
    """Text that two manifests have in common."""

    pairs: pl.DataFrame  # PAIRS
    # Of each utterance in what a call of the other side has: id, call, share (of its words).
    of_a: pl.DataFrame
    of_b: pl.DataFrame


def same_text(a: pl.DataFrame, b: pl.DataFrame) -> Said:
    """What two manifests (`id`, `text`, `call`) both say: whole utterances, passages of them, and by calls.

    Passages that calls of one company or one operator have in common are among it; `calls.py` judges them.
    """
    left, right = _plain(a), _plain(b)
    near, passages = _near_same(left, right), shared_passages(left, right)
    return Said(
        _pairs(left, right, near, passages),
        _of_calls(left, near.select("a", call="call_b"), passages.of_a, "a"),
        _of_calls(right, near.select("b", call="call_a"), passages.of_b, "b"),
    )


def _plain(table: pl.DataFrame) -> pl.DataFrame:
    """(id, call, text, words): normalised, of at least LEAST_WORDS words."""
    texts = pl.Series([normalize(text) for text in table["text"]], dtype=pl.String)
    plain = table.select("id", "call").with_columns(text=texts)
    words = pl.col("text").str.count_matches(" ", literal=True).cast(pl.Int64) + 1
    return plain.with_columns(words=words).filter(pl.col("words") >= LEAST_WORDS)


def _pairs(left: pl.DataFrame, right: pl.DataFrame, near: pl.DataFrame, passages: Passages) -> pl.DataFrame:
    found = passages.pairs.filter(pl.col("words") >= LEAST_WORDS)
    of_a, of_b = left[found["row_a"]], right[found["row_b"]]
    shorter = pl.min_horizontal(of_a["words"], of_b["words"])
    passing = pl.DataFrame({"a": of_a["id"], "b": of_b["id"], "words": found["words"]}).with_columns(
        similarity=(pl.col("words") / pl.select(shorter).to_series()).round(4)
    )
    rows = pl.concat([near.select(*PAIRS), passing.select(*PAIRS)])
    return rows.unique(["a", "b"], keep="first", maintain_order=True).sort("a", "b")


def _of_calls(table: pl.DataFrame, near: pl.DataFrame, passages: pl.DataFrame, side: str) -> pl.DataFrame:
    """(id, call, share): the larger of what is near-same as a whole and what lies in passages."""
    of = table[passages["row"]]
    lies = pl.DataFrame({"id": of["id"], "call": passages["call"], "share": passages["words"] / of["words"]})
    whole = near.select(pl.col(side).alias("id"), "call", share=pl.lit(1.0))
    return pl.concat([whole, lies]).group_by("id", "call").agg(pl.col("share").max())


def _near_same(left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
    """PAIRS of utterances that are near-same as a whole, with their calls."""
    texts = pl.concat([left.select("text"), right.select("text")]).unique(maintain_order=True)
    in_a, in_b = (texts["text"].is_in(side["text"].implode()) for side in (left, right))
    numbered = texts.with_row_index("number").with_columns(pl.col("number").cast(pl.Int64))
    equal = numbered.filter(in_a & in_b).select(one="number", other="number", similarity=pl.lit(1.0))
    pairs = pl.concat([equal, _near(numbered, in_a.to_numpy(), in_b.to_numpy())])
    one = left.join(numbered, on="text").select(one="number", a="id", call_a="call", words_a="words")
    other = right.join(numbered, on="text").select(other="number", b="id", call_b="call", words_b="words")
    found = _listed(pairs, one, other).with_columns(words=pl.min_horizontal("words_a", "words_b"))
    return found.select(*PAIRS, "call_a", "call_b")


def _listed(pairs: pl.DataFrame, one: pl.DataFrame, other: pl.DataFrame) -> pl.DataFrame:
    """Pairs of texts as pairs of utterances; of texts with many copies, each copy with the first of the other side."""
    counted = pairs.join(one.group_by("one").len("copies_a"), on="one").join(
        other.group_by("other").len("copies_b"), on="other"
    )
    few = counted.filter(pl.col("copies_a") * pl.col("copies_b") <= _COPIES).select(pairs.columns)
    many = counted.filter(pl.col("copies_a") * pl.col("copies_b") > _COPIES).select(pairs.columns)
    first_one, first_other = (
        side.unique(name, keep="first", maintain_order=True) for side, name in ((one, "one"), (other, "other"))
    )
    parts = [(few, one, other), (many, one, first_other), (many, first_one, other)]
    return pl.concat([table.join(left, on="one").join(right, on="other") for table, left, right in parts])


def _near(numbered: pl.DataFrame, in_a: npt.NDArray[np.bool_], in_b: npt.NDArray[np.bool_]) -> pl.DataFrame:
    """Pairs of different texts, one of A and one of B, that are alike: numbers of the texts, similarity."""
    schema = {"one": pl.Int64, "other": pl.Int64, "similarity": pl.Float64}
    shingles = _rare_first(_neighbours(numbered))
    # Each differing word takes at most two of its text's pairs, so that of the rarest 2d + 3 three are left.
    edits = ((1 - _ALIKE) * (pl.col("size") + 1) + 1e-9).floor()
    prefix = shingles.filter(pl.col("rank") <= 2 * edits + _COMMON, pl.col("often") <= _OFTEN).select(
        "text", "shingle", "size"
    )
    of_a = prefix.filter(pl.Series(in_a).gather(prefix["text"]))
    of_b = prefix.filter(pl.Series(in_b).gather(prefix["text"]))
    joined = of_a.join(of_b, on="shingle", suffix="_b").filter(pl.col("text") != pl.col("text_b"))
    common = joined.group_by(one="text", other="text_b").len("common")
    candidates = common.filter(pl.col("common") >= _COMMON).select("one", "other")
    kept = list(_alike(candidates, numbered["text"]))
    return pl.DataFrame(kept, schema=schema, orient="row")


def _neighbours(numbered: pl.DataFrame) -> pl.DataFrame:
    """(text, shingle): the different pairs of neighbouring words of each text that is not too long, as hashes."""
    short = numbered.filter(pl.col("text").str.count_matches(" ", literal=True) < _LONGEST)
    words, rows, _ = hashed_words(short["text"])
    inside = rows[1:] == rows[:-1]
    pairs = (words[:-1] * _FACTOR) ^ words[1:]
    texts = short["number"].to_numpy()[rows[1:][inside]]
    return pl.DataFrame({"text": texts, "shingle": pairs[inside]}).unique()


def _rare_first(shingles: pl.DataFrame) -> pl.DataFrame:
    """Add how many texts have a shingle, its rank within the text (the rarest is 1), and the number of the text's."""
    often = shingles.join(shingles.group_by("shingle").len("often"), on="shingle")
    ranked = often.sort("text", "often", "shingle")
    first = ranked["text"].search_sorted(ranked["text"], "left").cast(pl.Int64)
    last = ranked["text"].search_sorted(ranked["text"], "right").cast(pl.Int64)
    return ranked.with_columns(rank=pl.int_range(pl.len()) - first + 1, size=last - first)


def _alike(candidates: pl.DataFrame, texts: pl.Series) -> Iterable[tuple[int, int, float]]:
    for one, other in candidates.iter_rows():
        left, right = texts[one].split(" "), texts[other].split(" ")
        longer = max(len(left), len(right))
        most = math.floor((1 - _ALIKE) * longer + 1e-9)
        distance = Levenshtein.distance(left, right, score_cutoff=most)
        if distance <= most:
            yield one, other, round(1 - distance / longer, 4)
