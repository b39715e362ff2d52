"""What two manifests share: the same sound, the same text. A test set that was trained on is no test set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from speechmill.corpora import named_corpus, open_corpus
from speechmill.corpora.base import Limits
from speechmill.errors import SpeechmillError
from speechmill.manifest import check_recordings, read_manifest
from speechmill.overlap.calls import LEAST_SHARE, calls_that_say_the_same, calls_that_sound_the_same, pairs_in
from speechmill.overlap.sound import same_sound
from speechmill.overlap.texts import LEAST_WORDS, same_text

KINDS = ("audio", "text")
_SHOWN = 20  # pairs of calls in the table
_COLUMNS = ["id", "recording", "start", "end", "text", "call"]


@dataclass(frozen=True)
class Overlap:
    """What `overlap` found."""

    sides: dict[str, dict[str, Any]]  # "a", "b": manifest, utterances, calls, hours
    pairs: dict[str, pl.DataFrame]  # "audio", "text": pairs of utterances: a, b, similarity, ...
    calls: dict[str, pl.DataFrame]  # by pairs of calls: CALLS or SAME_SOUND (calls.py)
    passing: pl.DataFrame  # CALLS that have less text than LEAST_SHARE in common: not among `calls` and `pairs`
    not_compared: list[str]  # recordings that cannot be read, a line each

    @property
    def found(self) -> bool:
        return any(not table.is_empty() for table in self.calls.values())

    def as_dict(self) -> dict[str, Any]:
        """As `--json` writes it."""
        return self.sides | {
            kind: self._counts(kind) | {"calls": self.calls[kind].to_dicts(), "pairs": self.pairs[kind].to_dicts()}
            for kind in self.pairs
        } | {"not_compared": self.not_compared}  # fmt: skip

    def _counts(self, kind: str) -> dict[str, int]:
        pairs = self.pairs[kind]
        counts = {f"utterances_{side}": pairs[side].n_unique() for side in ("a", "b")}
        return counts | ({"calls_in_passing": self.passing.height} if kind == "text" else {})

    def text(self) -> str:
        """A table for the terminal."""
        lines = []
        for side, about in self.sides.items():
            lines.append(
                f"{side.upper()}: {about['manifest']}: {about['utterances']} utterances, {about['calls']} calls, "
                f"{about['hours']:.2f} h"
            )
        for kind in self.pairs:
            counts = self._counts(kind)
            shares = ", ".join(
                f"{counts[f'utterances_{side}']} of {side.upper()} "
                f"({counts[f'utterances_{side}'] / max(1, self.sides[side]['utterances']):.1%})"
                for side in ("a", "b")
            )
            name = "same audio" if kind == "audio" else f"the same text ({LEAST_WORDS} words or more)"
            lines += ["", f"{name}: utterances {shares}, in {self.calls[kind].height} pairs of calls"]
            lines += _call_lines(self.calls[kind])
            lines += _passing_lines(self.passing) if kind == "text" else []
        if self.not_compared:
            lines += ["", f"audio not compared: {len(self.not_compared)} recordings, {self.not_compared[0]}"]
        return "\n".join([*lines, "", "they share something" if self.found else "nothing in common was found"])


def _passing_lines(passing: pl.DataFrame) -> list[str]:
    if passing.is_empty():
        return []
    most = passing.select(pl.max_horizontal("share_a", "share_b").max()).item()
    return [
        f"not counted: {passing.height} pairs of calls with less than {LEAST_SHARE:.0%} of their words in common "
        f"(at most {most:.1%}), as calls have that are not the same"
    ]


def _call_lines(calls: pl.DataFrame) -> list[str]:
    if calls.is_empty():
        return []
    sound = "seconds" in calls.columns
    share = "of its seconds" if sound else "of its words"
    rows = [("call of A", "utterances", share, "call of B", "utterances", share, *(["same sound"] * sound))]
    for row in calls.head(_SHOWN).iter_rows(named=True):
        rows.append(
            (row["a"], str(row["utterances_a"]), f"{row['share_a']:.1%}",
             row["b"], str(row["utterances_b"]), f"{row['share_b']:.1%}",
             *([f"{row['seconds']:.1f} s"] if sound else []))
        )  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if place in (0, 3) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return lines + ([f"... and {calls.height - _SHOWN} pairs of calls more"] if calls.height > _SHOWN else [])


def overlap(a: str, b: str, by: tuple[str, ...] = KINDS) -> Overlap:
    """Compare two manifests (or corpora, as KIND:DIR) by their audio, their text, or both.

    Raises SpeechmillError where one is no manifest or, for audio, points at recordings that are gone.
    """
    tables = {"a": _read(a, "audio" in by), "b": _read(b, "audio" in by)}
    pairs: dict[str, pl.DataFrame] = {}
    calls: dict[str, pl.DataFrame] = {}
    passing, not_compared = pl.DataFrame(), []
    if "audio" in by:
        heard = same_sound(tables["a"], tables["b"])
        pairs["audio"], not_compared = heard.pairs, heard.not_compared
        calls["audio"] = calls_that_sound_the_same(tables, heard.pairs, heard.recordings)
    if "text" in by:
        said = same_text(tables["a"], tables["b"])
        calls["text"], passing = calls_that_say_the_same(tables, said.pairs, {"a": said.of_a, "b": said.of_b})
        pairs["text"] = pairs_in(said.pairs, calls["text"], tables)
    sides = {side: _about(name, tables[side]) for side, name in (("a", a), ("b", b))}
    return Overlap(sides, pairs, calls, passing, not_compared)


def _read(name: str, audio: bool) -> pl.DataFrame:
    if corpus := named_corpus(name):
        kind, place = corpus
        return open_corpus(kind, place.resolve()).read(None, None, Limits()).table.select(_COLUMNS)
    path = Path(name)
    table = read_manifest(path, _COLUMNS)
    if table.is_empty():
        raise SpeechmillError(f"{path}: the manifest has no rows.")
    if audio:
        check_recordings(table, path)
    return table


def _about(name: str, table: pl.DataFrame) -> dict[str, Any]:
    hours = float((table["end"] - table["start"]).sum()) / 3600
    return {
        "manifest": name, "utterances": table.height, "calls": table["call"].n_unique(), "hours": round(hours, 4),
    }  # fmt: skip
