"""Style and script of the page of a scored set, kept as text so that the page is one file.

Colours stand for kinds of errors: Okabe and Ito's set for colour-blind readers (2008), darkened for white paper,
lightened for black. Whatever a colour says, a mark says too: struck through, underlined, and a sign for the kind.
"""

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c2024; --soft: #5d666f; --rule: #dfe3e7; --shade: #f5f7f8;
  --k0: #8a3f73; --k1: #005f96; --k2: #00694b; --k3: #6f5300; --k4: #4a5560; --k5: #a34300; --focus: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171a; --ink: #e4e7ea; --soft: #9aa3ab; --rule: #31373d;
  --shade: #1c2024; --k0: #e3a3cb; --k1: #83cbfa; --k2: #63d2ad; --k3: #e6c25c; --k4: #b5bcc3; --k5: #ffa766;
  --focus: #4ba3e0; } }
.k0 { --k: var(--k0); } .k1 { --k: var(--k1); } .k2 { --k: var(--k2); } .k3 { --k: var(--k3); } .k4 { --k: var(--k4); }
.k5 { --k: var(--k5); }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.6rem 2rem 5rem; max-width: 80rem; background: var(--paper); color: var(--ink);
  font: 15px/1.45 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
:focus-visible { outline: 2px solid var(--focus); outline-offset: 2px; }
h1 { font-size: 1.5rem; font-weight: 650; margin: 0 0 .2rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; font-weight: 650; margin: 2.2rem 0 .6rem; }
h3 { font-size: .9rem; font-weight: 600; margin: 0 0 .3rem; color: var(--soft); }
details > summary { cursor: pointer; }
details > summary h2 { display: inline-block; }
.note { color: var(--soft); font-size: .85rem; margin: .5rem 0 0; max-width: 62rem; overflow-wrap: anywhere; }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem 2.6rem; margin: 1.4rem 0 0; align-items: flex-end; }
.tiles dl { margin: 0; }
.tiles dt { color: var(--soft); font-size: .85rem; }
.tiles dd { margin: 0; font-size: 1.45rem; font-weight: 600; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tiles dd small { font-size: .6em; font-weight: 500; color: var(--soft); }
.tiles .main dd { font-size: 2.6rem; font-weight: 680; letter-spacing: -.02em; line-height: 1.1; }
.tiles p { color: var(--soft); font-size: .85rem; margin: .15rem 0 0; font-variant-numeric: tabular-nums; }
.tiles .main { flex-basis: 100%; display: flex; flex-wrap: wrap; gap: 0 1.4rem; align-items: flex-end; }
.tiles .main p { padding-bottom: .45rem; font-size: .95rem; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); gap: 0 3rem; }
.two > section { min-width: 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .28rem 1.1rem .28rem 0; text-align: right; white-space: nowrap; }
th:last-child, td:last-child { padding-right: 0; }
thead th { color: var(--soft); font-weight: 500; border-bottom: 1px solid var(--soft); }
tbody th { font-weight: 500; text-align: left; }
th.text, td.text { text-align: left; }
tbody tr { border-bottom: 1px solid var(--rule); }
tbody tr.first:not(:first-child) { border-top: 1px solid var(--soft); }
tbody th small { color: var(--soft); font-weight: 400; margin-right: .5em; }
.whisker { width: 150px; height: 14px; display: block; overflow: visible; }
.whisker line { stroke: var(--soft); stroke-width: 1; }
.whisker .span { stroke: var(--ink); stroke-width: 2; }
.whisker circle { fill: var(--ink); }
.stack { display: flex; height: 1.5rem; gap: 2px; margin: .2rem 0 .7rem; }
.stack span { min-width: 2px; background: var(--k); color: var(--paper); font-size: .78rem; font-weight: 600;
  line-height: 1.5rem; overflow: hidden; text-align: center; white-space: nowrap; }
.stack span:first-child { border-radius: 4px 0 0 4px; } .stack span:last-child { border-radius: 0 4px 4px 0; }
.sign { display: inline-block; min-width: 1.9em; text-align: center; border-radius: 3px; font-size: .8em;
  line-height: 1.5; font-weight: 600; color: var(--k); background: color-mix(in srgb, var(--k) 14%, var(--paper));
  margin-right: .5em; }
button, select, input { font: inherit; color: inherit; }
button.link { border: 0; background: none; padding: 0; cursor: pointer; text-align: left; color: inherit; }
button.link:hover { text-decoration: underline; text-underline-offset: 3px; }
.tops { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 15rem), 1fr)); gap: 1rem 3rem; }
.tops ol { list-style: none; margin: 0; padding: 0; }
.tops li { display: flex; justify-content: space-between; gap: 1rem; border-bottom: 1px solid var(--rule);
  padding: .2rem 0; font-size: .9rem; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.tops li > span { color: var(--soft); white-space: nowrap; }
.bar { position: sticky; top: 0; z-index: 2; background: var(--paper); border-bottom: 1px solid var(--rule);
  margin: 0 -.6rem; padding: .7rem .6rem .6rem; display: flex; flex-wrap: wrap; gap: .5rem .9rem; align-items: center;
  font-size: .88rem; }
.bar label { color: var(--soft); display: inline-flex; gap: .4rem; align-items: center; }
.bar select, .bar input[type=search] { background: var(--paper); border: 1px solid var(--rule); border-radius: 4px;
  padding: .2rem .45rem; max-width: 13rem; color: var(--ink); }
.bar input[type=search] { width: 11rem; }
.set { display: inline-flex; flex-wrap: wrap; gap: .3rem; align-items: center; }
.join { display: inline-flex; }
.join button { border: 1px solid var(--rule); background: none; padding: .2rem .7rem; margin-left: -1px;
  cursor: pointer; }
.join button:first-of-type { border-radius: 4px 0 0 4px; } .join button:last-of-type { border-radius: 0 4px 4px 0; }
.join button[aria-pressed=true] { background: var(--ink); color: var(--paper); border-color: var(--ink); }
.chip { border: 1px solid var(--rule); border-radius: 999px; background: none; padding: .15rem .65rem;
  cursor: pointer; }
.chip i { font-style: normal; font-weight: 700; color: var(--k); margin-right: .35em; }
.chip small { color: var(--soft); font-variant-numeric: tabular-nums; margin-left: .35em; }
.chip[aria-pressed=true] { border-color: var(--k, var(--ink)); color: var(--k, var(--ink)); font-weight: 600;
  background: color-mix(in srgb, var(--k, var(--ink)) 12%, var(--paper)); }
.chip[aria-pressed=true] small { color: inherit; }
.status { display: flex; flex-wrap: wrap; justify-content: space-between; gap: .4rem 1rem; align-items: center;
  color: var(--soft); font-size: .88rem; margin: .7rem 0 .2rem; }
.pager { display: inline-flex; gap: .5rem; align-items: center; font-variant-numeric: tabular-nums; }
.pager button, .reset { border: 1px solid var(--rule); border-radius: 4px; background: none; padding: .1rem .6rem;
  cursor: pointer; color: var(--ink); }
.pager button:disabled { opacity: .35; cursor: default; }
#rows { list-style: none; margin: 0; padding: 0; }
#rows > li { display: grid; grid-template-columns: 14rem 1fr; gap: .2rem 1.6rem; padding: .75rem .6rem;
  margin: 0 -.6rem; border-bottom: 1px solid var(--rule); content-visibility: auto; contain-intrinsic-size: auto 90px;
  scroll-margin-top: 9rem; }
#rows > li:focus-visible { outline-offset: -2px; }
#rows > li.playing { background: var(--shade); }
.about { font-size: .82rem; color: var(--soft); min-width: 0; overflow-wrap: anywhere; }
.about b { color: var(--ink); font-weight: 600; font-size: .95rem; font-variant-numeric: tabular-nums; }
.about .id { color: var(--ink); }
.meter { height: 3px; background: var(--rule); margin: .3rem 0 .35rem; border-radius: 2px; overflow: hidden; }
.meter i { display: block; height: 100%; background: var(--k5); }
.play { border: 1px solid var(--rule); border-radius: 999px; background: none; cursor: pointer; font-size: .8rem;
  padding: .05rem .6rem .05rem .5rem; color: var(--ink); margin-top: .3rem; font-variant-numeric: tabular-nums; }
.play:hover { border-color: var(--ink); }
.text { margin: 0; max-width: 56rem; overflow-wrap: anywhere; line-height: 1.65; }
.e { --tint: color-mix(in srgb, var(--k) 14%, var(--paper)); white-space: nowrap; }
.e del, .e ins { color: var(--k); background: var(--tint); padding: .05em .22em; border-radius: 3px;
  white-space: normal; -webkit-box-decoration-break: clone; box-decoration-break: clone; }
.e del { text-decoration-thickness: 1px; }
.e ins { text-underline-offset: 3px; }
.e del + ins { border-radius: 0 3px 3px 0; margin-left: 1px; } .e del:not(:last-of-type) { border-radius: 3px 0 0 3px; }
.e del:has(+ ins) { border-radius: 3px 0 0 3px; }
.e sup { font-size: .62em; line-height: 0; font-weight: 700; color: var(--k); margin-left: .12em; }
.e.off { opacity: .38; }
.empty { color: var(--soft); padding: 2rem 0; text-align: center; }
.keys kbd { font: .82em ui-monospace, monospace; border: 1px solid var(--rule); border-radius: 3px; padding: 0 .35em; }
@media (max-width: 46rem) { body { padding: 1rem 1rem 4rem; } #rows > li { grid-template-columns: 1fr; }
  .bar { position: static; } }
@media print { body { max-width: none; padding: 0; } .bar, .status .pager, .play { display: none; } }
"""

SCRIPT = r"""
(() => {
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const PER_PAGE = 40, OPS = ["S", "D", "I"];
const OP_NAMES = { S: "substitution", D: "deletion", I: "insertion" };
const $ = id => document.getElementById(id);
const make = (name, attributes = {}, ...children) => {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== null) node.setAttribute(key, value);
  node.append(...children);
  return node;
};
const percent = (errors, words) => words ? (100 * errors / words).toFixed(1) + " %" : errors ? "∞" : "–";
const rate = row => row.w ? row.e / row.w : row.e ? Infinity : 0;
const clock = s => `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, "0")}`;
const collator = new Intl.Collator("en", { numeric: true });

// A row's segments: text that is right, or [kind * 3 + op, reference, hypothesis]. Its mask has a bit for each such
// code that occurs in it.
for (const view of Object.values(data.views)) view.forEach((row, order) => {
  row.order = order;
  row.mask = 0;
  for (const s of row.s) if (typeof s !== "string") row.mask |= 1 << s[0];
});
const DEFAULT = { view: Object.keys(data.views)[0] };
let state, found = [];

// The state is the address's fragment, so that a view can be sent to someone, and so that the way back works.
const read = () => {
  const p = new URLSearchParams(location.hash.slice(1)), list = key => (p.get(key) || "").split(",").filter(Boolean);
  const view = p.get("view") in data.views ? p.get("view") : DEFAULT.view;
  let pair = null;
  try { pair = JSON.parse(p.get("pair")); } catch { /* an address that was cut off */ }
  const groups = {};
  data.groups.forEach(g => { const v = g.values.indexOf(p.get("by-" + g.name)); if (v >= 0) groups[g.name] = v; });
  return { view, sort: p.get("sort") in SORTS ? p.get("sort") : "order", up: p.get("down") === null,
    kinds: list("kind").map(k => data.kinds.findIndex(x => x.name === k)).filter(k => k >= 0),
    ops: list("op").map(o => OPS.indexOf(o)).filter(o => o >= 0), groups, q: p.get("q") || "",
    pair: Array.isArray(pair) && OPS.includes(pair[0]) ? pair : null, page: Math.max(0, (+p.get("page") || 1) - 1) };
};
const write = () => {
  const p = new URLSearchParams();
  if (state.view !== DEFAULT.view) p.set("view", state.view);
  if (state.sort !== "order") p.set("sort", state.sort);
  if (!state.up) p.set("down", "");
  if (state.kinds.length) p.set("kind", state.kinds.map(k => data.kinds[k].name).join(","));
  if (state.ops.length) p.set("op", state.ops.map(o => OPS[o]).join(","));
  data.groups.forEach(g => { if (g.name in state.groups) p.set("by-" + g.name, g.values[state.groups[g.name]]); });
  if (state.q) p.set("q", state.q);
  if (state.pair) p.set("pair", JSON.stringify(state.pair));
  if (state.page) p.set("page", state.page + 1);
  const hash = p.toString();
  if (hash !== location.hash.slice(1)) history.replaceState(null, "", hash ? "#" + hash : location.pathname);
};

const SORTS = {
  order: (a, b) => a.order - b.order,
  id: (a, b) => collator.compare(a.i, b.i) || a.order - b.order,
  rate: (a, b) => rate(a) - rate(b) || a.e - b.e,
  errors: (a, b) => a.e - b.e || rate(a) - rate(b),
  words: (a, b) => a.w - b.w,
};
// Which codes (kind * 3 + op) are looked for; all where nothing is chosen.
const wanted = () => {
  let mask = 0;
  data.kinds.forEach((_, k) => OPS.forEach((_, o) => {
    if ((!state.kinds.length || state.kinds.includes(k)) && (!state.ops.length || state.ops.includes(o)))
      mask |= 1 << (k * 3 + o);
  }));
  return mask;
};
const textOf = row => row.text ??= (row.i + " " + row.s.map(
  s => typeof s === "string" ? s : `${s[1] ?? ""} ${s[2] ?? ""}`).join(" ")).toLowerCase();
const isPair = s => {
  const [op, reference, hypothesis] = state.pair;
  return typeof s !== "string" && OPS[s[0] % 3] === op && (s[1] ?? "") === reference && (s[2] ?? "") === hypothesis;
};
const search = () => {
  const narrow = state.kinds.length || state.ops.length, mask = wanted(), q = state.q.toLowerCase().trim();
  found = data.views[state.view].filter(row =>
    (!narrow || row.mask & mask)
    && data.groups.every((g, n) => !(g.name in state.groups) || row.g[n] === state.groups[g.name])
    && (!q || textOf(row).includes(q))
    && (!state.pair || row.s.some(isPair)));
  const sort = SORTS[state.sort], way = state.up ? 1 : -1;
  found.sort((a, b) => way * sort(a, b) || a.order - b.order);
  state.page = Math.min(state.page, Math.max(0, Math.ceil(found.length / PER_PAGE) - 1));
};

const errorNode = (s, mask) => {
  const [code, reference, hypothesis] = s, kind = data.kinds[Math.floor(code / 3)], op = OPS[code % 3];
  const lit = state.pair ? isPair(s) : mask & (1 << code);
  const node = make("span", { class: `e k${Math.floor(code / 3)}${lit ? "" : " off"}`,
    title: `${OP_NAMES[op]}: ${kind.name}` });
  if (op !== "I") node.append(make("del", {}, reference));
  if (op !== "D") node.append(make("ins", {}, hypothesis));
  if (kind.sign) node.append(make("sup", { "aria-hidden": "true" }, kind.sign));
  return node;
};
const rowNode = (row, mask) => {
  const about = make("div", { class: "about" });
  about.append(make("b", {}, percent(row.e, row.w)), ` ${row.e} in ${row.w} words`,
    make("div", { class: "meter", "aria-hidden": "true" },
      make("i", { style: `width:${Math.min(100, 100 * rate(row)) || 0}%` })),
    make("div", { class: "id" }, row.i));
  const facts = data.groups.flatMap((g, n) => row.g[n] < 0 || g.name === "recording" ? [] : [
    g.values[row.g[n]] === "true" ? g.name : g.values[row.g[n]] === "false" ? "not " + g.name : g.values[row.g[n]]]);
  if (facts.length) about.append(make("div", {}, facts.join(" · ")));
  if (row.a) {
    const [, start, end] = row.a, near = row.f ? "≈ " : "";
    const part = row.f ? "about here" : start ? `from ${clock(start)}` : "play";
    const label = end ? `${clock(start)}–${clock(end)}` : part;
    const button = make("button", { class: "play", type: "button", "aria-label": `${row.i}: ${label}` },
      `▶ ${near}${label}`);
    button.addEventListener("click", () => play(row, button));
    about.append(button);
  }
  const text = make("p", { class: "text" });
  row.s.forEach((s, n) => text.append(n ? " " : "", typeof s === "string" ? s : errorNode(s, mask)));
  if (!row.s.length) text.append(make("span", { class: "note" }, "(no words on either side)"));
  return make("li", { tabindex: "-1", "data-id": row.i }, about, text);
};

const render = () => {
  search();
  const mask = wanted(), first = state.page * PER_PAGE, shown = found.slice(first, first + PER_PAGE);
  $("rows").replaceChildren(...shown.map(row => rowNode(row, mask)));
  if (!shown.length) $("rows").append(make("li", { class: "empty" }, "Nothing matches these filters."));
  const pages = Math.max(1, Math.ceil(found.length / PER_PAGE)), all = data.views[state.view].length;
  const count = n => n.toLocaleString("en");
  $("count").textContent = (found.length === all ? count(all) : `${count(found.length)} of ${count(all)}`)
    + ` ${data.unit}${all === 1 ? "" : "s"}`
    + (state.pair ? ` with “${state.pair[1] || "∅"} → ${state.pair[2] || "∅"}”` : "");
  document.querySelectorAll(".pager").forEach(pager => {
    pager.querySelector("span").textContent = `${count(state.page + 1)} / ${count(pages)}`;
    pager.querySelector("[data-step='-1']").disabled = state.page === 0;
    pager.querySelector("[data-step='1']").disabled = state.page >= pages - 1;
    pager.hidden = pages === 1;
  });
  document.querySelectorAll("[data-view]").forEach(
    b => b.setAttribute("aria-pressed", String(b.dataset.view === state.view)));
  const counts = data.counts[state.view];
  document.querySelectorAll(".chip[data-kind]").forEach(b => {
    const k = +b.dataset.kind, n = counts.slice(3 * k, 3 * k + 3).reduce((a, c) => a + c, 0);
    b.setAttribute("aria-pressed", String(state.kinds.includes(k)));
    b.querySelector("small").textContent = count(n);
    b.hidden = !n && !state.kinds.includes(k);
  });
  document.querySelectorAll(".chip[data-op]").forEach(b => {
    const o = +b.dataset.op, n = counts.filter((_, code) => code % 3 === o).reduce((a, c) => a + c, 0);
    b.setAttribute("aria-pressed", String(state.ops.includes(o)));
    b.querySelector("small").textContent = count(n);
    b.hidden = !n && !state.ops.includes(o);
  });
  $("sort").value = state.sort;
  $("way").textContent = state.up ? "↑" : "↓";
  $("way").setAttribute("aria-label", state.up ? "rising; press for falling" : "falling; press for rising");
  if (document.activeElement !== $("search")) $("search").value = state.q;
  data.groups.forEach(g => { const box = $("by-" + g.name); if (box) box.value = state.groups[g.name] ?? ""; });
  const { page, view, sort, up, ...filters } = state;
  $("reset").hidden = !(filters.kinds.length || filters.ops.length || filters.q || filters.pair
    || Object.keys(filters.groups).length);
  write();
};
const change = (changes, stay) => {
  state = { ...state, page: stay ? state.page : 0, ...changes };
  render();
};
const toggle = (list, value) => list.includes(value) ? list.filter(x => x !== value) : [...list, value];

// One player for all rows. A media fragment says which part; of a passage whose time is not known, its place among the
// words is taken for its place in time.
const player = new Audio();
let playing = null, until = Infinity;
const stop = () => {
  player.pause();
  if (playing) { playing.closest("li")?.classList.remove("playing"); playing.textContent = playing.dataset.label; }
  playing = null;
};
const play = (row, button) => {
  const same = playing === button;
  stop();
  if (same) return;
  const [sound, start, end] = row.a;
  playing = button;
  button.dataset.label = button.textContent;
  button.textContent = "■ stop";
  button.closest("li").classList.add("playing");
  until = end || Infinity;
  player.src = data.sounds[sound] + (end ? `#t=${start},${end}` : start ? `#t=${start}` : "");
  player.onloadedmetadata = () => {
    if (!row.f) return;
    const from = start || 0, whole = (end || player.duration) - from;
    player.currentTime = from + row.f[0] * whole;
    until = from + row.f[1] * whole + 3;
  };
  player.play().catch(() => {
    if (playing !== button) return;
    stop();
    button.textContent = "audio cannot be played";
    button.disabled = true;
  });
};
player.addEventListener("timeupdate", () => { if (player.currentTime >= until) stop(); });
player.addEventListener("ended", stop);

document.querySelectorAll("[data-view]").forEach(
  b => b.addEventListener("click", () => change({ view: b.dataset.view, pair: null })));
document.querySelectorAll(".chip[data-kind]").forEach(
  b => b.addEventListener("click", () => change({ kinds: toggle(state.kinds, +b.dataset.kind) })));
document.querySelectorAll(".chip[data-op]").forEach(
  b => b.addEventListener("click", () => change({ ops: toggle(state.ops, +b.dataset.op) })));
document.querySelectorAll("[data-only]").forEach(b => b.addEventListener("click", () => {
  change({ view: "written", kinds: [+b.dataset.only], pair: null });
  $("utterances").scrollIntoView();
}));
document.querySelectorAll("[data-pair]").forEach(b => b.addEventListener("click", () => {
  change({ view: DEFAULT.view, pair: JSON.parse(b.dataset.pair), kinds: [], ops: [], q: "" });
  $("utterances").scrollIntoView();
}));
document.querySelectorAll("[data-step]").forEach(b => b.addEventListener("click", () => turn(+b.dataset.step)));
const turn = step => {
  const pages = Math.ceil(found.length / PER_PAGE), page = state.page + step;
  if (page < 0 || page >= pages) return false;
  change({ page }, true);
  $("utterances").scrollIntoView();
  return true;
};
$("sort").addEventListener("change", event => {
  const sort = event.target.value;
  change({ sort, up: ["order", "id"].includes(sort) });
});
$("way").addEventListener("click", () => change({ up: !state.up }));
let typing;
$("search").addEventListener("input", event => {
  clearTimeout(typing);
  typing = setTimeout(() => change({ q: event.target.value }), 120);
});
data.groups.forEach(g => $("by-" + g.name)?.addEventListener("change", event => {
  const groups = { ...state.groups };
  if (event.target.value === "") delete groups[g.name]; else groups[g.name] = +event.target.value;
  change({ groups });
}));
$("reset").addEventListener("click", () => change({ kinds: [], ops: [], groups: {}, q: "", pair: null }));

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape" && event.target === $("search")) { $("search").blur(); change({ q: "" }); return; }
  if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  const rows = [...$("rows").children], here = rows.indexOf(document.activeElement?.closest?.("#rows > li"));
  const go = place => { rows[place]?.focus(); rows[place]?.scrollIntoView({ block: "nearest" }); };
  switch (event.key) {
    case "/": $("search").focus(); break;
    case "j": here + 1 < rows.length ? go(here + 1) : turn(1) && $("rows").firstChild.focus(); break;
    case "k": here > 0 ? go(here - 1) : turn(-1) && $("rows").lastChild.focus(); break;
    case "n": turn(1); break;
    case "p": turn(-1); break;
    case "a": rows[Math.max(here, 0)]?.querySelector(".play")?.click(); break;
    default: return;
  }
  event.preventDefault();
});
window.addEventListener("hashchange", () => { state = read(); render(); });
state = read();
render();
document.documentElement.dataset.ready = "true";
})();
"""
