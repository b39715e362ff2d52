"""Reading through a cache: by path, over HTTP and from S3; bounded, checksummed, shared by processes."""

from __future__ import annotations

import functools
import http.server
import multiprocessing.forkserver
import os
import pickle
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from speechmill.cli import main
from speechmill.errors import SpeechmillError, StorageError
from speechmill.loader import BatchDataset, batches, utterances_of
from speechmill.schedule import Schedule
from speechmill.settings import DataSettings, Recipe, ScheduleSettings
from speechmill.shards import remote as remote_module
from speechmill.shards.cache import ShardCache
from speechmill.shards.index import Index, open_index
from speechmill.shards.mixture import open_data
from speechmill.shards.read import ShardReader
from speechmill.shards.remote import Remote, RemoteFault
from speechmill.shards.store import CachedIndex, open_shards
from speechmill.shards.tokens import token_counts
from speechmill.tokenizer import Tokenizer
from speechmill.train.loop import train
from trained import tiny_recipe

GB = 1.0  # more than all shards of the tests


@pytest.fixture
def source(shards: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shards, tmp_path / "far away", ignore=shutil.ignore_patterns("tokens-*")))


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def over_http(source: Path) -> Iterator[str]:
    pytest.importorskip("aiohttp", reason="the extra speechmill[s3] is not installed")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(source))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def in_s3(source: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The shards in a bucket of moto's server: another process's S3, as far as s3fs can tell."""
    s3fs = pytest.importorskip("s3fs", reason="the extra speechmill[s3] is not installed")
    server_module = pytest.importorskip("moto.server", reason="moto is not installed")
    boto3 = pytest.importorskip("boto3")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in (keys | {"AWS_ENDPOINT_URL": f"http://{host}:{port}"}).items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()  # another test's server had another port
    multiprocessing.forkserver._forkserver._stop()  # one that was started before would not know of the keys
    client = boto3.client("s3")
    client.create_bucket(Bucket="corpus")
    for path in source.iterdir():
        client.upload_file(str(path), "corpus", f"v1/{path.name}")
    yield "s3://corpus/v1"
    server.stop()


def cached_tars(cache: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in cache.rglob("*.tar")}


def assert_same_audio(place: str, cache: Path, shards: Path) -> CachedIndex:
    index = open_shards(place, str(cache), GB)
    assert isinstance(index, CachedIndex)
    assert index.fingerprint == open_index(shards).fingerprint
    assert cached_tars(cache) == {}, "opening fetches the index alone"
    near, far = ShardReader(open_index(shards)), ShardReader(index)
    for row in range(0, len(index), 5):
        assert (far.audio(row) == near.audio(row)).all()
        assert far.about(row) == near.about(row)
    return index


def test_a_path(source: Path, tmp_path: Path, shards: Path) -> None:
    assert_same_audio(str(source), tmp_path / "cache", shards)


def test_http(over_http: str, tmp_path: Path, shards: Path) -> None:
    assert_same_audio(over_http, tmp_path / "cache", shards)
    with pytest.raises(SpeechmillError, match=rf"{over_http}/none: has no SHA256SUMS"):
        open_shards(f"{over_http}/none", str(tmp_path / "cache"), GB)


def test_s3(in_s3: str, tmp_path: Path, shards: Path) -> None:
    assert_same_audio(in_s3, tmp_path / "cache", shards)
    with pytest.raises(SpeechmillError, match="has no SHA256SUMS"):
        open_shards("s3://corpus/none", str(tmp_path / "cache"), GB)
    with pytest.raises(SpeechmillError, match="s3://nowhere"):
        open_shards("s3://nowhere/v1", str(tmp_path / "cache"), GB)


@pytest.mark.parametrize("workers", [0, 2])
def test_training_from_s3_is_training_from_the_folder(
    in_s3: str, tmp_path: Path, shards: Path, tokenizer_path: Path, workers: int
) -> None:
    near = tiny_recipe(shards, tokenizer_path)
    near = near.model_copy(update={"train": near.train.model_copy(update={"updates": 8, "loader_workers": workers})})
    away = {"shards": in_s3, "cache": str(tmp_path / "cache"), "cache_gb": GB}
    far = near.model_copy(update={"data": near.data.model_copy(update=away)})
    reports = [train(recipe, tmp_path / name) for name, recipe in (("near", near), ("far", far))]
    assert reports[0].best_wer == reports[1].best_wer
    losses = [
        [line.partition('"loss": ')[2].partition(",")[0] for line in (tmp_path / name / "metrics.jsonl").open()]
        for name in ("near", "far")
    ]
    assert losses[0] == losses[1]
    assert any(losses[0])


def test_a_plain_path_without_a_cache_is_read_in_place(shards: Path) -> None:
    index = open_data(str(shards))
    assert not isinstance(index, CachedIndex)
    assert index.folder == shards
    assert index.fetch_ahead([0]) == [index.shard_path(0)]


@pytest.mark.parametrize("place", ["s3://corpus/v1", "http://127.0.0.1:1/x"])
def test_a_url_without_a_cache_is_one_clear_line(place: str) -> None:
    with pytest.raises(SpeechmillError, match=r"needs a cache; set data\.cache"):
        open_shards(place)


def test_nobody_answers(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="the extra speechmill[s3] is not installed")
    with pytest.raises(RemoteFault, match=r"http://127.0.0.1:9: SHA256SUMS cannot be read \(.*connect"):
        open_shards("http://127.0.0.1:9", str(tmp_path), GB)
    with pytest.raises(SpeechmillError, match=r"cannot be opened .*nosuch"):
        open_shards("nosuch://x", str(tmp_path), GB)


def test_a_library_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(remote_module.fsspec.core, "url_to_fs", missing)
    with pytest.raises(SpeechmillError, match=r"pip install 'speechmill\[s3\]'"):
        Remote("s3://corpus/v1").read("x")


def test_the_cache_stays_within_its_size_and_evicts_what_was_used_longest_ago(source: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in source.glob("*.tar"))
    sizes = {name: (source / name).stat().st_size for name in names}
    limit = sum(sizes[name] for name in names[:3])
    cache = ShardCache(str(source), tmp_path / "cache", limit)
    for name in names[:3]:
        os.close(cache.open(name))
        time.sleep(0.01)
    os.close(cache.open(names[0]))  # used again: the second is the oldest now
    held = cache.open(names[1])
    time.sleep(0.01)
    os.close(cache.open(names[0]))
    os.close(cache.open(names[2]))
    for name in names[3:]:
        os.close(cache.open(name))
        assert sum(cached_tars(tmp_path / "cache").values()) <= limit
        assert name in cached_tars(tmp_path / "cache")
    assert names[1] not in cached_tars(tmp_path / "cache")
    assert os.pread(held, sizes[names[1]], 0) == (source / names[1]).read_bytes(), "who has it open reads on"
    os.close(held)


def test_a_shard_larger_than_the_cache_is_one_clear_line(source: Path, tmp_path: Path) -> None:
    cache = ShardCache(str(source), tmp_path / "cache", 1000)
    with pytest.raises(SpeechmillError, match=r"raise data\.cache_gb"):
        cache.open("train-000000.tar")
    assert cached_tars(tmp_path / "cache") == {}


def test_two_windows_must_fit(source: Path, tmp_path: Path) -> None:
    index = open_shards(str(source), str(tmp_path / "cache"), 1e-4)
    with pytest.raises(SpeechmillError, match=r"cannot hold two windows of 3 shards .*raise data\.cache_gb"):
        index.fetch_ahead([0, 1, 2])


def test_two_windows_of_each_lane_must_fit(source: Path, tmp_path: Path) -> None:
    size = open_shards(str(source), str(tmp_path / "cache"), GB).shard_bytes([0, 1])  # type: ignore[attr-defined]
    index = open_shards(str(source), str(tmp_path / "cache"), 4.1 * size / 1e9)
    index.fetch_ahead([0, 1], 2)
    with pytest.raises(StorageError, match=r"two windows of 2 shards for each of 3 lanes .*or schedule\.lanes"):
        index.fetch_ahead([0, 1], 3)


@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_a_cache_of_two_windows_a_lane_fetches_each_shard_once(
    source: Path, tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, lanes: int
) -> None:
    fetched: list[str] = []
    stream = Remote.stream

    def counted(self: Remote, name: str) -> Iterator[bytes]:
        if self.place == str(source):  # a thread of the test before may still fetch its own
            fetched.append(name)
        return stream(self, name)

    monkeypatch.setattr(Remote, "stream", counted)
    monkeypatch.setattr("speechmill.shards.read.OPEN_FILES", 1)  # as where there are more shards than stay open
    # At once and not in a thread: batches so short outrun it, and one that comes late evicts what is being read.
    monkeypatch.setattr(ShardCache, "fetch_ahead", lambda self, names: [self.fetch(name) for name in names])
    largest = max(path.stat().st_size for path in source.glob("train-*.tar"))
    index = open_shards(str(source), str(tmp_path / "cache"), 2.2 * lanes * largest / 1e9)
    settings = ScheduleSettings(target_seconds=4, limit_seconds=6, window_shards=1, lanes=lanes)
    schedule = Schedule(utterances_of(index, "train", None), settings)
    schedule.locate(0)
    list(batches(BatchDataset(index, schedule, tokenizer), range(schedule.epoch_starts[1]), 0, False))
    shards = [name for name in fetched if name.startswith("train-")]
    # The next epoch's first windows may have come as well.
    assert set(shards) == {path.name for path in source.glob("train-*.tar")}
    assert len(shards) <= len(set(shards)) + lanes


def test_a_worker_process_fetches_ahead(source: Path, tmp_path: Path, tokenizer: Tokenizer) -> None:
    index = open_shards(str(source), str(tmp_path / "cache"), GB)
    settings = ScheduleSettings(target_seconds=4, limit_seconds=6, window_shards=1)
    schedule = Schedule(utterances_of(index, "train", None), settings)
    loaded = batches(BatchDataset(index, schedule, tokenizer), range(1), 1, pin=False)
    next(loaded)
    deadline = time.monotonic() + 30
    while len(cached_tars(tmp_path / "cache")) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    loaded.close()
    assert len(cached_tars(tmp_path / "cache")) == 2, "the window that is read, and the next"


def test_what_left_the_cache_is_closed_with_the_next_batch(source: Path, tmp_path: Path, tokenizer: Tokenizer) -> None:
    index = open_shards(str(source), str(tmp_path / "cache"), GB)
    settings = ScheduleSettings(target_seconds=4, limit_seconds=6, window_shards=4)
    dataset = BatchDataset(index, Schedule(utterances_of(index, "train", None), settings), tokenizer)
    for number in range(2):
        dataset[number]
    (tmp_path / "cache").rename(tmp_path / "elsewhere")
    for path in (tmp_path / "elsewhere").rglob("*.tar"):
        path.unlink()
    (tmp_path / "elsewhere").rename(tmp_path / "cache")
    dataset.assembler._reader.release()
    held = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    assert [name for name in held if str(tmp_path / "cache") in name and ".tar" in name] == []


def flaky(monkeypatch: pytest.MonkeyPatch, faults: int) -> list[str]:
    """The first so many TARs break off; returns what is asked of the source."""
    asked: list[str] = []
    stream = Remote.stream
    monkeypatch.setattr("speechmill.shards.cache._PAUSES", (0.01, 0.01))

    def breaks_off(self: Remote, name: str) -> Iterator[bytes]:
        asked.append(name)
        data = b"".join(stream(self, name))
        yield data[:1000]
        if name.endswith(".tar") and sum(one.endswith(".tar") for one in asked) <= faults:
            raise RemoteFault("connection reset")
        yield data[1000:]

    monkeypatch.setattr(Remote, "stream", breaks_off)
    return asked


def dataset_of(index: Index, tokenizer: Tokenizer) -> BatchDataset:
    settings = ScheduleSettings(target_seconds=6, limit_seconds=8, window_shards=4)
    return BatchDataset(index, Schedule(utterances_of(index, "train", None), settings), tokenizer)


@pytest.mark.parametrize("fast", [True, False])
def test_a_connection_that_breaks_is_made_anew_and_costs_no_utterance(
    source: Path, tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, fast: bool
) -> None:
    flaky(monkeypatch, 2)
    dataset = dataset_of(open_shards(str(source), str(tmp_path / "cache"), GB), tokenizer)
    assert dataset.assembler.batch(dataset.request(0), fast).damaged == ()


# In a worker, which is another process, the network of the tests cannot be broken.
@pytest.mark.parametrize(("fault", "workers"), [("network", 0), ("disk", 0), ("disk", 1), ("small", 0), ("small", 1)])
def test_faults_of_network_and_disk_stop_and_are_no_damage(
    source: Path, tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, fault: str, workers: int
) -> None:
    if fault == "network":
        flaky(monkeypatch, 10**6)
    gigabytes = 1e-6 if fault == "small" else GB
    index = open_shards(str(source), str(tmp_path / "cache"), gigabytes)
    if fault == "disk":  # where shards would go, nothing can be written
        for path in source.glob("*.tar"):
            (index.folder / f".{path.name}.partial").mkdir()
    said = {"network": "connection reset", "disk": "cannot write here", "small": "raise data.cache_gb"}[fault]
    with pytest.raises(SpeechmillError, match=said):
        list(batches(dataset_of(index, tokenizer), range(3), workers, False))


def test_a_shard_that_is_damaged_at_the_source_is_not_fetched_for_every_utterance(
    source: Path, tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytearray((source / "train-000001.tar").read_bytes())
    data[5000] ^= 1
    (source / "train-000001.tar").write_bytes(data)
    (source / "train-000002.tar").unlink()
    asked = flaky(monkeypatch, 0)
    dataset = dataset_of(open_shards(str(source), str(tmp_path / "cache"), GB), tokenizer)
    monkeypatch.setattr(CachedIndex, "fetch_ahead", lambda *_: [])
    dataset.schedule.locate(0)
    loaded = list(batches(dataset, range(dataset.schedule.epoch_starts[1]), 0, False))
    reasons = {damage.reason for batch in loaded for damage in batch.damaged}
    assert len(reasons) == 2
    assert any("came with another checksum 3 times" in reason for reason in reasons)
    assert any("has no train-000002.tar" in reason for reason in reasons)
    assert asked.count("train-000001.tar") == 3


def test_shards_are_fetched_ahead_of_need(source: Path, tmp_path: Path) -> None:
    index = open_shards(str(source), str(tmp_path / "cache"), GB)
    ShardReader(index).fetch_ahead([2, 4])
    wanted = {f"{index.shard_names[shard]}.tar" for shard in (2, 4)}
    deadline = time.monotonic() + 30
    while set(cached_tars(tmp_path / "cache")) != wanted and time.monotonic() < deadline:
        time.sleep(0.01)
    assert set(cached_tars(tmp_path / "cache")) == wanted


def test_a_shard_that_comes_damaged_is_fetched_again_and_then_told(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = source / "train-000000.tar"
    right = path.read_bytes()
    wrong = bytearray(right)
    wrong[len(wrong) // 2] ^= 1
    cache = ShardCache(str(source), tmp_path / "cache", 1 << 30)
    answers = [bytes(wrong), right]
    monkeypatch.setattr(Remote, "stream", lambda _, name: iter([answers.pop(0)]) if name == path.name else iter([]))
    assert cache.fetch(path.name).read_bytes() == right
    assert answers == []
    cache.fetch(path.name).unlink()
    answers += [bytes(wrong), right[:1000], bytes(wrong)]
    with pytest.raises(SpeechmillError, match=r"train-000000\.tar came with another checksum 3 times"):
        cache.fetch(path.name)
    assert [path.suffix for path in cache.folder.glob(".*train*")] == [".lock"]
    assert cached_tars(tmp_path / "cache") == {}


def test_a_shard_that_is_not_there_is_named(source: Path, tmp_path: Path) -> None:
    cache = ShardCache(str(source), tmp_path / "cache", 1 << 30)
    (source / "train-000000.tar").unlink()
    with pytest.raises(SpeechmillError, match=r"has no train-000000\.tar, which its SHA256SUMS names"):
        cache.fetch("train-000000.tar")
    with pytest.raises(SpeechmillError, match=r"does not name other\.tar"):
        cache.fetch("other.tar")


def test_what_a_killed_process_left_is_cleared(source: Path, tmp_path: Path) -> None:
    size = (source / "train-000001.tar").stat().st_size
    cache = ShardCache(str(source), tmp_path / "cache", size + 100)
    left = cache.folder / ".train-000000.tar.partial"
    left.write_bytes(bytes(size))
    cache.fetch("train-000001.tar")
    assert not left.exists()


def _read_all(source: str, root: str, limit: int, seed: int, out: str) -> None:
    cache = ShardCache(source, Path(root), limit)
    names = sorted(name for name in cache.sums if name.endswith(".tar"))
    found = []
    for k in np.random.default_rng(seed).permutation(np.repeat(np.arange(len(names)), 2)):
        descriptor = cache.open(names[k])
        data = os.pread(descriptor, 1 << 26, 0)
        os.close(descriptor)
        found.append(data == (Path(source) / names[k]).read_bytes())
        held = sum(size for size in map(_size, Path(root).rglob("*.tar")))
        found.append(held <= limit)
    Path(out).write_text(str(all(found)))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def test_processes_of_a_node_share_it(source: Path, tmp_path: Path) -> None:
    """Three processes, a cache of two and a half shards: every byte right, never over the limit, no wait for ever."""
    sizes = sorted(path.stat().st_size for path in source.glob("*.tar"))
    limit = int(sizes[-1] * 2.5)
    context = multiprocessing.get_context("spawn")
    outs = [tmp_path / f"{number}.txt" for number in range(3)]
    running = [
        context.Process(target=_read_all, args=(str(source), str(tmp_path / "cache"), limit, number, str(out)))
        for number, out in enumerate(outs)
    ]
    for process in running:
        process.start()
    for process in running:
        process.join(120)
    assert [out.read_text() for out in outs] == ["True"] * 3
    assert list((tmp_path / "cache").rglob("*.partial")) == []


def test_it_goes_to_another_process_without_its_rows(source: Path, tmp_path: Path) -> None:
    index = open_shards(str(source), str(tmp_path / "cache"), GB)
    packed = pickle.dumps(index)
    assert len(packed) < 1000
    again = pickle.loads(packed)  # noqa: S301 - our own
    assert isinstance(again, CachedIndex)
    assert again.cache.limit == index.cache.limit  # type: ignore[attr-defined]
    assert (ShardReader(again).audio(3) == ShardReader(index).audio(3)).all()


def test_loader_workers_read_through_it(
    source: Path, tmp_path: Path, shards: Path, tokenizer: Tokenizer, index: object
) -> None:
    del index
    settings = ScheduleSettings(target_seconds=6, limit_seconds=8, window_shards=2)
    heard = []
    for opened in (open_index(shards), open_shards(str(source), str(tmp_path / "cache"), GB)):
        schedule = Schedule(utterances_of(opened, "train", None), settings)
        dataset = BatchDataset(opened, schedule, tokenizer)
        heard.append([batch.audio.numpy().copy() for batch in batches(dataset, range(12), 2, False)])
    assert all((near == far).all() for near, far in zip(*heard, strict=True))


def test_token_counts_of_the_source_are_fetched_and_not_counted_again(
    source: Path, tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = token_counts(open_index(source), tokenizer)
    monkeypatch.setattr("speechmill.shards.tokens._count", lambda *_: pytest.fail("counted again"))
    far = token_counts(open_shards(str(source), str(tmp_path / "cache"), GB), tokenizer)
    assert (far == counts).all()


def test_other_shards_at_the_same_place_are_another_cache(source: Path, tmp_path: Path) -> None:
    first = ShardCache(str(source), tmp_path / "cache", 1 << 30)
    sums = (source / "SHA256SUMS").read_text()
    (source / "SHA256SUMS").write_text(sums.replace(sums[:8], "0" * 8))
    assert ShardCache(str(source), tmp_path / "cache", 1 << 30).folder != first.folder


@pytest.mark.parametrize("line", ["no sum", "0" * 64 + "  ../../etc/passwd", "0" * 64 + "  /etc/passwd"])
def test_sums_that_are_none_or_lead_elsewhere_are_refused(source: Path, tmp_path: Path, line: str) -> None:
    with (source / "SHA256SUMS").open("a") as stream:
        stream.write(f"{line}\n")
    with pytest.raises(SpeechmillError, match=r"SHA256SUMS, line \d+: not a checksum"):
        ShardCache(str(source), tmp_path / "cache", 1 << 30)


def test_the_settings_of_a_recipe(source: Path, tmp_path: Path) -> None:
    recipe = Recipe(data=DataSettings(shards=str(source), cache=str(tmp_path / "cache"), cache_gb=0.5))
    index = open_data(recipe.data.shards, recipe.data.cache, recipe.data.cache_gb)
    assert isinstance(index, CachedIndex)
    assert (index.cache.root, index.cache.limit) == (tmp_path / "cache", 500_000_000)


def test_the_flag_of_train_and_evaluate(source: Path, tmp_path: Path, tokenizer_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(tiny_recipe(source, tokenizer_path).plain()))
    run, cache, other = tmp_path / "run", tmp_path / "a: cache", tmp_path / "other"
    words = ["train.updates=4"]
    assert main(["train", str(recipe), "--run", str(run), "--cache", str(cache), *words]) == 0
    assert cached_tars(cache)
    for on in ([], ["--on", str(source)]):
        assert main(["evaluate", str(run), "--split", "test", "--cache", str(other), *on]) == 0
        assert [name for name in cached_tars(other) if name.startswith("test-")]
        shutil.rmtree(other)
