"""Corpora of a few invented lines in their true formats, with synthesised audio."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

REFERENCE = "token|speaker|ts|endTs|punctuation|prepunctuation|case|tags"
ALIGNED = f"{REFERENCE}|oldTs|oldEndTs|ali_comment"


def write_audio(path: Path, seconds: float, rate: int = 8000, channels: int = 1, seed: int = 0) -> Path:
    """Noise that changes its colour: no two seeds sound alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = 0.1 * np.random.default_rng(seed).standard_normal((round(seconds * rate), channels))
    kind = {"format": "MP3", "subtype": "MPEG_LAYER_III"} if path.suffix == ".mp3" else {}
    soundfile.write(path, noise.astype(np.float32), rate, **kind)
    return path


def write_lines(path: Path, *lines: str, end: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + end for line in lines).encode())
    return path


def librispeech(root: Path) -> Path:
    """Two readers in two subsets: five utterances, one of them without audio, one without text."""
    write_lines(
        root / "SPEAKERS.TXT",
        ";ID  |SEX| SUBSET           |MINUTES| NAME",
        "1089 | M | test-clean       | 8.03  | Peter Bobbe",
        "61   | M | test-other       | 8.08  | Paul-Gabriel | Wiener",
    )
    chapter = root / "test-clean" / "1089" / "134686"
    write_lines(
        chapter / "1089-134686.trans.txt",
        "1089-134686-0000 HE HOPED THERE WOULD BE STEW FOR DINNER",
        "1089-134686-0001 STUFF IT INTO YOU",
        "1089-134686-0002 GONE",
        "1089-134686-0003",
    )
    for number, seconds in ((0, 2.0), (1, 1.5), (3, 1.0)):
        write_audio(chapter / f"1089-134686-{number:04d}.flac", seconds, 16000, seed=number)
    chapter = root / "test-other" / "61" / "70968"
    write_lines(chapter / "61-70968.trans.txt", "61-70968-0000 HE BEGAN A CONFUSED COMPLAINT")
    write_audio(chapter / "61-70968-0000.flac", 3.0, 16000, seed=9)
    return root


def spgispeech(root: Path) -> Path:
    """Three slices of two calls; one row too short, one row with a cell too many, one file that is no audio."""
    sizes = {}
    for name, seconds in (("37cb2c2a/5.wav", 2.0), ("37cb2c2a/6.wav", 1.0), ("91ffe0aa/1.wav", 3.0)):
        sizes[name] = write_audio(root / "val" / name, seconds, 16000).stat().st_size
    (root / "val" / "91ffe0aa" / "2.wav").write_text("not audio")
    write_lines(
        root / "val.csv",
        "wav_filename|wav_filesize|transcript",
        f'37cb2c2a/5.wav|{sizes["37cb2c2a/5.wav"]}|So revenue grew by 12%, in line with "guidance".',
        f"37cb2c2a/6.wav|{sizes['37cb2c2a/6.wav']}|Right, yes.",
        f"91ffe0aa/1.wav|{sizes['91ffe0aa/1.wav'] + 1}|EBITDA was $3.5 million.",
        "91ffe0aa/2.wav|9|This is not audio.",
        "91ffe0aa/3.wav|9|A row | too wide.",
    )
    return root


def commonvoice(root: Path) -> Path:
    """Two clips of two people in test, one in train; one clip is gone, one path has no ending, one line is short."""
    header = "client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccents\tvariant\tlocale\tsegment"
    ann, bob = "a" * 128, "b" * 128
    write_lines(
        root / "test.tsv",
        header,
        f'{ann}\tcommon_voice_en_1.mp3\t"The sun," she said.\t2\t0\ttwenties\tfemale\tScottish English\t\ten\t',
        f"{bob}\tcommon_voice_en_2\tIt rose.\t2\t0\t\t\t\t\ten\t",
        f"{bob}\tcommon_voice_en_9.mp3\tGone.\t2\t0\t\t\t\t\ten\t",
        f"{bob}\tshort",
    )
    write_lines(root / "train.tsv", header, f"{ann}\tcommon_voice_en_3.mp3\tAnother.\t2\t0\t\t\t\t\ten\t")
    for number, rate in ((1, 48000), (2, 32000), (3, 44100)):
        write_audio(root / "clips" / f"common_voice_en_{number}.mp3", 1.5, rate, seed=number)
    return root


def tokens(text: str, speaker: int = 0, start: float | None = None, tags: dict[str, str] | None = None) -> list[str]:
    """Rows of an `.nlp` with the columns of ALIGNED; half a second a word from `start`."""
    rows = []
    for place, word in enumerate(text.split()):
        bare = word.rstrip(".,?!…")
        ts = "" if start is None else f"{start + 0.5 * place:.4f}"
        end = "" if start is None else f"{start + 0.5 * place + 0.4:.4f}"
        tag = f"['{tags[bare]}']" if tags and bare in tags else "[]"
        comment = "del" if start is None else ""
        rows.append(f"{bare}|{speaker}|{ts}|{end}|{word[len(bare) :]}||LC|{tag}|||{comment}")
    return rows


def untimed(rows: list[str]) -> list[str]:
    """The same rows as a reference has them: without times and without the aligner's columns."""
    cells = [row.split("|")[:8] for row in rows]
    return ["|".join([*row[:2], "", "", *row[4:]]) for row in cells]


def earnings22(root: Path) -> Path:
    """Six calls: timed, past the end, hardly timed, not timed (a column more), audio gone, not in the metadata."""
    references = root / "transcripts" / "nlp_references"
    aligned = root / "transcripts" / "force_aligned_nlp_references"
    said = tokens("Welcome to the call.", 0, 1.0)
    year = {"2021": "0:YEAR", "twenty": "0:YEAR", "one": "0:YEAR"}
    spoken = [*said, *tokens("In twenty twenty one we grew.", 1, 4.0, year), *tokens("<inaudible> margins.", 1, 8.0)]
    spoken[-2] = spoken[-2].replace("<inaudible>", "inaudible")
    lost = [*tokens("Lost", 1), *tokens("words.", 1, 9.5)]
    more = tokens("<inaudible> margins.", 1)
    written = [
        *said,
        *tokens("In 2021 we grew.", 1, 4.0, year),
        *tokens("<inaudible> margins.", 1),
        *tokens("Lost words.", 1),
    ]
    write_lines(references / "1.nlp", REFERENCE, *untimed(written), end="\r\n")
    write_lines(aligned / "1.aligned.nlp", ALIGNED, *spoken, *lost, end="\r\n")
    for call, rows in (
        ("2", [*said, *tokens("This lies behind the end.", 0, 30.0)]),
        ("3", [*said[:1], *tokens("nothing else of this has a time, alas.", 0)]),
        ("4", tokens("No word of this has a time.", 0)),
        ("5", said),
        ("MP3-A", said),
    ):
        write_lines(references / f"{call}.nlp", REFERENCE, *untimed(rows))
        more = call == "4"
        header = ALIGNED.replace("|oldTs", "|wer_tags|oldTs") if more else ALIGNED
        rows = [row.replace("|||del", "|[]|||del") for row in rows] if more else rows
        write_lines(aligned / f"{call}.aligned.nlp", header, *rows, end="\n" if more else "\r\n")
    write_lines(
        root / "metadata.csv",
        "File ID,Ticker Symbol,Country by Ticker,UN Defined,Major Dialect Family,Language Family + Area Based,"
        "File Length (seconds),Sampling Rate (Hz)",
        "1,AAA,Canada,Europe and Northern America,North American,English,12,16000",
        "2,BBB,Greece,Europe and Northern America,Other,Other Romance,60,22050",
        "3,CCC,Australia,Oceania,Oceanic,English,12,16000",
        "4,DDD,France,Europe and Northern America,Other,Other Romance,150,16000",
        "5,EEE,Ghana,Sub-Saharan Africa,Other,English,12,16000",
        "77,FFF,Chile,Latin America and Caribbean,Other,Spanish/Portuguese,12,16000",
    )
    for call, seconds, rate in (("1", 12.0, 16000), ("2", 20.0, 22050), ("3", 12.0, 16000), ("4", 150.0, 8000)):
        write_audio(root / "media" / f"{call}.mp3", seconds, rate, seed=int(call))
    write_audio(root / "media" / "MP3-A.mp3", 12.0, 44100, channels=2)
    return root


def folder(root: Path) -> Path:
    """A short recording, a long one, an empty text, text in Latin 1, text without recording, recording without text."""
    write_audio(root / "2024" / "short.wav", 3.0)
    write_audio(root / "2024" / "long.mp3", 130.0, 16000)
    write_lines(root / "2024" / "short.txt", "\ufeffGood morning,", "", "  and welcome.", end="\r\n")
    write_lines(root / "2024" / "long.txt", "A whole call.")
    for name in ("empty", "latin", "no.text"):
        write_audio(root / f"{name}.flac", 2.0)
    write_lines(root / "empty.txt", "")
    (root / "latin.txt").write_bytes(b"caf\xe9")
    write_lines(root / "gone.txt", "Nobody hears this.")
    write_lines(root / ".hidden.txt", "Nor this.")
    write_lines(root / "notes.md", "Nor this.")
    return root
