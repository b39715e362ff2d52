"""Evaluate: the same hypotheses from shards and from a manifest that was never sharded."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import soundfile

from speechmill import cli
from speechmill.config import override_recipe
from speechmill.errors import SpeechmillError
from speechmill.evaluate import evaluate
from speechmill.models.ngram import NgramModel
from speechmill.recognize import Recognizing
from speechmill.score.scoring import score
from speechmill.settings import SearchSettings
from speechmill.train.checkpoint import checkpoints, find_checkpoint
from speechmill.train.language import LANGUAGE_MODEL_NAME
from speechmill.train.loop import train
from trained import tiny_recipe, trained_run


@pytest.fixture(scope="module")
def run(shards: Path, tokenizer_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, whose scores may be written."""
    folder = tmp_path_factory.mktemp("evaluated")
    shutil.copytree(trained_run(shards, tokenizer_path, folder / "trained"), folder / "run")
    return folder / "run"


def hypotheses(run: Path, name: str) -> dict[str, str]:
    lines = (run / "scores" / f"{name}.utterances.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["id"]: row["hypothesis"] for row in map(json.loads, lines)}


def test_scores_of_the_runs_own_test_split(run: Path, manifest: Path) -> None:
    done = evaluate(run)
    assert done.name == "test"
    assert done.written == run / "scores" / "test.json"
    assert json.loads(done.written.read_text(encoding="utf-8")) == done.scores
    scores = done.scores
    assert {
        "wer",
        "wer_p",
        "cer",
        "cer_p",
        "utterances",
        "words",
        "errors",
        "insertions",
        "deletions",
        "substitutions",
        "by",
        "normalization",
        "worst",
        "checkpoint",
        "search",
    } <= set(scores)
    assert (scores["utterances"], scores["checkpoint"]) == (12, find_checkpoint(run, "best").name)
    assert scores["wer"] < 0.5, "the run has learned nothing, so the tests here say little"
    assert set(scores["by"]["native"]) == {"true", "false"}
    assert set(scores["by"]["session"]) == {"presentation", "q-and-a"}
    assert sum(part["utterances"] for part in scores["by"]["native"].values()) == 12
    for rates in (scores, *scores["by"]["native"].values(), *scores["by"]["session"].values()):
        assert all(0 <= rates[name] <= 1 for name in ("wer", "wer_p", "cer", "cer_p"))
    lines = (run / "scores" / "test.utterances.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    references = dict(pl.read_parquet(manifest).filter(split="test").select("id", "text").iter_rows())
    assert {row["id"]: row["reference"] for row in rows} == references
    assert sum(row["errors"] for row in rows) == scores["errors"]
    assert all({"id", "reference", "hypothesis", "errors", "words", "alignment"} <= set(row) for row in rows)


def test_shards_and_a_manifest_that_was_never_sharded_agree(run: Path, manifest: Path, shards: Path) -> None:
    whole = evaluate(run, on=str(shards))
    unsharded = evaluate(run, on=str(manifest))
    assert whole.scores["utterances"] == unsharded.scores["utterances"] == 72
    found = hypotheses(run, unsharded.name)
    assert hypotheses(run, whole.name) == found
    assert any(found.values())
    for name in ("wer", "wer_p", "cer", "cer_p", "by"):
        assert whole.scores[name] == unsharded.scores[name]
    test = evaluate(run, on=str(manifest), split="test")
    assert re.fullmatch("selected-[0-9a-f]{6}-test", test.name)
    own = evaluate(run)
    assert hypotheses(run, "test") == hypotheses(run, test.name)
    assert [own.scores[name] for name in ("wer", "by")] == [test.scores[name] for name in ("wer", "by")]


def test_a_manifest_in_pieces_and_another_order(
    run: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate(run, on=str(manifest))
    monkeypatch.setattr("speechmill.evaluate._CHUNK_SECONDS", 5.0)
    table = pl.read_parquet(manifest)
    table.sort("text").with_columns(native=pl.lit(None, pl.Boolean)).write_parquet(tmp_path / "shuffled.parquet")
    done = evaluate(run, on=str(tmp_path / "shuffled.parquet"))
    assert hypotheses(run, done.name) == hypotheses(run, whole.name)
    assert done.scores["utterances"] == 72


def test_uncertainty_kinds_gap_and_confusions(run: Path, shards: Path) -> None:
    scores = evaluate(run, on=str(shards)).scores
    assert scores["errors"] > 0, "the run hears everything, so this test says little"
    assert scores["uncertainty"] == {"level": 0.95, "blocked_by": "call", "blocks": 12, "seed": 0}
    assert scores["interval"][0] < scores["wer"] < scores["interval"][1]
    assert sum(part["rate"] for part in scores["kinds"].values()) == pytest.approx(scores["wer_p"])
    native, gap = scores["by"]["native"], scores["gaps"]["native"]
    assert gap["difference"] == pytest.approx(native["false"]["wer"] - native["true"]["wer"])
    assert gap["interval"][0] < gap["difference"] < gap["interval"][1]
    assert sum(row["count"] for row in scores["confusions"]["frequent"]) == scores["errors"]
    assert 0 < scores["ser"] <= 1
    few = evaluate(run).scores
    assert few["gaps"]["native"]["interval"] is None, "one call on each side shows nothing of how much calls differ"


def test_groups_by_any_column(run: Path, manifest: Path, shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = [evaluate(run, on=str(source), by=["speaker", "samplerate"]).scores["by"] for source in (manifest, shards)]
    assert sets[0] == sets[1]
    table = pl.read_parquet(manifest)
    assert set(sets[0]["speaker"]) == set(table["speaker"])
    assert sum(part["utterances"] for part in sets[0]["speaker"].values()) == 72
    assert cli.main(["evaluate", str(run), "--by", "sector"]) == 2
    assert "--by sector: there is no such column; there are" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--by", "--block"])
@pytest.mark.parametrize("on_shards", [True, False])
def test_a_wrong_column_is_refused_before_anything_is_recognized(
    run: Path, manifest: Path, shards: Path, option: str, on_shards: bool,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    heard: list[object] = []
    monkeypatch.setattr(Recognizing, "spread", lambda *arguments: heard.append(arguments))
    assert cli.main(["evaluate", str(run), "--on", str(shards if on_shards else manifest), option, "sector"]) == 2
    assert f"{option} sector: there is no such column; there are call, " in capsys.readouterr().err
    assert heard == []


def lines_of(written: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written.with_suffix(".utterances.jsonl").read_text("utf-8").splitlines()]


def test_a_line_tells_its_call_its_block_and_its_normalization(run: Path, manifest: Path, tmp_path: Path) -> None:
    table = pl.read_parquet(manifest).filter(split="test")
    table.write_parquet(tmp_path / "known.parquet")
    table.with_columns(call=pl.lit("")).write_parquet(tmp_path / "callless.parquet")
    known = {row["id"]: row for row in table.iter_rows(named=True)}
    by_speaker = evaluate(run, on=str(tmp_path / "known.parquet"), block="speaker")
    assert by_speaker.scores["uncertainty"]["blocked_by"] == "speaker"
    for line in lines_of(by_speaker.written):
        row = known[line["id"]]
        assert (line["call"], line["recording"], line["block"]) == (row["call"], row["call"], row["speaker"])
        assert line["normalization"] == by_speaker.scores["normalization"]
    without = evaluate(run, on=str(tmp_path / "callless.parquet"))
    assert without.scores["uncertainty"]["blocked_by"] == "speaker"
    for line in lines_of(without.written):
        row = known[line["id"]]
        assert "call" not in line
        assert (line["recording"], line["block"]) == (Path(row["recording"]).stem, row["speaker"])


def test_score_names_the_normalization_alike(run: Path) -> None:
    done = evaluate(run)
    path = done.written.with_suffix(".utterances.jsonl")
    again = score(path, path)
    assert again.normalization == done.scores["normalization"]
    assert again.rates.as_dict()["wer"] == done.scores["wer"]
    assert {item.recording for item in again.items} == {line["call"] for line in lines_of(done.written)}


def test_the_page_beside_the_scores(run: Path, manifest: Path, shards: Path) -> None:
    done = evaluate(run, on=str(shards)).written
    page = done.with_suffix(".html").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in done.with_suffix(".utterances.jsonl").read_text("utf-8").splitlines()]
    assert all(row["id"] in page for row in rows)
    assert len({row["call"] for row in rows}) == 12
    wrong = sum(row["errors"] > 0 for row in rows)
    assert wrong > 0
    assert page.count("data:audio/flac;base64,") == min(wrong, 20), "shards: the worst are held in the page"
    other = evaluate(run, on=str(manifest), split="test").written.with_suffix(".html").read_text(encoding="utf-8")
    recording = pl.read_parquet(manifest).filter(split="test")["recording"][0]
    assert Path(recording).as_uri() in other
    assert "data:audio" not in other


def test_nothing_overwrites_the_scores_of_the_runs_own_test_split(
    run: Path, manifest: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = evaluate(run)
    before = own.written.read_bytes()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        pl.read_parquet(manifest).filter(split="valid").write_parquet(tmp_path / folder / "test.parquet")
    monkeypatch.chdir(shards)
    beam = SearchSettings(kind="beam", beam=2)
    others = [
        evaluate(run, on=str(tmp_path / "a" / "test.parquet")),
        evaluate(run, on=str(tmp_path / "b" / "test.parquet")),
        evaluate(run, on="."),
        evaluate(run, search=beam),
        evaluate(run, search=beam.model_copy(update={"beam": 3})),
    ]
    names = [done.name for done in others]
    assert len({own.name, *names}) == 6, names
    assert re.fullmatch("shards-[0-9a-f]{6}", names[2])
    assert names[3].startswith("test-beam-")
    assert own.written.read_bytes() == before
    assert evaluate(run, on=".", split="test").written == own.written, "these are the run's own shards"


def test_which_checkpoint(run: Path, tmp_path: Path) -> None:
    assert evaluate(run, checkpoint="last").scores["checkpoint"] == "step_00000120"
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    first, last = (path.name for path in checkpoints(copy))
    for name, wer in ((first, 0.1), (last, 0.2)):
        path = copy / "checkpoints" / name / "state.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"valid_wer": wer}))
    assert evaluate(copy, checkpoint="last").name == f"test-{last}"
    best = evaluate(copy)
    assert (best.name, best.scores["checkpoint"]) == ("test", first)
    with pytest.raises(SpeechmillError, match="no checkpoint '7'; there are best, last"):
        evaluate(run, checkpoint="7")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "dev"}, "no split 'dev' here; there is 'test', 'train', 'valid'"),
        ({"on": "MANIFEST", "split": "dev"}, "no rows of the split 'dev'; there is"),
        ({"on": "SHARDS", "split": "dev"}, "no split 'dev' here"),
        ({"on": "nowhere"}, "nowhere"),
    ],
)
def test_bad_sets(arguments: dict[str, Any], message: str, run: Path, manifest: Path, shards: Path) -> None:
    places = {"MANIFEST": str(manifest), "SHARDS": str(shards)}
    arguments = {key: places.get(value, value) for key, value in arguments.items()}
    with pytest.raises(SpeechmillError, match=message):
        evaluate(run, **arguments)


def test_a_manifest_whose_recording_is_gone(run: Path, manifest: Path, tmp_path: Path) -> None:
    table = pl.read_parquet(manifest).with_columns(recording=pl.lit(str(tmp_path / "gone.wav")))
    table.write_parquet(tmp_path / "gone.parquet")
    with pytest.raises(SpeechmillError, match=r"1 of its 1 recordings are not there any more, .*gone\.wav the first"):
        evaluate(run, on=str(tmp_path / "gone.parquet"))
    assert not list((run / "scores").glob("gone*"))


def test_json_alone_on_stdout(run: Path, manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", str(run), "--on", str(manifest), "--json", "-"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert {"wer", "wer_p", "cer", "cer_p", "utterances", "by"} <= set(scores)
    assert scores["utterances"] == 72


def test_command_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "scores.json"
    arguments = ["evaluate", str(run), "--split", "valid", "--json", str(out), "--checkpoint", "last"]
    assert cli.main([*arguments, "search.kind=beam", "search.beam=2"]) == 0
    shown = capsys.readouterr().out
    assert "valid" in shown
    assert "WER" in shown
    assert json.loads(out.read_text())["search"]["beam"] == 2
    assert cli.main(["evaluate", str(run), "--split", "valid", "optim.lr=2"]) == 2
    assert "only settings of the search" in capsys.readouterr().err


def test_a_search_with_a_language_model(run: Path, shards: Path, tokenizer_path: Path, tmp_path: Path) -> None:
    recipe = override_recipe(
        tiny_recipe(shards, tokenizer_path),
        ["search.kind=beam", "search.lm_order=3", "search.beam=4", "train.updates=4"],
    )
    train(recipe, tmp_path / "run")
    assert NgramModel.load(tmp_path / "run" / LANGUAGE_MODEL_NAME).order == 3
    scores = evaluate(tmp_path / "run", split="valid").scores
    assert (scores["search"]["kind"], scores["search"]["lm_order"]) == ("beam", 3)
    with pytest.raises(SpeechmillError, match=r"the language model has order 3, search\.lm_order is 2"):
        evaluate(tmp_path / "run", search=SearchSettings(kind="beam", lm_order=2))
    with pytest.raises(SpeechmillError, match="the language model is not there"):
        evaluate(run, search=SearchSettings(kind="beam", lm_order=2))
    train(override_recipe(recipe, ["search.lm_order=2"]), tmp_path / "run")
    assert NgramModel.load(tmp_path / "run" / LANGUAGE_MODEL_NAME).order == 2


def test_several_processes_score_each_utterance_once(run: Path) -> None:
    alone = evaluate(run)
    written = alone.written.with_suffix(".utterances.jsonl").read_bytes()
    spread = evaluate(run, processes=2)
    assert (spread.name, spread.scores) == (alone.name, alone.scores)
    assert alone.written.with_suffix(".utterances.jsonl").read_bytes() == written


def librispeech(corpus: Path, root: Path) -> Path:
    """Two calls of the tests' corpus in LibriSpeech's layout, one utterance of them gone."""
    for call in ("1010", "1011"):
        chapter = root / "test-clean" / call / "7"
        chapter.mkdir(parents=True)
        rows = [
            line.split("\t")
            for line in (corpus / "MEDIA" / call / "transcript_timealigned.txt").read_text().split("\n")
        ]
        times = [float(row[3][6:]) for row in rows[1:-1]]
        audio, rate = soundfile.read(corpus / "MEDIA" / call / "recording.wav")
        lines = []
        for number, row in enumerate(rows[1:-2]):
            name = f"{call}-7-{number:04d}"
            lines.append(f"{name} {row[4].upper().rstrip('.')}")
            part = audio[round(times[number] * rate) : round(times[number + 1] * rate)]
            soundfile.write(chapter / f"{name}.flac", part, rate)
        (chapter / f"{call}-7.trans.txt").write_text("\n".join(lines) + "\n")
    (root / "test-clean" / "1011" / "7" / "1011-7-0000.flac").unlink()
    return root


def test_a_corpus_as_it_lies_gives_the_hypotheses_of_its_shards(
    run: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = librispeech(corpus, tmp_path / "LibriSpeech")
    assert cli.main(["evaluate", str(run), "--on", f"librispeech:{root}/test-clean"]) == 0
    shown = capsys.readouterr()
    assert "dropped: missing-recording 1" in shown.err
    name = next(path.stem for path in (run / "scores").glob("librispeech-test-clean-??????.json"))
    assert name in shown.out
    found, of_shards = hypotheses(run, name), hypotheses(run, evaluate(run).name)
    assert len(found) == 11
    assert [found[f"1010-7-{k:04d}"] for k in range(6)] == [of_shards[f"1010_S{k:03d}"] for k in range(6)]
    scores = json.loads((run / "scores" / f"{name}.json").read_text())
    assert scores["utterances"] == 11
    assert scores["notes"] == ["dropped: missing-recording 1"]


def test_calls_of_a_corpus_that_cannot_be_read_are_named(
    run: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = librispeech(corpus, tmp_path / "LibriSpeech")
    for path in (root / "test-clean" / "1011").rglob("*.flac"):
        path.unlink()
    assert cli.main(["evaluate", str(run), "--on", f"librispeech:{root}/test-clean"]) == 0
    told = capsys.readouterr().err
    assert "note: dropped: missing-recording 6" in told
    assert "note: not read: 1011-7: missing-recording: " in told
    assert "1011-7-0000.flac: no such recording" in told


def test_spgispeech_as_it_lies(run: Path, corpus: Path, tmp_path: Path) -> None:
    audio, rate = soundfile.read(corpus / "MEDIA" / "1010" / "recording.wav")
    folder = tmp_path / "val" / "abc"
    folder.mkdir(parents=True)
    soundfile.write(folder / "1.wav", audio[: 2 * rate], rate)
    (tmp_path / "val.csv").write_text("wav_filename|wav_filesize|transcript\nabc/1.wav|1|Cash cost.\n")
    done = evaluate(run, on=f"spgispeech:{tmp_path}/val")
    assert done.name.startswith("spgispeech-val-")
    assert done.scores["utterances"] == 1


def test_a_corpus_that_is_not_there(run: Path, tmp_path: Path) -> None:
    with pytest.raises(SpeechmillError, match="no such file or folder; librispeech was expected"):
        evaluate(run, on=f"librispeech:{tmp_path}/nowhere")


def test_whole_recordings_are_left_out_and_said(run: Path, manifest: Path, tmp_path: Path) -> None:
    table = pl.read_parquet(manifest).filter(split="test").with_columns(timed=pl.col("call") != "1011")
    table.write_parquet(tmp_path / "mixed.parquet")
    done = evaluate(run, on=str(tmp_path / "mixed.parquet"))
    assert done.scores["utterances"] == 6
    assert done.scores["notes"] == ["left out: 6 rows without times of their own (untimed)"]
    table.with_columns(timed=False).write_parquet(tmp_path / "whole.parquet")
    with pytest.raises(SpeechmillError, match="its 12 rows have no times of their own"):
        evaluate(run, on=str(tmp_path / "whole.parquet"))
