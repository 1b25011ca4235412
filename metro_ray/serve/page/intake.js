/** The ways for photos and videos to come in: chosen, dropped, pasted, taken. */

import { hasCamera, takePhoto } from "./camera.js";
import { byId } from "./dom.js";

const isVideo = ({ name, type }) => type.startsWith("video/") || /\.(mp4|mov|webm|mkv|avi)$/i.test(name ?? "");

/** Call `open` with a photo that comes in alone, `openMany` with several or a video. */
export function wireIntake(open, openMany) {
  const take = (list) => {
    const files = [...(list ?? [])].filter(Boolean);
    if (files.length > 1 || files.some(isVideo)) openMany(files);
    else if (files.length) open(files[0]);
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
