"""Features against SpeechBrain's, against slow references, and against what padding may not change."""

from __future__ import annotations

import math

import pytest
import torch

from speechmill.features import (
    LogMel,
    StatisticsSum,
    add_noise,
    augment_audio,
    augment_features,
    change_speed,
    tilt,
)
from speechmill.settings import AugmentSettings, FeatureSettings

ALL_ON = AugmentSettings(
    speed=(0.9, 1.1),
    warp=(0.9, 1.1),
    tilt=0.5,
    gain_db=6.0,
    noise_db=(10.0, 30.0),
    time_masks=2,
    time_mask_frames=20,
    frequency_masks=2,
    frequency_mask_bins=8,
)


def noise(samples: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(1, samples, generator=torch.Generator().manual_seed(seed))


def batch(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    audio = torch.zeros(len(lengths), max(lengths))
    for row, length in enumerate(lengths):
        audio[row, :length] = noise(length, row)[0]
    return audio, torch.tensor(lengths)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


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


def test_no_augmentation_is_identity() -> None:
    audio, lengths = batch([4000, 8000])
    changed, new_lengths = augment_audio(audio, lengths, AugmentSettings(), generator())
    assert torch.equal(changed, audio)
    assert torch.equal(new_lengths, lengths)
    features = torch.randn(2, 50, 40, generator=generator())
    assert torch.equal(augment_features(features, torch.tensor([25, 50]), AugmentSettings(), generator()), features)


def test_augmentation_is_the_generators() -> None:
    audio, lengths = batch([4000, 8000, 6000])
    features, frames = torch.randn(3, 60, 40, generator=generator()), torch.tensor([25, 60, 40])

    def augmented(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        source = generator(seed)
        changed, _ = augment_audio(audio, lengths, ALL_ON, source)
        return changed, augment_features(features, frames, ALL_ON, source)

    first, again, other = augmented(1), augmented(1), augmented(2)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert first[0].shape != other[0].shape or not torch.equal(first[0], other[0])
    assert not torch.equal(first[1], other[1])


def test_augmented_audio_is_zero_behind_its_lengths() -> None:
    audio, lengths = batch([4000, 8000, 6000])
    for seed in range(5):
        changed, new_lengths = augment_audio(audio, lengths, ALL_ON, generator(seed))
        assert changed.shape[1] == new_lengths.max()
        assert ((new_lengths >= lengths / 1.1 - 1) & (new_lengths <= lengths / 0.9 + 1)).all()
        for row, length in zip(changed, new_lengths.tolist(), strict=True):
            assert row[:length].any()
            assert not row[length:].any()


def test_change_speed_equals_a_slow_reference() -> None:
    audio, lengths = batch([300, 1000, 640])
    factor = torch.tensor([0.8, 1.25, 1.0])
    changed, new_lengths = change_speed(audio, lengths, factor)
    for row, (length, speed) in enumerate(zip(lengths.tolist(), factor.tolist(), strict=True)):
        expected = []
        for k in range(math.floor(length / speed)):
            left = math.floor(k * speed)
            right = audio[row, left + 1].item() if left + 1 < audio.shape[1] else audio[row, left].item()
            expected.append(audio[row, left].item() * (1 - (k * speed - left)) + right * (k * speed - left))
        assert new_lengths[row] == len(expected)
        torch.testing.assert_close(changed[row, : len(expected)], torch.tensor(expected), atol=1e-6, rtol=0)


def test_change_speed_is_exact_far_into_the_audio() -> None:
    samples = 1_000_000  # a minute: float32 places are a sixteenth of a sample apart there
    ramp = torch.arange(samples, dtype=torch.float64)[None]
    factor = torch.tensor([1.1])
    changed, lengths = change_speed(ramp, torch.tensor([samples]), factor)
    expected = torch.arange(int(lengths[0])) * factor.double()
    torch.testing.assert_close(changed[0], expected, atol=1e-6, rtol=0)


def test_noise_has_the_wanted_level() -> None:
    audio, lengths = batch([4000, 16000])
    noisy = add_noise(audio, lengths, (12.0, 12.0), generator())
    for row, length in enumerate(lengths.tolist()):
        added = (noisy - audio)[row]
        ratio = 10 * torch.log10(audio[row].square().sum() / added.square().sum())
        assert ratio.item() == pytest.approx(12.0, abs=0.01)
        assert not added[length:].any()


def test_masks_keep_their_limits() -> None:
    settings = AugmentSettings(
        time_masks=1, time_mask_frames=12, time_mask_share=0.25, frequency_masks=1, frequency_mask_bins=5
    )
    frames = torch.tensor([10, 100])
    seen_time, seen_bins = 0, 0
    for seed in range(200):
        kept = augment_features(torch.ones(2, 100, 40), frames, settings, generator(seed))
        for row, (most, length) in enumerate([(2, 10), (12, 100)]):
            masked_frames = (kept[row].sum(1) == 0).nonzero()
            masked_bins = (kept[row].sum(0) == 0).nonzero()
            assert len(masked_frames) <= most
            assert len(masked_bins) <= 5
            assert not len(masked_frames) or masked_frames.max() < length
        seen_time, seen_bins = max(seen_time, len(masked_frames)), max(seen_bins, len(masked_bins))
    assert (seen_time, seen_bins) == (12, 5)


def test_tilt_filters_at_the_old_loudness() -> None:
    generator = torch.Generator().manual_seed(0)
    audio = torch.zeros(3, 4000)
    lengths = torch.tensor([4000, 2500, 3000])
    for row, length in enumerate(lengths.tolist()):
        audio[row, :length] = torch.randn(length, generator=generator)
    tilted = tilt(audio, lengths, torch.tensor([0.9, -0.9, 0.0]))
    for row, length in enumerate(lengths.tolist()):
        assert torch.equal(tilted[row, length:], torch.zeros(4000 - length))
        assert tilted[row].square().sum().item() == pytest.approx(audio[row].square().sum().item(), rel=1e-4)
    assert torch.allclose(tilted[2], audio[2], rtol=1e-5)

    def share_of_low_frequencies(signal: torch.Tensor) -> float:
        power = torch.fft.rfft(signal).abs().square()
        return float(power[: len(power) // 2].sum() / power.sum())

    assert share_of_low_frequencies(tilted[0]) > 0.7
    assert share_of_low_frequencies(tilted[1]) < 0.3


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
