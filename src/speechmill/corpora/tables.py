"""Transcripts that are tables: delimited text and JSON lines -> columns, with a reason where a line cannot be read."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import polars as pl

from speechmill.artefact import read_text
from speechmill.errors import SpeechmillError

T = TypeVar("T")

_CHUNK = 50_000  # lines that are Python objects at a time; past that they are columns
_LARGEST_CELL = 1 << 26  # characters: the transcript of a whole recording may be one cell
_LONGEST_HEAD = 1 << 16  # characters of a header that are looked at for its separator
# What every table has besides its own columns: the line, and why it cannot be used ("" for good ones).
MARKS: dict[str, pl.DataType] = {"row": pl.Int64(), "reason": pl.String(), "detail": pl.String()}
NO_AUDIO = "no-audio"  # the reason of rows that name no file
BAD_TIME, UNTIMED_WORDS = "bad-time", "untimed-words"  # and of those whose times cannot be or are not known


class Object(NamedTuple):
    """A row that comes with names for its values."""

    row: int
    values: dict[str, Any]
    reason: str = ""
    detail: str = ""


def read_delimited(path: Path, separator: str, need: Sequence[str], *, quoted: bool) -> pl.DataFrame:
    """Read a table with a header: its columns as strings (an empty cell is null), and MARKS.

    A line with another number of cells than the header has the reason "bad-row".
    Raises SpeechmillError where the file is missing, empty, not UTF-8, or lacks a column that is needed.
    """
    _check_file(path)
    before = csv.field_size_limit(_LARGEST_CELL)  # of the whole process: others keep theirs
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, delimiter=separator, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
            header = next((row for row in reader if any(cell.strip() for cell in row)), None)
            names = _header(path, reader.line_num, header, need)
            chunks = [_strings(names, chunk) for chunk in _chunked(_numbered(reader))]
    except UnicodeDecodeError:
        read_text(path)  # says in which line
        raise
    except csv.Error as error:
        raise SpeechmillError(f"{path}, line {reader.line_num}: {error}; a table of text was expected.") from error
    finally:
        csv.field_size_limit(before)
    schema = {name: pl.String() for name in names} | MARKS
    return pl.concat(chunks) if chunks else pl.DataFrame(schema=schema)


def find_separator(path: Path, among: str, need: Sequence[str]) -> str:
    """The first of the characters `among` that divides the file's first line into columns with all names of `need`.

    Where none does, the first of all: `read_delimited` then says what is missing.
    """
    _check_file(path)
    with path.open(encoding="utf-8-sig", errors="replace") as stream:
        head = next((line for line in stream if line.strip()), "")[:_LONGEST_HEAD]
    names = {mark: {cell.strip() for cell in next(csv.reader([head], delimiter=mark), [])} for mark in among}
    return next((mark for mark in among if names[mark].issuperset(need)), among[0])


def _numbered(reader: Any) -> Iterator[tuple[int, list[str]]]:
    for row in reader:
        if row:
            yield reader.line_num, row


def _header(path: Path, line: int, header: list[str] | None, need: Sequence[str]) -> list[str]:
    if header is None:
        raise SpeechmillError(f"{path}: the file is empty; a header with {', '.join(need)} was expected.")
    names = [name.strip() for name in header]
    for name in need:
        if name not in names:
            raise SpeechmillError(f"{path}, line {line}: no column {name!r}; found {', '.join(names)}.")
    if twice := [name for name in names if names.count(name) > 1 or name in MARKS]:
        raise SpeechmillError(f"{path}, line {line}: the column name {twice[0]!r} occurs twice or is taken; rename it.")
    return names


def _strings(names: list[str], rows: list[tuple[int, list[str]]]) -> pl.DataFrame:
    width = len(names)
    cells = [(row + [""] * (width - len(row)))[:width] for _, row in rows]
    table = pl.DataFrame(cells, schema=dict.fromkeys(names, pl.String), orient="row")
    blank = pl.all().str.strip_chars()
    table = table.with_columns(pl.when(blank != "").then(blank))
    faults = ["" if len(row) == width else f"{len(row)} cells, the header has {width}" for _, row in rows]
    return table.with_columns(_marks([line for line, _ in rows], faults))


def _marks(lines: list[int], faults: list[str]) -> list[pl.Series]:
    return [
        pl.Series("row", lines, pl.Int64),
        pl.Series("reason", ["bad-row" if fault else "" for fault in faults], pl.String),
        pl.Series("detail", faults, pl.String),
    ]


def read_json_lines(path: Path, need: Sequence[str], audio: str) -> pl.DataFrame:
    """Read a file of JSON objects, one a line: a column for each key, and MARKS.

    A key whose values are all booleans, whole numbers or numbers has that type; any other is text, as JSON where a
    value is not a string. A line that is no object has the reason "bad-row". The key `audio` holds paths: of an object
    its `path` (so Hugging Face's datasets write audio); any other value has the reason "no-audio".
    Raises SpeechmillError where the file is missing, not UTF-8, has no line, or no line has a key that is needed.
    """
    _check_file(path)
    try:
        with path.open(encoding="utf-8-sig") as stream:
            lines = ((number, line) for number, line in enumerate(stream, 1) if line.strip())
            table = objects_table(_with_path(_object(number, line), audio) for number, line in lines)
    except UnicodeDecodeError:
        read_text(path)
        raise
    if table.is_empty():
        raise SpeechmillError(f"{path}: the file is empty; a JSON object a line was expected.")
    for name in need:
        if name not in table.columns:
            found = ", ".join(name for name in table.columns if name not in MARKS) or "no object"
            raise SpeechmillError(f"{path}: no line has the key {name!r}; found {found}.")
    return table


def objects_table(objects: Iterable[Object]) -> pl.DataFrame:
    """Objects -> a column for each key (types as in `read_json_lines`), and MARKS."""
    chunks = [_objects(chunk) for chunk in _chunked(objects)]
    return pl.concat(_of_one_type(chunks), how="diagonal") if chunks else pl.DataFrame(schema=MARKS)


def _objects(objects: list[Object]) -> pl.DataFrame:
    names = list(dict.fromkeys(name for item in objects for name in item.values if name not in MARKS))
    columns = [_column(name, [item.values.get(name) for item in objects]) for name in names]
    marks = pl.DataFrame([(item.row, item.reason, item.detail) for item in objects], schema=MARKS, orient="row")
    return pl.DataFrame([*columns, *marks.get_columns()])


def _object(number: int, line: str) -> Object:
    try:
        value = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        return Object(number, {}, "bad-row", f"not valid JSON ({error})")
    if not isinstance(value, dict):
        return Object(number, {}, "bad-row", f"an object was expected, found {line.strip()[:60]}")
    return Object(number, value)


def _with_path(found: Object, audio: str) -> Object:
    value = found.values.get(audio)
    path = value.get("path") if isinstance(value, dict) else value
    if value is None or isinstance(path, str):
        return found._replace(values=found.values | {audio: path}) if value is not path else found
    kinds: dict[type, str] = {dict: "an object without a path", list: "a list"}
    what = kinds.get(type(value)) or json.dumps(value)
    fault = f"{audio} is {what}; the path of an audio file was expected"
    return Object(found.row, found.values | {audio: None}, NO_AUDIO, fault)


def _column(name: str, values: list[Any]) -> pl.Series:
    kinds = {type(value) for value in values if value is not None}
    large = int in kinds and any(type(value) is int and not -(2**63) <= value < 2**63 for value in values)
    if not kinds:
        return pl.Series(name, values, pl.Null)
    if kinds == {bool}:
        return pl.Series(name, values, pl.Boolean)
    if kinds == {int} and not large:
        return pl.Series(name, values, pl.Int64)
    if kinds <= {int, float} and not large:
        return pl.Series(name, values, pl.Float64, strict=False)
    return pl.Series(name, [_text(value) for value in values], pl.String)


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _of_one_type(chunks: list[pl.DataFrame]) -> list[pl.DataFrame]:
    """Give a key the same type in all chunks: that of the numbers where it has only those, else text."""
    kinds: dict[str, set[pl.DataType]] = {}
    for chunk in chunks:
        for name, kind in chunk.schema.items():
            kinds.setdefault(name, set()).update({kind} - {pl.Null()})
    numbers = {pl.Int64(), pl.Float64()}
    wanted: dict[str, pl.DataType] = {
        name: next(iter(found)) if len(found) == 1 else pl.Float64() if found and found <= numbers else pl.String()
        for name, found in kinds.items()
    }
    return [chunk.cast({name: wanted[name] for name in chunk.columns}) for chunk in chunks]


def column(table: pl.DataFrame, name: str, kind: type[pl.DataType] = pl.String) -> pl.Expr:
    """A column as text or as numbers; null where it is not there or cannot be read as such."""
    if name not in table.columns:
        return pl.lit(None, kind).alias(name)
    return pl.col(name).cast(kind, strict=False)


def marked(table: pl.DataFrame, reason: str, detail: pl.Expr, wrong: pl.Expr) -> pl.DataFrame:
    """Give a reason to the rows that are wrong and have none yet."""
    new = wrong & (pl.col("reason") == "")
    return table.with_columns(
        pl.when(new).then(pl.lit(reason)).otherwise("reason").alias("reason"),
        pl.when(new).then(detail).otherwise("detail").alias("detail"),
    )


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise SpeechmillError(f"{path}: {'is a folder, a file was expected' if path.is_dir() else 'no such file'}.")


def _chunked(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, _CHUNK)):
        yield chunk
