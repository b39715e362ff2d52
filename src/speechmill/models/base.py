"""What every recognizer can do."""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

from torch import Tensor, nn

from speechmill.features import LogMel
from speechmill.losses import LossSum
from speechmill.models.language import LanguageModel
from speechmill.settings import FeatureSettings, SearchSettings


class Encoded(NamedTuple):
    """What the encoder makes of a batch."""

    states: Tensor  # [batch, steps, size]
    steps: Tensor  # [batch], those of each utterance


class Found(NamedTuple):
    """The outcome of a search for one utterance."""

    tokens: list[int]
    caught: str = ""  # "length" or "loop" where an attention decoder lost its way; see models.caught


class Recognizer(nn.Module):
    """Features, encoder, decoder. `log_mel` holds the frozen normalisation, so a checkpoint is whole by itself."""

    step_frames: int
    """Frames of features to a step of the encoder."""
    step_begins: float
    """Frames from the middle of frame 0 to where the audio of step 0 begins."""

    def __init__(self, features: FeatureSettings) -> None:
        super().__init__()
        self.log_mel = LogMel(features)

    @abstractmethod
    def loss(
        self, features: Tensor, frames: Tensor, targets: Tensor, target_lengths: Tensor, *, with_ctc: bool
    ) -> LossSum:
        """The summed training loss of a batch.

        Args:
            features: [batch, frames, n_mels], normalised.
            frames: [batch]; on the CPU, as all that follows, so that nothing waits for a GPU.
            targets: [batch, length], token ids, padded with 0.
            target_lengths: [batch].
            with_ctc: False once the recipe has stopped training its CTC head.
        """

    @abstractmethod
    def encoded(self, features: Tensor, frames: Tensor) -> Encoded:
        """What the encoder makes of a batch. Arguments as in `loss`."""

    @abstractmethod
    def steps(self, frames: Tensor, total: int) -> Tensor:
        """Those that the encoder makes of utterances of so many frames, where the longest has `total`."""

    @abstractmethod
    def ctc_logits(self, encoded: Encoded) -> Tensor:
        """[batch, steps, tokens], before the softmax: what the CTC head says."""

    def ctc_head_apart(self) -> nn.Module | None:
        """The CTC head, where the recipe may stop training it; None where the model is nothing without."""
        return None

    @abstractmethod
    def search(self, encoded: Encoded, search: SearchSettings, language_model: LanguageModel | None) -> list[Found]:
        """Token ids of each utterance."""

    def transcribe(
        self, features: Tensor, frames: Tensor, search: SearchSettings, language_model: LanguageModel | None
    ) -> list[list[int]]:
        """`encoded` and `search` in one: token ids of each utterance. Arguments as in `loss`."""
        return [found.tokens for found in self.search(self.encoded(features, frames), search, language_model)]

    def step_times(self) -> tuple[float, float]:
        """Seconds of audio to a step of the encoder, and those from the start of the audio to that of step 0."""
        frame = self.log_mel.hop / self.log_mel.settings.sample_rate
        return self.step_frames * frame, self.step_begins * frame
