"""Evaluate: checkpoint + shards (or a manifest) -> hypotheses -> scores."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from speechmill.artefact import fingerprint, read_json
from speechmill.audio import decode, encode_flac
from speechmill.corpora import named_corpus, open_corpus
from speechmill.corpora.base import Limits, not_read
from speechmill.device import set_precision
from speechmill.errors import SpeechmillError
from speechmill.group import ALONE, Group, is_rank, joined
from speechmill.hypothesis import Hypothesis
from speechmill.launch import launch, run_rank
from speechmill.manifest import check_recordings, is_untimed, read_manifest
from speechmill.progress import Progress
from speechmill.recognize import Audio, Recognizing
from speechmill.score.folder import check_columns, clips, score_set, write_scores
from speechmill.settings import Recipe, SearchSettings
from speechmill.shards.foreign import open_reader
from speechmill.shards.index import Index
from speechmill.shards.mixture import open_data
from speechmill.shards.remote import is_url
from speechmill.shards.store import open_shards
from speechmill.shards.write import cut
from speechmill.tokenizer import load_tokenizer
from speechmill.train.checkpoint import find_checkpoint
from speechmill.train.language import open_language_model
from speechmill.train.prepare import TOKENIZER_NAME, choose_device
from speechmill.train.runlog import read_config
from speechmill.train.weights import open_weights, weights_name

_CHUNK_SECONDS = 1200.0  # of audio held in memory at a time


class Chunk(NamedTuple):
    """Utterances that are put into batches together: as many as fit in memory."""

    places: list[int]  # in the set
    samples: list[int]  # of each
    audio: Callable[[int], Audio]  # of the i-th of them


@dataclass(frozen=True)
class EvaluationSet:
    """Utterances with their references, and a way to their audio in pieces that fit in memory."""

    name: str
    ids: list[str]
    texts: list[str]
    attributes: dict[str, list[object]]  # the manifest's columns
    chunks: Iterator[Chunk]
    notes: list[str] = field(default_factory=list)  # what was left out of it, and why
    audio: Callable[[int], Audio] | None = None  # by place, where it is in no file of its own


@dataclass(frozen=True)
class Evaluation:
    name: str
    scores: dict[str, Any]
    written: Path


def evaluate(
    run: Path, *, on: str | None = None, split: str | None = None, checkpoint: str = "best",
    search: SearchSettings | None = None, by: Sequence[str] = (), processes: int = 1,
    average: str | None = None, cache: str = "", block: str | None = None,
) -> Evaluation:  # fmt: skip
    """Score a run on a set; writes RUN/scores/NAME.json, NAME.utterances.jsonl and the page NAME.html.

    The name is that of the split, where the set is one of the run's own shards, the search the recipe's and the
    checkpoint the best; whatever differs is added to it, so that no other scores are overwritten.

    Args:
        on: a folder of shards, a manifest, or KIND:DIR (what `import` reads); None takes the run's own shards.
        split: of the set; None takes all its rows (but "test" of the run's own shards).
        search: None takes the recipe's.
        by: columns of the manifest to group by, beside `native` and `session`.
        average: last-K or best-K: the mean of the weights of so many checkpoints, instead of one of them.
        processes: that recognize, each its share of the batches; ranks of torchrun's are taken as they are.
        block: a column whose values intervals are drawn over; None takes calls, else speakers, else recordings.
        cache: a folder of a local disk through which shards are read, instead of the recipe's.
    """
    recipe = read_config(run)
    checkpoint = average or checkpoint
    if processes > 1 and not is_rank():
        return _launched(run, on, split, checkpoint, search, by, processes, cache, block)
    with joined(recipe.train.timeout) as group:
        return _evaluate(run, recipe, on, split, checkpoint, search, by, group, cache, block)


def _launched(
    run: Path, on: str | None, split: str | None, checkpoint: str, search: SearchSettings | None, by: Sequence[str],
    processes: int, cache: str, block: str | None,
) -> Evaluation:  # fmt: skip
    what = {"run": str(run), "on": on, "split": split, "checkpoint": checkpoint, "by": list(by), "cache": cache,
            "block": block}  # fmt: skip
    asked = search.model_dump(mode="json") if search else None
    word = launch("speechmill.evaluate", [json.dumps({**what, "search": asked})], processes, restarts=0)
    return Evaluation(word["name"], read_json(Path(word["written"])), Path(word["written"]))


def _rank(what: dict[str, Any]) -> dict[str, Any]:
    search = SearchSettings(**what.pop("search")) if what["search"] else what.pop("search")
    done = evaluate(Path(what.pop("run")), search=search, **what)
    return {"name": done.name, "written": str(done.written)}


def _evaluate(
    run: Path, recipe: Recipe, on: str | None, split: str | None, checkpoint: str, search: SearchSettings | None,
    by: Sequence[str], group: Group, cache: str, block: str | None,
) -> Evaluation:  # fmt: skip
    recognizing = open_recognizer(run, recipe, checkpoint, search, group)
    data = open_set(on, split, recipe, cache)
    check_columns(data.attributes, by, block)  # before the set is heard, not behind it
    rate = recipe.features.sample_rate
    found: dict[int, Hypothesis] = {}
    with Progress(f"evaluate {data.name}", len(data.ids), "utterances") as progress:
        for number, chunk in enumerate(data.chunks):
            own = recognizing.own(chunk.audio, chunk.samples, group, progress, first=number) or {}
            found |= {chunk.places[place]: hypothesis for place, hypothesis in own.items()}
        for part in group.gather(found):
            found |= part
    step = weights_name(run, checkpoint)
    name = data.name
    if recognizing.search != recipe.search:
        name += f"-{recognizing.search.kind}-{_short(recognizing.search.model_dump(mode='json'))}"
    if step != find_checkpoint(run, "best").name:
        name += f"-{step}"
    path = run / "scores" / f"{name}.json"
    if not group.leads:
        return Evaluation(name, {}, path)
    hypotheses = [found[place] for place in range(len(data.ids))]
    texts = [hypothesis.text for hypothesis in hypotheses]
    items, blocks, result = score_set(data.ids, data.texts, texts, data.attributes, by, block)
    result["checkpoint"] = step
    if caught := Counter(hypothesis.caught for hypothesis in hypotheses if hypothesis.caught):
        result["caught"] = dict(caught)  # the decoder's hypotheses that gave way to CTC's
    if data.notes:
        result["notes"] = data.notes
    result["search"] = recognizing.search.model_dump(mode="json")
    # A page plays the recordings of a manifest from where they lie; shards hold sound where no browser can reach it.
    sounds = clips(items, data.audio, lambda audio: encode_flac(audio, rate)) if data.audio else {}
    title = f"{run.resolve().name} on {name}"
    write_scores(path, title, items, blocks, result, sounds, [_heard(one) for one in hypotheses])
    return Evaluation(name, result, path)


def _heard(hypothesis: Hypothesis) -> dict[str, Any]:
    """What an utterance's line says of its words: [word, start, end, confidence], in seconds from its start."""
    times = [[word.text, word.start, word.end, word.confidence] for word in hypothesis.words]
    return {"times": times} | ({"caught": hypothesis.caught} if hypothesis.caught else {})


def open_recognizer(
    run: Path, recipe: Recipe, checkpoint: str, search: SearchSettings | None = None, group: Group = ALONE
) -> Recognizing:
    """A run's model with the weights of a checkpoint (or of the mean of some: best-5), ready to recognize."""
    device = choose_device(recipe, group)
    set_precision("float32", device)
    tokenizer = load_tokenizer(run / TOKENIZER_NAME)
    model = open_weights(run, recipe, checkpoint, tokenizer, device, group)
    search = search or recipe.search
    return Recognizing(model, tokenizer, search, open_language_model(run, search, device), device)


def open_set(on: str | None, split: str | None, recipe: Recipe, cache: str = "") -> EvaluationSet:
    """Raises SpeechmillError where `on` is no shards, manifest or KIND:DIR, or has no such rows."""
    rate = recipe.features.sample_rate
    if on is None:
        index = open_data(recipe.data.shards, cache or recipe.data.cache, recipe.data.cache_gb)
        return _shard_set(index, split or "test", split or "test", rate)
    if corpus := named_corpus(on):
        return _corpus_set(*corpus, split, rate)
    path = Path(on)
    shards = recipe.data.shards
    own = bool(shards) and isinstance(shards, str) and path.resolve() == Path(shards).resolve()
    # The stem is for the reader; two sets may share it, but not the fingerprint of their places.
    place = f"{path.resolve().stem}-{_short(str(path.resolve()))}"
    name = split if own and split else place + (f"-{split}" if split else "")
    if path.is_dir() or is_url(on):
        index = open_shards(on, cache or (recipe.data.cache if is_url(on) else ""), recipe.data.cache_gb)
        return _shard_set(index, split, name, rate)
    return _manifest_set(path, split, name, rate)


def _short(value: object) -> str:
    return fingerprint(value)[:6]


def _shard_set(index: Index, split: str | None, name: str, rate: int) -> EvaluationSet:
    if index.sample_rate != rate:
        raise SpeechmillError(f"{index.folder}: holds audio at {index.sample_rate} Hz, the run's features need {rate}.")
    rows = index.rows(split).tolist()
    reader = open_reader(index)
    about = [reader.about(row) for row in rows]
    columns = sorted({name for item in about for name in item} - {"id", "text"})
    attributes = {name: [item.get(name) for item in about] for name in columns}
    samples = [int(index.samples[row]) for row in rows]

    def audio(place: int) -> Audio:
        return reader.audio(rows[place])

    def chunks() -> Iterator[Chunk]:
        for places in _chunked([count / rate for count in samples]):
            yield Chunk(places, [samples[place] for place in places], partial(_nth, audio, places))

    return EvaluationSet(
        name, [item["id"] for item in about], [item["text"] for item in about], attributes, chunks(),
        audio=None if "recording" in attributes else audio,
    )  # fmt: skip


def _nth(audio: Callable[[int], Audio], places: list[int], number: int) -> Audio:
    return audio(places[number])


def _corpus_set(kind: str, source: Path, split: str | None, rate: int) -> EvaluationSet:
    """A corpus as `import` reads it, without a manifest on disk."""
    source = source.resolve()
    result = open_corpus(kind, source).read(None, None, Limits())
    name = f"{kind}-{source.stem}-{_short(str(source))}" + (f"-{split}" if split else "")
    found = _table_set(result.table, source, split, name, rate)
    dropped = ", ".join(f"{reason} {count}" for reason, count in result.counts.items())
    notes = [*([f"dropped: {dropped}"] if dropped else []), *not_read(result.failures), *result.warnings]
    return replace(found, notes=[*notes, *found.notes])


def _manifest_set(path: Path, split: str | None, name: str, rate: int) -> EvaluationSet:
    return _table_set(read_manifest(path), path, split, name, rate)


def _table_set(table: pl.DataFrame, path: Path, split: str | None, name: str, rate: int) -> EvaluationSet:
    if split is not None:
        found = table["split"].unique().to_list()
        table = table.filter(pl.col("split") == split)
        if table.is_empty():
            raise SpeechmillError(f"{path}: no rows of the split {split!r}; there is {', '.join(map(repr, found))}.")
    if table.is_empty():
        raise SpeechmillError(f"{path}: the manifest has no rows.")
    timed = table.filter(~is_untimed(table.columns))
    whole = table.height - timed.height
    if timed.is_empty():
        raise SpeechmillError(
            f"{path}: its {whole} rows have no times of their own (timed: false); align them first, or transcribe "
            f"their recordings and score that."
        )
    notes = [f"left out: {whole} rows without times of their own (untimed)"] if whole else []
    table = timed
    check_recordings(table, path)
    table = table.sort("recording", "start", "id")
    lengths = (table["end"] - table["start"]).to_list()

    def chunks() -> Iterator[Chunk]:
        current, audio = "", None
        for places in _chunked(lengths):
            pieces = []
            for place in places:
                recording, start, end = table["recording"][place], table["start"][place], table["end"][place]
                if recording != current or audio is None:
                    current, audio = recording, decode(Path(recording), rate)
                pieces.append(cut(audio, start, end, rate))
            yield Chunk(places, [len(piece) for piece in pieces], pieces.__getitem__)

    attributes: dict[str, list[object]] = {
        name: table[name].to_list() for name in table.columns if name not in ("id", "text")
    }
    return EvaluationSet(name, table["id"].to_list(), table["text"].to_list(), attributes, chunks(), notes)


def _chunked(lengths: Sequence[float]) -> list[list[int]]:
    """Places in their order, in pieces of about twenty minutes of audio."""
    chunks: list[list[int]] = [[]]
    total = 0.0
    for place, seconds in enumerate(lengths):
        if chunks[-1] and total + seconds > _CHUNK_SECONDS:
            chunks.append([])
            total = 0.0
        chunks[-1].append(place)
        total += seconds
    return chunks


if __name__ == "__main__":  # one of the processes that `evaluate` started
    raise SystemExit(run_rank(lambda: _rank(json.loads(sys.argv[1]))))
