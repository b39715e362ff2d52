"""Features on the training device: log-mel filter banks and their frozen normalisation."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from speechmill.device import sent
from speechmill.settings import FeatureSettings


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
        inside = torch.arange(level.shape[1], device=level.device) < sent(frames, level.device)[:, None]
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
        inside = torch.arange(features.shape[1], device=features.device) < sent(frames, features.device)[:, None]
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
