"""The report of a scoring for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from speechmill.score.show import scores_table

_NAMED = 10  # hypotheses without a reference that are told by name
_FREQUENT = 5
_WORST = 3


def report_text(found: Mapping[str, Any]) -> str:
    """Return the tables of what `report` found, rates in percent."""
    formats = found["formats"]
    lines = [
        f"{found['hypothesis']} ({formats['hypothesis']}) against {found['reference']} ({formats['reference']})",
        scores_table(found),
        *findings(found),
        *_entities(found["entities"]),
    ]
    if "comparison" in found:
        other = found["comparison"]
        lines += [_comparison(other), *(f"{other['hypothesis']}: {line}" for line in _told(other))]
    return "\n".join([*lines, *_told(found)])


def _told(found: Mapping[str, Any]) -> list[str]:
    """Return what reading a system's output told."""
    without, lines = found["without_reference"], list(found["notes"])
    if without:
        more = f" and {len(without) - _NAMED} more" if len(without) > _NAMED else ""
        lines.insert(0, f"Without a reference, so not scored: {', '.join(without[:_NAMED])}{more}.")
    return lines


def findings(found: Mapping[str, Any]) -> list[str]:
    """Return what there is to say below the table of a scored set: interval, kinds, frequent errors, gaps."""
    gaps = [
        f"Gap by {attribute}: WER of {gap['of'][0]} less that of {gap['of'][1]} {_points(gap)}."
        for attribute, gap in found["gaps"].items()
        if gap["difference"] is not None
    ]
    return [_interval(found), *_kinds(found["kinds"]), *_frequent(found["confusions"]["frequent"]), *gaps]


def worst_lines(found: Mapping[str, Any]) -> list[str]:
    """Return the worst utterances of a scored set, three lines each."""
    return [
        line
        for utterance in found["worst"][:_WORST]
        for line in (
            f"Worst: {utterance['id']}, {utterance['errors']} errors in {utterance['words']} words",
            f"  said:  {utterance['reference']}",
            f"  heard: {utterance['hypothesis']}",
        )
    ]


def _interval(found: Mapping[str, Any]) -> str:
    about = found["uncertainty"]
    over = counted(about["blocks"], about["blocked_by"])
    if found["wer"] is None:
        return "WER: undefined, the references have no words."
    if not found["interval"]:
        return f"WER: no interval from {over}."
    low, high = found["interval"]
    return (
        f"WER {100 * found['wer']:.2f} %, {100 * about['level']:.0f} % interval {100 * low:.2f} to {100 * high:.2f} "
        f"(bootstrap over {over}, seed {about['seed']})."
    )


def counted(number: int, name: str) -> str:
    """Return a number of things, in the singular where it is one."""
    return f"{number:,} {name}{'s' if number != 1 else ''}"


def _points(difference: Mapping[str, Any]) -> str:
    text = f"{100 * difference['difference']:+.2f} points"
    if difference["interval"]:
        low, high = difference["interval"]
        text += f", interval {100 * low:+.2f} to {100 * high:+.2f}"
    return text


def _kinds(kinds: Mapping[str, Mapping[str, Any]]) -> list[str]:
    parts = [f"{kind} {100 * part['rate']:.2f}" for kind, part in kinds.items() if part["errors"] and part["rate"]]
    return [f"WER-P in parts: {', '.join(parts)}."] if parts else []


def _entities(entities: Mapping[str, Mapping[str, Any]]) -> list[str]:
    if not entities:
        return []
    head = ("entity", "WER %", "number", "wrong", "words", "errors")
    rows: list[Sequence[str]] = [head]
    for label, part in sorted(entities.items(), key=lambda pair: -pair[1]["entities"]):
        rate = "-" if part["wer"] is None else f"{100 * part['wer']:.2f}"
        rows.append((label, rate, *(f"{part[key]:,}" for key in ("entities", "wrong", "words", "errors"))))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def _frequent(frequent: Sequence[Mapping[str, Any]]) -> list[str]:
    if not frequent:
        return []
    some = [
        f"{row['reference'] or '(nothing)'} → {row['hypothesis'] or '(nothing)'} {row['count']:,}" for row in frequent
    ]
    return [f"Most frequent errors: {'; '.join(some[:_FREQUENT])}."]


def _comparison(found: Mapping[str, Any]) -> str:
    if found["difference"] is None:
        return f"Against {found['hypothesis']}: undefined, a rate is."
    text = f"WER {_points(found)} against {found['hypothesis']} ({100 * found['wer']:.2f} %), p {found['p']:.4f} "
    text += f"(exchanges within {counted(found['blocks'], found['blocked_by'])})"
    pairs = found["matched_pairs"]
    if pairs and pairs["p"] is not None:
        text += f"; by NIST's matched pairs of {pairs['segments']:,} segments p {pairs['p']:.4f}"
    return f"{text}."
