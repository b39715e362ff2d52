"""How others store and read speech, for `benchmarks.loader`: each writes its layout into a temporary folder and returns
a function that opens a stream of padded batches, made by one loader worker.

Each does what its documentation shows. None tokenises, which ours does.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import webdataset
from torch.utils.data import DataLoader, Dataset

from benchmarks.speech import RATE, Utterance

BATCH_SECONDS = 180.0  # of audio, about
Stream = Iterable[tuple[torch.Tensor, torch.Tensor]]  # audio [batch, samples] and lengths [batch]
Open = Callable[[], Stream]


def batch_size(speech: list[Utterance]) -> int:
    """Utterances that are BATCH_SECONDS long together, on average."""
    mean = sum(len(utterance.samples) for utterance in speech) / RATE / len(speech)
    return max(1, round(BATCH_SECONDS / mean))


def original(speech: list[Utterance], folder: Path, per_shard: int) -> Open:
    """The thesis's layout: tar.gz with the pickled float32 tensor of each utterance, read by webdataset.

    Such pickles run whatever code their writer chose when they are loaded: these are written and read here and nowhere
    else.
    """
    folder.mkdir()
    for first in range(0, len(speech), per_shard):
        with webdataset.TarWriter(str(folder / f"shard-{first // per_shard:06d}.tar.gz"), compress=True) as writer:
            for number, utterance in enumerate(speech[first : first + per_shard], first):
                audio = io.BytesIO()
                torch.save(torch.from_numpy(utterance.samples.astype(np.float32) / 32768), audio)
                writer.write({"__key__": f"{number:06d}", "audio.pth": audio.getvalue(), "text.txt": utterance.text})
    size = batch_size(speech)

    def sample(parts: dict[str, Any]) -> tuple[torch.Tensor, str]:
        return torch.load(io.BytesIO(parts["audio.pth"])), parts["text.txt"].decode()

    def open_stream() -> Stream:
        data = webdataset.WebDataset(sorted(map(str, folder.glob("*.tar.gz"))), shardshuffle=False).map(sample)
        return _web_loader(data.batched(size, collation_fn=collate_tensors))

    return open_stream


def flac_webdataset(speech: list[Utterance], shards: Path) -> Open:
    """webdataset over TARs of FLAC, decoded by soundfile; the TARs are ours."""
    size = batch_size(speech)

    def sample(parts: dict[str, Any]) -> tuple[np.ndarray, str]:
        audio, _ = soundfile.read(io.BytesIO(parts["flac"]), dtype="float32")
        return audio, json.loads(parts["json"])["text"]

    def open_stream() -> Stream:
        data = webdataset.WebDataset(sorted(map(str, shards.glob("*.tar"))), shardshuffle=False).map(sample)
        return _web_loader(data.batched(size, collation_fn=collate_arrays))

    return open_stream


def _web_loader(data: Any) -> Stream:
    loader: Stream = webdataset.WebLoader(data, batch_size=None, num_workers=1)
    return loader


def lhotse_shar(speech: list[Utterance], folder: Path, per_shard: int) -> Open:
    """Lhotse Shar with FLAC: its dynamic batches, its collation."""
    from lhotse import CutSet
    from lhotse.dataset import DynamicCutSampler, IterableDatasetWrapper
    from lhotse.dataset.collation import collate_audio

    write_lhotse(speech, folder, per_shard)

    class Collated(Dataset[tuple[torch.Tensor, torch.Tensor]]):
        def __getitem__(self, cuts: CutSet) -> tuple[torch.Tensor, torch.Tensor]:
            audio, lengths = collate_audio(cuts)
            return audio, lengths

    def open_stream() -> Stream:
        cuts = CutSet.from_shar(in_dir=str(folder), shuffle_shards=False)
        sampler = DynamicCutSampler(cuts, max_duration=BATCH_SECONDS, shuffle=False, world_size=1, rank=0)
        return DataLoader(IterableDatasetWrapper(Collated(), sampler), batch_size=None, num_workers=1)

    return open_stream


def write_lhotse(speech: list[Utterance], folder: Path, per_shard: int) -> None:
    """What SharWriter does with a cut, but for reading its audio: that is in memory."""
    from lhotse import AudioSource, MonoCut, Recording, SupervisionSegment
    from lhotse.shar import SharWriter
    from lhotse.shar.utils import to_shar_placeholder

    folder.mkdir()
    with SharWriter(str(folder), fields={"recording": "flac"}, shard_size=per_shard) as writer:
        for number, utterance in enumerate(speech):
            name, seconds = f"{number:06d}", len(utterance.samples) / RATE
            source = AudioSource("memory", [0], b"")
            recording = Recording(name, [source], RATE, len(utterance.samples), seconds, channel_ids=[0])
            said = SupervisionSegment(name, name, 0.0, seconds, text=utterance.text)
            placeholder = to_shar_placeholder(recording)
            cut = MonoCut(name, 0.0, seconds, 0, [said], recording=placeholder)
            samples = utterance.samples[None].astype(np.float32) / 32768
            writer.writers["recording"].write(name, samples, RATE, manifest=placeholder, original_format="flac")
            writer.writers["cuts"].write(cut)


def loose_files(speech: list[Utterance], folder: Path) -> Open:
    """A WAV file for each utterance, read in order."""
    folder.mkdir()
    for number, utterance in enumerate(speech):
        soundfile.write(folder / f"{number:06d}.wav", utterance.samples, RATE)
        (folder / f"{number:06d}.txt").write_text(utterance.text, encoding="utf-8")
    size = batch_size(speech)

    class Files(Dataset[tuple[np.ndarray, str]]):
        def __len__(self) -> int:
            return len(speech)

        def __getitem__(self, number: int) -> tuple[np.ndarray, str]:
            audio, _ = soundfile.read(folder / f"{number:06d}.wav", dtype="float32")
            return audio, (folder / f"{number:06d}.txt").read_text(encoding="utf-8")

    return lambda: DataLoader(Files(), batch_size=size, num_workers=1, collate_fn=collate_arrays)


def collate_arrays(samples: list[tuple[np.ndarray, str]]) -> tuple[torch.Tensor, torch.Tensor]:
    return collate_tensors([(torch.from_numpy(audio), text) for audio, text in samples])


def collate_tensors(samples: list[tuple[torch.Tensor, str]]) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([len(audio) for audio, _ in samples])
    return torch.nn.utils.rnn.pad_sequence([audio for audio, _ in samples], batch_first=True), lengths
