"""What is shared, by pairs of calls, and which of them share more than every call has in common."""

from __future__ import annotations

import polars as pl

# Of the words of one of two calls. Calls of different companies have up to 6 % in common (what the operator says, turns
# of phrase), a call and a recognizer's text of it with every second word wrong 11 % and more (docs/log.md).
LEAST_SHARE = 0.08
CALLS: dict[str, pl.DataType] = {
    "a": pl.String(),  # call of A
    "b": pl.String(),  # call of B
    "utterances_a": pl.Int64(),  # of the call, in a pair of utterances
    "utterances_b": pl.Int64(),
    "share_a": pl.Float64(),  # of the call's words, or of its utterances' seconds
    "share_b": pl.Float64(),
}
SAME_SOUND = CALLS | {"seconds": pl.Float64()}  # that recordings of both hold, whether or not utterances lie there
_MEASURES = {
    "audio": pl.col("end") - pl.col("start"),
    "text": pl.col("text").str.strip_chars().str.count_matches(r"\s+") + 1,
}


def calls_that_say_the_same(
    tables: dict[str, pl.DataFrame], pairs: pl.DataFrame, shares: dict[str, pl.DataFrame]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """CALLS of which LEAST_SHARE or more is shared, and those of which less is.

    `shares`: of each utterance of a side in a call of the other (id, call, share).
    """
    calls = _calls(tables, pairs, shares, "text")
    shared = pl.max_horizontal("share_a", "share_b") >= LEAST_SHARE
    return calls.filter(shared), calls.filter(~shared)


def calls_that_sound_the_same(
    tables: dict[str, pl.DataFrame], pairs: pl.DataFrame, recordings: pl.DataFrame
) -> pl.DataFrame:
    """SAME_SOUND of `pairs` of utterances and of `recordings` (a, b, seconds)."""
    shares = {}
    for side, other in (("a", "b"), ("b", "a")):
        heard = pairs.join(_named(tables[other], other), on=other).group_by(side, f"call_{other}")
        summed = heard.agg(pl.col("seconds").sum()).rename({side: "id", f"call_{other}": "call"})
        shares[side] = summed.join(tables[side].select("id", all=_MEASURES["audio"]), on="id").select(
            "id", "call", share=pl.col("seconds") / pl.col("all")
        )
    held = recordings
    for side in ("a", "b"):
        of = tables[side].select(pl.col("recording").alias(side), pl.col("call").alias(f"call_{side}")).unique()
        held = held.join(of, on=side).drop(side)
    seconds = held.group_by(a="call_a", b="call_b").agg(pl.col("seconds").sum().round(2))
    both = _calls(tables, pairs, shares, "audio").join(seconds, on=["a", "b"], how="full", coalesce=True)
    filled = both.with_columns(pl.exclude("a", "b").fill_null(0)).select(*SAME_SOUND).cast(SAME_SOUND)  # type: ignore[arg-type]
    return _largest_first(filled, "seconds")


def pairs_in(pairs: pl.DataFrame, calls: pl.DataFrame, tables: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """Those pairs of utterances that lie in these pairs of calls."""
    named = pairs.join(_named(tables["a"], "a"), on="a").join(_named(tables["b"], "b"), on="b")
    wanted = calls.select(call_a="a", call_b="b")
    return named.join(wanted, on=["call_a", "call_b"], how="semi").select(pairs.columns).sort("a", "b")


def _named(table: pl.DataFrame, side: str) -> pl.DataFrame:
    return table.select(pl.col("id").alias(side), pl.col("call").alias(f"call_{side}"))


def _calls(
    tables: dict[str, pl.DataFrame], pairs: pl.DataFrame, shares: dict[str, pl.DataFrame], kind: str
) -> pl.DataFrame:
    """CALLS from what each side's utterances have in common with a call of the other."""
    named = pairs.join(_named(tables["a"], "a"), on="a").join(_named(tables["b"], "b"), on="b")
    found = named.group_by("call_a", "call_b").agg(
        utterances_a=pl.col("a").n_unique(), utterances_b=pl.col("b").n_unique()
    )
    for side, other in (("a", "b"), ("b", "a")):
        sizes = tables[side].select(
            "id", pl.col("call").alias(f"call_{side}"), size=_MEASURES[kind], all=_MEASURES[kind].sum().over("call")
        )
        # What an utterance shares with several of the other call's is at most all of it.
        amount = (pl.col("share").clip(upper_bound=1.0) * pl.col("size")).sum() / pl.col("all").first()
        of = shares[side].rename({"call": f"call_{other}"}).join(sizes, on="id").group_by("call_a", "call_b")
        found = found.join(
            of.agg(amount.round(4).alias(f"share_{side}")), on=["call_a", "call_b"], how="full", coalesce=True
        )
    filled = found.rename({"call_a": "a", "call_b": "b"}).with_columns(pl.exclude("a", "b").fill_null(0))
    return _largest_first(filled.select(*CALLS).cast(CALLS))  # type: ignore[arg-type]


def _largest_first(calls: pl.DataFrame, *then: str) -> pl.DataFrame:
    most = pl.max_horizontal("share_a", "share_b")
    return calls.sort(most, *then, "a", "b", descending=[True, *([True] * len(then)), False, False])
