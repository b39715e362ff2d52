"""What each option of training changes: named variants of the recipes, over seeds, on the demo corpus and the digits.

    python -m benchmarks.recipes --work recipes --out benchmarks/results/recipes.json
    python -m benchmarks.recipes --table        the table of docs/recipes.md, of what --out has

`recipes_plan` has the variants. Each is scored on validation and test calls, greedy; on the demo corpus also with the
search of the recipe that is shipped. A choice between them is made by the validation calls' error rates: the test calls
tell what it is worth. Of the digits each seed leaves another speaker out, whose calls are its test.

Runs are done seed by seed, each with all its evaluations, so that an unfinished call leaves whole comparisons; one that
fails is told at the end, and the others go on. --out is written after each run, one record a run. What it holds with
the same settings is not repeated, also where --work is gone; a setting that did not exist then counts as its default.
Records of other settings stay in the file, under `others`. Under --work a run that was cut off goes on. The code is
that of the moment: leave it alone meanwhile, or run a clone of its own.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import soundfile

from benchmarks.lab import of_calls, prepared, relative, speechmill
from benchmarks.machine import machine
from benchmarks.recipes_plan import BASE, BASES, ROOMS, SPEAKERS, VARIANTS, Run, Variant, planned
from speechmill.artefact import read_json, sha256, write_json, write_text, written_folder
from speechmill.config import recipe_from_plain
from speechmill.errors import SpeechmillError
from speechmill.metrics import read_metrics
from speechmill.settings import Recipe, TrainSettings, recipe_text
from speechmill.shards.index import INDEX_NAME
from speechmill.train.checkpoint import find_checkpoint, read_state
from speechmill.train.early import early_stop

OUT = Path("benchmarks/results/recipes.json")
_SPLITS = ("valid", "test")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("recipes"), help="corpora, run folders and records")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--seeds", type=int, default=3, choices=range(1, len(SPEAKERS) + 1))
    parser.add_argument("--corpora", nargs="+", choices=list(BASES), default=list(BASES))
    parser.add_argument(
        "--variants", nargs="+", metavar="NAME", choices=list(dict.fromkeys(variant.name for variant in VARIANTS))
    )
    parser.add_argument("--at-once", type=int, default=1, help="runs beside one another")
    parser.add_argument("--most", type=int, help="training runs to do in this call; the next one goes on")
    parser.add_argument("--table", action="store_true", help="show --out as Markdown, and do nothing else")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="for every run, e.g. to try the program")
    args = parser.parse_args()
    if args.table:
        print(table(read_json(args.out)["runs"]))
        return
    if args.overrides and args.out == OUT:
        parser.error(f"with settings of its own a trial needs an --out of its own: {OUT} holds runs of the recipes")
    overrides = tuple(args.overrides)
    every = list(planned(list(BASES), len(SPEAKERS), None, overrides))
    others = restore(args.out, args.work, every)
    runs = [run for run in planned(args.corpora, args.seeds, args.variants, overrides)
            if not run.note(args.work).is_file()]  # fmt: skip
    failed: list[str] = []
    for group in turns(runs, args.most):
        if why := tried(lambda group=group: prepare(group, args.work)):
            failed.append(f"seed {group[0][0].seed}, all of it: {why}")
            continue
        failed += side_by_side(group, args.work, args.at_once, lambda: told(every, others, args.work), args.out)
    write_json(args.out, told(every, others, args.work))
    print(table(records(every, args.work)))
    if failed:
        sys.exit("\n".join(["not done:", *failed]))


def side_by_side(
    group: list[Job], work: Path, at_once: int, outcome: Callable[[], dict[str, Any]], out: Path
) -> list[str]:
    """Carry jobs out, some at once, and write the outcome after each; what failed."""
    failed = []
    with ThreadPoolExecutor(at_once) as pool:
        futures = {pool.submit(tried, lambda job=job: carry_out(job, work, at_once)): job[0].trained for job in group}
        try:
            for future in as_completed(futures):
                run = futures[future]
                if why := future.result():
                    failed.append(f"{run.corpus}, {run.variant.name}, seed {run.seed}: {why}")
                write_json(out, outcome())
        except BaseException:  # asked to stop: the jobs that have not begun are not begun
            pool.shutdown(cancel_futures=True)
            raise
    return failed


Job = list[Run]  # those of one training: it, and what evaluates it


def turns(runs: Sequence[Run], most: int | None = None) -> Iterator[list[Job]]:
    """The jobs of each seed, the longest first: the last are not left without company."""
    left = len(runs) if most is None else most
    for _, some in groupby(runs, lambda run: run.seed):
        jobs: dict[tuple[str, Variant], Job] = {}
        for run in some:
            jobs.setdefault((run.corpus, run.trained.variant), []).append(run)
        chosen = sorted(jobs.values(), key=lambda job: (not job[0].trained.variant.model, job[0].corpus))[:left]
        left -= len(chosen)
        if chosen:
            yield chosen


def prepare(group: list[Job], work: Path) -> None:
    """What the jobs of a seed read."""
    for run in {job[0].corpus: job[0] for job in group}.values():
        prepared(run.corpus, "all", run.data(work), BASES[run.corpus], [*run.split, *run.overrides])
        make_rooms(work / "rooms", run.recipe.features.sample_rate)


def make_rooms(folder: Path, rate: int) -> None:
    """Fifty impulse responses: noise that decays by 60 dB in 0.15 to 0.6 s, 0 to 12 dB behind the direct sound."""
    folder = folder / str(rate)
    if folder.is_dir():
        return
    dice = np.random.default_rng(0)
    with written_folder(folder) as partial:
        for number in range(50):
            decay, behind = dice.uniform(0.15, 0.6), dice.uniform(0.0, 12.0)
            seconds = np.arange(int(decay * rate)) / rate
            tail = dice.standard_normal(len(seconds)) * 10.0 ** (-3.0 * seconds / decay)
            tail *= 10.0 ** (-behind / 20.0) / np.sqrt(np.square(tail).sum())
            tail[0] = 1.0
            soundfile.write(partial / f"room{number:02d}.wav", 0.9 * tail / np.abs(tail).max(), rate)


def tried(work: Callable[[], None]) -> str:
    """Do it; why it failed, if it did: the others go on."""
    try:
        work()
    except Exception as error:  # noqa: BLE001 whatever it is, its line is at the end
        return f"{type(error).__name__}: {error}"
    return ""


def carry_out(job: Job, work: Path, at_once: int) -> None:
    """Train what is missing, score the calls, keep the records. The commands are those that users have."""
    run = job[0].trained
    folder, place = run.folder(work), run.data(work)
    data, recipe = place / "all", folder.parent / f"{folder.name}.yaml"
    write_text(recipe, recipe_text(run.recipe))
    tokenizer = place / "tokenizer.model"
    if text := [setting for setting in run.variant.settings if setting.startswith("tokenizer.")]:
        tokenizer = place / f"tokenizer-{run.variant.words}.model"
        speechmill("tokenizer", data / "selected.parquet", tokenizer, "--recipe", recipe, *text)
    print(f"-- {run.corpus} {run.variant.name} seed {run.seed}", file=sys.stderr)
    settings = [f"train.seed={run.seed}", f"schedule.seed={run.seed}", *run.split, f"data.shards={data / 'shards'}",
                f"data.tokenizer={tokenizer}"]  # fmt: skip
    if ROOMS in run.variant.settings:
        rooms = (work / "rooms" / str(run.recipe.features.sample_rate)).resolve()
        settings.append(f"augment.reverb_folder={rooms}")
    speechmill("train", recipe, "--run", folder, *settings)
    for one in job:
        update, best = stopped(one, folder)
        found = {}
        for name, search in one.searches.items():
            # A finished run is given the search, and the language model that it reads.
            speechmill("train", recipe, "--run", folder, *settings, *search)
            found[name] = {split: scored(one, folder, split, best) for split in _SPLITS}
        write_json(one.note(work), record(one, folder, update, found, data) | {"at_once": at_once})


def stopped(run: Run, folder: Path) -> tuple[int, str]:
    """The update at which a run ends, or would have ended with the patience of `stop`; and which checkpoint is the best
    up to there."""
    state = read_state(find_checkpoint(folder, "last"))
    if not run.variant.stop:
        return state.update, "best"
    settings = run.recipe.train.model_dump() | dict(with_value(setting) for setting in run.variant.stop)
    train = TrainSettings.model_validate(settings)
    return ended(run.recipe.model_copy(update={"train": train}), state.epoch_losses, state.wers)


def ended(recipe: Recipe, epoch_losses: Sequence[float], wers: Sequence[float]) -> tuple[int, str]:
    """Where early stopping ends a run that went on: the update, and that of the best validation up to there."""
    pace, epoch = recipe.train.validate_every, recipe.train.nominal_epoch
    number = 0
    for number in range(1, len(wers) + 1):
        if early_stop(recipe, epoch_losses[: number * pace // epoch], wers[:number]):
            break
    return number * pace, str(pace * (1 + wers.index(min(wers[:number]))))


def with_value(setting: str) -> tuple[str, str]:
    """`train.key=value` as key and value."""
    name, _, value = setting.partition("=")
    return name.removeprefix("train."), value


def scored(run: Run, folder: Path, split: str, checkpoint: str) -> dict[str, Any]:
    """Error rates of a split's calls, all together and of each."""
    which = ["--average", run.variant.average] if run.variant.average else ["--checkpoint", checkpoint]
    place = folder / "scores"
    shutil.rmtree(place, ignore_errors=True)  # of the evaluation before
    speechmill("evaluate", folder, "--split", split, *which)
    (rows,) = place.glob("*.utterances.jsonl")
    scores = read_json(rows.with_name(rows.name.replace(".utterances.jsonl", ".json")))
    return {name: scores[name] for name in ("wer", "wer_p", "errors", "words")} | {"calls": of_calls(rows)}


def record(
    run: Run, folder: Path, update: int, found: dict[str, dict[str, dict[str, Any]]], data: Path
) -> dict[str, Any]:
    """One record: of the test calls by itself, of the validation calls and the other search under names of their own.

    Args:
        update: the last that counts.
    """
    metrics, environment = read_metrics(folder), read_json(folder / "environment.json")
    end = next(one for one in reversed(metrics) if one["update"] <= update and "seconds" in one)
    return {
        "corpus": run.corpus, "variant": run.variant.name, "seed": run.seed, "recipe": run.fingerprint,
        "settings": list(run.trained.variant.settings), "average": run.variant.average,
        "searches": plain(run.searches), "stop": list(run.variant.stop), "model": run.trained.variant.model,
        "parameters": environment["parameters"], "threads": environment["threads"],
        "precision": environment["precision"], "updates": update, **found[""]["test"], "valid": found[""]["valid"],
        "shipped": found.get("shipped"), "seconds": end["seconds"], "audio_seconds": end["audio_seconds"],
        "data": heard(data), "machine": machine(),
    }  # fmt: skip


def plain(searches: dict[str, tuple[str, ...]]) -> dict[str, list[str]]:
    """As JSON has them."""
    return {name: list(settings) for name, settings in searches.items()}


def heard(data: Path) -> str:
    """Names the utterances of all splits: the same ids, texts' lengths and samples have the same name."""
    table = pl.read_ipc(data / "shards" / INDEX_NAME)
    return sha256(table.select("id", "samples", "characters", "split").sort("id").write_csv().encode())[:12]


def told(runs: Sequence[Run], others: Sequence[dict[str, Any]], work: Path) -> dict[str, Any]:
    """What --out holds: the records, and by their fingerprints the settings in which they differ from `base`'s."""
    found = records(runs, work)
    bases = {corpus: flat(Run(corpus, VARIANTS[0], 0).recipe) for corpus in BASES}
    names = {(one["corpus"], one["variant"], one["recipe"]) for one in found}
    recipes = {
        run.fingerprint: differing(flat(run.recipe), bases[run.corpus])
        for run in runs
        if (run.corpus, run.variant.name, run.fingerprint) in names
    }
    return {"machine": machine(), "bases": bases, "recipes": recipes, "runs": found, "others": list(others)}


def flat(recipe: Recipe) -> dict[str, Any]:
    return {f"{section}.{key}": value for section, values in recipe.plain().items()
            for key, value in (values.items() if isinstance(values, dict) else [("", values)])}  # fmt: skip


def unflat(values: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name, value in values.items():
        section, key = name.split(".", 1)
        if key:
            plain.setdefault(section, {})[key] = value
        else:
            plain[section] = value
    return plain


def differing(values: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """The settings that are not those of `base`; of another kind of model all of the model's."""
    other = values["model.kind"] != base["model.kind"]
    return {
        key: value
        for key, value in values.items()
        if (other and key.startswith("model.")) or key not in base or base[key] != value
    }


def whole(differs: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """What `differing` was made of."""
    other = "model.kind" in differs
    return {key: value for key, value in base.items() if not (other and key.startswith("model."))} | differs


def restore(out: Path, work: Path, runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Put back under --work the records of --out whose settings are still those of their variants; give the others."""
    known = {(run.corpus, run.variant.name, run.seed): run for run in runs}
    found = read_json(out) if out.is_file() else {"runs": []}
    others: list[dict[str, Any]] = list(found.get("others", []))
    for one in found["runs"]:
        run = known.get((one["corpus"], one["variant"], one["seed"]))
        if run is None or not _same(run, one, found):
            print(f"{out}: {one['corpus']}, {one['variant']} is of other settings and is made again", file=sys.stderr)
            others.append(one)
        elif not run.note(work).is_file():
            write_json(run.note(work), one | {"recipe": run.fingerprint})
    return others


def _same(run: Run, one: dict[str, Any], found: dict[str, Any]) -> bool:
    """Whether a record is of the run's settings; those that are new since then count as their defaults."""
    if one["recipe"] == run.fingerprint:
        return True
    how = [run.variant.average, plain(run.searches), list(run.variant.stop)]
    if [one["average"], one["searches"], one["stop"]] != how:
        return False
    if one["recipe"] not in found.get("recipes", {}):
        return False
    values = whole(found["recipes"][one["recipe"]], found["bases"][one["corpus"]])
    try:
        return recipe_from_plain(unflat(values), OUT) == run.recipe
    except SpeechmillError:
        return False


def records(runs: Sequence[Run], work: Path) -> list[dict[str, Any]]:
    """The records of those runs that are done, in their order."""
    notes = [run.note(work) for run in runs]
    return [read_json(note) for note in notes if note.is_file()]


def table(found: Sequence[dict[str, Any]]) -> str:
    """Markdown: a line for each corpus and variant, compared with base on the same seeds, data and precision."""
    lines = [
        "| corpus | variant | validation WER | test WER, each seed | mean | relative to base (95 %) | with the shipped "
        "search: validation, test | relative | updates | seconds of training |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    base = {_same_ground(one): one for one in found if one["variant"] == BASE}
    for corpus in BASES:
        for name in dict.fromkeys(variant.name for variant in VARIANTS):
            runs = [one for one in found if (one["corpus"], one["variant"]) == (corpus, name)]
            if not runs:
                continue
            pairs = [(one, base[key]) for one in runs if (key := _same_ground(one)) in base and name != BASE]
            shipped = [one["shipped"] for one in runs if one["shipped"]]
            of_shipped = [(one["shipped"]["test"], other["shipped"]["test"]) for one, other in pairs if one["shipped"]]
            cells = [
                corpus,
                name,
                _mean(one["valid"]["wer"] for one in runs),
                ", ".join(f"{100 * one['wer']:.2f}" for one in runs),
                _mean(one["wer"] for one in runs),
                relative(pairs) if pairs else "",
                ", ".join(_mean(one[split]["wer"] for one in shipped) for split in _SPLITS) if shipped else "",
                relative(of_shipped) if of_shipped else "",
                f"{statistics.mean(one['updates'] for one in runs):.0f}",
                f"{statistics.mean(one['seconds'] for one in runs):.0f}",
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _same_ground(one: dict[str, Any]) -> tuple[Any, ...]:
    return one["corpus"], one["seed"], one["data"], one["precision"]


def _mean(rates: Iterable[float]) -> str:
    return f"{100 * statistics.mean(rates):.2f}"


if __name__ == "__main__":
    main()
