"""A manifest as large as one likes: calls, speakers, times and text as of earnings calls, and no audio."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq

from benchmarks.padding import utterance_seconds
from speechmill.artefact import written
from speechmill.progress import Progress

_SLICE = 500_000  # rows made and written together
_WORDS = 20_000  # different ones
_SPEAKERS_PER_CALL = 2  # on average; the thesis's corpus has 52,484 in 24,793 calls
_CHARACTERS_PER_SECOND = 15.0

Ints = npt.NDArray[np.int64]


def write_calls(path: Path, utterances: int, calls: int, seed: int = 0) -> None:
    """A manifest of `utterances` rows in `calls` calls, lengths from `utterance_seconds`."""
    rng = np.random.default_rng(seed)
    seconds = utterance_seconds(utterances, seed)
    call = np.sort(rng.integers(0, calls, utterances))
    text, words = _prose(rng)
    first = np.searchsorted(call, np.arange(calls))
    with (
        written(path) as partial,
        Progress("generate", utterances, "utterances") as progress,
    ):
        writer = None
        for start in range(0, utterances, _SLICE):
            part = slice(start, min(utterances, start + _SLICE))
            table = _rows(np.arange(part.start, part.stop), call[part], first, seconds, rng)
            table = table.with_columns(text=_texts(seconds[part], text, words, rng)).to_arrow()
            writer = writer or pq.ParquetWriter(partial, table.schema, compression="zstd")
            writer.write_table(table)
            progress.advance(part.stop - part.start)
        if writer is not None:
            writer.close()


def _rows(
    number: Ints, call: Ints, first: Ints, seconds: npt.NDArray[np.float64], rng: np.random.Generator
) -> pl.DataFrame:
    """All columns but the text; utterances of a call follow one another from second 0 on."""
    ends = np.cumsum(seconds)
    begins = ends - seconds
    offset = begins[first[call]]
    speaker = call * _SPEAKERS_PER_CALL + rng.integers(0, 2 * _SPEAKERS_PER_CALL, len(call))
    place = number - first[call]
    names = pl.DataFrame({"call": call, "place": place, "speaker": speaker})
    name = pl.format("{}", pl.col("call") + 1_000_000)
    return names.select(
        id=pl.format("{}-{}", name, pl.col("place").cast(pl.String).str.zfill(5)),
        recording=pl.format("/corpora/calls/MEDIA/{}/recording.wav", name),
        start=pl.Series((begins[number] - offset).round(3)),
        end=pl.Series((ends[number] - offset).round(3)),
        text=pl.lit(""),
        speaker=pl.format("S{}", pl.col("speaker")),
        call=name,
        session=pl.when(pl.col("place") < 150).then(pl.lit("presentation")).otherwise(pl.lit("q-and-a")),
        native=pl.col("speaker") % 5 < 3,
        split=pl.lit(""),
        company=pl.format("C{}", pl.col("call") // 8),
    )


def _prose(rng: np.random.Generator) -> tuple[str, Ints]:
    """A long text of words by Zipf's law, and where its words begin."""
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    lengths = rng.integers(2, 11, _WORDS)
    words = ["".join(rng.choice(letters, length)) for length in lengths]
    chosen = np.minimum(rng.zipf(1.3, 1_000_000) - 1, _WORDS - 1)
    begins = np.concatenate([[0], np.cumsum(lengths[chosen] + 1)]).astype(np.int64)
    return " ".join(words[place] for place in chosen) + " ", begins


def _texts(seconds: npt.NDArray[np.float64], text: str, words: Ints, rng: np.random.Generator) -> pl.Series:
    """Whole words out of the long text, as many as are spoken in each length."""
    begins = words[rng.integers(0, len(words) - 1000, len(seconds))]
    wanted = begins + (seconds * _CHARACTERS_PER_SECOND).astype(np.int64)
    ends = words[np.searchsorted(words, wanted)] - 1
    return pl.Series([text[a:b] for a, b in zip(begins.tolist(), ends.tolist(), strict=True)])
