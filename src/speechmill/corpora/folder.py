"""A folder of recordings, each with its transcript beside it: the layout that most have who have no other.

    calls/2024/a.mp3
    calls/2024/a.txt        Good morning, and welcome to the call. ...        all of it, in any number of lines
    calls/b.wav
    calls/b.txt

Audio and text of one name (without the ending) belong together; folders below are gone through. A recording is one row,
as a row of a table without times is: an utterance where it is short enough, else to be aligned. Speakers are unknown;
the call is the path without the ending.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from speechmill.artefact import read_text
from speechmill.corpora.base import Opened, files_under
from speechmill.corpora.rows import items_table, opened_rows
from speechmill.errors import SpeechmillError

_AUDIO = (".wav", ".mp3", ".flac", ".ogg", ".opus")  # of several with one name the first is taken
_TEXT = ".txt"
_ROW: dict[str, pl.DataType] = {
    "id": pl.String(), "call": pl.String(), "recording": pl.String(), "text": pl.String(), "transcript": pl.String(),
    "reason": pl.String(), "detail": pl.String(),
}  # fmt: skip


def open_folder(source: Path) -> Opened:
    """Raises SpeechmillError where `source` is no folder, or no file in it is a transcript."""
    if not source.is_dir():
        raise SpeechmillError(f"{source}: is a file; a folder of recordings with a .txt beside each was expected.")
    named: dict[str, dict[str, Path]] = {}
    for path in files_under(source):
        ending = path.suffix.lower()
        if ending in (*_AUDIO, _TEXT) and not path.name.startswith("."):
            named.setdefault(str(path.relative_to(source).with_suffix("")), {})[ending] = path
    texts = [files[_TEXT] for files in named.values() if _TEXT in files]
    if not texts:
        raise SpeechmillError(f"{source}: no .txt in it; NAME.txt is the transcript of NAME.wav, .mp3, .flac, ...")
    rows = [_row(call, files) for call, files in sorted(named.items())]
    return opened_rows(texts, source, items_table(pl.DataFrame(rows, schema=_ROW)), _unused(named))


def _row(call: str, files: dict[str, Path]) -> dict[str, str | None]:
    audio = next((files[ending] for ending in _AUDIO if ending in files), None)
    transcript = files.get(_TEXT)
    row = {"id": call, "call": call, "recording": str(audio) if audio else None, "reason": "", "detail": ""}
    if audio is None:
        return row | {
            "reason": "missing-recording",
            "detail": f"{transcript}: no {', '.join(_AUDIO)} of this name beside it",
        }
    if transcript is None:
        return row | {"reason": "missing-transcript", "detail": f"{audio}: no {audio.stem}{_TEXT} beside it"}
    try:
        return row | {"text": " ".join(read_text(transcript).split()), "transcript": str(transcript)}
    except SpeechmillError as error:
        return row | {"reason": "unreadable-transcript", "detail": str(error)}


def _unused(named: dict[str, dict[str, Path]]) -> list[str]:
    """A note about recordings that are there in several formats."""
    several = [[files[ending] for ending in _AUDIO if ending in files] for files in named.values()]
    left = [path.name for paths in several for path in paths[1:]]
    return [f"{len(left)} files are left out, another of the same name is taken: {', '.join(left[:5])}"] if left else []
