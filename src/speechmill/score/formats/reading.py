"""A file of transcripts: which format it has, told by its name or its lines, and its items."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from speechmill.errors import SpeechmillError
from speechmill.nlp import is_header
from speechmill.score.formats import ctm, jsonl, lines, manifest, nlp, trn
from speechmill.score.formats.braces import odd_braces, with_alternatives
from speechmill.score.formats.item import Item, Transcript

TEXT = "text"
"""Plain text of which it is not told yet whether it is LINES, RECORDING or IDS."""
LINES, RECORDING, IDS, TRN = "lines", "recording", "id", "trn"
CTM, JSONL, NLP, PARQUET = "ctm", "jsonl", "nlp", "parquet"
FORMATS = (LINES, RECORDING, IDS, TRN, CTM, JSONL, NLP, PARQUET)
UNNAMED = (RECORDING, NLP)
"""Formats of one recording a file, which has the file's name."""

_ENDINGS = {
    ".nlp": NLP, ".trn": TRN, ".ctm": CTM, ".jsonl": JSONL, ".json": JSONL, ".ndjson": JSONL, ".manifest": JSONL,
    ".parquet": PARQUET,
}  # fmt: skip
_TABLE = "import it (`speechmill import csv`) and give the manifest, or write JSON lines with id and text"
_OTHERS = {
    ".stm": "write a line `text (id)` for each segment (TRN), or all of a recording as one text",
    ".csv": _TABLE, ".tsv": _TABLE, ".srt": "give the text alone", ".vtt": "give the text alone",
    ".gz": "unpack it", ".zip": "unpack it", ".bz2": "unpack it", ".xz": "unpack it",
}  # fmt: skip
_TEXT_ENDINGS = {".txt", ".text", ".ref", ".hyp", ".lab", ".stt", ""}
ENDINGS = (*_ENDINGS, *sorted(_TEXT_ENDINGS - {""}))
"""Files of a folder that are read; others are told."""
WEAK_ENDINGS = (".json", "")
"""Files with these are other things (metadata, a licence) where a folder has transcripts with other endings."""
_QUALIFIERS = (".aligned", ".trans", ".ref", ".hyp", ".reference", ".hypothesis")
_TOLD = 3  # odd utterances by name
_LOOKED_AT = 1000  # lines, to tell a format


@dataclass(frozen=True, slots=True)
class Source:
    """A file that was opened: its format may still be TEXT; a Parquet file has no lines; of one with references and
    hypotheses, `both` is true."""

    path: Path
    name: str
    format: str
    lines: Sequence[str]
    both: bool = False


def is_transcript(path: Path) -> bool:
    """Tell by its name whether a file of a folder can be a transcript."""
    return not path.name.startswith(".") and (path.suffix.lower() in _ENDINGS or path.suffix.lower() in _TEXT_ENDINGS)


def name_of(path: Path) -> str:
    """`4469528.aligned.nlp` -> `4469528`: what files of two folders are matched by."""
    name = path.name.removesuffix(path.suffix) if is_transcript(path) else path.name
    for qualifier in _QUALIFIERS:
        name = name.removesuffix(qualifier)
    return name


def open_source(path: Path, form: str | None = None, name: str | None = None) -> Source:
    """Open a file; `form` overrules what is guessed.

    Raises SpeechmillError where its ending says that it is something that would be read as words.
    """
    form = form or _ENDINGS.get(path.suffix.lower())
    if form is None and (advice := _OTHERS.get(path.suffix.lower())):
        raise SpeechmillError(f"{path}: {path.suffix} is not read; {advice} (or give --ref-format, --hyp-format).")
    found = [] if form == PARQUET else lines.read_lines(path)
    return Source(path, name or name_of(path), form or told_by_lines(found), found)


def told_by_lines(found: Sequence[str]) -> str:
    """Return the format of the lines of a file, TEXT where they are none of those that can be told."""
    some = list(islice((line for line in found if line.strip() and not line.startswith(";;")), _LOOKED_AT))
    if not some:
        return TEXT
    if is_header(some[0]):
        return NLP
    if _is_json(some):
        return JSONL
    if all(trn.LINE.fullmatch(line) for line in some):
        return TRN
    if all(ctm.LINE.fullmatch(line) for line in some):
        return CTM
    return TEXT


def _is_json(some: Sequence[str]) -> bool:
    if some[0].lstrip().startswith("["):
        return any(line.lstrip().startswith(("{", "[{")) for line in some[:2])
    if not some[0].lstrip().startswith("{"):
        return False
    try:
        return isinstance(json.loads(some[0]), dict)
    except RecursionError:
        return True  # told where it is read
    except ValueError:
        return False


def parse(
    source: Source, *, hypothesis: bool, columns: Collection[str] = (), candidates: nlp.Candidates | None = None
) -> Transcript:
    """Return the items of a file whose format is told; of a reference, with the alternatives that its text has."""
    readers: dict[str, Callable[[], Transcript]] = {
        LINES: lambda: lines.utterances(source.lines),
        RECORDING: lambda: lines.recording(source.lines, source.name),
        IDS: lambda: lines.utterances_by_id(source.lines, source.path),
        TRN: lambda: trn.parse_trn(source.lines, source.path),
        CTM: lambda: ctm.parse_ctm(source.lines, source.path),
        JSONL: lambda: jsonl.parse_records(source.lines, source.path, hypothesis, source.both),
        NLP: lambda: nlp.parse_transcript(source.lines, source.path, candidates, hypothesis),
        PARQUET: lambda: manifest.read_parquet(source.path, columns),
    }
    if source.format not in readers:
        raise SpeechmillError(f"{source.path}: {source.format!r} is no format; choose from {', '.join(FORMATS)}.")
    transcript = readers[source.format]()
    if source.format in UNNAMED:
        transcript = replace(transcript, items=tuple(_named(item, source.name) for item in transcript.items))
    if hypothesis or source.format == NLP:
        return transcript
    odd = [(item.id, braces) for item in transcript.items if (braces := odd_braces(item))]
    notes = [f"{name}: braces not closed, or within others, are text: {braces!r}" for name, braces in odd[:_TOLD]]
    notes += [f"likewise {len(odd) - _TOLD} utterances more"] if odd[_TOLD:] else []
    items = tuple(map(with_alternatives, transcript.items))
    return replace(transcript, items=items, notes=(*transcript.notes, *notes))


def _named(item: Item, name: str) -> Item:
    return replace(item, id=name)
