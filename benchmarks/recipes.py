"""What each option of training changes: named variants of the recipes, over seeds, on the demo corpus and the digits.

    python -m benchmarks.recipes --work recipes --out benchmarks/results/recipes.json
    python -m benchmarks.recipes --table        the table of docs/recipes.md, of what --out has

A variant differs from `base` in the settings that are named here, and in nothing else: the same data, updates, batches
and seeds, greedy search, one thread a run. Runs are done seed by seed, so that an unfinished call leaves whole
comparisons. --out is written after each run, one record a run; what it holds with the same settings is not repeated,
also where --work is gone, and under --work a run that was cut off goes on. Variants `of` another use its runs and
differ in how they are evaluated.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.lab import RECIPES, prepared, speechmill
from benchmarks.machine import machine
from speechmill.artefact import read_json, write_json
from speechmill.config import load_recipe
from speechmill.metrics import read_metrics
from speechmill.settings import recipe_text

OUT = Path("benchmarks/results/recipes.json")
BASE = "base"


@dataclass(frozen=True)
class Variant:
    name: str
    settings: tuple[str, ...] = ()
    corpora: tuple[str, ...] = ("demo", "digits")
    model: str = ""  # a recipe under hparams/ whose model, loss and optimizer it takes
    of: str = BASE  # the variant whose runs it evaluates, where it has none of its own
    average: str = ""  # see `speechmill evaluate --average`
    search: tuple[str, ...] = ()


_SPEED = "augment.speed=[0.9, 1.1]"
_MASKS = ("augment.time_masks=2", "augment.time_mask_frames=10", "augment.frequency_masks=2",
          "augment.frequency_mask_bins=6")  # fmt: skip
_BEAM = ("search.kind=beam", "search.beam=8")
VARIANTS = (
    Variant(BASE, ("train.keep_best=5", "train.keep_last=5")),
    # How it is evaluated.
    Variant("average best-2", average="best-2"),
    Variant("average best-5", average="best-5"),
    Variant("average last-3", average="last-3"),
    Variant("beam 8", search=_BEAM),
    # The learning rate.
    Variant("constant rate", ("optim.schedule=constant",)),
    Variant("linear", ("optim.schedule=linear",)),
    Variant("warm-up, stable, decay", ("optim.schedule=wsd", "optim.decay_share=0.3")),
    Variant("noam", ("optim.schedule=noam",)),
    Variant("newbob", ("optim.schedule=newbob", "optim.anneal_factor=0.5", "optim.anneal_below=0.02")),
    Variant("moving average", ("train.average_decay=0.995",)),
    Variant("moving average, stable", ("train.average_decay=0.995", "optim.schedule=constant")),
    # What is heard. The digits' recipe has augmentation, which is left out in turn; the demo's has none.
    Variant("speed", (_SPEED,), ("demo",)),
    Variant("SpecAugment", _MASKS, ("demo",)),
    Variant("speed and SpecAugment", (_SPEED, *_MASKS), ("demo",)),
    Variant("white noise", ("augment.noise_db=[10, 40]",), ("demo",)),
    Variant("babble", ("augment.noise_db=[10, 40]", "augment.noise_kinds=[babble]"), ("demo",)),
    Variant("warp and tilt", ("augment.warp=[0.9, 1.1]", "augment.tilt=0.5"), ("demo",)),
    Variant("without speed", ("augment.speed=[1.0, 1.0]",), ("digits",)),
    Variant("without SpecAugment", ("augment.time_masks=0", "augment.frequency_masks=0"), ("digits",)),
    Variant("without noise", ("augment.noise_db=null",), ("digits",)),
    Variant("white noise and babble", ("augment.noise_kinds=[white, babble]",), ("digits",)),
    Variant("without warp and tilt", ("augment.warp=[1.0, 1.0]", "augment.tilt=0"), ("digits",)),
    # What is learned.
    Variant("normalised text", ("tokenizer.text=normalized",)),
    Variant("random order", ("schedule.order=random",)),
    # The model.
    Variant("demo model", corpora=("demo",), model="demo"),
    Variant("ctc_small", corpora=("digits",), model="ctc_small"),  # the demo's base has this model
    Variant("conformer", model="conformer"),
    Variant("conformer, beam", of="conformer", search=(*_BEAM, "search.ctc_weight=0.4")),
)


@dataclass(frozen=True)
class Run:
    corpus: str
    variant: Variant
    seed: int

    @property
    def trained(self) -> Variant:
        """The variant whose training run it has."""
        evaluated = self.variant.average or self.variant.search
        return named(self.variant.of) if evaluated else self.variant

    def folder(self, work: Path, overrides: Sequence[str]) -> Path:
        """Of its training, named after all settings of that: of others it is another."""
        run = Run(self.corpus, self.trained, self.seed)
        name = f"{_words(self.trained)}-{fingerprint(run, work, overrides)}-seed{self.seed}"
        return work / self.corpus / "variants" / name

    def note(self, work: Path, overrides: Sequence[str]) -> Path:
        """The record of the run, once it is done."""
        name = f"{_words(self.variant)}-{fingerprint(self, work, overrides)}-seed{self.seed}.json"
        return work / self.corpus / "records" / name


def _words(variant: Variant) -> str:
    return variant.name.replace(",", "").replace(" ", "-")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("recipes"), help="corpora, run folders and records")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--corpora", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--variants", nargs="+", choices=[variant.name for variant in VARIANTS])
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
    for corpus in args.corpora:
        prepared(corpus, "all", args.work / corpus, RECIPES[corpus], args.overrides)
    runs = list(planned(args.corpora, args.seeds, args.variants))
    seeds = restore(args.out, args.work, args.overrides)
    every = list(planned(list(RECIPES), max(seeds, args.seeds), None))
    for group in batched(runs, args.work, args.overrides, args.most):
        with ThreadPoolExecutor(args.at_once) as pool:
            for _ in pool.map(lambda run: carry_out(run, args.work, args.overrides), group):
                write_json(args.out, {"machine": machine(), "runs": records(every, args.work, args.overrides)})
    print(table(records(every, args.work, args.overrides)))


def restore(out: Path, work: Path, overrides: Sequence[str]) -> int:
    """Put back under --work the records of --out whose settings are still those of their variants; how many seeds."""
    found = read_json(out)["runs"] if out.is_file() else []
    for one in found:
        run = next(
            (run for run in planned([one["corpus"]], one["seed"] + 1, [one["variant"]]) if run.seed == one["seed"]),
            None,
        )
        if run is None or fingerprint(run, work, overrides) != one.get("recipe"):
            print(f"{out}: {one['corpus']}, {one['variant']} is of other settings and is made again", file=sys.stderr)
        elif not run.note(work, overrides).is_file():
            write_json(run.note(work, overrides), one)
    return max((one["seed"] + 1 for one in found), default=0)


def fingerprint(run: Run, work: Path, overrides: Sequence[str]) -> str:
    """Of all that the run is trained and evaluated with, but seed and places."""
    recipe = recipe_text(
        load_recipe(recipe_file(run.trained, run.corpus, work, overrides), settings_of(run, overrides))
    )
    return hashlib.sha256(repr((recipe, run.variant.average, run.variant.search)).encode()).hexdigest()[:12]


def settings_of(run: Run, overrides: Sequence[str]) -> list[str]:
    plain = ["train.threads=1", "search.kind=greedy", "search.lm_order=0", "search.ctc_weight=0"]
    return [*overrides, *run.trained.settings, *plain]


def planned(corpora: Sequence[str], seeds: int, names: Sequence[str] | None) -> Iterator[Run]:
    """Every run, seed by seed."""
    for seed in range(seeds):
        for corpus in corpora:
            for variant in VARIANTS:
                if corpus in variant.corpora and (names is None or variant.name in names):
                    yield Run(corpus, variant, seed)


def batched(runs: Sequence[Run], work: Path, overrides: Sequence[str], most: int | None) -> Iterator[list[Run]]:
    """Runs that are to be done, in two groups: those that train, and those that need what these have trained."""
    folders = {run: run.folder(work, overrides) for run in runs}
    left = [run for run in runs if not run.note(work, overrides).is_file()]
    wanted = {folders[run] for run in left}
    # A run whose record is there, but no longer its folder, is trained again where another wants to evaluate it.
    training = [run for run in runs if run.trained == run.variant and folders[run] in wanted
                and (run in left or not finished(folders[run]))]  # fmt: skip
    training = training if most is None else training[:most]
    yield training
    yield [run for run in left if run.trained != run.variant and finished(folders[run])]


def finished(folder: Path) -> bool:
    """Whether a run folder's training has come to its end."""
    return folder.is_dir() and any(line["event"] == "end" for line in read_metrics(folder)[-1:])


def carry_out(run: Run, work: Path, overrides: Sequence[str]) -> None:
    """Train what is missing, score the test calls, keep the record. The commands are those that users have."""
    folder, note = run.folder(work, overrides), run.note(work, overrides)
    data = work / run.corpus / "all"
    settings = [*settings_of(run, overrides), f"train.seed={run.seed}", f"schedule.seed={run.seed}"]
    recipe = recipe_file(run.trained, run.corpus, work, overrides)
    tokenizer = work / run.corpus / "tokenizer.model"
    if text := [setting for setting in settings if setting.startswith("tokenizer.")]:
        tokenizer = work / run.corpus / f"tokenizer-{run.trained.name.replace(' ', '-')}.model"
        speechmill("tokenizer", data / "selected.parquet", tokenizer, "--recipe", recipe, *overrides, *text)
    print(f"-- {run.corpus} {run.variant.name} seed {run.seed}", file=sys.stderr)
    places = [f"data.shards={data / 'shards'}", f"data.tokenizer={tokenizer}"]
    speechmill("train", recipe, "--run", folder, *settings, *places)
    scores = note.with_name(f".{note.stem}.scores.json")
    scores.parent.mkdir(parents=True, exist_ok=True)
    average = ["--average", run.variant.average] if run.variant.average else []
    speechmill("evaluate", folder, "--split", "test", *average, "--json", scores, *run.variant.search)
    write_json(note, record(run, folder, read_json(scores)) | {"recipe": fingerprint(run, work, overrides)})
    scores.unlink()


def recipe_file(variant: Variant, corpus: str, work: Path, overrides: Sequence[str]) -> Path:
    """The recipe of the corpus, with the model, loss and learning rate of the variant's."""
    if not variant.model:
        return RECIPES[corpus]
    base, other = load_recipe(RECIPES[corpus], overrides), load_recipe(Path("hparams") / f"{variant.model}.yaml")
    optim = other.optim.model_copy(update={"warmup_updates": min(other.optim.warmup_updates, base.train.updates // 4)})
    mixed = base.model_copy(update={"name": variant.model, "model": other.model, "loss": other.loss, "optim": optim})
    path = work / corpus / f"{variant.model}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(recipe_text(mixed), encoding="utf-8")
    return path


def record(run: Run, folder: Path, scores: dict[str, Any]) -> dict[str, Any]:
    metrics, environment = read_metrics(folder), read_json(folder / "environment.json")
    end = metrics[-1]
    return {
        "corpus": run.corpus, "variant": run.variant.name, "seed": run.seed, "settings": list(run.trained.settings),
        "average": run.variant.average, "search": list(run.variant.search), "model": run.trained.model,
        "parameters": environment["parameters"], "threads": environment["threads"], "updates": end["update"],
        "wer": scores["wer"], "wer_p": scores["wer_p"], "errors": scores["errors"], "words": scores["words"],
        "valid_wer": end["best_wer"], "seconds": end["seconds"], "audio_seconds": end["audio_seconds"],
        "machine": machine(),
    }  # fmt: skip


def records(runs: Sequence[Run], work: Path, overrides: Sequence[str]) -> list[dict[str, Any]]:
    """The records of those runs that are done, in their order."""
    notes = [run.note(work, overrides) for run in runs]
    return [read_json(note) for note in notes if note.is_file()]


def table(found: Sequence[dict[str, Any]]) -> str:
    """Markdown: a line for each corpus and variant, compared with base on the same seeds."""
    lines = [
        "| corpus | variant | WER, each seed | mean | less base | hours of training |",
        "|---|---|---|---|---|---|",
    ]
    base = {(one["corpus"], one["seed"]): one["wer"] for one in found if one["variant"] == BASE}
    for corpus in RECIPES:
        for variant in VARIANTS:
            runs = [one for one in found if (one["corpus"], one["variant"]) == (corpus, variant.name)]
            if not runs:
                continue
            rates = [100 * one["wer"] for one in runs]
            less = [100 * (one["wer"] - base[key]) for one in runs if (key := (corpus, one["seed"])) in base]
            difference = f"{statistics.mean(less):+.2f}" if less and variant.name != BASE else ""
            hours = statistics.mean(one["seconds"] for one in runs) / 3600
            each = ", ".join(f"{rate:.2f}" for rate in rates)
            lines.append(
                f"| {corpus} | {variant.name} | {each} | {statistics.mean(rates):.2f} | {difference} | {hours:.2f} |"
            )
    return "\n".join(lines)


def named(name: str) -> Variant:
    return next(variant for variant in VARIANTS if variant.name == name)


if __name__ == "__main__":
    main()
