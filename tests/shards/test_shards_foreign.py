"""TARs that the webdataset package wrote, with the members that people use, train like our own."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import webdataset

from conftest import RATE, sentence, sound, words_of
from speechmill.artefact import sha256_file
from speechmill.cli import main
from speechmill.errors import SpeechmillError
from speechmill.inspection import inspect_ledger
from speechmill.settings import ShardSettings, TokenizerSettings
from speechmill.shards.foreign import ForeignReader, index_foreign, open_reader, split_name
from speechmill.shards.index import open_index
from speechmill.shards.verify import verify
from speechmill.tokenizer import train_tokenizer
from speechmill.train.loop import train
from trained import tiny_recipe

SETTINGS = ShardSettings(sample_rate=RATE)
FORMATS = {"flac": ("FLAC", "PCM_16"), "wav": ("WAV", "PCM_16"), "mp3": ("MP3", "MPEG_LAYER_III"),
           "ogg": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS")}  # fmt: skip


def encoded(samples: np.ndarray, suffix: str, rate: int = RATE) -> bytes:
    stream = io.BytesIO()
    kind, subtype = FORMATS[suffix]
    soundfile.write(stream, samples, rate, format=kind, subtype=subtype)
    return stream.getvalue()


def write_tar(path: Path, samples: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with webdataset.TarWriter(str(path)) as sink:
        for sample in samples:
            sink.write(sample)


def sample(call: int, row: int, suffix: str = "flac", **members: Any) -> dict[str, Any]:
    words = words_of(call, row)
    return {"__key__": f"{call}/{row:03d}", suffix: encoded(sound(words), suffix)} | (
        members or {"json": json.dumps({"text": sentence(words), "speaker_id": call % 3}).encode()}
    )


@pytest.fixture(scope="session")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four TARs of train and one of validation, each with another kind of audio; texts in JSON and in files."""
    folder = tmp_path_factory.mktemp("theirs")
    for number, suffix in enumerate(("flac", "wav", "ogg", "flac")):
        calls = range(100 + 3 * number, 103 + 3 * number)
        write_tar(
            folder / f"corpus-train-{number}.tar", [sample(call, row, suffix) for call in calls for row in range(6)]
        )
    valid = [sample(200, row, "wav", txt=sentence(words_of(200, row)).encode()) for row in range(6)]
    write_tar(folder / "dev" / "0.tar", valid)
    return folder


def test_the_index_of_somebody_elses_tars(theirs: Path) -> None:
    before = {path: sha256_file(path) for path in theirs.rglob("*.tar")}
    report = index_foreign(theirs, SETTINGS)
    assert (report.shards, report.utterances, report.dropped, report.already_whole) == (5, 78, 0, False)
    assert {path: sha256_file(path) for path in theirs.rglob("*.tar")} == before
    index = open_index(theirs)
    assert index.shard_names == ["corpus-train-0", "corpus-train-1", "corpus-train-2", "corpus-train-3", "dev/0"]
    assert len(index.rows("train")) == 72
    assert len(index.rows("valid")) == 6
    reader = open_reader(index)
    assert isinstance(reader, ForeignReader)
    for row in range(len(index)):
        about = reader.about(row)
        call, number = map(int, about["id"].split("/"))
        words = words_of(call, number)
        assert about["text"] == sentence(words)
        wanted = sound(words)
        heard = reader.audio(row) / 32768
        assert len(heard) == int(index.samples[row]) == len(wanted)
        assert np.corrcoef(heard, wanted)[0, 1] > 0.98
        into = np.empty(len(heard), np.int16)
        reader.audio_into(row, into)
        assert (into == reader.audio(row)).all()
    assert reader.about(0)["speaker"] == "1"
    assert verify(theirs, processes=2) == []
    assert inspect_ledger(theirs)[1] == []
    assert index_foreign(theirs, SETTINGS).already_whole


def test_two_processes_write_the_index_of_one(theirs: Path, tmp_path: Path) -> None:
    for name, processes in (("one", 1), ("two", 2)):
        shutil.copytree(theirs, tmp_path / name, ignore=shutil.ignore_patterns("index.arrow"))
        index_foreign(tmp_path / name, SETTINGS, processes)
    files = [{path.name: sha256_file(path) for path in (tmp_path / name).iterdir() if path.is_file()} for name in
             ("one", "two")]  # fmt: skip
    assert files[0] == files[1]


def test_they_train_like_our_own(theirs: Path, tmp_path: Path) -> None:
    import polars as pl

    from speechmill.manifest import SCHEMA, write_manifest

    index_foreign(theirs, SETTINGS)
    texts = [sentence(words_of(call, row)) for call in range(100, 112) for row in range(6)]
    rows = [{"id": str(k), "recording": "", "start": 0.0, "end": 1.0, "text": text, "speaker": "", "call": "",
             "session": "", "native": None, "split": "train"} for k, text in enumerate(texts)]  # fmt: skip
    write_manifest(pl.DataFrame(rows, schema=SCHEMA), tmp_path / "m.parquet")
    characters = set("".join(texts)) - {" "}
    settings = TokenizerSettings(kind="char", size=len(characters) + 2)
    train_tokenizer(tmp_path / "m.parquet", tmp_path / "t.model", settings)
    report = train(tiny_recipe(theirs, tmp_path / "t.model"), tmp_path / "run")
    assert report.finished
    assert report.best_wer is not None


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("rate", [16000, 24000])
def test_audio_of_another_rate_is_resampled_when_it_is_read(tmp_path: Path, suffix: str, rate: int) -> None:
    time = np.arange(rate) / rate
    stereo = np.stack([0.4 * np.sin(2 * np.pi * 440 * time), np.zeros(rate)], axis=1)
    write_tar(tmp_path / "a.tar", [{"__key__": "x", suffix: encoded(stereo, suffix, rate), "txt": b"a tone"}])
    index_foreign(tmp_path, SETTINGS)
    index = open_index(tmp_path)
    heard = open_reader(index).audio(0) / 32768
    assert len(heard) == int(index.samples[0])
    assert abs(len(heard) - RATE) <= 0.15 * RATE  # MP3 has its padding
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard))))
    assert np.argmax(spectrum) * RATE / len(heard) == pytest.approx(440, abs=4)
    assert verify(tmp_path) == []


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"json": b'{"transcript": " So it is. "}'}, "So it is."),
        ({"json": b'{"duration": 3, "sentence": "s"}', "txt": b"t"}, "s"),
        ({"json": b'{"duration": 3}', "txt": b"from the file\n"}, "from the file"),
        ({"transcript": "ja, größer".encode()}, "ja, größer"),
        ({"cls": b"7"}, "7"),
        ({"json": b'{"cls": 7}'}, "7"),
    ],
)
def test_where_the_text_is_looked_for(tmp_path: Path, members: dict[str, bytes], text: str) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for suffix, data in {"flac": encoded(sound(["cash"]), "flac"), **members}.items():
            info = tarfile.TarInfo(f"x.{suffix}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    index_foreign(tmp_path, SETTINGS)
    assert open_reader(open_index(tmp_path)).about(0)["text"] == text


def test_what_cannot_be_used_is_dropped_with_its_reason(tmp_path: Path) -> None:
    good = sample(1, 1)
    tone = encoded(sound(["cash"]), "flac")
    folder = tmp_path / "t"
    write_tar(folder / "a.tar", [
        good, {"__key__": "mute", "txt": b"no sound"}, {"__key__": "wordless", "flac": tone},
        {"__key__": "blank", "flac": tone, "txt": b"  "}, {"__key__": "noise", "flac": b"abc", "txt": b"x"},
        {"__key__": "list", "flac": tone, "json": b"[1]"}, {"__key__": "broken", "flac": tone, "json": b"{"},
    ])  # fmt: skip
    report = index_foreign(folder, SETTINGS)
    assert (report.utterances, report.dropped) == (1, 6)
    reasons = dict(line.split("\t")[0::2][:2] for line in (folder / "dropped.tsv").read_text().splitlines()[1:])
    assert reasons == {"mute": "no-audio", "wordless": "no-text", "blank": "no-text", "noise": "unreadable-audio",
                       "list": "bad-json", "broken": "bad-json"}  # fmt: skip
    assert inspect_ledger(folder)[1] == []
    write_tar(tmp_path / "u" / "a.tar", [{"__key__": "mute", "txt": b"no sound"}])
    with pytest.raises(SpeechmillError, match=r"not one utterance can be used; .*no-audio"):
        index_foreign(tmp_path / "u", SETTINGS)


def add(tar: tarfile.TarFile, name: str, data: bytes = b"x") -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def link(tar: tarfile.TarFile) -> None:
    info = tarfile.TarInfo("x.flac")
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    tar.addfile(info)


@pytest.mark.parametrize(
    ("fill", "what"),
    [
        (lambda tar: add(tar, "x.pkl"), r"'x\.pkl' is a pickle .* which can run code when loaded"),
        (lambda tar: add(tar, "x.audio.pyd"), "is a pickle"),
        (lambda tar: add(tar, "x.PTH"), "is a pickle"),
        (lambda tar: add(tar, "x.npy"), "is a pickle"),
        (lambda tar: add(tar, "../x.flac"), "leads out of the folder"),
        (lambda tar: add(tar, "/x.flac"), "leads out of the folder"),
        (link, "is no regular file"),
        (lambda tar: (add(tar, "x.txt"), add(tar, "x.txt")), "two utterances have one name"),
    ],
)
def test_members_that_must_not_be_there_are_refused(
    tmp_path: Path, fill: Callable[[tarfile.TarFile], object], what: str
) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        fill(tar)
    with pytest.raises(SpeechmillError, match=what) as caught:
        index_foreign(tmp_path, SETTINGS)
    assert str(tmp_path / "a.tar") in str(caught.value)
    assert not (tmp_path / "index.arrow").exists()


def test_names_that_repeat_from_tar_to_tar_are_told_apart(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_tar(tmp_path / f"{name}.tar", [{**sample(1, 1), "__key__": "0"}, {**sample(1, 2), "__key__": f"{name}1"}])
    index_foreign(tmp_path, SETTINGS)
    index = open_index(tmp_path)
    assert [index.id(row) for row in range(4)] == ["a/0", "a1", "b/0", "b1"]


def test_folders_and_hidden_files_in_a_tar_are_passed_over(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        info = tarfile.TarInfo("speech")
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
        add(tar, "speech/._x.flac")
        add(tar, "speech/x.flac", encoded(sound(["cash"]), "flac"))
        add(tar, "speech/x.txt", b"cash")
    assert index_foreign(tmp_path, SETTINGS).utterances == 1
    assert verify(tmp_path) == []


def test_names_end_at_the_first_dot_of_the_file() -> None:
    assert split_name("a.b/utt.seg1.JSON") == ("a.b/utt", "seg1.json")
    assert split_name("a/b") == ("a/b", "")


def test_damage_is_noticed(theirs: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(theirs, tmp_path / "copy"))
    index_foreign(copy, SETTINGS)
    index = open_index(copy)
    path = index.shard_path(0)
    data = bytearray(path.read_bytes())
    data[int(index.offset[3]) + 600 : int(index.offset[3]) + 900] = bytes(300)
    path.write_bytes(data)
    problems = verify(copy)
    assert problems[0] == f"{path}: is not as it was written (SHA-256)."
    assert any(repr(index.id(3)) in line for line in problems[1:])


def test_the_verb(theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], shards: Path) -> None:
    copy = Path(shutil.copytree(theirs, tmp_path / "copy", ignore=shutil.ignore_patterns("*.arrow")))
    override = [f"shard.sample_rate={RATE}", f"features.sample_rate={RATE}"]
    assert main(["shards", "index", str(copy), *override]) == 0
    assert "5 shards, 78 utterances" in capsys.readouterr().out
    for folder, what in (
        (shards, "`speechmill shards repair` writes their index"),
        (tmp_path / "none", "no such folder"),
    ):
        assert main(["shards", "index", str(folder), *override]) == 2
        assert what in capsys.readouterr().err
    (tmp_path / "z").mkdir()
    (tmp_path / "z" / "a.tar.gz").write_bytes(b"")
    assert main(["shards", "index", str(tmp_path / "z"), *override]) == 2
    assert "a.tar.gz: is compressed" in capsys.readouterr().err
    write_tar(tmp_path / "z" / "b.tar", [sample(1, 0)])  # nor is it passed over where there are others
    assert main(["shards", "index", str(tmp_path / "z"), *override]) == 2
    assert "a.tar.gz: is compressed" in capsys.readouterr().err


def test_another_sample_rate_is_another_index(tmp_path: Path) -> None:
    write_tar(tmp_path / "train.tar", [sample(1, row, "wav") for row in range(3)])
    assert not index_foreign(tmp_path, SETTINGS).already_whole
    lengths = open_index(tmp_path).samples.tolist()
    other = ShardSettings(sample_rate=2 * RATE)
    assert not index_foreign(tmp_path, other).already_whole
    index = open_index(tmp_path)
    assert index.sample_rate == 2 * RATE
    assert index.samples.tolist() == [2 * length for length in lengths]
    assert index_foreign(tmp_path, other).already_whole
    (tmp_path / "plan.json").write_bytes(b"{")
    assert not index_foreign(tmp_path, other).already_whole, "a damaged plan is written again"


def test_their_tars_may_be_longer_than_their_samples_but_not_grow(tmp_path: Path) -> None:
    path = tmp_path / "train.tar"
    samples = [sample(1, row) for row in range(2)]
    with tarfile.open(path, "w") as stream:  # padded to 10,240 bytes, with a member that the index does not know
        for name, data in [
            (f"{one['__key__']}.{suffix}", one[suffix]) for one in samples for suffix in ("flac", "json")
        ]:
            add(stream, name, data)
        add(stream, "READ.ME", bytes(9000))
    index_foreign(tmp_path, SETTINGS)
    assert len(open_index(tmp_path)) == 2
    with tarfile.open(path, "a") as stream:
        add(stream, "1/000.pkl", bytes(20000))
    with pytest.raises(SpeechmillError, match="is a pickle"):
        open_index(tmp_path)
