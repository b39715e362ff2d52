"""A shard folder of any size in which only some shards are real: a whole index, and audio where it will be read.

The other shards are empty files, at the sizes and offsets that FLAC of speech would have.
"""

from __future__ import annotations

import io
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import soundfile

from speechmill.artefact import sha256_file
from speechmill.manifest import scan_manifest
from speechmill.progress import track
from speechmill.schedule import Epoch, Utterances
from speechmill.settings import ScheduleSettings, ShardSettings
from speechmill.shards.index import INDEX_NAME, write_index
from speechmill.shards.plan import plan_info, write_plan_info
from speechmill.shards.tar import BLOCK, TarWriter

_FLAC_SHARE = 0.55  # of 16-bit PCM
_JSON_BYTES = 512

Ints = npt.NDArray[np.int64]


def write_mostly(
    manifest: Path, plan: pl.DataFrame, folder: Path, settings: ShardSettings, schedule: ScheduleSettings
) -> list[str]:
    """Write the folder of a plan (`plan_manifest`); returns the names of its real shards: the first window's."""
    rows = _rows(manifest, plan, settings.sample_rate)
    real = first_window(rows, schedule, settings.sample_rate)
    folder.mkdir(parents=True)
    for name in plan["shard"].cast(pl.String).unique():
        (folder / f"{name}.tar").touch()
    window = rows.filter(pl.col("shard").is_in(real))
    texts = scan_manifest(manifest).with_row_index("row").join(window.lazy().select("row"), on="row", how="semi")
    window = window.join(texts.select("row", "text").collect(engine="streaming"), on="row", maintain_order="left")
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        parts = [window.filter(shard=name) for name in real]
        written = pool.map(_write_shard, parts, [folder] * len(real), [settings.sample_rate] * len(real))
        placed = pl.concat(list(track(written, "write the first window", len(real), "shards")))
    rows = rows.update(placed.with_columns(pl.col("row").cast(pl.UInt32)), on="row")
    write_index(rows, folder / INDEX_NAME)
    write_plan_info(folder, plan_info(plan, settings, sha256_file(manifest)))
    return real


def _rows(manifest: Path, plan: pl.DataFrame, rate: int) -> pl.DataFrame:
    """The index of the plan, its places in the TARs invented, and `row` of the manifest."""
    samples = (pl.col("end") * rate).round() - (pl.col("start") * rate).round()
    columns = scan_manifest(manifest).select(
        "id", "split", "call", "speaker", "session", samples=samples.cast(pl.Int32),
        native=pl.col("native").cast(pl.Int8).fill_null(-1), characters=pl.col("text").str.len_chars().cast(pl.Int32),
    )  # fmt: skip
    table = columns.collect(engine="streaming")[plan["row"]].with_columns(plan["row"], plan["shard"].cast(pl.String))
    size = (pl.col("samples") * (2 * _FLAC_SHARE)).cast(pl.Int32)
    step = 3 * BLOCK + _JSON_BYTES + (size + BLOCK - 1) // BLOCK * BLOCK
    begin = step.cast(pl.Int64).cum_sum().over("shard") - step
    return table.with_columns(
        offset=begin + BLOCK,
        size=size,
        json_offset=begin + step - _JSON_BYTES,
        json_size=pl.lit(_JSON_BYTES, pl.Int32),
    )


def first_window(rows: pl.DataFrame, settings: ScheduleSettings, rate: int) -> list[str]:
    """The shards that the first window of the first epoch reads."""
    train = rows.filter(split="train")
    names = train["shard"].unique().sort()
    codes = train["shard"].cast(pl.Enum(names)).to_physical().to_numpy()
    nothing = np.zeros(train.height, dtype=np.int8)
    utterances = Utterances(np.arange(train.height), codes, train["samples"].to_numpy(), nothing, rate)
    return [names[int(code)] for code in Epoch(utterances, settings, 0).shards(0)]


def _write_shard(rows: pl.DataFrame, folder: Path, rate: int) -> pl.DataFrame:
    """Write a shard of noise as loud as quiet speech; returns where its members went."""
    noise = (np.random.default_rng(0).standard_normal(120 * rate) * 200).astype(np.int16)
    places = []
    with (folder / f"{rows['shard'][0]}.tar").open("wb") as stream:
        tar = TarWriter(stream)
        for row in rows.iter_rows(named=True):
            sound = io.BytesIO()
            start = row["row"] % (60 * rate)
            soundfile.write(sound, noise[start : start + row["samples"]], rate, format="FLAC", subtype="PCM_16")
            audio = tar.add(f"{row['id']}.flac", sound.getvalue())
            about = {name: row[name] for name in ("id", "text", "call", "speaker", "session", "samples")}
            note = tar.add(f"{row['id']}.json", json.dumps(about).encode())
            places.append((row["row"], audio.offset, audio.size, note.offset, note.size))
        tar.finish()
    schema = {"row": pl.UInt32, "offset": pl.Int64, "size": pl.Int32, "json_offset": pl.Int64, "json_size": pl.Int32}
    return pl.DataFrame(places, schema=schema, orient="row")
