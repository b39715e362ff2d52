"""What is in a manifest or in shards: hours, utterances, speakers, calls by split and attribute; lengths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from speechmill.artefact import written
from speechmill.errors import SpeechmillError
from speechmill.ledger import KEPT, compare_kept, describe_ledger, faults, ledger_path, read_ledger, spans
from speechmill.manifest import SPLITS, read_manifest, scan_manifest
from speechmill.shards.index import NATIVE_UNKNOWN, Index, open_index
from speechmill.shards.planned import PLANNED_NAME, scan_planned

_BARS = " ▏▎▍▌▋▊▉█"  # eighths of a character
_WIDTH = 50  # characters of the longest bar
_BIN_SECONDS = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_MOST_BINS = 30
_NAMED = ("split", "speaker", "call", "session")
_NEEDED = (*_NAMED, "native")


def inspect_data(path: Path, png: Path | None = None, by: Sequence[str] = ()) -> str:
    """Describe a manifest or a folder of shards; the histogram of lengths also goes to `png` where that is given.

    `by`: columns whose values have lines of their own, besides native and session. Raises SpeechmillError where there
    is no such column.
    """
    if path.is_dir():
        table = index_table(open_index(path))
        _check_columns(by, table.columns, f"{path}: shards have no column", "; inspect their manifest")
    else:  # the text of nine million rows would not fit
        _check_columns(by, scan_manifest(path).collect_schema().names(), f"{path}: the manifest has no column", "")
        table = read_manifest(path, list(dict.fromkeys([*_NEEDED, "start", "end", *by])))
    if png is not None:
        write_png(table, png, path.name)
    return describe(table, str(path), by)


def _check_columns(wanted: Sequence[str], there: Sequence[str], about: str, advice: str) -> None:
    for name in wanted:
        if name not in there:
            raise SpeechmillError(f"{about} {name!r} to go by{advice}; it has {', '.join(there)}.")


def inspect_ledger(path: Path) -> tuple[str, list[str]]:
    """What became of every second in the stage that wrote `path` (a manifest or a folder of shards).

    Returns the text and a line for each recording whose sums do not hold: those of the ledger, and what it keeps
    against what the manifest or the index has.
    """
    ledger = read_ledger(ledger_path(path))
    if path.is_dir():
        index = open_index(path, shards_there=False)
        held = held_of_shards(index, path)
    else:
        held = spans(read_manifest(path, ["recording", "start", "end"]), KEPT).drop("outcome")
    return describe_ledger(ledger, str(path)), faults(ledger) + compare_kept(ledger, held)


def held_of_shards(index: Index, folder: Path) -> pl.DataFrame:
    """`recording, utterances, seconds` of the utterances in an index; recordings by the plan."""
    ids = pl.from_arrow(index.table.select(["id"]))
    rows = pl.DataFrame(ids).with_columns(seconds=pl.Series(index.samples) / index.sample_rate)
    if (folder / PLANNED_NAME).is_file():
        rows = rows.join(scan_planned(folder).select("id", "recording").collect(), on="id", how="left")
    else:  # of somebody else's TARs the ledger is per TAR, and in seconds before resampling
        names = pl.Series(index.shard_names)[index.shard]
        rows = rows.with_columns(recording=names)
    return rows.group_by("recording").agg(pl.len().alias("utterances"), pl.col("seconds").sum())


def describe(table: pl.DataFrame, title: str, by: Sequence[str] = ()) -> str:
    """The text of `inspect`: totals by split, native, session and the columns `by`, then the histogram of lengths.

    `table` is a manifest, or any table with `split`, `speaker`, `call`, `session`, `native` and either `seconds` or
    `start` and `end` (`index_table`). Raises SpeechmillError where a column is missing.
    """
    rows = _with_seconds(table)
    parts = [
        title,
        _totals(rows, by),
        f"utterance lengths ({_lengths_line(rows['seconds'])})",
        histogram(rows["seconds"]),
    ]
    return "\n\n".join(parts)


def index_table(index: Index) -> pl.DataFrame:
    """An index as `describe` takes it: seconds, and `native` as true, false or null."""
    names = {name: pl.Series(index.names(name), dtype=pl.String)[index.codes(name)] for name in _NAMED}
    native = pl.Series(index.numbers("native"))
    return pl.DataFrame(names | {"seconds": index.samples / index.sample_rate, "native": native}).with_columns(
        native=pl.when(native != NATIVE_UNKNOWN).then(native == 1)
    )


def _with_seconds(table: pl.DataFrame) -> pl.DataFrame:
    missing = [name for name in _NEEDED if name not in table.columns]
    if "seconds" not in table.columns and not {"start", "end"} <= set(table.columns):
        missing.append("seconds")
    if missing:
        raise SpeechmillError(f"inspect: the table has no column {', '.join(missing)}; it has {table.columns}.")
    if table.is_empty():
        raise SpeechmillError("inspect: the table has no rows.")
    return table if "seconds" in table.columns else table.with_columns(seconds=pl.col("end") - pl.col("start"))


def _totals(rows: pl.DataFrame, by: Sequence[str]) -> str:
    """A table of hours, utterances, speakers and calls: all rows, by split, and by attribute within each split."""
    lines = [("", "hours", "share", "utterances", "speakers", "calls")]
    total = float(rows["seconds"].sum())
    lines.append(_total("all", rows, total))
    splits = [split for split in (*SPLITS, "") if split in rows["split"].unique()]
    for split in splits:
        part = rows.filter(pl.col("split") == split)
        held = float(part["seconds"].sum())
        if split:
            lines.append(_total(split, part, total))
        lines += [_total(f"  {name}", some, held) for name, some in _by_attribute(part, by)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) if place == 0 else cell.rjust(width) for place, (cell, width) in enumerate(cells))
        for cells in (list(zip(line, widths, strict=True)) for line in lines)
    )


def _by_attribute(rows: pl.DataFrame, by: Sequence[str]) -> list[tuple[str, pl.DataFrame]]:
    native, session = pl.col("native"), pl.col("session")
    parts = [
        ("native", rows.filter(native)),
        ("non-native", rows.filter(~native)),
        ("native unknown", rows.filter(native.is_null())),
    ]
    for name in rows["session"].drop_nulls().unique().sort():
        parts.append((name or "session unknown", rows.filter(session == name)))
    for column in by:
        for value in rows[column].unique().sort():
            of_value = pl.col(column).eq_missing(pl.lit(value))
            parts.append((f"{column} {'unknown' if value in (None, '') else value}", rows.filter(of_value)))
    return [(name, part) for name, part in parts if not part.is_empty()]


def _total(name: str, rows: pl.DataFrame, of: float) -> tuple[str, str, str, str, str, str]:
    seconds = float(rows["seconds"].sum())
    return (
        name,
        f"{seconds / 3600:.2f}",
        f"{seconds / of:.1%}" if of else "",
        f"{len(rows)}",
        f"{rows['speaker'].n_unique()}",
        f"{rows['call'].n_unique()}",
    )


def _lengths_line(seconds: pl.Series) -> str:
    values = np.quantile(seconds.to_numpy(), [0, 0.05, 0.5, 0.95, 1])
    names = ("shortest", "5 %", "median", "95 %", "longest")
    return ", ".join(f"{name} {value:.2f} s" for name, value in zip(names, values, strict=True))


def bin_edges(longest: float) -> npt.NDArray[np.float64]:
    """Edges in seconds from 0 past the longest utterance: the narrowest round width that gives at most 30 bins."""
    width = next((width for width in _BIN_SECONDS if longest / width < _MOST_BINS), longest / _MOST_BINS * 1.001)
    return width * np.arange(int(longest / width) + 2, dtype=np.float64)


def histogram(seconds: pl.Series) -> str:
    """The histogram of utterance lengths as bars of text, a line per bin: from, to, bar, count."""
    values = seconds.to_numpy()
    edges = bin_edges(float(values.max()))
    counts, _ = np.histogram(values, edges)
    most = max(1, int(counts.max()))
    return "\n".join(
        f"{low:7.2f} - {high:7.2f} s  {_bar(count / most)}  {count}"
        for low, high, count in zip(edges[:-1], edges[1:], counts.tolist(), strict=True)
    )


def _bar(share: float) -> str:
    eighths = round(share * _WIDTH * 8)
    if share > 0:
        eighths = max(1, eighths)
    bar = _BARS[8] * (eighths // 8) + (_BARS[eighths % 8] if eighths % 8 else "")
    return bar.ljust(_WIDTH)


def write_png(table: pl.DataFrame, path: Path, title: str) -> None:
    """Draw the histogram of utterance lengths, one line per split, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = _with_seconds(table)
    edges = bin_edges(float(rows["seconds"].max()))  # type: ignore[arg-type]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    names: Sequence[str] = [split for split in (*SPLITS, "") if split in rows["split"].unique()]
    parts = [rows.filter(pl.col("split") == split)["seconds"].to_numpy() for split in names]
    labels = [f"{name or 'all'}: {part.sum() / 3600:.2f} h" for name, part in zip(names, parts, strict=True)]
    axes.hist(parts, bins=edges.tolist(), stacked=True, label=labels)
    axes.set_xlabel("utterance length (s)")
    axes.set_ylabel("utterances")
    axes.set_title(title)
    axes.legend()
    with written(path) as partial:
        figure.savefig(partial, format="png", dpi=120)
