"""What is particular to GPUs, as far as it shows without one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from speechmill.device import set_precision
from speechmill.errors import SpeechmillError
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
