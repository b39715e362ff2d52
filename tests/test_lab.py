"""The laboratory's records: what is kept, what is made again, what is told of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks import lab, recipes

from speechmill.artefact import read_json, write_json


def a_record(recipe: str = "abc", experiment: str = "strategy", strategy: str = "single", seed: int = 0, **more: Any):
    return {
        "experiment": experiment, "corpus": "demo", "recipe": recipe, "strategy": strategy, "processes": 1,
        "share": "all", "seed": seed, "validations": [[10, 5.0, 0.5], [20, 10.0, 0.2]], **more,
    }  # fmt: skip


def test_records_of_another_recipe_are_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "lab.json"
    write_json(out, [a_record(), a_record(recipe="old", seed=1)])
    known = lab.recorded(out, {"demo": "abc", "digits": "def"})
    assert list(known) == [lab.Run("strategy", "demo", lab.CONDITIONS[0], 0).key]
    assert "1 records are of other recipes or ways" in capsys.readouterr().err


def test_every_planned_run_has_a_key_of_its_own() -> None:
    runs = list(lab.planned(["demo", "digits"], 3))
    assert len({run.key for run in runs}) == len(runs) == 3 * (9 + 2 + 9)


def test_the_target_is_a_tenth_above_the_worst_final_validation_of_single() -> None:
    slower = a_record(strategy="hogwild", validations=[[10, 4.0, 0.34], [20, 8.0, 0.32]])
    told = lab.with_targets([a_record(), a_record(seed=1, validations=[[20, 9.0, 0.3]]), slower])
    assert [one["target_wer"] for one in told] == [pytest.approx(0.33)] * 3
    assert [one["seconds_to_target"] for one in told] == [10.0, 9.0, 8.0]


def test_a_call_with_everything_recorded_trains_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, print_of = tmp_path / "lab.json", lab.fingerprint("demo", [])
    records = []
    for run in lab.planned(["demo"], 1):
        way = run.condition
        records.append(
            a_scored(way.name, 0, [20], 9.0, recipe=print_of, experiment=run.experiment, processes=way.processes)
            | {"share": run.share, "hours": {"1/16": 1.0, "1/4": 4.0}.get(run.share, 16.0)}
        )
    write_json(out, records)
    monkeypatch.setattr(lab, "carry_out", lambda *_: pytest.fail("trained again"))
    monkeypatch.setattr(
        "sys.argv", ["lab", "--out", str(out), "--work", str(tmp_path), "--seeds", "1", "--corpora", "demo"]
    )
    lab.main()
    assert len(read_json(out)) == len(records) + 1  # all hours: the run `single`, told again
    assert [one["share"] for one in read_json(out) if one["experiment"] == "scale"] == ["1/16", "1/4", "all"]


def test_records_of_recipes_come_back_where_the_settings_are_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, work = tmp_path / "recipes.json", tmp_path / "work"
    run = recipes.Run("demo", recipes.named("noam"), 1)
    same = {"corpus": "demo", "variant": "noam", "seed": 1, "recipe": recipes.fingerprint(run, work, [])}
    write_json(out, {"runs": [same, {**same, "seed": 0, "recipe": "old"}, {**same, "variant": "gone"}]})
    assert recipes.restore(out, work, []) == 2
    runs = list(recipes.planned(["demo"], 2, ["noam"]))
    assert recipes.records(runs, work, []) == [same]
    assert capsys.readouterr().err.count("made again") == 2
    training, evaluated = recipes.batched(runs, work, [], None)
    assert [one.seed for one in training] == [0]
    assert evaluated == []


def test_a_trial_with_settings_of_its_own_has_folders_of_its_own(tmp_path: Path) -> None:
    run = recipes.Run("digits", recipes.named("conformer"), 0)
    short = ["train.updates=200"]
    assert run.folder(tmp_path, []) != run.folder(tmp_path, short)
    assert run.note(tmp_path, []) != run.note(tmp_path, short)
    # How it is evaluated does not tell of another training.
    assert recipes.Run("digits", recipes.named("conformer, beam"), 0).folder(tmp_path, []) == run.folder(tmp_path, [])


def a_scored(strategy: str, seed: int, errors: list[int], seconds: float, **more: Any) -> dict[str, Any]:
    calls = {f"call{place}": [count, 100] for place, count in enumerate(errors)}
    total = sum(errors)
    return a_record(
        strategy=strategy, seed=seed, calls=calls, errors=total, words=100 * len(errors),
        wer=total / (100 * len(errors)), seconds=seconds, audio_seconds=900.0, target_wer=0.33,
        seconds_to_target=5.0, hours=4.0, **more,
    )  # fmt: skip


def test_the_table_compares_each_way_with_single_on_the_same_seeds() -> None:
    runs = [a_scored("single", seed, [20, 30, 25, 15], 100.0) for seed in range(2)]
    runs += [a_scored("hogwild", 0, [22, 33, 27, 17], 50.0) | {"processes": 2}]
    lines = lab.table(runs).splitlines()
    assert lines[0].startswith("| demo | processes | WER, each seed")
    assert lines[2] == "| single | 1 | 22.50, 22.50 | 22.50 | 180 |  | 1 | 1 | 5 |"
    cells = [cell.strip() for cell in lines[3].split("|")[1:-1]]
    assert cells[:5] == ["hogwild", "2", "24.75", "24.75", "99"]
    assert cells[5].startswith("+10.0 % (")
    assert cells[6:] == ["0.50", "1.000", "5"]
    assert len(lines) == 6


def test_smaller_batches_are_compared_with_smaller_batches() -> None:
    runs = [
        a_scored(name, 0, errors, seconds) | {"processes": processes}
        for name, errors, seconds, processes in (
            ("single", [20], 100.0, 1), ("single, a third of the batch", [40], 200.0, 1),
            ("hogwild, a third of the batch", [44], 100.0, 2),
        )
    ]  # fmt: skip
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lab.table(runs).splitlines()[2:5]]
    assert [row[5].split(" (")[0] for row in rows] == ["", "+100.0 %", "+10.0 %"]
    assert [row[6] for row in rows] == ["1", "2.00", "0.50"]


def test_runs_of_one_process_go_first_and_may_have_company() -> None:
    turns = list(lab.turns(lab.planned(["demo", "digits"], 2), 2))
    assert [beside for _, beside in turns] == [2, 1] * 4
    assert all((run.condition.processes == 1) == (beside == 2) for runs, beside in turns for run in runs)
    assert turns[0][0][0].condition.name == "single, a third of the batch"
    assert [run.seed for runs, _ in turns for run in runs] == [0] * 20 + [1] * 20


def test_the_table_fits_a_law_to_the_hours() -> None:
    runs = [
        a_scored("single", seed, [round(100 * hours**-0.5)], 1.0, experiment="scale") | {"hours": hours}
        for hours in (1.0, 4.0, 16.0)
        for seed in range(2)
    ]
    text = lab.table(runs)
    assert "| 4.00 | 50.00, 50.00 | 50.00 |" in text
    assert "c = 0.5" in text


def test_errors_are_told_call_by_call(tmp_path: Path) -> None:
    path = tmp_path / "test.utterances.jsonl"
    rows = [{"block": "b", "errors": 1, "words": 5}, {"block": "a", "errors": 0, "words": 3},
            {"block": "b", "errors": 2, "words": 7}]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    assert lab.of_calls(path) == {"a": [0, 3], "b": [3, 12]}
