"""The comparison of training times: their side runs, and what is told of both is right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import soundfile
from benchmarks import time_to_wer

from conftest import RATE
from speechmill.artefact import read_json
from speechmill.settings import CrdnnSettings, ScheduleSettings
from trained import tiny_recipe

CRDNN = CrdnnSettings(
    cnn_channels=[4, 4], rnn_layers=1, rnn_size=8, dnn_blocks=1, dnn_size=8, embedding_size=6, decoder_size=8,
    attention_size=8, attention_channels=2, attention_kernel=5, dropout=0.1, mask_padding=True,
)  # fmt: skip


@pytest.mark.parametrize("order", ["random", "curriculum"])
def test_their_side_trains_and_is_validated(order: str, shards: Path, tokenizer_path: Path, tmp_path: Path) -> None:
    tiny = tiny_recipe(shards, tokenizer_path)
    recipe = tiny.model_copy(
        update={
            "model": CRDNN,
            "schedule": ScheduleSettings(target_seconds=8, limit_seconds=12, order="ascending", order_epochs=1),
            "train": tiny.train.model_copy(update={"updates": 17, "validate_every": 8}),
        }
    )
    curve = time_to_wer.their_curve(recipe, tmp_path, "fp32", order)
    assert [update for update, _, _ in curve] == [8, 16, 17]  # more than an epoch of 48 utterances
    assert 0 < curve[0][1] <= curve[1][1] <= curve[2][1]
    assert all(wer >= 0 for _, _, wer in curve)
    wavs = list((tmp_path / "wavs").glob("*.wav"))
    assert len(wavs) == 48
    assert soundfile.info(wavs[0]).samplerate == RATE


def test_each_seed_is_kept_and_another_recipe_is_not_mixed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "times.json"
    monkeypatch.setattr(time_to_wer, "prepared", lambda *_: tmp_path)
    monkeypatch.setattr(time_to_wer, "our_curve", lambda *_: [(10, 5.0, 0.2)])
    monkeypatch.setattr(time_to_wer, "their_curve", lambda *_: [(10, 10.0, 0.2)])

    def call(*words: str) -> None:
        monkeypatch.setattr("sys.argv", ["time_to_wer", "ours", "theirs", "--out", str(out), *words])
        time_to_wer.main()

    call("--seed", "0")
    call("--seed", "1")
    found = read_json(out)
    assert found["ratio_of_seed"] == {"0": 0.5, "1": 0.5}
    assert len(found["runs"]) == 4
    with pytest.raises(SystemExit):
        call("--seed", "2", "--set", "train.updates=600")
    assert read_json(out) == found


def a_run(side: str, seed: int, curve: list[tuple[int, float, float]], order: str = "curriculum") -> dict[str, Any]:
    return {"side": side, "seed": seed, "precision": "fp32", "order": order, "curve": curve}


OURS = [(10, 5.0, 0.4), (20, 10.0, 0.3), (30, 15.0, 0.2)]
THEIRS = [(10, 10.0, 0.4), (20, 20.0, 0.3), (30, 30.0, 0.35), (40, 60.0, 0.25)]


def test_the_ratio_is_to_the_fastest_of_theirs_on_the_same_seed() -> None:
    runs = [
        a_run("ours", 0, OURS),
        a_run("theirs", 0, [(10, 12.0, 0.4), (20, 24.0, 0.31), (30, 36.0, 0.25)], order="random"),
        a_run("theirs", 0, THEIRS),
    ]
    found = time_to_wer.summary(runs, 0.3)
    half = {"ratio": 0.5, "ratio_of_seed": {"0": 0.5}, "note": ""}
    assert found == {
        "target": 0.3, **half, "runs": runs, "theirs_of_seed": {"0": ["fp32, curriculum", "fp32, random"]},
        "at_targets": {"0.25": {"ratio": 0.417, "ratio_of_seed": {"0": 0.417}, "note": ""}, "0.3": half, "0.4": half},
    }  # fmt: skip


@pytest.mark.parametrize("late", ["ours", "theirs"])
def test_a_seed_that_a_side_has_lost_is_not_left_out(late: str) -> None:
    runs = [a_run(side, seed, OURS) for side in ("ours", "theirs") for seed in (0, 1)]
    assert time_to_wer.summary(runs, 0.3)["ratio"] == 1.0
    lost = [run | {"curve": [(10, 5.0, 0.5)]} if (run["side"], run["seed"]) == (late, 1) else run for run in runs]
    found = time_to_wer.summary(lost, 0.3)
    assert (found["ratio"], found["ratio_of_seed"]) == (None, {"0": 1.0, "1": None})
    assert "on seeds 1" in found["note"]
    assert time_to_wer.summary(runs[:-1], 0.3)["ratio"] is None, "theirs was not run with seed 1"


def test_seeds_on_which_theirs_was_tried_otherwise_have_no_median() -> None:
    runs = [a_run(side, seed, OURS) for side in ("ours", "theirs") for seed in (0, 1)]
    for order in ("random", "curriculum"):  # a second try of the same kind is one more chance, too
        found = time_to_wer.summary([*runs, a_run("theirs", 1, THEIRS, order)], 0.3)
        assert (found["ratio"], found["ratio_of_seed"]) == (None, {"0": 1.0, "1": 1.0})
        assert "not run in the same ways" in found["note"]


def test_the_time_of_validations_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`seconds` of a line are those of the run until it was written, its own validation among them."""
    lines = [
        {"event": "train", "update": 50, "seconds": 20.0, "loss": 3.0},
        {"event": "valid", "update": 100, "seconds": 50.0, "valid_seconds": 10.0, "wer": 0.6},
        {"event": "valid", "update": 200, "seconds": 95.0, "valid_seconds": 5.0, "wer": 0.4},
        {"event": "end", "update": 200, "seconds": 96.0},
    ]

    def train(*words: object) -> None:
        assert words == ("train", time_to_wer.RECIPE, "--run", tmp_path / "run", "train.seed=3")
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    monkeypatch.setattr(time_to_wer, "speechmill", train)
    assert time_to_wer.our_curve(tmp_path / "run", ["train.seed=3"]) == [(100, 40.0, 0.6), (200, 80.0, 0.4)]
