"""What is done to texts before WER and CER: a named normalisation, or a chain of named steps.

`thesis` and `whisper` are whole normalisations, the others are steps to chain: `lower,punctuation,fillers` applies them
from left to right. Both sides are normalised alike. White space is collapsed after every step. A reference with
alternatives is normalised piece by piece: the texts between the alternatives, and each alternative by itself; and once
more as a whole, as written (`score.comparing`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, reduce

from speechmill.errors import SpeechmillError
from speechmill.score.kinds import is_filler
from speechmill.text import RULE, normalize, strip_punctuation

Step = Callable[[str], str]

_BRACKETS = re.compile(r"<[^<>]*>|\[[^\[\]]*\]|\([^()]*\)")
_HYPHEN = re.compile(r"(?<=\w)[-\u2010\u2011](?=\w)")


@dataclass(frozen=True, slots=True)
class Normalization:
    """`name` as on the command line, `description` for the outputs, `apply` for texts."""

    name: str
    description: str
    apply: Step

    def words(self, text: str) -> list[str]:
        return self.apply(text).split()


def _whisper(text: str) -> str:
    return _whisper_normalizer()(text)


@lru_cache(maxsize=1)
def _whisper_normalizer() -> Step:
    try:
        from whisper_normalizer.english import EnglishTextNormalizer
    except ImportError as error:
        raise SpeechmillError(
            "--normalize whisper: the package whisper-normalizer is missing; pip install whisper-normalizer."
        ) from error
    whisper: Step = EnglishTextNormalizer()
    return whisper


def _without_fillers(text: str) -> str:
    return " ".join(word for word in text.split() if not is_filler(word))


def _accents(text: str) -> str:
    parts = unicodedata.normalize("NFKD", text)
    return unicodedata.normalize("NFC", "".join(part for part in parts if not unicodedata.combining(part)))


STEPS: Mapping[str, tuple[str, Step]] = {
    "none": ("as written", str),
    "thesis": (RULE, normalize),
    "whisper": ("Whisper's English normalisation", _whisper),
    "lower": ("lower case", str.lower),
    "upper": ("upper case", str.upper),
    "nfc": ("Unicode composed (NFC)", lambda text: unicodedata.normalize("NFC", text)),
    "nfkc": ("Unicode compatibility forms (NFKC)", lambda text: unicodedata.normalize("NFKC", text)),
    "punctuation": ("punctuation stripped", strip_punctuation),
    "hyphens": ("hyphens in words to spaces", lambda text: _HYPHEN.sub(" ", text)),
    "brackets": ("what is in <>, [] or () dropped", lambda text: _BRACKETS.sub(" ", text)),
    "fillers": ("fillers (uh, um, hmm, ...) dropped", _without_fillers),
    "accents": ("accents dropped", _accents),
}


def normalization(name: str) -> Normalization:
    """Return the normalisation of that name, or of steps chained by commas.

    Raises:
        SpeechmillError: a step is not known.
    """
    names = [part.strip() for part in name.split(",")]
    for part in names:
        if part not in STEPS:
            raise SpeechmillError(
                f"--normalize {name}: there is no step {part!r}; choose from {', '.join(STEPS)}, "
                f"or chain some by commas, e.g. lower,punctuation."
            )
    steps = [step for _, step in map(STEPS.__getitem__, names)]
    return Normalization(
        ",".join(names),
        "; ".join(description for description, _ in map(STEPS.__getitem__, names)),
        lambda text: reduce(lambda done, step: " ".join(step(done).split()), steps, text),
    )
