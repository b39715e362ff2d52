"""Augmentation against slow references; it is a function of seed, utterance and epoch."""

from __future__ import annotations

import math

import pytest
import torch

from speechmill.augment import (
    Draws,
    add_noise,
    augment_audio,
    augment_features,
    change_speed,
    reverberate,
    stretch_of,
    tilt,
)
from speechmill.ordering import hash_names, mix
from speechmill.settings import AugmentSettings
from speechmill.sounds import Sounds

ALL_ON = AugmentSettings(
    speed=(0.9, 1.1),
    warp=(0.9, 1.1),
    tilt=0.5,
    gain_db=6.0,
    noise_db=(10.0, 30.0),
    noise_kinds=["white", "babble"],
    noise_share=0.8,
    reverb_folder="rooms",
    time_masks=2,
    time_mask_frames=20,
    frequency_masks=2,
    frequency_mask_bins=8,
)
SOUNDS = Sounds({"babble": torch.arange(-5000, 5000, dtype=torch.int16)}, torch.eye(3, 50))


def noise(samples: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(1, samples, generator=torch.Generator().manual_seed(seed))


def batch(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    audio = torch.zeros(len(lengths), max(lengths))
    for row, length in enumerate(lengths):
        audio[row, :length] = noise(length, row)[0]
    return audio, torch.tensor(lengths)


def draws(count: int, seed: int = 0) -> Draws:
    return Draws([f"u{row}" for row in range(count)], seed, 0)


def test_no_augmentation_is_identity() -> None:
    audio, lengths = batch([4000, 8000])
    changed, new_lengths = augment_audio(audio, lengths, AugmentSettings(), draws(2))
    assert torch.equal(changed, audio)
    assert torch.equal(new_lengths, lengths)
    features = torch.randn(2, 50, 40, generator=torch.Generator().manual_seed(0))
    assert torch.equal(augment_features(features, torch.tensor([25, 50]), AugmentSettings(), draws(2)), features)


def test_augmentation_is_of_seed_utterance_and_epoch_alone() -> None:
    """Not of the utterances beside it, which changes with pieces, processes and the schedule."""
    audio, lengths = batch([4000, 8000, 6000])
    features = torch.randn(3, 60, 40, generator=torch.Generator().manual_seed(0))
    frames = torch.tensor([25, 60, 40])

    def augmented(rows: list[int], seed: int = 0, epoch: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        source = Draws([f"u{row}" for row in rows], seed, epoch)
        changed, _ = augment_audio(audio[rows], lengths[rows], ALL_ON, source, SOUNDS)
        return changed, augment_features(features[rows], frames[rows], ALL_ON, source)

    sound, levels = augmented([0, 1, 2])
    for rows in ([0, 1, 2], [2], [1, 0], [0]):
        again = augmented(rows)
        assert torch.equal(again[1], levels[rows])
        for row, one in zip(rows, again[0], strict=True):
            torch.testing.assert_close(one, sound[row, : len(one)], atol=1e-6, rtol=0)
    for other in (augmented([0, 1, 2], seed=1), augmented([0, 1, 2], epoch=1)):
        assert other[0].shape != sound.shape or not torch.equal(other[0], sound)
        assert not torch.equal(other[1], levels)


def test_white_noise_is_white_and_as_the_slow_hash_says() -> None:
    found = Draws(["a", "b"], 3, 4).white(7, 50_000, torch.zeros(1, dtype=torch.float64))
    assert found.mean(1).abs().max() < 0.02
    torch.testing.assert_close(found.std(1), torch.ones(2, dtype=torch.float64), atol=0.02, rtol=0)
    for lag in (1, 2, 17):
        assert (found[:, lag:] * found[:, :-lag]).mean(1).abs().max() < 0.02
    assert abs(float((found[0] * found[1]).mean())) < 0.02
    word = 2**64 - 1
    key = int(mix(mix(hash_names(["a"], 3), 4), 7)[0])
    for place in (0, 1, 49_999):
        bits = (key + place * 0x9E3779B97F4A7C15) & word
        bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & word
        bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & word
        bits ^= bits >> 31
        expected = ((bits & 0xFFFFFFFF) - (bits >> 32)) * 6**0.5 / 2**32
        assert float(found[0, place]) == pytest.approx(expected, abs=1e-12)


def test_draws_are_even() -> None:
    like = torch.zeros(1, dtype=torch.float64)
    drawn = Draws([f"u{k}" for k in range(4000)], 0, 0)
    shares = drawn.uniform(1, -2.0, 6.0, like)
    assert shares.min() >= -2.0
    assert shares.max() < 6.0
    assert torch.histc(shares, 8).min() > 400
    assert torch.bincount(drawn.below(2, 5, like.device)).tolist() == pytest.approx([800] * 5, rel=0.15)


def test_augmented_audio_is_zero_behind_its_lengths() -> None:
    audio, lengths = batch([4000, 8000, 6000])
    for seed in range(5):
        changed, new_lengths = augment_audio(audio, lengths, ALL_ON, draws(3, seed), SOUNDS)
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
    noisy = add_noise(audio, lengths, draws(2).white(0, 16000, audio), torch.tensor([12.0, 12.0]))
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
        kept = augment_features(torch.ones(2, 100, 40), frames, settings, draws(2, seed))
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


def test_rooms_are_convolved_at_the_old_loudness() -> None:
    audio, lengths = batch([300, 500])
    rooms = torch.zeros(2, 40)
    rooms[:, 0], rooms[0, 30], rooms[1, 7] = 1.0, 0.5, -0.4
    wet = reverberate(audio, lengths, rooms)
    for row, length in enumerate(lengths.tolist()):
        slow = torch.zeros(length)
        for place in range(length):
            for tap in range(min(40, place + 1)):
                slow[place] += audio[row, place - tap] * rooms[row, tap]
        slow *= (audio[row].square().sum() / slow.square().sum()).sqrt()
        torch.testing.assert_close(wet[row, :length], slow, atol=1e-5, rtol=0)
        assert not wet[row, length:].any()


def test_each_kind_of_noise_is_drawn_and_a_share_is_left_alone() -> None:
    count = 300
    audio = torch.ones(count, 50)
    track = torch.full((10,), 16384, dtype=torch.int16)
    settings = AugmentSettings(noise_db=(0.0, 0.0), noise_kinds=["white", "babble"], noise_share=0.5)
    noisy, _ = augment_audio(audio, torch.full((count,), 50), settings, draws(count), Sounds({"babble": track}))
    flat = (noisy - noisy[:, :1]).abs().amax(1) < 1e-5
    alone = (noisy == 1.0).all(1)
    assert int(alone.sum()) == pytest.approx(count * 0.5, rel=0.2)
    assert int((flat & ~alone).sum()) == pytest.approx(count * 0.25, rel=0.3)
    torch.testing.assert_close(noisy[flat & ~alone], torch.full_like(noisy[flat & ~alone], 2.0), atol=1e-4, rtol=0)


def test_a_track_begins_again_behind_its_end() -> None:
    track = torch.arange(7, dtype=torch.int16)
    found = stretch_of(track, draws(5), torch.zeros(5, 30)) * 32768
    for row in found:
        assert (row.diff().remainder(7) == 1).all()


def test_one_speed_for_all_is_no_speed_at_all_only_where_it_is_one() -> None:
    audio, lengths = batch([8000, 6000])
    draws = Draws(["a", "b"], 0, 0)
    _, faster = augment_audio(audio, lengths, AugmentSettings(speed=(1.25, 1.25)), draws)
    assert faster.tolist() == [6400, 4800]
    features, frames = torch.randn(2, 30, 20), torch.tensor([30, 20])
    warped = augment_features(features, frames, AugmentSettings(warp=(1.1, 1.1)), draws)
    assert not torch.equal(warped, features)
    same, unchanged = augment_audio(audio, lengths, AugmentSettings(), draws)
    assert torch.equal(same, audio)
    assert torch.equal(unchanged, lengths)
