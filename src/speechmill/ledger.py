"""The ledger: what became of every second of source audio in one stage, per recording, with sums that are checked.

A stage (import, select, shard) leaves one beside its output: for each recording a row per outcome. The seconds of a
recording's rows add up to what the stage was given of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from speechmill.artefact import written
from speechmill.errors import SpeechmillError

KEPT = "kept"
UNTRANSCRIBED = "untranscribed"  # under no row of the transcript, or under one whose times are not known
OVERLAP = "overlap"  # below zero: seconds of the recording that more than one row holds
ROUNDING = "rounding"  # a cut falls on a sample
CLIPPED = "clipped"  # a row reached a little past the recording's end

SCHEMA: dict[str, pl.DataType] = {
    "recording": pl.String(),  # its path; the call's name where it has none
    "outcome": pl.String(),  # KEPT, or the reason why not
    "utterances": pl.Int64(),
    "seconds": pl.Float64(),
    "source_seconds": pl.Float64(),  # what the stage was given of the recording, in each of its rows; null: unknown
}
_TOLERANCE = 1e-5  # seconds for each utterance: sums of floats, and microseconds in the file
_DIGITS = 6
_SHARD_LEDGER = "ledger.parquet"


def ledger_path(output: Path) -> Path:
    """Where the ledger of a manifest, or of a folder of shards, lies."""
    return output / _SHARD_LEDGER if output.is_dir() else output.with_suffix(".ledger.parquet")


def write_ledger(ledger: pl.DataFrame, path: Path) -> None:
    """Write a ledger, sorted. Raises SpeechmillError where its sums do not hold: that is a bug, and must be seen."""
    with written(path) as partial:
        write_ledger_into(partial, ledger, path)


def write_ledger_into(partial: Path, ledger: pl.DataFrame, path: Path) -> None:
    """As `write_ledger`, into a file that whoever asks publishes as `path`."""
    wrong = faults(ledger)
    if wrong:
        raise SpeechmillError(f"{path}: the seconds do not add up: {wrong[0]} ({len(wrong)} recordings).")
    # Rounded: with another number of threads, floats are added in another order.
    rows = ledger.select(list(SCHEMA)).with_columns(pl.col("seconds", "source_seconds").round(_DIGITS))
    rows.sort("recording", "outcome").write_parquet(partial, compression="zstd")


def read_ledger(path: Path) -> pl.DataFrame:
    """The rows of a ledger, columns as in SCHEMA. Raises SpeechmillError where the file is none."""
    if not path.is_file():
        raise SpeechmillError(f"{path}: no ledger; `speechmill import`, `select` and `shard` write one.")
    try:
        ledger = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise SpeechmillError(f"{path}: not a ledger, a Parquet file was expected ({error}).") from error
    if dict(ledger.schema) != SCHEMA:
        raise SpeechmillError(f"{path}: not a ledger; the columns {', '.join(SCHEMA)} were expected.")
    return ledger


def account(source: pl.DataFrame, outcomes: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """A ledger.

    Args:
        source: `recording, source_seconds`, a row for each recording.
        outcomes: tables `recording, outcome, utterances, seconds`; several rows of an outcome are added up.
    """
    rows = pl.concat([table.select(list(SCHEMA)[:4]).cast(dict(list(SCHEMA.items())[:4])) for table in outcomes])
    rows = rows.group_by("recording", "outcome").agg(pl.col("utterances").sum(), pl.col("seconds").sum())
    rows = rows.sort("recording", "outcome").join(source, on="recording", how="full", coalesce=True)
    # A recording of which nothing is said at all shows as one whose seconds went nowhere.
    rows = rows.with_columns(
        pl.col("outcome").fill_null(KEPT), pl.col("utterances").fill_null(0), pl.col("seconds").fill_null(0.0)
    )
    return rows.select(pl.col(name).cast(kind) for name, kind in SCHEMA.items())


def faults(ledger: pl.DataFrame) -> list[str]:
    """A line for each recording whose seconds do not add up to what the stage was given."""
    sums = ledger.group_by("recording").agg(
        pl.col("seconds").sum(), pl.col("source_seconds").first(), pl.col("utterances").sum(),
        pl.col("source_seconds").n_unique().alias("sources"),
    )  # fmt: skip
    off = (pl.col("seconds") - pl.col("source_seconds")).abs() > _TOLERANCE * (pl.col("utterances") + 1)
    unknown = pl.col("source_seconds").is_null() & (pl.col("seconds") != 0)
    wrong = sums.filter(off | unknown | (pl.col("sources") != 1)).sort("recording")
    return [
        f"{row['recording']}: {row['seconds']:.6f} s accounted for, "
        + ("of an unknown length" if row["source_seconds"] is None else f"of {row['source_seconds']:.6f} s")
        for row in wrong.iter_rows(named=True)
    ]


def spans(rows: pl.DataFrame, outcome: str) -> pl.DataFrame:
    """The seconds of manifest rows as one outcome."""
    return rows.group_by("recording").agg(
        pl.lit(outcome).alias("outcome"), pl.len().alias("utterances"), _length().sum().alias("seconds")
    )


def select_account(kept: pl.DataFrame, dropped: pl.DataFrame) -> pl.DataFrame:
    """The outcomes of some rows of a selection: those that it kept, and others (`recording, seconds, reason`)."""
    lost = dropped.group_by("recording", pl.col("reason").alias("outcome")).agg(
        pl.len().alias("utterances"), pl.col("seconds").clip(lower_bound=0.0).sum()
    )
    parts = [spans(kept, KEPT), lost]
    return pl.concat([part.select(list(SCHEMA)[:4]).cast(dict(list(SCHEMA.items())[:4])) for part in parts])


def select_ledger(table: pl.LazyFrame, accounts: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """The ledger of a selection: of the manifest that select was given, and the outcomes of all its rows."""
    source = table.group_by("recording").agg(_length().sum().alias("source_seconds")).collect(engine="streaming")
    return account(source, accounts)


def import_ledger(table: pl.DataFrame, drops: pl.DataFrame, recordings: pl.DataFrame) -> pl.DataFrame:
    """The ledger of an import.

    Args:
        table: the manifest.
        drops: `corpora.base.DROPS`; a row's seconds count as far as no kept row holds them (a wrong time may claim
            hours), first come, first served. Where all of a recording falls for one reason and no times are known, that
            reason has all of it.
        recordings: `call, recording, seconds` of all that was read; seconds null where the length is not known.
    """
    names = recordings.select("call", of_call="recording").unique("call", keep="first", maintain_order=True)
    source = recordings.group_by("recording").agg(pl.col("seconds").max().alias("source_seconds"))
    covered = _covered(table)
    overlap = covered.filter(pl.col("held") - pl.col("seconds") < -_TOLERANCE).select(
        "recording", pl.lit(OVERLAP).alias("outcome"), pl.lit(0).alias("utterances"),
        (pl.col("held") - pl.col("seconds")).alias("seconds"),
    )  # fmt: skip
    lost = drops.join(names, on="call", how="left", maintain_order="left")
    lost = lost.with_columns(recording=pl.coalesce("recording", "of_call", "call"))
    length = source.join(covered.select("recording", "held"), on="recording", how="left")
    length = length.with_columns(free=(pl.col("source_seconds") - pl.col("held").fill_null(0.0)).clip(lower_bound=0.0))
    lost = lost.join(length.select("recording", "free", "held"), on="recording", how="left", maintain_order="left")
    lost = lost.with_columns(pl.col("free").fill_null(0.0))
    alone = pl.col("held").is_null() & pl.col("seconds").is_null().all().over("recording")
    alone &= pl.col("reason").n_unique().over("recording") == 1
    lost = lost.with_columns(pl.when(alone).then("free").otherwise(pl.col("seconds").fill_null(0.0)).alias("seconds"))
    lost = lost.with_columns(before=pl.col("seconds").cum_sum().over("recording"))
    claim = pl.min_horizontal("before", "free") - pl.min_horizontal(pl.col("before") - pl.col("seconds"), "free")
    lost = lost.select("recording", pl.col("reason").alias("outcome"), claim.alias("seconds"))
    lost = lost.group_by("recording", "outcome").agg(pl.len().alias("utterances"), pl.col("seconds").sum())
    claimed = lost.group_by("recording").agg(pl.col("seconds").sum().alias("claimed"))
    rest = length.filter(pl.col("source_seconds").is_not_null()).join(claimed, on="recording", how="left")
    rest = rest.select(
        "recording", pl.lit(UNTRANSCRIBED).alias("outcome"), pl.lit(0).alias("utterances"),
        (pl.col("source_seconds") - pl.col("held").fill_null(0.0) - pl.col("claimed").fill_null(0.0)).alias("seconds"),
    )  # fmt: skip
    return account(source, [spans(table, KEPT), overlap, lost, rest])


def _covered(table: pl.DataFrame) -> pl.DataFrame:
    """For each recording: `seconds` of its rows added up, and `held`, those of their union."""
    rows = table.select("recording", "start", "end").sort("recording", "start", "end")
    before = pl.col("end").cum_max().shift(1).over("recording").fill_null(0.0)
    fresh = (pl.col("end") - pl.max_horizontal("start", before)).clip(lower_bound=0.0)
    return rows.with_columns(fresh=fresh).group_by("recording").agg(
        _length().sum().alias("seconds"), pl.col("fresh").sum().alias("held")
    )  # fmt: skip


def shard_outcomes(planned: pl.DataFrame, kept: pl.DataFrame, dropped: pl.DataFrame, rate: int) -> pl.DataFrame:
    """What became of the rows planned for one shard: `recording, outcome, utterances, seconds`.

    Args:
        planned: `id, recording, start, end`.
        kept: `id, samples` that are in the shard, at `rate` Hz.
        dropped: `id, reason`.
    """
    rows = planned.select("id", "recording", _length().alias("planned"))
    held = rows.join(kept.select("id", pl.col("samples") / rate), on="id")
    missing = pl.col("planned") - pl.col("samples")
    held = held.with_columns(
        lost=missing, why=pl.when(missing > 1.5 / rate).then(pl.lit(CLIPPED)).otherwise(pl.lit(ROUNDING))
    )
    parts = [
        held.select("recording", pl.lit(KEPT).alias("outcome"), pl.lit(1).alias("utterances"), pl.col("samples")),
        held.select("recording", pl.col("why"), pl.lit(0).alias("utterances"), pl.col("lost")),
        rows.join(dropped.select("id", "reason"), on="id").select(
            "recording", "reason", pl.lit(1).alias("utterances"), "planned"
        ),
    ]
    names = ["recording", "outcome", "utterances", "seconds"]
    alike = pl.concat([part.rename(dict(zip(part.columns, names, strict=True))) for part in parts])
    return alike.group_by("recording", "outcome", maintain_order=True).agg(
        pl.col("utterances").sum(), pl.col("seconds").sum()
    )


def _length() -> pl.Expr:
    return (pl.col("end") - pl.col("start")).clip(lower_bound=0.0)


def describe_ledger(ledger: pl.DataFrame, title: str) -> str:
    """The text of `inspect --ledger`: hours by outcome, and whether the sums hold."""
    known = ledger.filter(pl.col("source_seconds").is_not_null())
    source = float(known.unique("recording")["source_seconds"].sum())
    rows = ledger.group_by("outcome").agg(
        pl.col("seconds").sum(), pl.col("utterances").sum(), pl.col("recording").n_unique()
    )
    rows = rows.sort([pl.col("outcome") == KEPT, "seconds", "outcome"], descending=[True, True, False])
    lines = [f"{title}: {source / 3600:.4f} h of {ledger['recording'].n_unique()} recordings", ""]
    lines.append(f"{'outcome':<24}{'hours':>12}{'share':>9}{'utterances':>12}{'recordings':>12}")
    for outcome, seconds, utterances, recordings in rows.iter_rows():
        share = f"{seconds / source:.2%}" if source else ""
        lines.append(f"{outcome:<24}{seconds / 3600:>12.4f}{share:>9}{utterances:>12}{recordings:>12}")
    lines.append(f"{'sum':<24}{float(ledger['seconds'].sum()) / 3600:>12.4f}")
    unknown = ledger.filter(pl.col("source_seconds").is_null())["recording"].n_unique()
    if unknown:
        lines.append(f"{unknown} recordings have no known length: they could not be read.")
    return "\n".join(lines)


def compare_kept(ledger: pl.DataFrame, held: pl.DataFrame) -> list[str]:
    """A line for each recording of which the ledger keeps other seconds than the output holds.

    Args:
        held: `recording, utterances, seconds` of the output itself.
    """
    kept = ledger.filter(pl.col("outcome") == KEPT, pl.col("utterances") > 0)
    both = kept.join(held, on="recording", how="full", suffix="_held", coalesce=True).with_columns(
        pl.col("seconds", "seconds_held").fill_null(0.0), pl.col("utterances", "utterances_held").fill_null(0)
    )
    off = (pl.col("seconds") - pl.col("seconds_held")).abs() > _TOLERANCE * (pl.col("utterances") + 1)
    wrong = both.filter(off | (pl.col("utterances") != pl.col("utterances_held"))).sort("recording")
    return [
        f"{row['recording']}: the ledger keeps {row['utterances']} utterances, {row['seconds']:.6f} s; "
        f"there are {row['utterances_held']}, {row['seconds_held']:.6f} s"
        for row in wrong.iter_rows(named=True)
    ]
