"""What training reads: index and tokenizer of a recipe, and the dataset of its schedule's batches."""

from __future__ import annotations

from pathlib import Path

from speechmill.errors import SpeechmillError
from speechmill.loader import BatchDataset, utterances_of
from speechmill.schedule import Schedule
from speechmill.settings import Recipe
from speechmill.shards.index import Index
from speechmill.shards.mixture import open_data
from speechmill.tokenizer import BLANK, Tokenizer, check_tokenizer, load_tokenizer

_TEXTS = 200  # whose letters are looked at before a run begins
_UNKNOWN = (
    0.05  # of their pieces: a tokenizer of the text has none, of another corpus's text a few (currencies, accents)
)


def open_train_index(recipe: Recipe) -> Index:
    """The index of the recipe's shards. Raises SpeechmillError where they are of another sample rate."""
    index = open_data(recipe.data.shards, recipe.data.cache, recipe.data.cache_gb)
    if index.sample_rate != recipe.features.sample_rate:
        raise SpeechmillError(
            f"{index.folder}: holds audio at {index.sample_rate} Hz, features.sample_rate is "
            f"{recipe.features.sample_rate}; shard again or change the recipe."
        )
    return index


def open_train_tokenizer(recipe: Recipe) -> Tokenizer:
    tokenizer_path = Path(needed(recipe.data.tokenizer, "data.tokenizer"))
    tokenizer = load_tokenizer(tokenizer_path)
    check_tokenizer(tokenizer, recipe.tokenizer, tokenizer_path)
    return tokenizer


def batches_of(index: Index, tokenizer: Tokenizer, recipe: Recipe, epoch_starts: list[int]) -> BatchDataset:
    """The batches of the recipe's schedule, by number."""
    utterances = utterances_of(index, "train", tokenizer if recipe.schedule.max_tokens else None)
    return BatchDataset(index, Schedule(utterances, recipe.schedule, epoch_starts), tokenizer)


def check_letters(dataset: BatchDataset, tokenizer: Tokenizer, path: Path) -> None:
    """Raise SpeechmillError where a tokenizer lacks the letters of the text that is trained on first.

    Unknown pieces are 0, which is the blank, too: a model would learn silence where the text has words.
    """
    encoded = {text: tokenizer.encode(text) for text in dataset.first_texts(_TEXTS)}
    pieces, unknown = sum(map(len, encoded.values())), sum(ids.count(BLANK) for ids in encoded.values())
    if unknown <= _UNKNOWN * pieces:
        return
    worst = max(encoded, key=lambda text: encoded[text].count(BLANK))
    written = tokenizer.settings.text == "as_written"
    advice = "set tokenizer.text=normalized where its pieces are upper-case words without punctuation, or "
    raise SpeechmillError(
        f"{path}: {unknown} of the {pieces} pieces of the first train texts are unknown to this tokenizer, as in "
        f"{worst[:60]!r} (tokenizer.text={tokenizer.settings.text}); {advice if written else ''}"
        f"train one of this text with `speechmill tokenizer`."
    )


def open_dataset(recipe: Recipe, epoch_starts: list[int]) -> BatchDataset:
    """The same from nothing, for a process that trains beside others."""
    return batches_of(open_train_index(recipe), open_train_tokenizer(recipe), recipe, epoch_starts)


def needed(value: str, key: str) -> str:
    if not value:
        raise SpeechmillError(f"{key} is not set; add it to the recipe or give it as {key}=PATH.")
    return value
