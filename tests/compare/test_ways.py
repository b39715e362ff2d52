"""Runs put together by way of training: spread over seeds, time to a WER, shares of time, efficiency, hours."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import yaml

from speechmill.cli import main
from speechmill.compare import compare, read_run
from speechmill.compare.page import page
from speechmill.compare.ways import baseline, efficiency, labels, laws_table, ways, ways_table

CONFIG: dict[str, Any] = {
    "name": "lab", "data": {"shards": "all"}, "select": {"hours": None}, "optim": {"lr": 0.001},
    "schedule": {"seed": 0, "batches_per_update": 1, "target_seconds": 30},
    "train": {"strategy": "single", "processes": 1, "seed": 0, "updates": 100, "average_every": 16},
}  # fmt: skip


def make_run(
    path: Path, wer: float, rate: float = 100.0, hours: float = 4.0, words: int = 1000, waits: float = 0.1,
    **settings: Any,
) -> Path:  # fmt: skip
    """A finished run of 100 s, of which two validations took 20 s."""
    config = copy.deepcopy(CONFIG)
    for key, value in settings.items():
        section, _, name = key.partition("__")
        config[section][name] = value
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    (path / "environment.json").write_text(json.dumps({"train_hours": hours}))
    lines: list[dict[str, Any]] = []
    for update, seconds in ((50, 50.0), (100, 100.0)):
        place = {"update": update, "seconds": seconds, "audio_seconds": seconds * rate}
        communication = {} if config["train"]["strategy"] == "single" else {"communication": 0.25}
        lines.append({"event": "train", **place, "loss": 1.0, "data_wait": waits, **communication})
        lines.append({"event": "valid", **place, "wer": wer * 200 / update, "valid_seconds": 10.0})
    lines.append({"event": "end", "update": 100})
    (path / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    (path / "scores").mkdir()
    (path / "scores" / "test.json").write_text(json.dumps({"wer": wer, "words": words}))
    return path


def cells(table: Any) -> list[dict[str, Any]]:
    return [dict(zip((column.title for column in table.columns), row, strict=True)) for row in table.rows]


@pytest.fixture
def strategies(tmp_path: Path) -> list[Path]:
    two = {"train__strategy": "ddp", "train__processes": 2, "schedule__batches_per_update": 2, "train__updates": 50}
    return [
        *(
            make_run(tmp_path / f"single{seed}", 0.10 + seed / 100, train__seed=seed, schedule__seed=seed)
            for seed in range(3)
        ),
        make_run(tmp_path / "accumulation", 0.12, rate=90, schedule__batches_per_update=2, train__updates=50),
        *(make_run(tmp_path / f"ddp{seed}", 0.12 + seed / 50, rate=162, train__seed=seed, **two) for seed in range(2)),
        make_run(tmp_path / "hogwild", 0.2, rate=190, train__strategy="hogwild", train__processes=2),
        make_run(tmp_path / "third", 0.11, schedule__target_seconds=10, train__updates=300),
    ]  # fmt: skip


def test_seeds_are_put_together_and_strategies_have_names(strategies: list[Path]) -> None:
    found = ways([read_run(path) for path in strategies])
    assert labels(found) == [
        "single (schedule.target_seconds 30, train.updates 100)", "accumulation", "ddp, 2 processes",
        "hogwild, 2 processes", "single (schedule.target_seconds 10, train.updates 300)",
    ]  # fmt: skip
    assert [len(way.runs) for way in found] == [3, 1, 2, 1, 1]


def test_recipes_tell_ways_apart_where_they_can(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "a", 0.1), make_run(tmp_path / "b", 0.1, optim__lr=0.1)]
    config = yaml.safe_load((runs[1] / "config.yaml").read_text())
    (runs[1] / "config.yaml").write_text(yaml.safe_dump(config | {"name": "other"}))
    assert labels(ways([read_run(path) for path in runs])) == ["single (lab)", "single (other)"]


def test_the_table_says_what_each_strategy_costs(strategies: list[Path]) -> None:
    single, accumulation, ddp, hogwild, _ = cells(ways_table([read_run(path) for path in strategies], 0.24))
    assert (single["runs"], single["train data (h)"]) == (3, 4)
    assert single["test WER"] == pytest.approx(0.11)
    assert single["test WER over seeds"] == "10.00–12.00 %"
    assert accumulation["test WER over seeds"] is None
    # Validations: WER times four at 50 s, times two at 100 s.
    assert single["time to 24.00 %"] == 100
    assert ddp["time to 24.00 %"] is None, "one of its seeds did not come there"
    assert (single["audio s per s"], ddp["audio s per s"]) == (100, 162)
    assert ddp["scaling efficiency"] == pytest.approx(162 / (2 * 90)), "accumulation has its batches"
    assert hogwild["scaling efficiency"] == pytest.approx(190 / (2 * 100))
    assert single["scaling efficiency"] is None


def test_shares_of_time_add_up(strategies: list[Path]) -> None:
    names = ("data", "compute", "communication", "validation")
    shares = [[row[name] for name in names] for row in cells(ways_table([read_run(path) for path in strategies]))]
    assert shares[0] == pytest.approx([0.08, 0.72, 0.0, 0.2])
    assert shares[2] == pytest.approx([0.08, 0.52, 0.2, 0.2])
    assert shares[3] == pytest.approx([0.1, 0.65, 0.25, 0.0]), "Hogwild trains on while it validates"


def test_the_baseline_is_of_the_same_hours(tmp_path: Path) -> None:
    ddp = {"train__strategy": "ddp", "train__processes": 2}
    runs = [make_run(tmp_path / "few", 0.1, hours=1.0), make_run(tmp_path / "ddp", 0.1, hours=4.0, **ddp)]
    few, many = ways([read_run(path) for path in runs])
    assert baseline(many, [few, many]) is None
    assert efficiency(many, [few, many]) is None


@pytest.fixture
def scale(tmp_path: Path) -> list[Path]:
    return [
        make_run(
            tmp_path / f"{hours}-{seed}", (0.05 + 0.4 * hours**-0.5) * (1 + seed / 100), hours=hours, train__seed=seed,
            data__shards=f"part{hours}", select__hours=hours,
        )
        for hours in (1.0, 4.0, 16.0)
        for seed in range(2)
    ]  # fmt: skip


def test_hours_are_fitted_with_intervals(scale: list[Path]) -> None:
    (law,) = cells(laws_table([read_run(path) for path in scale]))
    assert (law["strategy"], law["scored set"], law["runs"]) == ("single", "test", 6)
    assert (law["from (h)"], law["to (h)"]) == (1, 16)
    assert law["a"] == pytest.approx(0.05, abs=0.01)
    assert law["c"] == pytest.approx(0.5, abs=0.05)
    assert law["with twice the data"] == pytest.approx(0.05 + 0.4 * 32**-0.5, rel=0.05)
    low, _, high = law["c interval"].partition("–")
    assert float(low) <= law["c"] <= float(high)


def test_other_words_are_another_set_and_two_amounts_are_too_few(scale: list[Path]) -> None:
    path = scale[0] / "scores" / "test.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"words": 7}))
    assert cells(laws_table([read_run(path) for path in scale]))[0]["runs"] == 5
    assert not laws_table([read_run(path) for path in scale[:4]]).rows


def test_tables_page_and_workbook_show_both(
    strategies: list[Path], scale: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *map(str, [*strategies, *scale]), "--out", str(tmp_path / "out"), "--wer", "24"]) == 0
    text = capsys.readouterr().out
    assert "\nStrategies\n" in text
    assert "Hours of data: error = a + b × hours^−c" in text
    assert "24.00 %" in text
    markdown = (tmp_path / "out" / "compare.md").read_text()
    assert "## Strategies" in markdown
    book = openpyxl.load_workbook(tmp_path / "out" / "compare.xlsx")
    assert book.sheetnames == ["runs", "strategies", "hours", "curves"]
    heading = [cell.value for cell in book["hours"][1]]
    assert {"a", "b", "c", "c interval"} <= set(heading)
    assert isinstance(book["hours"].cell(2, heading.index("c") + 1).value, int | float)
    html = (tmp_path / "out" / "compare.html").read_text()
    assert "<h2>Strategies</h2>" in html
    assert "<h2>Hours of data: error = a + b × hours^−c</h2>" in html


def test_one_run_has_no_summary(scale: list[Path]) -> None:
    assert "Strategies" not in page([read_run(scale[0])])
    assert "Strategies" not in compare(scale[:1], None).text


def test_a_level_below_nothing_is_refused(scale: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(scale[0]), "--wer", "-1"]) == 2
    assert "--wer -1: expected a number of per cent from 0." in capsys.readouterr().err
