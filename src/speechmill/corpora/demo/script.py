"""The text of the calls: who says what. Pure and deterministic; no sentence is said twice in the corpus."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from speechmill.corpora.demo import phrases
from speechmill.corpora.demo.reading import read_sentence
from speechmill.corpora.demo.vocabulary import BANKS, COMPANY_HEAD, COMPANY_TAIL, FIRST, LAST, LISTS
from speechmill.corpora.demo.voices import Voice, assign_voices

INSTRUCTIONS = "Operator Instructions"
PRESENTATION, QUESTIONS = "presentation", "q-and-a"
_NATIVE_SHARE = 0.6
_ANALYSTS = 4  # per company; three or so of them ask in a call
_WORDS_PER_SECOND = 2.4  # measured: spoken words over a recording's length, pauses included
_MOST_WORDS = 25
_TIMES_OF_DAY = ("morning", "afternoon", "evening", "day")
_SLOT = re.compile(r"\{(\w+)\}")
_ARTICLE = re.compile(r"\ba (?=[aeiou])(?!one|uni|eu|us)")
_TIME = re.compile(r"when|year|quarter|period|nth")


@dataclass(frozen=True)
class Person:
    """One speaker: a name in the text, a voice in the audio, an id in the transcript."""

    id: str
    first: str
    last: str
    voice: Voice

    @property
    def name(self) -> str:
        return f"{self.first} {self.last}"


@dataclass(frozen=True)
class Company:
    name: str
    native: bool
    country: str
    operator: Person
    boss: Person
    finance: Person
    analysts: tuple[tuple[Person, str], ...]  # with their bank


@dataclass(frozen=True)
class Sentence:
    """One row of the transcript. `spoken` differs from `text` only in "Operator Instructions" rows."""

    speaker: Person
    session: str
    text: str
    spoken: str


@dataclass(frozen=True)
class Call:
    event: str
    company: Company
    sentences: tuple[Sentence, ...]


@dataclass
class _Writer:
    """Fills slots for one call and refuses a sentence that was said before, in any call."""

    random: Random
    said: set[str]
    names: dict[str, str]
    sentences: list[Sentence] = field(default_factory=list)
    words: int = 0
    session: str = PRESENTATION

    def say(self, speaker: Person, clauses: list[str], *, statement: bool = False, filler: float = 0.0) -> None:
        """Add one new sentence made of one of `clauses`."""
        for _ in range(400):
            text = self._compose(clauses, statement, filler)
            key = normalized(text)
            if 2 <= len(key.split()) <= _MOST_WORDS and key not in self.said:
                self._add(speaker, text, text, key)
                return
        raise RuntimeError(f"no new sentence found among {clauses[0]!r}, ...: add patterns")

    def instructions(self, speaker: Person) -> None:
        """The row that says "Operator Instructions" while something else is heard."""
        spoken = self._finish(self._fill(self.random.choice(phrases.OPERATOR_INSTRUCTIONS)))
        self._add(speaker, INSTRUCTIONS, spoken, "")

    def _add(self, speaker: Person, text: str, spoken: str, key: str) -> None:
        self.said.add(key)
        self.words += sum(len(token.spoken) for token in read_sentence(spoken))
        self.sentences.append(Sentence(speaker, self.session, text, spoken))

    def _compose(self, clauses: list[str], statement: bool, filler: float) -> str:
        pattern = self.random.choice(clauses)
        if statement:
            pattern = self._statement(pattern, clauses)
        text = self._fill(pattern)
        if self.random.random() < filler:
            text = self._hesitate(text)
        return self._finish(text)

    def _statement(self, clause: str, clauses: list[str]) -> str:
        """The pattern of a clause with an opening and a tail, or of two clauses."""
        random = self.random
        opening = random.choice(phrases.OPENINGS) if random.random() < 0.6 else ""
        if len(clause.split()) < 9 and random.random() < 0.2:
            return opening + clause + random.choice([", and ", ", but ", ", while ", ", so "]) + random.choice(clauses)
        tail = random.choice(phrases.TAILS) if len(clause.split()) < 12 else ""
        if _TIME.search(clause) and _TIME.search(tail):
            tail = ""
        return opening + clause + tail

    def _fill(self, pattern: str) -> str:
        while _SLOT.search(pattern):
            pattern = _SLOT.sub(lambda match: self._slot(match.group(1)), pattern)
        return pattern

    def _slot(self, name: str) -> str:
        if name in self.names:
            return self.names[name]
        if name in LISTS:
            return frequent(self.random, LISTS[name])
        return _FIGURES[name](self.random) if name in _FIGURES else self._other(name)

    def _other(self, name: str) -> str:
        if name == "first":
            return frequent(self.random, FIRST)
        if name == "last":
            return frequent(self.random, LAST)
        if name == "other":
            return company_name(self.random)
        if name == "day":
            return frequent(self.random, _TIMES_OF_DAY)
        raise KeyError(f"unknown slot {{{name}}}")

    def _hesitate(self, text: str) -> str:
        """Put a filler at the front or between two words of the first half, but never into a figure."""
        words = text.split()
        place = self.random.randrange(0, max(1, len(words) // 2))
        if place == 0 or any(word[0] in "$0123456789" for word in words[place - 1 : place + 1]):
            return f"{self.random.choice(phrases.FILLERS)}, {text}"
        before = words[place - 1] if words[place - 1][-1] in "," else words[place - 1] + ","
        return " ".join([*words[: place - 1], before, self.random.choice(phrases.FILLERS) + ",", *words[place:]])

    @staticmethod
    def _finish(text: str) -> str:
        text = _ARTICLE.sub("an ", text)
        return text[0].upper() + text[1:] + ("" if text[-1] in "?!." else ".")


def normalized(text: str) -> str:
    """Upper-cased, punctuation stripped: the form in which no sentence occurs twice."""
    return " ".join(re.sub(r"[^\w\s]", "", text.upper()).split())


def frequent(random: Random, items: list[str] | tuple[str, ...]) -> str:
    """Draw with falling frequency, item `rank` with weight 1 / (rank + 3)^0.8 (words follow Zipf's law roughly)."""
    weights = [(rank + 3) ** -0.8 for rank in range(len(items))]
    return random.choices(items, weights)[0]


def company_name(random: Random) -> str:
    return f"{frequent(random, COMPANY_HEAD)} {frequent(random, COMPANY_TAIL)}"


def _percent(random: Random) -> str:
    if random.random() < 0.4:
        return f"{random.randint(1, 24)}.{random.randint(1, 9)}%"
    return f"{random.randint(1, 40) if random.random() < 0.8 else random.randint(41, 99)}%"


def _money(random: Random) -> str:
    kind = random.random()
    if kind < 0.4:
        return f"${random.randint(1, 19)}.{random.randint(1, 9)} billion"
    if kind < 0.5:
        return f"${random.randint(1, 20)} billion"
    return f"${random.randint(2, 99)} million" if kind < 0.75 else f"${random.randint(11, 95) * 10} million"


def _price(random: Random) -> str:
    dollars = random.choices([0, 1, 2, 3, 4, 5, 6, 7, 8], [4, 4, 3, 2, 1, 1, 1, 1, 1])[0]
    return f"${dollars}.{random.randint(5, 99):02d}" if random.random() < 0.85 else f"${random.randint(10, 90)}"


def _count(random: Random) -> str:
    kind = random.random()
    if kind < 0.4:
        return f"{random.randint(1, 60)},000"
    return f"{random.randint(1, 30)},{random.randint(1, 9)}00" if kind < 0.7 else str(random.randint(11, 99) * 10)


_FIGURES: dict[str, Callable[[Random], str]] = {
    "pct": _percent,
    "money": _money,
    "price": _price,
    "count": _count,
    "bps": lambda random: str(random.randint(2, 39) * 10),
    "quarter": lambda random: f"Q{random.randint(1, 4)}",
    "year": lambda random: str(random.randint(2015, 2026)),
}


def write_calls(calls: int, hours: float, seed: int) -> list[Call]:
    """All calls of the corpus, about `hours` long together."""
    random = Random(f"demo corpus {seed}")  # noqa: S311  (reproducible text, no secrets)
    counts = _calls_per_company(random, calls)
    natives = _native_companies(random, counts)
    companies = _companies(random, natives)
    events = random.sample(range(1_000_000, 10_000_000), calls)
    slots = [company for company, count in zip(companies, counts, strict=True) for _ in range(count)]
    random.shuffle(slots)
    said: set[str] = set()
    words = hours * 3600 * _WORDS_PER_SECOND / calls
    return [
        _write_call(Random(f"{seed} {event}"), str(event), company, said, words)  # noqa: S311
        for event, company in zip(events, slots, strict=True)
    ]


def _calls_per_company(random: Random, calls: int) -> list[int]:
    counts: list[int] = []
    while sum(counts) < calls:
        counts.append(min(random.choice([1, 2]), calls - sum(counts)))
    return counts


def _native_companies(random: Random, counts: list[int]) -> list[bool]:
    """Which companies are native, so that about 60 % of the calls are (and both kinds exist)."""
    order = list(range(len(counts)))
    random.shuffle(order)
    natives, wanted, taken = [False] * len(counts), round(_NATIVE_SHARE * sum(counts)), 0
    for place in order:
        if taken + counts[place] <= wanted:
            natives[place] = True
            taken += counts[place]
    return natives


def _companies(random: Random, natives: list[bool]) -> list[Company]:
    names: list[str] = []
    while len(names) < len(natives):
        name = company_name(random)
        if name not in names:
            names.append(name)
    teams = assign_voices(random, natives, 3 + _ANALYSTS)
    ids = iter(random.sample(range(100_000, 1_000_000), len(natives) * (3 + _ANALYSTS)))
    return [
        _company(random, name, native, voices, [str(next(ids)) for _ in voices])
        for name, native, voices in zip(names, natives, teams, strict=True)
    ]


def _company(random: Random, name: str, native: bool, voices: list[Voice], ids: list[str]) -> Company:
    people: list[Person] = []
    for voice, id_ in zip(voices, ids, strict=True):
        first = frequent(random, FIRST)
        while first in {person.first for person in people}:
            first = frequent(random, FIRST)
        people.append(Person(id_, first, frequent(random, LAST), voice))
    operator, boss, finance, *analysts = people
    banks = random.sample(BANKS, len(analysts))
    return Company(name, native, boss.voice.country, operator, boss, finance, tuple(zip(analysts, banks, strict=True)))


def _write_call(random: Random, event: str, company: Company, said: set[str], words: float) -> Call:
    names = {
        "company": company.name,
        "operator": company.operator.first,
        "boss": company.boss.first,
        "boss_name": company.boss.name,
        "cfo": company.finance.first,
        "cfo_name": company.finance.name,
    }
    writer = _Writer(random, said, names)
    _presentation(writer, company, words * random.uniform(0.5, 0.6))
    writer.session = QUESTIONS
    _questions(writer, company, words)
    writer.say(company.boss, phrases.CLOSING)
    writer.say(company.operator, phrases.OPERATOR_CLOSE)
    return Call(event, company, tuple(writer.sentences))


def _presentation(writer: _Writer, company: Company, words: float) -> None:
    writer.say(company.operator, phrases.OPERATOR_OPEN)
    writer.say(company.operator, phrases.OPERATOR_TURN)
    writer.names["me"] = company.boss.name
    writer.say(company.boss, phrases.GREETINGS)
    while writer.words < words * 0.55:
        writer.say(company.boss, phrases.BUSINESS, statement=True, filler=0.06)
    writer.say(company.boss, phrases.HANDOVER)
    writer.say(company.finance, phrases.CFO_OPEN)
    while writer.words < words:
        clauses = phrases.FINANCE if writer.random.random() < 0.85 else phrases.BUSINESS
        writer.say(company.finance, clauses, statement=True, filler=0.05)


def _questions(writer: _Writer, company: Company, words: float) -> None:
    writer.instructions(company.operator)
    askers = writer.random.sample(company.analysts, len(company.analysts))
    turn = 0
    while writer.words < words:
        _exchange(writer, company, *askers[turn % len(askers)])
        turn += 1


def _exchange(writer: _Writer, company: Company, asker: Person, bank: str) -> None:
    """One analyst asks, an officer answers, the analyst says thanks."""
    random = writer.random
    officers = [company.boss, company.finance]
    answerer, other = officers if random.random() < 0.6 else officers[::-1]
    writer.names |= {"asker": asker.first, "asker_name": asker.name, "bank": bank}
    writer.names |= {"answerer": answerer.first, "answerer_name": answerer.name, "other_officer": other.first}
    writer.say(company.operator, phrases.OPERATOR_NEXT)
    writer.say(asker, phrases.ASK_OPEN, filler=0.2)
    for _ in range(random.randint(1, 3)):
        writer.say(asker, phrases.QUESTIONS, filler=0.25)
    writer.say(answerer, phrases.ANSWER_OPEN, filler=0.15)
    for _ in range(random.randint(2, 5)):
        clauses = random.choices([phrases.ANSWERS, phrases.BUSINESS, phrases.FINANCE], [5, 3, 1])[0]
        writer.say(answerer, clauses, statement=clauses is not phrases.ANSWERS, filler=0.2)
    if random.random() < 0.6:
        writer.say(asker, phrases.FOLLOW_UP, filler=0.1)
