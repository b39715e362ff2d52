"""Read utterances out of shards by their place in the index."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from speechmill.errors import SpeechmillError, StorageError
from speechmill.shards.codecs import CODECS, WAV_HEADER, decode_into, wav_header
from speechmill.shards.index import Index
from speechmill.shards.tar import BLOCK

OPEN_FILES = 64  # kept open by a reader: well under the usual limit of 1024 for a process, with loader workers in mind
_FETCHED = 1 << 17  # bytes asked for at a time: of a longer range the kernel reads only the start


class ShardReader:
    """Random access to the utterances of an index. The last OPEN_FILES shards stay open; one reader per process."""

    folders = False  # whether a TAR may hold folders, and members that the index does not know

    def __init__(self, index: Index) -> None:
        self.index = index
        self._files: dict[int, int] = {}
        self._buffer = bytearray(1 << 20)

    def audio(self, row: int) -> npt.NDArray[np.int16]:
        """The samples (int16, mono, at the index's rate) of one utterance.

        Raises SpeechmillError naming shard and utterance where the TAR or the audio is damaged, StorageError where the
        file system or the source does not give it.
        """
        samples = np.empty(int(self.index.samples[row]), np.int16)
        self.audio_into(row, samples)
        return samples

    def audio_into(self, row: int, out: npt.NDArray[np.int16], fast: bool = True) -> None:
        """As `audio`, into `out`, contiguous, of as many samples as the index says. After an error it holds anything.

        Args:
            fast: else libsndfile decodes whatever it is: what the fast paths are compared with.
        """
        offset, size = int(self.index.offset[row]), int(self.index.size[row])
        if fast and size == WAV_HEADER + 2 * len(out) and self._pcm_into(row, offset, out):
            return
        data = self._payload(row, offset, size, CODECS)
        try:
            decode_into(data, out, self.index.sample_rate, fast)
        except SpeechmillError as error:
            raise self._damaged(row, str(error).rstrip(".")) from error

    def _pcm_into(self, row: int, offset: int, out: npt.NDArray[np.int16]) -> bool:
        """A WAV as we write it goes from the file to its place without a stop; False where it is something else."""
        head = bytearray(BLOCK + WAV_HEADER)
        read = self._read(row, [head, out.view(np.uint8).data], offset - BLOCK)
        if head[BLOCK:] != wav_header(len(out), self.index.sample_rate):
            return False
        self._check_member(row, head, read, len(head) + out.nbytes, CODECS)
        return True

    def about(self, row: int) -> dict[str, Any]:
        """The JSON member of one utterance: id, text, speaker and the manifest's other columns."""
        offset, size = self.index.json_offset[row], self.index.json_size[row]
        data = self._payload(row, int(offset), int(size), ("json",))
        try:
            about: dict[str, Any] = json.loads(bytes(data))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise self._damaged(row, f"its JSON does not parse ({error})") from error
        return about

    def fetch_ahead(self, shards: Sequence[int], lanes: int = 1) -> None:
        """Ask the kernel for the shards of a window, one of `lanes`, that will be read soon; returns at once.

        In a thread: where the disk has much to do already, the kernel lets the caller wait.
        """
        paths = self.index.fetch_ahead(shards, lanes)
        if paths and hasattr(os, "posix_fadvise"):
            threading.Thread(target=_will_need, args=(paths,), daemon=True).start()

    def _payload(self, row: int, offset: int, size: int, suffixes: Sequence[str]) -> memoryview:
        """Header and payload in one read, into a buffer that the next one overwrites.

        A member of another name there means another TAR than the index's.
        """
        if len(self._buffer) < BLOCK + size:
            self._buffer = bytearray(2 * (BLOCK + size))
        data = memoryview(self._buffer)[: BLOCK + size]
        self._check_member(row, data, self._read(row, [data], offset - BLOCK), len(data), suffixes)
        return data[BLOCK:]

    def _read(self, row: int, into: list[bytearray | memoryview], offset: int) -> int:
        try:
            return os.preadv(self._file(int(self.index.shard[row])), into, offset)
        except OSError as error:
            if error.errno != errno.EIO:  # that is a bad place of a disk
                path = self.index.shard_path(int(self.index.shard[row]))
                raise StorageError(f"{path}: cannot be read ({error.strerror}).") from error
            raise self._damaged(row, f"the TAR cannot be read there ({error.strerror})") from error

    def _check_member(
        self, row: int, head: bytearray | memoryview, read: int, size: int, suffixes: Sequence[str]
    ) -> None:
        if read != size:
            raise self._damaged(row, "the TAR ends within it")
        name = bytes(head[:100]).split(b"\0", 1)[0].decode("utf-8", "replace")
        stem, _, suffix = name.rpartition(".")
        if stem != self.index.id(row) or suffix not in suffixes:
            raise self._damaged(row, f"the TAR has {name!r} where the index has it")

    def _file(self, shard: int) -> int:
        """The descriptor of an opened shard; the one used longest ago is closed where there are too many."""
        descriptor = self._files.pop(shard, None)
        if descriptor is None:
            if len(self._files) >= OPEN_FILES:
                os.close(self._files.pop(next(iter(self._files))))
            descriptor = self.index.open_shard(shard)
        self._files[shard] = descriptor  # behind the others: dictionaries keep the order of insertion
        return descriptor

    def release(self) -> None:
        """Close shards that left the cache, or were replaced: until then their space is not free.

        Called for every batch: so what a process keeps of evicted shards is what its last batch read.
        """
        for shard, descriptor in list(self._files.items()):
            if os.fstat(descriptor).st_nlink == 0:
                os.close(self._files.pop(shard))

    def _damaged(self, row: int, what: str) -> SpeechmillError:
        path = self.index.shard_path(int(self.index.shard[row]))
        return SpeechmillError(
            f"{path}: the utterance {self.index.id(row)!r} is damaged: {what}; "
            f"`speechmill shards verify` checks the folder, `speechmill shards repair` writes the shard again."
        )


def _will_need(paths: Sequence[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError), path.open("rb") as stream:  # who reads it will say what is wrong with it
            for start in range(0, os.fstat(stream.fileno()).st_size, _FETCHED):
                os.posix_fadvise(stream.fileno(), start, _FETCHED, os.POSIX_FADV_WILLNEED)
