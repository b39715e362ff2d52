"""Calls of one person each who reads digits: company to the few real speakers of a set of digit recordings."""

# ruff: noqa: SIM905  (words are read best as a line of words)

from __future__ import annotations

from dataclasses import replace
from random import Random

from speechmill.corpora.demo.script import PRESENTATION, QUESTIONS, Call, Company, Person, Sentence
from speechmill.corpora.demo.voices import assign_voices

_DIGITS = "zero one two three four five six seven eight nine".split()
_LENGTHS = (3, 8)  # digits in a sentence, from and to
_MARKS = (",", ",", ".", "")  # said behind a digit: most are read with a pause, one at a time
_RATES = (110, 190)  # words per minute: a reader's tempo changes from line to line, from and to
_PITCHES = 8  # of 100, up or down: and so does the pitch
_SECONDS_PER_DIGIT = 0.7  # measured: length of a recording over its digits, pauses between sentences included


def write_digit_calls(calls: int, hours: float, seed: int) -> list[Call]:
    """Half of the calls native, each with a voice of its own; the digits of a sentence are drawn at random."""
    random = Random(f"{seed} digits")  # noqa: S311  (reproducible)
    natives = [place % 2 == 0 for place in range(calls)]
    teams = assign_voices(random, natives, 1)
    digits = round(3600 * hours / calls / _SECONDS_PER_DIGIT)
    written = []
    for place, (native, (voice,)) in enumerate(zip(natives, teams, strict=True)):
        person = Person(f"reader{place:05d}", "", "", voice)
        company = Company(person.id, native, voice.country, person, person, person, ())
        written.append(Call(str(1_000_000 + place), company, tuple(_sentences(random, person, digits))))
    return written


def _sentences(random: Random, person: Person, digits: int) -> list[Sentence]:
    sentences: list[Sentence] = []
    while digits > 0:
        words = random.choices(_DIGITS, k=random.randint(*_LENGTHS))
        digits -= len(words)
        spoken = " ".join(word + random.choice(_MARKS) for word in words)
        session = random.choice((PRESENTATION, QUESTIONS))
        sentences.append(
            Sentence(_in_another_mood(random, person), session, f"{' '.join(words).capitalize()}.", spoken)
        )
    return sentences


def _in_another_mood(random: Random, person: Person) -> Person:
    pitch = person.voice.pitch + random.randint(-_PITCHES, _PITCHES)
    return replace(person, voice=replace(person.voice, pitch=pitch, rate=random.randint(*_RATES)))
