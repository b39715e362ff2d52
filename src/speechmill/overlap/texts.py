"""Which utterances of two manifests have near-same text.

Fast for the many pairs that share nothing: texts that agree in four words of five have three of their rarest pairs of
neighbouring words in common (prefix filtering; Chaudhuri, Ganti and Kaushik 2006, Bayardo, Ma and Srikant 2007). Those
that have are compared word by word.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import polars as pl
from rapidfuzz.distance import Levenshtein

from speechmill.text import normalize

PAIRS: dict[str, pl.DataType] = {
    "a": pl.String(),  # id of an utterance of A
    "b": pl.String(),  # id of an utterance of B
    "similarity": pl.Float64(),  # 1 - edit distance in words / words of the longer
    "words": pl.Int64(),  # of the shorter; of whole calls, in the sentences that both have
}
LEAST_WORDS = 6  # what is shorter is said in every call ("thank you for the question")
_ALIKE = 0.8  # words
_LONGEST = 100  # words; longer texts (whole calls) are cut into sentences first
_COMMON = 3  # of a text's rarest pairs of words that another must have to be compared
_OFTEN = 200  # texts that share a pair of words; where there are more, rarer ones must do
_COPIES = 100  # pairs of copies of a text that are all listed; boilerplate of thousands of calls would be millions
_SENTENCE = re.compile(r"(?<=[.?!…])\s+")


def same_text(a: pl.DataFrame, b: pl.DataFrame) -> pl.DataFrame:
    """PAIRS of utterances (rows of two manifests) with near-same text."""
    left, right = _pieces(a), _pieces(b)
    texts = pl.concat([left.select("text"), right.select("text")]).unique(maintain_order=True)
    in_a, in_b = (texts["text"].is_in(side["text"].implode()) for side in (left, right))
    numbered = texts.with_row_index("number").with_columns(pl.col("number").cast(pl.Int64))
    equal = numbered.filter(in_a & in_b).select(one="number", other="number", similarity=pl.lit(1.0))
    pairs = pl.concat([equal, _near(texts["text"].to_list(), in_a.to_numpy(), in_b.to_numpy())])
    if pairs.is_empty():
        return pl.DataFrame(schema=PAIRS)
    words = pl.col("text").str.count_matches(" ", literal=True).cast(pl.Int64) + 1
    one = left.join(numbered, on="text").select(one="number", a="id", words_a=words)
    other = right.join(numbered, on="text").select(other="number", b="id", words_b=words)
    found = _listed(pairs, one, other).with_columns(words=pl.min_horizontal("words_a", "words_b"))
    # Of a whole call's transcript several sentences may be shared with the same utterance of the other side.
    rows = found.group_by("a", "b").agg(pl.col("similarity").mean().round(4), pl.col("words").sum())
    return rows.select(*PAIRS).sort("a", "b")


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


def _pieces(table: pl.DataFrame) -> pl.DataFrame:
    """(id, text): normalised texts of at least LEAST_WORDS words, long ones cut into their sentences."""
    ids: list[str] = []
    texts: list[str] = []
    for name, text in table.select("id", "text").iter_rows():
        parts = _SENTENCE.split(text) if text.count(" ") >= _LONGEST else [text]
        for part in parts:
            plain = normalize(part)
            if plain.count(" ") + 1 >= LEAST_WORDS:
                ids.append(name)
                texts.append(plain)
    return pl.DataFrame({"id": ids, "text": texts}, schema={"id": pl.String, "text": pl.String})


def _near(texts: list[str], in_a: npt.NDArray[np.bool_], in_b: npt.NDArray[np.bool_]) -> pl.DataFrame:
    """Pairs of different texts, one of A and one of B, that are alike: numbers of the texts, similarity."""
    schema = {"one": pl.Int64, "other": pl.Int64, "similarity": pl.Float64}
    words = [text.split(" ") for text in texts]
    shingles = _rare_first(_shingled(words))
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
    kept = list(_alike(candidates.iter_rows(), words))
    return pl.DataFrame(kept, schema=schema, orient="row")


def _shingled(words: list[list[str]]) -> pl.DataFrame:
    """(text, shingle): each text's different pairs of neighbouring words, as hashes."""
    lengths = np.array([len(part) for part in words], np.int64)
    flat = pl.Series([word for part in words for word in part], dtype=pl.String).hash(seed=1).to_numpy()
    text = np.repeat(np.arange(len(words)), lengths)
    inside = text[1:] == text[:-1]
    pairs = (flat[:-1] * np.uint64(0x9E3779B97F4A7C15)) ^ flat[1:]
    return pl.DataFrame({"text": text[1:][inside], "shingle": pairs[inside]}).unique()


def _rare_first(shingles: pl.DataFrame) -> pl.DataFrame:
    """Add how many texts have a shingle, its rank within the text (the rarest is 1), and the number of the text's."""
    often = shingles.join(shingles.group_by("shingle").len("often"), on="shingle")
    ranked = often.sort("text", "often", "shingle")
    first = ranked["text"].search_sorted(ranked["text"], "left").cast(pl.Int64)
    last = ranked["text"].search_sorted(ranked["text"], "right").cast(pl.Int64)
    return ranked.with_columns(rank=pl.int_range(pl.len()) - first + 1, size=last - first)


def _alike(candidates: Iterable[tuple[int, int]], words: list[list[str]]) -> Iterable[tuple[int, int, float]]:
    for one, other in candidates:
        longer = max(len(words[one]), len(words[other]))
        most = math.floor((1 - _ALIKE) * longer + 1e-9)
        distance = Levenshtein.distance(words[one], words[other], score_cutoff=most)
        if distance <= most:
            yield one, other, round(1 - distance / longer, 4)
