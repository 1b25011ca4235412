/** Talks to the server: requests, the API key, and errors in the server's own words. */

const KEY = "metro-ray-api-key";
const TRIES = 3;
const LONGEST_WAIT_S = 30;

/** An answer that is an error; `message` says what was wrong, what was expected, what to do. */
export class Problem extends Error {
  constructor(message, { status = 0, code = "network", requestId = "" } = {}) {
    super(message);
    Object.assign(this, { status, code, requestId });
  }
}

/** The key lives as long as the tab. */
export const setKey = (key) => sessionStorage.setItem(KEY, key);

const headersWithKey = () => {
  const key = sessionStorage.getItem(KEY);
  return key ? { Authorization: `Bearer ${key}` } : {};
};

/**
 * Fetch a path below this page; an answer of 429 or 503 is asked for again when the server says.
 *
 * @param {string} path such as `v1/models`.
 * @param {RequestInit & {onWait?: (seconds: number, status: number) => void}} options as of `fetch`.
 * @returns {Promise<Response>} an answer that is no error.
 */
export async function ask(path, { onWait = () => {}, headers = {}, ...options } = {}) {
  for (let attempt = 1; ; attempt++) {
    const answer = await send(path, { ...options, headers: { ...headersWithKey(), ...headers } });
    if (answer.ok) return answer;
    const isBusy = answer.status === 429 || answer.status === 503;
    if (!isBusy || attempt === TRIES) throw await problemOf(answer);
    const seconds = Number(answer.headers.get("Retry-After")) || attempt;
    if (seconds > LONGEST_WAIT_S) throw await problemOf(answer);
    onWait(seconds, answer.status);
    await pause(seconds, options.signal);
  }
}

/** The models that are served, and whether jobs are. */
export const models = async (onWait) => (await ask("v1/models", { onWait })).json();

const faceCache = new Map();

/**
 * Triangles of a model's mesh, three vertices each.
 *
 * @param {string} task `body` or `hand`.
 * @param {string} version of the model.
 * @param {boolean} isLeft mirrored hands have theirs turned.
 */
export async function faces(task, version, isLeft) {
  const path = `v1/models/${task}/faces${isLeft ? "?hand_side=left" : ""}`;
  const key = `${path} ${version}`;
  if (!faceCache.has(key)) {
    const bytes = await (await ask(path)).arrayBuffer();
    faceCache.set(key, new Uint32Array(bytes));
  }
  return faceCache.get(key);
}

/**
 * Send a photo as it is.
 *
 * @param {{task: string, photo: Blob, boxes: number[][], side: string | null}} what to look for.
 * @param {string} format of the answer.
 * @param {{signal?: AbortSignal, onWait?: (seconds: number, status: number) => void}} options
 */
export function predict({ task, photo, boxes, side }, format, options = {}) {
  const query = new URLSearchParams({ format });
  if (format === "json") query.set("vertices", "true");
  if (boxes.length) {
    query.set("boxes", boxes.map((box) => box.map((x) => x.toFixed(1)).join(",")).join(";"));
  }
  if (side) query.set("hand_side", side);
  return ask(`v1/${task}?${query}`, {
    method: "POST",
    body: photo,
    headers: { "Content-Type": photo.type || "application/octet-stream" },
    ...options,
  });
}

/**
 * Send photos or a video, to be predicted in the background.
 *
 * @param {{task: string, side: string | null}} what to look for.
 * @param {File[]} files
 * @param {string} format of the file for each picture.
 * @param {{signal?: AbortSignal, onWait?: (seconds: number, status: number) => void}} options
 * @returns {Promise<{id: string, state: string, done: number, total: number | null}>}
 */
export async function submitJob({ task, side }, files, format, options) {
  const body = new FormData();
  body.set("task", task);
  body.set("format", format);
  if (side) body.set("hand_side", side);
  for (const file of files) body.append("files", file, file.name);
  return (await ask("v1/jobs", { method: "POST", body, ...options })).json();
}

/** How far a job is. */
export const jobState = async (id, signal) => (await ask(`v1/jobs/${id}`, { signal })).json();

/** The zip of a job that is done. */
export const jobResult = async (id) => (await ask(`v1/jobs/${id}/result`)).blob();

/** End a job, and have its files dropped; also where the page goes away. */
export const dropJob = (id) => ask(`v1/jobs/${id}`, { method: "DELETE", keepalive: true });

async function send(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(
      options.body
        ? "The connection ended before the server answered. It may be restarting, or what was sent may be larger than it takes: try again, or with less."
        : "The server cannot be reached. Check that it is running and that this device is online.",
    );
  }
}

async function problemOf(answer) {
  const about = { status: answer.status, requestId: answer.headers.get("X-Request-Id") ?? "" };
  try {
    const { code, message, request_id: requestId } = (await answer.json()).error;
    return new Problem(message, { ...about, code, requestId });
  } catch {
    const words = `The server answered ${answer.status} ${answer.statusText} and did not say why.`;
    return new Problem(words, { ...about, code: "internal" });
  }
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("stopped", "AbortError"));
    });
  });
}
