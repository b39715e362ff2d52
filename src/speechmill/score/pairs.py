"""References and hypotheses, brought together: file with file by name, item with item by id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from speechmill.errors import SpeechmillError
from speechmill.score.formats import ctm, nlp, reading
from speechmill.score.formats.item import Item, Transcript, plain_item
from speechmill.score.formats.lines import look_like_ids, names_something
from speechmill.score.formats.reading import (
    CTM,
    IDS,
    JSONL,
    LINES,
    NLP,
    RECORDING,
    TEXT,
    UNNAMED,
    Source,
    open_source,
    parse,
)

_FEW, _NEARLY_ALL = 3, 0.75  # lines from which on, share of them from which on, first words tell what they are
_NAMED = 10
"""So many names are told of those that have no partner."""


@dataclass
class Pairing:
    """What is read, and what was found out on the way.

    `reference` and `hypothesis` are files or folders; `reference_format` and `hypothesis_format` overrule guesses;
    `alternatives` is a folder of `NAME.norm.json` (or the one file) for references in Rev's format; `columns` are those
    that groups are made by. `formats`, `notes` and `without_reference` are whole when all pairs were taken.
    """

    reference: Path
    hypothesis: Path
    alternatives: Path | None = None
    columns: Collection[str] = ()
    reference_format: str | None = None
    hypothesis_format: str | None = None
    formats: tuple[Counter[str], Counter[str]] = field(default_factory=lambda: (Counter(), Counter()))
    notes: list[str] = field(default_factory=list)
    without_reference: list[str] = field(default_factory=list)
    candidates_read: int = 0

    def pairs(self) -> Iterator[tuple[Item, Item]]:
        """Yield each reference with its hypothesis, in the references' order (files by name).

        Raises:
            SpeechmillError: a reference has no hypothesis; a file cannot be read.
        """
        for path in (self.reference, self.hypothesis):
            if not path.exists():
                raise SpeechmillError(f"{path}: no such file or folder.")
        folders = self.reference.is_dir(), self.hypothesis.is_dir()
        if all(folders):
            yield from self._folders()
        elif any(folders):
            yield from self._folder_and_file()
        else:
            reference = open_source(self.reference, self.reference_format)
            yield from self._files(reference, open_source(self.hypothesis, self.hypothesis_format), folder=False)
        if self.alternatives is not None and not self.candidates_read:
            raise SpeechmillError(
                f"{self.alternatives}: no NAME.norm.json for any reference; they are for references in Rev's .nlp, "
                f"whose tags they explain."
            )

    def _folders(self) -> Iterator[tuple[Item, Item]]:
        references, hypotheses = self._names(self.reference), self._names(self.hypothesis)
        self._check(references, hypotheses, self.reference, self.hypothesis)
        for name, path in references.items():
            reference = open_source(path, self.reference_format, name)
            hypothesis = open_source(hypotheses[name], self.hypothesis_format, name)
            for one, other in self._files(reference, hypothesis, folder=True):
                identifier = one.id if one.id.startswith(name) else f"{name}/{one.id}"
                yield replace(one, id=identifier, recording=one.recording or name), other

    def _folder_and_file(self) -> Iterator[tuple[Item, Item]]:
        """One file has the utterances, or recordings, of all files of the other side's folder."""
        sides: list[dict[str, Item]] = []
        nlp_ids: list[set[str]] = []
        for path, form, hypothesis in (
            (self.reference, self.reference_format, False),
            (self.hypothesis, self.hypothesis_format, True),
        ):
            files = self._names(path) if path.is_dir() else {reading.name_of(path): path}
            items: list[Item] = []
            tokens: set[str] = set()
            for name, file in files.items():
                source = open_source(file, form, name)
                if source.format == TEXT:
                    folder_name = Path(name).name if path.is_dir() else None
                    ids = look_like_ids(source.lines, folder_name)
                    source = replace(source, format=IDS if ids else RECORDING)
                parsed = self._parsed(source, hypothesis).items
                if hypothesis and path.is_dir() and not parsed and source.format in (CTM, JSONL):
                    parsed = (plain_item(name, ""),)
                items += parsed
                tokens.update(item.id for item in parsed if source.format == NLP)
            nlp_ids.append(tokens)
            sides.append(_by_id(items, path))
        references, hypotheses = sides
        self._check(references, hypotheses, self.reference, self.hypothesis)
        as_tokens = nlp_ids[0] - nlp_ids[1]
        for identifier, item in references.items():
            heard = hypotheses[identifier]
            yield item, nlp.as_tokens(heard) if identifier in as_tokens else heard

    def _files(self, reference: Source, hypothesis: Source, folder: bool) -> Iterator[tuple[Item, Item]]:
        hypothesis = replace(hypothesis, both=reference.path.samefile(hypothesis.path))
        reference, hypothesis = _told(reference, hypothesis, folder)
        references, hypotheses = self._parsed(reference, False).items, self._parsed(hypothesis, True).items
        if not hypotheses and len(references) == 1:  # nothing recognised: these formats have no line for that
            hypotheses = (plain_item(references[0].id, ""),)
        if reference.format == NLP != hypothesis.format:
            hypotheses = tuple(map(nlp.as_tokens, hypotheses))
        unnamed = reference.format in UNNAMED or hypothesis.format in UNNAMED
        if unnamed and len(references) == len(hypotheses) == 1:
            name = references[0] if reference.format in UNNAMED else hypotheses[0]
            yield replace(references[0], id=name.id), hypotheses[0]
            return
        found = {item.id: item for item in hypotheses}
        advice = ""
        if reference.format == hypothesis.format == IDS and not (self.reference_format or self.hypothesis_format):
            advice = f" If lines do not start with ids, give --ref-format {LINES} --hyp-format {LINES}."
        self._check({item.id: item for item in references}, found, reference.path, hypothesis.path, advice)
        yield from ((item, found[item.id]) for item in references)

    def _parsed(self, source: Source, hypothesis: bool) -> Transcript:
        candidates = None if hypothesis or source.format != NLP else self._candidates(source.name)
        transcript = parse(source, hypothesis=hypothesis, columns=self.columns, candidates=candidates)
        self.formats[hypothesis][source.format] += 1
        self.notes += transcript.notes
        return transcript

    def _candidates(self, name: str) -> nlp.Candidates | None:
        if self.alternatives is None:
            return None
        path = self.alternatives
        if not path.is_file():
            path = path / f"{Path(name).name}.norm.json"
        if not path.is_file():
            if not self.alternatives.exists():
                raise SpeechmillError(f"{self.alternatives}: no such folder of alternatives.")
            self.notes.append(f"{path}: not there; {name} is scored by its words as written alone.")
            return None
        self.candidates_read += 1
        candidates, notes = nlp.read_candidates(path)
        self.notes += notes
        return candidates

    def _names(self, folder: Path) -> dict[str, Path]:
        """Return the transcripts of a folder and those below it by name.

        Of two with one name, the one whose ending more files of the folder have stands, and the other is told.
        """
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not _hidden(path, folder)]
        paths = [path for path in files if reading.is_transcript(path)]
        if any(path.suffix not in reading.WEAK_ENDINGS for path in paths):
            paths = [path for path in paths if path.suffix not in reading.WEAK_ENDINGS]
        if not paths:
            raise SpeechmillError(f"{folder}: has no transcripts; {', '.join(reading.ENDINGS)} are read.")
        endings = Counter(path.suffix for path in paths)
        found: dict[str, Path] = {}
        for path in sorted(paths, key=lambda path: (-endings[path.suffix], path)):
            name = str(path.relative_to(folder).parent / reading.name_of(path))
            if name in found:
                self.notes.append(f"{path}: left out, {found[name].name} has the same name.")
            found.setdefault(name, path)
        if len(paths) < len(files):
            others = sorted({path.suffix or path.name for path in files} - {path.suffix or path.name for path in paths})
            self.notes.append(f"{folder}: {len(files) - len(paths)} files are no transcripts ({', '.join(others)}).")
        return dict(sorted(found.items()))

    def _check(
        self, references: Mapping[str, object], hypotheses: Mapping[str, object], left: Path, right: Path,
        advice: str = "",
    ) -> None:  # fmt: skip
        missing = [name for name in references if name not in hypotheses]
        self.without_reference += [name for name in hypotheses if name not in references]
        if missing:
            raise SpeechmillError(
                f"{right}: {len(missing)} of {len(references)} references of {left} have no hypothesis: "
                f"{some(missing)}; where nothing was recognised, give an empty one (in a CTM, "
                f"the word {ctm.NO_WORD[0]})."
                + (f" Without a reference: {some(self.without_reference)}." if self.without_reference else "")
                + advice
            )


def _told(reference: Source, hypothesis: Source, folder: bool) -> tuple[Source, Source]:
    """Decide what plain text is, by what the other side is."""
    if reference.format != TEXT and hypothesis.format != TEXT:
        return reference, hypothesis
    if reference.format != TEXT:
        return reference, replace(hypothesis, format=_text_beside(reference, hypothesis, False, folder))
    if hypothesis.format != TEXT:
        return replace(reference, format=_text_beside(hypothesis, reference, True, folder)), hypothesis
    if _both_have_ids(reference, hypothesis, folder) or _nearly_all_have_ids(reference, hypothesis):
        return replace(reference, format=IDS), replace(hypothesis, format=IDS)
    if not folder:
        _refuse_ids_of_one_side(reference, hypothesis)
    one, other = _without_blank_ends(reference.lines, hypothesis.lines)
    if folder or len(one) <= 1 or len(other) <= 1:
        return replace(reference, format=RECORDING), replace(hypothesis, format=RECORDING)
    if len(one) != len(other):
        raise SpeechmillError(
            f"{hypothesis.path}: {len(other)} lines against {len(one)} of {reference.path}; utterances need a line "
            f"each. If each file is one recording, give --ref-format recording --hyp-format recording; if lines start "
            f"with ids, id."
        )
    return replace(reference, format=LINES, lines=one), replace(hypothesis, format=LINES, lines=other)


def _text_beside(told: Source, text: Source, hypothesis: bool, folder: bool) -> str:
    """Return what plain text is beside a file whose format is known (a `hypothesis`, or a reference)."""
    if told.format in (LINES, IDS):
        return told.format
    if told.format in UNNAMED:
        return RECORDING
    ids = {item.id for item in parse(told, hypothesis=hypothesis).items}
    if not ids:
        return IDS if look_like_ids(text.lines, Path(text.name).name if folder else None) else RECORDING
    if any(line.split(None, 1)[0] in ids for line in text.lines if line.strip()):
        return IDS
    if len(ids) == 1:
        return RECORDING
    if ids == {str(number) for number in range(1, len(text.lines) + 1)}:
        return LINES
    if not look_like_ids(text.lines):
        raise SpeechmillError(
            f"{text.path}: its lines do not start with the ids of {told.path} ({some(sorted(ids)[:3])}, ...); "
            f"begin each line with its id."
        )
    return IDS


def _both_have_ids(reference: Source, hypothesis: Source, folder: bool) -> bool:
    name = Path(reference.name).name if folder else None
    sides = [[line for line in side.lines if line.strip()] for side in (reference, hypothesis)]
    sides = [lines for lines in sides if lines]
    if len(sides) == 1 and len(sides[0]) == 1:
        return False  # against an empty file, one line does not tell an id from a word
    if len(sides) == 2 and min(map(len, sides)) == 1 < max(map(len, sides)):
        one, several = sorted(sides, key=len)
        return look_like_ids(several, name) and one[0].split()[0] in {line.split()[0] for line in several}
    return bool(sides) and (all(look_like_ids(lines, name) for lines in sides) or _in_another_order(*sides))


def _nearly_all_have_ids(reference: Source, hypothesis: Source) -> bool:
    """Tell whether an id that is there twice, or a line without one, is all that keeps lines from having ids.

    They are read as ids then, so that this is told: as words, ids that agree would count as right.
    """
    sides = [[line.split(None, 1)[0] for line in side.lines if line.strip()] for side in (reference, hypothesis)]
    if min(map(len, sides)) < _FEW:
        return False
    alike = all(sum(map(names_something, words)) >= _NEARLY_ALL * len(words) for words in sides)
    return alike and len({*sides[0]} & {*sides[1]}) >= _NEARLY_ALL * len({*sides[0]})


def _refuse_ids_of_one_side(reference: Source, hypothesis: Source) -> None:
    for one, other in ((reference, hypothesis), (hypothesis, reference)):
        lines, others = ([line for line in side.lines if line.strip()] for side in (one, other))
        if len(lines) < 2 or len(lines) != len(others) or not look_like_ids(lines):
            continue
        said = {word.lower() for line in others for word in line.split()}
        if not any(line.split(None, 1)[0].lower() in said for line in lines):
            raise SpeechmillError(
                f"{one.path}: its lines start with ids, it seems ({lines[0].split()[0]}, ...), those of {other.path} "
                f"do not; give both sides ids, or, if these are words, --ref-format {LINES} --hyp-format {LINES}."
            )


def _in_another_order(*sides: Sequence[str]) -> bool:
    """Tell whether both sides begin their lines with the same words, all different, in another order: names."""
    if len(sides) != 2:
        return False
    one, other = ([line.split(None, 1)[0] for line in lines] for lines in sides)
    return one != other and len(set(one)) == len(one) == len(other) and set(one) == set(other)


def _without_blank_ends(reference: Sequence[str], hypothesis: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Drop the blank lines at the end that both sides can do without: an empty last utterance is one."""
    needed = max(_last_text(reference), _last_text(hypothesis))
    return reference[:needed], hypothesis[:needed]


def _last_text(lines: Sequence[str]) -> int:
    return max((number for number, line in enumerate(lines, start=1) if line.strip()), default=0)


def _by_id(items: Sequence[Item], path: Path) -> dict[str, Item]:
    found: dict[str, Item] = {}
    for item in items:
        if item.id in found:
            raise SpeechmillError(f"{path}: the id {item.id!r} is there twice; each utterance needs an id of its own.")
        found[item.id] = item
    return found


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def some(names: Sequence[str]) -> str:
    """Name the first ten, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
