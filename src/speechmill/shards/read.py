"""Read utterances out of shards by their place in the index."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from speechmill.audio import decode_bytes
from speechmill.errors import SpeechmillError
from speechmill.shards.index import Index
from speechmill.shards.store import close_evicted, fetch_ahead, open_shard
from speechmill.shards.tar import BLOCK

OPEN_FILES = 64  # kept open by a reader: well under the usual limit of 1024 for a process, with loader workers in mind
_FETCHED = 1 << 17  # bytes asked for at a time: of a longer range the kernel reads only the start


class ShardReader:
    """Random access to the utterances of an index. The last OPEN_FILES shards stay open; one reader per process."""

    folders = False  # whether a TAR may hold folders, and members that the index does not know

    def __init__(self, index: Index) -> None:
        self.index = index
        self._files: dict[int, int] = {}

    def audio(self, row: int) -> npt.NDArray[np.int16]:
        """The samples (int16, mono, at the index's rate) of one utterance.

        Raises SpeechmillError naming shard and utterance where the TAR or the audio is damaged.
        """
        data = self._payload(row, int(self.index.offset[row]), int(self.index.size[row]), ".flac")
        try:
            samples, rate = decode_bytes(data)
        except SpeechmillError as error:
            raise self._damaged(row, str(error)) from error
        if rate != self.index.sample_rate or len(samples) != int(self.index.samples[row]):
            raise self._damaged(
                row, f"{len(samples)} samples at {rate} Hz, the index says {self.index.samples[row]} at "
                f"{self.index.sample_rate}"
            )  # fmt: skip
        return samples

    def about(self, row: int) -> dict[str, Any]:
        """The JSON member of one utterance: id, text, speaker and the manifest's other columns."""
        offset, size = self.index.json_offset[row], self.index.json_size[row]
        data = self._payload(row, int(offset), int(size), ".json")
        try:
            about: dict[str, Any] = json.loads(data)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise self._damaged(row, f"its JSON does not parse ({error})") from error
        return about

    def fetch_ahead(self, shards: Sequence[int]) -> None:
        """Ask the kernel for whole shards that will be read soon; returns at once.

        In a thread: where the disk has much to do already, the kernel lets the caller wait.
        """
        if fetch_ahead(self.index, shards):
            return
        paths = [self.index.shard_path(shard) for shard in shards]
        if paths and hasattr(os, "posix_fadvise"):
            threading.Thread(target=_will_need, args=(paths,), daemon=True).start()

    def _payload(self, row: int, offset: int, size: int, suffix: str) -> bytes:
        """Header and payload in one read: a member of another name there means another TAR than the index's."""
        data = os.pread(self._file(int(self.index.shard[row])), BLOCK + size, offset - BLOCK)
        name = data[:100].split(b"\0", 1)[0].decode("utf-8", "replace")
        if len(data) != BLOCK + size:
            raise self._damaged(row, "the TAR ends within it")
        if name != f"{self.index.id(row)}{suffix}":
            raise self._damaged(row, f"the TAR has {name!r} where the index has it")
        return data[BLOCK:]

    def _file(self, shard: int) -> int:
        """The descriptor of an opened shard; the one used longest ago is closed where there are too many."""
        descriptor = self._files.pop(shard, None)
        if descriptor is None:
            if len(self._files) >= OPEN_FILES:
                os.close(self._files.pop(next(iter(self._files))))
            close_evicted(self._files)
            descriptor = open_shard(self.index, shard)
        self._files[shard] = descriptor  # behind the others: dictionaries keep the order of insertion
        return descriptor

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
