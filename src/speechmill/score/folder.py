"""What `evaluate` leaves of a scored set: NAME.json, beside it NAME.utterances.jsonl and the page NAME.html."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from speechmill.artefact import locked, write_json, written
from speechmill.errors import SpeechmillError
from speechmill.score.groups import group_name, score_utterance, worst
from speechmill.score.page import write_page
from speechmill.score.result import Sound, UtteranceScore
from speechmill.score.summary import BLOCKS, summarize

BY = ("native", "session")
"""The columns by which a set is always divided."""

CLIP_CHARACTERS = 4_000_000
"""Of sound held in a page, as text: some three minutes of speech at 16 kHz."""

Columns = Mapping[str, Sequence[object]]
"""Column of the manifest -> its value for each utterance."""


def score_set(
    ids: Sequence[str],
    references: Sequence[str],
    hypotheses: Sequence[str],
    columns: Columns,
    by: Sequence[str],
    block: str | None = None,
) -> tuple[list[UtteranceScore], list[str], dict[str, Any]]:
    """Score the utterances of a manifest or of shards; return them, the block of each and what `NAME.json` holds.

    Intervals are drawn over calls, where they are known, else over speakers, recordings, utterances.

    Args:
        columns: those of the manifest; `call`, `recording`, `start` and `end` are looked for.
        by: columns to group by, beside those of `BY`.
        block: a column whose values intervals are drawn over, instead.

    Raises:
        SpeechmillError: there is no such column.
    """
    check_columns(columns, by, block)
    none: Sequence[object] = [None] * len(ids)
    groups = {name: columns.get(name, none) for name in dict.fromkeys((*BY, *by))}
    known = (name for name in (*BLOCKS, "recording") if any(map(group_name, columns.get(name, none))))
    blocked_by = block or next(known, None)
    blocks = [group_name(value) or ids[place] for place, value in enumerate(columns.get(blocked_by or "", none))]
    shown = {**groups, "call": columns.get("call", none)}
    items = []
    for place, texts in enumerate(zip(ids, references, hypotheses, strict=True)):
        values = {name: group_name(found[place]) for name, found in shown.items()}
        recording = columns.get("recording", none)[place]
        sound = None
        if isinstance(recording, str) and recording:
            sound = Sound(recording, _seconds(columns, "start", place), _seconds(columns, "end", place))
        items.append(
            replace(
                score_utterance(*texts),
                recording=values["call"] or (Path(sound.path).stem if sound else ""),
                attributes={name: value for name, value in values.items() if value is not None},
                sound=sound,
            )
        )
    return items, blocks, summarize(items, groups, blocks, blocked_by or "utterance")


def check_columns(columns: Columns, by: Sequence[str], block: str | None) -> None:
    """Raise SpeechmillError where a set has no column of that name to group by, or to draw intervals over."""
    for option, name in [*(("--by", name) for name in by), *([("--block", block)] if block else [])]:
        if name not in columns:
            raise SpeechmillError(f"{option} {name}: there is no such column; there are {', '.join(sorted(columns))}.")


def write_scores(
    path: Path, title: str, items: Sequence[UtteranceScore], blocks: Sequence[str], result: Mapping[str, Any],
    sounds: Mapping[str, str], more: Sequence[Mapping[str, Any]],
) -> None:  # fmt: skip
    """Write NAME.utterances.jsonl, NAME.html and last `path`, NAME.json, which stands for all three.

    Args:
        blocks: of each utterance, what intervals are drawn over.
        sounds: id -> data URL, see `clips`.
        more: what the line of each utterance says beside its scores.
    """
    with locked(path):
        with written(path.with_suffix(".utterances.jsonl")) as partial:
            lines = (
                json.dumps({**_line(item, block, result["normalization"]), **added}, ensure_ascii=False)
                for item, block, added in zip(items, blocks, more, strict=True)
            )
            partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
        write_page(path.with_suffix(".html"), title, result, items, sounds)
        write_json(path, result)


def _line(item: UtteranceScore, block: str, normalization: str) -> dict[str, Any]:
    """The utterance's scores, what they rest on, and where it is from, as far as that is known."""
    known = {"call": item.attributes.get("call"), "recording": item.recording}
    where = {name: value for name, value in known.items() if value}
    return {**item.as_dict(), "normalization": normalization, **where, "block": block}


def clips(
    items: Sequence[UtteranceScore], audio: Callable[[int], Any], encode: Callable[[Any], bytes]
) -> dict[str, str]:
    """Return id -> data URL of the sound of the worst utterances, the worst first, up to `CLIP_CHARACTERS` in all.

    Args:
        audio: gives the samples of the utterance at a place in `items`.
        encode: turns samples into the bytes of a FLAC file.
    """
    found: dict[str, str] = {}
    room = CLIP_CHARACTERS
    places = {id(item): place for place, item in enumerate(items)}
    for item in worst(items):
        flac = encode(audio(places[id(item)]))
        address = "data:audio/flac;base64," + b64encode(flac).decode("ascii")
        if len(address) <= room:
            found[item.id] = address
            room -= len(address)
    return found


def _seconds(columns: Columns, name: str, place: int) -> float | None:
    value = columns[name][place] if name in columns else None
    return float(value) if isinstance(value, int | float) else None
