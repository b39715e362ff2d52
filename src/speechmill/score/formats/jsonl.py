"""JSON lines, and NeMo's manifests, which are that with `audio_filepath`: an object a line. A JSON list is read alike.

    {"id": "call-1_0001", "text": "good morning and welcome", "speaker": "ann"}
    {"audio_filepath": "audio/call-1.wav", "offset": 2.5, "duration": 3.1, "text": "good day", "pred_text": "day"}

Of a record, the first of REFERENCE that it has is the text of the reference. The hypothesis has one name in all of a
file: the first of HYPOTHESIS that any record has, else, where the references are in another file, of SHARED. A record
without it is an error, lest a reference be scored against itself. What else a record has can be grouped by.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from speechmill.errors import SpeechmillError
from speechmill.score.formats.item import Item, Transcript
from speechmill.score.formats.lines import checked
from speechmill.score.result import Sound

REFERENCE = ("reference", "ref", "text", "transcript", "sentence", "answer")
HYPOTHESIS = ("hypothesis", "hyp", "pred_text", "prediction")
SHARED = ("text", "transcript", "sentence")
"""Names that a reference has too."""
IDS = ("id", "fileid", "utt_id", "utterance_id", "utterance", "utt", "key", "uid")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
AUDIO = ("audio_filepath", "audio", "wav", "file", "path", "file_name", "wav_filename")
_ANY_HYPOTHESIS = re.compile(r"pred|hyp", re.IGNORECASE)


def parse_records(lines: Sequence[str], path: Path, hypothesis: bool, both: bool = False) -> Transcript:
    """Return an item for each record. Without an id, the audio's name is one (with its offset, where one file has
    several records), without audio the number of the record, from 1.

    Args:
        both: the file has the references too.

    Raises:
        SpeechmillError: a line is no JSON object; a record has no text, or not under the name that the others have.
    """
    records = _records(lines, path)
    names = _hypothesis_names([record for _, record in records], both, path) if hypothesis else REFERENCE
    items = [_item(record, place, number, names, path) for number, (place, record) in enumerate(records, start=1)]
    notes = []
    if any(item.id == str(number) and item.sound is None and not _id(record)
           for number, (item, (_, record)) in enumerate(zip(items, records, strict=True), start=1)):  # fmt: skip
        notes.append(f"{path}: records without an id ({', '.join(IDS[:2])}, ...) or audio are matched by their number.")
    return Transcript(checked(_told_apart(_by_path(items, path.parent)), path), tuple(notes))


def _records(lines: Sequence[str], path: Path) -> list[tuple[str, dict[str, Any]]]:
    text = next((line for line in lines if line.strip()), "")
    if text.strip() == "{":  # one record, written over several lines: Whisper's, say
        found = [(str(path), _load("\n".join(lines), str(path)))]
    elif text.lstrip().startswith("["):
        loaded = _load("\n".join(lines), str(path))
        found = [(f"{path}, record {number}", record) for number, record in enumerate(loaded, start=1)]
    else:
        found = [
            (f"{path}, line {number}", _load(line, f"{path}, line {number}"))
            for number, line in enumerate(lines, start=1)
            if line.strip()
        ]
    for place, record in found:
        if not isinstance(record, dict):
            raise SpeechmillError(f"{place}: expected a JSON object, found {json.dumps(record)[:40]}.")
    return found


def _load(text: str, place: str) -> Any:
    try:
        found = json.loads(text)
        if _SURROGATE.search(text):
            json.dumps(found, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise SpeechmillError(f"{place}: not valid JSON ({error.msg}).") from error
    except UnicodeEncodeError as error:
        raise SpeechmillError(f"{place}: has half a character (a lone surrogate).") from error
    except RecursionError as error:
        raise SpeechmillError(f"{place}: JSON nested too deep.") from error
    except ValueError as error:  # a number of thousands of figures
        raise SpeechmillError(f"{place}: not valid JSON (a number is too long).") from error
    return found


def _hypothesis_names(records: Sequence[Mapping[str, Any]], both: bool, path: Path) -> tuple[str, ...]:
    """The one name that the file's hypotheses have; all that are looked for where no record has any.

    Raises SpeechmillError where only names that are not known look like one, and there are several of them.
    """
    keys = {key: None for record in records for key, value in record.items() if isinstance(value, str)}
    found = next((name for name in HYPOTHESIS if any(name in record for record in records)), None)
    alike = [key for key in keys if _ANY_HYPOTHESIS.match(key)]
    if found is None and len(alike) > 1:
        raise SpeechmillError(
            f"{path}: {', '.join(alike)} may each be the hypothesis; name the one that is meant {HYPOTHESIS[0]!r}."
        )
    if found is None and alike:
        found = alike[0]
    if found is None and not both:
        found = next((name for name in SHARED if any(name in record for record in records)), None)
    return (found,) if found else HYPOTHESIS if both else (*HYPOTHESIS, *SHARED)


def _item(record: Mapping[str, Any], place: str, number: int, names: Sequence[str], path: Path) -> Item:
    name = next((name for name in names if name in record), None)
    if name is None:
        expected = f"one of {', '.join(names)}" if len(names) > 1 else f"{names[0]}, as other records have"
        side = "text" if names is REFERENCE else "text of a hypothesis"
        raise SpeechmillError(f"{place}: has no {side}; expected {expected}.")
    text = record[name] if record[name] is not None else ""
    if not isinstance(text, str):
        raise SpeechmillError(f"{place}: {name} is {json.dumps(text)[:40]}, expected a text.")
    sound = _sound(record, place, path)
    identifier = _id(record)
    if identifier is None:
        identifier = Path(sound.path).stem if sound else str(number)
    recording = next((str(record[key]) for key in ("recording", "call") if record.get(key)), "")
    attributes = {
        key: str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in record.items()
        if key not in (*REFERENCE, *HYPOTHESIS, *SHARED) and isinstance(value, str | int | float) and value != ""
    }
    if not recording and sound:
        recording = Path(sound.path).stem
    return Item(identifier, text.strip(), (text,), recording, attributes, sound)


def _id(record: Mapping[str, Any]) -> str | None:
    return next((str(record[key]) for key in IDS if record.get(key) not in (None, "")), None)


def _sound(record: Mapping[str, Any], place: str, path: Path) -> Sound | None:
    values = (record.get(key) for key in AUDIO)
    paths = (value.get("path") if isinstance(value, dict) else value for value in values)  # Hugging Face has an object
    audio = next((value for value in paths if isinstance(value, str) and value), None)
    if audio is None:
        return None
    start, end = _seconds(record, ("start", "offset"), place), _seconds(record, ("end",), place)
    length = _seconds(record, ("duration",), place)
    if end is None and length is not None:
        end = (start or 0.0) + length
    return Sound(str(path.parent / audio), start, end)


def _seconds(record: Mapping[str, Any], names: Sequence[str], place: str) -> float | None:
    name = next((name for name in names if record.get(name) is not None), None)
    if name is None:
        return None
    value = record[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SpeechmillError(f"{place}: {name} is {json.dumps(value)[:40]}, expected seconds.")
    return float(value)


def _by_path(items: Sequence[Item], folder: Path) -> list[Item]:
    """Where audio of different folders has one name (`a/1.wav`, `b/1.wav`), take its path without the ending for it."""
    paths: dict[str, set[str]] = {}
    for item in items:
        if item.sound is not None:
            paths.setdefault(Path(item.sound.path).stem, set()).add(item.sound.path)
    done = []
    for item in items:
        if item.sound is not None and len(paths[stem := Path(item.sound.path).stem]) > 1:
            sound = Path(item.sound.path).with_suffix("")
            name = (sound.relative_to(folder) if sound.is_relative_to(folder) else sound).as_posix()
            item = replace(
                item,
                id=name if item.id == stem else item.id,
                recording=name if item.recording == stem else item.recording,
            )
        done.append(item)
    return done


def _told_apart(items: Sequence[Item]) -> list[Item]:
    """Add the start in seconds to ids that several records of one audio file share."""
    times = Counter(item.id for item in items)
    return [
        replace(item, id=f"{item.id}@{item.sound.start or 0.0:.3f}")
        if times[item.id] > 1
        and item.sound is not None
        and f"/{Path(item.sound.path).with_suffix('').as_posix()}".endswith(f"/{item.id}")
        else item
        for item in items
    ]
