"""A table of attributes (metadata of a corpus, a manifest): CSV, TSV, JSON lines or Parquet, one row per recording or
utterance. Of its columns, the one that has the most of the scored ids is the key."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from speechmill.artefact import read_text
from speechmill.errors import SpeechmillError
from speechmill.metrics import json_lines

_AUDIO = {".wav", ".mp3", ".flac", ".m4a", ".ogg", ".opus", ".sph"}

_NAME = r"([^/]+)\.[A-Za-z0-9]+$"
"""A file's name without its ending."""

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


def read_groups(path: Path, names: Collection[str]) -> GroupFile:
    """Read a table; of a Parquet file, only the rows that have one of the ids or recordings `names`.

    Raises:
        SpeechmillError: the file cannot be read.
    """
    if path.suffix == ".parquet":
        return _parquet(path, names)
    text = read_text(path)
    rows: list[Row]
    if text.lstrip().startswith("{"):
        rows = [
            {name: as_group(value) for name, value in record.items() if not isinstance(value, list | dict)}
            for _, record in json_lines(path)
        ]
    else:
        rows = _separated(text, path)
    return GroupFile(path, tuple(dict.fromkeys(column for row in rows for column in row)), tuple(rows))


def _separated(text: str, path: Path) -> list[Row]:
    head = text.split("\n", 1)[0]
    separator = max(",\t;|", key=head.count)
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, restval="")
    try:
        return [{name: value.strip() for name, value in row.items() if name is not None} for row in rows]
    except csv.Error as error:
        raise SpeechmillError(f"{path}, line {rows.line_num}: not a table ({error}).") from error


def _parquet(path: Path, names: Collection[str]) -> GroupFile:
    import polars as pl  # takes 0.1 s; only those who have such a file pay for it

    try:
        columns = pl.read_parquet_schema(path)
        keys = [pl.col(name) for name, kind in columns.items() if kind == pl.String]
        keys += [pl.col(name).cast(pl.String) for name, kind in columns.items() if kind.is_integer()]
        wanted = list(names)
        known = [key.is_in(wanted) | key.str.extract(_NAME, 1).is_in(wanted) for key in keys]
        table = pl.scan_parquet(path).filter(pl.any_horizontal(known)).collect() if known else pl.DataFrame()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise SpeechmillError(f"{path}: not a Parquet file that can be read ({str(error).splitlines()[0]}).") from error
    rows = tuple({name: as_group(value) for name, value in row.items()} for row in table.iter_rows(named=True))
    return GroupFile(path, tuple(columns), rows)


def as_group(value: object) -> str:
    """A value as the name of a group: booleans as `true` and `false`, no value as the empty text."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _key(table: Mapping[str, Row], name: tuple[str, str]) -> str | None:
    """Return the id, or the recording, by which an item is in a table."""
    return next((key for key in name if key in table), None)
