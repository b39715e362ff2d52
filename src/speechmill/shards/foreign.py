"""TARs by the WebDataset convention that somebody else wrote: an index for them, and their reader.

    a/utt1.mp3  a/utt1.json {"text": "..."}      or utt1.flac utt1.txt, utt1.wav utt1.transcript, utt1.ogg utt1.cls

The TARs stay as they are. The index is one like ours; beside it `foreign.arrow` has the text of each row, and audio at
another rate than the index's is resampled when it is read.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.ipc
import soxr

from speechmill.artefact import fingerprint, locked, sha256_file, write_text, written
from speechmill.audio import decode_bytes
from speechmill.errors import SpeechmillError
from speechmill.ledger import KEPT, account, ledger_path, write_ledger
from speechmill.progress import track
from speechmill.settings import ShardSettings
from speechmill.shards.index import FOREIGN_NAME, INDEX_NAME, NATIVE_UNKNOWN, SCHEMA, Index, open_index, write_index
from speechmill.shards.mixture import Mixture
from speechmill.shards.parts import DROPPED_NAME
from speechmill.shards.plan import PLAN_NAME, PlanInfo, read_plan_info, write_plan_info
from speechmill.shards.planned import PLANNED_NAME
from speechmill.shards.read import ShardReader
from speechmill.shards.replan import wrong_plan_files
from speechmill.shards.sums import SUMS_NAME, read_sums, write_sums
from speechmill.shards.tar import Member, scan
from speechmill.workers import end_with_parent

AUDIO = ("flac", "wav", "mp3", "ogg", "opus")
TEXTS = ("txt", "transcript", "text", "cls")  # members that hold the text and nothing else
FIELDS = ("text", "transcript", "transcription", "sentence", "txt", "cls")  # of the JSON, the first that is there
_NAMED = ("split", "call", "speaker", "session")  # what is said of an utterance beside its text
_SPEAKERS = ("speaker", "speaker_id", "spk")
_CALLS = ("call", "recording", "session_id")
_SPLITS = {"train": "train", "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid", "test": "test"}
_PACKED = ("*.tar.*z*", "*.tgz", "*.tbz*", "*.txz")  # .tar.gz, .tar.xz, .tar.bz2, .tar.zst
_FIT = 2  # samples by which a resampler's result may differ from the length in the index


@dataclass(frozen=True)
class ForeignReport:
    folder: Path
    shards: int
    utterances: int
    hours: float
    dropped: int
    already_whole: bool


@dataclass(frozen=True)
class _Scanned:
    """What one TAR holds."""

    rows: list[dict[str, Any]]  # of the index, and `text`
    dropped: list[tuple[str, float, str, str]]  # id, seconds, reason, detail
    sha256: str
    size: int  # bytes


def index_foreign(folder: Path, settings: ShardSettings, processes: int = 1) -> ForeignReport:
    """Write an index for a folder of TARs, looked for in its subfolders too.

    A sample without audio or text, or with audio that cannot be decoded, is dropped with its reason in `dropped.tsv`.
    The split is the JSON's `split`, or what the TAR's name begins with (train, valid, val, dev, test), else train.
    Raises SpeechmillError where a TAR is broken or has members that must not be there (pickles, names that lead out of
    the folder, links), and where two utterances of a TAR have one name.
    """
    names = sorted(str(path.relative_to(folder))[: -len(".tar")] for path in folder.rglob("*.tar"))
    _check(folder, names)
    whole = _is_whole(folder, names, settings.sample_rate)
    if not whole:
        with locked(folder):
            scanned = dict(zip(names, _scan_all(folder, names, settings.sample_rate, processes), strict=True))
            _write(folder, scanned, settings)
    index = open_index(folder)
    dropped = len((folder / DROPPED_NAME).read_text(encoding="utf-8").splitlines()) - 1
    hours = float(index.samples.sum(dtype="int64")) / index.sample_rate / 3600
    return ForeignReport(folder, len(names), len(index), hours, dropped, whole)


def _check(folder: Path, names: list[str]) -> None:
    if not folder.is_dir():
        raise SpeechmillError(f"{folder}: no such folder of shards.")
    if (folder / PLANNED_NAME).is_file():
        raise SpeechmillError(
            f"{folder}: holds shards that `speechmill shard` wrote; `speechmill shards repair` writes their index anew."
        )
    packed = sorted(path for pattern in _PACKED for path in folder.rglob(pattern))
    if packed:
        raise SpeechmillError(
            f"{packed[0]}: is compressed, and no utterance can be found in it; unpack it, or move it elsewhere."
        )
    if not names:
        raise SpeechmillError(f"{folder}: no .tar in it.")


def _is_whole(folder: Path, names: list[str], rate: int) -> bool:
    """Whether the index is there, at this sample rate, of these TARs, and younger than they are."""
    index = folder / INDEX_NAME
    if not (index.is_file() and (folder / FOREIGN_NAME).is_file() and (folder / SUMS_NAME).is_file()):
        return False
    if wrong_plan_files(folder) or read_plan_info(folder).sample_rate != rate:
        return False
    known = {name[: -len(".tar")] for name in read_sums(folder) if name.endswith(".tar")}
    made = index.stat().st_mtime_ns
    return known == set(names) and all((folder / f"{name}.tar").stat().st_mtime_ns <= made for name in names)


def _scan_all(folder: Path, names: list[str], rate: int, processes: int) -> Iterator[_Scanned]:
    job = partial(_scan_tar, folder, rate)
    if processes == 1 or len(names) == 1:
        yield from track(map(job, names), "index", len(names), "shards")
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(names)), context, initializer=end_with_parent) as pool:
        yield from track(pool.map(job, names), "index", len(names), "shards")


def _scan_tar(folder: Path, rate: int, name: str) -> _Scanned:
    path = folder / f"{name}.tar"
    samples: dict[str, dict[str, Member]] = {}
    for member in scan(path, folders=True):
        key, suffix = split_name(member.name)
        if not suffix or member.name.rpartition("/")[2].startswith("."):
            continue  # such as the ._ files of another system
        if suffix in samples.setdefault(key, {}):
            raise SpeechmillError(f"{path}: the member {member.name!r} is in it twice; two utterances have one name.")
        samples[key][suffix] = member
    rows, dropped = [], []
    with path.open("rb") as stream:
        for key, members in samples.items():
            row = _row(stream, key, members, name, rate)
            if isinstance(row, dict):
                rows.append(row)
            else:
                dropped.append((key, *row))
    return _Scanned(rows, dropped, sha256_file(path), path.stat().st_size)


def split_name(name: str) -> tuple[str, str]:
    """'a/utt.1.json' -> ('a/utt', '1.json'): the name ends at the first dot of the file, as WebDataset has it."""
    folder, slash, file = name.rpartition("/")
    stem, _, suffix = file.partition(".")
    return f"{folder}{slash}{stem}", suffix.lower()


def _row(
    stream: BinaryIO, key: str, members: dict[str, Member], shard: str, rate: int
) -> dict[str, Any] | tuple[float, str, str]:
    """The row of one sample, or (seconds, reason, detail) where it cannot be used."""
    audio = next((members[suffix] for suffix in AUDIO if suffix in members), None)
    if audio is None:
        return 0.0, "no-audio", f"{shard}.tar: {', '.join(sorted(members))}"
    try:
        sound, source_rate = decode_bytes(_read(stream, audio))
    except SpeechmillError as error:
        return 0.0, "unreadable-audio", f"{shard}.tar: {audio.name}: {error}"
    seconds = len(sound) / source_rate
    samples = resampled_length(len(sound), source_rate, rate)
    try:
        about = json.loads(_read(stream, members["json"])) if "json" in members else {}
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        return seconds, "bad-json", f"{shard}.tar: {members['json'].name}: {error}"
    if not isinstance(about, dict):
        return seconds, "bad-json", f"{shard}.tar: {members['json'].name}: not an object"
    text, note = _text(stream, members, about)
    if not text:
        return seconds, "no-text", f"{shard}.tar: {', '.join(sorted(members))}"
    if not samples:
        return seconds, "no-sample", f"{shard}.tar: {audio.name}"
    native = about.get("native")
    return {
        "id": key, "shard": shard, "offset": audio.offset, "size": audio.size, "json_offset": note.offset,
        "json_size": note.size, "samples": samples, "characters": len(text), "split": _split(about, shard),
        "call": _first(about, _CALLS), "speaker": _first(about, _SPEAKERS), "session": _first(about, ("session",)),
        "native": int(native) if isinstance(native, bool) else NATIVE_UNKNOWN, "text": text, "source": seconds,
    }  # fmt: skip


def _read(stream: BinaryIO, member: Member) -> bytes:
    stream.seek(member.offset)
    return stream.read(member.size)


def _text(stream: BinaryIO, members: dict[str, Member], about: dict[str, Any]) -> tuple[str, Member]:
    """The text of a sample, empty where there is none, and the member that has it."""
    for field in FIELDS:
        if isinstance(about.get(field), str | int) and str(about[field]).strip():
            return str(about[field]).strip(), members["json"]
    for suffix in TEXTS:
        if suffix in members:
            return _read(stream, members[suffix]).decode("utf-8", "replace").strip(), members[suffix]
    return "", Member("", 0, 0)


def _first(about: dict[str, Any], names: Sequence[str]) -> str:
    return next((str(about[name]) for name in names if about.get(name) is not None), "")


def _split(about: dict[str, Any], shard: str) -> str:
    said = about.get("split")
    if isinstance(said, str) and said.lower() in _SPLITS:
        return _SPLITS[said.lower()]
    parts = shard.lower().split("/")
    starts = (split for part in reversed(parts) for start, split in _SPLITS.items() if part.startswith(start))
    return next(starts, "train")


def _write(folder: Path, scanned: dict[str, _Scanned], settings: ShardSettings) -> None:
    """Write drops, ledger, texts and, last, the index."""
    rows = [row for tar in scanned.values() for row in tar.rows]
    dropped = [(name, *drop) for name, tar in scanned.items() for drop in tar.dropped]
    lines = ["id\tseconds\treason\tdetail"]
    lines += [
        f"{name}\t{seconds:.3f}\t{reason}\t{' '.join(detail.split())}" for _, name, seconds, reason, detail in dropped
    ]
    write_text(folder / DROPPED_NAME, "\n".join(lines) + "\n")
    if not rows:
        raise SpeechmillError(
            f"{folder}: not one utterance can be used; see {folder / DROPPED_NAME}"
            + (f" (the first: {dropped[0][3]}: {dropped[0][4]})." if dropped else ".")
        )
    table = pl.DataFrame(rows, schema=SCHEMA | {"text": pl.String, "source": pl.Float64})
    if (repeated := table["id"].is_duplicated()).any():
        # Many write the same small numbers into each TAR.
        named = pl.when(repeated).then(pl.concat_str("shard", pl.lit("/"), "id")).otherwise("id")
        table = table.with_columns(id=named)
    _write_ledger(folder, table, dropped)
    texts = pa.table({"text": table["text"].to_arrow(compat_level=pl.CompatLevel.oldest())})
    with (
        written(folder / FOREIGN_NAME) as partial_file,
        pa.OSFile(str(partial_file), "wb") as sink,
        pyarrow.ipc.new_file(sink, texts.schema) as writer,
    ):
        writer.write_table(texts)
    sums = {f"{name}.tar": tar.sha256 for name, tar in scanned.items()}
    name = fingerprint({"tars": sums, "sample_rate": settings.sample_rate, "format": 1})
    plain = settings.model_dump(mode="json")
    write_plan_info(folder, PlanInfo(name, plain, "", len(scanned), table.height))
    with written(folder / INDEX_NAME) as partial_file:
        write_index(table, partial_file, {name: tar.size for name, tar in scanned.items()})
    beside = (PLAN_NAME, INDEX_NAME, FOREIGN_NAME, DROPPED_NAME, ledger_path(folder).name)
    write_sums(folder, sums | {name: sha256_file(folder / name) for name in beside})


def _write_ledger(folder: Path, table: pl.DataFrame, dropped: list[tuple[str, str, float, str, str]]) -> None:
    """For each TAR the seconds of its sounds."""
    kept = table.group_by(pl.col("shard").alias("recording")).agg(
        pl.lit(KEPT).alias("outcome"), pl.len().alias("utterances"), pl.col("source").sum().alias("seconds")
    )
    lost = pl.DataFrame(
        [(shard, reason, 1, seconds) for shard, _, seconds, reason, _ in dropped], schema=kept.schema, orient="row"
    )
    both = pl.concat([kept, lost])
    source = both.group_by("recording").agg(pl.col("seconds").sum().alias("source_seconds"))
    write_ledger(account(source, [kept, lost]), ledger_path(folder))


def resampled_length(samples: int, source_rate: int, rate: int) -> int:
    return round(samples * rate / source_rate)


class ForeignReader(ShardReader):
    """As ShardReader, for TARs that somebody else wrote."""

    folders = True  # TARs may have folders, and members that the index does not know

    def __init__(self, index: Index) -> None:
        super().__init__(index)
        self._named = {name: (index.names(name), index.codes(name)) for name in _NAMED}
        self._text = pyarrow.ipc.open_file(pa.memory_map(str(index.folder / FOREIGN_NAME))).read_all().column("text")

    def audio(self, row: int) -> npt.NDArray[np.int16]:
        """The samples (int16, mono, at the index's rate) of one utterance."""
        place, size, rate = int(self.index.offset[row]), int(self.index.size[row]), self.index.sample_rate
        data = self._bytes(row, place, size)
        try:
            samples, source_rate = decode_bytes(data)
        except SpeechmillError as error:
            raise self._damaged(row, str(error)) from error
        if source_rate != rate:
            sound = soxr.resample(samples.astype(np.float32) / 32768.0, source_rate, rate, quality="HQ")
            samples = np.clip(np.rint(sound * 32768.0), -32768, 32767).astype(np.int16)
        wanted = int(self.index.samples[row])
        if abs(len(samples) - wanted) > (_FIT if source_rate != rate else 0):
            raise self._damaged(row, f"{len(samples)} samples at {rate} Hz, the index says {wanted}")
        return np.pad(samples[:wanted], (0, max(0, wanted - len(samples))))

    def audio_into(self, row: int, out: npt.NDArray[np.int16], fast: bool = True) -> None:
        """As `audio`, into `out`, which has as many samples as the index says."""
        del fast
        out[:] = self.audio(row)

    def about(self, row: int) -> dict[str, Any]:
        """What the index and the sample's text say of one utterance."""
        index = self.index
        named = {name: names[int(codes[row])] for name, (names, codes) in self._named.items()}
        native = int(index.numbers("native")[row])
        return {
            "id": index.id(row), "text": str(self._text[row].as_py()), "samples": int(index.samples[row]),
            "native": None if native == NATIVE_UNKNOWN else bool(native), **named,
        }  # fmt: skip

    def _bytes(self, row: int, offset: int, size: int) -> bytes:
        data = bytearray(size)
        if self._read(row, [data], offset) != size:
            raise self._damaged(row, "the TAR ends within it")
        return bytes(data)


class _MixtureReader(ShardReader):
    """Reads a mixture in which somebody else's TARs are."""

    def __init__(self, index: Mixture) -> None:
        super().__init__(index)
        self._ends = index.row_ends
        self._readers = [open_reader(part) for part in index.parts]

    def audio(self, row: int) -> npt.NDArray[np.int16]:
        reader, place = self._of(row)
        return reader.audio(place)

    def audio_into(self, row: int, out: npt.NDArray[np.int16], fast: bool = True) -> None:
        reader, place = self._of(row)
        reader.audio_into(place, out, fast)

    def about(self, row: int) -> dict[str, Any]:
        reader, place = self._of(row)
        return reader.about(place)

    def release(self) -> None:
        for reader in self._readers:
            reader.release()

    def _of(self, row: int) -> tuple[ShardReader, int]:
        part = int(np.searchsorted(self._ends, row, side="right"))
        return self._readers[part], int(row - (self._ends[part - 1] if part else 0))


def open_reader(index: Index) -> ShardReader:
    """The reader of an index: of our own shards, of somebody else's, or of a mixture of both."""
    if isinstance(index, Mixture):
        foreign = any((part.folder / FOREIGN_NAME).is_file() for part in index.parts)
        return _MixtureReader(index) if foreign else ShardReader(index)
    return ForeignReader(index) if (index.folder / FOREIGN_NAME).is_file() else ShardReader(index)
