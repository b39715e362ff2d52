"""Features on the training device: log-mel filter banks, their frozen normalisation, and augmentation."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from speechmill.settings import AugmentSettings, FeatureSettings


class LogMel(nn.Module):
    """Log-mel filter banks in decibels, equal to `speechbrain.lobes.features.Fbank` (a test compares them).

    Hamming window, power spectrum, triangles that are symmetric in Hz, 10 log10 with a floor `floor_db` below
    the utterance's loudest bin; then the corpus's mean and deviation per bin, set once by `set_statistics` and frozen.
    """

    window: Tensor
    filters: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, settings: FeatureSettings) -> None:
        super().__init__()
        self.settings = settings
        self.hop = round(settings.sample_rate * settings.hop_ms / 1000)
        self.window_length = round(settings.sample_rate * settings.window_ms / 1000)
        self.register_buffer("window", torch.hamming_window(self.window_length), persistent=False)
        self.register_buffer("filters", mel_filters(settings), persistent=False)
        self.register_buffer("mean", torch.zeros(settings.n_mels))
        self.register_buffer("deviation", torch.ones(settings.n_mels))

    def frames(self, samples: Tensor) -> Tensor:
        """Frames of so many samples."""
        return samples // self.hop + 1

    def log_mel(self, audio: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features before normalisation.

        Args:
            audio: [batch, samples], float, full scale 1; zero behind each utterance's length.
            lengths: [batch], samples.
        Returns:
            [batch, frames, n_mels] in dB, zero behind each utterance's frames; and the frames of each, [batch].
        """
        spectrum = torch.stft(
            audio, self.settings.n_fft, self.hop, self.window_length, self.window, center=True, pad_mode="constant",
            return_complex=True,
        )  # fmt: skip
        power = spectrum.real.square() + spectrum.imag.square()
        level = 10.0 * torch.log10((power.transpose(1, 2) @ self.filters).clamp(min=1e-10))
        frames = self.frames(lengths)
        inside = torch.arange(level.shape[1], device=level.device) < frames[:, None]
        loudest = level.masked_fill(~inside[..., None], -math.inf).amax(dim=(1, 2), keepdim=True)
        level = torch.maximum(level, loudest - self.settings.floor_db) * inside[..., None]
        if self.settings.utterance_mean:
            # Frames that are all floor are digital silence: their share is of the recording, not of the microphone.
            heard = (inside & (level.amax(dim=2) > loudest[..., 0] - self.settings.floor_db))[..., None]
            mean = (level * heard).sum(1, keepdim=True) / heard.sum(1, keepdim=True).clamp(min=1)
            level = (level - mean) * inside[..., None]
        return level, frames

    def normalize(self, features: Tensor, frames: Tensor) -> Tensor:
        """[batch, frames, n_mels] to zero mean and unit variance by the frozen statistics; zero past its end."""
        inside = torch.arange(features.shape[1], device=features.device) < frames[:, None]
        return (features - self.mean) / self.deviation * inside[..., None]

    def forward(self, audio: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """As `log_mel`, normalised."""
        features, frames = self.log_mel(audio, lengths)
        return self.normalize(features, frames), frames

    def set_statistics(self, mean: Tensor, deviation: Tensor) -> None:
        """Freeze mean and deviation, each [n_mels], as `StatisticsSum.result` gives them."""
        self.mean.copy_(mean)
        self.deviation.copy_(deviation.clamp(min=1e-3))


def mel_filters(settings: FeatureSettings) -> Tensor:
    """[n_fft / 2 + 1, n_mels] triangles between 0 Hz and half the sample rate, evenly spaced in mel (O'Shaughnessy)."""
    top = 2595.0 * math.log10(1.0 + settings.sample_rate / 2 / 700.0)
    hertz = 700.0 * (10.0 ** (torch.linspace(0.0, top, settings.n_mels + 2) / 2595.0) - 1.0)
    centre, width = hertz[1:-1], (hertz[1:] - hertz[:-1])[:-1]
    slope = (torch.linspace(0, settings.sample_rate // 2, settings.n_fft // 2 + 1)[:, None] - centre) / width
    return torch.minimum(slope + 1.0, 1.0 - slope).clamp(min=0.0)


class StatisticsSum:
    """Mean and deviation of features per bin, gathered over batches in float64."""

    def __init__(self, n_mels: int) -> None:
        self.count = 0
        self.sum = torch.zeros(n_mels, dtype=torch.float64)
        self.squares = torch.zeros(n_mels, dtype=torch.float64)

    def add(self, features: Tensor, frames: Tensor) -> None:
        """`features` [batch, frames, n_mels] are zero behind each utterance's frames."""
        wide = features.double().cpu()
        self.count += int(frames.sum())
        self.sum += wide.sum(dim=(0, 1))
        self.squares += wide.square().sum(dim=(0, 1))

    def result(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, each [n_mels] in float32."""
        mean = self.sum / max(1, self.count)
        variance = self.squares / max(1, self.count) - mean.square()
        return mean.float(), variance.clamp(min=0.0).sqrt().float()


def augment_audio(
    audio: Tensor, lengths: Tensor, settings: AugmentSettings, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Speed, loudness and noise, drawn for each utterance.

    Args:
        audio: [batch, samples], float, full scale 1.
        lengths: [batch], samples.
        generator: on the CPU, seeded for the batch, so that a batch is augmented alike wherever it is computed.
    Returns:
        the same, with other lengths where speed changed.
    """
    low, high = settings.speed
    if high > low:
        audio, lengths = change_speed(audio, lengths, _uniform(len(lengths), low, high, generator, audio))
    if settings.tilt:
        audio = tilt(audio, lengths, _uniform(len(lengths), -settings.tilt, settings.tilt, generator, audio))
    if settings.gain_db:
        gain = _uniform(len(lengths), -settings.gain_db, settings.gain_db, generator, audio)
        audio = audio * 10.0 ** (gain / 20.0)[:, None]
    if settings.noise_db is not None:
        audio = add_noise(audio, lengths, settings.noise_db, generator)
    return audio, lengths


def change_speed(audio: Tensor, lengths: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    """Play each utterance `factor` times as fast, by linear interpolation: pitch and formants move along."""
    # float64: in float32 a place half a minute into the audio is known only to a sixteenth of a sample.
    factor = factor.double()
    new_lengths = (lengths / factor).floor().long().clamp(min=1)
    position = torch.arange(int(new_lengths.max()), device=audio.device) * factor[:, None]
    left = position.long().clamp(max=audio.shape[1] - 1)
    right = (left + 1).clamp(max=audio.shape[1] - 1)
    share = (position - left).to(audio.dtype)
    changed = audio.gather(1, left) * (1 - share) + audio.gather(1, right) * share
    inside = torch.arange(changed.shape[1], device=audio.device) < new_lengths[:, None]
    return changed * inside, new_lengths


def tilt(audio: Tensor, lengths: Tensor, slope: Tensor) -> Tensor:
    """Filter each utterance by y[t] = x[t] + slope x[t - 1], at its old loudness: another microphone or line.

    A slope near 1 takes the high frequencies away, near -1 the low ones.
    """
    filtered = audio + slope[:, None] * torch.nn.functional.pad(audio[:, :-1], (1, 0))
    inside = torch.arange(audio.shape[1], device=audio.device) < lengths[:, None]
    filtered = filtered * inside
    loudness = (audio.square().sum(1) / filtered.square().sum(1).clamp(min=1e-9)).sqrt()
    return filtered * loudness[:, None]


def add_noise(audio: Tensor, lengths: Tensor, ratio_db: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Add noise with a random spectral slope (white to red) at a random signal-to-noise ratio."""
    noise = torch.randn(audio.shape, generator=generator).to(audio)
    slope = _uniform(len(lengths), 0.0, 0.95, generator, audio)[:, None]
    noise = noise[:, 1:] + slope * noise[:, :-1]
    noise = torch.nn.functional.pad(noise, (1, 0))
    inside = torch.arange(audio.shape[1], device=audio.device) < lengths[:, None]
    noise = noise * inside
    wanted = _uniform(len(lengths), *ratio_db, generator, audio)
    loud = (audio.square().sum(1) / noise.square().sum(1).clamp(min=1e-9)).sqrt()
    return audio + noise * (loud * 10.0 ** (-wanted / 20.0))[:, None]


def augment_features(features: Tensor, frames: Tensor, settings: AugmentSettings, generator: torch.Generator) -> Tensor:
    """Warp the mel axis, mask bands of time and frequency (SpecAugment, Park et al. 2019), on normalised features.

    Args:
        features: [batch, frames, n_mels]; 0 is each bin's mean, so a mask puts the mean.
    """
    low, high = settings.warp
    if high > low:
        features = warp_frequency(features, _uniform(len(features), low, high, generator, features))
    keep = torch.ones_like(features, dtype=torch.bool)
    bins = torch.arange(features.shape[2], device=features.device)
    for _ in range(settings.frequency_masks):
        width = (_uniform(len(features), 0, settings.frequency_mask_bins + 1, generator, features)).floor()
        start = (_uniform(len(features), 0, 1, generator, features) * (len(bins) - width)).floor()
        keep &= ((bins < start[:, None]) | (bins >= (start + width)[:, None]))[:, None, :]
    steps = torch.arange(features.shape[1], device=features.device)
    for _ in range(settings.time_masks):
        most = (frames * settings.time_mask_share).floor().clamp(max=settings.time_mask_frames)
        width = (_uniform(len(features), 0, 1, generator, features) * (most + 1)).floor()
        start = (_uniform(len(features), 0, 1, generator, features) * (frames - width)).floor()
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


def _uniform(count: int, low: float, high: float, generator: torch.Generator, like: Tensor) -> Tensor:
    return (low + (high - low) * torch.rand(count, generator=generator)).to(device=like.device, dtype=like.dtype)
