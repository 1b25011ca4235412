/** Several photos, or a video: sent as a job, followed, cancelled, fetched. */

import { Problem, dropJob, jobResult, jobState, submitJob } from "./api.js";
import { byId, save, say } from "./dom.js";
import { explain, hideProblem } from "./problem.js";

const BETWEEN_LOOKS_MS = 700;
const PARTS = ["start", "work", "job"];

/** What is open: its files, what to look for, and the job, once the server has it. */
let open = null;

let isOffered = true;

/** Leave all that is about jobs out of the page where the server takes none. */
export function offerJobs(isServed) {
  isOffered = isServed;
  for (const part of document.querySelectorAll(".with-jobs")) part.hidden = !isServed;
  if (isServed) return;
  const file = byId("file");
  file.multiple = false;
  file.accept = file.accept.split(",").filter((kind) => kind.startsWith("image/")).join(",");
}

/**
 * Show files that are to become a job.
 *
 * @param {File[]} files photos, or one video.
 * @param {() => {task: string, side: string | null}} lookedFor asked when the job starts.
 */
export function openJob(files, lookedFor) {
  if (!isOffered) {
    explain(new Problem("This server takes one photo at a time, and no videos. Choose one photo."), null);
    return;
  }
  closeJob();
  hideProblem();
  open = { files, lookedFor, id: null, control: null };
  for (const part of PARTS) byId(part).hidden = part !== "job";
  byId("anew").hidden = false;
  byId("job-title").textContent = files.length > 1 ? `${files.length} files` : files[0].name;
  byId("job-help").textContent =
    `${size(files)}. The middle of every picture is looked at; a picture that cannot be used is named in the zip's report.json.`;
  rest();
  byId("job-start").focus({ preventScroll: true });
  say("");
}

/** Take the job away, from the server too. */
export function closeJob() {
  if (!open) return;
  byId("job").hidden = true;
  forget();
  open = null;
}

const size = (files) => {
  const bytes = files.reduce((sum, file) => sum + file.size, 0);
  return bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
};

/** Nothing runs: the format can be chosen, the job started. */
function rest() {
  byId("job-choices").hidden = false;
  byId("job-run").hidden = true;
  byId("job-download").hidden = true;
}

/** Stop following; the server drops what it has. */
function forget() {
  open.control?.abort();
  const { id } = open;
  Object.assign(open, { id: null, control: null });
  // A server that does not answer forgets the job by itself, later.
  if (id) dropJob(id).catch(() => {});
}

async function start() {
  const mine = open;
  const control = new AbortController();
  const { signal } = control;
  mine.control = control;
  hideProblem();
  byId("job-choices").hidden = true;
  byId("job-run").hidden = false;
  byId("job-cancel").textContent = "Cancel";
  byId("job-cancel").focus();
  tell({ state: "sending", done: 0, total: null });
  try {
    let job = await submitJob(mine.lookedFor(), mine.files, byId("job-format").value, { signal, onWait });
    if (signal.aborted) return void dropJob(job.id).catch(() => {});
    mine.id = job.id;
    while (job.state === "queued" || job.state === "running") {
      tell(job);
      await new Promise((resolve) => setTimeout(resolve, BETWEEN_LOOKS_MS));
      job = await jobState(mine.id, signal);
    }
    tell(job);
    if (job.state !== "done") throw new Problem(job.error ?? "The job was cancelled at the server", { code: job.state });
    say(`${job.done} pictures are done.`);
    byId("job-cancel").textContent = "Drop it";
    byId("job-download").hidden = false;
    byId("job-download").focus();
  } catch (error) {
    if (error.name === "AbortError" || open !== mine) return;
    forget();
    rest();
    explain(error, start);
  }
}

const onWait = (seconds) => say(`The server has enough jobs; trying again in ${seconds} s.`);

function tell({ state, done, total }) {
  const bar = byId("job-progress");
  const words = {
    sending: `Sending ${size(open.files)} \u2026`,
    queued: "Waiting for the jobs before it \u2026",
    running: total ? `${done} of ${total} pictures` : `${done} pictures`,
    done: `${done} pictures are done.`,
  }[state];
  if (total) Object.assign(bar, { max: total, value: done });
  else bar.removeAttribute("value");
  byId("job-state").textContent = words ?? "";
  // Read out when the state changes, not with each picture.
  if (open.told !== state) say(state === "running" ? "The job is running." : (words ?? ""));
  open.told = state;
}

function cancel() {
  forget();
  rest();
  say("Cancelled; the server keeps nothing of it.");
  byId("job-start").focus();
}

async function download({ currentTarget: button }) {
  const name = `${open.files.length > 1 ? "photos" : open.files[0].name.replace(/\.[^.]*$/, "")}-meshes.zip`;
  button.setAttribute("aria-busy", "true");
  try {
    save(await jobResult(open.id), name);
    say(`${name} is downloaded.`);
  } catch (error) {
    explain(error, () => button.click());
  } finally {
    button.removeAttribute("aria-busy");
  }
}

byId("job-start").addEventListener("click", start);
byId("job-cancel").addEventListener("click", cancel);
byId("job-download").addEventListener("click", download);
addEventListener("pagehide", () => {
  if (!open) return;
  forget();
  rest();
});
