"""What every recognizer can do."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn

from speechmill.features import LogMel
from speechmill.losses import LossSum
from speechmill.models.ngram import NgramModel
from speechmill.settings import FeatureSettings, SearchSettings


class Recognizer(nn.Module):
    """Features, encoder, decoder. `log_mel` holds the frozen normalisation, so a checkpoint is whole by itself."""

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
            frames: [batch].
            targets: [batch, length], token ids, padded with 0.
            target_lengths: [batch].
            with_ctc: False once the recipe has stopped training its CTC head.
        """

    @abstractmethod
    def transcribe(
        self, features: Tensor, frames: Tensor, search: SearchSettings, language_model: NgramModel | None
    ) -> list[list[int]]:
        """Token ids of each utterance. Arguments as in `loss`."""
