"""Part `traps` of `benchmarks.align`: transcripts that belong elsewhere, begin late, go on too long, repeat."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.align_cases import once, one_recording, rows_of, undamaged
from benchmarks.align_tally import Tally
from benchmarks.damage import Said, Written, clips
from speechmill.align.base import Aligner
from speechmill.audio import RATE, Pcm

_GERMAN = (
    "Der Vorstand erwartet im laufenden Jahr steigende Preise.", "Wir danken Ihnen für Ihre Aufmerksamkeit.",
    "Der Umsatz stieg im dritten Quartal um zwölf Prozent.", "Die Nachfrage nach Stahl hat sich leicht erholt.",
    "Guten Morgen und herzlich willkommen zu unserer Konferenz.", "Wir haben die Prognose noch einmal angehoben.",
    "Unsere Schulden konnten wir um ein Drittel senken.", "Damit gebe ich das Wort an unseren Finanzvorstand.",
)  # fmt: skip
_LATE = 600.0  # seconds that a transcript starts late
_REPEATED = slice(20, 40)  # clips that are said, or written, twice

_SHORT = (1, 2, 4, 8)  # clips of a recording that is all there is

Case = tuple[Pcm, list[Written]]


def part(aligner: Aligner, args: Namespace) -> dict[str, Any]:
    """Of each trap the figures of a level of `levels`, and the seconds of speech that are no sentence's."""
    cases: dict[str, Callable[[Path], Case]] = {
        "another_call": another_call, "ten_minutes_late": late, "cut_off": cut_off,
        "said_twice": said_twice, "written_twice": written_twice,
    }  # fmt: skip
    found = {}
    for name, case in cases.items():

        def make(case: Callable[[Path], Case] = case) -> dict[str, Any]:
            samples, written = case(args.corpus)
            tally = Tally()
            aligned = one_recording(aligner, samples, written, tally)
            speech = sum(end - start for start, end in aligned.others)
            return tally.record() | {"seconds": len(samples) / RATE, "speech_of_no_sentence_seconds": speech}

        found[name] = once(args.work / "traps" / f"{name}.json", make)
    found["short"] = once(args.work / "traps" / "short.json", lambda: short(aligner, args.corpus))
    return found


def short(aligner: Aligner, corpus: Path) -> dict[str, Any]:
    """Recordings of a few clips with the transcript of as many others, with a half of it, in another language, and
    their own: what a transcript that has hardly any words makes of speech that it does not belong to.
    """
    texts = [row[1] for row in rows_of(corpus)]
    own, others = Tally(), Tally()
    for number, count in enumerate(_SHORT):
        samples, said = clips(corpus, number, number + count)
        away = len(texts) // 2 + 10 * number
        one_recording(aligner, samples, undamaged(said), own)
        for wrong in (texts[away : away + count], texts[away : away + max(1, count // 2)], _GERMAN[:count]):
            one_recording(aligner, samples, [Written(text, None) for text in wrong], others)
    return {"own": own.record(), "others": others.record()}


def another_call(corpus: Path) -> Case:
    """The first half's recording with the other half's transcript: all is rejected."""
    texts = [row[1] for row in rows_of(corpus)]
    middle = len(texts) // 2
    return clips(corpus, 0, middle)[0], [Written(text, None) for text in texts[middle:]]


def late(corpus: Path) -> Case:
    """The whole recording with the transcript of what is said from the tenth minute (or the middle) on."""
    samples, said = clips(corpus)
    start = min(_LATE, len(samples) / RATE / 2)
    return samples, undamaged([one for one in said if one.start >= start])


def cut_off(corpus: Path) -> Case:
    """A quarter of the folder with the transcript of half: what was cut off is false here."""
    samples, said = clips(corpus, 0, len(rows_of(corpus)) // 2)
    end = len(samples) // 2
    written = undamaged(said)
    return samples[:end], [
        one if one.said and one.said.end * RATE < end else Written(one.text, None) for one in written
    ]


def said_twice(corpus: Path) -> Case:
    """Twenty clips are repeated in the recording."""
    samples, said = clips(corpus, 0, len(rows_of(corpus)) // 2)
    again = said[_REPEATED]
    first, last = round(again[0].start * RATE), round(again[-1].end * RATE)
    shift = (last - first) / RATE
    moved = [
        one if one.start <= again[-1].start else Said(one.text, one.start + shift, one.end + shift) for one in said
    ]
    return np.concatenate([samples[:last], samples[first:]]), undamaged(moved)


def written_twice(corpus: Path) -> Case:
    """Twenty sentences are repeated in the transcript: one of each pair has no partner, and either may be it."""
    samples, said = clips(corpus, 0, len(rows_of(corpus)) // 2)
    again = [Written(one.text, None) for one in said[_REPEATED]]
    written = undamaged(said)
    return samples, [*written[: _REPEATED.stop], *again, *written[_REPEATED.stop :]]
