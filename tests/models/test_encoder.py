"""The encoder gives SpeechBrain's outputs and gradients; masked, each utterance's own."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from speechmill.config import load_recipe
from speechmill.models.convolution import Block, convolve, largest, pad
from speechmill.models.encoder import CrdnnEncoder, convolve_plainly, reference_encoder
from speechmill.models.products import Columns, Direct, Product, Winograd
from speechmill.models.recurrent import bidirectional
from speechmill.settings import CrdnnSettings, FeatureSettings

HPARAMS = Path(__file__).resolve().parents[2] / "hparams"
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}


def sizes(**changed: object) -> CrdnnSettings:
    small = {"rnn_layers": 2, "rnn_size": 8, "dnn_blocks": 2, "dnn_size": 8, "dropout": 0.0}
    return CrdnnSettings.model_validate(small | changed)


def close(found: Tensor, expected: Tensor, scale: float = 0.0) -> None:
    """To the tolerance of the type, of the tensor's largest number, or of `scale` where that is larger."""
    most = max(float(expected.detach().abs().max()), scale)
    assert float((found - expected).detach().abs().max()) <= TOLERANCE[expected.dtype] * most


def same_gradients(found: nn.Module, expected: nn.Module) -> None:
    """Of all parameters. A bias before batch normalisation has none but rounding: the scale is that of its layer."""
    theirs = dict(expected.named_parameters())
    for name, parameter in found.named_parameters():
        other = theirs[name]
        assert parameter.grad is not None, name
        assert other.grad is not None, name
        beside = theirs.get(name.replace(".bias", ".weight"), other)
        assert beside.grad is not None
        close(parameter.grad, other.grad, float(beside.grad.abs().max()))


def distance(found: nn.Module, expected: nn.Module) -> dict[str, float]:
    """How far the gradients of the weights are apart, relative to their norm."""
    theirs = dict(expected.named_parameters())
    far = {}
    for name, parameter in found.named_parameters():
        other = theirs[name].grad
        assert parameter.grad is not None
        assert other is not None
        if name.endswith("weight"):
            far[name] = float((parameter.grad - other).norm() / other.norm())
    return far


def pair(settings: CrdnnSettings, dtype: torch.dtype) -> tuple[CrdnnEncoder, nn.Module]:
    torch.manual_seed(0)
    ours, theirs = CrdnnEncoder(FeatureSettings(), settings), reference_encoder(FeatureSettings(), settings)
    theirs.load_state_dict(ours.state_dict())
    return ours.to(dtype).train(), theirs.to(dtype).train()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    "changed",
    [
        {"cnn_channels": [4, 8]},
        {"cnn_channels": [64, 48]},  # by Winograd
        {"cnn_channels": [4], "cnn_kernel": 5, "time_pooling": 3},
        {"cnn_channels": [4, 6, 5], "cnn_kernel": 1, "time_pooling": 2},
    ],
)
def test_outputs_and_gradients_are_speechbrains(changed: dict[str, object], dtype: torch.dtype) -> None:
    ours, theirs = pair(sizes(**changed), dtype)
    features = torch.randn(3, 61, 40, dtype=dtype)
    found, expected = ours(features), theirs(features)
    close(found, expected)
    grad = torch.randn_like(expected)
    found.backward(grad)
    expected.backward(grad)
    same_gradients(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_at_the_thesis_sizes(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.init, "orthogonal_", lambda weights: weights)  # takes seconds
    settings = load_recipe(HPARAMS / "train.yaml").model
    assert isinstance(settings, CrdnnSettings)
    ours, theirs = pair(settings.model_copy(update={"dropout": 0.0}), dtype)
    features = torch.randn(1, 45, 40, dtype=dtype)
    found, expected = ours(features), theirs(features)
    close(found, expected)
    grad = torch.randn_like(expected)
    found.backward(grad)
    expected.backward(grad)
    same_gradients(ours, theirs)


@pytest.mark.parametrize("channels", [[4, 8], [48, 64]])
@pytest.mark.parametrize("plain", [False, True])
def test_masked_padding_is_as_speechbrains_alone(channels: list[int], plain: bool) -> None:
    ours, theirs = pair(sizes(cnn_channels=channels, mask_padding=True), torch.float64)
    ours.eval(), theirs.eval()  # so that batch normalisation is the same for one as for many
    ours.plain = plain
    frames = torch.tensor([61, 41, 5])
    features = torch.randn(3, 61, 40, dtype=torch.float64)  # what stands behind the ends must not matter
    found, steps = ours(features, frames), ours.steps(frames)
    assert steps.tolist() == [15, 10, 1]
    grad = torch.randn_like(found)
    found.backward(grad)
    for row, (length, most) in enumerate(zip(frames.tolist(), steps.tolist(), strict=True)):
        alone = theirs(features[row : row + 1, :length])
        assert alone.shape[1] == most
        close(found[row, :most], alone[0])
        assert not found[row, most:].any()
        alone.backward(grad[row : row + 1, :most])
    same_gradients(ours, theirs)


@pytest.mark.parametrize("channels", [[4, 8], [48, 64]])
@pytest.mark.parametrize("plain", [False, True])
def test_masked_training_is_speechbrains_without_the_padding(channels: list[int], plain: bool) -> None:
    ours, theirs = pair(sizes(cnn_channels=channels, mask_padding=True), torch.float64)
    ours.plain = plain
    features = torch.randn(3, 44, 40, dtype=torch.float64)
    padded = torch.cat([features, torch.randn(3, 17, 40, dtype=torch.float64)], dim=1)
    found, expected = ours(padded, torch.tensor([44] * 3)), theirs(features)
    close(found[:, :11], expected)
    grad = torch.randn_like(found)
    found.backward(grad)
    expected.backward(grad[:, :11])
    same_gradients(ours, theirs)


def test_masked_batch_normalisation_hears_no_padding() -> None:
    ours, _ = pair(sizes(cnn_channels=[4], mask_padding=True), torch.float64)
    features, frames = torch.randn(2, 40, 40, dtype=torch.float64), torch.tensor([40, 24])
    longer = torch.cat([features, torch.randn(2, 24, 40, dtype=torch.float64)], dim=1)
    close(ours(longer, frames)[:, :10], ours(features, frames))


def test_dropout_leaves_whole_bins_out() -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 12, 10, 3)
    keep = torch.nn.functional.dropout(torch.ones(2, 5), 0.5)
    block = Block(
        torch.randn(4, 3, 3, 3), torch.randn(4), torch.ones(10, 4), torch.zeros(10, 4), 1e-5, 2, keep, margin=0
    )
    found = convolve(pad(images, torch.tensor([12, 12]), 1), block).data
    for image in range(2):
        for bin_ in range(5):
            assert bool(found[image, :, bin_].any()) == bool(keep[image, bin_])
    close(found, convolve_plainly(images, None, block))


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("pool", [1, 2, 3])
def test_a_step_is_the_plain_one(pool: int, keep: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a batch is cut into pieces, of one image and of several."""
    torch.manual_seed(0)
    ends = torch.tensor([18, 7, 18])
    factors = torch.tensor([[0.0, 2.0, 2.0, 0.0, 2.0] * 2] * 3, dtype=torch.float64)[:, : 10 // pool] if keep else None
    leaves = [
        torch.randn(*shape, dtype=torch.float64) for shape in ((3, 18, 10, 5), (6, 5, 3, 3), (6,), (10, 6), (10, 6))
    ]
    results = []
    for size in (0, 500, 5000, 2**20):
        monkeypatch.setattr("speechmill.models.convolution._PIECE", size)
        images, *parameters = (leaf.clone().requires_grad_() for leaf in leaves)
        block = Block(*parameters, 1e-5, pool, factors, margin=1)
        if size:
            found = convolve(pad(images, ends, 1), block).inside()[:, :18]
        else:
            found = convolve_plainly(images, ends, block)
        weight = torch.randn(found.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        for row, end in enumerate(ends.tolist()):
            weight[row, end:] = 0
        (found * weight).sum().backward()
        results.append([found * (weight != 0), *(leaf.grad for leaf in (images, *parameters))])
    for other in results[1:]:
        for found, expected in zip(other, results[0], strict=True):
            close(found, expected)


@pytest.mark.parametrize("kind", [Columns, Winograd])
def test_the_products_agree(kind: type[Product]) -> None:
    torch.manual_seed(0)
    weight, bias = torch.randn(7, 5, 3, 3, dtype=torch.float64), torch.randn(7, dtype=torch.float64)
    x = torch.randn(2, 18, 12, 5, dtype=torch.float64)
    fast, slow = kind(weight, bias), Direct(weight, bias)  # type: ignore[call-arg]
    y = slow.forward(x)
    close(fast.forward(x), y)
    for _ in range(2):  # gradients add up over pieces
        grad = torch.randn_like(y)
        found, expected = fast.backward(grad, x, True), slow.backward(grad, x, True)
        assert found is not None
        assert expected is not None
        close(found, expected)
    for found, expected in zip(fast.gradients(), slow.gradients(), strict=True):
        close(found, expected)


def test_the_lstm_is_that_of_packed_sequences() -> None:
    torch.manual_seed(0)
    lstm = nn.LSTM(5, 4, 3, batch_first=True, bidirectional=True).double()
    x, steps = torch.randn(3, 9, 5, dtype=torch.float64), torch.tensor([4, 9, 1])
    packed = nn.utils.rnn.pack_padded_sequence(x, steps, batch_first=True, enforce_sorted=False)
    expected, _ = nn.utils.rnn.pad_packed_sequence(lstm(packed)[0], batch_first=True)
    inside = torch.arange(9) < steps[:, None]
    close(bidirectional(lstm, x, steps)[inside], expected[inside])


def test_bfloat16_is_as_near_as_speechbrains() -> None:
    ours, theirs = pair(sizes(cnn_channels=[64, 64]), torch.float32)
    wide = copy.deepcopy(theirs).double()
    features = torch.randn(2, 60, 40)
    with torch.autocast("cpu", torch.bfloat16):
        found, same = ours(features).float(), theirs(features).float()
    expected = wide(features.double())
    grad = torch.randn_like(same)
    for output in (found, same, expected):
        output.backward(grad.to(output.dtype))
    error, of_speechbrain = (
        float((one - expected).detach().norm() / expected.detach().norm()) for one in (found.detach(), same.detach())
    )
    assert error < 1.3 * of_speechbrain < 0.1
    far, of_speechbrain_far = distance(ours, wide), distance(theirs, wide)
    for name, value in far.items():
        assert value < 1.3 * of_speechbrain_far[name] + 0.01 < 0.5, name


def test_the_largest_of_equals_is_the_first() -> None:
    x = torch.tensor([[[1.0, 5.0], [3.0, 5.0], [3.0, 2.0]]], requires_grad=True)
    found = largest(x)
    assert found.tolist() == [[3.0, 5.0]]
    found.backward(torch.tensor([[7.0, 8.0]]))
    assert x.grad is not None
    assert x.grad.tolist() == [[[0.0, 8.0], [7.0, 0.0], [0.0, 0.0]]]
