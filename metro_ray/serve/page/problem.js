/** Tells what went wrong and what to do; asks for the API key where that is what is missing. */

import { Problem, setKey } from "./api.js";
import { byId, say } from "./dom.js";

/**
 * Show an error.
 *
 * @param {Error} error a `Problem`; others are faults of this page and pass on.
 * @param {(() => void) | null} again what to try again.
 */
export function explain(error, again) {
  if (!(error instanceof Problem)) throw error;
  say("");
  if (error.status === 401) return askForKey(error, again);
  byId("problem-text").textContent = sentence(error.message);
  byId("problem-more").textContent = error.requestId ? `${error.code}, request ${error.requestId}` : "";
  byId("again").hidden = !again;
  byId("again").onclick = () => {
    hideProblem();
    again();
  };
  byId("problem").hidden = false;
  return undefined;
}

/** Take the message away. */
export function hideProblem() {
  byId("problem").hidden = true;
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

function askForKey(error, again) {
  const [dialog, field] = [byId("key"), byId("key-field")];
  byId("key-why").textContent = sentence(error.message);
  byId("key-form").onsubmit = (event) => {
    event.preventDefault();
    setKey(field.value.trim());
    field.value = "";
    dialog.close();
    again?.();
  };
  byId("key-close").onclick = () => dialog.close();
  if (!dialog.open) dialog.showModal();
}
