"""What two manifests share: the same sound, near-same text. A test set that was trained on is no test set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from speechmill.corpora import named_corpus, open_corpus
from speechmill.corpora.base import Limits
from speechmill.errors import SpeechmillError
from speechmill.manifest import check_recordings, read_manifest
from speechmill.overlap.sound import same_sound
from speechmill.overlap.texts import LEAST_WORDS, same_text

KINDS = ("audio", "text")
_SHOWN = 20  # pairs of calls in the table
# How much of an utterance there is, in what its pairs are measured in.
_MEASURES = {
    "seconds": pl.col("end") - pl.col("start"),
    "words": pl.col("text").str.strip_chars().str.count_matches(r"\s+") + 1,
}
_COLUMNS = ["id", "recording", "start", "end", "text", "call"]


@dataclass(frozen=True)
class Overlap:
    """What `overlap` found."""

    sides: dict[str, dict[str, Any]]  # "a", "b": manifest, utterances, calls, hours
    pairs: dict[str, pl.DataFrame]  # "audio", "text": pairs of utterances: a, b, similarity, ...
    calls: dict[str, pl.DataFrame]  # the same by pairs of calls: a, b, utterances_a, utterances_b, share_a, share_b
    not_compared: list[str]  # recordings that cannot be read, a line each

    @property
    def found(self) -> bool:
        return any(not table.is_empty() for table in self.pairs.values())

    def as_dict(self) -> dict[str, Any]:
        """As `--json` writes it."""
        return self.sides | {
            kind: self._counts(kind) | {"calls": self.calls[kind].to_dicts(), "pairs": self.pairs[kind].to_dicts()}
            for kind in self.pairs
        } | {"not_compared": self.not_compared}  # fmt: skip

    def _counts(self, kind: str) -> dict[str, int]:
        pairs = self.pairs[kind]
        return {f"utterances_{side}": pairs[side].n_unique() for side in ("a", "b")}

    def text(self) -> str:
        """A table for the terminal."""
        lines = []
        for side, about in self.sides.items():
            lines.append(
                f"{side.upper()}: {about['manifest']}: {about['utterances']} utterances, {about['calls']} calls, "
                f"{about['hours']:.2f} h"
            )
        for kind in self.pairs:
            unit = "seconds" if kind == "audio" else "words"
            counts = self._counts(kind)
            shares = ", ".join(
                f"{counts[f'utterances_{side}']} of {side.upper()} "
                f"({counts[f'utterances_{side}'] / max(1, self.sides[side]['utterances']):.1%})"
                for side in ("a", "b")
            )
            name = "same audio" if kind == "audio" else f"near-same text (of {LEAST_WORDS} words or more)"
            lines += ["", f"{name}: utterances {shares}, in {self.calls[kind].height} pairs of calls"]
            lines += _call_lines(self.calls[kind], f"of its {unit}")
        if self.not_compared:
            lines += ["", f"audio not compared: {len(self.not_compared)} recordings, {self.not_compared[0]}"]
        return "\n".join([*lines, "", "they share something" if self.found else "nothing in common was found"])


def _call_lines(calls: pl.DataFrame, share: str) -> list[str]:
    if calls.is_empty():
        return []
    rows = [("call of A", "utterances", share, "call of B", "utterances", share)]
    for row in calls.head(_SHOWN).iter_rows(named=True):
        rows.append(
            (row["a"], str(row["utterances_a"]), f"{row['share_a']:.1%}",
             row["b"], str(row["utterances_b"]), f"{row['share_b']:.1%}")
        )  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
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
    not_compared: list[str] = []
    if "audio" in by:
        pairs["audio"], not_compared = same_sound(tables["a"], tables["b"])
    if "text" in by:
        pairs["text"] = same_text(tables["a"], tables["b"])
    sides = {side: _about(name, tables[side]) for side, name in (("a", a), ("b", b))}
    return Overlap(sides, pairs, {kind: _by_call(tables, found) for kind, found in pairs.items()}, not_compared)


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


def _by_call(tables: dict[str, pl.DataFrame], pairs: pl.DataFrame) -> pl.DataFrame:
    """Pairs of calls that share something: utterances of each, and what share of its seconds or words they have."""
    measure = next(name for name in _MEASURES if name in pairs.columns)
    calls = {
        side: table.select(
            pl.col("id").alias(side),
            pl.col("call").alias(f"call_{side}"),
            _MEASURES[measure].alias(f"all_{side}"),
            _MEASURES[measure].sum().over("call").alias(f"total_{side}"),
        )
        for side, table in tables.items()
    }
    joined = pairs.join(calls["a"], on="a").join(calls["b"], on="b")
    parts = []
    for side in ("a", "b"):
        # What an utterance shares with several of the other call's is at most all of it.
        shared = pl.min_horizontal(pl.col(measure).sum(), pl.col(f"all_{side}").first())
        each = joined.group_by("call_a", "call_b", side).agg(shared, pl.col(f"total_{side}").first())
        share = (pl.col(measure).sum() / pl.col(f"total_{side}").first()).round(4)
        parts.append(
            each.group_by("call_a", "call_b").agg(
                pl.len().cast(pl.Int64).alias(f"utterances_{side}"), share.alias(f"share_{side}")
            )
        )
    found = parts[0].join(parts[1], on=["call_a", "call_b"]).rename({"call_a": "a", "call_b": "b"})
    most = pl.max_horizontal("share_a", "share_b")
    return found.sort(most, "a", "b", descending=[True, False, False]).select(
        "a", "b", "utterances_a", "utterances_b", "share_a", "share_b"
    )
