"""Files of a folder that may be far away: anything that fsspec opens (s3://, http://, gs://, a path)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import fsspec

from speechmill.errors import SpeechmillError, StorageError

_CHUNK = 8 << 20  # bytes asked for at a time
_NOT_THERE = (403, 404, 410)  # a bucket whose names may not be listed says 403 of what is not there
_EXTRAS = {"s3": "s3", "s3a": "s3", "http": "s3", "https": "s3"}


class RemoteFault(StorageError):
    """A source does not answer, or breaks off. It may the next time."""


def is_url(place: str) -> bool:
    return "://" in place


@dataclass(frozen=True)
class Remote:
    """A folder by its URL. Keys and endpoints are the environment's (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ...)."""

    place: str

    def size(self, name: str) -> int | None:
        """Bytes of a file; None where it is not there."""
        try:
            system, path = self._find(name)
            found = system.info(path)["size"]
            return len(self.read(name)) if found is None else int(found)
        except FileNotFoundError as error:
            if _is_connection(error):
                raise self._unreadable(name, error.__cause__ or error) from error
            return None
        except _faults() as error:
            raise self._unreadable(name, error) from error

    def read(self, name: str) -> bytes:
        """As `stream`, all of it."""
        return b"".join(self.stream(name))

    def stream(self, name: str) -> Iterator[bytes]:
        """A file from start to end. Raises SpeechmillError where it is not there, RemoteFault where the
        connection breaks."""
        try:
            system, path = self._find(name)
            with system.open(path, "rb", block_size=_CHUNK, cache_type="readahead") as stream:
                while chunk := stream.read(_CHUNK):
                    yield chunk
        except FileNotFoundError as error:
            if _is_connection(error):
                raise self._unreadable(name, error.__cause__ or error) from error
            raise SpeechmillError(f"{self.place}: has no {name}.") from error
        except _faults() as error:
            raise self._unreadable(name, error) from error

    def _find(self, name: str) -> tuple[Any, str]:
        try:
            # Opened anew each time: fsspec keeps what can be kept, and none of it may cross a fork.
            return fsspec.core.url_to_fs(f"{self.place.rstrip('/')}/{name}")  # type: ignore[no-any-return]
        except (ImportError, ValueError) as error:
            extra = _EXTRAS.get(self.place.partition("://")[0])
            how = f"; pip install 'speechmill[{extra}]'" if extra and isinstance(error, ImportError) else ""
            raise SpeechmillError(f"{self.place}: cannot be opened ({error}){how}.") from error

    def _unreadable(self, name: str, error: BaseException) -> RemoteFault:
        told = " ".join(str(error).split()) or type(error).__name__
        return RemoteFault(f"{self.place}: {name} cannot be read ({told}).")


def _is_connection(error: FileNotFoundError) -> bool:
    """fsspec says of a server that does not answer that it has no such file."""
    cause = error.__cause__
    answered = isinstance(cause, FileNotFoundError) or getattr(cause, "status", 0) in _NOT_THERE
    return isinstance(cause, _faults()) and not answered


def _faults() -> tuple[type[BaseException], ...]:
    """What the libraries behind fsspec raise when a network fails; of those that are loaded."""
    named = [
        ("aiohttp", "ClientError"),
        ("botocore.exceptions", "BotoCoreError"),
        ("botocore.exceptions", "ClientError"),
    ]
    found = [getattr(sys.modules.get(module), name, None) for module, name in named]
    return (OSError, TimeoutError, *(kind for kind in found if kind is not None))
