"""The page of a scored set, looked at in headless Chromium: sorting, filtering, keys, sound, hostile text, size."""

from __future__ import annotations

import base64
import json
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from chromium import Tab, chromium, needs_chromium
from speechmill.score.groups import score_utterance
from speechmill.score.kinds import KINDS
from speechmill.score.page import write_page
from speechmill.score.result import Sound, UtteranceScore
from speechmill.score.rows import PASSAGE, passages, view_rows
from speechmill.score.summary import summarize
from speechmill.score.written import like_beside_like

EVIL = '</script><img src="http://x.invalid/" onerror="document.title=1">&amp;'
ROWS = 100


def utterances(folder: Path) -> list[UtteranceScore]:
    generator = random.Random(1)
    made = []
    for number in range(ROWS):
        words = [
            generator.choice(["Net", "sales", "rose,", "by", "10%", "we", "think"]) for _ in range(5 + number % 20)
        ]
        heard = []
        for word in words:
            chance = generator.random()
            if chance < 0.1:
                heard.append("uh")
            if chance < 0.95:
                heard.append(word.lower().strip(",") if chance < 0.4 else "sails" if chance > 0.9 else word)
        made.append(
            replace(
                score_utterance(f"utt-{number}", " ".join(words), " ".join(heard)),
                attributes={"native": str(number % 3 > 0).lower(), "call": f"c{number // 10}"},
                sound=Sound(str(folder / "sound.wav"), 0.1, 0.4) if number % 2 else Sound(str(folder / "gone.wav")),
            )
        )
    evil = score_utterance(EVIL, f"{EVIL} end", f"end {EVIL[:12]}")
    return [*made, replace(evil, attributes={"native": "true", "call": EVIL})]


def write(path: Path, items: list[UtteranceScore], clips: dict[str, str] | None = None) -> Path:
    attributes = {name: [item.attributes.get(name) for item in items] for name in ("native", "call")}
    blocks = [item.attributes.get("call", item.id) for item in items]
    write_page(path, f"a run {EVIL}", summarize(items, attributes, blocks, "call"), items, clips)
    return path


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> list[UtteranceScore]:
    folder = tmp_path_factory.mktemp("page")
    tone = 0.1 * np.sin(np.arange(8000) / 8)
    soundfile.write(folder / "sound.wav", tone, 8000)
    return utterances(folder)


@pytest.fixture(scope="module")
def page(items: list[UtteranceScore]) -> Path:
    sound = items[1].sound
    assert sound
    return write(Path(sound.path).parent / "page.html", items)


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def opened(tab: Tab, page: Path) -> Iterator[Tab]:
    tab.requests.clear()
    tab.open(page)
    yield tab
    assert tab.errors == []


def data_of(page: Path) -> dict[str, Any]:
    text = page.read_text(encoding="utf-8")
    data = text.partition('id="data">')[2].partition("</script>")[0]
    parsed: dict[str, Any] = json.loads(data)
    return parsed


def shown(tab: Tab) -> list[str]:
    ids: list[str] = tab.run("[...document.querySelectorAll('#rows > li[data-id]')].map(row => row.dataset.id)")
    return ids


def choose(tab: Tab, selector: str, value: str) -> None:
    tab.run(
        f"(() => {{ const box = document.querySelector({json.dumps(selector)}); box.value = {json.dumps(value)};"
        "box.dispatchEvent(new Event('change')); })()"
    )


def text_once_it_changes(tab: Tab, selector: str, now: str) -> str:
    """What an element says when it no longer says `now`; what it says after half a minute, whatever that is."""
    text: str = tab.run(
        f"new Promise(done => {{ const look = n => {{ const text = document.querySelector({json.dumps(selector)})"
        f".textContent; if (text !== {json.dumps(now)} || n > 600) done(text); else setTimeout(look, 50, n + 1); }};"
        "look(0); })"
    )
    return text


def rates(items: list[UtteranceScore]) -> dict[str, float]:
    return {item.id: item.rates.wer or 0.0 for item in items}


def test_same_scores_same_bytes_and_nothing_from_elsewhere(items: list[UtteranceScore], page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert write(page.parent / "again.html", items).read_bytes() == page.read_bytes()
    assert "<img" not in text
    assert not re.search(r"<[^>]*\b(src|href)=", text.partition("<script")[0])
    assert "default-src 'none'" in text
    assert text.count("<script") == 2


def test_every_error_is_on_the_page(items: list[UtteranceScore], page: Path) -> None:
    data = data_of(page)
    words = [(item.rates.word.errors, item.rates.word.words) for item in items]
    written = [(item.rates.word_p.errors, item.rates.word_p.length) for item in items]
    for view, counts in (("words", words), ("written", written)):
        rows = data["views"][view]
        assert [(row["e"], row["w"]) for row in rows] == counts
        assert sum(data["counts"][view]) == sum(errors for errors, _ in counts)
    assert data["sounds"] == ["sound.wav"], "relative to the page; what is gone has no button"
    assert sum("a" in row for row in data["views"]["words"]) == ROWS // 2


def test_long_texts_are_cut_where_words_are_right() -> None:
    words = [f"w{k}" for k in range(1_000)]
    item = score_utterance("hour", " ".join(words), " ".join(word for k, word in enumerate(words) if k % 7))
    rows = list(view_rows([item], "words"))
    assert len(rows) == len(passages(item.alignment)) > 10
    assert all(row["w"] >= PASSAGE for row in rows[:-1])
    assert (sum(row["e"] for row in rows), sum(row["w"] for row in rows)) == (item.rates.word.errors, 1_000)
    assert (rows[0]["f"][0], rows[-1]["f"][1]) == (0, 1)
    assert all(one["f"][1] == other["f"][0] for one, other in pairwise(rows))
    wrong = score_utterance("none", " ".join(words), "")
    assert max(row["w"] for row in view_rows([wrong], "words")) <= 2 * PASSAGE + PASSAGE // 3


@needs_chromium
def test_sorting(opened: Tab, items: list[UtteranceScore]) -> None:
    assert shown(opened) == [item.id for item in items[:40]]
    choose(opened, "#sort", "rate")
    by_rate = rates(items)
    found = [by_rate[name] for name in shown(opened)]
    assert found == sorted(by_rate.values(), reverse=True)[:40]
    opened.click("#way")
    assert by_rate[shown(opened)[0]] == min(by_rate.values())
    choose(opened, "#sort", "id")
    opened.click("#way")
    assert shown(opened)[:3] == ["utt-99", "utt-98", "utt-97"], "numbers in names are numbers"
    assert "sort=id" in opened.run("location.hash")


@needs_chromium
def test_filter_by_kind(opened: Tab, page: Path) -> None:
    opened.click("[data-view=written]")
    casing, filler = KINDS.index("casing only"), KINDS.index("filler")
    opened.click(f".chip[data-kind='{casing}']")
    rows = data_of(page)["views"]["written"]
    having = [row["i"] for row in rows if any(not isinstance(s, str) and s[0] // 3 == casing for s in row["s"])]
    assert 0 < len(having) < len(rows)
    assert shown(opened) == having[:40]
    assert opened.run("document.getElementById('count').textContent").startswith(f"{len(having)} of {ROWS + 1}")
    lit = opened.run("[...document.querySelectorAll('#rows .e:not(.off)')].map(e => e.title)")
    assert set(lit) == {"substitution: casing only"}
    assert opened.run("document.querySelectorAll('#rows .e.off').length") > 0
    opened.click(f".chip[data-kind='{filler}']")
    opened.click(".chip[data-op='2']")
    lit = opened.run("[...document.querySelectorAll('#rows .e:not(.off)')].map(e => e.title)")
    assert set(lit) == {"insertion: filler"}
    opened.click("#reset")
    assert len(shown(opened)) == 40


@needs_chromium
def test_kinds_groups_words_and_pairs_lead_to_their_utterances(
    opened: Tab, items: list[UtteranceScore], page: Path
) -> None:
    opened.click(f"[data-only='{KINDS.index('number')}']")
    assert set(opened.run("[...document.querySelectorAll('#rows .e:not(.off)')].map(e => e.title)")) <= {
        f"{op}: number" for op in ("substitution", "deletion", "insertion")
    }
    opened.click("#reset")
    native = data_of(page)["groups"][0]
    assert native["name"] == "native"
    choose(opened, "#by-native", str(native["values"].index("false")))
    assert shown(opened) == [item.id for item in items if item.attributes["native"] == "false"][:40]
    opened.click("#reset")
    opened.run("document.querySelector('[data-pair]').click()")
    op, reference, hypothesis = opened.run("JSON.parse(document.querySelector('[data-pair]').dataset.pair)")
    expected = [
        item.id
        for item in items
        if any(
            (e.op, e.reference or "", e.hypothesis or "") == (op, reference, hypothesis)
            for e in like_beside_like(item.alignment)
        )
    ]
    assert shown(opened) == expected[:40]


@needs_chromium
def test_address_holds_the_view(tab: Tab, page: Path) -> None:
    tab.open(page, "view=written&kind=filler,number&op=I&sort=errors&down=&by-native=true&q=uh&page=1")
    assert tab.run("document.querySelector('[data-view=written]').ariaPressed") == "true"
    assert tab.run("document.getElementById('search').value") == "uh"
    names = shown(tab)
    assert names
    tab.run("location.hash = '#view=nonsense&kind=none&sort=none&page=-4&pair={&by-native=maybe'")
    tab.run("new Promise(done => setTimeout(done, 50))")
    assert len(shown(tab)) == 40
    assert tab.errors == []


@needs_chromium
def test_keys(opened: Tab) -> None:
    opened.press("j", "j", "k", "j")
    assert opened.run("document.activeElement.dataset.id") == "utt-1"
    opened.press("n")
    assert shown(opened)[0] == "utt-40"
    opened.press("p", "/")
    assert opened.run("document.activeElement.id") == "search"
    settle = "new Promise(done => setTimeout(done, 300))"
    opened.press("1", "0")
    opened.run(settle)
    assert all(
        "10" in text for text in opened.run("[...document.querySelectorAll('#rows > li')].map(r => r.textContent)")
    )
    assert opened.run("document.getElementById('count').textContent") != "101 utterances"
    opened.press("Escape")
    opened.run(settle)
    assert opened.run("document.getElementById('count').textContent") == "101 utterances"
    assert opened.run("document.activeElement.id") != "search"
    assert opened.run("[...document.querySelectorAll('button, select, input')].every(x => x.tabIndex >= 0)")


@needs_chromium
def test_sound_plays_its_part_and_stops(opened: Tab, page: Path) -> None:
    button = "li[data-id='utt-1'] .play"
    label = opened.run(f'document.querySelector("{button}").textContent')
    assert opened.run("document.querySelector(\"li[data-id='utt-0'] .play\")") is None
    opened.click(button)
    assert opened.run(f'document.querySelector("{button}").textContent') == "■ stop"
    assert text_once_it_changes(opened, button, "■ stop") == label
    assert opened.requests == [page.as_uri(), (page.parent / "sound.wav").as_uri()]


@needs_chromium
def test_clips_play_from_the_page_itself(tab: Tab, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "clip.flac", 0.1 * np.sin(np.arange(2000) / 8), 8000)
    data = "data:audio/flac;base64," + base64.b64encode((tmp_path / "clip.flac").read_bytes()).decode()
    item = replace(score_utterance("one", "a b", "a"), attributes={"native": "true"})
    (tmp_path / "clip.flac").unlink()
    tab.open(write(tmp_path / "page.html", [item, replace(item, id="two")], {"one": data}))
    assert tab.run("document.querySelectorAll('.play').length") == 1
    tab.click(".play")
    assert text_once_it_changes(tab, ".play", "■ stop") == "▶ play"
    assert tab.run("document.querySelector('.play').disabled") is False


@needs_chromium
def test_hostile_text_stays_text(opened: Tab) -> None:
    opened.click(".pager [data-step='1']")
    opened.click(".pager [data-step='1']")
    assert shown(opened)[-1] == EVIL
    assert opened.run("document.images.length") == 0
    assert opened.run("document.title").startswith("a run </script>")
    assert EVIL in opened.run("document.getElementById('by-call').textContent")
    assert opened.requests[1:] == []


@needs_chromium
def test_marks_do_not_need_colour_and_text_is_legible_in_the_dark(opened: Tab) -> None:
    contrast = """(() => {
      const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3)
        .map(v => c.startsWith('color') ? +v : v / 255)
        .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return .2126 * r + .7152 * g + .0722 * b; };
      const back = getComputedStyle(document.body).backgroundColor;
      return [...document.querySelectorAll('#rows .e del, #rows .e ins, .note, .about')].map(e => {
        const s = getComputedStyle(e), own = s.backgroundColor, under = /, 0\\)$/.test(own) ? back : own;
        const [a, b] = [light(s.color), light(under)].sort((x, y) => y - x); return (a + .05) / (b + .05); });
    })()"""
    opened.click("[data-view=written]")
    for dark in (False, True):
        opened.dark(dark)
        assert min(opened.run(contrast)) >= 4.5
    opened.dark(False)
    lines = opened.run(
        "['del', 'ins'].map(n => getComputedStyle(document.querySelector(`#rows .e ${n}`)).textDecorationLine)"
    )
    assert lines == ["line-through", "underline"]


@needs_chromium
def test_150_000_words_stay_usable(tab: Tab, tmp_path: Path) -> None:
    generator = random.Random(2)
    items = []
    for call in range(10):
        words = [f"{generator.choice('abcdefgh')}{generator.randrange(400)}" for _ in range(15_000)]
        edits = [(("D", w, None) if generator.random() < 0.1 else ("=", w, w)) for w in words]
        item = score_utterance(f"call-{call}", "a", "a")
        items.append(replace(item, alignment=tuple(_edits(edits)), attributes={"call": f"c{call}"}))
    path = write(tmp_path / "big.html", items)
    assert path.stat().st_size < 4e6
    tab.open(path, "sort=rate&down=")
    assert len(data_of(path)["views"]["words"]) > 2_000
    assert len(shown(tab)) == 40
    tab.click("#way")
    assert len(shown(tab)) == 40
    assert tab.run("document.querySelectorAll('*').length") < 5_000, "a page at a time"


def _edits(steps: list[tuple[str, str, str | None]]) -> Iterator[Any]:
    from speechmill.score.align import Edit

    return (Edit(*step) for step in steps)
