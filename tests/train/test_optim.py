from __future__ import annotations

import pytest
import torch

from speechmill.settings import OptimSettings
from speechmill.train.optim import annealing, build_optimizer, learning_rate


def rates(updates: int, **settings: object) -> list[float]:
    return [learning_rate(OptimSettings(lr=0.5, **settings), update, updates) for update in range(updates)]


def test_warm_up_rises_to_the_rate() -> None:
    assert rates(8, warmup_updates=4) == pytest.approx([0.125, 0.25, 0.375, 0.5, 0.5, 0.5, 0.5, 0.5])


def test_linear_ends_at_final_lr() -> None:
    assert rates(5, schedule="linear", final_lr=0.0) == pytest.approx([0.5, 0.375, 0.25, 0.125, 0.0])


def test_cosine_is_half_way_in_the_middle() -> None:
    found = rates(7, schedule="cosine", final_lr=0.1, warmup_updates=2)
    assert found[2] == pytest.approx(0.5)
    assert found[4] == pytest.approx(0.275)
    assert found[-1] == pytest.approx(0.05)
    assert found[2:] == sorted(found[2:], reverse=True)


def test_behind_the_end_it_stays() -> None:
    assert learning_rate(OptimSettings(lr=1.0, schedule="linear", final_lr=0.1), 99, 10) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("kind", "expected"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_optimizers(kind: str, expected: type) -> None:
    settings = OptimSettings(kind=kind, lr=0.3, betas=(0.8, 0.9), weight_decay=0.02)
    optimizer = build_optimizer([torch.nn.Parameter(torch.zeros(2))], settings)
    assert type(optimizer) is expected
    assert optimizer.defaults["lr"] == 0.3
    assert optimizer.defaults["weight_decay"] == 0.02
    assert optimizer.defaults.get("betas", (0.8, 0.9)) == (0.8, 0.9)


def test_noam_peaks_at_its_rate_and_falls_with_the_root() -> None:
    found = rates(64, schedule="noam", warmup_updates=4)
    assert max(found) == found[3] == pytest.approx(0.5)
    assert found[15] == pytest.approx(0.25)
    assert found[63] == pytest.approx(0.125)
    from speechbrain.nnet.schedulers import NoamScheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    theirs = NoamScheduler(0.5, 4)
    assert found == pytest.approx([theirs(optimizer)[1] for _ in found])


def test_noam_needs_a_warm_up() -> None:
    with pytest.raises(ValueError, match="set warmup_updates"):
        OptimSettings(schedule="noam")


def test_stable_then_decay() -> None:
    found = rates(20, schedule="wsd", warmup_updates=2, decay_share=0.25, final_lr=0.0)
    assert found[:2] == pytest.approx([0.25, 0.5])
    assert found[2:16] == pytest.approx([0.5] * 14)
    assert found[15:] == pytest.approx([0.5, 0.375, 0.25, 0.125, 0.0])


@pytest.mark.parametrize("patience", [0, 1, 2])
def test_newbob_anneals_as_speechbrains(patience: int) -> None:
    from speechbrain.nnet.schedulers import NewBobScheduler

    settings = OptimSettings(schedule="newbob", anneal_factor=0.8, anneal_below=0.01, anneal_patience=patience)
    theirs = NewBobScheduler(1.0, annealing_factor=0.8, improvement_threshold=0.01, patient=patience)
    wers = [0.9, 0.5, 0.499, 0.4, 0.41, 0.3999, 0.0, 0.0, 0.1]
    for count in range(1, len(wers) + 1):
        assert annealing(settings, wers[:count]) == pytest.approx(theirs(wers[count - 1])[1])
    assert learning_rate(settings, 7, 10, annealing(settings, wers)) == pytest.approx(
        settings.lr * annealing(settings, wers)
    )
    assert annealing(OptimSettings(schedule="constant"), wers) == 1.0
