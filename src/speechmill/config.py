"""Recipes: YAML with includes and overrides -> one validated, frozen `Recipe`.

A recipe file is a mapping of sections. `include:` names other recipe files (relative to the file); what the file says
itself wins over what it includes, and `key.path=value` on the command line wins over both. Every mistake is one line
with the file, the line and the key.
"""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from speechmill.artefact import fingerprint, read_text
from speechmill.errors import SpeechmillError

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
_BRANCHES = {"crdnn", "ctc", "list[str]", "str"}


class Section(BaseModel):
    """Settings are frozen, and a key that nobody reads is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class Shares(Section):
    """Shares of the calls (by seconds) that go to each split."""

    train: Share = 0.8
    valid: Share = 0.1
    test: Share = 0.1

    @model_validator(mode="after")
    def _sum(self) -> Shares:
        if abs(self.train + self.valid + self.test - 1.0) > 1e-6:
            raise ValueError(f"train + valid + test is {self.train + self.valid + self.test:g}, expected 1")
        return self


class SelectSettings(Section):
    """Which utterances, which split. Lists of calls are call ids, or one path of a file with an id a line."""

    hours: Positive | None = None  # of training audio; None takes all
    shares: Shares = Shares()
    native_share: Share | None = None  # of the training seconds
    qa_share: Share | None = None  # of the training seconds
    ceo_only: bool = False
    min_seconds: Annotated[float, Field(ge=0.0)] = 1.0
    max_seconds: Positive = 60.0
    include: list[str] | str = []  # these calls first, then others
    include_only: list[str] | str = []
    exclude: list[str] | str = []
    valid_calls: list[str] | str = []
    test_calls: list[str] | str = []
    test_where: dict[str, list[str]] = {}  # column -> values whose calls are the test split
    disjoint: list[str] = []  # columns (speaker, company, ...) of which no value is on two sides
    drop_text: list[str] = []  # regular expressions: rows whose text matches are dropped
    seed: int = 0

    @model_validator(mode="after")
    def _limits(self) -> SelectSettings:
        if self.min_seconds >= self.max_seconds:
            raise ValueError(f"min_seconds {self.min_seconds:g} is not below max_seconds {self.max_seconds:g}")
        for pattern in self.drop_text:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"drop_text: {pattern!r} is not a regular expression ({error})") from error
        return self


class ShardSettings(Section):
    """How audio is stored."""

    sample_rate: Count = 16000  # Hz
    shard_seconds: Positive = 5400.0  # of audio in a shard, about
    group_shards: Count = 8  # the utterances of a group of calls are dealt over this many shards
    seed: int = 0


class TokenizerSettings(Section):
    kind: Literal["bpe", "unigram", "char"] = "bpe"
    size: Count = 5000  # with blank, unknown, BOS and EOS
    character_coverage: Annotated[float, Field(gt=0.9, le=1.0)] = 1.0
    text: Literal["as_written", "normalized"] = "as_written"


class FeatureSettings(Section):
    """Log-mel filter banks."""

    sample_rate: Count = 16000  # Hz
    n_mels: Count = 40
    n_fft: Count = 400
    window_ms: Positive = 25.0
    hop_ms: Positive = 10.0
    floor_db: Positive = 80.0  # below an utterance's loudest bin; what is quieter is raised to it
    utterance_mean: bool = False  # subtract each utterance's own mean per bin: takes the microphone out
    statistics_batches: Count = 200  # the frozen mean and variance come from this many batches

    @model_validator(mode="after")
    def _window(self) -> FeatureSettings:
        samples = round(self.sample_rate * self.window_ms / 1000)
        if samples > self.n_fft:
            raise ValueError(f"window_ms {self.window_ms:g} is {samples} samples, more than n_fft {self.n_fft}")
        return self


class CrdnnSettings(Section):
    """The thesis's recognizer, of SpeechBrain's modules: CRDNN, location-aware attention, joint CTC."""

    kind: Literal["crdnn"] = "crdnn"
    cnn_channels: list[Count] = [128, 256]
    cnn_kernel: Count = 3
    time_pooling: Count = 4
    rnn_layers: Count = 4
    rnn_size: Count = 512
    dnn_blocks: Count = 2
    dnn_size: Count = 256
    dropout: Share = 0.15
    embedding_size: Count = 128
    decoder_size: Count = 512
    attention_size: Count = 512
    attention_channels: Count = 10
    attention_kernel: Count = 100  # the window is twice this plus one frames


class CtcSettings(Section):
    """A small CTC recognizer for CPUs: strided convolutions, then bidirectional LSTM blocks."""

    kind: Literal["ctc"] = "ctc"
    channels: Count = 32  # of the strided 2-D convolutions
    stride: Literal[4, 8] = 4  # frames into one
    size: Count = 256
    layers: Count = 4
    inner_ctc: Share = 0.3  # of the loss, for CTC on the outputs of the inner blocks
    dropout: Share = 0.1


ModelSettings = Annotated[CrdnnSettings | CtcSettings, Field(discriminator="kind")]


class ScheduleSettings(Section):
    """Which utterances form which batch, and which batches form which update."""

    seed: int = 0
    target_seconds: Positive = 180.0  # padded audio a batch aims at
    limit_seconds: Positive = 240.0  # padded audio a batch never exceeds (a longer utterance is alone in its batch)
    max_tokens: Natural = 0  # padded target tokens a batch never exceeds; 0: no limit
    batches_per_update: Count = 1  # G
    window_shards: Count = 8  # shards whose utterances are shuffled together
    length_jitter: Share = 0.01  # relative noise on lengths before sorting: more mixes batches, and pads
    lanes: Count = 1  # L: batch i comes from lane i mod L
    order: Literal["random", "ascending", "descending"] = "random"  # of batches, by length
    order_epochs: Natural = 1  # how many epochs follow `order`, then random; 0: all

    @model_validator(mode="after")
    def _limits(self) -> ScheduleSettings:
        if self.limit_seconds < self.target_seconds:
            raise ValueError(f"limit_seconds {self.limit_seconds:g} is below target_seconds {self.target_seconds:g}")
        return self


class LossSettings(Section):
    """Joint loss of an attention recognizer; a CTC recognizer has CTC alone."""

    ctc_weight: Share = 0.5
    ctc_epochs: Natural = 15  # nominal epochs with CTC, the rest without; 0: always with
    label_smoothing: Share = 0.1


class OptimSettings(Section):
    kind: Literal["adam", "adamw", "sgd"] = "adam"
    lr: Positive = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_updates: Natural = 0
    final_lr: Share = 0.01  # of lr, where linear and cosine end
    clip_norm: Annotated[float, Field(ge=0.0)] = 5.0  # 0: no clipping


class AugmentSettings(Section):
    """Augmentation on the training device, seeded by (seed, batch number)."""

    speed: tuple[Positive, Positive] = (1.0, 1.0)  # range of factors; resamples, so that pitch moves along
    warp: tuple[Positive, Positive] = (1.0, 1.0)  # range of factors that stretch the mel axis (vocal tract length)
    tilt: Share = 0.0  # up to this slope of a one-tap filter, either way: another microphone
    gain_db: Annotated[float, Field(ge=0.0)] = 0.0  # up to so many decibels louder or softer
    noise_db: tuple[float, float] | None = None  # signal-to-noise ratios between which white or coloured noise is added
    time_masks: Natural = 0
    time_mask_frames: Natural = 0
    time_mask_share: Share = 0.2  # of an utterance, at most, for each mask
    frequency_masks: Natural = 0
    frequency_mask_bins: Natural = 0

    @model_validator(mode="after")
    def _ranges(self) -> AugmentSettings:
        for name in ("speed", "warp", "noise_db"):
            limits = getattr(self, name)
            if limits is not None and limits[0] > limits[1]:
                raise ValueError(f"{name}: from {limits[0]:g} to {limits[1]:g}; the lower number comes first")
        if self.time_masks and not (self.time_mask_frames and self.time_mask_share):
            raise ValueError(f"time_masks {self.time_masks} have no width; set time_mask_frames and time_mask_share")
        if self.frequency_masks and not self.frequency_mask_bins:
            raise ValueError(f"frequency_masks {self.frequency_masks} have no width; set frequency_mask_bins")
        return self


class SearchSettings(Section):
    kind: Literal["greedy", "beam"] = "greedy"
    beam: Count = 8
    lm_order: Natural = 0  # of a token n-gram model from the train text; 0: none
    lm_weight: Annotated[float, Field(ge=0.0)] = 0.5
    length_bonus: float = 0.0  # added to a hypothesis's log probability for each token


class TrainSettings(Section):
    strategy: Literal["single", "ddp", "hogwild", "local_sgd"] = "single"
    processes: Count = 1
    seed: int = 0
    updates: Count = 250_000
    nominal_epoch: Count = 5000  # updates
    validate_every: Count = 5000  # updates
    validate_utterances: Natural = 0  # of the validation split, the same ones each time; 0: all
    checkpoint_every: Count = 1000  # updates
    keep_last: Count = 2
    keep_best: Count = 1
    log_every: Count = 50  # updates
    max_nonfinite: Count = 20  # skipped updates in a row, then training stops
    loader_workers: Natural = 2
    threads: Natural = 0  # of PyTorch in the training process; 0: all cores
    device: Literal["auto", "cpu", "cuda"] = "auto"
    # auto: bfloat16 autocast where the device is fast at it, float32 elsewhere
    precision: Literal["auto", "float32", "bfloat16", "float64"] = "float32"


class DataSettings(Section):
    """Where training finds its artefacts. Relative paths are relative to the working directory."""

    shards: str = ""
    tokenizer: str = ""


class Recipe(Section):
    name: str = "recipe"
    data: DataSettings = DataSettings()
    select: SelectSettings = SelectSettings()
    shard: ShardSettings = ShardSettings()
    tokenizer: TokenizerSettings = TokenizerSettings()
    features: FeatureSettings = FeatureSettings()
    model: ModelSettings = CrdnnSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    loss: LossSettings = LossSettings()
    optim: OptimSettings = OptimSettings()
    augment: AugmentSettings = AugmentSettings()
    search: SearchSettings = SearchSettings()
    train: TrainSettings = TrainSettings()

    @model_validator(mode="after")
    def _clashes(self) -> Recipe:
        if self.features.sample_rate != self.shard.sample_rate:
            raise ValueError(
                f"features.sample_rate {self.features.sample_rate} is not shard.sample_rate {self.shard.sample_rate}"
            )
        if isinstance(self.model, CrdnnSettings) and self.search.kind == "beam" and self.search.lm_order:
            raise ValueError("search.lm_order works with model.kind ctc; set search.lm_order=0")
        if self.optim.warmup_updates >= self.train.updates:
            raise ValueError(
                f"optim.warmup_updates {self.optim.warmup_updates} is not below train.updates {self.train.updates}"
            )
        if self.train.strategy == "single" and self.train.processes != 1:
            raise ValueError(f"train.strategy single has one process, train.processes is {self.train.processes}")
        return self

    def plain(self) -> dict[str, Any]:
        """The recipe as plain data, for YAML and JSON."""
        return self.model_dump(mode="json")

    def model_fingerprint(self) -> str:
        """Names what a checkpoint's weights fit: features, model and tokenizer settings."""
        parts = {"features": self.features, "model": self.model, "tokenizer": self.tokenizer}
        return fingerprint({name: part.model_dump(mode="json") for name, part in parts.items()})


@dataclass
class _Source:
    """Raw settings with the place that each key came from, for messages."""

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[tuple[str, ...], str] = field(default_factory=dict)

    def put(self, path: tuple[str, ...], value: Any, place: str) -> None:
        """Set one leaf; a mapping is merged, anything else replaces."""
        self.places[path] = place
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                self.put((*path, str(key)), inner, place)
            return
        target = self.values
        for key in path[:-1]:
            if not isinstance(target.get(key), dict):
                target[key] = {}
            target = target[key]
        target[path[-1]] = value

    def place(self, path: Sequence[str]) -> str:
        for end in range(len(path), 0, -1):
            if tuple(path[:end]) in self.places:
                return self.places[tuple(path[:end])]
        below = (place for known, place in self.places.items() if known[: len(path)] == tuple(path))
        return next(below, "recipe")


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read, merge and check a recipe. Raises SpeechmillError: one line with the file, the line and the key."""
    source = _Source()
    _read_file(path, source, ())
    _put_overrides(source, overrides)
    return _validate(source, path)


def recipe_from_plain(values: dict[str, Any], path: Path) -> Recipe:
    """The recipe of a run folder's resolved config."""
    source = _Source()
    for key, value in values.items():
        source.put((key,), value, str(path))
    return _validate(source, path)


def override_recipe(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """A recipe with some settings replaced."""
    source = _Source()
    for key, value in recipe.plain().items():
        source.put((key,), value, "recipe")
    _put_overrides(source, overrides)
    return _validate(source, Path("recipe"))


def _read_file(path: Path, source: _Source, parents: tuple[Path, ...]) -> None:
    if path.resolve() in parents:
        raise SpeechmillError(f"{path}: includes itself ({' -> '.join(str(parent) for parent in parents)}).")
    text = read_text(path)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise SpeechmillError(f"{path}{line}: not valid YAML ({getattr(error, 'problem', error)}).") from error
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise SpeechmillError(f"{path}: a mapping of sections was expected, found {type(values).__name__}.")
    lines = _lines_by_key(node, path)
    includes = values.pop("include", [])
    includes = [includes] if isinstance(includes, str) else includes
    if not isinstance(includes, list) or not all(isinstance(name, str) for name in includes):
        raise SpeechmillError(
            f"{path}, line {lines[('include',)]}: include: a recipe file or a list of them was expected, "
            f"found {includes!r}."
        )
    for name in includes:
        _read_file(path.parent / name, source, (*parents, path.resolve()))
    _drop_changed_kind(source, values)
    for key, value in values.items():
        _put_with_lines(source, (str(key),), value, path, lines)


def _drop_changed_kind(source: _Source, values: dict[str, Any]) -> None:
    # Another kind of model has other keys: those of the included one must not linger.
    old, new = source.values.get("model"), values.get("model")
    if not isinstance(old, dict) or not isinstance(new, dict):
        return
    if "kind" in old and "kind" in new and old["kind"] != new["kind"]:
        source.values["model"] = {}


def _put_with_lines(
    source: _Source, path: tuple[str, ...], value: Any, file: Path, lines: dict[tuple[str, ...], int]
) -> None:
    place = f"{file}, line {lines.get(path, 0)}"
    if isinstance(value, dict) and value:
        source.places[path] = place
        for key, inner in value.items():
            _put_with_lines(source, (*path, str(key)), inner, file, lines)
    else:
        source.put(path, value, place)


def _lines_by_key(node: yaml.Node | None, path: Path) -> dict[tuple[str, ...], int]:
    lines: dict[tuple[str, ...], int] = {}
    for key, line in _lines(node, ()) if node is not None else ():
        if key in lines:  # YAML would take the last one and forget the others
            raise SpeechmillError(f"{path}, line {line}: {'.'.join(key)} is there twice, first in line {lines[key]}.")
        lines[key] = line
    return lines


def _lines(node: yaml.Node, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*path, str(key.value))
            yield inner, key.start_mark.line + 1
            yield from _lines(value, inner)


def _put_overrides(source: _Source, overrides: Sequence[str]) -> None:
    # The kind of the model first: it drops the settings of the other kind, and must not drop other overrides.
    for override in sorted(overrides, key=lambda override: not override.startswith(("model.kind=", "model="))):
        _put_override(source, override)


def _put_override(source: _Source, override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise SpeechmillError(f"{override!r}: an override is written key.path=value, e.g. train.updates=100.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpeechmillError(f"{override!r}: the value is not valid YAML.") from error
    path = tuple(key.strip().split("."))
    if path in {("model",), ("model", "kind")}:
        _drop_changed_kind(source, {"model": value if path == ("model",) else {"kind": value}})
    source.put(path, value, "command line")


def _validate(source: _Source, path: Path) -> Recipe:
    _check_keys(source, Recipe, source.values, ())
    try:
        return Recipe.model_validate(source.values)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        # pydantic puts the branch of a union into the path.
        keys = [str(part) for part in first["loc"] if part not in _BRANCHES]
        message = _message(first["type"], first["msg"].removeprefix("Value error, "), first.get("input"))
        found = first.get("input")
        shown = f", found {found!r}" if not isinstance(found, dict | BaseModel) else ""
        place = source.place(keys) if keys else str(path)
        name = f"{'.'.join(keys)}: " if keys else ""
        raise SpeechmillError(f"{place}: {name}{message}{shown}.") from error


def _message(kind: str, message: str, found: Any) -> str:
    if kind in {"union_tag_not_found", "union_tag_invalid"}:
        return f"kind {'is missing' if kind == 'union_tag_not_found' else 'is not known'}, expected 'crdnn' or 'ctc'"
    if kind == "string_type" and isinstance(found, int | float):
        return f"{message} (put it in quotes)"
    return message


def _check_keys(source: _Source, kind: type[BaseModel], values: dict[str, Any], path: tuple[str, ...]) -> None:
    """Unknown keys first, each with the nearest known one: pydantic's own message does not say it."""
    for key, value in values.items():
        place = source.place((*path, key))
        if key not in kind.model_fields:
            raise SpeechmillError(f"{place}: unknown key {'.'.join((*path, key))!r}{_nearest(key, kind, path)}")
        annotation = kind.model_fields[key].annotation
        if isinstance(value, bool) and annotation is not bool:
            # YAML reads yes, no, on and off as truth values, and pydantic would take them for 1 and 0.
            raise SpeechmillError(f"{place}: {'.'.join((*path, key))}: found {value}, which is no value of this key.")
        inner = _section_of(annotation, value)
        if inner is None:
            continue
        if not isinstance(value, dict):
            raise SpeechmillError(
                f"{place}: {'.'.join((*path, key))} is a section with the keys {', '.join(inner.model_fields)}, "
                f"found {value!r}."
            )
        _check_keys(source, inner, value, (*path, key))


def _section_of(annotation: Any, value: Any) -> type[BaseModel] | None:
    """The section class that a field holds; among several, the one whose `kind` the value names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        classes = [
            choice for choice in typing.get_args(annotation) if isinstance(choice, type) and issubclass(choice, Section)
        ]
        named = value.get("kind") if isinstance(value, dict) else None
        for choice in classes:
            if named == choice.model_fields["kind"].default:
                return choice
    return None


def _nearest(key: str, kind: type[BaseModel], path: tuple[str, ...]) -> str:
    """The nearest known key, here or in any section."""
    for other in (CrdnnSettings, CtcSettings) if path == ("model",) else ():
        if key in other.model_fields:
            return f"; it belongs to model.kind {other.model_fields['kind'].default}."
    for name, section in Recipe.model_fields.items():
        inner = _section_of(section.annotation, {"kind": "crdnn"})
        if inner is not None and key in inner.model_fields:
            return f"; did you mean '{name}.{key}'?"
    here = difflib.get_close_matches(key, list(kind.model_fields), n=1, cutoff=0.5)
    if here:
        return f"; did you mean {'.'.join((*path, here[0]))!r}?"
    return f"; known here: {', '.join(kind.model_fields)}."
