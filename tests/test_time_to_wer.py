"""The comparison of training times: their side runs, and what is told of both is right."""

from __future__ import annotations

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


def a_run(side: str, seed: int, curve: list[tuple[int, float, float]]) -> dict[str, Any]:
    return {"side": side, "seed": seed, "curve": curve}


def test_the_ratio_is_to_the_fastest_of_theirs_on_the_same_seed() -> None:
    runs = [
        a_run("ours", 0, [(10, 5.0, 0.4), (20, 10.0, 0.3), (30, 15.0, 0.2)]),
        a_run("theirs", 0, [(10, 12.0, 0.4), (20, 24.0, 0.31), (30, 36.0, 0.25)]),
        a_run("theirs", 0, [(10, 10.0, 0.4), (20, 20.0, 0.3), (30, 30.0, 0.35)]),
        a_run("ours", 1, [(10, 5.0, 0.2)]),
    ]
    assert time_to_wer.summary(runs, 0.3) | {"runs": None} == {
        "target": 0.3, "ratio": 0.5, "ratio_of_seed": {"0": 0.5}, "runs": None,
    }  # fmt: skip
    assert time_to_wer.summary(runs, 0.1)["ratio"] is None
