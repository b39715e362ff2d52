"""Comparison of runs: what is read, what is told of broken folders, and what the tables, workbook and page say."""

from __future__ import annotations

import datetime
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pytest
import yaml

from speechmill.compare import (
    compare,
    markdown_table,
    read_run,
    settings_that_differ,
    terminal_table,
    write_page,
    write_xlsx,
)
from speechmill.compare.differences import differences
from speechmill.compare.examples import choose, examples
from speechmill.compare.page import aligned, curves
from speechmill.compare.runs import common_level, distinct_names, thin
from speechmill.errors import SpeechmillError

CONFIG = {"name": "demo", "select": {"hours": 3.0}, "optim": {"lr": 0.001}, "train": {"strategy": "single"}}
ALIGNMENT = [["=", "GOOD", "GOOD"], ["S", "DAY", "<B>"], ["D", "TO", None], ["I", None, "OH"], ["=", "ALL", "ALL"]]


def train_line(update: int, **values: Any) -> dict[str, Any]:
    line = {"event": "train", "update": update, "seconds": update / 10, "audio_seconds": update * 36.0, "loss": 2.5}
    return line | {"lr": 0.001, "grad_norm": 1.0, "padding": 0.1, "data_wait": 0.02, "skipped": 0} | values


def valid_line(update: int, wer: float) -> dict[str, Any]:
    rates = {"wer": wer, "cer": wer / 2, "wer_p": wer, "cer_p": wer / 2}
    place = {"update": update, "seconds": update / 10, "audio_seconds": update * 36.0}
    return {"event": "valid", **place, **rates, "utterances": 10, "valid_seconds": 1.0}


FULL = [train_line(100), valid_line(100, 0.5), train_line(200, loss=1.5), valid_line(200, 0.25)]
END = {"event": "end", "update": 200, "seconds": 20.0, "audio_seconds": 7200.0, "best_update": 200, "best_wer": 0.25}


def make_run(
    path: Path,
    lines: list[dict[str, Any]] | None = None,
    scores: dict[str, float] | None = None,
    config: dict[str, Any] | None = None,
) -> Path:
    """A run folder; `scores` maps a scored set to its WER."""
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump(config or CONFIG), encoding="utf-8")
    (path / "environment.json").write_text(json.dumps({"torch": "2.11.0", "parameters": 1_600_000}), encoding="utf-8")
    if lines is not None:
        (path / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines), encoding="utf-8")
    for name, wer in (scores or {}).items():
        rates = {"wer": wer, "wer_p": wer + 0.03, "cer": wer / 2, "cer_p": wer / 2 + 0.01, "utterances": 1, "words": 4}
        groups = {"native": {"true": {**rates, "wer": wer - 0.01}, "false": {**rates, "wer": wer + 0.02}}}
        utterance = {"id": "call-1", "errors": 3, "words": 4, "reference": "Good day to all.", "hypothesis": "good oh"}
        (path / "scores").mkdir(exist_ok=True)
        worst = [{**utterance, "wer": 0.75}]
        (path / "scores" / f"{name}.json").write_text(json.dumps({**rates, "by": groups, "worst": worst}))
        (path / "scores" / f"{name}.utterances.jsonl").write_text(
            json.dumps({**utterance, "alignment": ALIGNMENT}) + "\n"
        )
    return path


@pytest.fixture
def full(tmp_path: Path) -> Path:
    return make_run(tmp_path / "full", [*FULL, END], {"test": 0.12, "dev": 0.2})


@pytest.fixture
def other(tmp_path: Path) -> Path:
    lines = [train_line(100, loss=None, skipped=1), valid_line(100, 0.4)]
    return make_run(tmp_path / "other", lines, {"test": 0.1}, CONFIG | {"optim": {"lr": 0.01, "name": "adam"}})


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    path = tmp_path / "empty"
    path.mkdir()
    (path / "config.yaml").write_text("name: young\n")
    return path


def test_a_run_is_read_as_columns_and_facts(full: Path) -> None:
    run = read_run(full)
    assert run.train["loss"].tolist() == [2.5, 1.5]
    assert run.valid["wer"].tolist() == [0.5, 0.25]
    assert (run.name, run.recipe, run.state) == ("full", "demo", "ended")
    assert (run.updates, run.seconds, run.audio_seconds, run.audio_per_second) == (200, 20, 7200, 360)
    assert run.padding == pytest.approx(0.1)
    assert (run.parameters, run.train_hours, run.skipped) == (1_600_000, 3, 0)
    assert run.rate("test", "wer") == 0.12
    assert run.rate("test", "wer", native=False) == pytest.approx(0.14)
    assert run.rate("absent", "wer") is None


def test_shares_weigh_by_the_length_of_their_interval(tmp_path: Path) -> None:
    lines = [train_line(100, padding=0.4, data_wait=0.0), train_line(400, padding=0.0, data_wait=0.2)]
    run = read_run(make_run(tmp_path / "run", lines))
    assert run.padding == pytest.approx(0.1)
    assert run.data_wait == pytest.approx(0.15)


def test_a_resumed_run_replaces_the_updates_it_walks_again(tmp_path: Path) -> None:
    lines = [*FULL, train_line(300), valid_line(300, 0.9), train_line(200, loss=1.4), valid_line(200, 0.24)]
    run = read_run(make_run(tmp_path / "run", [*lines[:6], END, *lines[6:]]))
    assert run.train["update"].tolist() == [100, 200]
    assert run.train["loss"].tolist() == [2.5, 1.4]
    assert run.valid["wer"].tolist() == [0.5, 0.24]
    assert run.state == "not ended"


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpeechmillError, match=r"absent: no such folder"):
        read_run(tmp_path / "absent")
    with pytest.raises(SpeechmillError, match=r"not a run folder \(it has no config\.yaml\)"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"event": "train", "upd', r"metrics\.jsonl, line 2: not valid JSON"),
        ("[1, 2]", r"metrics\.jsonl, line 2: expected a JSON object"),
        ('{"event": "train"}', r"metrics\.jsonl, line 2: expected an `event` and a number `update`"),
    ],
)
def test_a_broken_line_of_metrics_is_named(full: Path, line: str, said: str) -> None:
    lines = (full / "metrics.jsonl").read_text().splitlines()
    (full / "metrics.jsonl").write_text("\n".join([lines[0], line, *lines[1:]]) + "\n")
    with pytest.raises(SpeechmillError, match=said):
        read_run(full)


def test_a_last_line_that_was_cut_short_is_left_out(full: Path) -> None:
    with (full / "metrics.jsonl").open("a") as stream:
        stream.write('{"event": "train", "upd')
    assert read_run(full).updates == 200


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.yaml", "a: [1\nb: 2\n", r"config\.yaml, line 2: not valid YAML"),
        ("config.yaml", "- 1\n", r"config\.yaml: expected a mapping"),
        ("environment.json", "{", r"environment\.json, line 1: not valid JSON"),
        ("scores/test.json", "3", r"scores/test\.json: expected a mapping"),
    ],
)
def test_a_broken_file_of_a_run_is_named(full: Path, name: str, content: str, said: str) -> None:
    (full / name).write_text(content)
    with pytest.raises(SpeechmillError, match=said):
        read_run(full)


def test_settings_that_differ(full: Path, other: Path) -> None:
    runs = [read_run(full), read_run(other)]
    assert settings_that_differ(runs) == {"optim.lr": [0.001, 0.01], "optim.name": [None, "adam"]}
    assert settings_that_differ(runs[:1]) == {}


def test_names_tell_runs_apart(tmp_path: Path) -> None:
    paths = [make_run(tmp_path / "a" / "run"), make_run(tmp_path / "b" / "run")]
    assert distinct_names([read_run(path) for path in paths]) == ["a/run", "b/run"]
    assert distinct_names([read_run(paths[0])]) == ["run"]
    assert distinct_names([read_run(paths[0])] * 2) == ["run (1)", "run (2)"]


def test_time_to_the_level_that_all_runs_reached(full: Path, other: Path, empty: Path) -> None:
    runs = [read_run(path) for path in (full, other, empty)]
    level = common_level(runs)
    assert level == 0.4
    assert [run.seconds_to_wer(level) for run in runs] == [20.0, 10.0, None]
    assert common_level(runs[:1]) is None


def test_thinning_averages_what_is_measured_and_keeps_the_last_of_what_is_reached(tmp_path: Path) -> None:
    lines = [train_line(i, loss=float(i) if i != 3 else None) for i in range(1, 11)]
    run = read_run(make_run(tmp_path / "run", lines))
    thinned = thin(run.train, 5)
    assert thinned["update"].tolist() == [2, 4, 6, 8, 10]
    assert thinned["loss"].tolist() == [1.5, 4.0, 5.5, 7.5, 9.5]
    assert thin(run.train, 10) is run.train


def test_terminal_table(full: Path, other: Path, empty: Path) -> None:
    text = terminal_table([read_run(path) for path in (full, other, empty)])
    assert re.search(r"test +full +12\.00 % +15\.00 % +6\.00 % +7\.00 % +11\.00 % +14\.00 % +1\n", text)
    assert re.search(r"full +demo +ended +25\.00 % +0:00:20 +3\.00 +2\.00 +200 +0:00:20 +360\.0 +10\.0 % +2\.0 %", text)
    assert re.search(r"empty +young +not started +– +–", text)
    assert re.search(r"optim\.lr +0\.001 +0\.01 +–\n", text)
    assert text.index("test ") < text.index("dev ")
    assert all(line == line.rstrip() for line in text.splitlines())


def test_markdown_table(full: Path, other: Path) -> None:
    text = markdown_table([read_run(full), read_run(other)])
    assert "| scored set | run | WER | WER-P | CER | CER-P | native WER | non-native WER | utterances |" in text
    assert "| test | other | 10.00 % | 13.00 % | 5.00 % | 6.00 % | 9.00 % | 12.00 % | 1 |" in text
    tables = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    assert len(tables) == 4
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_markdown_escapes_bars(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "a|b", FULL))
    assert "| a\\|b |" in markdown_table([run])


def test_workbook_holds_numbers(full: Path, other: Path, empty: Path, tmp_path: Path) -> None:
    write_xlsx([read_run(path) for path in (full, other, empty)], tmp_path / "out.xlsx")
    book = openpyxl.load_workbook(tmp_path / "out.xlsx")
    assert book.sheetnames == ["runs", "strategies", "curves"]
    sheet = book["runs"]
    at = {cell.value: cell.column for cell in sheet[1]}
    assert [sheet.cell(row, 1).value for row in (2, 3, 4)] == ["full", "other", "empty"]
    wer = sheet.cell(2, at["test WER"])
    assert (wer.value, wer.number_format) == (0.12, "0.00%")
    assert sheet.cell(3, at["dev WER"]).value is None
    assert sheet.cell(2, at["updates"]).value == 200
    assert sheet.cell(2, at["wall-clock"]).number_format == "[h]:mm:ss"
    assert sheet.freeze_panes == book["curves"].freeze_panes == "B2"
    rows = list(book["curves"].values)
    assert rows[0][:3] == ("run", "event", "update")
    assert [row[:3] for row in rows[1:4]] == [("full", "train", 100), ("full", "train", 200), ("full", "valid", 100)]
    assert rows[3][rows[0].index("wer")] == 0.5


def test_workbook_is_the_same_bytes_each_time(full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [read_run(full)]
    write_xlsx(runs, tmp_path / "a.xlsx")
    monkeypatch.setattr("zipfile.time.localtime", lambda _=None: (2001, 2, 3, 4, 5, 6, 0, 0, 0))
    write_xlsx(runs, tmp_path / "b.xlsx")
    content = (tmp_path / "a.xlsx").read_bytes()
    assert content == (tmp_path / "b.xlsx").read_bytes()
    assert openpyxl.load_workbook(tmp_path / "a.xlsx").properties.modified == datetime.datetime(2000, 1, 1)


def test_a_name_like_a_formula_stays_text(tmp_path: Path) -> None:
    write_xlsx([read_run(make_run(tmp_path / "=1+1", FULL))], tmp_path / "out.xlsx")
    cell = openpyxl.load_workbook(tmp_path / "out.xlsx")["runs"]["A2"]
    assert (cell.value, cell.data_type) == ("=1+1", "s")


class Page(HTMLParser):
    """Checks that tags close in order; keeps the text, and every attribute that could fetch something."""

    VOID = frozenset({"meta", "line", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.fetches: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetches += [f"{tag} {name}" for name, _ in attrs if name in ("src", "href", "xlink:href", "data")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetches += [f"{tag} {name}" for name, _ in attrs if name in ("src", "href", "xlink:href", "data")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["script"], ["style"]):
            self.text += data


def page_of(paths: list[Path], out: Path) -> tuple[str, Page]:
    write_page([read_run(path) for path in paths], out)
    html = out.read_text(encoding="utf-8")
    return html, Page(html)


def test_page_of_several_runs(full: Path, other: Path, empty: Path, tmp_path: Path) -> None:
    html, page = page_of([full, other, empty], tmp_path / "page.html")
    assert page.fetches == []
    assert "url(" not in re.sub(r"url\(#", "", html)
    for expected in (
        "3 runs compared",
        "12.00 %",
        "Settings in which the runs differ",
        "optim.lr",
        "not started",
        "2.11.0",
    ):
        assert expected in page.text
    data = json.loads(re.search(r'id="curves">(.*?)</script>', html, re.DOTALL).group(1))  # type: ignore[union-attr]
    assert [run["name"] for run in data] == ["full", "other", "empty"]
    assert data[0]["valid"] == {
        "update": [100, 200], "seconds": [10, 20], "audio_seconds": [3600, 7200], "wer": [0.5, 0.25],
    }  # fmt: skip
    assert data[1]["train"]["loss"] == [None]
    assert data[2]["valid"]["wer"] == []


def test_lowest_rate_of_a_set_is_bold_only_beside_others(full: Path, other: Path, tmp_path: Path) -> None:
    html, _ = page_of([full, other], tmp_path / "page.html")
    assert '<td class="rate best">10.00 %</td>' in html
    assert '<td class="rate">12.00 %</td>' in html
    assert '<td class="rate">20.00 %</td>' in html  # the set `dev`, which one run alone was scored on


def test_page_of_one_run_and_of_an_empty_one(full: Path, empty: Path, tmp_path: Path) -> None:
    html, page = page_of([full], tmp_path / "one.html")
    assert "full: one run" in page.text
    assert "Settings in which" not in page.text
    assert page_of([full], tmp_path / "again.html")[0] == html
    _, young = page_of([empty], tmp_path / "young.html")
    assert "No run is scored yet." in young.text


def test_page_escapes_what_comes_from_a_run(tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>&\"'"
    run = make_run(tmp_path / evil.replace("/", ""), FULL, {"test": 0.1}, CONFIG | {"name": evil})
    (run / "environment.json").write_text(json.dumps({evil: evil}))
    second = make_run(tmp_path / "b<", FULL, {"x<i>": 0.2})
    html, page = page_of([run, second], tmp_path / "page.html")
    assert "<img" not in html
    assert "<i>" not in html
    assert page.fetches == []
    assert evil in page.text
    assert "<B>" in page.text  # the substituted word of the alignment, as text


def scored_calls(path: Path, errors: list[int], **changes: Any) -> Path:
    """A run scored on eight calls of two utterances."""
    run = make_run(path, FULL, {"test": 0.1})
    lines = [
        {"id": f"u{k}", "call": f"c{k // 2}", "reference": "a b", "errors": wrong, "words": 20, **changes}
        for k, wrong in enumerate(errors)
    ]
    (run / "scores" / "test.utterances.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    scores = json.loads((run / "scores" / "test.json").read_text()) | {"interval": [0.08, 0.125]}
    (run / "scores" / "test.json").write_text(json.dumps(scores))
    return run


def test_runs_are_compared_call_by_call(tmp_path: Path) -> None:
    worse = [3, 4, 5, 3, 6, 4, 2, 5, 3, 4, 4, 5, 6, 3, 2, 4]
    better = [value - 1 - (k % 3 == 0) for k, value in enumerate(worse)]
    runs = [read_run(scored_calls(tmp_path / name, errors)) for name, errors in (("one", worse), ("two", better))]
    ((scored, run, other, found),) = differences(runs)
    assert (scored, run, other, found.blocks) == ("test", 1, 0, 8)
    assert found.value == pytest.approx((sum(better) - sum(worse)) / 320)
    assert found.interval is not None
    assert found.interval.low < found.value < found.interval.high < 0
    assert found.p == 2 / 2**8
    text = terminal_table(runs)
    assert "Differences of WER" in text
    assert "−6.88  " in text
    assert "0.0078" in text
    assert "8.00–12.50 %" in text
    html, _ = page_of([run.path for run in runs], tmp_path / "page.html")
    assert "Differences of WER" in html
    assert "8.00–12.50 %" in html


def test_runs_are_compared_by_the_blocks_of_their_intervals(tmp_path: Path) -> None:
    errors = [(3, 2), (4, 4), (5, 3), (3, 3)]
    runs = [
        read_run(scored_calls(tmp_path / str(side), [pair[side] for pair in errors], block="ann")) for side in (0, 1)
    ]
    assert [found.blocks for *_, found in differences(runs)] == [1]
    for run in runs:  # of a set that knows no calls
        path = run.utterances_file("test")
        lines = [json.loads(line) | {"block": f"s{k}"} for k, line in enumerate(path.read_text().splitlines())]
        path.write_text("".join(json.dumps({k: v for k, v in x.items() if k != "call"}) + "\n" for x in lines))
    assert [found.blocks for *_, found in differences(runs)] == [4]


def test_runs_that_cannot_be_compared_are_not(tmp_path: Path, full: Path) -> None:
    one = scored_calls(tmp_path / "one", [1, 2, 3])
    other = scored_calls(tmp_path / "two", [1, 2, 3], reference="another text")
    assert differences([read_run(one), read_run(other)]) == []
    assert differences([read_run(one), read_run(full)]) == [], "scored before calls were noted"
    assert differences([read_run(one)]) == []
    assert "Differences" not in terminal_table([read_run(one), read_run(other)])


def test_alignment_is_marked_by_kind() -> None:
    steps = [("=", "GOOD", "GOOD"), ("S", "DAY", "<B>"), ("D", "TO", ""), ("I", "", "OH")]
    assert aligned(steps) == (
        'GOOD <span class="swap"><del>DAY</del><ins>&lt;B&gt;</ins></span> <del>TO</del> <ins>OH</ins>'
    )


def test_examples_show_typical_and_worst_utterances_of_at_least_five_words() -> None:
    counts = {f"u{i:02d}": (float(i), 20.0) for i in range(13)} | {"short": (3.0, 1.0)}
    chosen = choose([counts, counts | {"only-here": (20.0, 20.0)}])
    assert [u for kind, u in chosen if kind == "worst"] == ["u12", "u11", "u10"]
    assert [u for kind, u in chosen if kind == "typical"] == ["u02", "u04", "u07"]
    assert choose([{"short": (3.0, 1.0)}]) == [("worst", "short")]
    assert choose([{}]) == []


def test_examples_fall_back_on_the_worst_of_the_scores(full: Path, other: Path) -> None:
    runs = [read_run(full), read_run(other)]
    assert [sorted(e.transcripts) for e in examples(runs, "test")] == [[0, 1]]
    for run in runs:
        run.utterances_file("test").unlink()
    (example,) = examples(runs, "test")
    assert (example.kind, example.reference) == ("worst", "Good day to all.")
    assert example.transcripts[1].hypothesis == "good oh"
    assert example.transcripts[1].alignment == []


def test_a_broken_alignment_is_named(full: Path) -> None:
    run = read_run(full)
    run.utterances_file("test").write_text('{"id": "a", "errors": 1, "words": 5, "alignment": [["X", "A", "B"]]}\n')
    with pytest.raises(SpeechmillError, match=r"test\.utterances\.jsonl, line 1: expected an alignment"):
        examples([run], "test")


def test_a_cut_short_line_of_a_finished_file_is_an_error(full: Path) -> None:
    run = read_run(full)
    run.utterances_file("test").write_text('{"id": "a", "err')
    with pytest.raises(SpeechmillError, match=r"test\.utterances\.jsonl, line 1: not valid JSON"):
        examples([run], "test")


def test_curves_are_thinned_and_finite(tmp_path: Path) -> None:
    lines = [train_line(i, loss=float("nan") if i % 7 == 0 else 1.0) for i in range(1, 1001)]
    (curve,) = curves([read_run(make_run(tmp_path / "run", lines))])
    assert len(curve["train"]["loss"]) == 400
    assert curve["train"]["update"][-1] == 1000
    assert np.isfinite([value for value in curve["train"]["loss"] if value is not None]).all()


def test_compare_writes_a_folder_or_one_file(full: Path, other: Path, tmp_path: Path) -> None:
    done = compare([full, other, full], tmp_path / "report")
    assert [file.name for file in done.written] == ["compare.html", "compare.md", "compare.xlsx"]
    assert all(file.is_file() for file in done.written)
    assert sorted(p.name for p in (tmp_path / "report").iterdir()) == ["compare.html", "compare.md", "compare.xlsx"]
    assert [run.name for run in done.runs] == ["full", "other"]
    assert done.text == terminal_table(done.runs)
    assert compare([full], tmp_path / "one.md").written == [tmp_path / "one.md"]
    assert compare([full], None).written == []


def test_compare_refuses_nothing_and_a_file_in_the_way(full: Path, tmp_path: Path) -> None:
    with pytest.raises(SpeechmillError, match="no run was named"):
        compare([], None)
    (tmp_path / "note.txt").write_text("x")
    with pytest.raises(SpeechmillError, match="is a file"):
        compare([full], tmp_path / "note.txt")
    with pytest.raises(SpeechmillError, match=r"report\.pdf: \.pdf is not written; give a folder, or a file that ends"):
        compare([full], tmp_path / "report.pdf")
    assert not (tmp_path / "report.pdf").exists()
    assert len(compare([full], tmp_path / "report-1.2").written) == 3
