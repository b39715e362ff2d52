"""CTM: a timed word a line: recording, channel, start and duration in seconds, word, and often a confidence.

    4320211 A 3.24 0.15 good 1.00

Each recording is an item, each channel of one with several (`4320211-A`). Words that are out of order are sorted by
their start, and counted.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from pathlib import Path

from speechmill.errors import SpeechmillError
from speechmill.score.formats.item import Transcript, plain_item

LINE = re.compile(r"\s*\S+\s+\S+\s+[-+]?[\d.]+(?:[eE][-+]?\d+)?\s+[-+]?[\d.]+(?:[eE][-+]?\d+)?\s+\S+.*")
NO_WORD = ("<eps>", "@")
"""With one of these alone, a recording has nothing recognised."""
_COMMENT = ";;"


def parse_ctm(lines: Sequence[str], path: Path) -> Transcript:
    """A recording (of several channels each of them) is an item, its words in the order of their starts.

    Raises:
        SpeechmillError: a line lacks fields, or a time is not a number; with file and line.
    """
    words: dict[str, dict[str, list[tuple[float, str]]]] = {}
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields or line.startswith(_COMMENT):
            continue
        if len(fields) < 5:
            raise SpeechmillError(
                f"{path}, line {number}: CTM has recording, channel, start, duration and word, found {line.strip()!r}."
                + (" Leave one of the alternatives." if "<ALT" in line else "")
            )
        start = _seconds(fields[2], path, number)
        _seconds(fields[3], path, number)
        timed = words.setdefault(fields[0], {}).setdefault(fields[1], [])
        if fields[4] not in NO_WORD:
            timed.append((start, fields[4]))
    items, late = [], 0
    for recording, channels in words.items():
        for channel, timed in channels.items():
            late += sum(after[0] < before[0] for before, after in itertools.pairwise(timed))
            timed.sort(key=lambda word: word[0])
            name = recording if len(channels) == 1 else f"{recording}-{channel}"
            items.append(plain_item(name, " ".join(word for _, word in timed)))
    notes = (f"{path}: {late} words were out of order; sorted by their start.",) if late else ()
    return Transcript(tuple(items), notes)


def _seconds(text: str, path: Path, number: int) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise SpeechmillError(
            f"{path}, line {number}: the third and fourth columns of CTM are start and duration in seconds, "
            f"found {text!r}."
        )
    return seconds
