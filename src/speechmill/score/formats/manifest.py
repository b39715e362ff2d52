"""Speechmill's own manifests (Parquet) as references: columns `id` and `text`, every other one to group by."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from speechmill.errors import SpeechmillError
from speechmill.score.formats.item import Item, Transcript
from speechmill.score.formats.lines import checked
from speechmill.score.result import Sound

_GROUPS = ("call", "speaker")
_ALWAYS = ("id", "text", "recording", "start", "end", "call", "speaker")


def read_parquet(path: Path, columns: Collection[str]) -> Transcript:
    """Return an item for each row, with the values of `columns` (those of them that it has) as its attributes."""
    import polars as pl  # takes 0.1 s; only those who have such a file pay for it

    try:
        there = pl.read_parquet_schema(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise SpeechmillError(f"{path}: not a Parquet file that can be read ({str(error).splitlines()[0]}).") from error
    for name in ("id", "text"):
        if name not in there:
            raise SpeechmillError(f"{path}: has no column {name!r}; a manifest of references needs id and text.")
    wanted = [name for name in there if name in _ALWAYS or name in columns]
    table = pl.read_parquet(path, columns=wanted)
    items = []
    for row in table.iter_rows(named=True):
        sound = Sound(row["recording"], row.get("start"), row.get("end")) if row.get("recording") else None
        recording = row.get("call") or (Path(row["recording"]).stem if sound else "")
        attributes = {
            name: str(row[name]).lower() if isinstance(row[name], bool) else str(row[name])
            for name in wanted
            if (name in columns or name in _GROUPS) and row[name] is not None and row[name] != ""
        }
        text = row["text"] or ""
        items.append(Item(str(row["id"]), text, (text,), recording, attributes, sound))
    return Transcript(checked(items, path))
