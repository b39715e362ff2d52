"""One schedule out of what lies in several places: a folder of ours, one behind a URL, TARs of somebody else."""

from __future__ import annotations

import functools
import http.server
import io
import json
import pickle
import tarfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from conftest import RATE, SHARD_SETTINGS, sentence, sound, words_of
from speechmill.config import override_recipe
from speechmill.errors import SpeechmillError
from speechmill.evaluate import evaluate
from speechmill.loader import BatchDataset, batches, utterances_of
from speechmill.schedule import Schedule
from speechmill.settings import DataSettings, ScheduleSettings, ShardFolder, ShardSettings
from speechmill.shards.foreign import index_foreign, open_reader
from speechmill.shards.index import Index, open_index
from speechmill.shards.mixture import Mixture, open_data
from speechmill.shards.store import CachedIndex
from speechmill.shards.tokens import token_counts
from speechmill.shards.write import shard_manifest
from speechmill.tokenizer import Tokenizer
from speechmill.train.loop import train
from trained import tiny_recipe

GB = 1.0


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


def write_theirs(folder: Path, calls: range) -> Path:
    """A TAR as others write them: WAV at twice our rate, the text in a file of its own."""
    folder.mkdir(parents=True)
    with tarfile.open(folder / "train-0.tar", "w") as tar:
        for call in calls:
            for row in range(6):
                words = words_of(call, row)
                wav = io.BytesIO()
                soundfile.write(wav, np.repeat(sound(words), 2), 2 * RATE, format="WAV", subtype="PCM_16")
                for suffix, data in (("wav", wav.getvalue()), ("txt", sentence(words).encode())):
                    info = tarfile.TarInfo(f"{call}_{row}.{suffix}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    index_foreign(folder, ShardSettings(sample_rate=RATE))
    return folder


@pytest.fixture(scope="module")
def places(manifest: Path, shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ShardFolder]]:
    pytest.importorskip("aiohttp", reason="the extra speechmill[s3] is not installed")
    folder = tmp_path_factory.mktemp("places")
    shard_manifest(manifest, folder / "ours", SHARD_SETTINGS.model_copy(update={"seed": 7}), processes=1)
    write_theirs(folder / "theirs far away", range(300, 303))
    near = write_theirs(folder / "near", range(400, 402))
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        yield [
            ShardFolder(path=str(shards)),
            ShardFolder(path=f"{url}/ours", weight=2),
            ShardFolder(path=str(near)),
            ShardFolder(path=f"{url}/theirs%20far%20away", weight=1),
        ]
        server.shutdown()


@pytest.fixture
def mixture(places: list[ShardFolder], tmp_path: Path) -> Index:
    # Only what is a URL needs the cache; folders go through it as well where one is given.
    return open_data(places, str(tmp_path / "cache"), GB)


def test_all_places_are_read_as_one(mixture: Index, places: list[ShardFolder], shards: Path, tmp_path: Path) -> None:
    assert isinstance(mixture, Mixture)
    assert all(isinstance(part, CachedIndex) for part in mixture.parts)
    originals = [shards, tmp_path, Path(places[2].path), tmp_path]
    reader = open_reader(mixture)
    start = 0
    for part, original in zip(mixture.parts, originals, strict=True):
        own = open_reader(open_index(original) if original != tmp_path else part)
        for place in range(0, len(part), 5):
            row = start + place
            heard = own.audio(place)
            for fast in (True, False):
                into = np.full(int(mixture.samples[row]), 7, np.int16)
                reader.audio_into(row, into, fast)
                assert (into == heard).all()
            assert (reader.audio(row) == heard).all()
            assert reader.about(row) == own.about(place)
        start += len(part)
    assert start == len(mixture)


def test_loader_workers_give_every_utterance_as_often_as_its_weight_says(mixture: Index, tokenizer: Tokenizer) -> None:
    settings = ScheduleSettings(target_seconds=6, limit_seconds=8, window_shards=2)
    schedule = Schedule(utterances_of(mixture, "train", None), settings)
    schedule.locate(0)
    dataset = BatchDataset(mixture, schedule, tokenizer)
    numbers = range(schedule.epoch_starts[1])
    rows = Counter(row for number in numbers for row in dataset.request(number).rows.tolist())
    ends = mixture.row_ends.tolist() if isinstance(mixture, Mixture) else []
    weights = [[1, 2, 1, 1][int(np.searchsorted(ends, row, side="right"))] for row in mixture.rows("train")]
    assert [rows[row] for row in mixture.rows("train").tolist()] == weights
    for here, there in zip(batches(dataset, numbers, 0, False), batches(dataset, numbers, 2, False), strict=True):
        slow = dataset.assembler.batch(dataset.request(here.number), fast=False)
        assert here.ids == there.ids == slow.ids
        assert (here.audio == there.audio).all()
        assert (here.audio == slow.audio).all()
        assert here.damaged == there.damaged == ()


def test_training_resuming_and_evaluating_a_mixture_of_places(
    places: list[ShardFolder], shards: Path, tokenizer_path: Path, tmp_path: Path
) -> None:
    mix = json.dumps([folder.model_dump() for folder in places])
    recipe = override_recipe(
        tiny_recipe(shards, tokenizer_path),
        [f"data.shards={mix}", f"data.cache={tmp_path / 'cache'}", "train.loader_workers=1", "train.updates=8",
         "optim.schedule=constant"],
    )  # fmt: skip
    assert train(override_recipe(recipe, ["train.updates=4"]), tmp_path / "run").updates == 4
    done = train(recipe, tmp_path / "run")
    assert (done.updates, done.finished) == (8, True)
    assert evaluate(tmp_path / "run", split="test").scores["utterances"] == 2 * 12


def test_paths_become_absolute_and_urls_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folders = [ShardFolder(path="mine"), ShardFolder(path="s3://corpus/v1", weight=0.5)]
    found = DataSettings(shards=folders, cache="cache", tokenizer="t.model").resolved()
    assert [folder.path for folder in found.shards if isinstance(folder, ShardFolder)] == [
        f"{tmp_path}/mine", "s3://corpus/v1"
    ]  # fmt: skip
    assert (found.cache, found.tokenizer) == (f"{tmp_path}/cache", f"{tmp_path}/t.model")
    assert DataSettings(shards="http://host/x").resolved().shards == "http://host/x"


def test_token_counts_and_another_process(mixture: Index, tokenizer: Tokenizer) -> None:
    again = pickle.loads(pickle.dumps(mixture))  # noqa: S301
    assert isinstance(again, Mixture)
    assert again.fingerprint == mixture.fingerprint
    counts = token_counts(again, tokenizer)
    reader = open_reader(mixture)
    for row in range(0, len(mixture), 11):
        assert counts[row] == len(tokenizer.encode(reader.about(row)["text"]))


def test_a_url_in_a_mixture_needs_a_cache_that_holds_its_windows(places: list[ShardFolder], tmp_path: Path) -> None:
    with pytest.raises(SpeechmillError, match=r"needs a cache; set data\.cache"):
        open_data(places)
    index = open_data(places, str(tmp_path / "cache"), GB)
    assert isinstance(index, Mixture)
    parts = [part for part in index.parts if isinstance(part, CachedIndex)]
    sizes = [part.shard_bytes([0]) for part in parts]
    firsts = [0, *np.cumsum([len(part.shard_names) for part in parts])[:-1].tolist()]
    small = open_data(places, str(tmp_path / "small"), 2.1 * max(sizes) / 1e9)
    small.fetch_ahead(firsts[:1])
    with pytest.raises(SpeechmillError, match="cannot hold two windows of 4 shards"):
        small.fetch_ahead(firsts)
