"""A scored set as one HTML page: rates, kinds of errors, groups, and every utterance aligned. It asks no network.

Sound is played from where it lies (a file of the manifest), or from the page itself, for the clips that it is given.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from speechmill.artefact import write_text
from speechmill.score.assets import SCRIPT, STYLE
from speechmill.score.kinds import KINDS
from speechmill.score.result import Sound, UtteranceScore
from speechmill.score.rows import VIEWS, view_rows

SIGNS = dict(zip(KINDS, ("~", "#", "Aa", ".,", "A.", ""), strict=True))
"""What tells the kinds apart without colour."""

FREQUENT = 8  # lines of each list of frequent errors
MOST_VALUES = 200  # of an attribute by which the utterances can be filtered
MOST_GROUPS = 14  # lines of an attribute in the table of groups

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; media-src 'self' file: data: blob:; "
    "img-src data:"
)


def write_page(
    path: Path, title: str, summary: Mapping[str, Any], items: Sequence[UtteranceScore],
    clips: Mapping[str, str] | None = None,
) -> None:  # fmt: skip
    """Write the page of a scored set. The same scores give the same bytes.

    Args:
        summary: what `speechmill.score.summary.summarize` found of `items`.
        items: the attributes of an item are what the utterances can be filtered by.
        clips: id -> data URL of its sound, for items whose sound is in no file.
    """
    write_text(path, page(title, summary, items, clips or {}, path.parent))


def page(
    title: str, summary: Mapping[str, Any], items: Sequence[UtteranceScore], clips: Mapping[str, str], folder: Path
) -> str:
    """The page as text, to lie in `folder`. Whatever comes from outside is escaped."""
    data = _data(items, clips, folder)
    sections = [
        _tiles(summary),
        '<div class="two">' + _kinds(summary) + _groups(summary) + "</div>",
        _frequent(summary),
        _entities(summary),
        _notes(summary),
        _utterances(data),
    ]
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f"<title>{escape(title)}: scores</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<header><h1>{escape(title)}</h1><p class="note">{_about(summary, data)}</p></header>\n'
        + "\n".join(sections)
        + f'\n<script type="application/json" id="data">{_script_json(data)}</script>\n'
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _script_json(value: Any) -> str:
    """JSON that cannot end the script element which holds it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _data(items: Sequence[UtteranceScore], clips: Mapping[str, str], folder: Path) -> dict[str, Any]:
    groups = _filters(items)
    places = [{value: place for place, value in enumerate(group["values"])} for group in groups]
    sounds, where = _sounds(items, clips, folder)
    views: dict[str, list[dict[str, Any]]] = {}
    for view in VIEWS:
        rows = list(view_rows(items, view))
        for row in rows:
            item = items[row["n"]]
            row["g"] = [
                at.get(_attributes(item).get(group["name"], ""), -1) for group, at in zip(groups, places, strict=True)
            ]
            if item.id in where:
                row["a"] = where[item.id]
            del row["n"]
        views[view] = rows
    counts = {view: [0] * (3 * len(KINDS)) for view in VIEWS}
    for view, rows in views.items():
        for row in rows:
            for segment in row["s"]:
                if not isinstance(segment, str):
                    counts[view][segment[0]] += 1
    passages = any("f" in row for row in views["words"])
    return {
        "kinds": [{"name": kind, "sign": sign} for kind, sign in SIGNS.items()],
        "unit": "passage" if passages else "utterance",
        "item": "recording" if passages and all(item.recording in ("", item.id) for item in items) else "utterance",
        "groups": groups,
        "sounds": sounds,
        "counts": counts,
        "views": views,
    }


def _filters(items: Iterable[UtteranceScore]) -> list[dict[str, Any]]:
    """The attributes by which rows can be told apart, with their values."""
    values: dict[str, set[str]] = {}
    for item in items:
        for name, value in _attributes(item).items():
            values.setdefault(name, set()).add(value)
    return [{"name": name, "values": sorted(found)} for name, found in values.items() if len(found) <= MOST_VALUES]


def _attributes(item: UtteranceScore) -> dict[str, str]:
    """With the recording, where no call is known."""
    known = dict(item.attributes)
    return known if "call" in known or not item.recording else {**known, "recording": item.recording}


def _sounds(
    items: Sequence[UtteranceScore], clips: Mapping[str, str], folder: Path
) -> tuple[list[str], dict[str, list[float | None]]]:
    """Addresses of what can be played, and for each id its address's place, start and end.

    A file that is gone is left out: its utterances have no button.
    """
    addresses: dict[str, int] = {}
    where: dict[str, list[float | None]] = {}
    known: dict[str, str | None] = {}
    for item in items:
        sound = item.sound
        if item.id in clips:
            address: str | None = clips[item.id]
            sound = Sound("")
        elif sound is None:
            continue
        else:
            if sound.path not in known:
                known[sound.path] = _address(Path(sound.path), folder)
            address = known[sound.path]
        if address is not None:
            where[item.id] = [addresses.setdefault(address, len(addresses)), sound.start, sound.end]
    return list(addresses), where


def _address(path: Path, folder: Path) -> str | None:
    """Relative where the file lies below the page's folder, so that both can be moved; else absolute."""
    from urllib.parse import quote

    path, folder = path.resolve(), folder.resolve()
    if not path.is_file():
        return None
    if path.is_relative_to(folder):
        return quote(os.path.relpath(path, folder))
    return path.as_uri()


def _percent(rate: float | None, digits: int = 2) -> str:
    return "–" if rate is None else f"{100 * rate:.{digits}f}"


def _range(interval: Sequence[float] | None) -> str:
    return f"{_signed(interval[0])} to {_signed(interval[1])}" if interval else ""


def _signed(rate: float, plus: bool = False) -> str:
    """Points with a true minus."""
    return f"{100 * rate:{'+' if plus else ''}.2f}".replace("-", "−")


def _about(summary: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    size = f"{summary['utterances']:,} {data['item']}{'s' if summary['utterances'] != 1 else ''}"
    return escape(
        f"{size}, {summary['words']:,} words. WER-P and CER-P: text as written. WER and CER, normalisation: "
        f"{summary['normalization']}."
    )


def _tiles(summary: Mapping[str, Any]) -> str:
    about = summary["uncertainty"]
    blocks = f"{about['blocks']} {about['blocked_by']}{'s' if about['blocks'] != 1 else ''}"
    under = (
        f"{100 * about['level']:.0f} % interval {_range(summary['interval'])}, over {blocks}"
        if summary["interval"]
        else f"no interval from {blocks}"
    )
    names = {"wer_p": "WER-P", "cer": "CER", "cer_p": "CER-P", "ser": "sentence error rate"}
    tiles = [
        f"<dl><dt>{name}</dt><dd>{_percent(summary[key])}<small> %</small></dd></dl>" for key, name in names.items()
    ]
    counts = ("substitutions", "deletions", "insertions")
    tiles += [f"<dl><dt>{name}</dt><dd>{summary[name]:,}</dd></dl>" for name in counts]
    main = f"<dl><dt>WER</dt><dd>{_percent(summary['wer'])}<small> %</small></dd></dl><p>{escape(under)}</p>"
    against = _comparison(summary.get("comparison"))
    return f'<div class="tiles"><div class="main">{main}</div>{"".join(tiles)}</div>{against}'


def _kinds(summary: Mapping[str, Any]) -> str:
    parts = {kind: part for kind, part in summary["kinds"].items() if part["errors"]}
    total = sum(part["errors"] for part in parts.values())
    if not total:
        return '<section><h2>What kind of errors</h2><p class="note">None.</p></section>'
    bar = "".join(
        f'<span class="k{KINDS.index(kind)}" style="flex:{part["errors"]}" title="{kind}">'
        f"{escape(SIGNS[kind] or 'word') if part['errors'] / total > 0.06 else ''}</span>"
        for kind, part in parts.items()
    )
    rows = "".join(
        f'<tr><th scope="row"><button type="button" class="link" data-only="{place}" title="show these">'
        f'<span class="sign k{place}">{escape(SIGNS[kind]) or "abc"}</span>{kind}</button></th>'
        f"<td>{_percent(summary['kinds'][kind]['rate'])}</td><td>{summary['kinds'][kind]['errors']:,}</td>"
        f"<td>{_percent(summary['kinds'][kind]['errors'] / total, 1)} %</td></tr>"
        for place, kind in enumerate(KINDS)
    )
    return (
        f'<section><h2>What kind of errors</h2><div class="stack" aria-hidden="true">{bar}</div>'
        '<div class="wide"><table><thead><tr><th class="text">WER-P in parts</th><th>points</th><th>errors</th>'
        f"<th>share</th></tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def _groups(summary: Mapping[str, Any]) -> str:
    """Rates by group, with their intervals drawn on one scale."""
    lines = [("", "all", summary)]
    left_out = 0
    for attribute, groups in (summary["by"] or {"recording": summary.get("by_recording", {})}).items():
        ranked = sorted(groups.items(), key=lambda item: -(item[1]["wer"] or 0.0))
        kept = {name for name, _ in ranked[:MOST_GROUPS]}
        left_out += len(groups) - len(kept)
        lines += [(attribute, name, rates) for name, rates in groups.items() if name in kept]
    ends = [value for _, _, r in lines for value in [r["wer"], *(r.get("interval") or [])] if value is not None]
    top = max(ends, default=0.0) or 1.0
    rows, last = "", None
    for attribute, name, rates in lines:
        first = ' class="first"' if attribute != last else ""
        last = attribute
        label = f"<small>{escape(attribute)}</small>{escape(name)}" if attribute else escape(name)
        rows += (
            f'<tr{first}><th scope="row">{label}</th><td>{_percent(rates["wer"])}</td>'
            f'<td class="text">{_whisker(rates["wer"], rates.get("interval"), top)}</td>'
            f"<td>{_percent(rates['wer_p'])}</td><td>{rates['words']:,}</td></tr>"
        )
    notes = [_gap(attribute, gap) for attribute, gap in summary["gaps"].items()]
    if left_out:
        notes.append(f"{left_out:,} groups with lower rates are in the scores (JSON) only.")
    return (
        '<section><h2>Groups</h2><div class="wide"><table><thead><tr><th class="text">group</th><th>WER %</th>'
        f'<th class="text">interval, from 0 to {100 * top:.1f} %</th><th>WER-P %</th><th>words</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
        + "".join(f'<p class="note">{note}</p>' for note in notes if note)
        + "</section>"
    )


def _whisker(rate: float | None, interval: Sequence[float] | None, top: float) -> str:
    if rate is None:
        return ""
    text = f"{_percent(rate)} %" + (f", interval {_range(interval)}" if interval else ", no interval")
    span = (
        f'<line class="span" x1="{150 * interval[0] / top:.1f}" x2="{150 * interval[1] / top:.1f}" y1="7" y2="7"/>'
        if interval
        else ""
    )
    return (
        f'<svg class="whisker" viewBox="0 0 150 14" role="img"><title>{escape(text)}</title>'
        f'<line x1="0" x2="0" y1="2" y2="12"/>{span}<circle cx="{150 * rate / top:.1f}" cy="7" r="4"/></svg>'
    )


def _gap(attribute: str, gap: Mapping[str, Any]) -> str:
    if gap["difference"] is None:
        return ""
    one, other = gap["of"]
    interval = f"interval {_range(gap['interval'])}" if gap["interval"] else "no interval from so few blocks"
    points = _signed(gap["difference"], plus=True)
    return escape(f"Gap by {attribute}: WER of “{one}” less WER of “{other}” is {points} points, {interval}.")


def _comparison(found: Mapping[str, Any] | None) -> str:
    if not found or found["difference"] is None:
        return ""
    interval = f"interval {_range(found['interval'])}, " if found["interval"] else ""
    other = f"{Path(found['hypothesis']).name} ({_percent(found['wer'])} %)"
    text = (
        f"{_signed(found['difference'], plus=True)} points against {other}, "
        f"{interval}p {found['p']:.4f} over {found['blocks']:,} {found['blocked_by']}s"
    )
    pairs = found["matched_pairs"]
    if pairs and pairs["p"] is not None:
        text += f"; NIST's matched pairs, {pairs['segments']:,} segments: p {pairs['p']:.4f}"
    return f'<p class="note">{escape(text)}.</p>'


def _entities(summary: Mapping[str, Any]) -> str:
    """Rates of what the references tag: years, persons, sums of money."""
    entities = summary.get("entities")
    if not entities:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(label)}</th><td>{_percent(part["wer"])}</td><td>{part["entities"]:,}</td>'
        f"<td>{part['wrong']:,}</td><td>{part['words']:,}</td><td>{part['errors']:,}</td></tr>"
        for label, part in sorted(entities.items(), key=lambda pair: -pair[1]["entities"])
    )
    return (
        '<section><details><summary><h2>Entities</h2></summary><div class="wide"><table><thead><tr>'
        '<th class="text">class</th><th>WER %</th><th>number</th><th>with an error</th><th>words</th><th>errors</th>'
        f"</tr></thead><tbody>{rows}</tbody></table></div></details></section>"
    )


def _notes(summary: Mapping[str, Any]) -> str:
    """What was odd about the files, and what has no reference."""
    notes = [*summary.get("notes", [])]
    if alone := summary.get("without_reference"):
        notes.append(f"Without a reference, not scored: {', '.join(alone[:MOST_GROUPS])}, {len(alone):,} in all.")
    formats = summary.get("formats")
    if formats:
        notes.append(f"References read as {formats['reference']}, hypotheses as {formats['hypothesis']}.")
    if not notes:
        return ""
    lines = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f"<section><details open><summary><h2>Notes</h2></summary><ul>{lines}</ul></details></section>"


def _frequent(summary: Mapping[str, Any]) -> str:
    found = summary["confusions"]
    lists = [
        ("Substitutions", [(("S", r["reference"], r["hypothesis"]), r["count"]) for r in found["substitutions"]]),
        ("Deletions", [(("D", row["word"], ""), row["count"]) for row in found["deletions"]]),
        ("Insertions", [(("I", "", row["word"]), row["count"]) for row in found["insertions"]]),
    ]
    columns = "".join(
        f"<div><h3>{title}</h3><ol>{''.join(_pair(pair, count) for pair, count in rows[:FREQUENT])}</ol></div>"
        for title, rows in lists
        if rows
    )
    if not columns:
        return ""
    return f'<section><h2>Most frequent errors</h2><div class="tops">{columns}</div></section>'


def _pair(pair: tuple[str, str, str], count: int) -> str:
    op, reference, hypothesis = pair
    shown = {
        "S": f"<del>{escape(reference)}</del><ins>{escape(hypothesis)}</ins>",
        "D": f"<del>{escape(reference)}</del>",
        "I": f"<ins>{escape(hypothesis)}</ins>",
    }[op]
    return (
        f'<li><button type="button" class="link" data-pair="{escape(json.dumps(pair, ensure_ascii=False))}">'
        f'<span class="e k5">{shown}</span></button><span>{count:,}</span></li>'
    )


def _utterances(data: Mapping[str, Any]) -> str:
    views = "".join(
        f'<button type="button" data-view="{view}" aria-pressed="false">{label}</button>'
        for view, label in zip(VIEWS, ("normalised (WER)", "as written (WER-P)"), strict=True)
    )
    sorts = {"order": "order of the set", "id": "name", "rate": "error rate", "errors": "errors", "words": "words"}
    options = "".join(f'<option value="{key}">{label}</option>' for key, label in sorts.items())
    kinds = "".join(
        f'<button type="button" class="chip k{place}" data-kind="{place}" aria-pressed="false">'
        f"{f'<i>{escape(SIGNS[kind])}</i>' if SIGNS[kind] else ''}{kind}<small></small></button>"
        for place, kind in enumerate(KINDS)
    )
    operations = "".join(
        f'<button type="button" class="chip" data-op="{place}" aria-pressed="false">{label}<small></small></button>'
        for place, label in enumerate(("substitutions", "deletions", "insertions"))
    )
    filters = "".join(_filter(group) for group in data["groups"] if len(group["values"]) > 1)
    pager = (
        '<span class="pager"><button type="button" data-step="-1" aria-label="previous page">‹</button><span></span>'
        '<button type="button" data-step="1" aria-label="next page">›</button></span>'
    )
    return (
        '<section id="utterances"><h2>Utterances</h2>\n<div class="bar">'
        f'<span class="join" role="group" aria-label="text">{views}</span>'
        f'<label>sort by <select id="sort">{options}</select></label>'
        '<span class="join"><button type="button" id="way">↑</button></span>'
        f'{filters}<input type="search" id="search" placeholder="find words or name" aria-label="find words or name">'
        f'<span class="set" role="group" aria-label="kinds of errors">{kinds}</span>'
        f'<span class="set" role="group" aria-label="operations">{operations}</span></div>\n'
        f'<div class="status"><span><span id="count" role="status" aria-live="polite"></span> '
        f'<button type="button" class="reset" id="reset" hidden>show all</button></span>{pager}</div>\n'
        f'<ol id="rows"></ol>\n<div class="status"><span class="keys"><kbd>j</kbd> <kbd>k</kbd> next, previous; '
        f"<kbd>n</kbd> <kbd>p</kbd> pages; <kbd>a</kbd> play; <kbd>/</kbd> find</span>{pager}</div>\n"
        '<p class="note"><span class="e k5"><del>reference</del><ins>recognized</ins></span> substitution &ensp; '
        '<span class="e k5"><del>reference</del></span> deletion &ensp; '
        '<span class="e k5"><ins>recognized</ins></span> insertion &ensp; '
        + " &ensp; ".join(
            f'<span class="sign k{KINDS.index(kind)}">{escape(sign)}</span>{kind}'
            for kind, sign in SIGNS.items()
            if sign
        )
        + "</p><noscript><p>The utterances are shown by a script in this page, which is switched off here.</p>"
        "</noscript></section>"
    )


def _filter(group: Mapping[str, Any]) -> str:
    options = "".join(
        f'<option value="{place}">{escape(value)}</option>' for place, value in enumerate(group["values"])
    )
    name = escape(group["name"])
    return f'<label>{name} <select id="by-{name}"><option value="">any</option>{options}</select></label>'
