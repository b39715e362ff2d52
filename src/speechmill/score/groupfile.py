"""A table of attributes (metadata of a corpus, a manifest): CSV, TSV, JSON lines or Parquet, one row per recording or
utterance. Of its columns, the one that has the most of the scored ids is the key."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from speechmill.artefact import read_text
from speechmill.errors import SpeechmillError

_AUDIO = {".wav", ".mp3", ".flac", ".m4a", ".ogg", ".opus", ".sph"}

Row = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class GroupFile:
    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    def attributes(self, names: Iterable[tuple[str, str]], by: Sequence[str]) -> list[Row]:
        """Return for each (id, recording) what its row says of the columns `by`; nothing where there is no row.

        Raises:
            SpeechmillError: no column has one of the ids.
        """
        wanted = list(names)
        tables = {column: self._rows_by(column) for column in self.columns}
        found = {column: sum(_key(table, name) is not None for name in wanted) for column, table in tables.items()}
        best = max(found, key=found.__getitem__, default=None)
        if best is None or (wanted and not found[best]):
            some = ", ".join(identifier for identifier, _ in wanted[:3])
            raise SpeechmillError(
                f"{self.path}: no column has the ids that were scored ({some}, ...); it has {', '.join(self.columns)}."
            )
        table = tables[best]
        keys = (_key(table, name) for name in wanted)
        rows: list[Row] = [{} if key is None else table[key] for key in keys]
        return [{column: row[column] for column in by if row.get(column)} for row in rows]

    def _rows_by(self, column: str) -> dict[str, Row]:
        table: dict[str, Row] = {}
        for row in self.rows:
            value = row.get(column, "")
            table.setdefault(value, row)
            path = Path(value)
            if path.suffix.lower() in _AUDIO:
                table.setdefault(path.stem, row)
        table.pop("", None)
        return table


def read_groups(path: Path) -> GroupFile:
    """Read a table.

    Raises:
        SpeechmillError: the file cannot be read.
    """
    if path.suffix == ".parquet":
        rows = _parquet(path)
    else:
        text = read_text(path)
        rows = _json_lines(text, path) if text.lstrip().startswith("{") else _separated(text)
    columns = tuple(dict.fromkeys(column for row in rows for column in row))
    return GroupFile(path, columns, tuple(rows))


def _separated(text: str) -> list[Row]:
    head = text.split("\n", 1)[0]
    separator = max(",\t;|", key=head.count)
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, restval="")
    return [{name: value.strip() for name, value in row.items() if name is not None} for row in rows]


def _json_lines(text: str, path: Path) -> list[Row]:
    rows: list[Row] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise SpeechmillError(f"{path}, line {number}: not valid JSON ({error.msg}).") from error
            rows.append({name: as_group(value) for name, value in record.items() if not isinstance(value, list | dict)})
    return rows


def _parquet(path: Path) -> list[Row]:
    import polars as pl

    try:
        table = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise SpeechmillError(f"{path}: not a Parquet file that can be read ({str(error).splitlines()[0]}).") from error
    return [{name: as_group(value) for name, value in row.items()} for row in table.iter_rows(named=True)]


def as_group(value: object) -> str:
    """A value as the name of a group: booleans as `true` and `false`, no value as the empty text."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _key(table: Mapping[str, Row], name: tuple[str, str]) -> str | None:
    """Return the id, or the recording, by which an item is in a table."""
    return next((key for key in name if key in table), None)
