"""LibriSpeech: read books, a folder for each reader and chapter, the text upper-cased without punctuation.

    SPEAKERS.TXT                                  ID | SEX | SUBSET | MINUTES | NAME; a comment begins with ;
    test-clean/1089/134686/1089-134686.trans.txt  1089-134686-0000 HE HOPED THERE WOULD BE STEW FOR DINNER
    test-clean/1089/134686/1089-134686-0000.flac  16 kHz, one utterance

`source` is the folder of all subsets, or one of them. A call is a reader's chapter. LibriSpeech does not say who is
native, so that this stays unknown.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from speechmill.artefact import read_text
from speechmill.corpora.base import Opened, files_under
from speechmill.corpora.rows import items_table, opened_rows
from speechmill.errors import SpeechmillError

_SPEAKERS = "SPEAKERS.TXT"
_SUFFIXES = (".flac", ".wav")  # as published; as some convert it


def open_librispeech(source: Path) -> Opened:
    """Find the chapters under `source`. Raises SpeechmillError where there are none."""
    transcripts = [path for path in files_under(source) if path.name.endswith(".trans.txt")]
    if not transcripts:
        raise SpeechmillError(
            f"{source}: no *.trans.txt in it; LibriSpeech, or one of its subsets such as test-clean, was expected."
        )
    speakers = next((path for path in _speakers_places(source) if path.is_file()), None)
    items = pl.concat([_chapter(path) for path in transcripts])
    warnings = []
    if speakers is not None:
        items = items.join(_read_speakers(speakers), on="speaker", how="left", maintain_order="left")
        if unknown := items.filter(pl.col("sex").is_null())["speaker"].n_unique():
            warnings.append(f"{speakers}: {unknown} speakers are not in it; their sex is unknown")
    files = [*transcripts, *([speakers] if speakers else [])]
    return opened_rows(files, source, items_table(items), warnings)


def _speakers_places(source: Path) -> list[Path]:
    return [folder / _SPEAKERS for folder in (source, *source.resolve().parents[:3])]


def _chapter(path: Path) -> pl.DataFrame:
    reader, chapter = path.parent.parent.name, path.parent.name
    about = {"speaker": reader, "call": f"{reader}-{chapter}", "subset": path.parents[2].name}
    schema = {"row": pl.Int64, "id": pl.String, "recording": pl.String, "text": pl.String, "reason": pl.String,
              "detail": pl.String}  # fmt: skip
    rows: list[tuple[int | None, str, str | None, str, str, str]] = []
    try:
        there = {entry.name for entry in path.parent.iterdir()}
        for number, line in enumerate(read_text(path).split("\n"), 1):
            if not line.strip():
                continue
            name, text = (*line.split(maxsplit=1), "")[:2]  # a space, or the tab of who edited it
            suffix = next((suffix for suffix in _SUFFIXES if name + suffix in there), _SUFFIXES[0])
            rows.append((number, name, str(path.parent / f"{name}{suffix}"), text, "", ""))
    except SpeechmillError as error:
        rows = [(None, path.stem, None, "", "unreadable-transcript", str(error))]
    table = pl.DataFrame(rows, schema=schema, orient="row")
    return table.with_columns(pl.lit(value).alias(name) for name, value in about.items())


def _read_speakers(path: Path) -> pl.DataFrame:
    """speaker -> sex (F or M). A name may hold a "|" of its own: columns are split off from the left."""
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip() or line.lstrip().startswith(";"):
            continue
        cells = [cell.strip() for cell in line.split("|", 4)]
        if len(cells) < 3:
            raise SpeechmillError(
                f"{path}, line {number}: {line[:60]!r}; ID | SEX | SUBSET | MINUTES | NAME was expected."
            )
        rows.append((cells[0], cells[1]))
    return pl.DataFrame(rows, schema={"speaker": pl.String, "sex": pl.String}, orient="row").unique(
        "speaker", keep="first"
    )
