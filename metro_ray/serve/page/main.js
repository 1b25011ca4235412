/** The page: a photo, boxes on it, and the answer of the server. */

import { Problem, ask, faces, models, predict } from "./api.js";
import { Boxes } from "./boxes.js";
import { byId, save, say } from "./dom.js";
import { duration, showFacts } from "./facts.js";
import { wireIntake } from "./intake.js";
import { closeJob, offerJobs, openJob } from "./job.js";
import { Overlay, drawSkeletons } from "./overlay.js";
import { explain, hideProblem } from "./problem.js";
import { Viewer } from "./viewer.js";

const KEYS_REST_MS = 450;

const state = { cards: [], photo: null, answer: null, wasAsked: null, files: new Map() };
const boxes = new Boxes(byId("stage"), byId("boxes"), byId("chips"));
const [overlay, viewer] = withWebGl();
let running = null;
let timer = 0;

function withWebGl() {
  try {
    return [new Overlay(byId("over"), byId("bones")), new Viewer(byId("turn"))];
  } catch {
    byId("viewer-note").textContent =
      "This browser draws no WebGL. The skeleton, the numbers and the downloads work without it.";
    byId("show-bones").checked = true;
    return [null, null];
  }
}

const chosen = (name) => document.querySelector(`input[name=${name}]:checked`).value;
const cardOf = ({ version }, task) =>
  state.cards.find((one) => one.version === version) ?? state.cards.find((one) => one.task === task);
const count = (n, noun) => `${n} ${n === 1 ? noun : { person: "people", hand: "hands" }[noun]}`;
const lookedFor = () => ({ task: chosen("task"), side: chosen("task") === "hand" ? chosen("side") : null });
const noun = () => (chosen("task") === "hand" ? "hand" : "person");

/* ---- models ---- */

async function loadModels() {
  try {
    const found = await models((seconds) => say(`The models are getting ready; asking again in ${seconds} s.`));
    state.cards = found.models;
    offerJobs(found.jobs);
  } catch (error) {
    return explain(error, loadModels);
  }
  const served = new Set(state.cards.map((one) => one.task));
  for (const input of byId("task").querySelectorAll("input")) {
    input.disabled = !served.has(input.value);
    input.closest("label").title = input.disabled ? "This server has no model for it." : "";
  }
  if (!served.has(chosen("task")) && served.size) selectTask([...served][0]);
  for (const sample of document.querySelectorAll(".sample")) sample.hidden = !served.has(sample.dataset.task);
  hideProblem();
  return say("");
}

function selectTask(task) {
  document.querySelector(`input[name=task][value=${task}]`).checked = true;
  taskChanged();
}

function taskChanged() {
  byId("side").hidden = chosen("task") !== "hand";
  boxes.call(noun() === "hand" ? "Hand" : "Person");
}

/* ---- a photo ---- */

async function open(file, startBoxes = []) {
  const url = URL.createObjectURL(file);
  const photo = byId("photo");
  hideProblem();
  stop();
  closeJob();
  photo.src = url;
  try {
    await photo.decode();
  } catch {
    URL.revokeObjectURL(url);
    showStart();
    return refuse(file);
  }
  if (state.photo) URL.revokeObjectURL(state.photo.url);
  state.photo = { file, url };
  photo.alt = `The photo ${file.name || "you chose"}`;
  byId("stage").style.setProperty("--ratio", photo.naturalWidth / photo.naturalHeight);
  clearAnswer();
  boxes.reset(photo.naturalWidth, photo.naturalHeight, startBoxes);
  byId("start").hidden = true;
  byId("work").hidden = false;
  byId("anew").hidden = false;
  byId("main").focus({ preventScroll: true });
  return run();
}

/** The browser cannot show a file: the server knows better what is wrong with it. */
async function refuse(file) {
  try {
    await predict({ task: chosen("task"), photo: file, boxes: [], side: null }, "json");
    throw new Problem("This browser cannot show the picture, though the server can read it. Save it as JPEG or PNG and choose that.");
  } catch (error) {
    explain(error, null);
  }
}

function showStart() {
  stop();
  closeJob();
  byId("start").hidden = false;
  byId("work").hidden = true;
  byId("anew").hidden = true;
  say("");
}

async function openSample({ dataset: { task, src, name, boxes: marked } }) {
  selectTask(task);
  if (task === "hand") document.querySelector("input[name=side][value=right]").checked = true;
  try {
    const blob = await (await ask(src)).blob();
    await open(new File([blob], name, { type: blob.type }), JSON.parse(marked));
  } catch (error) {
    explain(error, null);
  }
}

/* ---- asking the server ---- */

function stop() {
  clearTimeout(timer);
  running?.abort();
  running = null;
  document.body.classList.remove("is-busy");
}

async function run() {
  if (!state.photo || byId("work").hidden) return;
  stop();
  const mine = new AbortController();
  running = mine;
  const asked = {
    ...lookedFor(), photo: state.photo.file, boxes: boxes.list.map((box) => [...box]),
  };
  document.body.classList.add("is-busy");
  hideProblem();
  say("Reconstructing …");
  const began = performance.now();
  try {
    if (!state.cards.length) await loadModels();
    const reply = await predict(asked, "json", { signal: mine.signal, onWait: tellWait });
    const text = await reply.text();
    const answer = JSON.parse(text);
    const roundTripMs = performance.now() - began;
    const triangles = await faces(asked.task, answer.model.version, asked.side === "left");
    if (running !== mine) return;
    show(answer, triangles, asked, roundTripMs);
    state.files = new Map([["json", new Blob([text], { type: "application/json" })]]);
  } catch (error) {
    if (error.name !== "AbortError" && running === mine) {
      clearAnswer();
      explain(error, run);
    }
  }
  if (running === mine) stop();
}

const tellWait = (seconds, status) =>
  say(`${status === 429 ? "Too many requests at once" : "The server is busy"}; trying again in ${seconds} s.`);

function show(answer, triangles, asked, roundTripMs) {
  const [image] = answer.images;
  const isFirst = !state.answer || state.wasAsked?.task !== asked.task;
  Object.assign(state, { answer, wasAsked: asked });
  const card = cardOf(answer.model, asked.task);
  overlay?.show(image, triangles);
  drawSkeletons(byId("bones"), image, card.edges);
  viewer?.show(image, triangles, card.edges, !isFirst);
  boxes.showLookedAt(asked.boxes.length ? null : image.people[0].box);
  showFacts(answer, roundTripMs, card);
  byId("result").hidden = false;
  byId("views").hidden = !viewer;
  if (viewer) byId("viewer-note").textContent = "";
  const found = count(image.people.length, noun());
  byId("turn").setAttribute("aria-label", `Mesh of ${found} in 3D.`);
  const nowhere = image.people.filter((person) => !person.camera_full.translation).length;
  const hint = asked.boxes.length ? "" : " No box: the middle of the photo was taken. Draw one for a closer look.";
  const lost = nowhere ? ` ${count(nowhere, noun())} cannot be placed over the photo: the network sees nobody there.` : "";
  say(`${found} in ${duration(answer.timings_ms.total)}.${lost}${hint}`);
}

function clearAnswer() {
  state.answer = null;
  overlay?.clear();
  byId("bones").replaceChildren();
  boxes.showLookedAt(null);
  byId("result").hidden = true;
  byId("views").hidden = true;
  viewer?.clear();
  if (viewer) byId("viewer-note").textContent = "The mesh appears here.";
  byId("turn").setAttribute("aria-label", "Mesh in 3D. Nothing yet.");
}

async function download(button) {
  const { format } = button.dataset;
  const stem = (state.photo.file.name || "photo").replace(/\.[^.]*$/, "");
  const asked = state.wasAsked;
  button.setAttribute("aria-busy", "true");
  try {
    if (!state.files.has(format)) {
      const blob = await (await predict(asked, format, { onWait: tellWait })).blob();
      if (asked !== state.wasAsked) return;
      state.files.set(format, blob);
    }
    const name = format === "png" ? `${stem}-overlay.png` : `${stem}-mesh.${format}`;
    save(state.files.get(format), name);
    say(`${name} is downloaded.`);
  } catch (error) {
    explain(error, () => download(button));
  } finally {
    button.removeAttribute("aria-busy");
  }
}

/* ---- wiring ---- */

/** Ask when the keys rest; what is asked now would be of the past. */
function soon() {
  stop();
  document.body.classList.add("is-busy");
  timer = setTimeout(run, KEYS_REST_MS);
}

function wireBoxes() {
  boxes.addEventListener("change", () => document.body.classList.add("is-busy"));
  boxes.addEventListener("settle", ({ detail }) => {
    say(detail);
    soon();
  });
  byId("add-box").addEventListener("click", () => boxes.add());
  byId("draw-box").addEventListener("click", ({ target }) => {
    boxes.canDraw = !boxes.canDraw;
    target.setAttribute("aria-pressed", boxes.canDraw);
    byId("stage").classList.toggle("is-drawing", boxes.canDraw);
  });
  byId("run").addEventListener("click", run);
  for (const group of ["task", "side"]) {
    byId(group).addEventListener("change", () => {
      taskChanged();
      run();
    });
  }
}

function wireResult() {
  const toggle = (id, act) => {
    const apply = () => act(byId(id).checked);
    byId(id).addEventListener("change", apply);
    apply();
  };
  toggle("show-mesh", (isOn) => {
    byId("over").hidden = !isOn;
    viewer?.setVisible({ meshes: isOn });
    overlay?.render();
  });
  toggle("show-bones", (isOn) => {
    byId("bones").classList.toggle("off", !isOn);
    viewer?.setVisible({ skeletons: isOn });
  });
  toggle("show-boxes", (isOn) => byId("boxes").classList.toggle("off", !isOn));
  const opacity = () => {
    const { value } = byId("opacity");
    byId("over").style.opacity = value / 100;
    byId("opacity-value").textContent = `${value}%`;
  };
  byId("opacity").addEventListener("input", opacity);
  opacity();
  for (const button of byId("downloads").querySelectorAll("button")) {
    button.addEventListener("click", () => download(button));
  }
  for (const button of byId("views").querySelectorAll("button")) {
    button.addEventListener("click", () => viewer.look(button.dataset.view));
  }
  byId("dismiss").addEventListener("click", hideProblem);
}

for (const sample of document.querySelectorAll(".sample")) sample.addEventListener("click", () => openSample(sample));
byId("anew").addEventListener("click", () => {
  showStart();
  byId("choose").focus();
});
wireIntake(open, (files) => {
  stop();
  openJob(files, lookedFor);
});
wireBoxes();
wireResult();
taskChanged();
loadModels();
