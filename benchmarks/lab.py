"""What the strategies buy at equal data order and equal audio heard, and what more hours buy.

    python -m benchmarks.lab --work lab --out benchmarks/results/lab.json
    python -m benchmarks.lab --table        what --out has, as Markdown

Every training process has one thread, and one run is on the machine at a time; with --at-once 2, runs of one process go
beside one another, two at a time, but for `single`, whose time others are compared with (the records tell it; two
commands that share nothing get 1.95 times the work of one done on two cores, says benchmarks.scaling). Runs are done
seed by seed, so that an unfinished laboratory has whole comparisons. --out is written after each run, one record a run,
and what it holds of the same recipe is not repeated: the laboratory goes on where --work is gone, too, on the next day
or the next machine (each record tells its own). A record of another recipe (another value of a setting) stays until its
run was made again. Under --work a run that was cut off goes on from its checkpoint.

Experiment `strategy`: the recipe's batches, the same ones in the same order, in each of the ways of CONDITIONS. G
batches per update mean G times fewer updates; with smaller batches there are updates until as much audio was heard. The
learning rate goes with the square root of the audio in an update, as is usual for Adam (Malladi et al. 2022): a rate
that was chosen for one size says little of another.
Experiment `scale`: the strategy `single` with 1/16, 1/4 and all of the training hours, with the same validation and
test calls and the same number of updates.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine
from speechmill.artefact import read_json, write_json
from speechmill.compare.power_law import fit_power_law
from speechmill.compare.runs import read_run
from speechmill.config import load_recipe
from speechmill.metrics import read_metrics
from speechmill.settings import Recipe
from speechmill.train.data import batches_of, open_train_index, open_train_tokenizer

OUT = Path("benchmarks/results/lab.json")
DIGITS = Path("../shared/data/digit_calls")
RECIPES = {"demo": Path("hparams/lab_demo.yaml"), "digits": Path("hparams/lab_digits.yaml")}
# Of the training hours; all of them have the runs of experiment `strategy`, condition `single`, told again as `scale`.
SHARES = {"1/16": 1 / 16, "1/4": 1 / 4}
# The error rate whose time is told: of single's final validation, the worst seed's, ten per cent more.
TARGET_SLACK = 1.1
_DRAWS = 10_000
_TWIN = ("scale", "all")
KEY = ("experiment", "corpus", "strategy", "processes", "share", "seed")
Key = tuple[str | int, ...]


@dataclass(frozen=True)
class Condition:
    """A way to train: `batches_per_update` batches make an update, each `divided` times smaller than the recipe's.

    `summed` of them are behind one step of an optimizer.
    """

    name: str
    strategy: str
    processes: int = 1
    batches_per_update: int = 1
    divided: int = 1
    summed: int = 1
    moments: str = "own"  # Hogwild's
    alone: float = 0.0  # Hogwild's: the share of updates, at the beginning, that one process makes

    def overrides(self, recipe: Recipe) -> list[str]:
        """Settings under which the recipe's audio is heard once over in this way; where batches are divided only about
        (`updates_to_hear` counts)."""
        schedule, train = recipe.schedule, recipe.train
        by = self.divided / self.batches_per_update
        return [
            f"train.strategy={self.strategy}",
            f"train.processes={self.processes}",
            f"train.hogwild_moments={self.moments}",
            f"train.hogwild_alone={round(train.updates * by * self.alone)}",
            f"schedule.batches_per_update={self.batches_per_update}",
            f"schedule.target_seconds={schedule.target_seconds / self.divided}",
            f"schedule.limit_seconds={max(schedule.limit_seconds / self.divided, recipe.select.max_seconds)}",
            f"train.updates={round(train.updates * by)}",
            f"train.validate_every={round(train.validate_every * by)}",
            f"train.checkpoint_every={round(train.checkpoint_every * by)}",
            f"optim.warmup_updates={round(recipe.optim.warmup_updates * by)}",
            f"optim.lr={recipe.optim.lr * (self.summed / self.divided) ** 0.5:.4g}",
        ]


CONDITIONS = (
    Condition("single", "single"),
    Condition("accumulation", "single", batches_per_update=2, summed=2),
    Condition("ddp", "ddp", processes=2, batches_per_update=2, summed=2),
    Condition("hogwild", "hogwild", processes=2),
    Condition("hogwild", "hogwild", processes=3),
    Condition("hogwild, an eighth alone", "hogwild", processes=2, alone=1 / 8),
    Condition("hogwild, shared moments", "hogwild", processes=2, moments="shared"),
    Condition("single, a third of the batch", "single", divided=3),
    Condition("local_sgd", "local_sgd", processes=2, batches_per_update=2),  # each steps after each of its batches
    # Where a larger batch costs nothing, stale updates should not either.
    Condition("hogwild, a third of the batch", "hogwild", processes=2, divided=3),
    Condition("hogwild, a third of the batch", "hogwild", processes=3, divided=3),  # the original's
)
# What a way is compared with: `single`, but for batches that are smaller.
BASELINES = {"hogwild, a third of the batch": "single, a third of the batch"}


@dataclass(frozen=True)
class Run:
    experiment: str
    corpus: str
    condition: Condition
    seed: int
    share: str = "all"  # of the training hours

    @property
    def key(self) -> Key:
        """What tells a record from the others: its values of KEY."""
        way = self.condition
        return (self.experiment, self.corpus, way.name, way.processes, self.share, self.seed)

    @property
    def folder(self) -> str:
        condition = self.condition.name.replace(", ", "-").replace(" ", "-")
        share = self.share.replace("/", "_of_")
        return f"{condition}-{self.condition.processes}-{share}-seed{self.seed}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("lab"), help="corpora and run folders")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--corpora", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--at-once", type=int, default=1, help="runs of one process beside one another")
    parser.add_argument("--most", type=int, help="runs to do in this call; the next one goes on")
    parser.add_argument("--table", action="store_true", help="show --out as Markdown, and do nothing else")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="for every run, e.g. to try the program")
    args = parser.parse_args()
    if args.overrides and args.out == OUT:
        parser.error(f"with settings of its own a trial needs an --out of its own: {OUT} holds runs of the recipes")
    if args.table:
        print(table(read_json(args.out)))
        return
    recipes = {corpus: fingerprint(corpus, args.overrides) for corpus in RECIPES}
    known, older = recorded(args.out, recipes)
    todo = [run for run in planned(args.corpora, args.seeds) if run.key not in known][: args.most]
    for runs, beside in turns(todo, args.at_once):
        for run in runs:
            prepared(run.corpus, run.share, args.work / run.corpus, RECIPES[run.corpus], args.overrides)
        with ThreadPoolExecutor(beside) as pool:
            for one in pool.map(lambda run: made(run, args.work, recipes, args.overrides), runs):
                known[tuple(one[name] for name in KEY)] = {**one, "at_once": beside}
                write_json(args.out, told({**older, **known}))
    write_json(args.out, told({**older, **known}))
    print(table(told({**older, **known})))


def turns(runs: Iterable[Run], at_once: int) -> Iterator[tuple[list[Run], int]]:
    """Runs in the order in which they are done, and how many of them beside one another: `single` by itself, the others
    of one process, the rest."""
    for _, group in groupby(runs, lambda run: (run.seed, run.corpus)):
        together = list(group)
        baseline = [run for run in together if (run.experiment, run.condition) == ("strategy", CONDITIONS[0])]
        company = [run for run in together if run.condition.processes == 1 and run not in baseline]
        yield baseline, 1
        # The longest first, so that the last is not left without company.
        yield sorted(company, key=lambda run: -run.condition.divided), at_once
        yield [run for run in together if run.condition.processes > 1], 1


def made(run: Run, work: Path, recipes: dict[str, str], overrides: list[str]) -> dict[str, Any]:
    """The record of a run, which is carried out where it is not."""
    folder = work / run.corpus / f"runs-{recipes[run.corpus]}" / run.folder
    if not is_scored(folder):
        carry_out(run, folder, work, overrides)
    return record(run, folder, recipes[run.corpus])


def told(known: dict[Key, dict[str, Any]]) -> list[dict[str, Any]]:
    """All records, in the order of the plan; `single` on the demo corpus is the whole of experiment `scale` too."""
    records = list(known.values())
    records += [
        {**one, "experiment": "scale"}
        for one in records
        if (one["experiment"], one["corpus"], one["strategy"]) == ("strategy", "demo", CONDITIONS[0].name)
    ]
    ways = list(dict.fromkeys([*(way.name for way in CONDITIONS), *(one["strategy"] for one in records)]))
    order = ("strategy", "scale")
    records.sort(
        key=lambda one: (
            one["seed"], one["corpus"], -order.index(one["experiment"]), ways.index(one["strategy"]),
            one["processes"], one["hours"],
        )
    )  # fmt: skip
    return with_targets(records)


def fingerprint(corpus: str, overrides: list[str]) -> str:
    """Of the settings of a corpus' recipe that are not as they come: one that is added since costs no record."""
    plain = load_recipe(RECIPES[corpus], overrides).model_dump(mode="json", exclude_defaults=True)
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


def recorded(out: Path, recipes: dict[str, str]) -> tuple[dict[Key, dict[str, Any]], dict[Key, dict[str, Any]]]:
    """What --out holds of these recipes and ways, and of others (a changed recipe, other overrides), which is told."""
    found = read_json(out) if out.is_file() else []
    # All hours of experiment `scale` are told again by `told`.
    found = [one for one in found if (one["experiment"], one["share"]) != _TWIN]
    ways = {way.name for way in CONDITIONS}
    known, older = {}, {}
    for one in found:
        same = one["recipe"] == recipes[one["corpus"]] and one["strategy"] in ways
        (known if same else older)[tuple(one[name] for name in KEY)] = one
    if older:
        print(
            f"{out}: {len(older)} records are of other recipes or ways; they stay until their runs are made again",
            file=sys.stderr,
        )
    return known, older


def planned(corpora: list[str], seeds: int) -> Iterator[Run]:
    """Every run, seed by seed."""
    for seed in range(seeds):
        for corpus in corpora:
            for condition in CONDITIONS:
                yield Run("strategy", corpus, condition, seed)
            if corpus == "demo":  # the digits have too few hours to divide
                for share in SHARES:
                    yield Run("scale", corpus, CONDITIONS[0], seed, share)


def carry_out(run: Run, folder: Path, work: Path, overrides: list[str]) -> None:
    """Prepare what is missing, train, score the test calls. The commands are those that users have."""
    recipe_path = RECIPES[run.corpus]
    recipe = load_recipe(recipe_path, overrides)
    data = place(run.share, work / run.corpus)
    seeds = [f"train.seed={run.seed}", f"schedule.seed={run.seed}"]
    places = [f"data.shards={data / 'shards'}", f"data.tokenizer={work / run.corpus / 'tokenizer.model'}"]
    settings = [*overrides, *run.condition.overrides(recipe), *seeds, *places]
    if run.condition.divided > 1:
        whole = load_recipe(recipe_path, [*overrides, *seeds, *places])
        settings.append(f"train.updates={updates_to_hear(whole, load_recipe(recipe_path, settings))}")
    print(f"-- {run.corpus} {run.folder}", file=sys.stderr)
    speechmill("train", recipe_path, "--run", folder, *settings)
    speechmill("evaluate", folder, "--split", "test")


def updates_to_hear(whole: Recipe, divided: Recipe) -> int:
    """Updates of one batch after which as much audio is heard in smaller batches as in the whole ones.

    Not just so many times more: an utterance that is longer than a small batch should be is one by itself.
    """
    batch_of, smaller = (
        batches_of(open_train_index(recipe), open_train_tokenizer(recipe), recipe, [0]).schedule
        for recipe in (whole, divided)
    )
    left = sum(batch_of.samples(number)[0] for number in range(whole.train.updates))
    updates = 0
    while left > 0:
        left -= smaller.samples(updates)[0]
        updates += 1
    return updates


def place(share: str, folder: Path) -> Path:
    """The folder of a share of a corpus' training hours."""
    return folder / share.replace("/", "_of_")


def prepared(corpus: str, share: str, folder: Path, recipe: Path, overrides: list[str]) -> Path:
    """The folder with the shards of a share of a corpus' training hours."""
    source = folder / "corpus" if corpus == "demo" else DIGITS
    if corpus == "demo":
        speechmill("demo-corpus", source)
    speechmill("import", "bizspeech", source, folder / "corpus.parquet")
    everything = place("all", folder)
    make_shards(folder, everything, recipe, overrides)
    speechmill("tokenizer", everything / "selected.parquet", folder / "tokenizer.model", "--recipe", recipe, *overrides)
    if share == "all":
        return everything
    hours = SHARES[share] * training_hours(everything)
    part = place(share, folder)
    make_shards(folder, part, recipe, [*overrides, f"select.hours={hours}"])
    return part


def make_shards(folder: Path, part: Path, recipe: Path, overrides: list[str]) -> None:
    speechmill("select", folder / "corpus.parquet", part / "selected.parquet", "--recipe", recipe, *overrides)
    speechmill("shard", part / "selected.parquet", part / "shards", "--recipe", recipe, *overrides)


def training_hours(part: Path) -> float:
    """Hours of the train split of a selection."""
    from speechmill.manifest import read_manifest

    table = read_manifest(part / "selected.parquet", ["start", "end", "split"])
    train = table.filter(table["split"] == "train")
    return float((train["end"] - train["start"]).sum() / 3600)


def is_scored(folder: Path) -> bool:
    return (folder / "scores" / "test.json").is_file()


def with_targets(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records with the time to the target of their corpus and recipe, which depends on all of them."""
    told = []
    for one in found:
        wanted = target(found, one["corpus"], one["recipe"])
        reached = [seconds for _, seconds, wer in one["validations"] if wanted is not None and wer <= wanted]
        told.append({**one, "target_wer": wanted, "seconds_to_target": min(reached, default=None)})
    return told


def target(found: list[dict[str, Any]], corpus: str, recipe: str) -> float | None:
    """The validation WER whose time is told."""
    baseline = ("strategy", CONDITIONS[0].name, corpus, recipe)
    finals = [
        one["validations"][-1][2]
        for one in found
        if (one["experiment"], one["strategy"], one["corpus"], one["recipe"]) == baseline
    ]
    return TARGET_SLACK * max(finals) if finals else None


def record(run: Run, folder: Path, recipe: str) -> dict[str, Any]:
    metrics, scores = read_metrics(folder), read_json(folder / "scores" / "test.json")
    environment, end, shares = read_json(folder / "environment.json"), metrics[-1], read_run(folder).shares
    part = place(run.share, folder.parents[1])
    return {
        "experiment": run.experiment,
        "corpus": run.corpus,
        "recipe": recipe,
        "strategy": run.condition.name,
        "processes": run.condition.processes,
        "threads": environment["threads"],
        "batches_per_update": run.condition.batches_per_update,
        "batch_divided_by": run.condition.divided,
        "share": run.share,
        "hours": round(training_hours(part), 4),
        "seed": run.seed,
        "updates": end["update"],
        "wer": scores["wer"],
        "errors": scores["errors"],
        "words": scores["words"],
        "calls": of_calls(folder / "scores" / "test.utterances.jsonl"),
        "valid_wer": end["best_wer"],
        "seconds": end["seconds"],
        "audio_seconds": end["audio_seconds"],
        "precision": environment["precision"],
        "shares": {name: round(share, 4) for name, share in (shares or {}).items()},
        "validations": [
            [line["update"], round(line["seconds"], 1), line["wer"]] for line in metrics if line["event"] == "valid"
        ],
        "machine": machine(),
    }


def of_calls(path: Path) -> dict[str, list[int]]:
    """Errors and words of each test call."""
    sums: dict[str, list[int]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        one = json.loads(line)
        call = sums.setdefault(one["block"], [0, 0])
        call[0] += one["errors"]
        call[1] += one["words"]
    return dict(sorted(sums.items()))


def table(found: list[dict[str, Any]]) -> str:
    """Markdown: each way beside its baseline on the seeds that both have; then what more hours bring."""
    mixed = [corpus for corpus in RECIPES if len({one["recipe"] for one in found if one["corpus"] == corpus}) > 1]
    lines = [f"**{corpus}: runs of several recipes are compared with one another.**" for corpus in mixed]
    for corpus in RECIPES:
        runs = [one for one in found if (one["experiment"], one["corpus"]) == ("strategy", corpus)]
        ways = list(dict.fromkeys((one["strategy"], one["processes"]) for one in runs))
        if not ways:
            continue
        lines += [
            "",
            "| " + corpus + " | processes | WER, each seed | mean | errors | relative to baseline | its time | "
            "its audio | seconds to " + f"{100 * (runs[0]['target_wer'] or 0):.1f} % |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        lines += [_row(way, runs) for way in ways]
        lines += [
            "",
            "Baseline: `single`, at equal audio heard; of batches that are a third, `single` with the same. ~: of the "
            "two, one had another run of one process beside it.",
        ]
    scale = [one for one in found if one["experiment"] == "scale"]
    if scale:
        lines += ["", "| hours | WER, each seed | mean |", "|---|---|---|"]
    for hours in sorted({one["hours"] for one in scale}):
        rates = [100 * one["wer"] for one in scale if one["hours"] == hours]
        lines.append(f"| {hours:.2f} | {_each(rates)} | {statistics.mean(rates):.2f} |")
    law = fit_power_law([one["hours"] for one in scale], [one["wer"] for one in scale]) if scale else None
    if law:
        terms = [
            f"{name} = {value:.3g} ({low:.3g} to {high:.3g})"
            for name, value, (low, high) in (
                ("a", law.a, law.a_interval), ("b", law.b, law.b_interval), ("c", law.c, law.c_interval),
            )
        ]  # fmt: skip
        amounts = len({one["hours"] for one in scale})
        lines += ["", f"error = a + b × hours^−c through {amounts} amounts: " + ", ".join(terms)]
    return "\n".join(lines).strip()


def _row(way: tuple[str, int], runs: list[dict[str, Any]]) -> str:
    mine = [one for one in runs if (one["strategy"], one["processes"]) == way]
    against = BASELINES.get(way[0], CONDITIONS[0].name)
    baseline = {(one["seed"], one["recipe"]): one for one in runs if one["strategy"] == against}
    same = [(one, baseline.get((one["seed"], one["recipe"]))) for one in mine if way[0] != against]
    pairs = [(one, other) for one, other in same if other is not None]
    reached = [one["seconds_to_target"] for one in mine]
    cells = [
        way[0],
        str(way[1]),
        _each([100 * one["wer"] for one in mine]),
        f"{statistics.mean(100 * one['wer'] for one in mine):.2f}",
        str(sum(one["errors"] for one in mine)),
        relative(pairs) if pairs else "",
        "~" * any(one.get("at_once") != other.get("at_once") for one, other in pairs)
        + (f"{_times(pairs, 'seconds'):.2f}" if pairs else "1"),
        f"{_times(pairs, 'audio_seconds'):.3f}" if pairs else "1",
        "never" if None in reached else f"{statistics.mean(reached):.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def _times(pairs: list[tuple[dict[str, Any], dict[str, Any]]], name: str) -> float:
    return statistics.mean(one[name] / single[name] for one, single in pairs)


def relative(pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    """The error rate over single's, less one, all seeds together, and its 95 % interval.

    The interval is a bootstrap over seeds and, within each draw of them, over calls, the same for both sides, and the
    same calls for all seeds that have the same ones. Three seeds are few: it is rather too short than too long.
    """
    # Of each seed [calls, (errors, words) of the one, of single].
    sums = [
        np.array([[*one["calls"][call], *single["calls"][call]] for call in single["calls"]], dtype=np.float64)
        for one, single in pairs
    ]
    tests = {tuple(single["calls"]): len(single["calls"]) for _, single in pairs}
    places = [list(tests).index(tuple(single["calls"])) for _, single in pairs]
    dice = np.random.default_rng(0)
    drawn = np.zeros((_DRAWS, 4))
    for draw in range(_DRAWS):
        calls = [dice.integers(0, size, size) for size in tests.values()]
        for seed in dice.integers(0, len(sums), len(sums)):
            drawn[draw] += sums[seed][calls[places[seed]]].sum(0)
    low, high = np.quantile(_ratio(drawn), [0.025, 0.975])
    value = _ratio(sum(one.sum(0) for one in sums)[None])[0]
    return f"{100 * value:+.1f} % ({100 * low:+.1f} to {100 * high:+.1f})"


def _ratio(sums: Any) -> Any:
    """Infinite where only single made no error (few calls are drawn), 0 where neither did."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (sums[:, 0] / sums[:, 1]) / (sums[:, 2] / sums[:, 3]) - 1
    return np.nan_to_num(ratio, nan=0.0, posinf=np.inf)


def _each(rates: list[float]) -> str:
    return ", ".join(f"{rate:.2f}" for rate in rates)


def speechmill(*words: object) -> None:
    command = [str(Path(sys.executable).with_name("speechmill")), *map(str, words)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
