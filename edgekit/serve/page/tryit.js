// The panel that sends a file or a JSON request to the chosen model.

import { callAsUser } from "/page/api.js";
import { element, figure } from "/page/chart.js";

const LONGEST = 20000; // numbers that are worth showing in a text field
const byId = (id) => document.getElementById(id);
let model = null;
let file = null;

export function start() {
  for (const tab of ["file", "json"]) {
    byId(`tab-${tab}`).addEventListener("click", () => choose(tab));
    byId(`tab-${tab}`).addEventListener("keydown", (event) => {
      if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
        choose(tab === "file" ? "json" : "file", true);
      }
    });
  }
  byId("file").addEventListener("change", () => take(byId("file").files[0]));
  const drop = byId("drop");
  drop.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    take(event.dataTransfer.files[0]);
  });
  byId("panel-file").addEventListener("submit", sendFile);
  byId("panel-json").addEventListener("submit", sendJson);
}

// Another model was chosen: `metadata` as the protocol gives it.
export function offer(metadata) {
  model = metadata.name;
  const inputs = metadata.inputs.map(({ name, datatype, shape }) => {
    const sizes = shape.map((size) => (size < 0 ? 1 : size));
    const count = sizes.reduce((a, b) => a * b, 1);
    return { name, shape: sizes, datatype, data: count > LONGEST ? [] : new Array(count).fill(datatype === "BOOL" ? false : 0) };
  });
  const long = inputs.some(({ data, shape }) => !data.length && shape.every((size) => size > 0));
  const text = JSON.stringify({ inputs });
  byId("request").value = long ? "" : text;
  byId("request").placeholder = long ? `${text}\n\nThe data of this model is too long to show: fill it in, or send a file.` : "";
  clear("The answer appears here.");
}

function choose(tab, focus = false) {
  for (const one of ["file", "json"]) {
    const chosen = one === tab;
    byId(`tab-${one}`).setAttribute("aria-selected", chosen);
    byId(`tab-${one}`).tabIndex = chosen ? 0 : -1;
    byId(`panel-${one}`).hidden = !chosen;
    if (chosen && focus) byId(`tab-${one}`).focus();
  }
}

async function take(chosen) {
  if (!chosen) return;
  file = chosen;
  byId("send-file").disabled = false;
  const size = file.size < 1024 ? `${file.size} bytes` : `${figure(file.size / 1024)} KB`;
  byId("drop-text").textContent = `${file.name}, ${size}`;
  byId("preview").hidden = !(await preview(file));
}

// Draws the picture. An <img> of a blob would need a laxer content security policy.
async function preview(blob) {
  let picture;
  try {
    picture = await createImageBitmap(blob);
  } catch {
    return false; // not a picture: its name is enough
  }
  const canvas = byId("preview");
  const scale = Math.min(1, 640 / Math.max(picture.width, picture.height));
  canvas.width = Math.max(1, Math.round(picture.width * scale));
  canvas.height = Math.max(1, Math.round(picture.height * scale));
  canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
  picture.close();
  return true;
}

async function sendFile(event) {
  event.preventDefault();
  if (!file) return;
  const options = new URLSearchParams({ softmax: byId("softmax").checked });
  if (byId("top").value !== "") options.set("top_k", byId("top").value);
  const path = `/predict/${encodeURIComponent(model)}?${options}`;
  const type = file.type || "application/octet-stream";
  await send(path, file, type, byId("send-file"), ({ answer, text }, took) => {
    if (!answer.top) return plain(answer, text, took);
    const rows = Array.isArray(answer.top[0]) ? answer.top[0] : answer.top;
    const prepared = answer.prepared ? `. Picture: ${answer.prepared.join("; ")}` : "";
    const kind = answer.scores === "softmax" ? "probabilities" : "raw scores";
    clear(`${answer.output}, ${kind}, ${figure(answer.ms)} ms in the server, ${figure(took)} ms in all${prepared}`);
    classes(rows, answer.scores === "softmax");
  });
}

async function sendJson(event) {
  event.preventDefault();
  const path = `/v2/models/${encodeURIComponent(model)}/infer`;
  await send(path, byId("request").value, "application/json", byId("send-json"), ({ answer, text }, took) => plain(answer, text, took));
}

async function send(path, body, type, button, show) {
  button.disabled = true;
  const begun = performance.now();
  try {
    const result = await callAsUser(path, { method: "POST", body, type });
    show(result, performance.now() - begun);
  } catch (error) {
    clear(error.message, true);
  } finally {
    button.disabled = false;
  }
}

function plain(answer, text, took) {
  clear(`${figure(took)} ms`);
  byId("answer").hidden = false;
  const shown = answer === null ? text : JSON.stringify(answer, null, 1);
  byId("answer").textContent = shown.length > 20000 ? `${shown.slice(0, 20000)} …` : shown;
}

function classes(rows, probabilities) {
  const scores = rows.map((row) => row.score);
  const low = probabilities ? 0 : Math.min(0, ...scores);
  const span = (probabilities ? 1 : Math.max(...scores)) - low || 1;
  for (const { label, index, score } of rows) {
    const item = element(byId("top-list"), "li");
    element(item, "span", "", label === undefined ? `class ${index}` : label);
    element(item, "b", "", probabilities ? `${figure(score * 100)} %` : figure(score));
    const bar = element(item, "progress");
    bar.max = 1;
    bar.value = (score - low) / span;
    bar.setAttribute("aria-label", `Score of ${label ?? index}`);
  }
}

function clear(head, wrong = false) {
  byId("answer-head").textContent = head;
  byId("answer-head").classList.toggle("wrong", wrong);
  byId("top-list").replaceChildren();
  byId("answer").hidden = true;
}
