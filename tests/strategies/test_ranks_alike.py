"""What goes wrong on one rank is dealt with on all of them alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import CRDNN, on_ranks, strategy_of, uneven

from speechmill.device import is_out_of_memory
from speechmill.errors import SpeechmillError
from speechmill.group import Group
from speechmill.losses import LossSum
from speechmill.models import recorded
from speechmill.models.crdnn import CrdnnRecognizer
from speechmill.settings import OptimSettings, Recipe, ScheduleSettings, TrainSettings
from speechmill.strategies.step import batch_loss, in_pieces, smaller


def recipe(strategy: str = "ddp", processes: int = 2) -> Recipe:
    train = TrainSettings(
        precision="float64", updates=100, strategy=strategy, processes=processes, average_every=1
    )  # fmt: skip
    return Recipe(
        model=CRDNN, schedule=ScheduleSettings(batches_per_update=4), optim=OptimSettings(lr=1e-2), train=train
    )


def broken(patched: Any, when: Any, how: Any) -> None:
    true_loss = CrdnnRecognizer.loss

    def loss(self: CrdnnRecognizer, features: torch.Tensor, *rest: Any, **named: Any) -> LossSum:
        found = true_loss(self, features, *rest, **named)
        return how(found) if when(features) else found

    patched.setattr(CrdnnRecognizer, "loss", loss)


def spoil(found: LossSum) -> LossSum:
    return LossSum(found.sum * float("nan"), found.count)


def run_out(found: LossSum) -> LossSum:
    del found
    raise torch.OutOfMemoryError("as on a GPU")


def with_nan_on_the_last_rank(group: Group, settings: Recipe) -> list[Any]:
    strategy = strategy_of(settings, group)
    outcome = []
    with pytest.MonkeyPatch.context() as patched:
        number = [0]
        broken(patched, lambda _: group.rank == group.size - 1 and number[0] == 1, spoil)
        for number[0] in range(3):
            stats = strategy.update([uneven(batch) for batch in strategy.mine(number[0])], number[0])
            weights = torch.cat([parameter.detach().reshape(-1) for parameter in strategy.model.parameters()])
            outcome.append((stats.skipped, stats.tokens, stats.ids, weights))
    return outcome


def test_a_batch_that_is_not_finite_is_skipped_on_all_ranks(tmp_path: Path) -> None:
    first, last = on_ranks(2, with_nan_on_the_last_rank, recipe(), folder=tmp_path)
    assert [update[0] for update in first] == [update[0] for update in last] == [0, 1, 0]
    bad = [name for number in (5, 7) for name in uneven(number).ids]  # rank 1's batches of update 1
    assert first[1][2] == last[1][2] == bad
    assert torch.equal(first[0][3], first[1][3]), "a skipped update changed something"
    assert not torch.equal(first[1][3], first[2][3])
    for ours, theirs in zip(first, last, strict=True):
        assert torch.equal(ours[3], theirs[3])


def short_of_memory(group: Group, settings: Recipe) -> list[Any]:
    strategy = strategy_of(settings, group)
    outcome = []
    with pytest.MonkeyPatch.context() as patched:
        broken(patched, lambda features: group.rank == group.size - 1 and features.shape[0] > 2, run_out)
        for number in range(3):
            stats = strategy.update([uneven(batch) for batch in strategy.mine(number)], number)
            weights = torch.cat([parameter.detach().reshape(-1) for parameter in strategy.model.parameters()])
            outcome.append((stats.tokens, stats.pieces, strategy.piece_limit, weights))  # type: ignore[attr-defined]
    return outcome


@pytest.mark.parametrize("strategy", ["ddp", "local_sgd"])
def test_out_of_memory_on_one_rank_cuts_batches_on_all(strategy: str, tmp_path: Path) -> None:
    ranks = on_ranks(2, short_of_memory, recipe(strategy), folder=tmp_path)
    for ours, theirs in zip(*ranks, strict=True):
        assert ours[:3] == theirs[:3]
        assert torch.equal(ours[3], theirs[3])
    assert ranks[0][-1][2] > 0
    assert sum(update[1] for update in ranks[0]) > 0
    every = sum(int(uneven(number).target_lengths.sum()) for number in range(12))
    assert sum(update[0] for update in ranks[0]) == every, "targets were lost or counted twice"


def test_alone_the_batch_is_cut_until_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    strategy = strategy_of(recipe("single", 1))
    broken(monkeypatch, lambda features: features.shape[0] > 1, run_out)
    stats = strategy.update([uneven(1)], 0)  # four utterances
    assert (stats.pieces, stats.tokens) == (1, int(uneven(1).target_lengths.sum()))
    assert len(in_pieces(uneven(1), strategy.piece_limit)) == 4  # type: ignore[attr-defined]
    monkeypatch.setattr("speechmill.strategies.single.smaller", lambda _: pytest.fail("it was not cut from then on"))
    assert strategy.update([uneven(1)], 1).pieces == 1


def test_recordings_give_their_memory_up_before_a_batch_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    strategy = strategy_of(recipe("single", 1))
    recordings, allowed = [True], []

    def is_full(_: torch.Tensor) -> bool:
        allowed.append(recorded._allowed)
        return bool(recordings)

    monkeypatch.setattr(recorded, "forget", lambda: bool(recordings) and recordings.pop())
    broken(monkeypatch, is_full, run_out)
    stats = strategy.update([uneven(1)], 0)
    assert (stats.pieces, strategy.piece_limit) == (0, 0)  # type: ignore[attr-defined]
    assert stats.tokens == int(uneven(1).target_lengths.sum())
    strategy.update([uneven(2)], 1)
    assert allowed == [True, False, True], "none are made while the update is made again"


def test_an_utterance_that_does_not_fit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    strategy = strategy_of(recipe("single", 1))
    broken(monkeypatch, lambda _: True, run_out)
    with pytest.raises(SpeechmillError, match=r"not enough memory for the utterance 'u1-0' alone .*max_seconds"):
        strategy.update([uneven(1)], 0)


def test_pieces_add_up_to_the_batch() -> None:
    batch = uneven(1)
    for limit in (1, batch.audio.shape[1] * 2, batch.audio.shape[1] * 3, batch.audio.numel()):
        pieces = in_pieces(batch, limit)
        assert [name for piece in pieces for name in piece.ids] == batch.ids
        assert all(piece.audio.numel() <= limit or len(piece.ids) == 1 for piece in pieces)
        assert sum(int(piece.lengths.sum()) for piece in pieces) == int(batch.lengths.sum())
        assert {piece.number for piece in pieces} == {batch.number}
    assert in_pieces(batch, 0) == [batch]
    assert 0 < smaller(batch) < batch.audio.numel()


def test_a_piece_has_dropout_of_its_own() -> None:
    settings = recipe("single", 1)
    model = strategy_of(settings).model
    losses = [batch_loss(model, uneven(1), settings, True, piece).sum.item() for piece in (0, 1, 0)]
    assert losses[0] == losses[2] != losses[1]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), True),
        (torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be reported later"), True),
        (torch.AcceleratorError("CUDA error: an illegal memory access: shapes"), False),
        (RuntimeError("shapes do not match"), False),
    ],
)
def test_what_says_that_memory_is_full(error: RuntimeError, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_out_of_memory(error) is expected
    strategy = strategy_of(recipe("single", 1))

    def fail(found: LossSum) -> LossSum:
        del found
        raise error

    broken(monkeypatch, lambda features: features.shape[0] > 1, fail)
    if expected:
        assert strategy.update([uneven(1)], 0).pieces == 1
    else:
        with pytest.raises(RuntimeError, match="shapes"):
            strategy.update([uneven(1)], 0)
