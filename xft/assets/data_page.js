// The browser of samples in the data page (data_page.html): plain, without a library.
"use strict";
const nonce = document.currentScript.nonce;
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const IN_LIST = 50;      // rows in the list at once
const AT_ONCE = 200;     // matches that a search stops at
const KEPT = 6;          // files that stay in memory
const SHOWN_IDS = 64;    // ids in the hint of a run

// Rows of samples by the name of their file. What is embedded has the name of its split.
const loaded = new Map(Object.entries(data.embedded));
const state = { split: "train", at: 0, query: "", found: [], searched: 0, showing: 0, searching: 0 };
const current = () => data.splits[state.split];

// The files beside the page call this.
globalThis.xftSamples = (name, items) => {
  loaded.set(name, items);
  if (loaded.size > KEPT) loaded.delete(loaded.keys().next().value);
};

function load(name) {
  if (loaded.has(name)) return Promise.resolve(loaded.get(name));
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.nonce = nonce;
    script.src = `${data.folder}/${name}`;
    script.onload = () => { script.remove(); resolve(loaded.get(name)); };
    script.onerror = () => { script.remove(); reject(new Error(`cannot load ${script.src}: keep the folder beside the page`)); };
    document.head.append(script);
  });
}

// Which of the files of a split holds a row: the last that begins at or before it.
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

const textOf = (side) => side.runs.map((run) => run[1]).join("");
const contains = (item, query) =>
  item.origin.toLowerCase().includes(query) || item.sides.some((side) => textOf(side).toLowerCase().includes(query));

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// Text with its white space and its invisible characters marked. Always text nodes, never markup.
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

function drawRun([mark, text, ids]) {
  const span = element("span", "run");
  span.classList.toggle("trained", (mark & 1) > 0);
  span.classList.toggle("special", (mark & 2) > 0);
  const more = ids.length > SHOWN_IDS ? ` … (${ids.length} in all)` : "";
  span.title = `${mark & 1 ? "trained" : "only read"}: ${ids.slice(0, SHOWN_IDS).join(" ")}${more}`;
  write(span, text);
  return span;
}

function drawSide(side) {
  const box = element("div", "side");
  const name = side.name ? `${side.name}: ` : "";
  box.append(element("h3", "", `${name}${side.tokens.toLocaleString("en")} tokens, ${side.trained.toLocaleString("en")} trained`));
  const text = element("pre");
  text.append(...side.runs.map(drawRun));
  const details = element("details");
  details.append(element("summary", "quiet", "token ids, those trained in green"));
  // Thousands of numbers are written only when somebody wants to see them.
  details.addEventListener("toggle", () => {
    if (details.childElementCount > 1) return;
    const ids = element("pre");
    for (const [mark, , numbers] of side.runs) ids.append(element("span", mark & 1 ? "run trained" : "run", numbers.join(" ")), " ");
    details.append(ids);
  });
  box.append(text, details);
  return box;
}

// What tells a sample from its neighbours is mostly the answer, so the list shows that.
function preview(item) {
  const text = textOf(item.sides[0]);
  const at = state.query ? text.toLowerCase().indexOf(state.query) : -1;
  if (at >= 0) return (at > 12 ? "…" : "") + text.slice(Math.max(at - 12, 0), at + 70);
  const answer = item.sides[0].runs.filter(([mark]) => mark === 1).map((run) => run[1]).join(" ");
  return (answer.trim() || text).slice(0, 80);
}

async function drawList(turn) {
  const split = current();
  const filtered = state.query !== "";
  const count = filtered ? state.found.length : split.count;
  const index = Math.max(filtered ? state.found.indexOf(state.at) : state.at, 0);
  const begin = Math.floor(index / IN_LIST) * IN_LIST;
  const buttons = [];
  for (let each = begin; each < Math.min(begin + IN_LIST, count); each++) {
    const at = filtered ? state.found[each] : each;
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
  const nothing = split.count === 0 || (state.query && state.found.length === 0);
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

// The neighbour of what is shown, among what the filter lets through; null where there is none.
function step(by) {
  if (state.query) {
    const after = state.found.findIndex((each) => each >= state.at);
    const here = after < 0 ? state.found.length : after;
    const exact = state.found[here] === state.at;
    return state.found[by > 0 ? here + (exact ? 1 : 0) : here - 1] ?? null;
  }
  const at = state.at + by;
  return at >= 0 && at < current().count ? at : null;
}

function go(by) {
  const at = step(by);
  if (at !== null) show(at);
}

// Look through the split, file by file, until enough is found.
async function search() {
  const turn = ++state.searching;
  const split = current();
  const enough = state.found.length + AT_ONCE;
  const before = state.found.length;
  $("more").hidden = true;
  try {
    while (state.searched < split.count && state.found.length < enough) {
      const file = fileOf(split, state.searched);
      const rows = await load(split.files[file]);
      if (turn !== state.searching) return;
      const begin = split.begins[file];
      while (state.searched < begin + rows.length && state.found.length < enough) {
        if (contains(rows[state.searched - begin], state.query)) state.found.push(state.searched);
        state.searched++;
      }
      $("status").textContent = `${state.found.length.toLocaleString("en")} found in ${state.searched.toLocaleString("en")} of ${split.count.toLocaleString("en")}`;
      if (before === 0 && state.found.length > 0 && !state.found.includes(state.at)) show(state.found[0]);
    }
  } catch (error) {
    $("status").textContent = error.message;
    return;
  }
  $("more").hidden = state.searched >= split.count;
  show(state.found.includes(state.at) || !state.found.length ? state.at : state.found[0]);
}

function filter() {
  state.query = $("query").value.toLowerCase();
  state.found = [];
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
