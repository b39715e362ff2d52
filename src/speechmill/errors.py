"""The one exception that users see: a single line that says what is wrong and what to do."""

from __future__ import annotations


class SpeechmillError(Exception):
    """Bad input, or a world that does not fit it (full disk, missing file).

    The message is one line: file or place, what was found, what was expected, what to do. The command line prints it
    and exits with status 2; a traceback would only hide it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class StorageError(SpeechmillError):
    """A disk, a network or a cache failed, or is too small. Data that were not had are not damaged data: this stops."""


class PeerLost(SpeechmillError):
    """Another process of the group ended: its own message tells why. The job starts again or ends."""
