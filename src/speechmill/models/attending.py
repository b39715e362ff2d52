"""What attention encoder-decoders with a CTC head share: the joint loss, and which search is made."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from speechmill.device import sent
from speechmill.losses import LossSum, ctc_loss, joint, known, log_softmax, smoothed_nll
from speechmill.models.base import Encoded, Found, Recognizer
from speechmill.models.joint import StepDecoder, joint_search
from speechmill.models.language import LanguageModel
from speechmill.settings import LossSettings, SearchSettings
from speechmill.tokenizer import ANYTHING, BLANK

_EDGE = BLANK  # BOS and EOS share index 0 with blank, as in the thesis


class AttentionRecognizer(Recognizer):
    """Of a subclass come the modules: in the order in which it makes them the optimizer meets their parameters."""

    loss_settings: LossSettings
    ctc_head: nn.Module

    @abstractmethod
    def decoded(self, tokens: Tensor, encoded: Encoded) -> Tensor:
        """Logits of what follows each of the tokens (at first BOS), [batch, length, tokens]."""

    @abstractmethod
    def stepping(self) -> StepDecoder:
        """The decoder, token by token."""

    @abstractmethod
    def search_plainly(self, encoded: Encoded, search: SearchSettings) -> list[Found]:
        """Search with the decoder alone."""

    def loss(
        self, features: Tensor, frames: Tensor, targets: Tensor, target_lengths: Tensor, *, with_ctc: bool
    ) -> LossSum:
        encoded = self.encoded(features, frames)
        edge = torch.full_like(targets[:, :1], _EDGE)
        bos = torch.cat([edge, targets], dim=1)
        eos = torch.cat([targets, edge], dim=1).scatter(1, target_lengths[:, None], _EDGE)
        # Nor is what follows a wildcard learned: the decoder is not told which words came before, as in a search it is.
        eos = eos.masked_fill(bos == ANYTHING, ANYTHING)
        before = sent(bos.masked_fill(bos == ANYTHING, BLANK), features.device)
        log_probs = log_softmax(self.decoded(before, encoded))
        nll = smoothed_nll(log_probs, eos, target_lengths + 1, self.loss_settings.label_smoothing)
        weight = self.loss_settings.ctc_weight
        if not with_ctc or weight == 0.0:
            return LossSum(nll.sum, known(targets, target_lengths))
        steps = self.steps(frames, encoded.states.shape[1])
        ctc = ctc_loss(log_softmax(self.ctc_logits(encoded)), steps, targets, target_lengths)
        return joint([(1.0 - weight, nll), (weight, ctc)], ctc.count)

    def ctc_logits(self, encoded: Encoded) -> Tensor:
        logits: Tensor = self.ctc_head(encoded.states)
        return logits

    def ctc_head_apart(self) -> nn.Module:
        return self.ctc_head

    def search(self, encoded: Encoded, search: SearchSettings, language_model: LanguageModel | None) -> list[Found]:
        if search.kind == "beam" and (search.ctc_weight or language_model is not None):
            ctc_logits = self.ctc_logits(encoded) if search.ctc_weight else None
            return joint_search(self.stepping(), encoded, ctc_logits, search, language_model)
        return self.search_plainly(encoded, search)
