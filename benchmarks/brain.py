"""SpeechBrain's side of the comparisons: its modules under its `Brain`, as its recipes write them.

Nothing here is ours but the sizes: a recipe of this project, and the weights where both sides shall start alike.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import speechbrain as sb
import torch
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.lobes.features import Fbank
from speechbrain.nnet.attention import LocationAwareAttention
from speechbrain.nnet.embedding import Embedding
from speechbrain.nnet.linear import Linear
from speechbrain.nnet.losses import ctc_loss, nll_loss
from speechbrain.nnet.RNN import AttentionalRNNDecoder
from speechbrain.processing.features import InputNormalization
from torch import Tensor

from speechmill.loader import Batch
from speechmill.models.crdnn import CrdnnRecognizer
from speechmill.models.encoder import reference_encoder
from speechmill.settings import CrdnnSettings, Recipe

EDGE = 0  # BOS and EOS share index 0 with blank
# Their names of our modules; the names of the parameters inside are the same.
_PARTS = {
    "encoder": "encoder", "embedding": "embedding", "decoder": "decoder", "ctc_lin": "ctc_head", "seq_lin": "head",
}  # fmt: skip


class AttentionBrain(sb.Brain):  # type: ignore[misc]
    """CTC and attention on a CRDNN."""

    def compute_forward(self, batch: PaddedBatch, stage: sb.Stage) -> tuple[Tensor, Tensor]:
        del stage
        batch = batch.to(self.device)
        signals, lengths = batch.sig
        with torch.no_grad():
            features = self.hparams.compute_features(signals)
            features = self.modules.normalize(features, lengths, epoch=self.hparams.epoch)
        encoded = self.modules.encoder(features)
        decoded, _ = self.modules.decoder(self.modules.embedding(batch.tokens_bos.data), encoded, lengths)
        of_tokens, of_steps = self.modules.seq_lin(decoded), self.modules.ctc_lin(encoded)
        # At least float32, as SpeechBrain's own Softmax has it; that has no float64.
        of_tokens, of_steps = (
            torch.log_softmax(logits, dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))
            for logits in (of_tokens, of_steps)
        )
        return of_steps, of_tokens

    def compute_objectives(self, predictions: tuple[Tensor, Tensor], batch: PaddedBatch, stage: sb.Stage) -> Tensor:
        """Per target token, as this project has it."""
        del stage
        of_steps, of_tokens = predictions
        batch = batch.to(self.device)
        tokens, token_lengths = batch.tokens
        seq = nll_loss(
            of_tokens, batch.tokens_eos.data, length=batch.tokens_eos.lengths, reduction="batchmean",
            label_smoothing=self.hparams.label_smoothing,
        )  # fmt: skip
        ctc = ctc_loss(of_steps, tokens, batch.sig.lengths, token_lengths, EDGE, reduction="batchmean")
        weight = self.hparams.ctc_weight
        return ((1 - weight) * seq + weight * ctc) * (len(tokens) / self.hparams.target_tokens(batch))


def build_brain(
    recipe: Recipe, tokens: int, precision: str = "fp32", device: str = "cpu", kind: type[AttentionBrain] | None = None
) -> AttentionBrain:
    """A brain for a recipe of kind crdnn, its normalisation that of features which are normal already."""
    settings = recipe.model
    assert isinstance(settings, CrdnnSettings)
    normalize = InputNormalization(norm_type="global", update_until_epoch=1)
    normalize.glob_mean, normalize.glob_std = torch.zeros(recipe.features.n_mels), torch.ones(recipe.features.n_mels)
    modules = {
        "normalize": normalize,
        "encoder": reference_encoder(recipe.features, settings),
        "embedding": Embedding(num_embeddings=tokens, embedding_dim=settings.embedding_size),
        "decoder": AttentionalRNNDecoder(
            enc_dim=settings.dnn_size, input_size=settings.embedding_size, rnn_type="gru", attn_type="location",
            hidden_size=settings.decoder_size, attn_dim=settings.attention_size, num_layers=1,
            channels=settings.attention_channels, kernel_size=settings.attention_kernel, re_init=True,
            dropout=settings.dropout,
        ),
        "ctc_lin": Linear(input_size=settings.dnn_size, n_neurons=tokens),
        "seq_lin": Linear(input_size=settings.decoder_size, n_neurons=tokens),
    }  # fmt: skip
    hparams = {
        "compute_features": Fbank(
            sample_rate=recipe.features.sample_rate, n_fft=recipe.features.n_fft, n_mels=recipe.features.n_mels,
            win_length=recipe.features.window_ms, hop_length=recipe.features.hop_ms,
        ).to(device),
        "epoch": 1,  # of the statistics: they stay as they are
        "ctc_weight": recipe.loss.ctc_weight,
        "label_smoothing": recipe.loss.label_smoothing,
        "target_tokens": lambda batch: int((batch.tokens.lengths * batch.tokens.data.shape[1]).round().sum()),
    }  # fmt: skip
    options = {"device": device, "precision": precision, "max_grad_norm": recipe.optim.clip_norm}
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    settings_of = {"lr": recipe.optim.lr, "betas": recipe.optim.betas, "weight_decay": recipe.optim.weight_decay}
    brain = (kind or AttentionBrain)(
        modules, lambda parameters: kinds[recipe.optim.kind](parameters, **settings_of), hparams, options
    )
    brain.on_fit_start()
    brain.modules.train()
    return brain


def give_weights(model: CrdnnRecognizer, brain: AttentionBrain) -> None:
    """Make the brain start from a model's weights and statistics."""
    for theirs, ours in _PARTS.items():
        brain.modules[theirs].load_state_dict(model.get_submodule(ours).state_dict())
    brain.modules["normalize"].glob_mean = model.log_mel.mean.clone()
    brain.modules["normalize"].glob_std = model.log_mel.deviation.clone()


def give_back(brain: AttentionBrain, model: CrdnnRecognizer) -> None:
    """Put a brain's weights, and the running averages of its normalisation, into a model."""
    for theirs, ours in _PARTS.items():
        model.get_submodule(ours).load_state_dict(brain.modules[theirs].state_dict())


def same_parameters(model: CrdnnRecognizer, brain: AttentionBrain) -> list[tuple[str, Any, Any]]:
    """Name, ours and theirs of every parameter."""
    found = []
    for theirs, ours in _PARTS.items():
        other = dict(brain.modules[theirs].named_parameters())
        named = model.get_submodule(ours).named_parameters()
        found += [(f"{theirs}.{name}", one, other[name]) for name, one in named]
    return found


def brain_batch(batch: Batch, dtype: torch.dtype = torch.float32) -> PaddedBatch:
    """Our batch as SpeechBrain's loader would give it."""
    examples = []
    for row, name in enumerate(batch.ids):
        tokens = batch.targets[row, : batch.target_lengths[row]]
        edge = tokens.new_full((1,), EDGE)
        examples.append(
            {
                "id": name,
                "sig": batch.audio[row, : batch.lengths[row]].to(dtype) / 32768.0,
                "tokens": tokens,
                "tokens_bos": torch.cat([edge, tokens]),
                "tokens_eos": torch.cat([tokens, edge]),
            }
        )
    return PaddedBatch(examples)


@contextlib.contextmanager
def exact_attention() -> Iterator[None]:
    """SpeechBrain's first attention weights are 1 / length in float32; in here in the type of the rest.

    Without this its location-aware attention does not run in float64 at all.
    """
    original = LocationAwareAttention.forward

    class Length(Tensor):
        """A length whose `float()` is as wide as the encoder's output."""

    def forward(attention: LocationAwareAttention, states: Tensor, length: Tensor, query: Tensor) -> object:
        wide = length.as_subclass(Length)
        wide.float = lambda: length.to(states.dtype)  # type: ignore[method-assign]
        return original(attention, states, wide, query)

    LocationAwareAttention.forward = forward
    try:
        yield
    finally:
        LocationAwareAttention.forward = original
