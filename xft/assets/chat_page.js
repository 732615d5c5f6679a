"use strict";
// The page requests only the API of its own server. Answers are inserted as text nodes, never as markup.

const at = (id) => document.getElementById(id);
const BASE = ":base";
const state = { model: null, base: null, turns: [], pictures: [], sides: [], stop: null };
// A turn of the user is { text, pictures }, with pictures as data URLs.

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function headers() {
  const key = at("key").value;
  return { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
}

function showError(text) {
  at("error").textContent = text;
  at("error").hidden = !text;
}

async function responseError(response) {
  const body = await response.json().catch(() => null);
  const message = body?.error?.message ?? `HTTP status ${response.status}`;
  if (response.status === 401) at("settings").open = true;
  return new Error(message);
}

async function findModels() {
  const response = await fetch("/v1/models", { headers: headers() });
  if (!response.ok) throw await responseError(response);
  const models = (await response.json()).data;
  const names = models.map((model) => model.id);
  at("picture-label").hidden = !models[0].input_modalities.includes("image");
  state.model = names.find((name) => !name.endsWith(BASE)) ?? names[0];
  state.base = names.includes(state.model + BASE) ? state.model + BASE : null;
  at("name").textContent = at("hint-name").textContent = state.model;
  document.title = `${state.model} · xft`;
  at("compare-label").hidden = state.base === null;
}

// Columns: the fine-tuned model alone, or the base model and it, each with its own conversation.
function chooseSides() {
  const names = at("compare").checked && state.base ? [state.base, state.model] : [state.model];
  state.sides = names.map((model) => ({ model, answers: [] }));
}

function reset() {
  state.stop?.abort();
  state.turns = [];
  show([]);
  chooseSides();
  at("log").replaceChildren(at("hint"));
  at("hint").hidden = false;
  showError("");
  refresh();
  at("text").focus();
}

// Pictures of the next message.
function show(pictures) {
  state.pictures = pictures;
  at("pictures").replaceChildren(...pictures.map(image));
  at("pictures").hidden = pictures.length === 0;
}

function image(source) {
  const node = element("img");
  node.src = source;
  node.alt = "picture";
  return node;
}

function readFile(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

function content(turn) {
  if (turn.pictures.length === 0) return turn.text;
  const parts = turn.pictures.map((url) => ({ type: "image_url", image_url: { url } }));
  return [...parts, { type: "text", text: turn.text }];
}

function refresh() {
  const busy = state.stop !== null;
  const answered = state.turns.length > 0;
  at("send").textContent = busy ? "Stop" : "Send";
  for (const id of ["save", "regenerate", "reset"]) at(id).disabled = busy || !answered;
  at("compare").disabled = busy;
}

function messages(side, count) {
  const system = at("system").value.trim();
  const result = system ? [{ role: "system", content: system }] : [];
  state.turns.slice(0, count).forEach((turn, index) => {
    const last = index === count - 1;
    if (!last && !side.answers[index]) return; // turn without an answer
    result.push({ role: "user", content: content(turn) });
    if (!last) result.push({ role: "assistant", content: side.answers[index] });
  });
  return result;
}

function request(side) {
  const body = { model: side.model, messages: messages(side, state.turns.length), stream: true,
    stream_options: { include_usage: true } };
  for (const id of ["temperature", "top_p", "max_tokens", "seed"]) {
    if (at(id).value !== "") body[id] = Number(at(id).value);
  }
  return body;
}

// Parses server-sent events, one object at a time.
async function* events(response) {
  let rest = "";
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data: ") && line !== "data: [DONE]") yield JSON.parse(line.slice(6));
    }
  }
}

async function answer(side, box, signal) {
  const text = document.createTextNode("");
  box.querySelector(".answer").append(text);
  const figures = box.querySelector(".figures");
  let started = null; // at the first chunk: before it, the request may wait in the queue
  let finish = null, usage = null;
  try {
    const response = await fetch("/v1/chat/completions",
      { method: "POST", headers: headers(), body: JSON.stringify(request(side)), signal });
    if (!response.ok) throw await responseError(response);
    for await (const event of events(response)) {
      if (event.error) throw new Error(event.error.message);
      usage = event.usage ?? usage;
      const choice = event.choices[0];
      if (!choice) continue;
      finish = choice.finish_reason ?? finish;
      if (choice.delta.content) {
        started ??= performance.now();
        const follow = isAtEnd();
        text.appendData(choice.delta.content);
        if (follow) scrollToEnd();
      }
    }
    const seconds = (performance.now() - (started ?? performance.now())) / 1000;
    figures.textContent = usage === null ? "" : `${usage.completion_tokens} tokens in ${seconds.toFixed(1)} s`
      + (finish === "length" ? " · token limit reached" : "");
  } catch (error) {
    const stopped = error.name === "AbortError";
    figures.textContent = stopped ? "interrupted" : `error: ${error.message}`;
    figures.classList.toggle("bad", !stopped);
    if (!stopped) showError(error.message);
  } finally {
    box.classList.remove("waiting");
    side.answers[state.turns.length - 1] = text.data;
  }
}

function isAtEnd() {
  const log = at("log");
  return log.scrollHeight - log.scrollTop - log.clientHeight < 80;
}

function scrollToEnd() {
  at("log").scrollTop = at("log").scrollHeight;
}

async function ask() {
  showError("");
  at("hint").hidden = true;
  const row = element("div", state.sides.length > 1 ? "answers two" : "answers");
  const boxes = state.sides.map((side) => {
    const base = side.model === state.base;
    const box = element("section", `side waiting ${base ? "base" : "tuned"}`);
    if (state.sides.length > 1) box.append(element("h2", "", base ? "base" : "tuned"));
    box.append(element("p", "answer"), element("p", "figures"));
    return box;
  });
  row.append(...boxes);
  at("log").append(row);
  scrollToEnd();
  state.stop = new AbortController();
  refresh();
  await Promise.all(state.sides.map((side, index) => answer(side, boxes[index], state.stop.signal)));
  state.stop = null;
  refresh();
  at("text").focus();
}

async function send(text) {
  try {
    if (state.model === null) {
      await findModels();
      chooseSides();
    }
  } catch (error) {
    showError(error.message);
    return;
  }
  const turn = { text, pictures: state.pictures };
  state.turns.push(turn);
  const message = element("p", "message", text);
  message.prepend(...turn.pictures.map(image));
  at("log").append(message);
  show([]);
  at("text").value = "";
  await ask();
}

function regenerate() {
  at("log").lastElementChild.remove();
  for (const side of state.sides) side.answers.length = state.turns.length - 1;
  ask();
}

// Downloads the conversation of the fine-tuned model as a training row.
function save() {
  const side = state.sides.at(-1);
  const row = messages(side, state.turns.length);
  row.push({ role: "assistant", content: side.answers.at(-1) });
  const link = element("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify({ messages: row }) + "\n"], { type: "application/jsonl" }));
  link.download = "conversation.jsonl";
  link.click();
  URL.revokeObjectURL(link.href);
}

at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (state.stop) return state.stop.abort();
  const text = at("text").value.trim();
  if (text) send(text);
});
at("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    if (!state.stop) at("form").requestSubmit();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") state.stop?.abort();
});
at("picture").addEventListener("change", async () => {
  const files = [...at("picture").files];
  at("picture").value = "";
  try {
    show([...state.pictures, ...await Promise.all(files.map(readFile))]);
  } catch (error) {
    showError(error.message);
  }
  at("text").focus();
});
at("regenerate").addEventListener("click", regenerate);
at("reset").addEventListener("click", reset);
at("save").addEventListener("click", save);
at("compare").addEventListener("change", reset);
at("system").addEventListener("change", () => { if (state.turns.length && !state.stop) reset(); });
at("key").addEventListener("change", () => findModels().then(reset, (error) => showError(error.message)));
refresh();
findModels().then(reset, (error) => showError(error.message));
