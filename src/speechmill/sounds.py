"""Noises and rooms that augmentation mixes in: from folders that the user names, and babble made of the corpus."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from speechmill.audio import decode
from speechmill.errors import SpeechmillError, StorageError
from speechmill.ordering import permutation
from speechmill.progress import track
from speechmill.settings import Recipe
from speechmill.shards.foreign import open_reader
from speechmill.shards.index import Index

_SUFFIXES = {".wav", ".flac", ".mp3", ".ogg", ".opus"}
_NOISE_SECONDS = 1800.0  # of a folder's noises that are kept in memory, at most
_CLIP_SECONDS = 60.0  # of one file
_BABBLE_SECONDS = 120.0
_VOICES = 6  # that talk at once
_ROOM_SECONDS = 1.0  # of an impulse response, from its direct sound on
_ROOMS = 500  # at most


@dataclass(frozen=True)
class Sounds:
    """What is mixed in, at the recipe's sample rate."""

    noises: dict[str, Tensor] = field(default_factory=dict)  # kind -> one int16 track, [samples]
    rooms: Tensor = field(default_factory=lambda: torch.zeros(0, 0))  # [rooms, taps], float32

    def to(self, device: torch.device) -> Sounds:
        noises = {kind: sound.to(device) for kind, sound in self.noises.items()}
        return Sounds(noises, self.rooms.to(device))


def open_sounds(recipe: Recipe, index: Index) -> Sounds:
    """The sounds that the recipe's augmentation needs; a pure function of recipe, folders and shards.

    Raises SpeechmillError where a folder has no audio, or some of it cannot be read.
    """
    settings, rate, seed = recipe.augment, recipe.features.sample_rate, recipe.train.seed
    noises: dict[str, Tensor] = {}
    if settings.noise_db is not None and "babble" in settings.noise_kinds:
        noises["babble"] = torch.from_numpy(babble(index, seed))
    if settings.noise_db is not None and "folder" in settings.noise_kinds:
        noises["folder"] = torch.from_numpy(_noises(Path(settings.noise_folder), rate, seed))
    if settings.reverb_folder:
        return Sounds(noises, torch.from_numpy(_rooms(Path(settings.reverb_folder), rate, seed)))
    return Sounds(noises)


def babble(index: Index, seed: int) -> npt.NDArray[np.int16]:
    """Six voices at once: utterances of the train split, drawn by the seed, each as loud as the others."""
    rows = index.rows("train")
    reader, wanted = open_reader(index), int(_BABBLE_SECONDS * index.sample_rate)
    # A small corpus gives a shorter track, and each voice still speaks words of its own.
    wanted = min(wanted, max(1, int(index.samples[rows].sum()) // _VOICES))
    mixed = np.zeros(wanted, dtype=np.float64)
    order = iter(rows[permutation(len(rows), seed, _VOICES)].tolist())
    for _ in track(range(_VOICES), "babble", _VOICES, "voices"):
        at = 0
        while at < wanted and (row := next(order, None)) is not None:
            try:
                audio = reader.audio(row).astype(np.float64)[: wanted - at]
            except StorageError:
                raise
            except SpeechmillError:
                continue  # damaged: training counts it when it comes to it
            loud = np.sqrt(np.square(audio).mean()) if len(audio) else 0.0
            mixed[at : at + len(audio)] += audio / max(loud, 1.0)
            at += len(audio)
    return _at_full_scale(mixed)


def _noises(folder: Path, rate: int, seed: int) -> npt.NDArray[np.int16]:
    """Files of a folder behind one another, in an order drawn by the seed."""
    clips: list[npt.NDArray[np.int16]] = []
    left = int(_NOISE_SECONDS * rate)
    for path in _files(folder, "augment.noise_folder", seed):
        if left <= 0:
            break
        clip = decode(path, rate)[: min(left, int(_CLIP_SECONDS * rate))]
        if clip.any():
            clips.append(_at_full_scale(clip.astype(np.float64)))
            left -= len(clip)
    if not clips:
        raise SpeechmillError(f"{folder}: augment.noise_folder has nothing but silence in it.")
    return np.concatenate(clips)


def _rooms(folder: Path, rate: int, seed: int) -> npt.NDArray[np.float32]:
    """Impulse responses from their loudest sample on, which is the direct sound."""
    paths = _files(folder, "augment.reverb_folder", seed)[:_ROOMS]
    rooms = np.zeros((len(paths), int(_ROOM_SECONDS * rate)), dtype=np.float32)
    for room, path in zip(rooms, paths, strict=True):
        response = decode(path, rate).astype(np.float32) / 32768.0
        if not response.any():
            raise SpeechmillError(f"{path}: is silent, expected the impulse response of a room.")
        response = response[int(np.abs(response).argmax()) :][: len(room)]
        room[: len(response)] = response
    longest = int(np.flatnonzero(rooms.any(axis=0))[-1]) + 1
    return rooms[:, :longest]


def _files(folder: Path, key: str, seed: int) -> list[Path]:
    if not folder.is_dir():
        raise SpeechmillError(f"{folder}: {key} is no folder; name one with audio files.")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
    if not found:
        raise SpeechmillError(f"{folder}: {key} has no audio files ({', '.join(sorted(_SUFFIXES))}).")
    return [found[place] for place in permutation(len(found), seed)]


def _at_full_scale(sound: npt.NDArray[np.float64]) -> npt.NDArray[np.int16]:
    peak = np.abs(sound).max(initial=0.0)
    scaled: npt.NDArray[np.int16] = np.rint(sound / max(peak, 1e-9) * 32767.0).astype(np.int16)
    return scaled
