"""PocketSphinx's decoders: made with a small dictionary, run over samples, made to say which phone is where."""

from __future__ import annotations

import importlib.metadata
import math
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from speechmill.align.pronounce import pronounce
from speechmill.align.sound import FRAME
from speechmill.audio import Pcm
from speechmill.errors import SpeechmillError

SHORTEST = 4  # frames: less sound than this cannot be searched
CEPSTRA = 13  # mel-frequency cepstral coefficients of a frame
Cepstra = npt.NDArray[np.float64]
_VARIANT = re.compile(r"\(\d+\)$")


class Phone(NamedTuple):
    """A phone of the word number `word` in the frames `first` to `last` (without)."""

    phone: str
    word: int
    first: int
    last: int


def installed() -> str:
    """The version of PocketSphinx. Raises SpeechmillError where it is not installed."""
    try:
        return importlib.metadata.version("pocketsphinx")
    except importlib.metadata.PackageNotFoundError as error:
        raise SpeechmillError("the aligner pocketsphinx is not installed: pip install pocketsphinx") from error


def model_folder() -> Path:
    """The US-English acoustic model of the wheel."""
    from pocketsphinx import get_model_path

    return Path(get_model_path()) / "en-us" / "en-us"


@cache
def _dictionary() -> dict[str, list[str]]:
    """The wheel's dictionary: word -> its lines, one for each pronunciation."""
    found: dict[str, list[str]] = defaultdict(list)
    with (model_folder().parent / "cmudict-en-us.dict").open(encoding="utf-8") as stream:
        for line in stream:
            found[_VARIANT.sub("", line.partition(" ")[0])].append(line)
    return dict(found)


def write_dictionary(words: Iterable[str], path: Path) -> set[str]:
    """Write the pronunciations of these words alone, and return those that have one.

    With all 130,000 words a decoder needs 0.1 s to start and 0.8 to 3 s for each language model that it is given; with
    a transcript's words 0.01 and 0.005 s, and it hears the same.
    """
    known = set()
    with path.open("w", encoding="utf-8") as stream:
        for word in sorted(words):
            if lines := _dictionary().get(word):
                stream.writelines(lines)
            elif phones := pronounce(word):
                stream.write(f"{word} {phones}\n")
            else:
                continue
            known.add(word)
    return known


def decoder(dictionary: Path, **settings: Any) -> Any:
    """A decoder without a language model. `settings` are PocketSphinx's."""
    from pocketsphinx import Config, Decoder

    return Decoder(Config(lm=None, dict=str(dictionary), loglevel="FATAL", **settings))


def run(engine: Any, samples: Pcm) -> list[tuple[str, int, int]]:
    """Words with their first frame and the one after their last; none where the search found no way through."""
    if len(samples) < SHORTEST * FRAME:
        return []
    _pass(engine, samples)
    return [
        (_VARIANT.sub("", segment.word), segment.start_frame, segment.end_frame + 1)
        for segment in engine.seg() or ()
        if segment.word[0] not in "<[(" and segment.word != "NULL"
    ]


def _pass(engine: Any, samples: Pcm) -> None:
    engine.start_utt()
    engine.process_raw(samples.tobytes(), full_utt=True)
    engine.end_utt()


class Scorer:
    """Says how well sound fits words in a voice (a transform's file, see `mllr`; None: the model's own)."""

    def __init__(self, dictionary: Path, voice: Path | None) -> None:
        # Against all senones in each frame: else a score says how good a path is among those that were tried. Nothing
        # pruned: else a voice that the model hardly knows has no way through.
        settings: dict[str, Any] = {"bestpath": False, "compallsen": True, "beam": 0.0, "pbeam": 0.0, "wbeam": 0.0}
        self._engine = decoder(dictionary, **settings, **({"mllr": str(voice)} if voice else {}))

    def __call__(self, samples: Pcm, words: Sequence[str]) -> tuple[float, list[tuple[int, int]]] | None:
        """Mean score of a frame of the words (log likelihood over the best senone's, in steps of 1e-4), and for each
        word its first frame and the one after its last; None where they do not fit.
        """
        if len(samples) < SHORTEST * FRAME * len(words):
            return None
        self._engine.set_align_text(" ".join(words))
        _pass(self._engine, samples)
        found = [
            (segment.ascore, segment.start_frame, segment.end_frame + 1)
            for segment in self._engine.seg() or ()
            if segment.word[0] not in "<[("
        ]
        if len(found) != len(words):
            return None
        score = sum(math.log(max(likelihood, 1e-300)) for likelihood, _, _ in found) * 1e4
        return score / sum(last - first for _, first, last in found), [(first, last) for _, first, last in found]


class PhoneAligner:
    """Says which phone of a text is spoken in which frame, and what the decoder's front end made of the sound."""

    def __init__(self, dictionary: Path) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="speechmill-")
        logged = {"bestpath": False, "ds": 2, "mfclogdir": self._folder.name}
        self._quick = decoder(dictionary, **logged)
        # Nothing pruned: a voice that the model hardly knows, or a long stretch, else has no way through to its end.
        self._patient = decoder(dictionary, **logged, beam=0.0, pbeam=0.0, wbeam=0.0)

    def __call__(self, samples: Pcm, words: Sequence[str]) -> tuple[list[Phone], Cepstra]:
        """Phones of `words` (silence is left out) and the cepstra `[frames, 13]`; neither where they do not fit."""
        if words and len(samples) >= SHORTEST * FRAME * len(words):
            for engine in (self._quick, self._patient):
                if found := self._try(engine, samples, words):
                    return found
        return [], np.zeros((0, CEPSTRA))

    def _try(self, engine: Any, samples: Pcm, words: Sequence[str]) -> tuple[list[Phone], Cepstra] | None:
        engine.set_align_text(" ".join(words))
        _pass(engine, samples)
        try:
            engine.set_alignment()
            _pass(engine, samples)
        except RuntimeError:  # the text did not come to its end
            return None
        phones: list[Phone] = []
        number = 0
        for word in engine.get_alignment() or ():  # its entries are gone when it has gone on
            if word.name[0] in "<[(":
                continue
            for phone in word:
                phones.append(Phone(phone.name.split()[0], number, phone.start, phone.start + phone.duration))
            number += 1
        cepstra = self._logged()
        return (phones, cepstra) if number == len(words) else None

    def _logged(self) -> Cepstra:
        """The cepstra of the last pass: a count, then big-endian floats."""
        paths = sorted(Path(self._folder.name).iterdir(), key=lambda path: path.stat().st_mtime_ns)
        found = np.frombuffer(paths[-1].read_bytes(), ">f4", offset=4).reshape(-1, CEPSTRA).astype(np.float64)
        for path in paths:
            path.unlink()
        return found
