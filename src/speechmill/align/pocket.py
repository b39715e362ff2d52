"""PocketSphinx's decoders: made with a small dictionary, run over samples, made to tell what their front end does."""

from __future__ import annotations

import importlib.metadata
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from speechmill.align.pronounce import pronounce
from speechmill.align.sound import FRAME
from speechmill.audio import Pcm
from speechmill.errors import SpeechmillError

SHORTEST = 4  # frames: less sound than this cannot be searched
CEPSTRA = 13  # mel-frequency cepstral coefficients of a frame
Cepstra = npt.NDArray[np.float32]
_BLOCK = 160000  # samples that are handed over at once
_VARIANT = re.compile(r"\(\d+\)$")


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


def pronunciations(dictionary: Path) -> dict[str, list[list[str]]]:
    """Phones of each word of such a file, in each way that it is spoken."""
    found: dict[str, list[list[str]]] = defaultdict(list)
    for line in dictionary.read_text(encoding="utf-8").splitlines():
        word, *phones = line.split()
        found[_VARIANT.sub("", word)].append(phones)
    return dict(found)


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


def cepstra(samples: Pcm, dictionary: Path, word: str) -> Cepstra:
    """`[frames, 13]`: what the decoder's front end makes of sound, noise taken out, before anything is searched.

    Args:
        word: any that the dictionary has.
    """
    with tempfile.TemporaryDirectory(prefix="speechmill-") as folder:
        # It can only be had of a decoder that searches: for one word, in every tenth frame.
        engine = decoder(dictionary, bestpath=False, ds=10, mfclogdir=folder)
        engine.set_align_text(word)
        engine.start_utt()
        for start in range(0, len(samples), _BLOCK):
            engine.process_raw(samples[start : start + _BLOCK].tobytes())
        engine.end_utt()
        (path,) = Path(folder).iterdir()
        # A count, then big-endian floats.
        return np.frombuffer(path.read_bytes(), ">f4", offset=4).reshape(-1, CEPSTRA).astype(np.float32)
