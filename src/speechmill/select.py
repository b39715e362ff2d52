"""Select: which utterances of a manifest, and which split each belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from speechmill.artefact import fingerprint, locked, read_json, sha256_file, tidy, write_json
from speechmill.errors import SpeechmillError
from speechmill.ledger import ledger_path, select_account, select_ledger, write_ledger
from speechmill.manifest import (
    KNOWN_TEXT,
    QUIET,
    SCHEMA,
    SPLITS,
    WRITTEN_TEXT,
    as_written,
    is_untimed,
    read_ids,
    scan_manifest,
    slices,
    written_rows,
)
from speechmill.progress import Progress
from speechmill.quotas import Cell, quotas
from speechmill.settings import SelectSettings
from speechmill.splits import assign_splits, call_groups, rank_key
from speechmill.text import WILDCARD
from speechmill.vocabulary import WordCounts, unseen_words

_VERSION = 8  # of what select does: raise it where the same manifest and settings would give other rows
_SECONDS = pl.col("end") - pl.col("start")
REASONS = (
    "excluded", "not-in-include-only", "not-ceo", "untimed", "too-short", "too-long", "low-confidence", "not-heard",
    "not-written", "drop-text", "not-needed", "native-unknown",
)  # fmt: skip
_SPLIT, _REASON = pl.Enum(SPLITS), pl.Enum(REASONS)
_Q_AND_A = "q-and-a"


@dataclass(frozen=True)
class Selection:
    """What `select` decides."""

    table: pl.DataFrame  # the chosen rows in the order of the manifest, with `split`
    dropped: pl.DataFrame  # id, seconds, reason: every other row
    wishes: list[str]  # what could not be met, and by how much
    summary: dict[str, Any]  # counts and hours, as written to OUT.select.json


@dataclass(frozen=True)
class Selected:
    """The outcome of `select_manifest`."""

    manifest: Path
    done_before: bool  # the output was whole already
    summary: dict[str, Any]

    def text(self) -> str:
        """A few lines for the terminal."""
        lines = [f"{self.manifest}" + (" (already there, nothing to do)" if self.done_before else "")]
        for split, row in self.summary["splits"].items():
            lines.append(f"{split:<5} {row['hours']:10.2f} h  {row['utterances']:9} utterances  {row['calls']:6} calls")
        unseen = self.summary["unseen_test_words"]
        if unseen["tokens"]:
            lines.append(
                f"test words never seen in training: {unseen['token_share']:.2%} of {unseen['tokens']} words, "
                f"{unseen['type_share']:.2%} of {unseen['types']} different ones"
            )
        if self.summary["dropped"]:
            reasons = (f"{name} {row['utterances']}" for name, row in self.summary["dropped"].items())
            lines.append(f"left out: {', '.join(reasons)}; listed in {dropped_path(self.manifest)}")
        return "\n".join(lines + [f"wish not met: {wish}" for wish in self.summary["wishes"]])


def select_manifest(manifest: Path, out: Path, settings: SelectSettings) -> Selected:
    """Select from `manifest` into `out`, with OUT.dropped.parquet (id, seconds, reason) and OUT.select.json.

    An output that is whole, of the same manifest and settings, is left as it is. Raises SpeechmillError for a manifest
    or a wish that makes no sense: a column or file that is not there, a call asked into two splits, no training data.
    """
    table = with_silence(as_written(scan_manifest(manifest)), settings.silence_seconds)
    if manifest.resolve() == out.resolve():
        raise SpeechmillError(f"{out}: select would overwrite the manifest that it reads; choose another output.")
    lists = {name: sorted(_ids(settings, name) or ()) for name in _LISTS}
    name = fingerprint([_VERSION, sha256_file(manifest), settings.model_dump(mode="json"), lists])
    if summary := _finished(out, name):
        tidy(out)
        return Selected(out, True, summary)
    choice = choose(table, settings)
    words = {split: WordCounts() for split in SPLITS}
    with locked(out):
        accounts = []
        with (
            written_rows(dropped_path(out)) as write_dropped,
            written_rows(out) as write_chosen,
            Progress("select", len(choice.split), "utterances") as progress,
        ):
            for chosen, dropped in _divided(table, choice, settings.wildcards):
                write_chosen(chosen)
                write_dropped(dropped.drop("recording"))
                accounts.append(select_account(chosen, dropped))
                _count_words(chosen, words)
                progress.advance(len(chosen) + len(dropped))
        write_ledger(select_ledger(table, accounts), ledger_path(out))
        summary = _summary(choice, words) | {"fingerprint": name, "manifest_sha256": sha256_file(out)}
        write_json(report_path(out), summary)
    return Selected(out, False, summary)


def select(table: pl.DataFrame, settings: SelectSettings) -> Selection:
    """`select_manifest` of a table in memory: a pure function of the table and the settings."""
    frame = with_silence(as_written(table.lazy()), settings.silence_seconds)
    choice = choose(frame, settings)
    parts = list(_divided(frame, choice, settings.wildcards))
    chosen, dropped = (pl.concat([part[k] for part in parts]) for k in (0, 1))
    words = {split: WordCounts() for split in SPLITS}
    _count_words(chosen, words)
    return Selection(chosen, dropped.drop("recording"), choice.wishes, _summary(choice, words))


def with_silence(table: pl.LazyFrame, most: float) -> pl.LazyFrame:
    """Rows of which `align` says how much silence is around them, begun and ended up to `most` seconds further out.

    Half of the sides by nothing, the others each by another share of `most`, so that a model hears speech begin at once
    and after silence: one that was always given half a second had two of three first words of test utterances without
    any wrong, one that never was misses half of them in the middle of a recording (docs/log.md).
    """
    if not set(QUIET) <= set(table.collect_schema().names()):
        return table
    # By the golden ratio of hundredths of a second: evenly spread, and a function of the row.
    wanted = (most * (pl.col(name) * 123.60679775 % 2.0 - 1.0).clip(0.0) for name in ("start", "end"))
    before, after = (
        pl.min_horizontal(pl.col(name).fill_null(0.0).clip(0.0), share)
        for name, share in zip(QUIET, wanted, strict=True)
    )
    return table.with_columns(
        start=pl.col("start") - before, end=pl.col("end") + after,
        **{name: pl.col(name) - taken for name, taken in zip(QUIET, (before, after), strict=True)},
    )  # fmt: skip


def dropped_path(out: Path) -> Path:
    """Where the rows that were not taken are listed, beside the manifest."""
    return out.with_suffix(".dropped.parquet")


def report_path(out: Path) -> Path:
    """Where the summary of a selection is kept, beside the manifest."""
    return out.with_suffix(".select.json")


def _finished(out: Path, name: str) -> dict[str, Any] | None:
    if not all(path.is_file() for path in (report_path(out), dropped_path(out), ledger_path(out), out)):
        return None
    summary: dict[str, Any] = read_json(report_path(out))
    same = summary.get("fingerprint") == name and summary.get("manifest_sha256") == sha256_file(out)
    return summary if same else None


@dataclass(frozen=True)
class Choice:
    """What becomes of each row of a manifest, and what the summary is made of; no text is held."""

    split: npt.NDArray[np.int8]  # of each row: a place in SPLITS, or -1 where it is dropped
    reason: npt.NDArray[np.int8]  # of each row: a place in REASONS, or -1 where it is chosen
    chosen: pl.DataFrame  # split, call, speaker, session, native, seconds of the chosen rows
    dropped: pl.DataFrame  # reason, seconds of the others
    wishes: list[str]


def choose(table: pl.LazyFrame, settings: SelectSettings) -> Choice:
    """Choose rows and splits: a pure function of the table and the settings.

    Rows are filtered; whole calls (or groups tied by `disjoint`) go to test, valid or train in an order that depends
    only on the seed and their names; train is then cut to `hours`. Calls are taken in that order, `include` first, the
    last one in part, so that a small training set lies inside a larger one and valid and test are always the same.
    With shares, each kind (native or not, Q&A or not) is cut by itself, to quotas that only grow with the hours.
    """
    rows = _rows(table, settings)
    wishes = _unknown_calls(rows, settings)
    groups = call_groups(rows, settings.disjoint)
    kept = rows.filter(pl.col("reason").is_null()).drop("reason")
    splits = _splits(rows, kept, groups, settings)
    call_split = pl.DataFrame(
        {"call": list(groups), "split": [splits.get(group, "train") for group in groups.values()]},
        schema={"call": pl.String, "split": _SPLIT},
    )
    kept = kept.join(call_split, on="call", how="left", maintain_order="left")
    is_train = pl.col("split") == "train"
    train = kept.filter(is_train)
    unwritten = kept.filter(~is_train, "unwritten").select("place", pl.lit("not-written", _REASON).alias("reason"))
    # Of the training rows alone, so that the same is scored with wildcards and without.
    unheard = train.filter("unheard").select("place", pl.lit("not-heard", _REASON).alias("reason"))
    train, beyond = _cut(train.filter(~pl.col("unheard")), settings)
    chosen = pl.concat([kept.filter(~is_train, ~pl.col("unwritten")).select("place", "split"), train]).sort("place")
    if train.is_empty() and settings.shares.train > 0:
        advice = "; `speechmill align` finds times for untimed rows" if (rows["reason"] == "untimed").any() else ""
        raise SpeechmillError(f"select: no training data is left of {len(rows)} rows ({_reasons(rows)}){advice}.")
    dropped = pl.concat(
        [rows.filter(pl.col("reason").is_not_null()).select("place", "reason"), unheard, unwritten, beyond]
    )
    result = rows[chosen["place"]].select("call", "speaker", "session", "native", "seconds", chosen["split"])
    wishes += _wishes(result, kept, groups, settings)
    return Choice(
        _column(len(rows), chosen["place"], chosen["split"]),
        _column(len(rows), dropped["place"], dropped["reason"]),
        result,
        rows[dropped["place"]].select("seconds", dropped["reason"]),
        wishes,
    )


def _column(length: int, place: pl.Series, value: pl.Series) -> npt.NDArray[np.int8]:
    """The codes of an Enum at their places, -1 elsewhere."""
    column = np.full(length, -1, dtype=np.int8)
    column[place.to_numpy()] = value.to_physical().to_numpy()
    return column


def _rows(table: pl.LazyFrame, settings: SelectSettings) -> pl.DataFrame:
    """The columns that choosing takes: nine million rows fit with ease, their text would not."""
    columns = table.collect_schema().names()
    asked = {"disjoint": settings.disjoint, "test_where": list(settings.test_where)}
    asked["ceo_only"] = ["ceo"] if settings.ceo_only else []
    asked["min_confidence"] = ["confidence"] if settings.min_confidence is not None else []
    asked["wildcards"] = [KNOWN_TEXT] if settings.wildcards else []
    for setting, names in asked.items():
        for name in names:
            if name not in columns:
                raise SpeechmillError(
                    f"select.{setting}: the manifest has no column {name!r}; it has {', '.join(columns)}; "
                    f"{_way_out(setting, columns, asked[setting])}."
                )
    needed = dict.fromkeys(["call", "speaker", "session", "native", *settings.disjoint, *settings.test_where])
    unheard = (pl.col(KNOWN_TEXT) == WILDCARD).fill_null(False) if settings.wildcards else pl.lit(False)
    selected = table.select(
        *needed, seconds=_SECONDS, reason=_unwanted(settings, columns).cast(_REASON), unheard=unheard,
        unwritten=pl.col("text") == "",
    )  # fmt: skip
    rows = selected.collect(engine="streaming").with_row_index("place")
    if rows.is_empty():
        raise SpeechmillError("select: the manifest has no rows.")
    return rows


def _way_out(setting: str, columns: list[str], asked: list[str]) -> str:
    """What to do where the manifest lacks one of the columns that a setting asks for."""
    if setting in ("min_confidence", "wildcards"):
        return "`speechmill align` makes it"
    rest = ", ".join(name for name in asked if name in columns)
    without = {"disjoint": f"set select.disjoint=[{rest}]", "ceo_only": "set select.ceo_only=false"}
    return f"add it to the table that is imported, or {without.get(setting, 'name another column')}"


def _divided(table: pl.LazyFrame, choice: Choice, wildcards: bool) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """The chosen rows, with their split, and the others (id, recording, seconds, reason), as the manifest has them.

    With `wildcards` the text of aligned training rows is what is known of it, and what is written is beside it.
    """
    names = [*SCHEMA, *(name for name in table.collect_schema().names() if name not in SCHEMA)]
    for part, rows in slices(table, len(choice.split)):
        split = _named("split", choice.split[part], SPLITS)
        reason = _named("reason", choice.reason[part], REASONS)
        chosen = rows.with_columns(split).filter(split.is_not_null()).select(names)
        if wildcards:
            known = pl.when(pl.col("split") == "train").then(KNOWN_TEXT)
            chosen = chosen.with_columns(pl.col("text").alias(WRITTEN_TEXT), text=pl.coalesce(known, "text"))
        yield chosen, rows.select("id", "recording", seconds=_SECONDS).with_columns(reason).filter(reason.is_not_null())


def _named(name: str, codes: npt.NDArray[np.int8], names: tuple[str, ...]) -> pl.Series:
    values = pl.Series(name, [*names, None], dtype=pl.String)
    return values.gather(np.where(codes < 0, len(names), codes))


def _count_words(chosen: pl.DataFrame, words: dict[str, WordCounts]) -> None:
    for split, counts in words.items():
        counts.add(chosen.filter(pl.col("split") == split)["text"])


_LISTS = ("include", "include_only", "exclude", "valid_calls", "test_calls")


def _ids(settings: SelectSettings, name: str) -> list[str] | None:
    """The calls that a setting lists, or those in the file that it names; None where it is empty."""
    value: list[str] | str = getattr(settings, name)
    if isinstance(value, str) and value:
        if not Path(value).is_file():
            raise SpeechmillError(
                f"select.{name}: {value}: no such file; a list of calls or a file of them is expected."
            )
        value = read_ids(Path(value))
    return list(value) or None


def _unknown_calls(table: pl.DataFrame, settings: SelectSettings) -> list[str]:
    known = set(table["call"].unique())
    wishes = []
    for name in _LISTS:
        asked = set(_ids(settings, name) or ())
        if unknown := sorted(asked - known):
            wishes.append(f"{name}: {len(unknown)} of {len(asked)} calls are not in the manifest: {_few(unknown)}")
    for column, values in settings.test_where.items():
        if unknown := sorted(set(values) - set(table[column].cast(pl.String).drop_nulls().unique())):
            wishes.append(f"test_where: no row has {column} {_few(unknown)}")
    return wishes


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _unwanted(settings: SelectSettings, columns: list[str]) -> pl.Expr:
    """Why a row is left out before anything is counted; null for the others. The first reason that applies is given."""
    rules: list[tuple[str, pl.Expr]] = []
    only, exclude = _ids(settings, "include_only"), _ids(settings, "exclude")
    if exclude:
        rules.append(("excluded", pl.col("call").is_in(exclude)))
    if only:
        rules.append(("not-in-include-only", ~pl.col("call").is_in(only)))
    if settings.ceo_only:
        rules.append(("not-ceo", ~pl.col("ceo").fill_null(False)))
    rules.append(("untimed", is_untimed(columns)))
    rules.append(("too-short", settings.min_seconds > _SECONDS))
    rules.append(("too-long", settings.max_seconds < _SECONDS))
    if settings.min_confidence is not None:  # a row that was never aligned has no confidence
        rules.append(("low-confidence", pl.col("confidence").fill_null(0.0) < settings.min_confidence))
    if not settings.wildcards:  # of speech that no sentence has, with what was heard in it (align.hear_rest)
        rules.append(("not-written", pl.col("text") == ""))
    rules += [("drop-text", pl.col("text").str.contains(pattern)) for pattern in settings.drop_text]
    return pl.coalesce(pl.when(wrong).then(pl.lit(reason)) for reason, wrong in rules)


def _splits(
    table: pl.DataFrame, kept: pl.DataFrame, groups: dict[str, str], settings: SelectSettings
) -> dict[str, str]:
    """Group of calls -> split."""
    by_call = dict(kept.group_by("call").agg(pl.col("seconds").sum()).sort("call").iter_rows())
    seconds = dict.fromkeys(groups.values(), 0.0)
    for call, length in by_call.items():
        seconds[groups[call]] += length
    test = set(_ids(settings, "test_calls") or ())
    for column, values in settings.test_where.items():
        test |= set(table.filter(pl.col(column).cast(pl.String).is_in(values))["call"].unique())
    fixed = {"test": test & groups.keys(), "valid": set(_ids(settings, "valid_calls") or ()) & groups.keys()}
    total = sum(seconds.values())
    wanted = {"test": settings.shares.test * total, "valid": settings.shares.valid * total}
    return assign_splits(groups, seconds, wanted, fixed, settings.seed)


def _cut(train: pl.DataFrame, settings: SelectSettings) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Cut the training rows to hours and shares: (place, split) of those taken, (place, reason) of the others."""
    first = set(_ids(settings, "include") or ())
    calls = sorted(train["call"].unique(), key=lambda call: (call not in first, rank_key(settings.seed, call)))
    order = pl.DataFrame({"call": calls, "turn": range(len(calls))}, schema={"call": pl.String, "turn": pl.Int64})
    native = pl.col("native") if settings.native_share is not None else pl.lit(None, pl.Boolean)
    q_and_a = pl.col("session") == _Q_AND_A if settings.qa_share is not None else pl.lit(None, pl.Boolean)
    rows = train.join(order, on="call").select("place", "turn", "seconds", native=native, q_and_a=q_and_a)
    if settings.native_share is not None:
        unknown = rows.filter(pl.col("native").is_null())
        rows = rows.filter(pl.col("native").is_not_null())
    else:
        unknown = rows.clear()
    cells = ["native", "q_and_a"]
    held = rows.group_by(cells).agg(pl.col("seconds").sum())
    available: dict[Cell, float] = {(n, s): seconds for n, s, seconds in held.sort(cells).iter_rows()}
    wanted = None if settings.hours is None else settings.hours * 3600
    quota = quotas(available, settings.native_share, settings.qa_share, wanted)
    limits = pl.DataFrame(
        [(n, s, seconds) for (n, s), seconds in quota.items()],
        schema={"native": pl.Boolean, "q_and_a": pl.Boolean, "quota": pl.Float64},
        orient="row",
    )
    rows = rows.sort("turn", "place").with_columns(sum=pl.col("seconds").cum_sum().over(cells))
    rows = rows.join(limits, on=cells, nulls_equal=True, maintain_order="left")
    # An utterance is in where its middle is: the sum is as near to the quota as whole utterances allow.
    taken = pl.col("sum") - pl.col("seconds") / 2 < pl.col("quota")
    chosen = rows.filter(taken).select("place", pl.lit("train", _SPLIT).alias("split"))
    beyond = rows.filter(~taken).select("place", pl.lit("not-needed", _REASON).alias("reason"))
    unknown = unknown.select("place", pl.lit("native-unknown", _REASON).alias("reason"))
    return chosen, pl.concat([beyond, unknown])


def _wishes(result: pl.DataFrame, kept: pl.DataFrame, groups: dict[str, str], settings: SelectSettings) -> list[str]:
    """Compare what was asked with what there is."""
    wishes = []
    train = result.filter(pl.col("split") == "train")
    have = float(train["seconds"].sum())
    grain = float(train["seconds"].max() or 0.0)  # type: ignore[arg-type]
    if settings.hours is not None and abs(settings.hours * 3600 - have) > grain:
        wanted = settings.hours
        wishes.append(f"hours: {have / 3600:.2f} of {wanted:g} h, {wanted - have / 3600:.2f} h are missing")
    shares = {
        "native_share": (settings.native_share, pl.col("native")),
        "qa_share": (settings.qa_share, pl.col("session") == _Q_AND_A),
    }
    for name, (share, held) in shares.items():
        if share is None or not have:
            continue
        got = float(train.filter(held)["seconds"].sum()) / have
        if abs(got - share) > max(0.005, 2 * grain / have):
            wishes.append(f"{name}: {got:.3f} instead of {share:g}, {got - share:+.3f}")
    asked = set(_ids(settings, "include") or ())
    held_out = asked & set(result.filter(pl.col("split") != "train")["call"].unique())
    if held_out:
        wishes.append(
            f"include: {len(held_out)} of {len(asked)} calls are in valid or test and stay there: "
            f"{_few(sorted(held_out))}"
        )
    left = asked & set(kept["call"].unique()) - set(result["call"].unique())
    if left:
        wishes.append(f"include: {len(left)} calls do not fit into the hours and shares: {_few(sorted(left))}")
    return wishes + _split_wishes(result, kept, groups, settings)


def _split_wishes(
    result: pl.DataFrame, kept: pl.DataFrame, groups: dict[str, str], settings: SelectSettings
) -> list[str]:
    wishes = []
    total = float(kept["seconds"].sum())
    fixed = {"valid": bool(settings.valid_calls), "test": bool(settings.test_calls or settings.test_where)}
    for split in ("valid", "test"):
        wanted = getattr(settings.shares, split) * total
        got = float(result.filter(pl.col("split") == split)["seconds"].sum())
        if fixed[split] and not got:
            wishes.append(f"{split}: none of the calls asked for is left")
        elif not fixed[split] and abs(got - wanted) > 0.2 * wanted:
            held = kept.group_by(pl.col("call").replace_strict(groups)).agg(pl.col("seconds").sum())
            largest = float(held["seconds"].max() or 0.0)  # type: ignore[arg-type]
            wishes.append(
                f"{split}: {got / 3600:.2f} h instead of {wanted / 3600:.2f} h; calls are not cut, and of "
                f"{len(held)} calls or tied groups of calls the largest has {largest / 3600:.2f} h"
            )
    return wishes


def _summary(choice: Choice, words: dict[str, WordCounts]) -> dict[str, Any]:
    rows = choice.chosen
    unseen = unseen_words(words["train"], words["test"])
    return {
        "splits": {split: _counts(rows.filter(pl.col("split") == split)) for split in SPLITS},
        "dropped": {
            reason: {"utterances": count, "hours": round(seconds / 3600, 6)}
            for reason, count, seconds in choice.dropped.group_by(pl.col("reason").cast(pl.String))
            .agg(pl.len().alias("count"), pl.col("seconds").sort().sum())
            .sort(["count", "reason"], descending=[True, False])
            .iter_rows()
        },
        "wishes": choice.wishes,
        "unseen_test_words": {
            "tokens": unseen.tokens,
            "types": unseen.types,
            "unseen_tokens": unseen.unseen_tokens,
            "unseen_types": unseen.unseen_types,
            "token_share": round(unseen.token_share, 6),
            "type_share": round(unseen.type_share, 6),
        },
    }


def _counts(rows: pl.DataFrame) -> dict[str, Any]:
    seconds = float(rows["seconds"].sum())
    share = 1 / seconds if seconds else 0.0
    return {
        "utterances": len(rows),
        "hours": round(seconds / 3600, 6),
        "calls": rows["call"].n_unique(),
        "speakers": rows["speaker"].n_unique(),
        "native_share": round(float(rows.filter(pl.col("native"))["seconds"].sum()) * share, 6),
        "qa_share": round(float(rows.filter(pl.col("session") == _Q_AND_A)["seconds"].sum()) * share, 6),
    }


def _reasons(rows: pl.DataFrame) -> str:
    counted = rows.group_by(pl.col("reason").cast(pl.String)).len().drop_nulls().sort("reason")
    return ", ".join(f"{reason} {count}" for reason, count in counted.iter_rows()) or "all are valid or test"
