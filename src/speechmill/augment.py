"""Augmentation on the training device, a pure function of (seed, utterance, epoch).

Random numbers are hashes (SplitMix64) of the utterance's key and a purpose: no generator has a state that depends on
what else is in the batch, on the process or on the device.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from speechmill.device import sent
from speechmill.ordering import U64, hash_names, mix
from speechmill.settings import AugmentSettings
from speechmill.sounds import Sounds

# Purposes keep the random numbers of an utterance apart.
_SPEED, _TILT, _GAIN, _NOISE_KIND, _NOISE_LEVEL, _NOISE_SLOPE, _NOISE_PLACE, _NOISE_SAMPLES = range(8)
_NOISE, _REVERB, _ROOM, _WARP = range(8, 12)
_MASKS = 100  # and on


class Draws:
    """Random numbers for each utterance of a batch."""

    def __init__(self, ids: Sequence[str], seed: int, epoch: int) -> None:
        self._keys: U64 = mix(hash_names(ids, seed), epoch)

    def uniform(self, purpose: int, low: float, high: float, like: Tensor) -> Tensor:
        """One number in [low, high) for each utterance, [batch], on the device and of the kind of `like`."""
        return sent(self.known(purpose, low, high, like.dtype), like.device)

    def known(self, purpose: int, low: float, high: float, dtype: torch.dtype) -> Tensor:
        """As `uniform`, on the CPU."""
        shares = (mix(self._keys, purpose) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return torch.from_numpy(low + (high - low) * shares).to(dtype)

    def below(self, purpose: int, count: int, device: torch.device) -> Tensor:
        """One whole number from 0 to count - 1 for each utterance, [batch]."""
        drawn = (mix(self._keys, purpose) % np.uint64(count)).astype(np.int64)
        return sent(torch.from_numpy(drawn), device)

    def white(self, purpose: int, samples: int, like: Tensor) -> Tensor:
        """White noise of a deviation of 1, [batch, samples]: the difference of two uniform numbers."""
        keys = sent(torch.from_numpy(mix(self._keys, purpose).view(np.int64)), like.device)
        places = torch.arange(samples, device=like.device)
        bits = _mixed(keys[:, None] + places * _signed(0x9E3779B97F4A7C15))
        one, two = bits & 0xFFFFFFFF, (bits >> 32) & 0xFFFFFFFF
        scale: float = 6.0**0.5 / 2.0**32
        return (one - two).to(like.dtype) * scale


def augment_audio(
    audio: Tensor, lengths: Tensor, settings: AugmentSettings, draws: Draws, sounds: Sounds | None = None
) -> tuple[Tensor, Tensor]:
    """Speed, microphone, room, loudness and noise, drawn for each utterance.

    Args:
        audio: [batch, samples], float, full scale 1.
        lengths: [batch], samples; on the CPU, so that nothing waits for a GPU.
        sounds: noises and rooms, where the settings ask for some (see `open_sounds`).
    Returns:
        the same, with other lengths where speed changed.
    """
    low, high = settings.speed
    if (low, high) != (1.0, 1.0):
        audio, lengths = change_speed(audio, lengths, draws.known(_SPEED, low, high, audio.dtype))
    if settings.tilt:
        audio = tilt(audio, lengths, draws.uniform(_TILT, -settings.tilt, settings.tilt, audio))
    if settings.reverb_folder and sounds is not None:
        rooms = sounds.rooms[draws.below(_ROOM, len(sounds.rooms), sounds.rooms.device)].to(audio)
        chosen = draws.uniform(_REVERB, 0.0, 1.0, audio) < settings.reverb_share
        audio = torch.where(chosen[:, None], reverberate(audio, lengths, rooms), audio)
    if settings.gain_db:
        gain = draws.uniform(_GAIN, -settings.gain_db, settings.gain_db, audio)
        audio = audio * 10.0 ** (gain / 20.0)[:, None]
    if settings.noise_db is not None:
        chosen = draws.uniform(_NOISE, 0.0, 1.0, audio) < settings.noise_share
        wanted = draws.uniform(_NOISE_LEVEL, *settings.noise_db, audio)
        noisy = add_noise(audio, lengths, noise(audio, settings, draws, sounds), wanted)
        audio = torch.where(chosen[:, None], noisy, audio)
    return audio, lengths


def noise(audio: Tensor, settings: AugmentSettings, draws: Draws, sounds: Sounds | None) -> Tensor:
    """Noise as long as the batch, [batch, samples], of a kind that is drawn for each utterance."""
    kinds = settings.noise_kinds
    kind = draws.below(_NOISE_KIND, len(kinds), audio.device)
    found = torch.zeros_like(audio)
    for number, name in enumerate(kinds):
        if name == "white":
            slope = draws.uniform(_NOISE_SLOPE, 0.0, 0.95, audio)[:, None]  # white to red
            white = draws.white(_NOISE_SAMPLES, audio.shape[1] + 1, audio)
            made = white[:, 1:] + slope * white[:, :-1]
        elif sounds is None:
            raise ValueError(f"noise of the kind {name} needs sounds; see open_sounds")
        else:
            made = stretch_of(sounds.noises[name], draws, audio)
        found = torch.where((kind == number)[:, None], made, found)
    return found


def stretch_of(track: Tensor, draws: Draws, audio: Tensor) -> Tensor:
    """A stretch of `track` (int16, [samples]) for each utterance, [batch, samples]; behind its end it begins again."""
    start = draws.below(_NOISE_PLACE, len(track), track.device)
    places = start[:, None] + torch.arange(audio.shape[1], device=track.device)
    return track[places % len(track)].to(audio) / 32768.0


def change_speed(audio: Tensor, lengths: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    """Play each utterance `factor` times as fast, by linear interpolation: pitch and formants move along.

    Args:
        lengths, factor: [batch], on the CPU.
    """
    # float64: in float32 a place half a minute into the audio is known only to a sixteenth of a sample.
    factor = factor.double()
    new_lengths = (lengths / factor).floor().long().clamp(min=1)
    position = torch.arange(int(new_lengths.max()), device=audio.device) * sent(factor, audio.device)[:, None]
    left = position.long().clamp(max=audio.shape[1] - 1)
    right = (left + 1).clamp(max=audio.shape[1] - 1)
    share = (position - left).to(audio.dtype)
    changed = audio.gather(1, left) * (1 - share) + audio.gather(1, right) * share
    return changed * _inside(changed, new_lengths), new_lengths


def tilt(audio: Tensor, lengths: Tensor, slope: Tensor) -> Tensor:
    """Filter each utterance by y[t] = x[t] + slope x[t - 1], at its old loudness: another microphone or line.

    A slope near 1 takes the high frequencies away, near -1 the low ones.
    """
    filtered = audio + slope[:, None] * torch.nn.functional.pad(audio[:, :-1], (1, 0))
    return _as_loud_as(audio, filtered * _inside(audio, lengths))


def reverberate(audio: Tensor, lengths: Tensor, rooms: Tensor) -> Tensor:
    """Each utterance in a room, at its old loudness and length.

    Args:
        rooms: [batch, taps], impulse responses that begin with the direct sound.
    """
    size = audio.shape[1] + rooms.shape[1] - 1
    wet = torch.fft.irfft(torch.fft.rfft(audio, size) * torch.fft.rfft(rooms, size), size)[:, : audio.shape[1]]
    return _as_loud_as(audio, wet * _inside(audio, lengths))


def add_noise(audio: Tensor, lengths: Tensor, sound: Tensor, wanted_db: Tensor) -> Tensor:
    """Add `sound`, [batch, samples], at the signal-to-noise ratio wanted for each utterance, [batch]."""
    sound = sound * _inside(audio, lengths)
    loud = (audio.square().sum(1) / sound.square().sum(1).clamp(min=1e-9)).sqrt()
    return audio + sound * (loud * 10.0 ** (-wanted_db / 20.0))[:, None]


def augment_features(features: Tensor, frames: Tensor, settings: AugmentSettings, draws: Draws) -> Tensor:
    """Warp the mel axis, mask bands of time and frequency (SpecAugment, Park et al. 2019), on normalised features.

    Args:
        features: [batch, frames, n_mels]; 0 is each bin's mean, so a mask puts the mean.
    """
    frames = sent(frames, features.device)
    low, high = settings.warp
    if (low, high) != (1.0, 1.0):
        features = warp_frequency(features, draws.uniform(_WARP, low, high, features))
    keep = torch.ones_like(features, dtype=torch.bool)
    bins = torch.arange(features.shape[2], device=features.device)
    for number in range(settings.frequency_masks):
        purpose = _MASKS + 4 * number
        width = draws.uniform(purpose, 0, settings.frequency_mask_bins + 1, features).floor()
        start = (draws.uniform(purpose + 1, 0, 1, features) * (len(bins) - width)).floor()
        keep &= ((bins < start[:, None]) | (bins >= (start + width)[:, None]))[:, None, :]
    steps = torch.arange(features.shape[1], device=features.device)
    for number in range(settings.time_masks):
        purpose = _MASKS + 4 * number + 2
        most = (frames * settings.time_mask_share).floor().clamp(max=settings.time_mask_frames)
        width = (draws.uniform(purpose, 0, 1, features) * (most + 1)).floor()
        start = (draws.uniform(purpose + 1, 0, 1, features) * (frames - width)).floor()
        keep &= ((steps < start[:, None]) | (steps >= (start + width)[:, None]))[:, :, None]
    return features * keep


def warp_frequency(features: Tensor, factor: Tensor) -> Tensor:
    """Stretch the mel axis of each utterance by `factor`, linearly interpolated: like another vocal tract length."""
    bins = features.shape[2]
    position = (torch.arange(bins, device=features.device) / factor[:, None]).clamp(max=bins - 1)
    left = position.long()
    right = (left + 1).clamp(max=bins - 1)
    share = (position - left).to(features.dtype)[:, None, :]
    shape = features.shape
    at = features.gather(2, left[:, None, :].expand(shape))
    return at * (1 - share) + features.gather(2, right[:, None, :].expand(shape)) * share


def _inside(audio: Tensor, lengths: Tensor) -> Tensor:
    return torch.arange(audio.shape[1], device=audio.device) < sent(lengths, audio.device)[:, None]


def _as_loud_as(audio: Tensor, changed: Tensor) -> Tensor:
    loudness = (audio.square().sum(1) / changed.square().sum(1).clamp(min=1e-9)).sqrt()
    return changed * loudness[:, None]


def _signed(value: int) -> int:
    """64 bits as torch's signed integers have them."""
    return value - 2**64 if value >= 2**63 else value


def _mixed(bits: Tensor) -> Tensor:
    """The finaliser of SplitMix64 on int64 tensors, as `ordering.mix` has it on unsigned ones."""
    bits = (bits ^ _shifted(bits, 30)) * _signed(0xBF58476D1CE4E5B9)
    bits = (bits ^ _shifted(bits, 27)) * _signed(0x94D049BB133111EB)
    return bits ^ _shifted(bits, 31)


def _shifted(bits: Tensor, places: int) -> Tensor:
    """Shifted right, zeros coming in."""
    return (bits >> places) & ((1 << (64 - places)) - 1)
