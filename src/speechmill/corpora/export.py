"""A manifest in the formats of other toolkits: NeMo's JSON lines, Lhotse's cut sets.

What both have a place for goes there; the manifest's other columns go along by their names (NeMo: beside the text;
Lhotse: in a supervision's `custom`), so that importing what was exported gives the same rows.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl

from speechmill.artefact import locked, written
from speechmill.audio import AudioInfo, probe
from speechmill.corpora.lhotse_cuts import import_lhotse_package
from speechmill.errors import SpeechmillError
from speechmill.manifest import check_recordings, is_untimed, read_manifest

_TIMES = {"recording", "start", "end"}


def export_manifest(manifest: Path, out: Path, form: str, split: str | None = None) -> int:
    """Write a manifest, or a split of it, as `form` (one of FORMATS); returns the number of utterances.

    A name that ends in .gz is compressed. The same manifest gives the same bytes.
    Raises SpeechmillError for a form or split that is not there, where recordings are gone, or where several rows share
    one without times of their own.
    """
    if form not in FORMATS:
        raise SpeechmillError(f"export-manifest: {form!r} is no format; known: {', '.join(FORMATS)}.")
    table = read_manifest(manifest)
    if split is not None:
        found = table["split"].unique().sort().to_list()
        table = table.filter(split=split)
        if table.is_empty():
            raise SpeechmillError(
                f"{manifest}: no rows of the split {split!r}; there is {', '.join(map(repr, found))}."
            )
    untimed = table.filter(is_untimed(table.columns) & (pl.len().over("recording") > 1))
    if len(untimed):
        raise SpeechmillError(
            f"{manifest}: {len(untimed)} rows have no times of their own (timed: false), which {form} wants; "
            f"`speechmill align` finds them."
        )
    check_recordings(table, manifest)
    lines = (json.dumps(line, ensure_ascii=False) + "\n" for line in FORMATS[form](table))
    with locked(out), written(out) as partial, partial.open("wb") as stream:
        if out.suffix == ".gz":
            with gzip.GzipFile("", "wb", fileobj=stream, mtime=0) as packed:  # no name, no clock: the same bytes
                packed.writelines(line.encode() for line in lines)
        else:
            stream.writelines(line.encode() for line in lines)
    return table.height


def _rows(table: pl.DataFrame) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each row, and what of it the other formats have no place for (its empty values left out)."""
    for row in table.iter_rows(named=True):
        known = _TIMES | {"text"}
        yield row, {name: value for name, value in row.items() if name not in known and value not in (None, "")}


def _nemo(table: pl.DataFrame) -> Iterator[dict[str, Any]]:
    for row, rest in _rows(table):
        start, end = row["start"], row["end"]
        times = {"offset": start, "duration": round(end - start, 9)}
        yield {"audio_filepath": row["recording"]} | times | {"text": row["text"]} | rest


def _lhotse(table: pl.DataFrame) -> Iterator[dict[str, Any]]:
    lhotse = import_lhotse_package()
    infos = _probed(table)
    recordings = dict(table.group_by("call").agg(pl.col("recording").n_unique()).iter_rows())
    for row, rest in _rows(table):
        info = infos[row["recording"]]
        channels = list(range(info.channels))
        source = lhotse.AudioSource("file", channels, row["recording"])
        name = row["call"] if recordings[row["call"]] == 1 else f"{row['call']}_{Path(row['recording']).stem}"
        recording = lhotse.Recording(name, [source], info.samplerate, info.frames, info.seconds, channels)
        start, end = row["start"], min(row["end"], info.seconds)
        channel = channels if len(channels) > 1 else 0
        custom = {key: value for key, value in rest.items() if key not in ("id", "speaker")}
        supervision = lhotse.SupervisionSegment(
            row["id"], name, 0.0, round(end - start, 9), channel, row["text"], speaker=row["speaker"] or None,
            custom=custom or None,
        )  # fmt: skip
        kind = lhotse.MonoCut if len(channels) == 1 else lhotse.MultiCut
        cut = kind(row["id"], start, round(end - start, 9), channel, [supervision], recording=recording)
        yield cut.to_dict()


def _probed(table: pl.DataFrame) -> dict[str, AudioInfo]:
    names = table["recording"].unique().to_list()
    with ThreadPoolExecutor(8) as pool:
        return dict(zip(names, pool.map(probe, names), strict=True))


FORMATS: dict[str, Callable[[pl.DataFrame], Iterator[dict[str, Any]]]] = {"nemo": _nemo, "lhotse": _lhotse}
