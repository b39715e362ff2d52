"""The second pass: exact times for the words of matched sentences.

What was heard is rewritten: where a sentence matched, its own words stand instead of the heard ones; between
sentences the heard words stay, to take up the sound that the transcript lacks. The aligner then fits this text, stretch
by stretch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from speechmill.align.base import Aligner, Heard
from speechmill.align.match import Match
from speechmill.align.pace import letters, pace_of
from speechmill.audio import RATE, Pcm

_ENOUGH, _MOST = 8.0, 40.0  # seconds: a stretch ends at the first pause after `_ENOUGH`, and anywhere after `_MOST`
_PAUSE = 0.12  # seconds between heard words where a stretch may end
_STRETCH, _LOOSE = 2.5, 0.3  # unheard words at an edge take at most so many times what they would, and so much more
_ON = 1.5  # seconds more, instead, where the sound goes on without a pause: something longer is said there
_LIKELY = 1.3  # nats by which an edge is likelier in a pause
_SLOW, _PAUSED = 1.3, 0.2  # so many times what they would, and seconds, for those beside which nothing was heard
_GRAIN = 0.25  # seconds: of two lengths below it, neither is the better guess
_ASTRAY = 0.4  # seconds between the passes beyond which the second is not believed
# Heard words at an edge that may agree by chance: where so many times the sound that the unheard words up to the next
# one take is between, or so little of it.
_STRAYS, _SPREAD, _CROWDED = 2, 1.5, 0.4
_MARGIN = 0.6  # seconds of sound taken along where a stretch ends in a long pause
LONGEST = 150.0  # seconds that are worked on at once: memory goes with them (2 MB each where all cuts are tried)


@dataclass(frozen=True)
class Word:
    """A word of the rewritten text: of a sentence (`sentence`, `token` >= 0) or only heard (-1)."""

    word: str
    sentence: int
    token: int
    agrees: bool  # was heard where it stands
    start: float  # seconds
    end: float
    extra: int = 0  # words, understood or not, after it and before the next one heard, that the sentence does not have


@dataclass(frozen=True)
class _Claim:
    """The heard words `first` to `last` (without) that a sentence takes the place of."""

    place: int
    match: Match
    first: int
    last: int


def rewrite(heard: Sequence[Heard], found: Sequence[Match | None], seconds: float) -> list[Word]:
    """The heard words with matched sentences in the place of what they matched; times of the first pass.

    Words of a sentence that were not heard share the time between those that were. Where they are its first or last,
    heard words beside it that no sentence has stand for them (`_claims`), and the sound before or after, which may have
    been taken for silence, to the end of the recording's `seconds` at most.
    """
    pace = _pace(heard, [match for match in found if match])
    claims = {claim.first: claim for claim in _claims(heard, found, pace)}
    words: list[Word] = []
    index = 0
    while index < len(heard):
        claim = claims.get(index)
        if claim is None:
            one = heard[index]
            words.append(Word(one.word, -1, -1, True, one.start, one.end))
            index += 1
        else:
            start = _free(words[-1].end if words else 0.0, claim, heard, pace)
            end = _until(claim, claims.get(claim.last), heard, pace, seconds)
            words += _of_sentence(claim, heard, start, end)
            index = claim.last
    return words


def _free(before: float, claim: _Claim, heard: Sequence[Heard], pace: float) -> float:
    """Where a sentence starts whose first words were not heard: as far ahead as they take, after what is `before`."""
    first = heard[claim.first].start
    wanted = heard[claim.match.first].start - _room(_edges(claim.match)[0], pace)
    return min(first, max(before, wanted))


def _room(size: int, pace: float) -> float:
    """Seconds for unheard words at an edge and a pause beside them: too many are silence to the second pass."""
    return _SLOW * pace * size + _PAUSED if size else 0.0


def _until(claim: _Claim, following: _Claim | None, heard: Sequence[Heard], pace: float, seconds: float) -> float:
    """Where a sentence ends whose last words were not heard; it shares the sound with unheard words that follow."""
    last, own = heard[claim.last - 1].end, _room(_edges(claim.match)[1], pace)
    wanted = heard[claim.match.last - 1].end + own
    if claim.last < len(heard):
        gap = heard[claim.last].start - last
        others = _room(_edges(following.match)[0], pace) if following else 0.0
        wanted = min(wanted, last + gap * (own / (own + others) if own else 0.0))
    return max(last, min(wanted, seconds))


def _claims(heard: Sequence[Heard], found: Sequence[Match | None], pace: float) -> list[_Claim]:
    """Each match with as many heard words at its edges as its own unheard words there would take."""
    matches = sorted((match.first, place, match) for place, match in enumerate(found) if match)
    claims: list[_Claim] = []
    for number, (_, place, match) in enumerate(matches):
        before = claims[-1].last if claims else 0
        following = matches[number + 1] if number + 1 < len(matches) else None
        after = following[0] if following else len(heard)
        leading, trailing = _edges(match)
        previous = matches[number - 1] if number else None
        sure_before = previous is not None and previous[1] < place and not _edges(previous[2])[1]
        sure_after = following is not None and following[1] > place and not _edges(following[2])[0]
        starts = [(heard[index].start, index) for index in range(match.first, before - 1, -1)]
        ends = [(heard[index - 1].end, index) for index in range(match.last, after + 1)]
        first = _reach(starts, pace * leading, heard, sure_before) if leading else match.first
        last = _reach(ends, pace * trailing, heard, sure_after) if trailing else match.last
        claims.append(_Claim(place, match, first, last))
    return claims


def _pace(heard: Sequence[Heard], matches: Sequence[Match]) -> float:
    return pace_of(
        (word, heard[index].end - heard[index].start)
        for match in matches
        for word, _, index in match.words
        if index >= 0
    )


def trusted(heard: Sequence[Heard], found: Sequence[Match | None]) -> list[Match | None]:
    """The matches without heard words at their edges that agree by chance."""
    pace = _pace(heard, [match for match in found if match])
    return [without_strays(match, heard, pace) if match else None for match in found]


def without_strays(match: Match, heard: Sequence[Heard], pace: float) -> Match:
    """The match without up to two heard words at an edge that agree by chance: far from the rest of the sentence for
    the unheard words between, or too near for them.
    """
    words = list(match.words)
    for order in (range(len(words)), range(len(words) - 1, -1, -1)):
        agree = [number for number in order if words[number][2] >= 0]
        for count in range(1, min(_STRAYS, len(agree) - 1) + 1):
            outer, inner = agree[count - 1], agree[count]
            between = words[min(outer, inner) + 1 : max(outer, inner)]
            low, high = sorted((words[outer][2], words[inner][2]))
            seconds = heard[high].start - heard[low].end
            wanted = pace * letters([word for word, _, _ in between])
            far = between and seconds > _SPREAD * wanted + _ASTRAY
            if far or seconds < _CROWDED * wanted - _GRAIN:
                for number in agree[:count]:
                    words[number] = (*words[number][:2], -1)
    places = [index for _, _, index in words if index >= 0]
    return replace(match, words=tuple(words), first=min(places), last=max(places) + 1)


def _edges(match: Match) -> tuple[int, int]:
    """Letters in the words before the first one that was heard, and after the last."""
    agree = [number for number, (_, _, index) in enumerate(match.words) if index >= 0]
    words = [word for word, _, _ in match.words]
    return letters(words[: agree[0]]), letters(words[agree[-1] + 1 :])


def _reach(edges: Sequence[tuple[float, int]], wanted: float, heard: Sequence[Heard], sure: bool) -> int:
    """The heard word up to which an edge moves so that about `wanted` seconds lie between.

    `edges` are (time, heard word) from the edge outwards. A pause, or a neighbour that follows in the transcript too
    (`sure`), is a likely place to stop.
    """
    best, choice = math.inf, edges[0][1]
    reach = _STRETCH * wanted + _ON
    for number, (time, index) in enumerate(edges):
        there = abs(time - edges[0][0])
        if there > reach:
            break
        cost = abs(math.log((there + _GRAIN) / (wanted + _GRAIN)))
        beside = heard[index].start - heard[index - 1].end if 0 < index < len(heard) else _PAUSE
        if beside >= _PAUSE or (sure and number == len(edges) - 1):
            cost -= _LIKELY
            reach = _STRETCH * wanted + _LOOSE
        if cost < best:
            best, choice = cost, index
    return choice


def _of_sentence(claim: _Claim, heard: Sequence[Heard], clock: float, limit: float) -> list[Word]:
    """The words of a sentence between two times."""
    words: list[Word] = []
    pending: list[tuple[str, int]] = []

    def spread(until: float) -> None:
        width = max(0.0, until - clock) / max(len(pending), 1)
        for number, (word, token) in enumerate(pending):
            begin = clock + number * width
            words.append(Word(word, claim.place, token, False, begin, begin + width))
        pending.clear()

    after = [index for _, _, index in claim.match.words[1:]] + [-1]
    for (word, token, index), extra, following in zip(claim.match.words, claim.match.extras(), after, strict=True):
        if index < 0:
            pending.append((word, token))
            continue
        one = heard[index]
        spread(one.start)
        more = one.more and following == index + 1  # else unheard words of the sentence may be what was said
        words.append(Word(word, claim.place, token, True, one.start, one.end, extra=extra + more))
        clock = one.end
    spread(limit)
    return words


def fit_words(aligner: Aligner, samples: Pcm, words: Sequence[Word]) -> list[Word]:
    """The words with the times of the second pass, where the aligner could fit them.

    Stretches without a word of a sentence are passed over. One that cannot be fitted is tried sentence by sentence.
    """
    total = len(samples) / RATE
    placed: list[Word] = []
    for first, last in stretches(words):
        part = words[first:last]
        if all(word.sentence < 0 for word in part):
            placed += part
            continue
        before = words[first - 1].end if first else 0.0
        after = words[last].start if last < len(words) else total
        fitted = _fit(aligner, samples, part, before, after)
        if fitted is None:
            fitted = []
            for inner in _by_sentence(part):
                low = fitted[-1].end if fitted else before
                tried = _fit(aligner, samples, inner, min(low, inner[0].start), max(inner[-1].end, inner[0].start))
                fitted += tried or inner
        placed += fitted
    return _believed(words, placed)


def _believed(first: Sequence[Word], second: Sequence[Word]) -> list[Word]:
    """The second pass's times, but the first's for a sentence whose heard words it moved far: it went astray there."""
    astray = {
        before.sentence
        for before, after in zip(first, second, strict=True)
        if before.agrees and before.sentence >= 0 and abs(before.start - after.start) > _ASTRAY
        and abs(before.end - after.end) > _ASTRAY
    }  # fmt: skip
    return [
        before if before.sentence in astray else after for before, after in zip(first, second, strict=True)
    ]  # fmt: skip


def stretches(words: Sequence[Word]) -> Iterator[tuple[int, int]]:
    """Cut the words at pauses between words that were heard, never inside a sentence: (first, last without)."""
    first = 0
    for place in range(1, len(words)):
        before, word = words[place - 1], words[place]
        if word.sentence >= 0 and word.sentence == before.sentence:
            continue
        seconds, pause = before.end - words[first].start, word.start - before.end
        sure = before.agrees and word.agrees
        if (seconds >= _ENOUGH and sure and pause >= _PAUSE) or seconds >= _MOST or pause >= 2 * _MARGIN:
            yield first, place
            first = place
    if words:
        yield first, len(words)


def _fit(aligner: Aligner, samples: Pcm, part: Sequence[Word], before: float, after: float) -> list[Word] | None:
    """Fit a stretch into the sound from the middle of the pause before it to the middle of the one after it."""
    low = max((before + part[0].start) / 2, part[0].start - _MARGIN, 0.0)
    high = min((after + part[-1].end) / 2, part[-1].end + _MARGIN, len(samples) / RATE)
    if high - low > LONGEST:  # a hold of minutes in the middle of a sentence
        return None
    offset = round(low * RATE)
    found = aligner.fit(samples[offset : round(high * RATE)], [word.word for word in part])
    if found is None:
        return None
    shift = offset / RATE
    return [
        replace(word, start=place.start + shift, end=place.end + shift) for word, place in zip(part, found, strict=True)
    ]


def _by_sentence(part: Sequence[Word]) -> Iterator[list[Word]]:
    group: list[Word] = []
    for word in part:
        if group and (word.sentence != group[-1].sentence or word.sentence < 0):
            yield group
            group = []
        group.append(word)
    if group:
        yield group
