// Sample browser of the data page (data_page.html.j2), without libraries.
"use strict";
const nonce = document.currentScript.nonce;
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const LIST_SIZE = 50;        // examples shown in the list
const MATCHES_PER_SEARCH = 200;
const CACHED_FILES = 6;
const MAX_HINT_IDS = 64;

// Examples by file name; embedded examples by the name of their split.
const loaded = new Map(Object.entries(data.embedded));
const state = { split: "train", at: 0, query: "", matches: [], searched: 0, showing: 0, searching: 0 };
const current = () => data.splits[state.split];

// Called by the script files next to the page.
globalThis.xftSamples = (name, items) => {
  loaded.set(name, items);
  if (loaded.size > CACHED_FILES) loaded.delete(loaded.keys().next().value);
};

function load(name) {
  if (loaded.has(name)) return Promise.resolve(loaded.get(name));
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.nonce = nonce;
    script.src = `${data.folder}/${name}`;
    script.onload = () => { script.remove(); resolve(loaded.get(name)); };
    script.onerror = () => { script.remove(); reject(new Error(`cannot load ${script.src}: keep the folder next to the page`)); };
    document.head.append(script);
  });
}

// Index of the file that contains an example: the last file that begins at or before it.
function fileOf(split, at) {
  let low = 0, high = split.begins.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (split.begins[middle] <= at) low = middle; else high = middle - 1;
  }
  return low;
}

async function itemAt(split, at) {
  const file = fileOf(split, at);
  return (await load(split.files[file]))[at - split.begins[file]];
}

const textOf = (side) => side.spans.map((span) => span[1]).join("");
const contains = (item, query) =>
  item.origin.toLowerCase().includes(query) || item.sides.some((side) => textOf(side).toLowerCase().includes(query));

function element(name, className, text) {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

// Append text nodes with white space and invisible characters marked.
const INVISIBLE = /\n|\t|[\u0000-\u001f\u007f-\u00a0\u00ad\u200b-\u200f\u2028-\u202f\u2060-\u206f\u3000\ufeff]|(?<=^|[ \n]) | (?=[ \n]|$)/g;
function write(into, text) {
  let end = 0;
  for (const match of text.matchAll(INVISIBLE)) {
    into.append(text.slice(end, match.index));
    end = match.index + 1;
    const kind = { "\n": "newline", "\t": "tab", " ": "space" }[match[0]];
    const code = match[0].charCodeAt(0);
    into.append(element("span", kind ?? "odd", kind ? match[0] : `U+${code.toString(16).toUpperCase().padStart(4, "0")}`));
  }
  into.append(text.slice(end));
}

function drawSpan([flags, text, ids]) {
  const span = element("span", "span");
  span.classList.toggle("target", (flags & 1) > 0);
  span.classList.toggle("special", (flags & 2) > 0);
  const more = ids.length > MAX_HINT_IDS ? ` … (${ids.length} in total)` : "";
  span.title = `${flags & 1 ? "target" : "context"}: ${ids.slice(0, MAX_HINT_IDS).join(" ")}${more}`;
  write(span, text);
  return span;
}

function drawImage([source, label]) {
  const figure = element("figure");
  if (source) {
    const image = element("img");
    image.src = source;
    image.alt = label;
    figure.append(image);
  }
  figure.append(element("figcaption", "quiet", label));
  return figure;
}

function drawSide(side) {
  const box = element("div", "side");
  const name = side.name ? `${side.name}: ` : "";
  box.append(element("h3", "", `${name}${side.tokens.toLocaleString("en")} tokens, ${side.targets.toLocaleString("en")} targets`));
  const text = element("pre");
  text.append(...side.spans.map(drawSpan));
  const details = element("details");
  details.append(element("summary", "quiet", "token ids, targets in green"));
  // Thousands of numbers are added to the page only when opened.
  details.addEventListener("toggle", () => {
    if (details.childElementCount > 1) return;
    const ids = element("pre");
    for (const [flags, , numbers] of side.spans) ids.append(element("span", flags & 1 ? "span target" : "span", numbers.join(" ")), " ");
    details.append(ids);
  });
  box.append(...(side.images ?? []).map(drawImage), text, details);
  return box;
}

// The list shows the targets, which distinguish neighboring samples best.
function preview(item) {
  const text = textOf(item.sides[0]);
  const at = state.query ? text.toLowerCase().indexOf(state.query) : -1;
  if (at >= 0) return (at > 12 ? "…" : "") + text.slice(Math.max(at - 12, 0), at + 70);
  const answer = item.sides[0].spans.filter(([flags]) => flags === 1).map((span) => span[1]).join(" ");
  return (answer.trim() || text).slice(0, 80);
}

async function drawList(turn) {
  const split = current();
  const filtered = state.query !== "";
  const count = filtered ? state.matches.length : split.count;
  const index = Math.max(filtered ? state.matches.indexOf(state.at) : state.at, 0);
  const begin = Math.floor(index / LIST_SIZE) * LIST_SIZE;
  const buttons = [];
  for (let position = begin; position < Math.min(begin + LIST_SIZE, count); position++) {
    const at = filtered ? state.matches[position] : position;
    const item = await itemAt(split, at);
    if (turn !== state.showing) return;
    const button = element("button", "", `${(at + 1).toLocaleString("en")}  ${preview(item).replace(/\s+/g, " ")}`);
    if (at === state.at) button.setAttribute("aria-current", "true");
    button.title = item.origin;
    button.addEventListener("click", () => show(at));
    buttons.push(button);
  }
  $("list").replaceChildren(...buttons);
  const chosen = $("list").querySelector("[aria-current]");
  if (chosen) $("list").scrollTop = chosen.offsetTop - $("list").offsetTop - 100;
}

async function show(at) {
  const turn = ++state.showing;
  const split = current();
  state.at = Math.min(Math.max(at, 0), Math.max(split.count - 1, 0));
  $("number").value = split.count ? state.at + 1 : 0;
  $("number").max = split.count;
  $("of").textContent = `of ${split.count.toLocaleString("en")}`;
  const nothing = split.count === 0 || (state.query && state.matches.length === 0);
  $("previous").disabled = step(-1) === null;
  $("next").disabled = step(1) === null;
  if (nothing) {
    $("origin").textContent = split.count ? "" : "This split is empty.";
    $("sides").replaceChildren();
    $("list").replaceChildren();
    return;
  }
  try {
    const item = await itemAt(split, state.at);
    if (turn !== state.showing) return;
    $("origin").textContent = item.origin;
    $("sides").replaceChildren(...item.sides.map(drawSide));
    history.replaceState(null, "", `#${state.split}-${state.at + 1}`);
    await drawList(turn);
  } catch (error) {
    $("status").textContent = error.message;
  }
}

// Index of the previous or next example that passes the filter; null if there is none.
function step(by) {
  if (state.query) {
    const after = state.matches.findIndex((match) => match >= state.at);
    const here = after < 0 ? state.matches.length : after;
    const exact = state.matches[here] === state.at;
    return state.matches[by > 0 ? here + (exact ? 1 : 0) : here - 1] ?? null;
  }
  const at = state.at + by;
  return at >= 0 && at < current().count ? at : null;
}

function go(by) {
  const at = step(by);
  if (at !== null) show(at);
}

// Search the split file by file until enough matches are found.
async function search() {
  const turn = ++state.searching;
  const split = current();
  const enough = state.matches.length + MATCHES_PER_SEARCH;
  const before = state.matches.length;
  $("more").hidden = true;
  try {
    while (state.searched < split.count && state.matches.length < enough) {
      const file = fileOf(split, state.searched);
      const rows = await load(split.files[file]);
      if (turn !== state.searching) return;
      const begin = split.begins[file];
      while (state.searched < begin + rows.length && state.matches.length < enough) {
        if (contains(rows[state.searched - begin], state.query)) state.matches.push(state.searched);
        state.searched++;
      }
      $("status").textContent = `${state.matches.length.toLocaleString("en")} found in ${state.searched.toLocaleString("en")} of ${split.count.toLocaleString("en")}`;
      if (before === 0 && state.matches.length > 0 && !state.matches.includes(state.at)) show(state.matches[0]);
    }
  } catch (error) {
    $("status").textContent = error.message;
    return;
  }
  $("more").hidden = state.searched >= split.count;
  show(state.matches.includes(state.at) || !state.matches.length ? state.at : state.matches[0]);
}

function filter() {
  state.query = $("query").value.toLowerCase();
  state.matches = [];
  state.searched = 0;
  state.searching++;
  $("more").hidden = true;
  $("status").textContent = "";
  if (state.query) search(); else show(state.at);
}

function choose(split, at) {
  state.split = split;
  state.at = at;
  $("split").value = split;
  filter();
}

function fromAddress() {
  const match = /^#(\w+)-(\d+)$/.exec(location.hash);
  const known = match && Object.hasOwn(data.splits, match[1]);
  choose(known ? match[1] : "train", known ? Number(match[2]) - 1 : 0);
}

for (const [name, split] of Object.entries(data.splits)) {
  $("split").append(new Option(`${name} (${split.count.toLocaleString("en")})`, name));
}
$("what").textContent = data.unit > 1 ? "pair" : "sample";
$("split").addEventListener("change", () => choose($("split").value, 0));
$("previous").addEventListener("click", () => go(-1));
$("next").addEventListener("click", () => go(1));
$("number").addEventListener("change", () => show(Math.trunc(Number($("number").value)) - 1));
$("more").addEventListener("click", search);
let typing = 0;
$("query").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(filter, 200); });
document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "ArrowLeft") go(-1);
  if (event.key === "ArrowRight") go(1);
});
addEventListener("hashchange", fromAddress);
fromAddress();
