"""TRN, of NIST's sclite: the text, then the utterance's id in parentheses.

good morning {uh / @} and welcome (call-1_0001)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from speechmill.errors import SpeechmillError
from speechmill.score.formats.item import Item, Transcript, plain_item
from speechmill.score.formats.lines import checked

LINE = re.compile(r"\s*(.*?)\s*\(([^()\s]+)\)\s*")
_COMMENT = ";;"


def parse_trn(lines: Sequence[str], path: Path) -> Transcript:
    """A line is an item: its words, then its id in parentheses.

    Raises:
        SpeechmillError: a line without an id, or an id that comes twice; with file and line.
    """
    items: list[Item] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith(_COMMENT):
            continue
        found = LINE.fullmatch(line)
        if found is None:
            raise SpeechmillError(
                f"{path}, line {number}: TRN ends each line with the id in parentheses, found {line[-40:]!r}."
            )
        items.append(plain_item(found[2], found[1]))
    return Transcript(checked(items, path))
