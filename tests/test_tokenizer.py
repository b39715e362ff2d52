from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import polars as pl
import pytest

from conftest import tokenizer_settings
from speechmill import tokenizer as module
from speechmill.artefact import sha256_file
from speechmill.errors import SpeechmillError
from speechmill.manifest import SCHEMA, write_manifest
from speechmill.settings import TokenizerSettings
from speechmill.text import WILDCARD
from speechmill.tokenizer import ANYTHING, BLANK, Tokenizer, check_tokenizer, load_tokenizer, train_tokenizer

LINES = [
    "Revenue rose 12.5% to $3.4 billion.",
    "Margins fell, and costs rose with them.",
    "Thank you. What drove the quarter's growth?",
    "We don't guide to that, but growth was broad.",
] * 3
SETTINGS = {
    "char": TokenizerSettings(kind="char", size=39),
    "bpe": TokenizerSettings(kind="bpe", size=60),
    "unigram": TokenizerSettings(kind="unigram", size=48),
}


def manifest_of(texts: list[str], path: Path, split: str = "train") -> Path:
    count = len(texts)
    values = {"start": 0.0, "end": 1.0, "native": None, "split": split, "recording": "/r.wav"}
    table = pl.DataFrame(
        {name: [values.get(name, "c")] * count for name in SCHEMA}
        | {"id": [f"u{i}" for i in range(count)], "text": texts},
        schema=SCHEMA,
    )
    write_manifest(table, path)
    return path


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    return manifest_of(LINES, tmp_path / "lines.parquet")


@pytest.mark.parametrize("kind", SETTINGS)
def test_texts_come_back_and_training_twice_gives_the_same_bytes(tmp_path: Path, lines: Path, kind: str) -> None:
    first, before = train_tokenizer(lines, tmp_path / "a.model", SETTINGS[kind])
    train_tokenizer(lines, tmp_path / "b.model", SETTINGS[kind])
    assert not before
    assert len(first) == SETTINGS[kind].size
    assert all(first.decode(first.encode(text)) == text for text in LINES)
    assert all(BLANK not in first.encode(text) for text in LINES)
    assert sha256_file(tmp_path / "a.model") == sha256_file(tmp_path / "b.model")
    assert (tmp_path / "a.model.json").read_bytes() == (tmp_path / "b.model.json").read_bytes()


def test_save_load_and_pickle_keep_ids_and_fingerprint(tmp_path: Path, lines: Path) -> None:
    trained, _ = train_tokenizer(lines, tmp_path / "a.model", SETTINGS["bpe"])
    shutil.copytree(tmp_path, tmp_path / "elsewhere")
    for other in (load_tokenizer(tmp_path / "elsewhere" / "a.model"), pickle.loads(pickle.dumps(trained))):  # noqa: S301
        assert other.fingerprint == trained.fingerprint
        assert other.settings == trained.settings
        assert other.encode(LINES[0]) == trained.encode(LINES[0])


def test_the_fingerprint_names_model_and_settings(tmp_path: Path, lines: Path) -> None:
    smaller = SETTINGS["bpe"].model_copy(update={"size": 50})
    normalized = SETTINGS["bpe"].model_copy(update={"text": "normalized"})
    made = [train_tokenizer(lines, tmp_path / f"{i}.model", s)[0] for i, s in enumerate([SETTINGS["bpe"], smaller])]
    model = (tmp_path / "0.model").read_bytes()
    assert len({*(t.fingerprint for t in made), Tokenizer(model, normalized).fingerprint}) == 3


def test_unknown_characters_become_zero_and_are_left_out(tmp_path: Path, lines: Path) -> None:
    made, _ = train_tokenizer(lines, tmp_path / "a.model", SETTINGS["char"])
    ids = made.encode("Rose Ω rose")
    assert ids.count(BLANK) == 1
    assert made.decode(ids).split() == ["Rose", "rose"]


@pytest.mark.parametrize("kind", ["char", "unigram"])
def test_wildcards_are_one_id_of_no_piece(tmp_path: Path, lines: Path, kind: str) -> None:
    made, _ = train_tokenizer(lines, tmp_path / "a.model", SETTINGS[kind])
    ids = made.encode(f"costs {WILDCARD} {WILDCARD} rose {WILDCARD}")
    assert ids == [*made.encode("costs"), ANYTHING, *made.encode("rose"), ANYTHING]
    assert made.decode([token for token in ids if token != ANYTHING]) == "costs rose"
    texts = [f"costs {WILDCARD} rose", "margins", WILDCARD]
    assert made.counts(texts).tolist() == [len(made.encode(text)) for text in texts]


def test_wildcards_are_no_text_to_learn_pieces_from(tmp_path: Path) -> None:
    manifest_of([f"abab {WILDCARD} ba", "ba"], tmp_path / "a.parquet", "train")
    made, _ = train_tokenizer(tmp_path / "a.parquet", tmp_path / "a.model", TokenizerSettings(kind="char", size=4))
    assert BLANK not in made.encode("abab ba")


def test_normalized_text_is_upper_case_without_punctuation(tmp_path: Path, lines: Path) -> None:
    settings = TokenizerSettings(kind="unigram", size=45, text="normalized")
    made, _ = train_tokenizer(lines, tmp_path / "a.model", settings)
    assert made.decode(made.encode("Margins fell, and costs rose.")) == "MARGINS FELL AND COSTS ROSE"
    assert made.encode("margins, fell") == made.encode("MARGINS FELL")


def test_only_the_train_split_counts(tmp_path: Path) -> None:
    rows = pl.concat(
        pl.read_parquet(manifest_of(texts, tmp_path / f"{split}.parquet", split))
        for split, texts in (("train", ["abab ba"]), ("test", ["xyz"]))
    )
    write_manifest(rows.with_columns(id=pl.format("u{}", pl.int_range(pl.len()))), tmp_path / "both.parquet")
    made, _ = train_tokenizer(tmp_path / "both.parquet", tmp_path / "a.model", TokenizerSettings(kind="char", size=4))
    assert set(made.encode("xyz")) & set(made.encode("ab")) <= {1, 2, 3}
    assert BLANK in made.encode("xyz")
    with pytest.raises(SpeechmillError, match=r"test\.parquet: no rows in the train split"):
        train_tokenizer(tmp_path / "test.parquet", tmp_path / "b.model", SETTINGS["char"])


def refused(tmp_path: Path, manifest: Path, settings: TokenizerSettings) -> str:
    with pytest.raises(SpeechmillError) as caught:
        train_tokenizer(manifest, tmp_path / "a.model", settings)
    assert not (tmp_path / "a.model").exists()
    assert not (tmp_path / "a.model.json").exists()
    return str(caught.value)


@pytest.mark.parametrize("kind", SETTINGS)
def test_more_pieces_than_the_text_allows(tmp_path: Path, lines: Path, kind: str) -> None:
    message = refused(tmp_path, lines, SETTINGS[kind].model_copy(update={"size": 5000}))
    assert "tokenizer.size asks for 5000" in message
    most = int(message.rpartition("tokenizer.size=")[2].split(" ")[0].rstrip("."))
    made, _ = train_tokenizer(lines, tmp_path / "a.model", SETTINGS[kind].model_copy(update={"size": most}))
    assert len(made) == most


@pytest.mark.parametrize("kind", SETTINGS)
def test_fewer_pieces_than_the_text_has_characters(tmp_path: Path, lines: Path, kind: str) -> None:
    message = refused(tmp_path, lines, SETTINGS[kind].model_copy(update={"size": 5}))
    assert "tokenizer.size asks for 5; set tokenizer.size=39" in message


def test_text_that_is_empty_once_normalized(tmp_path: Path) -> None:
    path = manifest_of(["...", "?"], tmp_path / "m.parquet")
    message = refused(tmp_path, path, TokenizerSettings(kind="bpe", size=10, text="normalized"))
    assert message.endswith("the texts of its train split are empty, so there is nothing to train a tokenizer on.")


def test_a_tokenizer_that_is_there_is_not_trained_again(tmp_path: Path, lines: Path) -> None:
    path = tmp_path / "a.model"
    first, _ = train_tokenizer(lines, path, SETTINGS["bpe"])
    stat = path.stat()
    again, before = train_tokenizer(lines, path, SETTINGS["bpe"])
    assert before
    assert again.fingerprint == first.fingerprint
    assert path.stat().st_mtime_ns == stat.st_mtime_ns
    for manifest, settings in (
        (lines, SETTINGS["bpe"].model_copy(update={"size": 50})),
        (manifest_of(LINES[:3] * 4, tmp_path / "other.parquet"), SETTINGS["bpe"]),
    ):
        with pytest.raises(SpeechmillError, match="of another text or other settings"):
            train_tokenizer(manifest, path, settings)
        assert path.stat().st_mtime_ns == stat.st_mtime_ns


def test_a_run_killed_between_model_and_note_is_repeated(
    tmp_path: Path, lines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, whole = tmp_path / "a.model", tmp_path / "whole.model"
    train_tokenizer(lines, whole, SETTINGS["bpe"])
    train_tokenizer(lines, path, SETTINGS["unigram"])
    path.unlink()  # an older note is still there

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            train_tokenizer(lines, path, SETTINGS["bpe"])
    with pytest.raises(SpeechmillError, match="not a tokenizer"):
        load_tokenizer(path)
    assert train_tokenizer(lines, path, SETTINGS["bpe"])[1] is False
    assert path.read_bytes() == whole.read_bytes()
    assert (tmp_path / "a.model.json").read_bytes() == (tmp_path / "whole.model.json").read_bytes()


def test_a_changed_model_is_refused(tmp_path: Path, lines: Path) -> None:
    path, other = tmp_path / "a.model", tmp_path / "b.model"
    train_tokenizer(lines, path, SETTINGS["bpe"])
    train_tokenizer(lines, other, SETTINGS["unigram"])
    whole = path.read_bytes()
    for data in (other.read_bytes(), whole[:-20], b"", b"not a model"):
        path.write_bytes(data)
        with pytest.raises(SpeechmillError, match=r"a\.model: (was changed|not a tokenizer)"):
            load_tokenizer(path)
        with pytest.raises(SpeechmillError, match=r"a\.model: (was changed|not a tokenizer)"):
            train_tokenizer(lines, path, SETTINGS["bpe"])


@pytest.mark.parametrize(
    "note", [None, "[]", "{}", '{"fingerprint": "x", "settings": {"kind": "wrong"}}', '{"settings": {}}']
)
def test_a_damaged_note_is_refused(tmp_path: Path, lines: Path, note: str | None) -> None:
    path = tmp_path / "a.model"
    train_tokenizer(lines, path, SETTINGS["bpe"])
    (tmp_path / "a.model.json").unlink()
    if note is not None:
        (tmp_path / "a.model.json").write_text(note)
    with pytest.raises(SpeechmillError, match=r"a\.model"):
        load_tokenizer(path)


def test_a_missing_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpeechmillError, match="no such tokenizer"):
        load_tokenizer(tmp_path / "a.model")
    (tmp_path / "a.model").write_text("id,text\n")
    with pytest.raises(SpeechmillError, match=r"a\.model: not a tokenizer of Speechmill, which has a\.model\.json"):
        load_tokenizer(tmp_path / "a.model")


@pytest.mark.parametrize(
    ("name", "value"), [("size", 27), ("kind", "bpe"), ("text", "normalized"), ("character_coverage", 0.95)]
)
def test_a_tokenizer_that_is_not_the_recipes_is_refused(
    tokenizer: Tokenizer, tokenizer_path: Path, name: str, value: object
) -> None:
    check_tokenizer(tokenizer, tokenizer.settings, tokenizer_path)
    wanted = tokenizer.settings.model_copy(update={name: value})
    with pytest.raises(
        SpeechmillError, match=f"tokenizer.model: this tokenizer has {name} .* tokenizer.{name} is {value}"
    ):
        check_tokenizer(tokenizer, wanted, tokenizer_path)


def test_the_note_says_what_it_is(tokenizer: Tokenizer, tokenizer_path: Path, manifest: Path) -> None:
    note = json.loads(tokenizer_path.with_name("tokenizer.model.json").read_text())
    assert note["fingerprint"] == tokenizer.fingerprint
    assert note["pieces"] == len(tokenizer)
    assert TokenizerSettings(**note["settings"]) == tokenizer_settings(manifest)
