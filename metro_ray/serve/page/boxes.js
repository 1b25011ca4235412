/** Boxes on the photo: drawn, moved, resized and deleted by mouse, touch and keys. */

import { make } from "./dom.js";
import { personColor } from "./meshes.js";

const EDGES = ["nw", "n", "ne", "e", "se", "s", "sw", "w"];
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const SMALLEST_PX = 8;
const DRAG_PX = 6;
const KEY_SHARE = 0.01;
const READY_MADE = 0.6;

/**
 * The boxes of one photo, [x0, y0, x1, y1] in its pixels; they may leave it.
 *
 * Events: `change` (something moved), `settle` (a person has finished a change; its detail says
 * what, in words).
 */
export class Boxes extends EventTarget {
  /**
   * @param {HTMLElement} stage what is drawn on.
   * @param {HTMLElement} layer as large as the photo, holds the boxes.
   * @param {HTMLElement} chips list of their names and delete buttons.
   */
  constructor(stage, layer, chips) {
    super();
    Object.assign(this, { stage, layer, chips, list: [], noun: "Person", canDraw: false });
    stage.addEventListener("pointerdown", (event) => this.#press(event));
    layer.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Start anew with a photo of this size. */
  reset(width, height, boxes = []) {
    Object.assign(this, { width, height, list: boxes.map((box) => [...box]) });
    this.#build();
  }

  /** What one of them is called. */
  call(noun) {
    this.noun = noun;
    this.#build();
  }

  /** Add a ready-made box in the middle and go to it. */
  add() {
    const [x, y] = [this.width / 2, this.height / 2];
    const half = [this.width * READY_MADE * 0.5, this.height * READY_MADE * 0.5];
    this.list.push([x - half[0], y - half[1], x + half[0], y + half[1]]);
    this.#build();
    this.element(this.list.length - 1).focus();
    this.#settle(this.list.length - 1, "added");
  }

  remove(number) {
    this.list.splice(number, 1);
    this.#build();
    const left = this.element(Math.min(number, this.list.length - 1));
    (left ?? document.getElementById("add-box")).focus();
    this.dispatchEvent(new CustomEvent("settle", { detail: `${this.noun} ${number + 1} deleted.` }));
  }

  /** The box with this number, for the focus. */
  element(number) {
    return this.layer.children[number];
  }

  /** Show the part that was looked at where there is no box. */
  showLookedAt(box) {
    this.layer.querySelector(".looked-at")?.remove();
    if (!box) return;
    const shade = make("div", { className: "looked-at" });
    this.#place(shade, box);
    this.layer.append(shade);
  }

  #build() {
    const focused = [...this.layer.children].indexOf(document.activeElement);
    this.layer.replaceChildren(...this.list.map((_, number) => this.#boxElement(number)));
    this.chips.replaceChildren(...this.list.map((_, number) => this.#chip(number)));
    this.list.forEach((_, number) => this.#update(number));
    this.element(focused)?.focus();
  }

  #boxElement(number) {
    const box = make("div", { className: "box", tabIndex: 0 });
    box.setAttribute("role", "application");
    box.setAttribute("aria-roledescription", "movable box");
    box.setAttribute("aria-describedby", "box-help");
    box.style.setProperty("--person", personColor(number).getStyle());
    box.append(make("span", { className: "tag", textContent: `${number + 1}` }));
    for (const edge of EDGES) {
      const handle = make("i", { className: `handle ${edge}` });
      handle.dataset.edge = edge;
      box.append(handle);
    }
    return box;
  }

  #chip(number) {
    const name = `${this.noun} ${number + 1}`;
    const go = make("button", { type: "button", className: "chip-go", textContent: name });
    go.style.setProperty("--person", personColor(number).getStyle());
    go.addEventListener("click", () => this.element(number).focus());
    const drop = make("button", { type: "button", className: "chip-drop", textContent: "×" });
    drop.setAttribute("aria-label", `Delete ${name}`);
    drop.addEventListener("click", () => this.remove(number));
    return make("li", { className: "chip" }, go, drop);
  }

  #place(element, [x0, y0, x1, y1]) {
    const share = (value, whole) => `${(100 * value) / whole}%`;
    Object.assign(element.style, {
      left: share(x0, this.width), top: share(y0, this.height),
      width: share(x1 - x0, this.width), height: share(y1 - y0, this.height),
    });
  }

  #update(number) {
    const box = this.element(number);
    this.#place(box, this.list[number]);
    box.setAttribute("aria-label", this.#words(number));
  }

  #words(number) {
    const [x0, y0, x1, y1] = this.list[number].map(Math.round);
    return `${this.noun} ${number + 1}: left ${x0}, top ${y0}, ${x1 - x0} wide, ${y1 - y0} high, pixels`;
  }

  #settle(number, what) {
    const detail = `${this.#words(number)}${what ? `, ${what}` : ""}.`;
    this.dispatchEvent(new CustomEvent("settle", { detail }));
  }

  /** Pixels of the photo under the pointer. */
  #at(event) {
    const frame = this.layer.getBoundingClientRect();
    return [
      ((event.clientX - frame.left) / frame.width) * this.width,
      ((event.clientY - frame.top) / frame.height) * this.height,
    ];
  }

  #press(event) {
    if (event.button !== 0 || !this.width) return;
    const box = event.target.closest(".box");
    const mayDraw = event.pointerType === "mouse" || this.canDraw;
    if (!box && !mayDraw) return;
    event.preventDefault();
    const start = this.#at(event);
    const number = box ? [...this.layer.children].indexOf(box) : this.list.length;
    const before = box ? [...this.list[number]] : [...start, ...start];
    const edge = box ? event.target.dataset.edge : "se";
    box?.focus();
    this.#follow(event, number, before, edge, start);
  }

  #follow(press, number, before, edge, start) {
    let moved = false;
    const isNew = number === this.list.length;
    const move = (event) => {
      if (event.pointerId !== press.pointerId) return;
      const far = Math.hypot(event.clientX - press.clientX, event.clientY - press.clientY);
      if (!moved && far < DRAG_PX) return;
      if (!moved && isNew) {
        this.list.push(before);
        this.#build();
        this.element(number).focus();
      }
      moved = true;
      const [x, y] = this.#at(event);
      this.list[number] = drag(before, edge, x - start[0], y - start[1]);
      this.#update(number);
      this.dispatchEvent(new Event("change"));
    };
    const end = (event) => {
      if (event.pointerId !== press.pointerId) return;
      for (const kind of ["pointermove", "pointerup", "pointercancel"]) {
        this.stage.removeEventListener(kind, kind === "pointermove" ? move : end);
      }
      if (event.type === "pointerup") move(event);
      if (moved) this.#settle(number, isNew ? "added" : "");
    };
    this.stage.setPointerCapture(press.pointerId);
    this.stage.addEventListener("pointermove", move);
    this.stage.addEventListener("pointerup", end);
    this.stage.addEventListener("pointercancel", end);
  }

  #key(event) {
    const number = [...this.layer.children].indexOf(event.target);
    if (number < 0 || event.altKey) return;
    if (event.key === "Delete" || event.key === "Backspace") this.remove(number);
    else if (ARROWS[event.key]) {
      const isFine = event.ctrlKey || event.metaKey;
      const step = isFine ? 1 : Math.max(1, Math.max(this.width, this.height) * KEY_SHARE);
      const [x, y] = ARROWS[event.key].map((sign) => sign * step);
      this.list[number] = drag(this.list[number], event.shiftKey ? "se" : undefined, x, y);
      this.#update(number);
      this.dispatchEvent(new Event("change"));
      this.#settle(number, "");
    } else return;
    event.preventDefault();
  }
}

/**
 * Move a box, or one of its edges or corners.
 *
 * @param {number[]} box x0, y0, x1, y1.
 * @param {string | undefined} edge such as `nw`; none moves the whole.
 */
export function drag([x0, y0, x1, y1], edge, dx, dy) {
  if (!edge) return [x0 + dx, y0 + dy, x1 + dx, y1 + dy];
  const [left, right] = [x0 + (edge.includes("w") ? dx : 0), x1 + (edge.includes("e") ? dx : 0)];
  const [top, bottom] = [y0 + (edge.includes("n") ? dy : 0), y1 + (edge.includes("s") ? dy : 0)];
  return [...spread(left, right, edge.includes("w")), ...spread(top, bottom, edge.includes("n"))]
    .map((_, i, [a, b, c, d]) => [a, c, b, d][i]);
}

/** Two ends in order and not too near; past the other end they change sides. */
function spread(a, b, movesFirst) {
  const [low, high] = a <= b ? [a, b] : [b, a];
  if (high - low >= SMALLEST_PX) return [low, high];
  return movesFirst ? [high - SMALLEST_PX, high] : [low, low + SMALLEST_PX];
}
