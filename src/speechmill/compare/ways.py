"""Ways of training: runs that differ in seed or data alone, put together; what each costs, and what hours buy it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from speechmill.compare.cells import Cell, Column, Table, plain, range_of
from speechmill.compare.power_law import fit_power_law
from speechmill.compare.runs import Run, common_level, flatten, scored_sets

# What may differ between runs of one way: chance, data, names.
_NOT_OF_THE_WAY = ("name", "data.", "select.", "shard.", "align.", "train.seed", "schedule.seed")
# What makes a strategy, and follows from it: no difference between a way and its baseline of one process.
_OF_STRATEGY = ("train.strategy", "train.processes", "train.average_every", "train.outer_lr", "train.outer_momentum",
                "train.hogwild_moments", "train.hogwild_alone")  # fmt: skip
_SHOWN = 2  # settings that tell ways of one strategy apart, at most


@dataclass(frozen=True)
class Way:
    """Runs with the same settings but for seeds, on the same hours of data."""

    settings: dict[str, Any]
    hours: float | None
    runs: list[Run]

    @property
    def strategy(self) -> str:
        """The strategy's name; one process that takes several batches for an update is accumulation."""
        run = self.runs[0]
        accumulates = run.strategy == "single" and (self.settings.get("schedule.batches_per_update") or 1) > 1
        name = "accumulation" if accumulates else run.strategy
        return f"{name}, {run.processes} processes" if run.processes > 1 else name

    def mean(self, fact: Callable[[Run], float | None]) -> float | None:
        """Over the runs; None where one of them has no such number."""
        found = [fact(run) for run in self.runs]
        known = [value for value in found if value is not None]
        return statistics.fmean(known) if len(known) == len(found) else None

    def spread(self, fact: Callable[[Run], float | None]) -> str | None:
        """The lowest and the highest, of two runs or more."""
        known = [value for run in self.runs if (value := fact(run)) is not None]
        return range_of((min(known), max(known))) if len(known) > 1 else None


def ways(runs: Sequence[Run]) -> list[Way]:
    """In the order in which their first runs come."""
    found: dict[tuple[str, str], Way] = {}
    for run in runs:
        settings = {key: value for key, value in flatten(run.config).items() if not key.startswith(_NOT_OF_THE_WAY)}
        hours = run.train_hours
        about = "" if hours is None else f"{hours:.2g}"  # a selection's seed moves hours by a little
        key = json.dumps(settings, sort_keys=True, default=str), about
        found.setdefault(key, Way(settings, hours, [])).runs.append(run)
    return list(found.values())


def labels(of: Sequence[Way]) -> list[str]:
    """The strategies' names, and what else it takes to tell ways of one strategy apart."""
    return [_label(way, [other for other in of if other.strategy == way.strategy]) for way in of]


def _label(way: Way, alike: Sequence[Way]) -> str:
    others = [other for other in alike if other.settings != way.settings]
    recipe = way.runs[0].recipe
    told = [recipe or "no name"] if any(other.runs[0].recipe != recipe for other in others) else []
    of_recipe = [other for other in others if other.runs[0].recipe == recipe]
    apart = sorted(
        {key for other in of_recipe for key in _apart(way, other)},
        key=lambda key: (not key.startswith("schedule."), key),
    )
    told += [f"{key} {plain(way.settings.get(key))}" for key in apart[:_SHOWN]]
    told += ["…"] if len(apart) > _SHOWN else []
    return f"{way.strategy} ({', '.join(told)})" if told else way.strategy


def _apart(one: Way, other: Way) -> set[str]:
    keys = one.settings.keys() | other.settings.keys()
    return {key for key in keys if one.settings.get(key) != other.settings.get(key)}


def baseline(way: Way, of: Iterable[Way]) -> Way | None:
    """The way with one process and the same hours whose settings differ least; None where there is none."""
    single = [other for other in of if other.runs[0].strategy == "single" and _same_hours(way, other)]
    return min(single, key=lambda other: len(_apart(way, other) - set(_OF_STRATEGY)), default=None)


def _same_hours(one: Way, other: Way) -> bool:
    if one.hours is None or other.hours is None:
        return one.hours == other.hours
    return f"{one.hours:.2g}" == f"{other.hours:.2g}"


def efficiency(way: Way, of: Iterable[Way]) -> float | None:
    """Audio per second over that of the baseline times the number of processes; None for one process."""
    base, processes = baseline(way, of), way.runs[0].processes
    if base is None or processes == 1:
        return None
    rate, alone = way.mean(lambda run: run.audio_per_second), base.mean(lambda run: run.audio_per_second)
    return rate / (processes * alone) if rate is not None and alone else None


def ways_table(runs: Sequence[Run], level: float | None = None) -> Table:
    """One row per way of training and hours; empty for one run.

    `level` is the validation WER whose time is told; None: the lowest that all runs with a validation reached.
    """
    of = ways(runs)
    level = common_level(runs) if level is None else level
    facts: list[tuple[Column, Callable[[Way], Cell]]] = [
        (Column("runs", "count", "that differ in their seeds alone"), lambda way: float(len(way.runs))),
        (Column("train data (h)", "hours"), lambda way: way.mean(lambda run: run.train_hours)),
    ]
    for title, fact in _rates(runs):
        facts.append((Column(title, "rate", "mean over the runs"), lambda way, fact=fact: way.mean(fact)))  # type: ignore[misc]
        facts.append((Column(f"{title} over seeds", "text"), lambda way, fact=fact: way.spread(fact)))  # type: ignore[misc]
    if level is not None:
        note = "mean wall-clock until a validation first found this WER; a gap where one of the runs did not"
        column = Column(f"time to {100 * level:.2f} %", "duration", note)
        facts.append((column, lambda way: way.mean(lambda run: run.seconds_to_wer(level))))
    note = "audio s per s over that of one process (the way that differs least otherwise) times processes"
    facts += [
        (Column("audio s per s", "ratio"), lambda way: way.mean(lambda run: run.audio_per_second)),
        (Column("scaling efficiency", "share", note), lambda way: efficiency(way, of)),
        *(
            (Column(name, "share", about), lambda way, name=name: way.mean(lambda run: (run.shares or {}).get(name)))
            for name, about in _SHARES.items()
        ),
    ]
    rows: list[list[Cell]] = [
        [label, *(fact(way) for _, fact in facts)] for label, way in zip(labels(of), of, strict=True)
    ]
    return Table([Column("strategy", "text"), *(column for column, _ in facts)], rows if len(runs) > 1 else [])


_SHARES = {
    "data": "share of the wall-clock in which training waited for data",
    "compute": "the rest: forward, backward, optimizer, saving",
    "communication": "in which rank 0 waited for other ranks, or Hogwild's processes for the slowest before a copy",
    "validation": "none for Hogwild, which trains on meanwhile",
}


def _rates(runs: Sequence[Run]) -> list[tuple[str, Callable[[Run], float | None]]]:
    """WER on each scored set; where none is scored, the best of the validations."""
    sets = scored_sets(runs)
    if not sets:
        return [("best valid. WER", lambda run: run.best_valid_wer)]
    return [(f"{name} WER", lambda run, name=name: run.rate(name, "wer")) for name in sets]  # type: ignore[misc]


def laws_table(runs: Sequence[Run]) -> Table:
    """One row per way of training and scored set, of three amounts of data or more."""
    columns = [
        Column("strategy", "text"), Column("scored set", "text"), Column("runs", "count"),
        Column("from (h)", "hours", "the least training data of a run"), Column("to (h)", "hours", "the most"),
        Column("a", "rate", "the WER that more of such data would not mend"), Column("a interval", "text"),
        Column("b", "rate", "what comes to it with one hour"), Column("b interval", "text"),
        Column("c", "exponent", "how steeply it falls"),
        Column("c interval", "text", "95 %, runs of each amount drawn anew; no width with one run of each"),
        Column("with twice the data", "rate", "the WER expected there; beyond what was measured, so a guess"),
    ]  # fmt: skip
    of = ways(runs)
    rows = []
    for label, same in _of_one_kind(of):
        for (scored, _), measured in _measured([run for way in same for run in way.runs]).items():
            hours, rates = [x for x, _ in measured], [y for _, y in measured]
            law = fit_power_law(hours, rates)
            if law is not None:
                c = f"{law.c_interval[0]:.2f}–{law.c_interval[1]:.2f}"
                row: list[Cell] = [label, scored, float(len(hours)), min(hours), max(hours)]
                row += [law.a, range_of(law.a_interval), law.b, range_of(law.b_interval), law.c, c]
                rows.append([*row, law.at(2 * max(hours))])
    return Table(columns, rows)


def _of_one_kind(of: Sequence[Way]) -> list[tuple[str, list[Way]]]:
    """Ways that differ in their hours alone, with their label."""
    found: dict[str, tuple[str, list[Way]]] = {}
    for label, way in zip(labels(of), of, strict=True):
        found.setdefault(json.dumps(way.settings, sort_keys=True, default=str), (label, []))[1].append(way)
    return list(found.values())


def _measured(runs: Sequence[Run]) -> dict[tuple[str, float | None], list[tuple[float, float]]]:
    """(hours, WER) of the runs, by scored set; sets of one name with other words are other sets."""
    found: dict[tuple[str, float | None], list[tuple[float, float]]] = {}
    for scored in scored_sets(runs):
        for run in runs:
            wer, hours = run.rate(scored, "wer"), run.train_hours
            if wer is not None and hours:
                found.setdefault((scored, run.rate(scored, "words")), []).append((hours, wer))
    return found
