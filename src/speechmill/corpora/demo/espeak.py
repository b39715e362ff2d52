"""eSpeak NG in process: a ctypes binding of the library in the PyPI wheel `espeakng-loader`.

The library keeps state from one utterance to the next (its phase, `rand`), so the same calls give the same samples only
in a fresh process: one process speaks one recording.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from speechmill.errors import SpeechmillError

RATE = 22050  # Hz
_SYNCHRONOUS = 2
_UTF8, _PHONEMES = 0x1, 0x100
_SPEED, _VOLUME, _PITCH = 1, 2, 3
_QUIET = 60  # of 100: at full volume the loudest variants are clipped
_WORD_EVENT, _LAST_EVENT = 1, 0


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True)
class Spoken:
    """Samples (int16, mono, RATE) and the places where words begin: (character in the text from 0, sample)."""

    samples: npt.NDArray[np.int16]
    words: list[tuple[int, int]]


class Espeak:
    """The library with its callback. A process can have only one: see `espeak`."""

    def __init__(self) -> None:
        library, data = find_library()
        self._library = ctypes.CDLL(str(library))
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self._library.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int]
        if self._library.espeak_Initialize(_SYNCHRONOUS, 0, str(data).encode(), 0) != RATE:
            raise SpeechmillError(
                f"{library}: eSpeak NG did not start; install it anew: pip install 'speechmill[demo]'"
            )
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        self._chunks: list[npt.NDArray[np.int16]] = []
        self._words: list[tuple[int, int]] = []
        self._callback = _CALLBACK(self._hear)  # kept: the library only borrows it
        self._library.espeak_SetSynthCallback(self._callback)
        self._voice = ""

    def _hear(self, samples: ctypes._Pointer[ctypes.c_short], count: int, events: ctypes._Pointer[_Event]) -> int:
        if count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        place = 0
        while events[place].type != _LAST_EVENT:
            if events[place].type == _WORD_EVENT:
                self._words.append((events[place].text_position - 1, events[place].sample))
            place += 1
        return 0

    def set_voice(self, name: str) -> None:
        """Choose "language+variant". Raises SpeechmillError for one that the library lacks."""
        if name != self._voice and self._library.espeak_SetVoiceByName(name.encode()) != 0:
            raise SpeechmillError(f"eSpeak NG has no voice {name!r}; install it anew: pip install 'speechmill[demo]'")
        self._voice = name

    def speak(self, text: str, rate: int, pitch: int) -> Spoken:
        """Speak with the voice set before; [[...]] in the text are phonemes of its language."""
        self._chunks, self._words = [], []
        self._library.espeak_SetParameter(_SPEED, rate, 0)
        self._library.espeak_SetParameter(_PITCH, pitch, 0)
        self._library.espeak_SetParameter(_VOLUME, _QUIET, 0)
        data = text.encode()
        if self._library.espeak_Synth(data, len(data) + 1, 0, 1, 0, _UTF8 | _PHONEMES, None, None) != 0:
            raise SpeechmillError(f"eSpeak NG could not speak {text!r} with {self._voice}")
        return Spoken(np.concatenate(self._chunks), self._words)

    def phonemes(self, word: str) -> list[str]:
        """The phoneme mnemonics of a word in the voice's language, with their stress marks: eSpeak -> 'i: s p 'i: k."""
        pointer = ctypes.c_char_p(word.encode())
        text = self._library.espeak_TextToPhonemes(ctypes.byref(pointer), _UTF8, ord("_") << 8)
        return [part for part in (text or b"").decode().replace(" ", "_").split("_") if part]


@cache
def espeak() -> Espeak:
    """The one eSpeak NG of this process."""
    return Espeak()


def find_library() -> tuple[Path, Path]:
    """The shared library and its data folder. Raises SpeechmillError when the extra is not installed."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise SpeechmillError(
            "the demo corpus is spoken by eSpeak NG, which is not installed: pip install 'speechmill[demo]'"
        ) from error
    return Path(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())


def phoneme_table(data: Path, name: str) -> frozenset[str]:
    """The mnemonics of a language's phoneme table with those that it inherits.

    `phontab` is: number of tables, then per table its length, its parent (from 1), two bytes, a name of 32 bytes and
    16 bytes per phoneme, which begin with the mnemonic in four (phoneme_tab in eSpeak NG's phoneme.h).
    """
    content = (data / "phontab").read_bytes()
    tables: list[tuple[str, int, frozenset[str]]] = []
    place = 4
    for _ in range(content[0]):
        count, parent = content[place], content[place + 1]
        label = content[place + 4 : place + 36].split(b"\0")[0].decode()
        place += 36
        rows = [content[place + 16 * row :][:4] for row in range(count)]
        tables.append((label, parent, frozenset(row.rstrip(b"\0").decode("latin-1") for row in rows)))
        place += 16 * count
    found = [table for table in tables if table[0] == name]
    if not found:
        raise SpeechmillError(f"{data / 'phontab'}: no phoneme table {name!r}; pip install 'speechmill[demo]'")
    own, parent = found[0][2], found[0][1]
    while parent:
        _, following, inherited = tables[parent - 1]
        own, parent = own | inherited, following
    return own
