"""What `benchmarks.recipes` compares: named variants of a recipe for each corpus, and the runs that they make.

A variant differs from `base` in the settings that are named here, and in nothing else: the same data, batches, updates
and seeds, one thread a run. One with a `model` takes that recipe's model, loss and optimizer. One that is `of` another
has no training of its own: it averages that one's checkpoints, searches otherwise, or ends it earlier.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from speechmill.config import load_recipe, recipe_from_plain
from speechmill.settings import Recipe, recipe_text

BASE = "base"
BASES = {"demo": Path("hparams/ctc_small.yaml"), "digits": Path("hparams/lab_digits.yaml")}
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo")  # of the digits; seed i leaves speaker i out
ROOMS = "augment.reverb_folder=ROOMS"  # stands for the folder of `recipes.make_rooms`
# Ten validations a run, and the checkpoints that averages are made of: the last five span an eighth of the run.
_PACE = {
    "demo": ("train.validate_every=300", "train.checkpoint_every=75", "train.nominal_epoch=300"),
    "digits": ("train.updates=2400", "train.validate_every=240", "train.checkpoint_every=60",
               "train.nominal_epoch=240"),  # with 1,600 some seeds stay on CTC's plateau
}  # fmt: skip
_GREEDY = ("search.kind=greedy", "search.lm_order=0", "search.ctc_weight=0")
_PLAIN = ("train.threads=1", *_GREEDY)


@dataclass(frozen=True)
class Variant:
    name: str
    settings: tuple[str, ...] = ()
    corpora: tuple[str, ...] = ("demo", "digits")
    model: str = ""  # a recipe under hparams/ whose model, loss and optimizer it takes
    of: str = ""  # the variant whose runs it evaluates, where it has none of its own
    average: str = ""  # see `speechmill evaluate --average`
    search: tuple[str, ...] = ()  # instead of greedy
    stop: tuple[str, ...] = ()  # the patience with which the run that it is `of` would have ended
    seeds: int = len(SPEAKERS)  # at most

    @property
    def words(self) -> str:
        """The name, for files."""
        return self.name.replace(",", "").replace(" / ", "-by-").replace(" ", "-")


_SPEED = "augment.speed=[0.9, 1.1]"
_MASKS = ("augment.time_masks=2", "augment.time_mask_frames=10", "augment.frequency_masks=2",
          "augment.frequency_mask_bins=6")  # fmt: skip
_KEEP = ("train.keep_best=5", "train.keep_last=5")
_EVERY = ("train.keep_best=25", "train.keep_last=5")  # each validation's
_CONSTANT = "optim.schedule=constant"
_NEWBOB = ("optim.schedule=newbob", "optim.anneal_factor=0.5")
_LOSS, _WER = ("train.stagnant_epochs=3", "train.stagnant_share=0.05"), ("train.stagnant_validations=2",)
_BEAM = ("search.kind=beam", "search.beam=8")
_NGRAM = ("search.lm_order=6", "search.lm_weight=0.8", "search.length_bonus=1.5")
_DEMO, _DIGITS = ("demo",), ("digits",)
VARIANTS = (
    Variant(BASE, _KEEP),
    Variant("average best-5", of=BASE, average="best-5"),
    Variant("average last-5", of=BASE, average="last-5"),
    Variant("beam 8", of=BASE, search=_BEAM),
    Variant("beam 8, 6-gram", of=BASE, search=(*_BEAM, *_NGRAM)),
    # The learning rate.
    Variant("rate / 2", ("optim.lr=1e-3",), _DEMO),
    Variant("rate / 2", ("optim.lr=5e-4",), _DIGITS),
    Variant("constant", (_CONSTANT, *_EVERY)),
    Variant("constant, average best-5", of="constant", average="best-5"),
    Variant("constant, average last-5", of="constant", average="last-5"),
    Variant("constant, stagnant epochs 3", of="constant", stop=_LOSS),
    Variant("constant, stagnant validations 2", of="constant", stop=_WER),
    Variant("constant, 6000 updates", (_CONSTANT, *_EVERY, "train.updates=6000"), _DIGITS),
    Variant("constant, 6000, stagnant epochs 3", of="constant, 6000 updates", stop=_LOSS, corpora=_DIGITS),
    Variant("constant, 6000, stagnant validations 2", of="constant, 6000 updates", stop=_WER, corpora=_DIGITS),
    Variant("warm-up, stable, decay", ("optim.schedule=wsd", "optim.decay_share=0.3")),
    Variant("noam, warm-up 400", ("optim.schedule=noam", "optim.warmup_updates=400"), _DEMO),
    Variant("noam", ("optim.schedule=noam",), _DIGITS),
    # On CTC's plateau no validation is better than the one before; of the demo each gains a tenth for long.
    Variant("newbob", (*_NEWBOB, "optim.anneal_below=0.1", *_EVERY), _DEMO),
    Variant("newbob", (*_NEWBOB, "optim.anneal_below=0.02", "optim.anneal_patience=1", *_EVERY), _DIGITS),
    Variant("newbob, stagnant validations 2", of="newbob", stop=_WER),
    Variant("constant, moving average", (_CONSTANT, "train.average_decay=0.995")),
    # What is heard. The digits' recipe has augmentation, which is left out in turn; the demo's has none.
    Variant("SpecAugment", _MASKS),
    Variant("speed", (_SPEED,), _DEMO),
    Variant("white noise", ("augment.noise_db=[10, 40]",), _DEMO),
    Variant("babble", ("augment.noise_db=[10, 40]", "augment.noise_kinds=[babble]"), _DEMO),
    Variant("rooms", (ROOMS, "augment.reverb_share=0.5")),
    Variant("without speed", ("augment.speed=[1.0, 1.0]",), _DIGITS),
    Variant("without noise", ("augment.noise_db=null",), _DIGITS),
    Variant("white noise and babble", ("augment.noise_kinds=[white, babble]",), _DIGITS),
    Variant("without warp and tilt", ("augment.warp=[1.0, 1.0]", "augment.tilt=0"), _DIGITS),
    # What is learned.
    Variant("normalised text", ("tokenizer.text=normalized",), _DEMO),
    Variant("normalised text, 24 pieces", ("tokenizer.text=normalized", "tokenizer.size=24"), _DIGITS),  # there are no
    Variant("25 pieces", ("tokenizer.size=25",), _DIGITS),  # more, and as written no fewer than 25: to compare it with
    # The model.
    Variant("demo model", corpora=_DEMO, model="demo"),
    Variant("ctc_small", corpora=_DIGITS, model="ctc_small"),  # the demo's base has this model
    Variant("conformer", model="conformer"),
    Variant("conformer, beam", corpora=_DIGITS, of="conformer", search=(*_BEAM, "search.ctc_weight=0.4")),
    Variant("attention", corpora=_DEMO, model="demo_aed", seeds=1),
    Variant("attention, beam", corpora=_DEMO, of="attention", search=(*_BEAM, "search.ctc_weight=0.4"), seeds=1),
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

    @property
    def recipe(self) -> Recipe:
        """All settings of its training but seeds and places."""
        return _recipe(self.corpus, self.trained.variant, self.overrides)

    @cached_property
    def fingerprint(self) -> str:
        """Of all that the run is trained and evaluated with, but seed and places."""
        how = (recipe_text(self.recipe), self.variant.average, self.variant.search, self.variant.stop, self.searches)
        return hashlib.sha256(repr(how).encode()).hexdigest()[:12]

    @property
    def searches(self) -> dict[str, tuple[str, ...]]:
        """Settings of those with which it is scored: its own, and on the demo corpus that of the whole recipe, which
        has a language model."""
        found = {"": self.variant.search}
        if self.corpus == "demo" and not self.variant.search:
            search = _shipped(self.trained.variant.model or "demo").search
            names = sorted(
                search.model_fields_set | {name.partition("=")[0].removeprefix("search.") for name in _GREEDY}
            )
            found["shipped"] = tuple(f"search.{name}={getattr(search, name)}" for name in names)
        return found

    def data(self, work: Path) -> Path:
        """Where corpus, shards and tokenizer are."""
        return work / (self.corpus if self.corpus == "demo" else f"{self.corpus}-{SPEAKERS[self.seed]}")

    @property
    def split(self) -> list[str]:
        """How the seed's test calls are chosen."""
        if self.corpus == "demo":
            return []
        left_out = f"select.test_where={{speaker: [{SPEAKERS[self.seed]}]}}"
        return [left_out, "select.shares={train: 0.9, valid: 0.1, test: 0.0}"]

    def folder(self, work: Path) -> Path:
        """Of its training, named after all settings of that: of others it is another."""
        run = self.trained
        return work / run.corpus / "variants" / f"{run.variant.words}-{run.fingerprint}-seed{run.seed}"

    def note(self, work: Path) -> Path:
        """The record of the run, once it is done."""
        return work / self.corpus / "records" / f"{self.variant.words}-{self.fingerprint}-seed{self.seed}.json"


# Read once: what is changed under hparams/ while runs are made is of the next call.
@cache
def _recipe(corpus: str, variant: Variant, overrides: tuple[str, ...]) -> Recipe:
    base, plain = BASES[corpus], (*_PLAIN, *_PACE[corpus])
    if not variant.model:
        return load_recipe(base, [*plain, *variant.settings, *overrides])
    ours, other = load_recipe(base, [*plain, *overrides]), _shipped(variant.model)
    warmup = min(other.optim.warmup_updates, ours.train.updates // 4)
    optim = other.optim.model_copy(update={"warmup_updates": warmup})
    mixed = {"name": variant.model, "model": other.model, "loss": other.loss, "optim": optim}
    return recipe_from_plain(ours.model_copy(update=mixed).plain(), base)


@cache
def _shipped(name: str) -> Recipe:
    return load_recipe(Path(f"hparams/{name}.yaml"))


def planned(
    corpora: Sequence[str], seeds: int, names: Sequence[str] | None = None, overrides: tuple[str, ...] = ()
) -> Iterator[Run]:
    """Every run, seed by seed."""
    for seed in range(seeds):
        for corpus in corpora:
            for variant in VARIANTS:
                if corpus in variant.corpora and seed < variant.seeds and (names is None or variant.name in names):
                    yield Run(corpus, variant, seed, overrides)


def named(name: str, corpus: str) -> Variant:
    """The variant of a corpus that has this name."""
    return next(variant for variant in VARIANTS if variant.name == name and corpus in variant.corpora)
