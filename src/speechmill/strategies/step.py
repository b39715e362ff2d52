"""What every strategy does with a batch: its summed loss, seeded by its number, in pieces where memory is short."""

from __future__ import annotations

import torch

from speechmill.augment import Draws, augment_audio, augment_features
from speechmill.errors import SpeechmillError
from speechmill.loader import Batch
from speechmill.losses import LossSum
from speechmill.models.base import Recognizer
from speechmill.ordering import seed_of
from speechmill.settings import Recipe
from speechmill.sounds import Sounds


def ctc_is_trained(recipe: Recipe, update: int) -> bool:
    """Whether this update's loss has CTC in it, where the model has something else to train."""
    loss = recipe.loss
    return loss.ctc_weight > 0.0 and (loss.ctc_epochs == 0 or update < loss.ctc_epochs * recipe.train.nominal_epoch)


def batch_loss(
    model: Recognizer, batch: Batch, recipe: Recipe, with_ctc: bool, piece: int = 0, sounds: Sounds | None = None
) -> LossSum:
    """The summed loss of a batch, or of a piece of it.

    Dropout is seeded by (seed, batch number, piece), augmentation by (seed, utterance, epoch), and by nothing else.
    """
    torch.manual_seed(seed_of(recipe.train.seed, batch.number, *([piece] if piece else [])))
    draws = Draws(batch.ids, recipe.train.seed, batch.epoch)
    dtype = next(model.parameters()).dtype
    with torch.no_grad():
        audio, lengths = augment_audio(batch.audio.to(dtype) / 32768.0, batch.lengths, recipe.augment, draws, sounds)
        features, frames = model.log_mel(audio, lengths)
        features = augment_features(features, frames, recipe.augment, draws)
    mixed = effective_precision(recipe, batch.audio.device) == "bfloat16"
    with torch.autocast(batch.audio.device.type, torch.bfloat16, enabled=mixed):
        return model.loss(features, frames, batch.targets, batch.target_lengths, with_ctc=with_ctc)


def effective_precision(recipe: Recipe, device: torch.device) -> str:
    """What `auto` means on this device."""
    if recipe.train.precision != "auto":
        return recipe.train.precision
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)  # older GPUs would compute it in float32
    else:
        fast = torch.cpu._is_avx512_bf16_supported()
    return "bfloat16" if fast else "float32"


def finish_gradients(model: Recognizer, tokens: int, clip_norm: float) -> torch.Tensor:
    """Divide summed gradients by the update's target tokens, and clip; returns their norm before clipping."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    torch._foreach_div_(gradients, float(max(1, tokens)))
    norm = torch.nn.utils.get_total_norm(gradients)
    if clip_norm:
        torch.nn.utils.clip_grads_with_norm_(model.parameters(), clip_norm, norm)
    return norm


def in_pieces(batch: Batch, limit: int) -> list[Batch]:
    """A batch cut into runs of utterances whose padded samples are at most `limit` (0: no limit); one at least in each.

    The schedule's batch stays what it is: the pieces have its number, and their sums add up to its sum. Only batch
    normalisation sees the pieces one by one.
    """
    if not limit or batch.audio.numel() <= limit:
        return [batch]
    rows = max(1, limit // batch.audio.shape[1])
    return [_rows(batch, slice(start, start + rows)) for start in range(0, len(batch.ids), rows)]


def smaller(piece: Batch) -> int:
    """The limit for `in_pieces` after this piece did not fit. Raises SpeechmillError where it cannot be cut."""
    if len(piece.ids) == 1:
        raise SpeechmillError(
            f"not enough memory for the utterance {piece.ids[0]!r} alone ({piece.audio.numel()} samples); "
            f"select shorter ones (select.max_seconds), or use a smaller model."
        )
    return piece.audio.shape[1] * ((len(piece.ids) + 1) // 2)


def _rows(batch: Batch, rows: slice) -> Batch:
    lengths, target_lengths = batch.lengths[rows], batch.target_lengths[rows]
    audio = batch.audio[rows, : int(lengths.max())]
    targets = batch.targets[rows, : max(1, int(target_lengths.max()))]
    return batch._replace(
        ids=batch.ids[rows], audio=audio, lengths=lengths, targets=targets, target_lengths=target_lengths
    )
