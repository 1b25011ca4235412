/** What the overlay and the 3D view share: geometry, material, light and the skeleton. */

import {
  BufferAttribute, BufferGeometry, Color, CylinderGeometry, DirectionalLight, Group,
  HemisphereLight, LinearSRGBColorSpace, Mesh, MeshBasicMaterial, MeshStandardMaterial,
  SphereGeometry, Vector3,
} from "./vendor/three.module.min.js";

/** Albedo of each person, linear RGB; the same as in the server's overlays. */
const PEOPLE = [
  [0.30, 0.50, 0.84], [0.84, 0.42, 0.22], [0.32, 0.66, 0.36],
  [0.72, 0.36, 0.66], [0.80, 0.66, 0.24], [0.26, 0.64, 0.68],
];
const FINGERS = {
  Thumb: "#ef5350", Index: "#ffa726", Middle: "#66bb6a", Ring: "#42a5f5", Pinky: "#ab47bc", Little: "#ab47bc",
};

/** The colour of the person with this number. */
export const personColor = (number) =>
  new Color().setRGB(...PEOPLE[number % PEOPLE.length], LinearSRGBColorSpace);

/** Right side red, left blue, middle yellow; hands: a colour a finger. */
export function boneColor(names, [a, b]) {
  const finger = Object.keys(FINGERS).find((name) => names[b].startsWith(name));
  if (finger) return FINGERS[finger];
  if (names[a].startsWith("R_") && names[b].startsWith("R_")) return "#ef5350";
  if (names[a].startsWith("L_") && names[b].startsWith("L_")) return "#42a5f5";
  return "#ffca28";
}

/**
 * A mesh in three's frame: y up, z towards the viewer.
 *
 * @param {number[][]} vertices metres, x right, y down, z away.
 * @param {Uint32Array} faces three vertices each.
 * @param {number} number of the person, for the colour.
 */
export function meshOf(vertices, faces, number) {
  const positions = new Float32Array(vertices.length * 3);
  vertices.forEach(([x, y, z], i) => positions.set([x, -y, -z], 3 * i));
  const geometry = new BufferGeometry();
  geometry.setAttribute("position", new BufferAttribute(positions, 3));
  geometry.setIndex(new BufferAttribute(faces, 1));
  geometry.computeVertexNormals();
  const material = new MeshStandardMaterial({ color: personColor(number), roughness: 0.62 });
  return new Mesh(geometry, material);
}

/** Joints and bones that are seen through the mesh. */
export function skeletonOf(joints, names, edges) {
  const group = new Group();
  const points = joints.map(([x, y, z]) => new Vector3(x, -y, -z));
  const longest = Math.max(...edges.map(([a, b]) => points[a].distanceTo(points[b])));
  const radius = longest * 0.022;
  const add = (geometry, color, order) => {
    const material = new MeshBasicMaterial({ color, depthTest: false, transparent: true });
    const part = new Mesh(geometry, material);
    part.renderOrder = order;
    group.add(part);
    return part;
  };
  for (const edge of edges) {
    const [from, to] = edge.map((joint) => points[joint]);
    const along = to.clone().sub(from);
    const bone = add(new CylinderGeometry(radius, radius, along.length(), 10), boneColor(names, edge), 1);
    bone.position.copy(from).addScaledVector(along, 0.5);
    bone.quaternion.setFromUnitVectors(new Vector3(0, 1, 0), along.normalize());
  }
  for (const point of points) add(new SphereGeometry(radius * 1.5, 12, 8), "#fafafa", 2).position.copy(point);
  return group;
}

/** Light that comes with the camera, so that no side is dark: add it to the camera. */
export function light() {
  const group = new Group();
  const lamp = (color, strength, x, y, z) => {
    const made = new DirectionalLight(color, strength);
    made.position.set(x, y, z);
    group.add(made, made.target);
  };
  group.add(new HemisphereLight("#cfd9ea", "#4a4540", 0.7));
  lamp("#fff2e2", 2.3, -0.5, 0.75, 0.8);
  lamp("#b4c8ea", 0.3, 0.9, 0.0, 0.4);
  lamp("#dfe6f5", 0.9, 0.9, 0.4, -0.6);
  return group;
}

/** Free what a group holds on the graphics card. */
export function clear(group) {
  group.traverse((part) => {
    part.geometry?.dispose();
    part.material?.dispose();
  });
  group.clear();
}
