"""The CSV file: what rows it has, that numbers are those of the summary, and odd texts."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from speechmill.score.csvfile import COLUMNS, LONGEST, write_csv
from speechmill.score.groups import score_utterance
from speechmill.score.result import UtteranceScore
from speechmill.score.summary import summarize

ITEMS = [
    replace(
        score_utterance(f"u{k}", 'Net "sales", rose\nuh', "net sails rose" if k in (0, 1, 3) else ""),
        recording=f"c{k // 2}",
    )
    for k in range(6)
]


def rows(path: Path, items: list[UtteranceScore]) -> list[dict[str, str]]:
    summary = summarize(items, {"native": [k < 3 for k in range(len(items))]}, [i.recording for i in items], "call")
    write_csv(path, summary | {"by_recording": {name: ITEMS[0].rates.as_dict() for name in ("c0", "c1", "c2")}}, items)
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_rows_and_numbers(tmp_path: Path) -> None:
    found = rows(tmp_path / "scores.csv", ITEMS)
    assert tuple(found[0]) == (*COLUMNS, "native")
    levels = [row["level"] for row in found]
    assert levels == ["set"] + ["group"] * 2 + ["gap"] + ["kind"] * 6 + ["recording"] * 3 + ["utterance"] * 6
    whole = found[0]
    assert float(whole["wer_low"]) < float(whole["wer"]) < float(whole["wer_high"])
    kinds = [row for row in found if row["level"] == "kind"]
    assert sum(float(row["wer_p"]) for row in kinds) == pytest.approx(float(whole["wer_p"]))
    utterances = [row for row in found if row["level"] == "utterance"]
    assert sum(int(row["errors"]) for row in utterances) == int(whole["errors"])
    assert (utterances[0]["reference"], utterances[0]["hypothesis"]) == (ITEMS[0].reference, ITEMS[0].hypothesis)
    assert [(row["column"], row["name"]) for row in found[1:3]] == [("native", "false"), ("native", "true")]


def test_two_systems_gaps_entities_and_the_groups_of_utterances(tmp_path: Path) -> None:
    items = [replace(item, attributes={"native": str(k < 3).lower()}) for k, item in enumerate(ITEMS)]
    summary = summarize(items, {"native": [k < 3 for k in range(6)]}, [item.id for item in items], "utterance")
    compared = {"hypothesis": "other", "difference": 0.25, "interval": [0.1, 0.4], "p": 0.03}
    entity = {"entities": 3, "wrong": 1, "words": 4, "errors": 1, "wer": 0.25}
    write_csv(tmp_path / "scores.csv", summary | {"comparison": compared, "entities": {"YEAR": entity}}, items)
    with (tmp_path / "scores.csv").open(encoding="utf-8", newline="") as stream:
        found = {row["level"]: row for row in csv.DictReader(stream)}
    assert [found["comparison"][key] for key in ("name", "wer", "wer_low", "p")] == ["other", "0.25", "0.1", "0.03"]
    assert (found["gap"]["column"], found["gap"]["name"]) == ("native", "false less true")
    assert float(found["gap"]["wer"]) == summary["gaps"]["native"]["difference"]
    assert [found["entity"][key] for key in ("name", "utterances", "errors", "wer")] == ["YEAR", "3", "1", "0.25"]
    assert found["utterance"]["native"] == "false"


def test_undefined_is_empty_and_too_long_a_text_left_out(tmp_path: Path) -> None:
    found = rows(tmp_path / "scores.csv", [score_utterance("a", "", "uh"), score_utterance("b", "a " * LONGEST, "a")])
    assert [row["level"] for row in found].count("recording") == 0
    assert (found[-2]["wer"], found[-2]["insertions"], found[-2]["hypothesis"]) == ("", "1", "uh")
    assert (found[-1]["reference"], found[-1]["hypothesis"]) == ("", "a")
