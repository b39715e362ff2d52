"""The voices of the demo corpus: accent x variant x pitch x rate, each given to one person only."""

# ruff: noqa: SIM905  (words are read best as a line of words)

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

# eSpeak voice -> country of the speaker. Native voices read English as they are.
NATIVE = {
    "en-us": "United States",
    "en-us-nyc": "United States",
    "en": "United Kingdom",
    "en-gb-x-rp": "United Kingdom",
    "en-gb-scotland": "United Kingdom",
    "en-gb-x-gbclan": "United Kingdom",
    "en-gb-x-gbcwmd": "United Kingdom",
    "en-029": "Jamaica",
}
_NATIVE_WEIGHTS = (5, 2, 3, 3, 2, 1, 1, 2)

# Voices of other languages; `accents` turns English into their sounds.
FOREIGN = {
    "de": "Germany",
    "fr": "France",
    "es": "Spain",
    "it": "Italy",
    "pl": "Poland",
    "sv": "Sweden",
    "nl": "Netherlands",
    "pt-br": "Brazil",
    "ro": "Romania",
    "cs": "Czech Republic",
    "hu": "Hungary",
    "fi": "Finland",
    "nb": "Norway",
    "tr": "Turkey",
    "da": "Denmark",
    "ru": "Russia",
    "hi": "India",
}

# Variants that sound like people: no whispers, croaks or robots.
VARIANTS = (
    "m1 m2 m3 m4 m5 m6 m7 m8 f1 f2 f3 f4 f5 Andy Annie Alex Alicia Andrea Denis Diogo Gene Hugo Jacky Lee Mario "
    "Michael adam anika antonio aunty belinda benjamin boris caleb david ed edward john linda max michel miguel pablo "
    "paul pedro quincy rob robert sandro shelby steph travis victor zac"
).split()
_PITCHES = (30, 38, 44, 50, 56, 62, 70)
_RATES = (150, 156, 162, 168, 174, 180, 186)  # words per minute


@dataclass(frozen=True)
class Voice:
    """What eSpeak NG is set to for one person."""

    language: str
    variant: str
    pitch: int  # 0..100, eSpeak's scale
    rate: int  # words per minute

    @property
    def native(self) -> bool:
        return self.language in NATIVE

    @property
    def country(self) -> str:
        return (NATIVE | FOREIGN)[self.language]

    @property
    def espeak_name(self) -> str:
        return f"{self.language}+{self.variant}"


def assign_voices(random: Random, natives: list[bool], size: int) -> list[list[Voice]]:
    """A team of `size` voices for each company, all of its kind; no voice is given twice."""
    used: set[Voice] = set()
    return [_team(random, native, size, used) for native in natives]


def _team(random: Random, native: bool, size: int, used: set[Voice]) -> list[Voice]:
    """Operator and officers of a foreign company share a language; its analysts come from anywhere."""
    variants = random.sample(VARIANTS, size)
    home = random.choice(list(FOREIGN))
    team: list[Voice] = []
    for place, variant in enumerate(variants):
        if native:
            language = random.choices(list(NATIVE), _NATIVE_WEIGHTS)[0]
        else:
            language = home if place < 3 else random.choice(list(FOREIGN))
        voice = next(v for v in _tries(random, language, variant) if v not in used)
        used.add(voice)
        team.append(voice)
    return team


def _tries(random: Random, language: str, variant: str) -> Iterator[Voice]:
    while True:
        yield Voice(language, variant, random.choice(_PITCHES), random.choice(_RATES))
