/** The ways for a photo to come in: chosen, dropped, pasted, taken. */

import { hasCamera, takePhoto } from "./camera.js";
import { byId } from "./dom.js";

/** Call `open` with each photo that comes in. */
export function wireIntake(open) {
  const take = (files) => {
    const [file] = files ?? [];
    if (file) open(file);
  };
  byId("choose").addEventListener("click", () => byId("file").click());
  byId("file").addEventListener("change", (event) => {
    take(event.target.files);
    event.target.value = "";
  });
  byId("camera-open").hidden = !hasCamera();
  byId("camera-open").addEventListener("click", async () => take([await takePhoto()]));
  addEventListener("paste", (event) => take(event.clipboardData?.files));
  addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("is-over");
  });
  for (const kind of ["dragleave", "drop"]) {
    addEventListener(kind, () => document.body.classList.remove("is-over"));
  }
  addEventListener("drop", (event) => {
    event.preventDefault();
    take(event.dataTransfer.files);
  });
}
