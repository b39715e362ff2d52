from __future__ import annotations

import pytest
import torch

from speechmill.settings import OptimSettings
from speechmill.train.optim import build_optimizer, learning_rate


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
