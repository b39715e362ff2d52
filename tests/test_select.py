from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from speechmill.errors import SpeechmillError
from speechmill.manifest import SCHEMA, read_manifest, write_manifest
from speechmill.quotas import quotas
from speechmill.select import Selection, select, select_manifest
from speechmill.settings import SelectSettings
from speechmill.splits import assign_splits, call_groups
from speechmill.vocabulary import WordCounts, unseen_words


def corpus(calls: int = 60, rows: int = 30, shared_speakers: bool = False) -> pl.DataFrame:
    """About half an hour per 60 utterances: 30 s each with some spread; every third call is native, half is Q&A."""
    rng = np.random.default_rng(5)
    call = np.repeat(np.arange(calls), rows)
    row = np.tile(np.arange(rows), calls)
    length = rng.uniform(2.0, 58.0, calls * rows)
    speaker = call // 2 * 10 + row % 3 if shared_speakers else call * 10 + row % 3
    table = pl.DataFrame({"c": call, "r": row, "length": length, "s": speaker})
    start = pl.col("length").cum_sum().over("c") - pl.col("length")
    return table.select(
        id=pl.format("c{}_{}", "c", "r"),
        recording=pl.format("/calls/{}.wav", "c"),
        start=start,
        end=start + pl.col("length"),
        text=pl.format("Row {} of call {}.", "r", "c"),
        speaker=pl.format("s{}", "s"),
        call=pl.format("c{}", "c"),
        session=pl.when(pl.col("r") < rows // 2).then(pl.lit("presentation")).otherwise(pl.lit("q-and-a")),
        native=pl.col("c") % 3 == 0,
        split=pl.lit(""),
        ceo=pl.col("r") % 3 == 0,
        company=pl.format("co{}", pl.col("c") // 3),
    )


def chosen(settings: dict[str, Any], table: pl.DataFrame | None = None) -> Selection:
    return select(corpus() if table is None else table, SelectSettings.model_validate(settings))


def ids(selection: Selection, split: str) -> set[str]:
    return set(selection.table.filter(split=split)["id"])


def hours(table: pl.DataFrame) -> float:
    return float((table["end"] - table["start"]).sum()) / 3600


def share(selection: Selection, condition: pl.Expr) -> float:
    train = selection.table.filter(split="train")
    return hours(train.filter(condition)) / hours(train)


def test_every_row_is_chosen_or_dropped_and_no_call_is_on_two_sides() -> None:
    table = corpus()
    selection = chosen({"hours": 5, "min_seconds": 3, "max_seconds": 50}, table)
    assert set(selection.table["id"]) | set(selection.dropped["id"]) == set(table["id"])
    assert len(selection.table) + len(selection.dropped) == len(table)
    assert selection.table.group_by("call").agg(pl.col("split").n_unique())["split"].max() == 1
    lengths = selection.table["end"] - selection.table["start"]
    assert lengths.min() >= 3  # type: ignore[operator]
    assert lengths.max() <= 50  # type: ignore[operator]
    assert set(selection.dropped["reason"]) == {"too-short", "too-long", "not-needed"}
    assert selection.wishes == []


def test_shares_of_the_splits() -> None:
    selection = chosen({"shares": {"train": 0.6, "valid": 0.1, "test": 0.3}})
    total = hours(selection.table)
    for split, wanted in {"train": 0.6, "valid": 0.1, "test": 0.3}.items():
        assert hours(selection.table.filter(split=split)) / total == pytest.approx(wanted, abs=0.01)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"native_share": 0.5},
        {"native_share": 0.5, "qa_share": 0.7},
        {"qa_share": 0.2, "include": ["c7", "c8", "c9"]},
        {"disjoint": ["company"]},
    ],
)
def test_small_sets_lie_inside_large_ones_with_the_same_valid_and_test(more: dict[str, Any]) -> None:
    sizes = [0.02, 0.5, 1, 2, 3.7, 5, 8, 11, 100]
    selections = [chosen({"hours": size, **more}) for size in sizes]
    for small, large in pairwise(selections):
        assert ids(small, "train") <= ids(large, "train")
        assert ids(small, "valid") == ids(large, "valid")
        assert ids(small, "test") == ids(large, "test")
    for size, selection in list(zip(sizes, selections, strict=True))[:-2]:
        assert hours(selection.table.filter(split="train")) == pytest.approx(size, abs=4 * 30 / 3600)


def test_the_seed_decides_and_nothing_else() -> None:
    table = corpus()
    first = chosen({"hours": 3, "seed": 1}, table)
    assert chosen({"hours": 3, "seed": 1}, table).table.equals(first.table)
    assert ids(chosen({"hours": 3, "seed": 2}, table), "test") != ids(first, "test")
    shuffled = chosen({"hours": 3, "seed": 1}, table.sort("call", descending=True, maintain_order=True))
    assert ids(shuffled, "train") == ids(first, "train")


def test_shares_of_native_and_q_and_a_are_met_at_equal_hours() -> None:
    for native, qa in [(0.2, 0.5), (0.5, 0.8), (0.6, 0.1)]:
        selection = chosen({"hours": 4, "native_share": native, "qa_share": qa})
        assert share(selection, pl.col("native")) == pytest.approx(native, abs=0.01)
        assert share(selection, pl.col("session") == "q-and-a") == pytest.approx(qa, abs=0.01)
        assert selection.wishes == []


def test_without_hours_shares_take_all_that_keeps_them() -> None:
    selection = chosen({"native_share": 0.5})
    assert share(selection, pl.col("native")) == pytest.approx(0.5, abs=0.01)
    native = chosen({}).table.filter(pl.col("native"), split="train")
    assert hours(selection.table.filter(split="train")) == pytest.approx(2 * hours(native), abs=0.05)


def test_wishes_that_cannot_be_met_say_which_and_by_how_much() -> None:
    train = hours(chosen({}).table.filter(split="train"))
    native = hours(chosen({}).table.filter(pl.col("native"), split="train"))
    selection = chosen({"hours": 100})
    assert selection.wishes == [f"hours: {train:.2f} of 100 h, {100 - train:.2f} h are missing"]
    size = native + 2
    selection = chosen({"hours": size, "native_share": 0.9})
    assert hours(selection.table.filter(split="train")) == pytest.approx(size, abs=0.02)
    [wish] = selection.wishes
    got = share(selection, pl.col("native"))
    assert wish == f"native_share: {got:.3f} instead of 0.9, {got - 0.9:+.3f}"
    selection = chosen({"hours": 100, "native_share": 1.0})
    assert hours(selection.table.filter(split="train")) == pytest.approx(native)
    assert selection.wishes[0].startswith("hours:")
    assert chosen({"exclude": ["c1", "x", "y"]}).wishes == ["exclude: 2 of 3 calls are not in the manifest: x, y"]
    assert chosen({"disjoint": ["session"]}).wishes != []


def test_include_first_include_only_and_exclude(tmp_path: Path) -> None:
    plain = chosen({})
    first = sorted(set(plain.table.filter(split="train")["call"]))[:3]
    selection = chosen({"hours": 2, "include": first})
    calls = set(selection.table.filter(split="train")["call"])
    assert calls > set(first)
    table = corpus()
    for call in first:
        assert len(selection.table.filter(call=call)) == len(table.filter(call=call))
    (tmp_path / "calls.txt").write_text("c1\nc2\nc3\nc4\nc5\n")
    only = chosen({"include_only": str(tmp_path / "calls.txt"), "exclude": ["c3"]})
    assert set(only.table["call"]) == {"c1", "c2", "c4", "c5"}
    assert set(only.dropped["reason"]) == {"excluded", "not-in-include-only"}
    # Other calls do not move when one is taken away: at most one call crosses at each edge.
    less = chosen({"exclude": [sorted(set(plain.table.filter(split="test")["call"]))[0]]})
    assert len({*ids(less, "test")} - ids(plain, "test")) <= 30 * 2
    with pytest.raises(SpeechmillError, match=r"select\.include: .*none\.txt: no such file"):
        chosen({"include": str(tmp_path / "none.txt")})


def test_nobody_is_on_two_sides_where_that_is_asked() -> None:
    table = corpus(shared_speakers=True)
    selection = chosen({"disjoint": ["speaker", "company"]}, table)
    for column in ("call", "speaker", "company"):
        assert selection.table.group_by(column).agg(pl.col("split").n_unique())["split"].max() == 1
    assert set(selection.table["split"]) == {"train", "valid", "test"}
    loose = chosen({}, table).table
    assert loose.group_by("speaker").agg(pl.col("split").n_unique())["split"].max() > 1  # type: ignore[operator]


def test_groups_are_the_connected_components() -> None:
    table = pl.DataFrame(
        {"call": ["a", "b", "c", "d", "e", "f"], "speaker": ["1", "1", "2", "2", None, ""], "firm": [*"xyyzvw"]}
    )
    assert call_groups(table, []) == {call: call for call in "abcdef"}
    assert call_groups(table, ["speaker"]) == {"a": "a", "b": "a", "c": "c", "d": "c", "e": "e", "f": "f"}
    assert call_groups(table, ["speaker", "firm"]) == {**dict.fromkeys("abcd", "a"), "e": "e", "f": "f"}


def test_a_giant_group_is_left_to_train() -> None:
    seconds = {"giant": 1000.0, **{f"c{n}": 10.0 for n in range(20)}}
    groups = {name: name for name in seconds}
    for seed in range(5):
        splits = assign_splits(groups, seconds, {"test": 50, "valid": 30}, {"test": [], "valid": []}, seed)
        assert splits["giant"] == "train"
        assert list(splits.values()).count("test") == 5
        assert list(splits.values()).count("valid") == 3


def test_leave_one_speaker_out() -> None:
    table = corpus(shared_speakers=True)
    selection = chosen({"test_where": {"speaker": ["s0", "s1"]}, "shares": {"train": 1, "valid": 0, "test": 0}}, table)
    assert set(selection.table.filter(split="test")["call"]) == {"c0", "c1"}
    assert set(selection.table["split"]) == {"train", "test"}
    assert selection.wishes == []
    assert chosen({"test_where": {"speaker": ["nobody"]}}).wishes[0] == "test_where: no row has speaker nobody"


def test_explicit_calls() -> None:
    selection = chosen({"test_calls": ["c1", "c2"], "valid_calls": ["c3"]})
    assert set(selection.table.filter(split="test")["call"]) == {"c1", "c2"}
    assert set(selection.table.filter(split="valid")["call"]) == {"c3"}
    with pytest.raises(SpeechmillError, match="'c1' is asked into valid"):
        chosen({"test_calls": ["c1"], "valid_calls": ["c1"]})


def test_ceo_only_and_unwanted_text() -> None:
    selection = chosen({"ceo_only": True, "drop_text": ["^Row 0 "]})
    assert selection.table["ceo"].all()
    assert not selection.table["text"].str.starts_with("Row 0 ").any()
    assert selection.summary["dropped"]["drop-text"]["utterances"] == 60


def test_unsure_utterances_are_left_out_where_a_confidence_is_asked() -> None:
    table = corpus().with_columns(confidence=pl.when(pl.col("ceo")).then(0.95).otherwise(0.4))
    selection = select(table, SelectSettings(min_confidence=0.9))
    assert selection.table["confidence"].min() == 0.95
    assert "low-confidence" in set(selection.dropped["reason"])
    with pytest.raises(SpeechmillError, match="min_confidence: the manifest has no column 'confidence'"):
        select(corpus(), SelectSettings(min_confidence=0.9))


def test_aligned_utterances_keep_silence_around_them_as_far_as_there_is_any() -> None:
    exact = corpus().with_columns(
        start=pl.col("start") + 1.0, end=pl.col("end") - 0.3, quiet_before=pl.lit(1.0), quiet_after=pl.lit(0.3)
    )
    found = chosen({"silence_seconds": 0.5}, exact).table
    begun = exact.filter(pl.col("id").is_in(found["id"].to_list()))
    before, after = begun["start"] - found["start"], found["end"] - begun["end"]
    for taken, most in ((before, 0.5), (after, 0.3)):
        assert taken.min() >= -1e-9  # type: ignore[operator]
        assert taken.max() <= most + 1e-9  # type: ignore[operator]
    # Half of them none, the others evenly to half a second; where there is less, no more than that.
    assert (before < 1e-9).mean() == pytest.approx(0.5, abs=0.05)
    assert before.quantile(0.625) == pytest.approx(0.125, abs=0.03)
    assert before.quantile(0.875) == pytest.approx(0.375, abs=0.03)
    assert (after > 0.3 - 1e-9).mean() == pytest.approx(0.2, abs=0.05)
    assert (found["quiet_before"] + before).to_list() == pytest.approx([1.0] * len(found))
    tight = chosen({}, exact).table
    assert tight["start"].to_list() == exact.filter(pl.col("id").is_in(tight["id"].to_list()))["start"].to_list()


def test_training_text_has_wildcards_where_it_was_not_understood() -> None:
    aligned = corpus().with_columns(
        known_text=pl.when(pl.col("ceo")).then(pl.format("{} ★", "text")).when(pl.col("native")).then(pl.lit("★"))
    )
    plain, found = chosen({}, aligned).table, chosen({"wildcards": True}, aligned).table
    assert plain["text"].to_list() == chosen({}).table["text"].to_list()
    scored, train = pl.col("split") != "train", pl.col("split") == "train"
    assert found.filter(scored)["text"].to_list() == plain.filter(scored)["text"].to_list()
    expected = plain.filter(train & (pl.col("known_text") != "★").fill_null(True))
    assert found.filter(train)["written_text"].to_list() == expected["text"].to_list()
    assert (
        found.filter(train)["text"].to_list()
        == expected.select(pl.coalesce("known_text", "text")).to_series().to_list()
    )
    assert found.filter(train)["text"].str.ends_with(" ★").any()
    dropped = chosen({"wildcards": True}, aligned).dropped
    assert set(dropped["reason"]) == {"not-heard"}
    assert len(dropped) == len(plain) - len(found)
    again = found.with_columns(split=pl.lit(""))
    assert set(chosen({}, again).table["text"]) <= set(aligned["text"])
    assert set(chosen({"wildcards": True}, again).table["written_text"]) <= set(aligned["text"])
    with pytest.raises(SpeechmillError, match="wildcards: the manifest has no column 'known_text'"):
        chosen({"wildcards": True})


def test_unknown_native_is_left_out_only_where_a_share_is_asked() -> None:
    table = corpus().with_columns(native=pl.when(pl.col("call") != "c4").then("native"))
    assert set(chosen({}, table).dropped["reason"]) == set()
    train_calls = set(chosen({}, table).table.filter(split="train")["call"])
    unknown = chosen({"native_share": 0.3}, table).dropped.filter(reason="native-unknown")
    assert len(unknown) == (30 if "c4" in train_calls else 0)


def test_what_makes_no_sense_is_an_error() -> None:
    with pytest.raises(SpeechmillError, match=r"select\.disjoint: the manifest has no column 'firm'; .*=\[speaker\]\."):
        chosen({"disjoint": ["speaker", "firm"]})
    with pytest.raises(SpeechmillError, match=r"select\.ceo_only: the manifest has no column 'ceo'"):
        chosen({"ceo_only": True}, corpus().drop("ceo"))
    with pytest.raises(SpeechmillError, match=r"no training data is left of 1800 rows \(too-short 1800\)"):
        chosen({"min_seconds": 59})
    with pytest.raises(SpeechmillError, match="no rows"):
        chosen({}, corpus().clear())


@pytest.mark.parametrize("seed", range(30))
def test_quotas_grow_and_keep_what_can_be_kept(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cells = [(n, s) for n in (True, False) for s in (True, False)]
    available = {cell: float(rng.choice([0.0, rng.uniform(1, 50)], p=[0.1, 0.9])) for cell in cells}
    native, qa = float(rng.uniform()), float(rng.uniform())
    before = dict.fromkeys(cells, 0.0)
    total = sum(available.values())
    for wanted in np.linspace(0, total * 1.2, 40):
        taken = quotas(available, native, qa, float(wanted))
        assert sum(taken.values()) == pytest.approx(min(wanted, total), abs=1e-6)
        assert all(before[cell] - 1e-9 <= taken[cell] <= available[cell] for cell in cells)
        before = taken
    kept = quotas(available, native, qa, None)
    size = sum(kept.values())
    assert kept[True, True] + kept[True, False] == pytest.approx(native * size, abs=1e-6)
    assert kept[True, True] + kept[False, True] == pytest.approx(qa * size, abs=1e-6)


def test_words_are_counted_as_the_scorer_normalises_them() -> None:
    text = pl.Series(["Good morning, good\u00a0long-term MORNING.", "", "It's 12.5%!", None])
    test, train = WordCounts(), WordCounts()
    for part in (text[:2], text[2:]):
        test.add(part)
    train.add(pl.Series(["good morning"]))
    counts = dict(test.table().iter_rows())
    assert counts == {"GOOD": 2, "MORNING": 2, "LONG": 1, "TERM": 1, "IT'S": 1, "12.5%": 1}
    unseen = unseen_words(train, test)
    assert (unseen.tokens, unseen.types, unseen.unseen_tokens, unseen.unseen_types) == (8, 6, 4, 4)
    assert (unseen.token_share, unseen.type_share) == (0.5, 4 / 6)


def test_select_manifest_writes_once_and_the_same_bytes(tmp_path: Path) -> None:
    manifest, out = tmp_path / "all.parquet", tmp_path / "out" / "s.parquet"
    write_manifest(corpus(), manifest)
    settings = SelectSettings(hours=3, seed=4)
    first = select_manifest(manifest, out, settings)
    files = {path.name: path.read_bytes() for path in out.parent.iterdir()}
    assert set(files) == {"s.parquet", "s.dropped.parquet", "s.ledger.parquet", "s.select.json"}
    assert not first.done_before
    assert "train       3.00 h" in first.text()
    assert select_manifest(manifest, out, settings).done_before
    assert not select_manifest(manifest, out, SelectSettings(hours=2, seed=4)).done_before
    assert not select_manifest(manifest, out, settings).done_before
    assert {path.name: path.read_bytes() for path in out.parent.iterdir()} == files
    assert set(read_manifest(out).columns) == {*SCHEMA, "ceo", "company"}
    with pytest.raises(SpeechmillError, match="overwrite the manifest"):
        select_manifest(manifest, manifest, settings)


def test_a_changed_list_is_a_changed_setting(tmp_path: Path) -> None:
    manifest, out, calls = tmp_path / "all.parquet", tmp_path / "s.parquet", tmp_path / "calls.txt"
    write_manifest(corpus(), manifest)
    calls.write_text("c1\n")
    settings = SelectSettings(exclude=str(calls))
    select_manifest(manifest, out, settings)
    calls.write_text("c1\nc2\n")
    assert not select_manifest(manifest, out, settings).done_before
    assert not set(read_manifest(out)["call"]) & {"c1", "c2"}


def test_included_calls_of_valid_and_test_are_told() -> None:
    plain = chosen({"hours": 2})
    held_out = sorted(set(plain.table.filter(split="test")["call"]))[:2]
    selection = chosen({"hours": 2, "include": [*held_out, plain.table.filter(split="train")["call"][0]]})
    assert set(held_out) <= set(selection.table.filter(split="test")["call"])
    told = f"include: 2 of 3 calls are in valid or test and stay there: {', '.join(held_out)}"
    assert selection.wishes == [told]


def test_a_manifest_in_slices_is_the_same_selection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = corpus()
    write_manifest(table, tmp_path / "all.parquet")
    settings = SelectSettings(hours=3, min_seconds=4, drop_text=["call 7"])
    whole = select(table, settings)
    monkeypatch.setattr("speechmill.manifest._SLICE", 97)
    for name in ("first", "second"):
        done = select_manifest(tmp_path / "all.parquet", tmp_path / f"{name}.parquet", settings)
        assert read_manifest(tmp_path / f"{name}.parquet").equals(
            whole.table.select(read_manifest(done.manifest).columns)
        )
        assert pl.read_parquet(tmp_path / f"{name}.dropped.parquet").equals(whole.dropped)
        assert {name: done.summary[name] for name in whole.summary} == whole.summary
    assert (tmp_path / "first.parquet").read_bytes() == (tmp_path / "second.parquet").read_bytes()


def test_nothing_dropped_is_an_empty_table(tmp_path: Path) -> None:
    write_manifest(corpus(), tmp_path / "all.parquet")
    select_manifest(tmp_path / "all.parquet", tmp_path / "s.parquet", SelectSettings())
    dropped = pl.read_parquet(tmp_path / "s.dropped.parquet")
    assert dropped.height == 0
    assert dropped.columns == ["id", "seconds", "reason"]
