from __future__ import annotations

from speechmill.settings import TrainSettings
from speechmill.train.early import early_stop, since_better

LOSSES = [3.0, 2.0, 1.0, 0.999, 0.998, 0.997, 0.996, 0.995]


def test_the_thesis_stops_after_five_stagnant_epochs() -> None:
    thesis = TrainSettings(stagnant_epochs=5, stagnant_share=0.01)
    assert [bool(early_stop(thesis, LOSSES[:count], [])) for count in range(1, 9)] == [False] * 7 + [True]
    assert "5 nominal epochs" in early_stop(thesis, LOSSES, [])


def test_by_word_error_rate() -> None:
    settings = TrainSettings(stagnant_validations=2)
    assert not early_stop(settings, LOSSES, [0.5, 0.4, 0.4])
    assert "2 validations" in early_stop(settings, LOSSES, [0.5, 0.4, 0.4, 0.41])
    assert not early_stop(settings, LOSSES, [0.5, 0.4, 0.4, 0.39])


def test_without_patience_it_never_stops() -> None:
    assert early_stop(TrainSettings(), [1.0] * 99, [0.5] * 99) == ""


def test_since_better() -> None:
    assert since_better([], 0.0) == 0
    assert since_better([1.0], 0.0) == 0
    assert since_better([1.0, 1.0, 2.0], 0.0) == 2
    assert since_better([1.0, 0.95, 0.85], 0.1) == 0  # 0.85 is lower than 0.95 by more than a tenth
