"""The same call in sentences, in slices, whole, with and without punctuation; and calls that are not the same."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import polars as pl
import pytest

from speechmill.manifest import SCHEMA, write_manifest
from speechmill.nlp import NlpToken, read_nlp
from speechmill.overlap import Overlap, overlap

EVAL10 = Path("../shared/data/earnings21_eval10")
CALL = "4320211"
pytestmark = pytest.mark.skipif(not EVAL10.is_dir(), reason=f"{EVAL10} is not there")


def sentences(tokens: list[NlpToken]) -> list[str]:
    found, part = [], []
    for token in tokens:
        part.append(token.written)
        if token.punctuation[-1:] in (".", "?", "!"):
            found.append(" ".join(part))
            part = []
    return found


def slices(tokens: list[NlpToken]) -> list[str]:
    """Of 12 to 35 words, as SPGISpeech has them."""
    rng, found, start = random.Random(0), [], 0
    while start < len(tokens):
        count = rng.randint(12, 35)
        found.append(" ".join(token.written for token in tokens[start : start + count]))
        start += count
    return found


def whole(tokens: list[NlpToken]) -> list[str]:
    return [" ".join(token.written for token in tokens)]


def plain(tokens: list[NlpToken]) -> list[str]:
    return [" ".join(token.token.lower() for token in tokens)]


CUTS = {"sentences": sentences, "slices": slices, "whole": whole, "plain": plain}


@pytest.fixture(scope="module")
def calls() -> dict[str, list[NlpToken]]:
    return {path.stem: read_nlp(path).tokens for path in sorted((EVAL10 / "references").glob("*.nlp"))}


def said(folder: Path, one: dict[str, list[str]], other: dict[str, list[str]]) -> Overlap:
    paths = []
    for name, texts in (("a", one), ("b", other)):
        rows = [
            (f"{name}_{call}_{number}", f"{call}.wav", float(number), number + 1.0, text, "", call, "", None, "")
            for call, parts in texts.items()
            for number, text in enumerate(parts)
        ]
        write_manifest(pl.DataFrame(rows, schema=SCHEMA, orient="row"), folder / f"{name}.parquet")
        paths.append(str(folder / f"{name}.parquet"))
    return overlap(*paths, ("text",))


@pytest.mark.parametrize(
    ("one", "other"),
    [("sentences", "slices"), ("plain", "sentences"), ("plain", "whole"), ("whole", "slices"), ("plain", "slices")],
)
def test_the_same_call_is_found_however_it_is_cut(
    calls: dict[str, list[NlpToken]], tmp_path: Path, one: str, other: str
) -> None:
    texts = {side: CUTS[side](calls[CALL]) for side in (one, other)}
    found = said(tmp_path, {CALL: texts[one]}, {CALL: texts[other]})
    (row,) = found.calls["text"].iter_rows(named=True)
    assert min(row["share_a"], row["share_b"]) > 0.95
    for side, cut in (("a", one), ("b", other)):
        enough = sum(len(text.split()) >= 11 for text in texts[cut])
        assert found.pairs["text"][side].n_unique() >= enough


@pytest.mark.parametrize(("one", "other"), [("sentences", "slices"), ("whole", "whole"), ("sentences", "sentences")])
def test_different_calls_share_nothing(calls: dict[str, list[NlpToken]], tmp_path: Path, one: str, other: str) -> None:
    """Each pair by itself: how many calls have a phrase cannot help."""
    cut = {side: {name: CUTS[side](tokens) for name, tokens in calls.items()} for side in (one, other)}
    passing = 0
    for left, right in itertools.combinations(calls, 2):
        found = said(tmp_path, {left: cut[one][left]}, {right: cut[other][right]})
        assert not found.found, found.text()
        assert found.pairs["text"].is_empty()
        passing += found.passing.height
    assert passing > 0
    assert "nothing in common was found" in found.text()


def test_among_all_calls_each_finds_itself_alone(calls: dict[str, list[NlpToken]], tmp_path: Path) -> None:
    found = said(
        tmp_path, {name: plain(tokens) for name, tokens in calls.items()},
        {name: slices(tokens) for name, tokens in calls.items()},
    )  # fmt: skip
    assert sorted(found.calls["text"].select("a", "b").iter_rows()) == [(name, name) for name in sorted(calls)]
    assert f"not counted: {found.passing.height} pairs of calls" in found.text()


def test_what_a_poor_recognizer_made_of_a_call_is_that_call(calls: dict[str, list[NlpToken]], tmp_path: Path) -> None:
    made = {
        name: plain(read_nlp(EVAL10 / "outputs/kaldi_librispeech" / f"{name}.nlp").tokens) for name in calls
    }  # fmt: skip
    found = said(tmp_path, {name: sentences(tokens) for name, tokens in calls.items()}, made)
    assert sorted(found.calls["text"].select("a", "b").iter_rows()) == [(name, name) for name in sorted(calls)]
