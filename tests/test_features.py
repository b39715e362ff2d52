"""Features against SpeechBrain's, against slow references, and against what padding may not change."""

from __future__ import annotations

import pytest
import torch

from speechmill.features import LogMel, StatisticsSum
from speechmill.settings import FeatureSettings


def noise(samples: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(1, samples, generator=torch.Generator().manual_seed(seed))


def batch(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    audio = torch.zeros(len(lengths), max(lengths))
    for row, length in enumerate(lengths):
        audio[row, :length] = noise(length, row)[0]
    return audio, torch.tensor(lengths)


@pytest.mark.parametrize("samples", [8000, 16001, 20479])
def test_equal_to_speechbrain(samples: int) -> None:
    from speechbrain.lobes.features import Fbank

    audio = noise(samples) * torch.linspace(0, 1, samples)  # so quiet at first that the floor is reached
    audio[:, :2000] = 0.0
    ours, frames = LogMel(FeatureSettings()).log_mel(audio, torch.tensor([samples]))
    theirs = Fbank(n_mels=40, n_fft=400, sample_rate=16000)(audio)
    assert ours.shape == theirs.shape
    assert frames.tolist() == [theirs.shape[1]]
    assert (ours == ours.min()).sum() > 100, "the floor is not tried"
    torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=0)


def test_padding_changes_nothing() -> None:
    log_mel = LogMel(FeatureSettings()).double()
    log_mel.set_statistics(torch.full((40,), -20.0), torch.full((40,), 7.0))
    lengths = [4000, 12345, 799, 1]
    audio, counted = batch(lengths)
    together, frames = log_mel(audio.double(), counted)
    assert frames.tolist() == [length // 160 + 1 for length in lengths]
    for row, length in enumerate(lengths):
        alone, count = log_mel(audio[row : row + 1, :length].double(), counted[row : row + 1])
        assert alone.shape[1] == count.item() == frames[row]
        torch.testing.assert_close(together[row, : alone.shape[1]], alone[0], atol=1e-9, rtol=0)
        assert not together[row, alone.shape[1] :].any()


def test_statistics_are_those_of_the_frames_inside() -> None:
    log_mel = LogMel(FeatureSettings())
    audio, lengths = batch([4000, 16000, 800])
    total = StatisticsSum(40)
    features, frames = log_mel.log_mel(audio, lengths)
    total.add(features[:2], frames[:2])
    total.add(features[2:], frames[2:])
    inside = torch.cat([row[:count] for row, count in zip(features, frames.tolist(), strict=True)]).double()
    mean, deviation = total.result()
    torch.testing.assert_close(mean, inside.mean(0).float())
    torch.testing.assert_close(deviation, inside.std(0, unbiased=False).float())
    log_mel.set_statistics(mean, deviation)
    normal, _ = log_mel(audio, lengths)
    inside = torch.cat([row[:count] for row, count in zip(normal, frames.tolist(), strict=True)])
    torch.testing.assert_close(inside.mean(0), torch.zeros(40), atol=1e-4, rtol=0)
    torch.testing.assert_close(inside.std(0, unbiased=False), torch.ones(40), atol=1e-4, rtol=0)


def test_a_bin_that_never_changes_is_not_divided_by_zero() -> None:
    log_mel = LogMel(FeatureSettings())
    log_mel.set_statistics(torch.zeros(40), torch.zeros(40))
    features, _ = log_mel(*batch([4000]))
    assert features.isfinite().all()


def test_the_utterance_mean_takes_a_gain_out_and_does_not_count_digital_silence() -> None:
    features = LogMel(FeatureSettings(floor_db=50, utterance_mean=True))
    speech = torch.randn(1, 16000, generator=torch.Generator().manual_seed(0)) * 0.1
    level, frames = features.log_mel(speech, torch.tensor([16000]))
    assert level.mean(dim=1).abs().max() < 1e-3
    assert torch.allclose(features.log_mel(speech * 0.5, torch.tensor([16000]))[0], level, atol=1e-3)
    padded = torch.cat([speech, torch.zeros(1, 16000)], dim=1)
    longer, _ = features.log_mel(padded, torch.tensor([32000]))
    inner = int(frames[0]) - 5  # the frames at the border see both
    assert torch.allclose(longer[:, :inner], level[:, :inner], atol=0.5)
