"""Lhotse: cut sets, or recordings with supervisions as `lhotse prepare` writes them; through it every corpus it knows.

    cuts.jsonl.gz                      {"id": .., "start": 0.5, "duration": 2.0, "channel": 0, "supervisions": [..], ..}
    NAME_recordings_SPLIT.jsonl.gz     {"id": "r1", "sources": [{"type": "file", "source": "a.flac", ..}], ..}
    NAME_supervisions_SPLIT.jsonl.gz   {"id": "s1", "recording_id": "r1", "start": 0.5, "duration": 2.0, "text": ..}

`source` is a file of any of the three (plain or gzip; recordings and supervisions are found by each other's name), or
a folder: its files with `cuts` in their names, else its pairs. A row is a supervision; its call is the recording. call,
session and native are taken from `custom` (where `export-manifest` puts them), its other plain values are carried
along. Needs the extra speechmill[lhotse].
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from speechmill.corpora.base import Opened
from speechmill.corpora.plain import truth
from speechmill.corpora.rows import carried, items_table, opened_rows, placed
from speechmill.corpora.tables import NO_AUDIO, Object, column, marked, objects_table
from speechmill.errors import SpeechmillError

_ENDS = (".jsonl", ".jsonl.gz", ".json", ".json.gz")
_CUTS, _RECORDINGS, _SUPERVISIONS = "cuts", "recordings", "supervisions"
_KNOWN = ("id", "recording", "start", "end", "text", "speaker", "call", "session", "native", "timed", "samplerate",
          "row", "reason", "detail")  # fmt: skip


def open_lhotse(source: Path) -> Opened:
    """Raises SpeechmillError where Lhotse is not installed or nothing of the three kinds is there."""
    import_lhotse_package()
    files = _files(source)
    rows = [row for file in files for row in ([file] if not isinstance(file, tuple) else file)]
    tables = [_of_pair(*file) if isinstance(file, tuple) else _of_cuts(file) for file in files]
    table = pl.concat(tables, how="diagonal_relaxed")
    extra, warnings = carried(table, (*_KNOWN, "channels"))
    start = column(table, "start", pl.Float64)
    items = table.select(
        "row",
        "reason",
        "detail",
        column(table, "id").alias("id"),
        placed(column(table, "recording"), Path.cwd()).alias("recording"),  # Lhotse's own rule for relative paths
        start.alias("start"),
        column(table, "end", pl.Float64).round(9).alias("end"),
        column(table, "text").alias("text"),
        column(table, "speaker").alias("speaker"),
        column(table, "call").alias("call"),
        column(table, "session").alias("session"),
        truth(column(table, "native")).alias("native"),
        truth(column(table, "timed")).not_().fill_null(False).alias("untimed"),
    )
    return opened_rows(rows, source, items_table(items.hstack(extra)), warnings)


def import_lhotse_package() -> Any:
    """Lhotse, or SpeechmillError that says how to install it."""
    try:
        import lhotse
    except ImportError as error:
        raise SpeechmillError(
            "lhotse: the package is not installed; install it with pip install 'speechmill[lhotse]'."
        ) from error
    return lhotse


def _files(source: Path) -> list[Path | tuple[Path, Path]]:
    """Files of cuts, and pairs of recordings and supervisions."""
    if source.is_file():
        kind = _kind(source)
        if kind == _CUTS:
            return [source]
        recordings = source.with_name(source.name.replace(_SUPERVISIONS, _RECORDINGS))
        supervisions = source.with_name(source.name.replace(_RECORDINGS, _SUPERVISIONS))
        for path in (recordings, supervisions):
            if not path.is_file() or recordings == supervisions:
                raise SpeechmillError(
                    f"{source}: holds {kind}; the other half, recordings or supervisions, was expected beside it with "
                    f"that word in its name."
                )
        return [(recordings, supervisions)]
    names = sorted(path for path in source.iterdir() if path.name.endswith(_ENDS))
    cuts: list[Path | tuple[Path, Path]] = [path for path in names if _CUTS in path.name]
    halves = [path for path in names if _SUPERVISIONS in path.name]
    pairs = [(path.with_name(path.name.replace(_SUPERVISIONS, _RECORDINGS)), path) for path in halves]
    found = cuts or [pair for pair in pairs if pair[0].is_file()]
    if not found:
        raise SpeechmillError(f"{source}: no *cuts*.jsonl.gz in it, nor *recordings* with *supervisions*.")
    return found


def _kind(path: Path) -> str:
    first = next(iter(_read(path)), None)
    name = type(first).__name__
    kinds = {"Recording": _RECORDINGS, "SupervisionSegment": _SUPERVISIONS}
    if first is not None and name not in kinds and not name.endswith("Cut"):
        raise SpeechmillError(f"{path}: holds {name}s; cuts, recordings or supervisions were expected.")
    return kinds.get(name, _CUTS)


def _read(path: Path) -> Iterator[Any]:
    """What a manifest holds, one after the other. Lhotse's errors become one line."""
    try:
        yield from import_lhotse_package().load_manifest_lazy(path)
    except SpeechmillError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AssertionError, EOFError) as error:
        raise SpeechmillError(f"{path}: Lhotse cannot read it ({type(error).__name__}: {error}).") from error


def _of_cuts(path: Path) -> pl.DataFrame:
    return objects_table(_cut_objects(_read(path)))


def _cut_objects(cuts: Iterable[Any]) -> Iterator[Object]:
    for number, cut in enumerate(cuts, 1):
        about: dict[str, Any] = {"id": cut.id, "call": cut.id}
        if not hasattr(cut, "recording"):
            yield Object(number, about, "mixed-cut", f"the cut {cut.id} is put together from several recordings")
            continue
        if cut.recording is None:
            yield Object(number, about, "no-recording", f"the cut {cut.id} has features and no audio")
            continue
        about, reason, detail = _of_recording(cut.recording)
        if not cut.supervisions:
            yield Object(number, {"id": cut.id, **about}, reason or "no-supervision", detail or f"the cut {cut.id}")
        for supervision in cut.supervisions:
            values = about | _of_supervision(supervision, cut.start)
            yield Object(number, values, *((reason, detail) if reason else _channel_fault(supervision, about)))


def _of_pair(recordings: Path, supervisions: Path) -> pl.DataFrame:
    found = (_of_recording(recording) for recording in _read(recordings))
    left = objects_table(
        Object(number, about, reason, detail) for number, (about, reason, detail) in enumerate(found, 1)
    ).select(pl.col("call").alias("recording_id"), "recording", "channels", lost="reason", why="detail")
    right = objects_table(
        Object(number, {"recording_id": item.recording_id, "channel": str(item.channel)} | _of_supervision(item, 0.0))
        for number, item in enumerate(_read(supervisions), 1)
    )
    table = right.join(left.unique("recording_id", keep="first"), on="recording_id", how="left", maintain_order="left")
    table = table.with_columns(pl.coalesce(column(table, "call"), "recording_id").alias("call"))
    unknown = pl.format("{} has no recording {}", pl.lit(recordings.name), "recording_id")
    table = marked(table, "no-recording", unknown, pl.col("lost").is_null())
    table = table.with_columns(
        reason=pl.when(pl.col("reason") == "").then("lost").otherwise("reason"),
        detail=pl.when(pl.col("reason") == "").then("why").otherwise("detail"),
    )
    several = (pl.col("channels") != pl.col("channel")) & (pl.col("channels") != "")
    table = marked(table, "one-of-several-channels", pl.format("channel {}", "channel"), several)
    return table.drop("recording_id", "channel", "channels", "lost", "why")


def _of_recording(recording: Any) -> tuple[dict[str, Any], str, str]:
    """(path, call, channels), and why its audio cannot be had as a file."""
    sources = recording.sources
    ids = recording.channel_ids or [channel for source in sources for channel in source.channels]
    about = {"call": recording.id, "recording": None, "channels": str(ids[0]) if len(ids) == 1 else str(ids)}
    if len(sources) != 1 or sources[0].type != "file":
        kinds = ", ".join(source.type for source in sources)
        return about, "not-a-file", f"the audio of {recording.id} is {kinds or 'nowhere'}, one file was expected"
    if not str(sources[0].source).strip():
        return about, NO_AUDIO, f"the audio of {recording.id} has an empty path"
    about["recording"] = str(sources[0].source)
    if recording.transforms:
        return about, "transformed", f"{recording.id} is changed as it is read (speed, volume, ...)"
    return about, "", ""


def _channel_fault(supervision: Any, about: dict[str, Any]) -> tuple[str, str]:
    """Channels are mixed when audio is read, so that one of several, with others talking on the rest, is not for us."""
    if str(supervision.channel) == about["channels"]:
        return "", ""
    return "one-of-several-channels", f"channel {supervision.channel} of {about['channels']}"


def _of_supervision(supervision: Any, offset: float) -> dict[str, Any]:
    custom = {key: value for key, value in (supervision.custom or {}).items() if _plain(value)}
    given = {"text": supervision.text, "speaker": supervision.speaker, "language": supervision.language,
             "gender": supervision.gender}  # fmt: skip
    start = offset + supervision.start
    return custom | {key: value for key, value in given.items() if value is not None} | {
        "id": supervision.id, "start": float(start), "end": float(start + supervision.duration),
    }  # fmt: skip


def _plain(value: Any) -> bool:
    return isinstance(value, (str, int, float, bool))
