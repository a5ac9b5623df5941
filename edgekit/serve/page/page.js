// The page: asks the server once a second while somebody looks, and shows what it says.

import { askToken, call, callAsUser } from "/page/api.js";
import { Chart, element, figure } from "/page/chart.js";
import * as tryit from "/page/tryit.js";
import "/page/theme.js";

const KEPT = 130; // seconds of history
const STAGES = ["parse", "queue", "input", "infer", "output", "serialise"];
const byId = (id) => document.getElementById(id);

const seen = new Map(); // by "model/version": {last: counters, rates: points, latencies: points}
let models = new Map(); // by name: [{version, state, reason}]
let chosen = null;
let described = null; // which model the metadata on the page is of
let refused = false; // the user was asked for a token and gave none

const latency = new Chart(byId("latency"), [
  { name: "p50", colour: 0 }, { name: "p90", colour: 1 }, { name: "p99", colour: 2 }, { name: "mean", colour: 5, dashed: true },
], { label: "Latency", unit: "milliseconds", log: true });
const rate = new Chart(byId("rate"), [
  { name: "answered", colour: 0, area: true }, { name: "failed", colour: 2 },
], { label: "Throughput", unit: "requests a second" });

async function tick() {
  try {
    const [{ answer: index }, { answer: stats }, ready] = await Promise.all([
      call("/v2/repository/index", { method: "POST" }), call("/v2/models/stats"), health(),
    ]);
    refused = false;
    pill(byId("health"), ready ? "Ready" : "Not ready", ready);
    models = Map.groupBy(index, (one) => one.name);
    stats.model_stats.forEach(count);
    if (!models.has(chosen)) choose(first());
    list();
    await detail();
  } catch (error) {
    await lost(error);
  }
}

async function health() {
  const response = await fetch("/v2/health/ready", { cache: "no-store" });
  return response.ok;
}

async function lost(error) {
  const denied = error.status === 401 || error.status === 403;
  pill(byId("health"), denied ? "Token needed" : "No answer", false);
  if (denied && !refused) refused = !(await askToken(error.message));
}

function first() {
  const ready = [...models].find(([, versions]) => versions.some(({ state }) => state === "READY"));
  return ready?.[0] ?? models.keys().next().value ?? null;
}

// Keeps the rates of a version: the difference of two looks at its counters.
function count({ name, version, inference_stats: counters, batch_stats: batches }) {
  const now = performance.now() / 1000;
  const key = `${name}/${version}`;
  if (!seen.has(key)) seen.set(key, { last: null, rates: [], latencies: [] });
  const kept = seen.get(key);
  const current = { time: now, success: counters.success.count, fail: counters.fail.count };
  const last = kept.last;
  if (last && current.success >= last.success && now - last.time < 5) {
    const perSecond = (what) => (current[what] - last[what]) / (now - last.time);
    remember(kept.rates, { time: now, values: [perSecond("success"), perSecond("fail")] });
  }
  kept.last = current;
  kept.batches = batches;
}

function remember(points, point) {
  points.push(point);
  while (points[0].time < point.time - KEPT) points.shift();
}

let drawn = ""; // what the list shows: it is built anew only when that changes, so that clicks hit

function list() {
  const wanted = JSON.stringify([chosen, [...models], [...busy]]);
  if (wanted !== drawn) build();
  drawn = wanted;
  for (const place of document.querySelectorAll("#models [data-speed]")) {
    place.textContent = `${figure(seen.get(place.dataset.speed)?.rates.at(-1)?.values[0] ?? 0)} /s`;
  }
}

function build() {
  const focused = document.activeElement?.dataset?.key;
  byId("models").replaceChildren();
  for (const [name, versions] of models) {
    const item = element(byId("models"), "li", name === chosen ? "model chosen" : "model");
    const pick = element(item, "button", "pick", name);
    pick.type = "button";
    pick.dataset.key = `pick ${name}`;
    pick.setAttribute("aria-current", name === chosen);
    pick.addEventListener("click", () => choose(name, true));
    for (const { version, state, reason } of versions) {
      const row = element(item, "div", "version");
      const ready = state === "READY";
      const broken = reason && reason !== "unloaded";
      element(row, "span", "", `v${version}`);
      const told = broken && !ready ? "failed" : ready ? "ready" : "unloaded";
      element(row, "span", `pill ${broken ? "bad" : ready ? "good" : "off"}`, told);
      if (ready) element(row, "span", "soft").dataset.speed = `${name}/${version}`;
      if (broken) element(item, "p", "reason", reason);
    }
    control(item, name, versions.some(({ state }) => state === "READY"));
  }
  if (focused) document.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

function control(item, name, ready) {
  const button = element(element(item, "div", "row"), "button", "small", busy.get(name) ?? (ready ? "Unload" : "Load"));
  button.type = "button";
  button.disabled = busy.has(name);
  button.dataset.key = `control ${name}`;
  button.setAttribute("aria-label", `${button.textContent} ${name}`);
  button.addEventListener("click", () => (ready ? unload(name) : change(name, "load", "Loading…")));
}

const busy = new Map(); // what is being done to a model

async function unload(name) {
  const dialog = byId("confirm");
  byId("confirm-title").textContent = `Unload ${name}?`;
  dialog.returnValue = "cancel";
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  if (dialog.returnValue === "ok") await change(name, "unload", "Unloading…");
}

async function change(name, what, told) {
  busy.set(name, told);
  list();
  try {
    await callAsUser(`/v2/repository/models/${encodeURIComponent(name)}/${what}`, { method: "POST" });
  } catch (error) {
    toast(error.message);
  } finally {
    busy.delete(name);
    await tick();
  }
}

function toast(text) {
  byId("toast").textContent = text;
  byId("toast").hidden = false;
  setTimeout(() => (byId("toast").hidden = true), 8000);
}

function choose(name, show = false) {
  if (chosen === name) return;
  chosen = name;
  described = null;
  list();
  if (show) detail().catch(lost);
}

async function detail() {
  const versions = (models.get(chosen) ?? []).filter(({ state }) => state === "READY");
  byId("detail").hidden = !versions.length;
  byId("empty").hidden = Boolean(versions.length);
  byId("empty-title").textContent = chosen === null ? "No model yet" : `${chosen} is not loaded`;
  if (!versions.length) return;
  const model = chosen;
  const path = `/v2/models/${encodeURIComponent(model)}`;
  if (described !== model) describe((await call(path)).answer);
  const { answer: profile } = await call(`${path}/profile?last=1000&seconds=10`);
  if (model !== chosen) return; // another one was chosen meanwhile
  show(profile);
}

function describe(metadata) {
  described = metadata.name;
  byId("name").textContent = metadata.name;
  const tensors = (list) => list.map(({ name, datatype, shape }) => `${name} ${datatype} [${shape.map((size) => (size < 0 ? "?" : size)).join(", ")}]`).join(", ");
  byId("what").textContent = `${metadata.platform} · ${tensors(metadata.inputs)} → ${tensors(metadata.outputs)}`;
  tryit.offer(metadata);
}

function show(profile) {
  const kept = seen.get(`${profile.name}/${profile.version}`);
  if (!kept) return;
  const { recent, requests } = profile;
  const values = ["p50", "p90", "p99", "mean"].map((which) => (recent.total[which] === null ? null : recent.total[which] / 1000));
  remember(kept.latencies, { time: performance.now() / 1000, values });
  latency.show(kept.latencies);
  rate.show(kept.rates);
  const missing = recent.count ? Object.keys(recent.notes).at(-1) : null;
  byId("latency-note").textContent = missing ? `${missing}: ${recent.notes[missing]}.` : "";
  byId("rate-note").textContent = `${profile.pending} under way, ${figure(kept.last.success)} answered since loading.`;
  figures(profile, kept.rates.at(-1)?.values[0] ?? null);
  stages(requests);
  batches(kept.batches);
}

function figures({ recent, requests, failures, pending }, speed) {
  const milliseconds = (value) => (value === null ? null : value / 1000);
  const failed = Object.values(failures).reduce((a, b) => a + b, 0);
  const last = recent.total.p50 === null ? requests : recent;
  const shown = [
    ["Throughput", speed, "/s"], ["Latency p50", milliseconds(last.total.p50), "ms"],
    ["Latency p99", milliseconds(last.total.p99), "ms"], ["Overhead p50", milliseconds(last.overhead.p50), "ms"],
    ["Mean batch", last.mean_batch, ""], ["Failed", failed, ""],
  ];
  byId("figures").replaceChildren();
  for (const [name, value, unit] of shown) {
    const tile = element(byId("figures"), "div");
    element(tile, "dt", "", name);
    const told = element(tile, "dd", "", figure(value));
    if (value !== null && unit) element(told, "small", "", unit);
  }
}

function stages(rows) {
  const table = byId("stages").tBodies[0];
  const stack = byId("stack");
  table.replaceChildren();
  if (!stack.children.length) STAGES.forEach((_, index) => element(stack, "span", `s${index}`));
  const cells = (row, values) => ["mean", "p50", "p90", "p99"].forEach((which) => element(row, "td", "", figure(values[which])));
  STAGES.forEach((stage, index) => {
    const row = element(table, "tr", `s${index}`);
    const head = element(row, "th");
    head.scope = "row";
    element(head, "span", "key");
    head.append(stage);
    cells(row, rows.stages[stage]);
    stack.children[index].style.flexGrow = rows.stages[stage].mean ?? 0;
    stack.children[index].title = stage;
  });
  for (const [name, values] of [["all together", rows.total], ["overhead", rows.overhead]]) {
    const row = element(table, "tr", "sum");
    element(row, "th", "", name).scope = "row";
    cells(row, values);
  }
  const share = rows.total.mean ? Math.round((rows.stages.infer.mean / rows.total.mean) * 100) : null;
  stack.setAttribute("aria-label", share === null ? "No requests yet" : `The engine takes ${share} % of the time`);
  byId("stages-note").textContent = share === null ? "No requests yet." : `The engine takes ${share} % of the time; overhead is everything else.`;
}

function batches(sizes) {
  const list = byId("batches");
  list.replaceChildren();
  if (!sizes.length) element(list, "li", "soft", "No runs yet.");
  const most = Math.max(...sizes.map((one) => one.compute_infer.count));
  for (const { batch_size: size, compute_infer: runs } of sizes) {
    const item = element(list, "li");
    element(item, "span", "", String(size));
    const bar = element(item, "progress");
    bar.max = most;
    bar.value = runs.count;
    bar.setAttribute("aria-label", `Batches of ${size}`);
    element(item, "span", "soft", `${figure(runs.count)} × ${figure(runs.ns / runs.count / 1e6)} ms`);
  }
}

function pill(where, text, good) {
  where.textContent = text;
  where.className = `pill ${good ? "good" : "bad"}`;
}

async function run() {
  for (;;) {
    const begun = performance.now();
    await tick();
    await new Promise((resolve) => setTimeout(resolve, Math.max(100, 1000 - (performance.now() - begun))));
    if (document.hidden) await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
  }
}

byId("token-button").addEventListener("click", async () => {
  if (await askToken()) refused = false;
});
tryit.start();
run();
