"""The thesis's recognizer: CRDNN encoder, location-aware attention, joint CTC; SpeechBrain's parameters and numbers."""

from __future__ import annotations

import torch
from speechbrain.decoders.seq2seq import S2SRNNBeamSearcher, S2SRNNGreedySearcher
from speechbrain.nnet.embedding import Embedding
from speechbrain.nnet.linear import Linear
from torch import Tensor, nn
from torch.nn import functional

from speechmill.losses import LossSum, ctc_loss, joint, log_softmax, smoothed_nll
from speechmill.models.attention import AttentionDecoder
from speechmill.models.base import Recognizer
from speechmill.models.encoder import CrdnnEncoder
from speechmill.models.ngram import NgramModel
from speechmill.settings import CrdnnSettings, FeatureSettings, LossSettings, SearchSettings
from speechmill.tokenizer import BLANK

_EDGE = BLANK  # BOS and EOS share index 0 with blank, as in the thesis


class CrdnnRecognizer(Recognizer):
    """40.2 M parameters at the thesis's sizes and 5,000 tokens.

    Where the recipe does not mask padding, as SpeechBrain does not, outputs depend a little on which utterances share
    a batch.
    """

    def __init__(self, features: FeatureSettings, settings: CrdnnSettings, loss: LossSettings, tokens: int) -> None:
        super().__init__(features)
        self.settings = settings
        self.loss_settings = loss
        self.encoder = CrdnnEncoder(features, settings)
        self.embedding = Embedding(num_embeddings=tokens, embedding_dim=settings.embedding_size)
        self.decoder = AttentionDecoder(settings)
        self.ctc_head = Linear(input_size=settings.dnn_size, n_neurons=tokens)
        self.head = Linear(input_size=settings.decoder_size, n_neurons=tokens)

    def encode(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """[batch, frames, n_mels] -> [batch, steps, dnn_size], and the steps of each utterance, [batch].

        Steps are frames / time_pooling; with the padding heard, an utterance's last one may be partly padding.
        """
        pooling = self.settings.time_pooling
        missing = pooling - features.shape[1]
        if missing > 0:  # too short to be pooled into one step
            features = functional.pad(features, (0, 0, 0, missing))
        if self.settings.mask_padding:
            return self.encoder(features, frames), self.encoder.steps(frames)
        encoded: Tensor = self.encoder(features)
        return encoded, ((frames + pooling - 1) // pooling).clamp(max=encoded.shape[1])

    def loss(
        self, features: Tensor, frames: Tensor, targets: Tensor, target_lengths: Tensor, *, with_ctc: bool
    ) -> LossSum:
        encoded, steps = self.encode(features, frames)
        edge = torch.full_like(targets[:, :1], _EDGE)
        bos = torch.cat([edge, targets], dim=1)
        eos = torch.cat([targets, edge], dim=1).scatter(1, target_lengths[:, None], _EDGE)
        decoded = self.decoder.teach(self.embedding(bos), encoded, steps)
        log_probs = log_softmax(self.head(decoded))
        nll = smoothed_nll(log_probs, eos, target_lengths + 1, self.loss_settings.label_smoothing)
        weight = self.loss_settings.ctc_weight
        if not with_ctc or weight == 0.0:
            return LossSum(nll.sum, int(target_lengths.sum()))
        ctc_log_probs = log_softmax(self.ctc_head(encoded))
        ctc = ctc_loss(ctc_log_probs, steps, targets, target_lengths)
        return joint([(1.0 - weight, nll), (weight, ctc)], ctc.count)

    def transcribe(
        self, features: Tensor, frames: Tensor, search: SearchSettings, language_model: NgramModel | None
    ) -> list[list[int]]:
        del language_model  # the recipe's checks keep it away
        encoded, steps = self.encode(features, frames)
        if search.kind == "greedy" or not self.settings.mask_padding:
            return self._search(encoded, steps, search)
        # SpeechBrain's beam ends after as many tokens as the batch's longest has steps, and what it then gives depends
        # on that: so that it does not, only utterances of as many steps are searched together.
        found: dict[int, list[int]] = {}
        for most in sorted(set(steps.tolist())):
            rows = (steps == most).nonzero()[:, 0]
            tokens = self._search(encoded[rows, :most], steps[rows], search)
            found.update(zip(rows.tolist(), tokens, strict=True))
        return [found[row] for row in range(len(frames))]

    def _search(self, encoded: Tensor, steps: Tensor, search: SearchSettings) -> list[list[int]]:
        relative = (steps / encoded.shape[1]).float()
        parts = {"embedding": self.embedding, "decoder": self.decoder, "linear": self.head}
        limits = {"bos_index": _EDGE, "eos_index": _EDGE, "min_decode_ratio": 0.0, "max_decode_ratio": 1.0}
        searcher: nn.Module
        if search.kind == "greedy":
            searcher = S2SRNNGreedySearcher(**parts, **limits)
        else:
            searcher = S2SRNNBeamSearcher(**parts, **limits, beam_size=search.beam)
        hypotheses = searcher(encoded, relative)[0]
        # The searchers' limit is the batch's longest; alone, an utterance has as many tokens as steps at most.
        return [
            [int(token) for token in tokens[:most] if int(token) != _EDGE]
            for tokens, most in zip(hypotheses, steps.tolist(), strict=True)
        ]
