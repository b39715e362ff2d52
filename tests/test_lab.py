"""The laboratory's records: what is kept, what is made again, what is told of them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import soundfile
from benchmarks import lab, recipes
from benchmarks.recipes_plan import named

from speechmill.artefact import read_json, write_json


def a_record(recipe: str = "abc", experiment: str = "strategy", strategy: str = "single", seed: int = 0, **more: Any):
    return {
        "experiment": experiment, "corpus": "demo", "recipe": recipe, "strategy": strategy, "processes": 1,
        "share": "all", "seed": seed, "validations": [[10, 5.0, 0.5], [20, 10.0, 0.2]], **more,
    }  # fmt: skip


def test_records_of_another_recipe_are_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "lab.json"
    write_json(out, [a_record(), a_record(recipe="old", seed=1)])
    known, older = lab.recorded(out, {"demo": "abc", "digits": "def"})
    assert list(known) == [lab.Run("strategy", "demo", lab.CONDITIONS[0], 0).key]
    assert list(older) == [lab.Run("strategy", "demo", lab.CONDITIONS[0], 1).key]
    assert "1 records are of other recipes" in capsys.readouterr().err


def test_a_record_of_another_recipe_stays_until_its_run_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, print_of = tmp_path / "lab.json", lab.fingerprint("demo", [])
    record = a_scored("single", 0, [20], 9.0, processes=1) | {"share": "all", "hours": 16.0}
    seeds = [record | {"seed": seed} for seed in (0, 1)]
    write_json(out, seeds)
    monkeypatch.setattr(lab, "prepared", lambda *_: None)
    monkeypatch.setattr(lab, "made", lambda run, *_: record | {"recipe": print_of, "seed": run.seed})
    arguments = ["lab", "--out", str(out), "--work", str(tmp_path), "--seeds", "1", "--corpora", "demo", "--most", "1"]
    monkeypatch.setattr("sys.argv", arguments)
    lab.main()
    found = {one["seed"]: one["recipe"] for one in read_json(out) if one["experiment"] == "strategy"}
    assert found == {0: print_of, 1: record["recipe"]}
    assert "runs of several recipes" in lab.table(read_json(out))


def test_the_committed_laboratory_is_read() -> None:
    """No setting that was added since may cost a record."""
    known, older = lab.recorded(lab.OUT, {corpus: lab.fingerprint(corpus, []) for corpus in lab.RECIPES})
    assert {run.key for run in lab.planned(["demo", "digits"], 3)} == set(known), "make lab"
    found = read_json(lab.OUT)
    assert len(known) + len(older) == len(
        [one for one in found if (one["experiment"], one["share"]) != ("scale", "all")]
    )


def test_every_planned_run_has_a_key_of_its_own() -> None:
    runs = list(lab.planned(["demo", "digits"], 3))
    assert len({run.key for run in runs}) == len(runs) == 3 * (11 + 2 + 11)


def test_the_target_is_a_tenth_above_the_worst_final_validation_of_single() -> None:
    slower = a_record(strategy="hogwild", validations=[[10, 4.0, 0.34], [20, 8.0, 0.32]])
    older = a_record(recipe="old", seed=2, validations=[[20, 9.0, 0.9]])
    told = lab.with_targets([a_record(), a_record(seed=1, validations=[[20, 9.0, 0.3]]), slower, older])
    assert [one["target_wer"] for one in told] == [pytest.approx(0.33)] * 3 + [pytest.approx(0.99)]
    assert [one["seconds_to_target"] for one in told] == [10.0, 9.0, 8.0, 9.0]


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


def a_variant_record(run: recipes.Run, **more: Any) -> dict[str, Any]:
    variant = run.variant
    return {"corpus": run.corpus, "variant": variant.name, "seed": run.seed, "recipe": run.fingerprint,
            "average": variant.average, "searches": recipes.plain(run.searches), "stop": list(variant.stop),
            "precision": "float32", **more}  # fmt: skip


def test_records_of_recipes_come_back_where_the_settings_are_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, work = tmp_path / "recipes.json", tmp_path / "work"
    every = list(recipes.planned(["demo"], 2, ["newbob", "conformer"]))
    for run in every:
        write_json(run.note(work), a_variant_record(run))
    file = recipes.told(every, [], work)
    new, gone = dict(file), file["runs"][0] | {"variant": "gone"}
    # A setting that came later: the records do not know it, and have other fingerprints.
    for values in (*new["bases"].values(), *new["recipes"].values()):
        values.pop("train.monitor_seconds", None)
    new["recipes"] = {f"old{name}": values for name, values in new["recipes"].items()}
    new["runs"] = [one | {"recipe": f"old{one['recipe']}"} for one in new["runs"]] + [gone]
    other = a_variant_record(every[0]) | {"recipe": "unknown", "seed": 1}
    write_json(out, new | {"runs": [*new["runs"][:2], *new["runs"][3:], other]})
    again = tmp_path / "again"
    assert recipes.restore(out, again, every) == [gone, other]
    assert recipes.records(every, again) == [one for place, one in enumerate(file["runs"]) if place != 2]
    assert capsys.readouterr().err.count("made again") == 2


def test_settings_come_back_from_how_they_differ() -> None:
    base = recipes.flat(recipes.Run("demo", recipes.VARIANTS[0], 0).recipe)
    for run in recipes.planned(["demo"], 1, None):
        values = recipes.flat(run.recipe)
        differs = recipes.differing(values, base)
        assert recipes.whole(differs, base) == values
        assert len(differs) < 45, run.variant.name


def test_a_trial_with_settings_of_its_own_has_folders_of_its_own(tmp_path: Path) -> None:
    variant = named("conformer", "digits")
    run, short = recipes.Run("digits", variant, 0), recipes.Run("digits", variant, 0, ("train.updates=600",))
    assert run.folder(tmp_path) != short.folder(tmp_path)
    assert run.note(tmp_path) != short.note(tmp_path)
    # How it is evaluated does not tell of another training.
    beam = recipes.Run("digits", named("conformer, beam", "digits"), 0)
    assert beam.folder(tmp_path) == run.folder(tmp_path)
    assert beam.note(tmp_path) != run.note(tmp_path)


def test_a_training_and_what_evaluates_it_are_one_job() -> None:
    runs = list(recipes.planned(["demo", "digits"], 2, ["base", "average best-5", "conformer", "constant"]))
    groups = list(recipes.turns(runs))
    assert [{job[0].seed for job in group} for group in groups] == [{0}, {1}]
    assert [(job[0].corpus, [run.variant.name for run in job]) for job in groups[0]] == [
        ("demo", ["conformer"]), ("digits", ["conformer"]), ("demo", ["base", "average best-5"]),
        ("demo", ["constant"]), ("digits", ["base", "average best-5"]), ("digits", ["constant"]),
    ]  # fmt: skip
    assert sum(len(group) for group in recipes.turns(runs, 4)) == 4


def test_a_run_that_fails_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def carry_out(job: recipes.Job, work: Path, _: int) -> None:
        if job[0].variant.name == "newbob":
            raise subprocess.CalledProcessError(1, ["speechmill", "train"])
        for run in job:
            scores = {"wer": 0.5, "errors": 1, "calls": {"a": [1, 2]}}
            shipped = dict.fromkeys(("valid", "test"), scores) if job[0].corpus == "demo" else None
            write_json(run.note(work), a_variant_record(run, updates=1, seconds=1.0, data="d", valid=scores,
                                                        shipped=shipped, **scores))  # fmt: skip

    monkeypatch.setattr(recipes, "carry_out", carry_out)

    def prepare(group: list[recipes.Job], _: Path) -> None:
        if group[0][0].seed == 1:
            raise subprocess.CalledProcessError(1, ["speechmill", "import"])

    monkeypatch.setattr(recipes, "prepare", prepare)
    out = tmp_path / "recipes.json"
    monkeypatch.setattr("sys.argv", ["recipes", "--out", str(out), "--work", str(tmp_path), "--seeds", "2",
                                     "--variants", "newbob", "base", "constant"])  # fmt: skip
    with pytest.raises(
        SystemExit, match=r"not done:\n(demo|digits), newbob, seed 0: .*\n(demo|digits), newbob, .*\nseed 1, all of it"
    ):
        recipes.main()
    assert {(one["corpus"], one["variant"], one["seed"]) for one in read_json(out)["runs"]} == {
        (corpus, name, 0) for corpus in ("demo", "digits") for name in ("base", "constant")
    }
    # Nothing is left to do but what failed, and the file stands.
    monkeypatch.setattr("sys.argv", ["recipes", "--out", str(out), "--work", str(tmp_path), "--seeds", "1",
                                     "--variants", "base", "constant"])  # fmt: skip
    out.unlink()
    recipes.main()
    assert len(read_json(out)["runs"]) == 4


def test_rooms_begin_with_the_direct_sound_and_decay(tmp_path: Path) -> None:
    recipes.make_rooms(tmp_path, 8000)
    files = sorted((tmp_path / "8000").glob("*.wav"))
    assert len(files) == 50
    for path in files:
        room, rate = soundfile.read(path)
        assert rate == 8000
        assert abs(room).argmax() == 0
        assert abs(room[-80:]).max() < 0.01 * abs(room[0])


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

    def of_hogwild(told: str) -> list[str]:
        return next([cell.strip() for cell in line.split("|")] for line in told.splitlines() if "hogwild" in line)

    assert of_hogwild(lab.table([*runs[:2], runs[2] | {"recipe": "other"}]))[6] == ""  # none of its own recipe
    assert of_hogwild(lab.table([*runs[:2], runs[2] | {"at_once": 2}]))[7] == "~0.50"


def test_seeds_that_are_tested_on_other_calls_are_compared_seed_by_seed() -> None:
    pairs = [
        (a_scored("hogwild", 0, [22] * 11, 50.0), a_scored("single", 0, [20] * 11, 50.0)),
        (a_scored("hogwild", 1, [11] * 12, 50.0), a_scored("single", 1, [10] * 12, 50.0)),
    ]
    assert lab.relative(pairs) == "+10.0 % (+10.0 to +10.0)"


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


def test_single_goes_first_and_others_of_one_process_may_have_company() -> None:
    turns = list(lab.turns(lab.planned(["demo", "digits"], 2), 2))
    assert [beside for _, beside in turns] == [1, 2, 1] * 4
    assert all(run.condition.processes == 1 for runs, beside in turns for run in runs if beside == 2)
    assert [run.condition.name for run in turns[0][0]] == ["single"]
    assert turns[1][0][0].condition.name == "single, a third of the batch"
    assert [run.seed for runs, _ in turns for run in runs] == [0] * 24 + [1] * 24


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
