"""Losses against sums over every alignment, and against PyTorch's."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from speechmill.losses import LossSum, ctc_loss, joint, smoothed_nll
from speechmill.tokenizer import ANYTHING


def collapsed(path: tuple[int, ...]) -> list[int]:
    return [token for token, _ in itertools.groupby(path) if token != 0]


def brute_force_ctc(log_probs: torch.Tensor, target: list[int]) -> float:
    """-log of the summed probability of all paths that collapse to the target."""
    steps, tokens = log_probs.shape
    total = sum(
        math.exp(sum(log_probs[t, token].item() for t, token in enumerate(path)))
        for path in itertools.product(range(tokens), repeat=steps)
        if collapsed(path) == target
    )
    return -math.log(total) if total else math.inf


def random_log_probs(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).log_softmax(-1)


def test_ctc_is_the_sum_over_alignments() -> None:
    log_probs = random_log_probs(3, 5, 4)
    lengths, targets = torch.tensor([5, 4, 3]), torch.tensor([[1, 2, 0], [3, 3, 0], [2, 0, 0]])
    target_lengths = torch.tensor([2, 2, 1])
    loss = ctc_loss(log_probs, lengths, targets, target_lengths)
    expected = [
        brute_force_ctc(log_probs[row, : lengths[row]], targets[row, : target_lengths[row]].tolist())
        for row in range(3)
    ]
    assert loss.sum.item() == pytest.approx(sum(expected), rel=1e-12)
    assert loss.count == 5


WITH_WILDCARDS = [[1, ANYTHING, 2], [ANYTHING, 3], [2, ANYTHING], [ANYTHING]]


def wildcards() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    lengths, target_lengths = torch.tensor([5, 4, 3, 4]), torch.tensor([len(row) for row in WITH_WILDCARDS])
    return lengths, torch.tensor([[*row, 0, 0][:3] for row in WITH_WILDCARDS]), target_lengths


def test_a_wildcard_is_as_likely_as_the_likeliest_token() -> None:
    """As if there were one more token, with that one's probability at every frame."""
    log_probs = random_log_probs(4, 5, 4)
    lengths, targets, target_lengths = wildcards()
    loss = ctc_loss(log_probs, lengths, targets, target_lengths)
    more = torch.cat([log_probs, log_probs.amax(-1, keepdim=True)], dim=-1)
    expected = [
        brute_force_ctc(more[row, : lengths[row]], [4 if token == ANYTHING else token for token in target])
        for row, target in enumerate(WITH_WILDCARDS)
    ]
    assert loss.sum.item() == pytest.approx(sum(expected), rel=1e-12)
    assert loss.count == 4  # 1, 2, 3 and 2


def test_a_wildcard_swallows_nothing_while_the_model_knows_nothing() -> None:
    """Of equally likely tokens each lasts as long as any other."""
    log_probs = torch.full((1, 100, 50), 1 / 50, dtype=torch.float64).log().requires_grad_()
    targets = torch.tensor([[*range(1, 11), ANYTHING, *range(11, 21)]])
    ctc_loss(log_probs, torch.tensor([100]), targets, torch.tensor([21])).sum.backward()
    assert log_probs.grad is not None
    lasts = log_probs.detach().exp() - log_probs.grad  # what PyTorch gives is probability less expected frames
    assert float(lasts[0, :, 1:21].sum()) > 0.9 * 20 / 21 * float(100 - lasts[0, :, 0].sum())


def test_the_gradient_beside_a_wildcard_is_that_of_the_loss() -> None:
    logits = torch.randn(4, 5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    rest = wildcards()
    constant = logits.detach().log_softmax(-1).amax(-1, keepdim=True)

    def loss(z: torch.Tensor) -> torch.Tensor:
        """The same, of which a wildcard's probability is no function."""
        return torch.nn.functional.ctc_loss(
            torch.cat([z.log_softmax(-1), constant], -1).transpose(0, 1),
            rest[1].where(rest[1] != ANYTHING, torch.tensor(4)), rest[0], rest[2], reduction="sum",
        )  # fmt: skip

    assert torch.autograd.gradcheck(loss, logits)
    found = torch.autograd.grad(ctc_loss(logits.log_softmax(-1), *rest).sum, logits)[0]
    torch.testing.assert_close(found, torch.autograd.grad(loss(logits), logits)[0])


def test_nothing_is_learned_of_what_a_decoder_says_at_a_wildcard() -> None:
    log_probs = random_log_probs(1, 3, 4).requires_grad_()
    loss = smoothed_nll(log_probs, torch.tensor([[1, ANYTHING, 2]]), torch.tensor([3]), 0.1)
    loss.sum.backward()
    assert log_probs.grad is not None
    assert log_probs.grad.abs().sum(-1)[0].gt(0).tolist() == [True, False, True]
    assert loss.count == 2


def test_ctc_counts_an_impossible_utterance_as_zero() -> None:
    log_probs = random_log_probs(2, 2, 4).requires_grad_()
    targets = torch.tensor([[1, 1], [1, 2]])  # 1 1 needs a blank between: three frames
    loss = ctc_loss(log_probs, torch.tensor([2, 2]), targets, torch.tensor([2, 2]))
    assert loss.sum.item() == pytest.approx(brute_force_ctc(log_probs[1].detach(), [1, 2]))
    loss.sum.backward()
    assert log_probs.grad is not None
    assert not log_probs.grad[0].any()
    assert log_probs.grad[1].isfinite().all()


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_smoothed_nll_is_pytorchs(smoothing: float) -> None:
    # PyTorch's label_smoothing spreads its share over all classes, the true one too, as the mean here does.
    logits = torch.randn(2, 4, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    targets, lengths = torch.tensor([[1, 2, 3, 4], [6, 5, 0, 0]]), torch.tensor([4, 2])
    loss = smoothed_nll(logits.log_softmax(-1), targets, lengths, smoothing)
    inside = torch.cat([logits[0], logits[1, :2]])
    expected = torch.nn.functional.cross_entropy(
        inside, torch.tensor([1, 2, 3, 4, 6, 5]), label_smoothing=smoothing, reduction="sum"
    )
    torch.testing.assert_close(loss.sum, expected)
    assert loss.count == 6


def test_padding_has_no_gradient() -> None:
    log_probs = random_log_probs(2, 4, 7).requires_grad_()
    smoothed_nll(log_probs, torch.zeros(2, 4, dtype=torch.long), torch.tensor([4, 1]), 0.1).sum.backward()
    assert log_probs.grad is not None
    assert log_probs.grad[1, 0].any()
    assert not log_probs.grad[1, 1:].any()


def test_sums_over_parts_of_a_batch_add_up() -> None:
    log_probs = random_log_probs(4, 6, 5)
    targets = torch.tensor([[1, 2], [3, 0], [4, 4], [2, 1]])
    lengths, target_lengths = torch.tensor([6, 5, 6, 4]), torch.tensor([2, 1, 2, 2])
    for loss in (
        lambda rows: ctc_loss(log_probs[rows], lengths[rows], targets[rows], target_lengths[rows]),
        lambda rows: smoothed_nll(log_probs[rows, :2], targets[rows], target_lengths[rows], 0.1),
    ):
        whole, first, rest = loss(slice(0, 4)), loss(slice(0, 1)), loss(slice(1, 4))
        torch.testing.assert_close(whole.sum, first.sum + rest.sum)
        assert whole.count == first.count + rest.count == 7


def test_joint_weighs_sums() -> None:
    parts = [(0.25, LossSum(torch.tensor(4.0), 3)), (0.75, LossSum(torch.tensor(8.0), 2))]
    assert joint(parts, 2) == LossSum(torch.tensor(7.0), 2)
