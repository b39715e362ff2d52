from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile
import soxr
from speechlike import RATE, speechlike

from speechmill.overlap.fingerprint import disagreement, fingerprint_of, read_fingerprint
from speechmill.overlap.sound import same_sound


def rows(path: Path, *spans: tuple[float, float], name: str | None = None) -> pl.DataFrame:
    stem = name or path.stem
    return pl.DataFrame(
        {
            "id": [f"{stem}_{number}" for number in range(len(spans))],
            "recording": [str(path)] * len(spans),
            "start": [start for start, _ in spans],
            "end": [end for _, end in spans],
        }
    )


def write(path: Path, samples: np.ndarray, rate: int = RATE, **kind: object) -> Path:
    if path.suffix == ".mp3":
        kind = {"format": "MP3", "subtype": "MPEG_LAYER_III", "compression_level": 0.95} | kind
    soundfile.write(path, samples, rate, **kind)
    return path


def pairs(a: pl.DataFrame, b: pl.DataFrame) -> set[tuple[str, str]]:
    found = same_sound(a, b)
    assert found.not_compared == []
    return set(found.pairs.select("a", "b").iter_rows())


@pytest.mark.parametrize(
    "change", ["same", "rate", "telephone", "level", "mp3", "noise", "stereo", "late", "mp3 of a telephone, late, soft"]
)
def test_the_same_sound_in_another_guise(tmp_path: Path, change: str) -> None:
    sound = speechlike(8.0, 1)
    a = rows(write(tmp_path / "a.wav", sound), (0.0, 8.0))
    other = tmp_path / ("b.mp3" if "mp3" in change else "b.wav")
    if change == "rate":
        write(other, soxr.resample(sound, RATE, 44100), 44100)
    elif change == "telephone":
        write(other, soxr.resample(sound, RATE, 8000), 8000)
    elif change == "level":
        write(other, sound * 0.05)
    elif change == "noise":
        write(
            other, sound + 0.1 * sound.std() * np.random.default_rng(0).standard_normal(len(sound)).astype(np.float32)
        )
    elif change == "stereo":
        write(other, np.stack([sound, 0.3 * sound], axis=1), subtype="PCM_24")
    elif change == "late":
        write(other, np.concatenate([0.001 * speechlike(0.777, 9), sound]))
    elif change.endswith("soft"):
        write(other, 0.2 * soxr.resample(sound[137:], RATE, 8000), 8000)
    else:
        write(other, sound)
    found = same_sound(a, rows(other, (0.0, 9.0))).pairs
    assert found.select("a", "b").rows() == [("a_0", "b_0")]
    assert found["similarity"][0] > 0.8
    assert found["seconds"][0] == pytest.approx(7.5, abs=0.7)


def test_other_sound_is_not_the_same(tmp_path: Path) -> None:
    some = pl.concat([rows(write(tmp_path / f"a{k}.wav", speechlike(6.0, k)), (0.0, 6.0)) for k in range(8)])
    others = pl.concat([rows(write(tmp_path / f"b{k}.wav", speechlike(6.0, 100 + k)), (0.0, 6.0)) for k in range(8)])
    assert pairs(some, others) == set()


def test_silence_is_no_sound_to_share(tmp_path: Path) -> None:
    for side, level in (("a", 0.1), ("b", 0.3)):
        write(tmp_path / f"{side}0.wav", np.zeros(6 * RATE, np.float32))
        faint = (level * 1e-4 * np.random.default_rng(ord(side)).standard_normal(6 * RATE)).astype(np.float32)
        write(tmp_path / f"{side}1.wav", faint + np.r_[speechlike(1.0, ord(side)), np.zeros(5 * RATE, np.float32)])
    a = pl.concat([rows(tmp_path / "a0.wav", (0.0, 6.0)), rows(tmp_path / "a1.wav", (0.0, 6.0))])
    b = pl.concat([rows(tmp_path / "b0.wav", (0.0, 6.0)), rows(tmp_path / "b1.wav", (0.0, 6.0))])
    assert pairs(a, b) == set()


def test_clips_are_found_in_the_recording_they_were_cut_from(tmp_path: Path) -> None:
    call = speechlike(120.0, 2)
    whole = rows(
        write(tmp_path / "call.mp3", call), (0.0, 10.0), (10.0, 14.0), (40.0, 47.0), (60.0, 66.0), (100.0, 120.0)
    )
    clips = []
    for number, (start, end) in enumerate([(9.95, 14.02), (40.6, 46.0), (61.0, 66.2), (70.0, 75.0)]):
        part = 0.5 * call[round(start * RATE) : round(end * RATE)]
        path = write(tmp_path / f"clip{number}.flac", soxr.resample(part, RATE, 22050), 22050)
        clips.append(rows(path, (0.0, end - start)))
    clips.append(rows(write(tmp_path / "other.wav", speechlike(5.0, 77)), (0.0, 5.0)))
    wanted = {("call_1", "clip0_0"), ("call_2", "clip1_0"), ("call_3", "clip2_0")}
    assert pairs(whole, pl.concat(clips)) == wanted
    assert pairs(pl.concat(clips), whole) == {(clip, utterance) for utterance, clip in wanted}


def test_two_cuts_of_one_call_and_a_call_that_repeats_itself(tmp_path: Path) -> None:
    jingle, middle = speechlike(4.0, 3), speechlike(20.0, 4)
    a = write(tmp_path / "a.wav", np.concatenate([jingle, middle, jingle]))
    b = write(tmp_path / "b.wav", np.concatenate([speechlike(5.0, 5), jingle, speechlike(5.0, 6)]))
    found = pairs(rows(a, (0.0, 4.0), (4.0, 24.0), (24.0, 28.0)), rows(b, (0.0, 5.0), (5.0, 9.0), (9.0, 14.0)))
    assert found == {("a_0", "b_1"), ("a_2", "b_1")}


def test_a_recording_that_cannot_be_read_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    sound = speechlike(4.0, 1)
    (tmp_path / "bad.wav").write_text("no audio")
    a = pl.concat([rows(write(tmp_path / "a.wav", sound), (0.0, 4.0)), rows(tmp_path / "bad.wav", (0.0, 9.0))])
    found = same_sound(a, rows(write(tmp_path / "b.wav", sound), (0.0, 4.0)))
    assert found.pairs.select("a", "b").rows() == [("a_0", "b_0")]
    assert [str(tmp_path / "bad.wav") in line for line in found.not_compared] == [True]


def test_what_is_too_short_has_no_fingerprint(tmp_path: Path) -> None:
    assert len(fingerprint_of(np.zeros(1000, np.int16))) == 0
    short = write(tmp_path / "a.wav", speechlike(0.3, 1))
    assert pairs(rows(short, (0.0, 0.3)), rows(write(tmp_path / "b.wav", speechlike(4.0, 1)), (0.0, 4.0))) == set()


def test_bits_agree_in_equal_sound_and_in_half_elsewhere(tmp_path: Path) -> None:
    one = read_fingerprint(write(tmp_path / "a.wav", speechlike(10.0, 1)))
    codec = read_fingerprint(write(tmp_path / "b.mp3", speechlike(10.0, 1)))
    other = read_fingerprint(write(tmp_path / "c.wav", speechlike(10.0, 2)))
    count = min(len(one), len(codec), len(other))
    heard = one.heard[:count] & codec.heard[:count] & other.heard[:count]
    assert disagreement(one.bits[:count], codec.bits[:count])[heard].mean() < 0.15
    assert 0.4 < disagreement(one.bits[:count], other.bits[:count])[heard].mean() < 0.6


def test_recordings_that_are_the_same_are_found_where_no_utterance_lies_in_both(tmp_path: Path) -> None:
    call = speechlike(40.0, 8)
    one, copy = write(tmp_path / "one.wav", call), write(tmp_path / "copy.mp3", call)
    other = write(tmp_path / "other.wav", speechlike(40.0, 9))
    late = write(tmp_path / "late.wav", np.concatenate([speechlike(7.0, 10), call[: 15 * RATE]]))
    a = rows(one, (0.0, 18.0))
    for table, seconds in ((rows(copy, (20.0, 40.0)), 39.0), (rows(late, (0.0, 6.0)), 14.5)):
        for left, right in ((a, table), (table, a)):
            found = same_sound(left, right)
            assert found.pairs.is_empty()
            assert found.recordings.select("a", "b").rows() == [(left["recording"][0], right["recording"][0])]
            assert found.recordings["seconds"][0] == pytest.approx(seconds, abs=0.9)
    assert same_sound(a, rows(other, (20.0, 40.0))).recordings.is_empty()


def test_the_same_file_on_both_sides_is_the_same_recording_whatever_it_holds(tmp_path: Path) -> None:
    for sound in (np.zeros(40 * RATE, np.float32), speechlike(40.0, 1)):
        path = write(tmp_path / "x.wav", sound)
        found = same_sound(rows(path, (0.0, 18.0), (18.0, 20.0), name="a"), rows(path, (20.0, 40.0), name="b"))
        assert found.pairs.is_empty()
        assert found.recordings["seconds"].to_list() == pytest.approx([39.6], abs=0.1)


def test_a_jingle_makes_no_recordings_the_same(tmp_path: Path) -> None:
    jingle = speechlike(4.0, 3)
    a = write(tmp_path / "a.wav", np.concatenate([jingle, speechlike(20.0, 4)]))
    b = write(tmp_path / "b.wav", np.concatenate([jingle, speechlike(20.0, 5)]))
    assert same_sound(rows(a, (5.0, 20.0)), rows(b, (5.0, 20.0))).recordings.is_empty()
    clip = write(tmp_path / "clip.wav", jingle)  # which is all of that recording
    assert same_sound(rows(a, (5.0, 20.0)), rows(clip, (0.0, 4.0))).recordings["b"].to_list() == [str(clip)]
