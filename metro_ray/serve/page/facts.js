/** What is told of an answer: the model, the time it took, the camera. */

import { byId, make } from "./dom.js";

const PARTS = ["decode", "queue", "model", "encode"];

/** Milliseconds or seconds, as short as they can be said. */
export const duration = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

/**
 * Fill the details.
 *
 * @param {object} answer of the server.
 * @param {number} roundTripMs from this browser and back.
 * @param {object} card of the model, from /v1/models.
 */
export function showFacts(answer, roundTripMs, card) {
  const { model, timings_ms: times, images: [image] } = answer;
  byId("times").replaceChildren(...PARTS.map((part) => {
    const bar = make("i", { className: part, title: `${part}: ${duration(times[part])}` });
    bar.style.flexGrow = times[part];
    return bar;
  }));
  const spent = PARTS.map((part) => `${part} ${duration(times[part])}`).join(", ");
  const rows = [
    ["Server", `${duration(times.total)} (${spent})`],
    ["Round trip", duration(roundTripMs)],
    ["Model", `${model.name}, version ${model.version}`],
    ["Mesh", `${model.body_model}, ${card.num_vertices.toLocaleString("en")} vertices, ${card.arch}`],
    ["Photo", `${image.width} × ${image.height} pixels`],
    ...cameraRows(image.people),
  ];
  byId("facts").replaceChildren(...rows.flatMap(([term, text]) => [
    make("dt", { textContent: term }), make("dd", { textContent: text }),
  ]));
}

function cameraRows(people) {
  const { focal_length: focal, assumed } = people[0].camera_full;
  const away = people.map(({ camera_full: { translation } }) =>
    translation ? `${translation[2].toFixed(2)} m` : "unknown");
  return [
    ["Camera", `focal length ${Math.round(focal)} pixels${assumed ? ", assumed" : ""}`],
    ["Distance", away.join(", ")],
  ];
}
