from __future__ import annotations

from pathlib import Path

import pytest

from speechmill.config import override_recipe
from speechmill.metrics import read_metrics
from speechmill.settings import Recipe
from speechmill.train.checkpoint import checkpoints
from speechmill.train.early import early_stop, patience_outlasts, since_better
from speechmill.train.loop import train
from trained import same_weights, tiny_recipe, train_until

LOSSES = [3.0, 2.0, 1.0, 0.999, 0.998, 0.997, 0.996, 0.995]


def a_recipe(*settings: str) -> Recipe:
    return override_recipe(Recipe(), [*settings])


def test_the_thesis_stops_after_five_stagnant_epochs() -> None:
    thesis = a_recipe("train.stagnant_epochs=5", "loss.ctc_epochs=0")
    assert [bool(early_stop(thesis, LOSSES[:count], [])) for count in range(1, 9)] == [False] * 7 + [True]
    assert "5 nominal epochs" in early_stop(thesis, LOSSES, [])


def test_losses_with_and_without_ctc_are_not_compared() -> None:
    thesis = a_recipe("train.stagnant_epochs=5", "loss.ctc_epochs=15")
    joint = [2.0 - 0.06 * epoch for epoch in range(15)]
    alone = [1.45 - 0.03 * epoch for epoch in range(15)]  # higher at first, and falling all along
    assert not any(early_stop(thesis, (joint + alone)[:count], []) for count in range(31))
    assert early_stop(thesis, [*joint, 1.45, *[1.44] * 5], [])
    assert early_stop(thesis, [1.0] * 6, []), "before CTC is given up, too"


def test_a_ctc_recognizer_has_one_loss_all_along() -> None:
    losses = [1.0] * 16
    assert early_stop(a_recipe("train.stagnant_epochs=15", "loss.ctc_epochs=15", "model.kind=ctc"), losses, [])
    assert not early_stop(a_recipe("train.stagnant_epochs=15", "loss.ctc_epochs=15"), losses, [])


def test_by_word_error_rate() -> None:
    recipe = a_recipe("train.stagnant_validations=2")
    assert not early_stop(recipe, LOSSES, [0.5, 0.4, 0.4])
    assert "2 validations" in early_stop(recipe, LOSSES, [0.5, 0.4, 0.4, 0.41])
    assert not early_stop(recipe, LOSSES, [0.5, 0.4, 0.4, 0.39])


def test_without_patience_it_never_stops() -> None:
    assert early_stop(Recipe(), [1.0] * 99, [0.5] * 99) == ""


def test_patience_that_training_cannot_outlast_is_told() -> None:
    def told(updates: int) -> str:
        patience = ["train.stagnant_epochs=5", "train.nominal_epoch=600"]
        return patience_outlasts(a_recipe(*patience, f"train.updates={updates}"))

    assert told(3600).startswith("train.stagnant_epochs 5 of train.nominal_epoch 600 updates cannot end")
    assert told(3601) == ""
    assert patience_outlasts(Recipe()) == ""


def test_since_better() -> None:
    assert since_better([], 0.0) == 0
    assert since_better([1.0], 0.0) == 0
    assert since_better([1.0, 1.0, 2.0], 0.0) == 2
    assert since_better([1.0, 0.95, 0.85], 0.1) == 0  # 0.85 is lower than 0.95 by more than a tenth


def test_training_ends_there_and_resumed_it_ends_at_the_same_update(
    shards: Path, tokenizer_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No epoch's loss is lower by nine tenths than all before: the second and third are stagnant.
    recipe = override_recipe(tiny_recipe(shards, tokenizer_path), [
        "train.stagnant_epochs=2", "train.stagnant_share=0.9", "train.nominal_epoch=4", "train.validate_every=4",
    ])  # fmt: skip
    whole = train(recipe, tmp_path / "whole")
    assert (whole.updates, whole.finished, "2 nominal epochs" in whole.early) == (12, True, True)
    with monkeypatch.context() as patched:
        assert train_until(recipe, tmp_path / "run", 10, patched).updates == 10
    report = train(recipe, tmp_path / "run")
    assert (report.updates, report.early) == (12, whole.early)
    assert same_weights(whole.run, report.run)
    assert read_metrics(report.run)[-1]["early"] == whole.early
    assert train(recipe, report.run).already_whole
    assert checkpoints(report.run)[-1].name == "step_00000012"
