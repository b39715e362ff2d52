"""The settings of a recipe, section by section: typed, frozen, checked. `config` reads them from YAML."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from speechmill.artefact import fingerprint

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]


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


class AlignSettings(Section):
    """Which utterances `align` makes of the sentences that it found."""

    min_seconds: Annotated[float, Field(ge=0.0)] = 1.0  # shorter sentences join a neighbour of the same speaker
    max_seconds: Positive = 30.0  # longer ones are cut at pauses
    join_seconds: Annotated[float, Field(ge=0.0)] = 0.0  # join up to this length; 0: short ones only
    hear_rest: bool = False  # ctc: also utterances of speech that no sentence has, with what the model hears

    @model_validator(mode="after")
    def _limits(self) -> AlignSettings:
        if self.min_seconds >= self.max_seconds:
            raise ValueError(f"min_seconds {self.min_seconds:g} is not below max_seconds {self.max_seconds:g}")
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
    min_confidence: Share | None = None  # of aligned utterances; None takes all
    silence_seconds: Annotated[float, Field(ge=0.0)] = 0.0  # left around aligned utterances, from none to so much
    wildcards: bool = False  # train on aligned utterances' known text: what may not be said as written left open
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

    codec: Literal["flac", "wav", "opus"] = "flac"  # wav: loads fastest, four bytes for two; opus: lossy, a fifth
    sample_rate: Count = 16000  # Hz
    shard_seconds: Positive = 5400.0  # of audio in a shard, about
    group_shards: Count = 8  # the utterances of a group of calls are dealt over this many shards
    seed: int = 0


class TokenizerSettings(Section):
    """SentencePiece on the train text."""

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
    # Whether padding is kept from an utterance; SpeechBrain's encoder, and so the thesis's, hears it.
    mask_padding: bool = False

    @model_validator(mode="after")
    def _kernel(self) -> CrdnnSettings:
        if self.cnn_kernel % 2 == 0:
            raise ValueError(f"cnn_kernel {self.cnn_kernel} is even; it has a middle where it is odd")
        return self


class CtcSettings(Section):
    """A small CTC recognizer for CPUs: strided convolutions, then bidirectional LSTM blocks."""

    kind: Literal["ctc"] = "ctc"
    channels: Count = 32  # of the strided 2-D convolutions
    stride: Literal[4, 8] = 4  # frames into one
    size: Count = 256
    layers: Count = 4
    inner_ctc: Share = 0.3  # of the loss, for CTC on the outputs of the inner blocks
    dropout: Share = 0.1


class ConformerSettings(Section):
    """Conformer blocks behind strided convolutions, a Transformer decoder, joint CTC."""

    kind: Literal["conformer"] = "conformer"
    channels: Count = 32  # of the strided 2-D convolutions
    stride: Literal[4, 8] = 4  # frames into one
    size: Count = 144
    heads: Count = 4
    layers: Count = 8
    feedforward: Count = 576
    kernel: Count = 15  # of the depthwise convolutions, in steps; odd
    decoder_layers: Count = 2
    dropout: Share = 0.1

    @model_validator(mode="after")
    def _sizes(self) -> ConformerSettings:
        if self.size % self.heads or self.size % 2:
            raise ValueError(f"size {self.size} is no multiple of heads {self.heads}, or odd")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} is even; it has a middle only where it is odd")
        return self


ModelSettings = Annotated[CrdnnSettings | CtcSettings | ConformerSettings, Field(discriminator="kind")]


class ScheduleSettings(Section):
    """Which utterances form which batch, and which batches form which update."""

    seed: int = 0
    target_seconds: Positive = 180.0  # padded audio a batch aims at
    limit_seconds: Positive = 240.0  # padded audio a batch never exceeds (a longer utterance is alone in its batch)
    max_tokens: Natural = 0  # padded target tokens a batch never exceeds; 0: no limit
    batches_per_update: Count = 1  # G
    window_shards: Count = 8  # shards whose utterances are shuffled together
    length_jitter: Share = 0.01  # relative noise on lengths before sorting: more mixes batches, and pads
    apart: Count = 1  # utterances fewer than this many places apart in a shard never share a batch (2: not neighbours)
    alike: Count = 1  # A: batches i*A ... i*A+A-1 are equal in shape, so that ranks take equally long over them
    lanes: Count = 1  # L: batch i comes from lane i mod L
    order: Literal["random", "ascending", "descending"] = "random"  # of batches, by length
    order_epochs: Natural = 0  # how many epochs follow `order`, then random; 0: all

    @model_validator(mode="after")
    def _limits(self) -> ScheduleSettings:
        if self.limit_seconds < self.target_seconds:
            raise ValueError(f"limit_seconds {self.limit_seconds:g} is below target_seconds {self.target_seconds:g}")
        if self.alike > 1 and self.lanes > 1:
            raise ValueError(
                f"alike {self.alike} needs lanes 1: batches that follow one another are of {self.lanes} lanes"
            )
        return self


class LossSettings(Section):
    """Joint loss of an attention recognizer; a CTC recognizer has CTC alone."""

    ctc_weight: Share = 0.5
    ctc_epochs: Natural = 15  # nominal epochs with CTC, the rest without; 0: always with
    label_smoothing: Share = 0.1
    # Updates that fit the CTC head anew to an encoder that went on without it: word times need the head.
    refit_updates: Count = 300


class OptimSettings(Section):
    """The optimizer and how its learning rate goes over the updates."""

    kind: Literal["adam", "adamw", "sgd"] = "adam"
    lr: Positive = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    # After the warm-up; noam: inverse square root; wsd: constant, then linear over the last decay_share;
    # newbob: times anneal_factor where a validation brought too little.
    schedule: Literal["constant", "linear", "cosine", "noam", "wsd", "newbob"] = "constant"
    warmup_updates: Natural = 0
    final_lr: Share = 0.01  # of lr, where linear, cosine and wsd end
    decay_share: Share = 0.2  # wsd: of the updates
    anneal_factor: Share = 0.5  # newbob
    anneal_below: Share = 0.0025  # newbob: relative gain in WER over the validation before that is enough
    anneal_patience: Natural = 0  # newbob: validations with less gain that are let pass
    clip_norm: Annotated[float, Field(ge=0.0)] = 5.0  # 0: no clipping

    @model_validator(mode="after")
    def _noam(self) -> OptimSettings:
        if self.schedule == "noam" and not self.warmup_updates:
            raise ValueError("schedule noam falls from its warm-up on; set warmup_updates")
        return self


class AugmentSettings(Section):
    """Augmentation on the training device, seeded by (seed, utterance, epoch)."""

    speed: tuple[Positive, Positive] = (1.0, 1.0)  # range of factors; resamples, so that pitch moves along
    warp: tuple[Positive, Positive] = (1.0, 1.0)  # range of factors that stretch the mel axis (vocal tract length)
    tilt: Share = 0.0  # up to this slope of a one-tap filter, either way: another microphone
    gain_db: Annotated[float, Field(ge=0.0)] = 0.0  # up to so many decibels louder or softer
    noise_db: tuple[float, float] | None = None  # signal-to-noise ratios between which noise is added
    # Drawn for each utterance: white (to red), babble (six voices of the train split), folder (noise_folder).
    noise_kinds: Annotated[list[Literal["white", "babble", "folder"]], Field(min_length=1)] = ["white"]
    noise_share: Share = 1.0  # of the utterances that get some
    noise_folder: str = ""  # with audio files
    reverb_folder: str = ""  # with impulse responses of rooms
    reverb_share: Share = 0.5  # of the utterances that are put into one
    time_masks: Natural = 0
    time_mask_frames: Natural = 0
    time_mask_share: Share = 0.2  # of an utterance, at most, for each mask
    frequency_masks: Natural = 0
    frequency_mask_bins: Natural = 0

    def resolved(self) -> AugmentSettings:
        """With absolute paths."""
        folders = {"noise_folder": self.noise_folder, "reverb_folder": self.reverb_folder}
        return self.model_copy(update={name: _absolute(path) for name, path in folders.items()})

    @model_validator(mode="after")
    def _ranges(self) -> AugmentSettings:
        for name in ("speed", "warp", "noise_db"):
            limits = getattr(self, name)
            if limits is not None and limits[0] > limits[1]:
                raise ValueError(f"{name}: from {limits[0]:g} to {limits[1]:g}; the lower number comes first")
        if (self.noise_db is not None and "folder" in self.noise_kinds) != bool(self.noise_folder):
            raise ValueError("noise_folder, noise_kinds with folder and noise_db go together; set all or none")
        if self.time_masks and not (self.time_mask_frames and self.time_mask_share):
            raise ValueError(f"time_masks {self.time_masks} have no width; set time_mask_frames and time_mask_share")
        if self.frequency_masks and not self.frequency_mask_bins:
            raise ValueError(f"frequency_masks {self.frequency_masks} have no width; set frequency_mask_bins")
        return self


class SearchSettings(Section):
    """How hypotheses are found."""

    kind: Literal["greedy", "beam"] = "greedy"
    beam: Count = 8
    ctc_weight: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0  # of CTC prefix scores in an attention model's beam
    lm: Literal["ngram", "neural"] = "ngram"  # over tokens, from the train text; neural: an LSTM
    lm_order: Natural = 0  # of the n-gram model; 0: none
    lm_size: Count = 256  # of the neural model's two layers
    lm_updates: Count = 2000  # that it is trained
    lm_weight: Annotated[float, Field(ge=0.0)] = 0.5
    length_bonus: float = 0.0  # added to a hypothesis's log probability for each token

    def reads_language_model(self) -> bool:
        return self.kind == "beam" and (self.lm == "neural" or self.lm_order > 0)


class TrainSettings(Section):
    """How long, how often validated and saved, on what."""

    strategy: Literal["single", "ddp", "hogwild", "local_sgd"] = "single"
    processes: Count = 1
    average_every: Count = 16  # local_sgd: updates that each process makes alone before parameters are averaged
    outer_lr: Positive = 1.0  # local_sgd: of the averaged difference; with outer_momentum, DiLoCo's outer optimizer
    outer_momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    hogwild_moments: Literal["own", "shared"] = "own"  # hogwild: the optimizer's state, of each process or of all
    hogwild_alone: Natural = 0  # hogwild: the first updates, which one process makes while the others wait
    timeout: Positive = 600.0  # seconds without a sign of life after which a process is stuck, and the job ends
    restarts: Natural = 3  # after a process died, from the last checkpoint, where `speechmill train` starts them
    seed: int = 0
    updates: Count = 250_000
    nominal_epoch: Count = 5000  # updates
    # Of an exponential moving average of the weights, which is then what is validated and recognizes; 0: none.
    average_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    validate_every: Count = 5000  # updates
    validate_utterances: Natural = 0  # of the validation split, the same ones each time; 0: all
    # Training ends early, at a validation, after so many nominal epochs without a lower training loss (the thesis: 5),
    # or so many validations without a lower WER; 0: never.
    stagnant_epochs: Natural = 0
    stagnant_share: Share = 0.01  # by which a training loss is lower that counts
    stagnant_validations: Natural = 0
    checkpoint_every: Count = 1000  # updates
    keep_last: Count = 2
    keep_best: Count = 1
    log_every: Count = 50  # updates
    monitor_seconds: Annotated[float, Field(ge=0.0)] = 120.0  # between looks at GPUs, cores and memory; 0: none
    batchnorm_batches: Count = 20  # the running statistics that validation needs come from this many batches
    max_nonfinite: Count = 20  # skipped updates in a row, then training stops
    max_damaged: Natural = 100  # utterances that cannot be read are left out; with more than this, training stops
    loader_workers: Natural = 2
    threads: Natural = 0  # of PyTorch in the training process; 0: as many as OMP_NUM_THREADS says, else all cores
    device: Literal["auto", "cpu", "cuda"] = "auto"
    # auto: bfloat16 autocast where the device is fast at it, float32 elsewhere; tf32: a GPU's products of float32
    precision: Literal["auto", "float32", "tf32", "bfloat16", "float64"] = "float32"
    record: bool = True  # on a GPU, the attention decoder's loop over tokens as CUDA graphs, one for each shape


class ShardFolder(Section):
    """One of several shard folders that are mixed."""

    path: str
    weight: Positive = 1.0  # passes over this folder in an epoch: 2 has all of it twice, 0.5 one half after the other


class DataSettings(Section):
    """Where training finds its artefacts. Relative paths are relative to the working directory."""

    # One folder or URL (s3://, http://, ...), or a list of {path, weight} that make one schedule.
    shards: Annotated[
        Annotated[str, Tag("folder")] | Annotated[list[ShardFolder], Tag("folders")],
        Discriminator(lambda value: "folders" if isinstance(value, list | tuple) else "folder"),
    ] = ""
    cache: str = ""  # a folder on a local disk to which whole shards are fetched ahead of need; empty: none
    cache_gb: Positive = 100.0  # of shards that it holds at most
    tokenizer: str = ""

    def resolved(self) -> DataSettings:
        """With absolute paths."""

        shards = self.shards
        if not isinstance(shards, str):
            folders: Any = [folder.model_copy(update={"path": _absolute(folder.path)}) for folder in shards]
        else:
            folders = _absolute(shards)
        found = {"shards": folders, "tokenizer": _absolute(self.tokenizer), "cache": _absolute(self.cache)}
        return self.model_copy(update=found)


def _absolute(path: str) -> str:
    return str(Path(path).resolve()) if path and "://" not in path else path


class Recipe(Section):
    """All settings of an experiment."""

    name: str = "recipe"
    data: DataSettings = DataSettings()
    align: AlignSettings = AlignSettings()
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

    @model_validator(mode="before")
    @classmethod
    def _one_rate(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Features have the rate of the shards where the recipe names that one alone."""
        shard, features = values.get("shard", {}), values.get("features", {})
        if isinstance(shard, dict) and isinstance(features, dict) and "sample_rate" in shard:
            return values | {"features": {"sample_rate": shard["sample_rate"], **features}}
        return values

    @model_validator(mode="after")
    def _clashes(self) -> Recipe:
        if self.features.sample_rate != self.shard.sample_rate:
            raise ValueError(
                f"features.sample_rate {self.features.sample_rate} is not shard.sample_rate {self.shard.sample_rate}"
            )
        if isinstance(self.model, CtcSettings) and self.search.ctc_weight:
            raise ValueError("search.ctc_weight is of attention models; with model.kind ctc set search.ctc_weight=0")
        if self.optim.warmup_updates >= self.train.updates:
            raise ValueError(
                f"optim.warmup_updates {self.optim.warmup_updates} is not below train.updates {self.train.updates}"
            )
        if self.train.strategy == "single" and self.train.processes != 1:
            raise ValueError(f"train.strategy single has one process, train.processes is {self.train.processes}")
        if self.train.strategy == "local_sgd":
            for name in ("updates", "validate_every", "checkpoint_every"):
                if getattr(self.train, name) % self.train.average_every:
                    raise ValueError(
                        f"train.{name} {getattr(self.train, name)} is no multiple of train.average_every "
                        f"{self.train.average_every}: between averages there is no one model to validate or to save"
                    )
        return self

    def plain(self) -> dict[str, Any]:
        """The recipe as plain data, for YAML and JSON."""
        return self.model_dump(mode="json")

    def model_fingerprint(self) -> str:
        """Names what a checkpoint's weights fit: features, model and tokenizer settings."""
        parts = {"features": self.features, "model": self.model, "tokenizer": self.tokenizer}
        plain = {name: part.model_dump(mode="json") for name, part in parts.items()}
        plain["model"].pop("mask_padding", None)  # changes no weight; and older runs do not name it
        return fingerprint(plain)


def recipe_text(recipe: Recipe) -> str:
    """The resolved recipe as YAML."""
    return yaml.safe_dump(recipe.plain(), sort_keys=False, allow_unicode=True)
