"""What is particular to GPUs, as far as it shows without one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from speechmill import group as groups
from speechmill.device import set_precision
from speechmill.errors import SpeechmillError
from speechmill.group import Ranks
from speechmill.settings import Recipe, TrainSettings
from speechmill.strategies.step import effective_precision


@pytest.fixture
def _as_before() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.mark.usefixtures("_as_before")
def test_float32_is_float32_in_convolutions_too() -> None:
    for precision in ("tf32", "float32", "bfloat16"):
        set_precision(precision, torch.device("cuda"))
        found = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        assert found == (precision == "tf32",) * 2


def test_tf32_is_of_gpus() -> None:
    with pytest.raises(SpeechmillError, match=r"train\.precision tf32 is of GPUs.*train\.precision=auto"):
        set_precision("tf32", torch.device("cpu"))


@pytest.mark.parametrize("fast", [True, False])
def test_auto_takes_no_bfloat16_that_is_only_emulated(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation=True: fast or including_emulation)
    found = effective_precision(Recipe(train=TrainSettings(precision="auto")), torch.device("cuda"))
    assert found == ("bfloat16" if fast else "float32")


def test_who_does_not_come_is_waited_for_where_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """NCCL's calls return at once: the wait for the GPU is the one that a missing rank prolongs."""
    told: list[str] = []

    class Told:
        def __getattr__(self, name: str) -> Any:
            return lambda *_, **__: told.append(name)

    ranks = object.__new__(Ranks)
    ranks._watch = Told()  # type: ignore[assignment]
    monkeypatch.setattr(groups, "dist", Told())
    monkeypatch.setattr(groups, "settle", lambda _: told.append("settle"))
    ranks.add(torch.zeros(1))
    assert told == ["arrive", "all_reduce", "settle", "leave"]
    told.clear()
    ranks.copy_first([torch.zeros(1), torch.zeros(2)])
    assert told == ["arrive", "broadcast", "broadcast", "settle", "leave"]
