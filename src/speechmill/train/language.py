"""The language model of a run's search: made from the train text when training starts, opened to recognize."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from speechmill.errors import SpeechmillError, StorageError
from speechmill.group import Group
from speechmill.models.language import LanguageModel
from speechmill.models.neural import NeuralModel
from speechmill.models.ngram import NgramModel
from speechmill.ordering import permutation
from speechmill.progress import Progress, track
from speechmill.settings import Recipe, SearchSettings
from speechmill.shards.foreign import open_reader
from speechmill.shards.index import Index
from speechmill.tokenizer import Tokenizer

LANGUAGE_MODEL_NAME = "lm.npz"
NEURAL_MODEL_NAME = "lm.pt"
_BATCH = 64  # sentences
_LR = 3e-3


def needs_language_model(recipe: Recipe, run: Path) -> bool:
    """Whether the recipe's search reads a language model that the run does not have yet."""
    search = recipe.search
    if not search.reads_language_model():
        return False
    if search.lm == "neural":
        path = run / NEURAL_MODEL_NAME
        if not path.is_file():
            return True
        there = NeuralModel.load(path)
        return (there.size, there.updates) != (search.lm_size, search.lm_updates)
    path = run / LANGUAGE_MODEL_NAME
    return not path.is_file() or NgramModel.load(path).order != search.lm_order


def save_language_model(recipe: Recipe, run: Path, index: Index, tokenizer: Tokenizer, group: Group) -> None:
    """Make the language model of the recipe's search from the train text."""
    reader, rows = open_reader(index), index.rows("train").tolist()

    def sentences() -> Iterator[list[int]]:
        for row in track(rows, "language model", len(rows), "utterances"):
            group.alive()
            try:
                text = reader.about(row)["text"]
            except StorageError:
                raise
            except SpeechmillError:
                continue  # damaged: training counts it when it comes to it
            yield tokenizer.encode(text)

    if recipe.search.lm == "neural":
        train_neural(list(sentences()), len(tokenizer), recipe.search, recipe.train.seed, group).save(
            run / NEURAL_MODEL_NAME
        )
    else:
        NgramModel.train(sentences(), recipe.search.lm_order, len(tokenizer)).save(run / LANGUAGE_MODEL_NAME)


def train_neural(
    sentences: list[list[int]], tokens: int, search: SearchSettings, seed: int, group: Group
) -> NeuralModel:
    """`lm_updates` updates of Adam, the rate falling linearly, on batches of sentences of like length."""
    torch.manual_seed(seed)
    model = NeuralModel(tokens, search.lm_size)
    optimizer = torch.optim.Adam(model.parameters(), lr=_LR)
    order = sorted(range(len(sentences)), key=lambda place: (len(sentences[place]), place))
    batches = [order[first : first + _BATCH] for first in range(0, len(order), _BATCH)]
    with Progress("train the language model", search.lm_updates, "updates") as progress:
        for update in range(search.lm_updates):
            epoch, place = divmod(update, len(batches))
            chosen = [sentences[row] for row in batches[permutation(len(batches), seed, epoch)[place]]]
            lengths = torch.tensor([len(sentence) for sentence in chosen])
            padded = torch.zeros(len(chosen), int(lengths.max()), dtype=torch.int64)
            for row, sentence in zip(padded, chosen, strict=True):
                row[: len(sentence)] = torch.tensor(sentence, dtype=torch.int64)
            for settings in optimizer.param_groups:
                settings["lr"] = _LR * (1.0 - update / search.lm_updates)
            loss = model.loss(padded, lengths)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            progress.advance(note=f"loss {float(loss.detach()):.3f}")
            group.alive()
    model.updates = search.lm_updates
    return model.eval()


def open_language_model(run: Path, search: SearchSettings, device: torch.device) -> LanguageModel | None:
    """What the search reads; None where it reads none. SpeechmillError where the run has none or another."""
    if not search.reads_language_model():
        return None
    if search.lm == "neural":
        path = run / NEURAL_MODEL_NAME
        if not path.is_file():
            raise SpeechmillError(
                f"{path}: the language model is not there; training makes one, so set search.lm=neural in its recipe."
            )
        return NeuralModel.load(path).to(device)
    path = run / LANGUAGE_MODEL_NAME
    found = NgramModel.load(path) if path.is_file() else None
    if found is None or found.order != search.lm_order:
        there = f"has order {found.order}" if found else "is not there"
        raise SpeechmillError(
            f"{path}: the language model {there}, search.lm_order is {search.lm_order}; training counts one, "
            f"so set search.lm_order in its recipe, or 0 for a search without."
        )
    return found
