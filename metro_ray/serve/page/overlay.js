/** The meshes over the photo, seen by the camera of the whole picture, and the skeletons in 2D. */

import { Group, PerspectiveCamera, Scene, WebGLRenderer } from "./vendor/three.module.min.js";
import { boneColor, clear, light, meshOf } from "./meshes.js";

const SVG = "http://www.w3.org/2000/svg";

export class Overlay {
  /**
   * @param {HTMLCanvasElement} canvas over the photo.
   * @param {SVGElement} drawing over both.
   */
  constructor(canvas, drawing) {
    this.canvas = canvas;
    this.drawing = drawing;
    this.scene = new Scene();
    this.camera = new PerspectiveCamera();
    this.people = new Group();
    this.camera.add(light());
    this.scene.add(this.camera, this.people);
    this.renderer = new WebGLRenderer({ canvas, alpha: true, antialias: true });
    new ResizeObserver(() => this.render()).observe(canvas);
  }

  /**
   * Show the people of an answer.
   *
   * @param {{width: number, height: number, people: object[]}} image of the answer.
   * @param {Uint32Array} faces of the mesh.
   */
  show(image, faces) {
    clear(this.people);
    const placed = image.people.filter((person) => person.camera_full.translation);
    image.people.forEach((person, number) => {
      if (!person.camera_full.translation) return;
      const [x, y, z] = person.camera_full.translation;
      const mesh = meshOf(person.vertices, faces, number);
      mesh.position.set(x, -y, -z);
      this.people.add(mesh);
    });
    if (placed.length) this.#aim(image, placed);
    this.render();
  }

  /** Show nobody. */
  clear() {
    clear(this.people);
    this.drawing.replaceChildren();
    this.render();
  }

  render() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width || !height) return;
    this.renderer.setPixelRatio(Math.min(devicePixelRatio, 2));
    this.renderer.setSize(width, height, false);
    this.renderer.render(this.scene, this.camera);
  }

  /** The frustum of the picture's pinhole camera; pixel centres have whole coordinates. */
  #aim({ width, height }, people) {
    const [fx, fy, cx, cy] = people[0].camera_full.intrinsics;
    const depths = people.flatMap((person) =>
      person.vertices.map((vertex) => vertex[2] + person.camera_full.translation[2]));
    const nearest = depths.reduce((a, b) => Math.min(a, b));
    const farthest = depths.reduce((a, b) => Math.max(a, b));
    const near = Math.max(nearest * 0.5, 1e-3);
    const edges = [(-0.5 - cx) / fx, (width - 0.5 - cx) / fx, (cy + 0.5) / fy, (cy - height + 0.5) / fy];
    const [left, right, top, bottom] = edges.map((edge) => edge * near);
    this.camera.projectionMatrix.makePerspective(left, right, top, bottom, near, farthest * 2 + 1);
    this.camera.projectionMatrixInverse.copy(this.camera.projectionMatrix).invert();
  }
}

/**
 * Draw joints and bones into an SVG over the photo.
 *
 * @param {SVGElement} drawing
 * @param {{width: number, height: number, people: object[]}} image of the answer.
 * @param {number[][]} edges pairs of joints.
 */
export function drawSkeletons(drawing, { width, height, people }, edges) {
  drawing.setAttribute("viewBox", `-0.5 -0.5 ${width} ${height}`);
  drawing.replaceChildren();
  const add = (tag, attributes) => {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    drawing.append(element);
    return element;
  };
  for (const { joints_2d: joints, joint_names: names } of people) {
    for (const kind of ["under", "bone"]) {
      for (const edge of edges) {
        const [[x1, y1], [x2, y2]] = edge.map((joint) => joints[joint]);
        const line = add("line", { x1, y1, x2, y2, class: kind });
        if (kind === "bone") line.setAttribute("stroke", boneColor(names, edge));
      }
    }
    // A line without length and round caps is a dot whose size does not change with the photo's.
    for (const kind of ["under joint", "joint"]) {
      for (const [x, y] of joints) add("line", { x1: x, y1: y, x2: x, y2: y, class: kind });
    }
  }
}
