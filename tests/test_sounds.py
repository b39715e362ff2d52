"""Noises and rooms: what comes out of folders and of the corpus, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from conftest import RATE
from speechmill.config import override_recipe
from speechmill.errors import SpeechmillError
from speechmill.group import ALONE
from speechmill.models.ngram import NgramModel
from speechmill.settings import Recipe
from speechmill.shards.foreign import open_reader
from speechmill.shards.index import Index
from speechmill.sounds import babble, open_sounds
from speechmill.tokenizer import Tokenizer
from speechmill.train.language import LANGUAGE_MODEL_NAME, save_language_model
from speechmill.train.loop import with_absolute_paths
from speechmill.train.runlog import check_same_experiment, write_config
from trained import tiny_recipe


@pytest.fixture
def recipe(shards: Path, tokenizer_path: Path) -> Recipe:
    return tiny_recipe(shards, tokenizer_path)


def test_babble_is_of_train_utterances_and_always_the_same(index: Index) -> None:
    track = babble(index, 0)
    assert track.dtype == np.int16
    assert np.abs(track).max() == 32767
    assert np.array_equal(track, babble(index, 0))
    assert not np.array_equal(track, babble(index, 1))
    reader = open_reader(index)
    rows = index.rows("train").tolist()
    longest = max(len(reader.audio(row)) for row in rows)
    assert len(track) > longest
    assert abs(len(track) - sum(len(reader.audio(row)) for row in rows) // 6) <= 1
    loud = np.sqrt(np.square(track[: len(track) // 2].astype(float)).mean())
    assert loud > 1000, "voices end long before the track"


def test_folders_of_noises_and_rooms(recipe: Recipe, index: Index, tmp_path: Path) -> None:
    noises, rooms = tmp_path / "noises", tmp_path / "rooms"
    (noises / "inner").mkdir(parents=True)
    rooms.mkdir()
    time = np.arange(2 * RATE) / (2 * RATE)
    soundfile.write(noises / "a.wav", 0.1 * np.sin(2 * np.pi * 100 * time), 2 * RATE)  # of another rate
    soundfile.write(noises / "inner" / "b.flac", 0.2 * np.ones(RATE // 2), RATE)
    (noises / "readme.txt").write_text("no audio")
    response = np.zeros(RATE // 4)
    response[300], response[700] = 0.8, 0.2
    soundfile.write(rooms / "hall.wav", response, RATE)
    settings = ["augment.noise_db=[0,10]", "augment.noise_kinds=[folder]", f"augment.noise_folder={noises}",
                f"augment.reverb_folder={rooms}"]  # fmt: skip
    sounds = open_sounds(override_recipe(recipe, settings), index)
    assert len(sounds.noises["folder"]) == pytest.approx(1.5 * RATE, abs=20)
    assert sounds.rooms.shape == (1, 401)
    torch.testing.assert_close(sounds.rooms[0, [0, 400]], torch.tensor([0.8, 0.2]), atol=1e-3, rtol=0)
    assert open_sounds(recipe, index).noises == {}


@pytest.mark.parametrize(
    ("key", "message"),
    [("missing", "is no folder"), ("empty", "has no audio files"), ("silent", "nothing but silence")],
)
def test_bad_folders(key: str, message: str, recipe: Recipe, index: Index, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "silent").mkdir()
    soundfile.write(tmp_path / "silent" / "a.wav", np.zeros(100), RATE)
    settings = ["augment.noise_db=[0,10]", "augment.noise_kinds=[folder]", f"augment.noise_folder={tmp_path / key}"]
    with pytest.raises(SpeechmillError, match=message):
        open_sounds(override_recipe(recipe, settings), index)


def test_a_silent_room(recipe: Recipe, index: Index, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(100), RATE)
    with pytest.raises(SpeechmillError, match=r"a\.wav: is silent, expected the impulse response"):
        open_sounds(override_recipe(recipe, [f"augment.reverb_folder={tmp_path}"]), index)


def test_a_folder_without_its_kind_is_a_clash() -> None:
    with pytest.raises(SpeechmillError, match="go together"):
        override_recipe(Recipe(), ["augment.noise_folder=somewhere"])


class Damaged:
    """A reader that cannot read some rows."""

    def __init__(self, reader: Any, rows: set[int]) -> None:
        self.reader, self.rows = reader, rows

    def audio(self, row: int) -> Any:
        return self.read(row, self.reader.audio)

    def about(self, row: int) -> Any:
        return self.read(row, self.reader.about)

    def read(self, row: int, how: Callable[[int], Any]) -> Any:
        if row in self.rows:
            raise SpeechmillError("damaged")
        return how(row)


def test_damaged_utterances_are_left_out(recipe: Recipe, index: Index, tokenizer: Tokenizer, tmp_path: Path,
                                         monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    rows = index.rows("train").tolist()
    damaged = Damaged(open_reader(index), set(rows[::3]))
    monkeypatch.setattr("speechmill.sounds.open_reader", lambda _: damaged)
    monkeypatch.setattr("speechmill.train.language.open_reader", lambda _: damaged)
    assert np.abs(babble(index, 0)).max() == 32767
    search = override_recipe(recipe, ["search.kind=beam", "search.lm_order=2"])
    save_language_model(search, tmp_path, index, tokenizer, ALONE)
    texts = [tokenizer.encode(damaged.about(row)["text"]) for row in rows if row not in damaged.rows]
    expected = NgramModel.train(texts, 2, len(tokenizer))
    found = NgramModel.load(tmp_path / LANGUAGE_MODEL_NAME)
    assert [found.score([], token) for token in range(1, len(tokenizer))] == [
        expected.score([], token) for token in range(1, len(tokenizer))
    ]


def test_folders_are_found_from_anywhere_and_may_move(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here = with_absolute_paths(override_recipe(recipe, ["augment.reverb_folder=rooms"]))
    assert here.augment.reverb_folder == str(tmp_path.resolve() / "rooms")
    run = tmp_path / "run"
    run.mkdir()
    write_config(run, here)
    check_same_experiment(run, override_recipe(here, ["augment.reverb_folder=/elsewhere"]))
    with pytest.raises(SpeechmillError, match=r"augment\.reverb_share"):
        check_same_experiment(run, override_recipe(here, ["augment.reverb_share=0.25"]))
