/** Take a photo with the camera of the device. */

import { byId } from "./dom.js";

const QUALITY = 0.95;

/** Whether this browser lets the page use a camera (it takes https or this very machine). */
export const hasCamera = () => Boolean(navigator.mediaDevices?.getUserMedia);

/**
 * Open the dialog.
 *
 * @returns {Promise<File | null>} the photo as JPEG; null when the person thought better of it.
 */
export async function takePhoto() {
  const [dialog, view, note, shoot] = ["camera", "camera-view", "camera-note", "camera-shoot"].map(byId);
  let stream = null;
  shoot.disabled = true;
  note.textContent = "Waiting for the camera. The browser may ask whether you allow it.";
  dialog.showModal();
  const closed = new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  navigator.mediaDevices
    .getUserMedia({ video: { facingMode: { ideal: "environment" }, width: { ideal: 1920 } } })
    .then((opened) => {
      stream = opened;
      if (!dialog.open) return stop(stream);
      view.srcObject = stream;
      shoot.disabled = false;
      note.textContent = "";
      return shoot.focus();
    })
    .catch((error) => {
      note.textContent = reason(error);
    });
  let photo = null;
  shoot.onclick = async () => {
    shoot.disabled = true;
    photo = await picture(view);
    dialog.close();
  };
  byId("camera-close").onclick = () => dialog.close();
  await closed;
  if (stream) stop(stream);
  view.srcObject = null;
  return photo;
}

async function picture(view) {
  const canvas = new OffscreenCanvas(view.videoWidth, view.videoHeight);
  canvas.getContext("2d").drawImage(view, 0, 0);
  const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: QUALITY });
  return new File([blob], "camera.jpg", { type: "image/jpeg" });
}

const stop = (stream) => stream.getTracks().forEach((track) => track.stop());

function reason(error) {
  if (error.name === "NotAllowedError") {
    return "The browser does not let this page use the camera. Allow it in the site's settings, or choose a file.";
  }
  if (error.name === "NotFoundError") return "This device has no camera. Choose a file instead.";
  return `The camera does not start (${error.message}). Another program may be using it.`;
}
