"""Which utterances a comparison shows, and what each run made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechmill.compare.runs import Run, number
from speechmill.errors import SpeechmillError
from speechmill.metrics import json_lines

SHOWN = 3
LONG_ENOUGH = 5  # words; below, one error makes an utterance the worst of all and says little

Step = tuple[str, str, str]
"""(op, reference word, hypothesis word); op is one of "=SID"; the word that an op lacks is empty."""


@dataclass(frozen=True)
class Transcript:
    """What one run wrote for an utterance. `alignment` is empty where the run kept none."""

    id: str
    reference: str
    hypothesis: str
    errors: float
    words: float
    alignment: list[Step]


@dataclass(frozen=True)
class Example:
    """An utterance and its transcripts, by the position of the run."""

    kind: str
    reference: str
    id: str
    transcripts: dict[int, Transcript]


def examples(runs: Sequence[Run], scored: str) -> list[Example]:
    """Up to three typical utterances (at the quartiles of the error rate) and the three worst of a scored set.

    They are chosen by the error rate over all runs that scored them, so that the runs are seen on the same ones. Runs
    that kept only the worst utterances in their scores are used where no run kept all.
    """
    files = {i: run.utterances_file(scored) for i, run in enumerate(runs) if run.utterances_file(scored).exists()}
    if files:
        counts = {i: _counts(file) for i, file in files.items()}
        chosen = choose(list(counts.values()))
        wanted = {utterance for _, utterance in chosen}
        kept = {i: _fetch(file, wanted) for i, file in files.items()}
    else:
        kept = {i: worst for i, run in enumerate(runs) if (worst := _worst(run, scored))}
        chosen = [("worst", utterance) for utterance in list(next(iter(kept.values()), {}))[:SHOWN]]
    result = []
    for kind, utterance in chosen:
        transcripts = {i: by_id[utterance] for i, by_id in kept.items() if utterance in by_id}
        reference = next(iter(transcripts.values())).reference
        result.append(Example(kind, reference, utterance, transcripts))
    return result


def choose(counts: Sequence[dict[str, tuple[float, float]]]) -> list[tuple[str, str]]:
    """(kind, id) of the utterances to show, from each run's id -> (errors, words). Utterances that all runs share are
    preferred, then those of at least five words; ties go by id."""
    shared = set(counts[0]).intersection(*counts[1:]) or set().union(*counts)
    errors = {u: sum(c[u][0] for c in counts if u in c) for u in shared}
    words = {u: sum(c[u][1] for c in counts if u in c) for u in shared}
    longest = {u: max(c[u][1] for c in counts if u in c) for u in shared}
    pool = [u for u in shared if longest[u] >= LONG_ENOUGH] or list(shared)
    order = sorted(pool, key=lambda u: (errors[u] / max(words[u], 1), u))
    worst, rest = order[::-1][:SHOWN], order[:-SHOWN]
    typical = [rest[round(q * (len(rest) - 1))] for q in (0.25, 0.5, 0.75)] if rest else []
    return [("typical", u) for u in dict.fromkeys(typical)] + [("worst", u) for u in worst]


def _counts(path: Path) -> dict[str, tuple[float, float]]:
    return {
        str(record.get("id")): (number(record.get("errors")) or 0.0, number(record.get("words")) or 0.0)
        for _, record in json_lines(path)
    }


def _fetch(path: Path, wanted: set[str]) -> dict[str, Transcript]:
    return {
        str(record.get("id")): _transcript(record, place)
        for place, record in json_lines(path)
        if str(record.get("id")) in wanted
    }


def _worst(run: Run, scored: str) -> dict[str, Transcript]:
    worst = run.scores.get(scored, {}).get("worst")
    place = f"{run.path / 'scores' / scored}.json, `worst`"
    records = [record for record in worst if isinstance(record, dict)] if isinstance(worst, list) else []
    return {str(record.get("id")): _transcript(record, place) for record in records}


def _transcript(record: dict[str, Any], place: str) -> Transcript:
    steps = record.get("alignment") or []
    if not all(isinstance(step, list) and len(step) == 3 and step[0] in ("=", "S", "I", "D") for step in steps):
        raise SpeechmillError(f"{place}: expected an alignment of [op, reference, hypothesis] with op one of = S I D.")
    return Transcript(
        id=str(record.get("id")),
        reference=str(record.get("reference") or ""),
        hypothesis=str(record.get("hypothesis") or ""),
        errors=number(record.get("errors")) or 0.0,
        words=number(record.get("words")) or 0.0,
        alignment=[(step[0], str(step[1] or ""), str(step[2] or "")) for step in steps],
    )
