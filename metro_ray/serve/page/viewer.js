/** The meshes in 3D, to be turned by mouse, touch and keys. */

import { Box3, Group, PerspectiveCamera, Scene, Sphere, Spherical, Vector3, WebGLRenderer } from "./vendor/three.module.min.js";
import { OrbitControls } from "./vendor/OrbitControls.js";
import { calm } from "./dom.js";
import { clear, light, meshOf, skeletonOf } from "./meshes.js";

const FIELD_OF_VIEW_DEG = 28;
const STEP = Math.PI / 18;
const MOVE_MS = 420;
const VIEWS = {
  front: [0, 0], side: [Math.PI / 2, 0], back: [Math.PI, 0], top: [0, Math.PI / 2 - 0.01],
};

export class Viewer {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.scene = new Scene();
    this.camera = new PerspectiveCamera(FIELD_OF_VIEW_DEG, 1, 0.01, 100);
    this.camera.add(light());
    this.meshes = new Group();
    this.skeletons = new Group();
    this.skeletons.visible = false;
    this.scene.add(this.camera, this.meshes, this.skeletons);
    this.renderer = new WebGLRenderer({ canvas, alpha: true, antialias: true });
    this.controls = new OrbitControls(this.camera, canvas);
    this.controls.enablePan = false;
    this.controls.addEventListener("change", () => this.render());
    this.controls.addEventListener("start", () => cancelAnimationFrame(this.frame));
    canvas.style.touchAction = "pan-y"; // A finger that goes up or down scrolls the page.
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("dblclick", () => this.look("front"));
    new ResizeObserver(() => this.render()).observe(canvas);
  }

  /**
   * Show the people of an answer where they stand to each other, their middle in the middle.
   *
   * @param {{people: object[]}} image of the answer.
   * @param {Uint32Array} faces of the mesh.
   * @param {number[][]} edges pairs of joints.
   * @param {boolean} keepView whether to go on looking from where the person looks.
   */
  show({ people }, faces, edges, keepView) {
    const isAsBefore = this.meshes.children.length === people.length;
    clear(this.meshes);
    clear(this.skeletons);
    people.forEach((person, number) => {
      const [x, y, z] = person.camera_full.translation ?? [0, 0, 0];
      const parts = [
        [this.meshes, meshOf(person.vertices, faces, number)],
        [this.skeletons, skeletonOf(person.joints, person.joint_names, edges)],
      ];
      for (const [group, part] of parts) {
        part.position.set(x, -y, -z);
        group.add(part);
      }
    });
    const bounds = new Box3().setFromObject(this.meshes);
    const middle = bounds.getCenter(new Vector3());
    for (const part of [...this.meshes.children, ...this.skeletons.children]) part.position.sub(middle);
    this.radius = bounds.getBoundingSphere(new Sphere()).radius;
    this.controls.minDistance = this.radius * 0.4;
    this.controls.maxDistance = this.radius * 12;
    if (!keepView) return this.#arrive();
    const now = new Spherical().setFromVector3(this.camera.position);
    return this.#place(new Spherical(isAsBefore ? now.radius : this.#distance(), now.phi, now.theta));
  }

  /** Show nobody. */
  clear() {
    clear(this.meshes);
    clear(this.skeletons);
    this.render();
  }

  /** Show or hide `meshes` and `skeletons`. */
  setVisible(isOn) {
    for (const [group, value] of Object.entries(isOn)) this[group].visible = value;
    this.render();
  }

  /** Turn to one of `VIEWS`. */
  look(name) {
    const [yaw, pitch] = VIEWS[name];
    this.#moveTo(new Spherical(this.#distance(), Math.PI / 2 - pitch, yaw));
  }

  render() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width || !height) return;
    this.renderer.setPixelRatio(Math.min(devicePixelRatio, 2));
    this.renderer.setSize(width, height, false);
    this.camera.aspect = width / height;
    this.camera.updateProjectionMatrix();
    this.renderer.render(this.scene, this.camera);
  }

  /** From where everything is seen. */
  #distance() {
    const half = (FIELD_OF_VIEW_DEG / 2) * (Math.PI / 180);
    const narrow = Math.min(1, this.canvas.clientWidth / Math.max(1, this.canvas.clientHeight));
    return (this.radius ?? 1) / Math.sin(Math.atan(Math.tan(half) * narrow)) * 1.04;
  }

  /** A new mesh comes in a little turned, which shows that it can be turned. */
  #arrive() {
    const rest = new Spherical(this.#distance(), Math.PI / 2 - 0.08, 0.42);
    if (!calm()) this.#place(new Spherical(rest.radius, rest.phi, -0.5));
    this.#moveTo(rest, 2 * MOVE_MS);
  }

  #place(spherical) {
    this.camera.position.setFromSpherical(spherical);
    this.controls.update();
    this.render();
  }

  #moveTo(goal, duration = MOVE_MS) {
    cancelAnimationFrame(this.frame);
    if (calm()) return this.#place(goal);
    const from = new Spherical().setFromVector3(this.camera.position);
    const turn = Math.atan2(Math.sin(goal.theta - from.theta), Math.cos(goal.theta - from.theta));
    const began = performance.now();
    const step = (now) => {
      const done = Math.min(1, (now - began) / duration);
      const eased = 1 - (1 - done) ** 3;
      const between = (a, b) => a + (b - a) * eased;
      this.#place(new Spherical(
        between(from.radius, goal.radius), between(from.phi, goal.phi), from.theta + turn * eased,
      ));
      if (done < 1) this.frame = requestAnimationFrame(step);
    };
    this.frame = requestAnimationFrame(step);
    return undefined;
  }

  #key(event) {
    const turns = {
      ArrowLeft: [-STEP, 0, 1], ArrowRight: [STEP, 0, 1], ArrowUp: [0, -STEP, 1], ArrowDown: [0, STEP, 1],
      "+": [0, 0, 0.88], "=": [0, 0, 0.88], "-": [0, 0, 1 / 0.88],
    };
    if (event.key === "Home") this.look("front");
    else if (turns[event.key]) {
      cancelAnimationFrame(this.frame);
      const [yaw, pitch, zoom] = turns[event.key];
      const now = new Spherical().setFromVector3(this.camera.position);
      this.#place(new Spherical(now.radius * zoom, now.phi + pitch, now.theta + yaw).makeSafe());
    } else return;
    event.preventDefault();
  }
}
