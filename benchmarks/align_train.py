"""Parts `bootstrap` and `training` of `benchmarks.align`: what recognizers learn from aligned calls of a demo corpus.

A damaged transcript is a corpus of its own in the BizSpeech layout, with rough times as such transcripts have them: the
start of what is said, and of a false sentence the end of what was said before. The commands are those that users have.

    WORK/damaged/MEDIA/<call>/transcript_timealigned.txt    the recording beside it is a link
    WORK/damaged.parquet        imported without its times, which lie: sentences out of order would fall for them
    WORK/aligned/pocketsphinx.* all voices, aligned
    WORK/bootstrap/run          a ctc model trained on what it kept
    WORK/bootstrap/second.*     aligned by that model
    WORK/training/damaged/      the native calls alone
    WORK/training/first-N-calls*    pocketsphinx on some of them, and a ctc model trained on what it kept
    WORK/training/second-N-calls*   all of them, aligned by that model, and a model trained on that
    WORK/training/third-N-calls*    the same once more, by the second model; and so on
    WORK/training/as-said*      the last pass's utterances with what was said in them: the limit that its text has
    WORK/training/{true,everything}/    models trained on true times and clean text, and without rejection
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.align_cases import demo_of, demo_transcript, once
from benchmarks.align_tally import Tally, reliability
from benchmarks.align_text import text_record, with_true_edges, with_what_was_said
from benchmarks.damage import Written
from benchmarks.lab import of_calls, relative, speechmill
from speechmill.align.recording import Outcome
from speechmill.artefact import read_json, write_json
from speechmill.corpora.demo.build import HEADER, clock, sentence_id

RECIPE = Path("hparams/demo.yaml")
DAMAGE = 20  # %
# Of alignment and training, each with the recognizer of the one before.
PASSES = ("first", "second", "third", "fourth", "fifth")
SILENCE = 1.0  # seconds, at most, around half of the utterances: sentences follow pauses in what is aligned next
_LEFT_OUT = {"reason": "not-imported", "confidence": 0.0, "start": None, "end": None}
_METADATA = Path("metadata") / "BizSpeech_MetaData.json"

Transcripts = dict[str, list[Written]]


def bootstrap(args: Namespace) -> dict[str, Any]:
    """What pocketsphinx keeps of all voices, and what a model trained on that keeps."""
    folder: Path = args.work / "bootstrap"
    demo = demo_of(args)
    transcripts = damaged_corpus(demo, args.work / "damaged", args.seed)
    imported, first = aligned(args, "pocketsphinx")
    second, run = folder / "second.parquet", folder / "run"
    trained(first, folder, run, args, [])
    speechmill("align", imported, second, "--aligner", f"ctc:{run}")
    native = set(native_calls(demo))
    return {
        name: {
            group: scored(out, {call: rows for call, rows in transcripts.items() if (call in native) in which}).record()
            for group, which in {"all": (True, False), "native": (True,), "non-native": (False,)}.items()
        }
        for name, out in {"pocketsphinx": first, "ctc": second}.items()
    }


def training(args: Namespace) -> dict[str, Any]:
    """Test WER on native calls, of ways to come by the text and times that are trained on: the true ones, a first pass
    over some of the calls, more over all by the model trained on the one before, what the last of these kept with what
    was said there, all sentences at their rough times.

    The true ones, the last pass and what was said in it with --seeds seeds. Test utterances begin and end with their
    sound, so what is trained on true times does, too, and the last pass, of which no alignment is asked; the others
    train with silence around for the sake of the next one, and longer: what is compared trains as the recipe says.
    """
    folder: Path = args.work / "training"
    demo = demo_of(args)
    native = native_calls(demo)
    transcripts = damaged_corpus(demo, folder / "damaged", args.seed, native)
    true, everything, untimed = (
        args.work / "true.parquet", folder / "damaged.parquet", folder / "untimed.parquet",
    )  # fmt: skip
    imported = args.work / "imported.parquet"
    speechmill("import", "bizspeech", demo, imported)
    with_true_edges(imported, demo, true)
    speechmill("import", "bizspeech", folder / "damaged", everything)
    speechmill("import", "bizspeech", folder / "damaged", untimed, "--ignore-times")
    listed(folder / "native.txt", native)
    only = [f"select.include_only={folder / 'native.txt'}"]
    found: dict[str, Any] = {"true": _learned(true, "true", folder, args, only, args.seeds)}
    # The others train on the same calls, and are tested on these.
    selected = pl.read_parquet(folder / "true" / "selected.parquet", columns=["call", "split"]).unique()
    for split in ("valid", "test"):
        listed(folder / f"{split}.txt", sorted(selected.filter(pl.col("split") == split)["call"]))
    same = [f"select.{split}_calls={folder / f'{split}.txt'}" for split in ("valid", "test")]
    open_words, silence = [*same, "select.wildcards=true"], [f"select.silence_seconds={SILENCE}"]

    few = f"{args.first_calls}-calls"
    source, aligner = folder / f"{few}.parquet", args.aligner
    hear: list[str] = []
    pl.read_parquet(untimed).filter(pl.col("call").is_in(native[: args.first_calls])).write_parquet(source)
    updates = [f"train.updates={args.first_updates}"]
    for name in PASSES:
        out = folder / f"{name}-{few}.parquet"
        speechmill("align", source, out, "--aligner", aligner, *hear)
        is_last = name == PASSES[-1]
        updates = [] if is_last else updates
        settings = open_words + updates + (silence if not is_last else [])
        found[name] = _learned(out, f"{name}-{few}", folder, args, settings, args.seeds if is_last else 1)
        found[name] |= kept_of(out, transcripts) | {"text": text_record(out, demo)}
        # What the first model hears without a transcript is wrong too often: by its likeliest tokens 7.5 % of 6,752.
        hear = [f"align.hear_rest={str(args.hear_rest and name != PASSES[0]).lower()}"]
        source, aligner = untimed, f"ctc:{folder / f'{name}-{few}' / 'run'}"
        updates = [f"train.updates={args.next_updates}"]
    said = with_what_was_said(out, demo, folder / "as-said.parquet")
    found["as_said"] = _learned(said, "as-said", folder, args, open_words, args.seeds)
    found["everything"] = _learned(everything, "everything", folder, args, same)
    for name in (*PASSES, "as_said", "everything"):
        pairs = list(zip(found[name]["runs"], found["true"]["runs"], strict=False))  # of the same seeds
        found[f"{name}_over_true"] = sum(one["wer"] for one, _ in pairs) / sum(other["wer"] for _, other in pairs)
        found[f"{name}_relative"] = relative(pairs)
    return found


def _learned(
    manifest: Path, name: str, folder: Path, args: Namespace, settings: list[str], seeds: int = 1
) -> dict[str, Any]:
    """Hours that were trained on, error rate of all runs together, and of each."""
    runs = []
    for seed in range(seeds):
        run = folder / name / ("run" if not seed else f"run-seed{seed}")
        trained(manifest, folder / name, run, args, [*settings, f"train.seed={seed}", f"schedule.seed={seed}"])
        runs.append(once(folder / f"{run.parent.name}-seed{seed}.json", lambda run=run: tested(run, folder)))
    table = pl.read_parquet(folder / name / "selected.parquet").filter(pl.col("split") == "train")
    errors, words = (sum(run[count] for run in runs) for count in ("errors", "words"))
    return {
        "wer": errors / words, "runs": runs,
        "train_hours": float((table["end"] - table["start"]).sum()) / 3600, "train_utterances": len(table),
    }  # fmt: skip


def kept_of(out: Path, transcripts: Transcripts) -> dict[str, Any]:
    """What `align` kept, of the calls that it was given, and what its confidence is worth."""
    given = set(pl.read_parquet(out.with_suffix(".sentences.parquet"), columns=["call"])["call"])
    tally = scored(out, {call: rows for call, rows in transcripts.items() if call in given})
    return {"calls": len(given), "kept": tally.record(), "reliability": reliability(tally.judged)}


def native_calls(demo: Path) -> list[str]:
    return sorted(call for call, row in read_json(demo / _METADATA).items() if row["partition"] == 5)


def aligned(args: Namespace, aligner: str) -> tuple[Path, Path]:
    """Manifests of the damaged corpus: as it was imported, and aligned."""
    imported = args.work / "damaged.parquet"
    out = args.work / "aligned" / f"{aligner.replace(':', '_').replace('/', '_')}.parquet"
    speechmill("import", "bizspeech", args.work / "damaged", imported, "--ignore-times")
    speechmill("align", imported, out, "--aligner", aligner)
    return imported, out


def tested(run: Path, folder: Path) -> dict[str, Any]:
    """Scores of the test calls with true times."""
    path = run / "test.json"
    speechmill("evaluate", run, "--on", folder / "true" / "shards", "--split", "test", "--json", path)
    scores = read_json(path)
    (utterances,) = (run / "scores").glob("*.utterances.jsonl")
    return {
        "wer": scores["wer"], "errors": scores["errors"], "words": scores["words"], "calls": of_calls(utterances),
    }  # fmt: skip


def trained(manifest: Path, folder: Path, run: Path, args: Namespace, settings: list[str]) -> None:
    """Select, shard, tokenizer, train."""
    settings = [*args.overrides, *settings]
    selected, tokenizer = folder / "selected.parquet", folder / "tokenizer.model"
    speechmill("select", manifest, selected, "--recipe", RECIPE, *settings)
    speechmill("shard", selected, folder / "shards", "--recipe", RECIPE, *settings)
    speechmill("tokenizer", selected, tokenizer, "--recipe", RECIPE, *settings)
    places = [f"data.shards={folder / 'shards'}", f"data.tokenizer={tokenizer}"]
    speechmill("train", RECIPE, "--run", run, *settings, *places)


def listed(path: Path, calls: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(calls) + "\n", encoding="utf-8")


def damaged_corpus(demo: Path, out: Path, seed: int, calls: Sequence[str] | None = None) -> Transcripts:
    """Write the damaged transcripts, of all or these calls, beside links to the recordings; a function of the seed."""
    metadata = read_json(demo / _METADATA)
    folders = [demo / "MEDIA" / call for call in metadata]
    transcripts = {}
    for number, folder in enumerate(folders):
        if calls is not None and folder.name not in calls:
            continue
        recording, written = demo_transcript(folder, folders[(number + 1) % len(folders)], DAMAGE, seed, number)
        transcripts[folder.name] = written
        place = out / "MEDIA" / folder.name
        place.mkdir(parents=True, exist_ok=True)
        if not (place / recording.name).exists():
            (place / recording.name).symlink_to(recording.resolve())
        text = transcript(written)
        path = place / "transcript_timealigned.txt"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    write_json(out / _METADATA, {call: metadata[call] for call in transcripts})
    return transcripts


def transcript(written: list[Written]) -> str:
    """transcript_timealigned.txt with rough times."""
    starts, ended = [], 0.0
    for one in written:
        starts.append(one.said.start if one.said else ended)
        ended = one.said.end if one.said else ended
    latest, rows = 0.0, [HEADER]
    for place, (one, start) in enumerate(zip(written, starts, strict=True)):
        latest = max(latest, start)  # neighbours that changed places have times that do not run backwards
        rows.append(f"{sentence_id(place)}\t{one.speaker}\t{one.session}\t{clock(latest)}\t{one.text}")
    end = max([latest, *(one.said.end for one in written if one.said)])
    rows.append(f"END\t{written[-1].speaker}\t{written[-1].session}\t{clock(end + 0.1)}\t")
    return "\n".join(rows) + "\n"


def scored(out: Path, transcripts: Transcripts) -> Tally:
    """What `speechmill align` wrote, against what is true. A sentence that the importer left out is not kept."""
    rows = {row["id"]: row for row in pl.read_parquet(out.with_suffix(".sentences.parquet")).iter_rows(named=True)}
    tally = Tally()
    for call, written in transcripts.items():
        there = [rows.get(f"{call}_{sentence_id(place)}", _LEFT_OUT) for place in range(len(written))]
        outcomes = [
            Outcome(place, row["reason"] or "kept", row["confidence"], row["start"], row["end"])
            for place, row in enumerate(there)
        ]
        tally.add(written, outcomes)
    return tally
