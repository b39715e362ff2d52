"""From the steps that are left, one alignment: the rule of `score.align`, walked backwards."""

from __future__ import annotations

from collections.abc import Sequence

from speechmill.score.choice import Choice, Span
from speechmill.score.columns import Steps
from speechmill.score.edit import Edit, Operation
from speechmill.score.sweeping import Merge, Run


class Tracing:
    """Walks backwards from the end of both texts, collecting edits."""

    def __init__(self, hypothesis: Sequence[str]) -> None:
        self.hypothesis = hypothesis
        self.place = len(hypothesis)
        self.edits: list[Edit] = []
        self.spans: list[tuple[Choice, int, int]] = []

    def back(self, part: Run | Merge) -> None:
        low = part.end.window.low
        if isinstance(part, Run):
            self._words(part.words, part.table, low)
            return
        way, operation = self._last_step(part, low)
        while way is None:
            self._take("I", None)
            way, operation = self._last_step(part, low)
        first, words = len(self.edits), part.fork.ways[way]
        if words:
            self._take(operation, words[-1])
            self._words(words[:-1], part.tables[way][:-1], low)
        self.spans.append((part.fork.choice, first, len(self.edits)))

    def ended(self) -> tuple[list[Edit], list[Span]]:
        while self.place:
            self._take("I", None)
        total = len(self.edits)
        spans = [Span(choice, total - last, total - first) for choice, first, last in reversed(self.spans)]
        return self.edits[::-1], spans

    def _last_step(self, part: Merge, low: int) -> tuple[int | None, Operation]:
        """Return the way that the end of a choice is left by, backwards, and the step; no way where one inserts."""
        ways, tables, row = part.fork.ways, part.tables, self.place - low
        best = [way for way, rows in enumerate(part.best) if rows >> row & 1]
        if self.place:
            heard = self.hypothesis[self.place - 1]
            for way in best:
                if ways[way] and ways[way][-1] == heard and tables[way][-1][2] >> (row - 1) & 1:
                    return way, "="
        for way in best:
            if not ways[way]:
                return way, "="
        for way in best:
            if not row or tables[way][-1][1] >> (row - 1) & 1:
                return way, "D"
        if part.inserted >> (row - 1) & 1:
            return None, "I"
        return best[0], "S"

    def _words(self, words: Sequence[str], table: Sequence[Steps], low: int) -> None:
        hypothesis, place, edits = self.hypothesis, self.place, self.edits
        for word, (inserted, deleted, paired) in zip(reversed(words), reversed(table), strict=True):
            while True:
                heard, bit = hypothesis[place - 1] if place else None, place - low - 1
                if word == heard and paired >> bit & 1:
                    place -= 1
                    edits.append(Edit("=", word, heard))
                    break
                if heard is None or deleted >> bit & 1:
                    edits.append(Edit("D", word, None))
                    break
                place -= 1
                if inserted >> bit & 1:
                    edits.append(Edit("I", None, heard))
                    continue
                edits.append(Edit("S", word, heard))
                break
        self.place = place

    def _take(self, operation: Operation, word: str | None) -> None:
        heard = None
        if operation != "D":
            self.place -= 1
            heard = self.hypothesis[self.place]
        self.edits.append(Edit(operation, word, heard))
