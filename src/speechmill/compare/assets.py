"""Style and script of the page, kept as text so that the page is one file.

Colours: Okabe and Ito's set for colour-blind readers (2008), darkened for white paper, lightened for black.
"""

COLOURS = 7

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c2024; --soft: #616a73; --rule: #dfe3e7; --shade: #f5f7f8;
  --c0: #0072b2; --c1: #d55e00; --c2: #00845f; --c3: #b0568c; --c4: #b87900; --c5: #2f97d1; --c6: #555b61;
  --out: #b04a00; --out-back: #fdeadb; --in: #005f96; --in-back: #deeffa; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171a; --ink: #e4e7ea; --soft: #9aa3ab; --rule: #31373d;
  --shade: #1c2024; --c0: #4ba3e0; --c1: #f08a3c; --c2: #2fbf95; --c3: #dd8fbd; --c4: #e6b23c; --c5: #8bcdf5;
  --c6: #b5bcc3; --out: #ffa766; --out-back: #42260f; --in: #83cbfa; --in-back: #10324a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.6rem 2rem 4rem; max-width: 84rem; background: var(--paper); color: var(--ink);
  font: 15px/1.45 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.5rem; font-weight: 650; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; font-weight: 650; margin: 2.2rem 0 .6rem; display: flex; flex-wrap: wrap; gap: .4rem 1.2rem;
  align-items: center; }
h3 { font-size: .95rem; font-weight: 600; margin: 1.1rem 0 .3rem; color: var(--soft); }
.keys { display: flex; flex-wrap: wrap; gap: .2rem 1.3rem; margin: 0; }
.run { white-space: nowrap; }
.mark { width: 18px; height: 8px; margin-right: .45em; vertical-align: .08em; }
.mark line { stroke-width: 3; }
.note, .gap { color: var(--soft); }
.note { font-size: .85rem; margin: .5rem 0 0; max-width: 75rem; }
.note b { font-weight: 600; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .3rem .6rem .3rem 0; text-align: right; vertical-align: baseline; white-space: nowrap; }
th + th, td + td, th + td, td + th { padding-left: .3rem; }
thead th { color: var(--soft); font-weight: 500; border-bottom: 1px solid var(--soft); vertical-align: bottom;
  white-space: normal; }
tbody th { font-weight: 500; }
tbody tr { border-bottom: 1px solid var(--rule); }
tbody tr.first:not(:first-child) { border-top: 2px solid var(--soft); }
tbody tr:hover { background: var(--shade); }
th.text, td.text, tbody th { text-align: left; }
.values td.text { white-space: normal; overflow-wrap: break-word; min-width: 7rem; max-width: 26rem; }
.values td.text:first-child { white-space: nowrap; }
thead .run { white-space: normal; overflow-wrap: anywhere; }
td.best { font-weight: 700; }
.axes { font-size: .85rem; font-weight: 400; color: var(--soft); }
.axes button { font: inherit; color: var(--ink); background: none; border: 1px solid var(--rule); cursor: pointer;
  padding: .15rem .7rem; margin-left: -1px; }
.axes button:first-of-type { margin-left: .3rem; border-radius: 4px 0 0 4px; }
.axes button:last-of-type { border-radius: 0 4px 4px 0; }
.axes button[aria-pressed=true] { background: var(--ink); color: var(--paper); border-color: var(--ink); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); gap: 1.2rem 2rem; }
figure { margin: 0; position: relative; min-width: 0; }
figure svg { width: 100%; height: auto; display: block; overflow: visible; }
figcaption { font-size: .9rem; font-weight: 600; }
figcaption small { font-weight: 400; color: var(--soft); margin-left: .5em; }
svg text { font-size: 12px; fill: var(--soft); }
svg .grid { stroke: var(--rule); }
svg .base { stroke: var(--soft); }
svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg .label { font-weight: 600; paint-order: stroke; stroke: var(--paper); stroke-width: 4px; stroke-linejoin: round; }
svg .leader { stroke-width: 1; opacity: .6; }
svg g.faded { opacity: .22; }
.tip { position: absolute; pointer-events: none; background: var(--paper); border: 1px solid var(--soft); z-index: 1;
  border-radius: 4px; padding: .3rem .6rem; font-size: .82rem; line-height: 1.35; white-space: pre; display: none; }
.example { display: grid; grid-template-columns: minmax(9rem, 22rem) 1fr; gap: .2rem 1.2rem; margin: 0 0 .9rem;
  padding: .5rem 0 .6rem; border-top: 1px solid var(--rule); }
.example dt { color: var(--soft); font-size: .85rem; padding-top: .1rem; display: flex; gap: .2rem 1rem;
  flex-wrap: wrap; justify-content: space-between; align-items: baseline; align-content: start; min-width: 0; }
.example dt small { font-size: .75rem; overflow-wrap: anywhere; }
.example dt .run { white-space: normal; overflow-wrap: anywhere; }
.example dd { margin: 0; max-width: 62rem; overflow-wrap: anywhere; }
del, ins { border-radius: 3px; padding: 0 .2em; }
del { color: var(--out); background: var(--out-back); }
ins { color: var(--in); background: var(--in-back); text-underline-offset: 2px; }
.swap { white-space: nowrap; }
.swap del { border-radius: 3px 0 0 3px; }
.swap ins { border-radius: 0 3px 3px 0; }
@media print { body { max-width: none; padding: 0; } .axes button[aria-pressed=false] { display: none; } }
"""

SCRIPT = r"""
(() => {
"use strict";
const runs = JSON.parse(document.getElementById("curves").textContent);
const W = 640, H = 370, LEFT = 52, TOP = 14, BOTTOM = 46;
const COLOURS = 7, DASHES = ["", "6 3", "2 3"];
const CHARTS = [
  { id: "chart-wer", title: "Validation WER", event: "valid", y: "wer", scale: 100, unit: "%", digits: 2 },
  { id: "chart-loss", title: "Training loss", event: "train", y: "loss", scale: 1, unit: "", digits: 4 },
];

const svg = (name, attributes, parent, text) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  if (parent) parent.append(node);
  return node;
};
const duration = s => {
  const t = Math.round(s), two = n => String(n).padStart(2, "0");
  return `${Math.floor(t / 3600)}:${two(Math.floor(t / 60) % 60)}:${two(t % 60)}`;
};
const short = v => Math.abs(v) >= 1e4 ? v / 1e3 + "k" : String(v);
const ticks = (low, high, wanted) => {
  const rough = (high - low) / wanted || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map(m => m * power).find(s => s >= rough * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++)
    found.push(+(i * step).toPrecision(10));
  return { step, found };
};

// Wall-clock and audio are stored in seconds; the axis takes the unit that gives readable numbers.
const axisOf = (key, longest) => {
  if (key === "update") return { divide: 1, label: "updates (optimizer steps)" };
  const hours = longest >= (key === "seconds" ? 3 : 5) * 3600, minutes = longest >= 180;
  const name = key === "seconds" ? "wall-clock" : "audio heard";
  const [divide, unit] = hours ? [3600, "hours"] : minutes ? [60, "minutes"] : [1, "seconds"];
  return { divide, label: `${name} (${unit})` };
};

// The first tenth of a run falls steeply and would flatten the rest: what lies above the rest is cut off, and said so.
const rangeOf = series => {
  const all = series.flatMap(s => s.points.map(p => p.y));
  const late = series.flatMap(({ points }) =>
    points.filter((p, i) => points.length < 8 || i >= points.length * 0.1).map(p => p.y));
  let high = Math.max(...late), low = Math.min(...all);
  const top = Math.max(...all);
  if (top <= high * 1.3) high = top;
  if (low >= 0 && low < 0.6 * high) low = 0;
  if (low === high) { low -= Math.abs(low) * 0.1 || 1; high += Math.abs(high) * 0.1 || 1; }
  const { step } = ticks(low, high, 5);
  low = Math.floor(low / step + 1e-9) * step;
  high = Math.ceil(high / step - 1e-9) * step;
  return { low, high, cut: top > high * (1 + 1e-9) };
};

const seriesOf = (chart, axis) => runs.map((run, index) => {
  const data = run[chart.event], points = [];
  let gap = true;
  data[axis].forEach((x, i) => {
    const y = data[chart.y][i];
    if (x === null || y === null) { gap = true; return; }
    points.push({ x, y: y * chart.scale, gap, i });
    gap = false;
  });
  return { run, index, points };
}).filter(s => s.points.length);

// Labels that would lie on each other push each other apart, half the way each, until all have room.
const spread = (labels, top, bottom) => {
  const apart = 14;
  labels.sort((a, b) => a.y - b.y);
  for (let round = 0, moved = true; moved && round < 300; round++) {
    moved = false;
    labels.forEach((upper, i) => labels.slice(i + 1).forEach(lower => {
      const push = (apart - (lower.y - upper.y)) / 2;
      if (push < 0.05 || upper.x > lower.x + lower.width || lower.x > upper.x + upper.width) return;
      upper.y -= push;
      lower.y += push;
      moved = true;
    }));
    for (const label of labels) label.y = Math.min(Math.max(label.y, top), bottom);
  }
};

const draw = (chart, axis) => {
  const figure = document.getElementById(chart.id);
  figure.replaceChildren();
  const caption = document.createElement("figcaption");
  caption.textContent = chart.title + (chart.unit ? ` (${chart.unit})` : "");
  figure.append(caption);
  const series = seriesOf(chart, axis);
  if (!series.length) {
    const empty = document.createElement("p");
    empty.className = "gap";
    empty.textContent = chart.event === "valid" ? "No validation yet." : "No training line yet.";
    figure.append(empty);
    return;
  }
  const name = s => s.run.name.length > 24 ? s.run.name.slice(0, 23) + "…" : s.run.name;
  const longest = Math.max(...series.flatMap(s => s.points.map(p => p.x))) || 1;
  // As much room to the right as the labels need that begin where their curves end.
  for (const s of series) {
    s.last = s.points[s.points.length - 1];
    s.text = `${name(s)} ${s.last.y.toFixed(chart.scale === 100 ? 1 : 3)}`;
    s.width = s.text.length * 7.3 + 9;
  }
  const right = Math.max(12, ...series.filter(s => s.last.x > 0).map(
    s => W - LEFT - (W - LEFT - s.width) * longest / s.last.x));
  const { divide, label } = axisOf(axis, longest), { low, high, cut } = rangeOf(series);
  const px = x => LEFT + x / longest * (W - LEFT - right);
  const py = y => TOP + (high - y) / (high - low) * (H - TOP - BOTTOM);
  if (cut) {
    const note = document.createElement("small");
    note.textContent = "the start, above this range, is cut off";
    caption.append(note);
  }
  const about = { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${chart.title} over ${label}` };
  const root = svg("svg", about, figure);
  const clip = svg("clipPath", { id: chart.id + "-clip" }, root);
  svg("rect", { x: LEFT, y: TOP - 3, width: W - LEFT, height: H - TOP - BOTTOM + 6 }, clip);
  for (const y of ticks(low, high, 5).found) {
    svg("line", { class: y === low ? "base" : "grid", x1: LEFT, x2: W - right, y1: py(y), y2: py(y) }, root);
    svg("text", { x: LEFT - 8, y: py(y) + 4, "text-anchor": "end" }, root, short(y));
  }
  for (const x of ticks(0, longest / divide, 6).found) {
    svg("line", { class: "base", x1: px(x * divide), x2: px(x * divide), y1: H - BOTTOM, y2: H - BOTTOM + 5 }, root);
    svg("text", { x: px(x * divide), y: H - BOTTOM + 19, "text-anchor": "middle" }, root, short(x));
  }
  svg("text", { x: (LEFT + W - right) / 2, y: H - 6, "text-anchor": "middle" }, root, label);

  const labels = [];
  for (const s of series) {
    const colour = `var(--c${s.index % COLOURS})`, group = svg("g", { "clip-path": `url(#${chart.id}-clip)` }, root);
    s.group = svg("g", {}, group);
    const path = s.points.map(p => `${p.gap ? "M" : "L"}${px(p.x).toFixed(1)} ${py(p.y).toFixed(1)}`).join("");
    const dash = DASHES[Math.floor(s.index / COLOURS) % 3];
    svg("path", { class: "line", d: path, style: `stroke:${colour}`, "stroke-dasharray": dash }, s.group);
    const every = s.points.length <= 30 ? s.points : s.points.filter((p, i) => p.gap && (s.points[i + 1] || p).gap);
    for (const p of every) svg("circle", { cx: px(p.x), cy: py(p.y), r: 2.6, style: `fill:${colour}` }, s.group);
    const end = { x: px(s.last.x), y: Math.min(Math.max(py(s.last.y), TOP), H - BOTTOM) };
    labels.push({ s, colour, text: s.text, end, x: end.x + 9, y: end.y, width: s.width });
  }
  spread(labels, TOP, H - BOTTOM - 6);
  for (const l of labels) {
    const group = svg("g", {}, root);
    const leader = { class: "leader", x1: l.end.x + 2, y1: l.end.y, x2: l.x - 2, y2: l.y, style: `stroke:${l.colour}` };
    if (Math.abs(l.y - l.end.y) > 3) svg("line", leader, group);
    svg("text", { class: "label", x: l.x, y: l.y + 4, style: `fill:${l.colour}` }, group, l.text);
    l.s.label = group;
  }
  hover(chart, figure, root, series, px, py);
};

const hover = (chart, figure, root, series, px, py) => {
  const tip = document.createElement("div");
  tip.className = "tip";
  figure.append(tip);
  const spot = svg("circle", { r: 5, fill: "none", "stroke-width": 2, visibility: "hidden" }, root);
  const fade = chosen => series.forEach(s => [s.group, s.label].forEach(
    g => g.classList.toggle("faded", chosen !== null && s !== chosen)));
  root.addEventListener("pointerleave", () => {
    tip.style.display = "none";
    spot.setAttribute("visibility", "hidden");
    fade(null);
  });
  root.addEventListener("pointermove", event => {
    const box = root.getBoundingClientRect(), scale = W / box.width;
    const mx = (event.clientX - box.left) * scale, my = (event.clientY - box.top) * scale;
    let near = null;
    for (const s of series) for (const p of s.points) {
      const d = Math.hypot(px(p.x) - mx, py(p.y) - my);
      if (!near || d < near.d) near = { s, p, d };
    }
    const { s, p } = near, data = s.run[chart.event], x = px(p.x), y = Math.max(py(p.y), TOP);
    const lines = [`${s.run.name}: ${p.y.toFixed(chart.digits)}${chart.unit ? " " + chart.unit : ""}`];
    if (data.update[p.i] !== null) lines.push(`update ${Math.round(data.update[p.i]).toLocaleString("en")}`);
    if (data.seconds[p.i] !== null) lines.push(`${duration(data.seconds[p.i])} wall-clock`);
    if (data.audio_seconds[p.i] !== null) lines.push(`${(data.audio_seconds[p.i] / 3600).toFixed(2)} h of audio heard`);
    tip.textContent = lines.join("\n");
    tip.style.display = "block";
    const left = x / scale + 14, top = box.top - figure.getBoundingClientRect().top + y / scale - 10;
    tip.style.left = Math.min(left, figure.clientWidth - tip.offsetWidth) + "px";
    tip.style.top = (left > figure.clientWidth - tip.offsetWidth ? top - tip.offsetHeight - 8 : top) + "px";
    for (const [key, value] of Object.entries({ cx: x, cy: y, visibility: "visible" })) spot.setAttribute(key, value);
    spot.style.stroke = `var(--c${s.index % COLOURS})`;
    fade(s);
  });
};

const buttons = [...document.querySelectorAll("button[data-axis]")];
const show = axis => {
  buttons.forEach(b => b.setAttribute("aria-pressed", String(b.dataset.axis === axis)));
  CHARTS.forEach(chart => draw(chart, axis));
};
buttons.forEach(b => b.addEventListener("click", () => show(b.dataset.axis)));
show("seconds");
})();
"""
