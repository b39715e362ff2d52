"""What each option of training changes: named variants of the recipes, over seeds, on the demo corpus and the digits.

    python -m benchmarks.recipes --work recipes --out benchmarks/results/recipes.json
    python -m benchmarks.recipes --table        the table of docs/recipes.md, of what --out has

A variant differs from `base` in the settings that are named here, and in nothing else: the same data, updates, batches
and seeds, greedy search, one thread a run; those with a `model` take that recipe's model, loss and optimizer. Of the
digits each seed leaves another speaker out, whose calls are its test.

Runs are done seed by seed and corpus by corpus, each with all its evaluations, so that an unfinished call leaves whole
comparisons; one that fails is told at the end, and the others go on. --out is written after each run, one record a run.
What it holds with the same settings is not repeated, also where --work is gone; a setting that did not exist then
counts as its default. Records of other settings stay in the file, under `others`. Under --work a run that was cut off
goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import soundfile

from benchmarks.lab import RECIPES, of_calls, prepared, relative, speechmill
from benchmarks.machine import machine
from speechmill.artefact import read_json, sha256, write_json, write_text, written_folder
from speechmill.config import load_recipe, recipe_from_plain
from speechmill.errors import SpeechmillError
from speechmill.metrics import read_metrics
from speechmill.settings import Recipe, recipe_text
from speechmill.shards.index import INDEX_NAME

OUT = Path("benchmarks/results/recipes.json")
BASE = "base"
_SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo")  # of the digits; seed i leaves speaker i out
# Ten validations a run, and the checkpoints that averages are made of: the last five span an eighth of the run.
_PACE = {
    "demo": ("train.validate_every=512", "train.checkpoint_every=128", "train.nominal_epoch=512"),
    "digits": (
        "train.updates=2400",
        "train.validate_every=240",
        "train.checkpoint_every=60",
        "train.nominal_epoch=240",
    ),  # with 1,600 some seeds stay on CTC's plateau
}
_ROOMS = "augment.reverb_folder=ROOMS"  # stands for the folder of `make_rooms`


@dataclass(frozen=True)
class Variant:
    name: str
    settings: tuple[str, ...] = ()
    corpora: tuple[str, ...] = ("demo", "digits")
    model: str = ""  # a recipe under hparams/ whose model, loss and optimizer it takes
    of: str = ""  # the variant whose runs it evaluates, where it has none of its own
    average: str = ""  # see `speechmill evaluate --average`
    search: tuple[str, ...] = ()


_SPEED = "augment.speed=[0.9, 1.1]"
_MASKS = ("augment.time_masks=2", "augment.time_mask_frames=10", "augment.frequency_masks=2",
          "augment.frequency_mask_bins=6")  # fmt: skip
_KEEP = ("train.keep_best=5", "train.keep_last=5")
_CONSTANT = "optim.schedule=constant"
_BEAM = ("search.kind=beam", "search.beam=8")
VARIANTS = (
    Variant(BASE, _KEEP),
    Variant("average best-5", of=BASE, average="best-5"),
    Variant("average last-5", of=BASE, average="last-5"),
    Variant("beam 8", of=BASE, search=_BEAM),
    Variant("beam 8, 6-gram", of=BASE, search=(*_BEAM, "search.lm_order=6", "search.lm_weight=0.8",
                                               "search.length_bonus=1.5")),
    # The learning rate.
    Variant("rate / 2", ("optim.lr=5e-4",)),
    Variant("rate x 2", ("optim.lr=2e-3",)),
    Variant("constant", (_CONSTANT, *_KEEP)),
    Variant("constant, average best-5", of="constant", average="best-5"),
    Variant("constant, average last-5", of="constant", average="last-5"),
    Variant("constant, rate / 2", (_CONSTANT, "optim.lr=5e-4")),
    Variant("constant, stagnant epochs 3", (_CONSTANT, "train.stagnant_epochs=3", "train.stagnant_share=0.05")),
    Variant("linear", ("optim.schedule=linear",)),
    Variant("warm-up, stable, decay", ("optim.schedule=wsd", "optim.decay_share=0.3")),
    Variant("noam", ("optim.schedule=noam", "optim.lr=2e-3")),
    Variant("newbob", ("optim.schedule=newbob", "optim.anneal_factor=0.5", "optim.anneal_below=0.02")),
    Variant("newbob, stagnant validations 2", ("optim.schedule=newbob", "optim.anneal_factor=0.5",
                                               "optim.anneal_below=0.02", "train.stagnant_validations=2")),
    Variant("moving average", ("train.average_decay=0.995",)),
    Variant("constant, moving average", (_CONSTANT, "train.average_decay=0.995")),
    # What is heard. The digits' recipe has augmentation, which is left out in turn; the demo's has none.
    Variant("speed", (_SPEED,), ("demo",)),
    Variant("SpecAugment", _MASKS, ("demo",)),
    Variant("speed and SpecAugment", (_SPEED, *_MASKS), ("demo",)),
    Variant("white noise", ("augment.noise_db=[10, 40]",), ("demo",)),
    Variant("babble", ("augment.noise_db=[10, 40]", "augment.noise_kinds=[babble]"), ("demo",)),
    Variant("warp and tilt", ("augment.warp=[0.9, 1.1]", "augment.tilt=0.5"), ("demo",)),
    Variant("gain", ("augment.gain_db=6",)),
    Variant("rooms", (_ROOMS, "augment.reverb_share=0.5")),
    Variant("without speed", ("augment.speed=[1.0, 1.0]",), ("digits",)),
    Variant("without SpecAugment", ("augment.time_masks=0", "augment.frequency_masks=0"), ("digits",)),
    Variant("without noise", ("augment.noise_db=null",), ("digits",)),
    Variant("white noise and babble", ("augment.noise_kinds=[white, babble]",), ("digits",)),
    Variant("without warp and tilt", ("augment.warp=[1.0, 1.0]", "augment.tilt=0"), ("digits",)),
    # What is learned.
    Variant("normalised text", ("tokenizer.text=normalized",), ("demo",)),
    Variant("normalised text", ("tokenizer.text=normalized", "tokenizer.size=24"), ("digits",)),  # 44 are not to be had
    Variant("random order", ("schedule.order=random",)),
    # The model.
    Variant("demo model", corpora=("demo",), model="demo"),
    Variant("ctc_small", corpora=("digits",), model="ctc_small"),  # the demo's base has this model
    Variant("attention", corpora=("demo",), model="demo_aed"),
    Variant("attention, beam", corpora=("demo",), of="attention", search=(*_BEAM, "search.ctc_weight=0.4")),
    Variant("conformer", model="conformer"),
    Variant("conformer, beam", of="conformer", search=(*_BEAM, "search.ctc_weight=0.4")),
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A variant with a seed; `overrides` are those of the call, for every run."""

    corpus: str
    variant: Variant
    seed: int
    overrides: tuple[str, ...] = ()

    @property
    def trained(self) -> Run:
        """The run whose training it evaluates; itself, where it has one."""
        variant = named(self.variant.of, self.corpus) if self.variant.of else self.variant
        return Run(self.corpus, variant, self.seed, self.overrides)

    def recipe(self) -> Recipe:
        """All settings but seeds and places."""
        variant, base = self.trained.variant, RECIPES[self.corpus]
        plain = ["train.threads=1", "search.kind=greedy", "search.lm_order=0", "search.ctc_weight=0",
                 *_PACE[self.corpus]]  # fmt: skip
        if not variant.model:
            return load_recipe(base, [*plain, *variant.settings, *self.overrides])
        ours, other = load_recipe(base, [*plain, *self.overrides]), load_recipe(Path(f"hparams/{variant.model}.yaml"))
        warmup = min(other.optim.warmup_updates, ours.train.updates // 4)
        optim = other.optim.model_copy(update={"warmup_updates": warmup})
        mixed = {"name": variant.model, "model": other.model, "loss": other.loss, "optim": optim}
        return recipe_from_plain(ours.model_copy(update=mixed).plain(), base)

    @cached_property
    def fingerprint(self) -> str:
        """Of all that the run is trained and evaluated with, but seed and places."""
        how = (recipe_text(self.recipe()), self.variant.average, self.variant.search)
        return hashlib.sha256(repr(how).encode()).hexdigest()[:12]

    def data(self, work: Path) -> Path:
        """Where corpus, shards and tokenizer are."""
        return work / (self.corpus if self.corpus == "demo" else f"{self.corpus}-{_SPEAKERS[self.seed]}")

    @property
    def split(self) -> list[str]:
        """How the seed's test calls are chosen."""
        if self.corpus == "demo":
            return []
        left_out = f"select.test_where={{speaker: [{_SPEAKERS[self.seed]}]}}"
        return [left_out, "select.shares={train: 0.9, valid: 0.1, test: 0.0}"]

    def folder(self, work: Path) -> Path:
        """Of its training, named after all settings of that: of others it is another."""
        run = self.trained
        return work / run.corpus / "variants" / f"{_words(run.variant)}-{run.fingerprint}-seed{run.seed}"

    def note(self, work: Path) -> Path:
        """The record of the run, once it is done."""
        return work / self.corpus / "records" / f"{_words(self.variant)}-{self.fingerprint}-seed{self.seed}.json"


def _words(variant: Variant) -> str:
    return variant.name.replace(",", "").replace(" / ", "-by-").replace(" ", "-")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("recipes"), help="corpora, run folders and records")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--seeds", type=int, default=3, choices=range(1, len(_SPEAKERS) + 1))
    parser.add_argument("--corpora", nargs="+", choices=list(RECIPES), default=list(RECIPES))
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
    every = list(planned(list(RECIPES), len(_SPEAKERS), None, overrides))
    others = restore(args.out, args.work, every)
    runs = [run for run in planned(args.corpora, args.seeds, args.variants, overrides)
            if not run.note(args.work).is_file()]  # fmt: skip
    failed: list[str] = []
    for group in turns(runs, args.most):
        if why := tried(lambda group=group: prepare(group, args.work)):
            failed.append(f"{group[0][0].corpus}, seed {group[0][0].seed}, all of it: {why}")
            continue
        with ThreadPoolExecutor(args.at_once) as pool:
            futures = {
                pool.submit(tried, lambda job=job: carry_out(job, args.work, args.at_once)): job[0].trained
                for job in group
            }
            for future in as_completed(futures):
                run = futures[future]
                failed += (
                    [f"{run.corpus}, {run.variant.name}, seed {run.seed}: {why}"] if (why := future.result()) else []
                )
                write_json(args.out, told(every, others, args.work))
    print(table(records(every, args.work)))
    if failed:
        sys.exit("\n".join(["not done:", *failed]))


def planned(
    corpora: Sequence[str], seeds: int, names: Sequence[str] | None, overrides: tuple[str, ...] = ()
) -> Iterator[Run]:
    """Every run, seed by seed."""
    for seed in range(seeds):
        for corpus in corpora:
            for variant in VARIANTS:
                if corpus in variant.corpora and (names is None or variant.name in names):
                    yield Run(corpus, variant, seed, overrides)


Job = list[Run]  # those of one training: it, and what evaluates it


def turns(runs: Sequence[Run], most: int | None = None) -> Iterator[list[Job]]:
    """The jobs of each seed and corpus, those of the largest models first: the last are not left without company."""
    left = len(runs) if most is None else most
    for _, some in groupby(runs, lambda run: (run.seed, run.corpus)):
        jobs: dict[Variant, Job] = {}
        for run in some:
            jobs.setdefault(run.trained.variant, []).append(run)
        chosen = sorted(jobs.values(), key=lambda job: not job[0].trained.variant.model)[:left]
        left -= len(chosen)
        if chosen:
            yield chosen


def prepare(group: list[Job], work: Path) -> None:
    """What the jobs of a seed and corpus read."""
    run = group[0][0]
    prepared(run.corpus, "all", run.data(work), RECIPES[run.corpus], [*run.split, *run.overrides])
    if any(_ROOMS in job[0].trained.variant.settings for job in group):
        make_rooms(work / "rooms", run.recipe().features.sample_rate)


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
    except (subprocess.CalledProcessError, SpeechmillError, OSError) as error:
        return str(error)
    return ""


def carry_out(job: Job, work: Path, at_once: int) -> None:
    """Train what is missing, score the test calls, keep the records. The commands are those that users have."""
    run = job[0].trained
    folder, place = run.folder(work), run.data(work)
    data, recipe = place / "all", folder.parent / f"{folder.name}.yaml"
    write_text(recipe, recipe_text(run.recipe()))
    tokenizer = place / "tokenizer.model"
    if text := [setting for setting in run.variant.settings if setting.startswith("tokenizer.")]:
        tokenizer = place / f"tokenizer-{_words(run.variant)}.model"
        speechmill("tokenizer", data / "selected.parquet", tokenizer, "--recipe", recipe, *text)
    print(f"-- {run.corpus} {run.variant.name} seed {run.seed}", file=sys.stderr)
    settings = [f"train.seed={run.seed}", f"schedule.seed={run.seed}", *run.split, f"data.shards={data / 'shards'}",
                f"data.tokenizer={tokenizer}"]  # fmt: skip
    if _ROOMS in run.variant.settings:
        rooms = (work / "rooms" / str(run.recipe().features.sample_rate)).resolve()
        settings.append(f"augment.reverb_folder={rooms}")
    for one in job:
        # A finished run is given the search, and the language model that it reads.
        speechmill("train", recipe, "--run", folder, *settings, *one.variant.search)
        evaluate(one, folder, data, work, at_once)


def evaluate(run: Run, folder: Path, data: Path, work: Path, at_once: int) -> None:
    """Score the test calls, keep the record."""
    note = run.note(work)
    scores = note.with_name(f".{note.stem}.scores.json")
    scores.parent.mkdir(parents=True, exist_ok=True)
    average = ["--average", run.variant.average] if run.variant.average else []
    speechmill("evaluate", folder, "--split", "test", *average, "--json", scores)
    rows = folder / "scores" / ("-".join(["test", *average[1:]]) + ".utterances.jsonl")
    write_json(note, record(run, folder, read_json(scores), of_calls(rows), data) | {"at_once": at_once})
    scores.unlink()


def record(run: Run, folder: Path, scores: dict[str, Any], calls: dict[str, list[int]], data: Path) -> dict[str, Any]:
    metrics, environment = read_metrics(folder), read_json(folder / "environment.json")
    end = metrics[-1]
    return {
        "corpus": run.corpus, "variant": run.variant.name, "seed": run.seed, "recipe": run.fingerprint,
        "settings": list(run.trained.variant.settings), "average": run.variant.average,
        "search": list(run.variant.search), "model": run.trained.variant.model,
        "parameters": environment["parameters"], "threads": environment["threads"], "updates": end["update"],
        "wer": scores["wer"], "wer_p": scores["wer_p"], "errors": scores["errors"], "words": scores["words"],
        "calls": calls, "valid_wer": end["best_wer"], "seconds": end["seconds"], "audio_seconds": end["audio_seconds"],
        "data": heard(data), "machine": machine(),
    }  # fmt: skip


def heard(data: Path) -> str:
    """Names the utterances of all splits: the same ids, texts' lengths and samples have the same name."""
    table = pl.read_ipc(data / "shards" / INDEX_NAME)
    return sha256(table.select("id", "samples", "characters", "split").sort("id").write_csv().encode())[:12]


def told(runs: Sequence[Run], others: Sequence[dict[str, Any]], work: Path) -> dict[str, Any]:
    """What --out holds: the records, and by their fingerprints the settings in which they differ from `base`'s."""
    found = records(runs, work)
    bases = {corpus: flat(Run(corpus, VARIANTS[0], 0).recipe()) for corpus in RECIPES}
    names = {(one["corpus"], one["variant"], one["recipe"]) for one in found}
    recipes = {
        run.fingerprint: differing(flat(run.recipe()), bases[run.corpus])
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
    if [one["average"], one["search"]] != [run.variant.average, list(run.variant.search)]:
        return False
    if one["recipe"] not in found.get("recipes", {}):
        return False
    values = whole(found["recipes"][one["recipe"]], found["bases"][one["corpus"]])
    try:
        return recipe_from_plain(unflat(values), OUT) == run.recipe()
    except SpeechmillError:
        return False


def records(runs: Sequence[Run], work: Path) -> list[dict[str, Any]]:
    """The records of those runs that are done, in their order."""
    notes = [run.note(work) for run in runs]
    return [read_json(note) for note in notes if note.is_file()]


def table(found: Sequence[dict[str, Any]]) -> str:
    """Markdown: a line for each corpus and variant, compared with base on the same seeds and data."""
    lines = [
        "| corpus | variant | WER, each seed | mean | errors | relative to base (95 %) | updates | hours of training |",
        "|---|---|---|---|---|---|---|---|",
    ]
    base = {(one["corpus"], one["seed"], one["data"]): one for one in found if one["variant"] == BASE}
    for corpus in RECIPES:
        for name in dict.fromkeys(variant.name for variant in VARIANTS):
            runs = [one for one in found if (one["corpus"], one["variant"]) == (corpus, name)]
            if not runs:
                continue
            rates = [100 * one["wer"] for one in runs]
            pairs = [(one, base[key]) for one in runs if (key := (corpus, one["seed"], one["data"])) in base]
            cells = [
                corpus,
                name,
                ", ".join(f"{rate:.2f}" for rate in rates),
                f"{statistics.mean(rates):.2f}",
                str(sum(one["errors"] for one in runs)),
                relative(pairs) if pairs and name != BASE else "",
                f"{statistics.mean(one['updates'] for one in runs):.0f}",
                f"{statistics.mean(one['seconds'] for one in runs) / 3600:.2f}",
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def named(name: str, corpus: str) -> Variant:
    return next(variant for variant in VARIANTS if variant.name == name and corpus in variant.corpora)


if __name__ == "__main__":
    main()
