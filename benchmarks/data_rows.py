"""Training rows per second and core: read, decode, crop, augment. Writes JSON to standard output.

    python benchmarks/data_rows.py [--rows 64] [--repeats 3]

Rows like METRO's: bodies of 1000 x 1002 pixels (JPEG quality 95, boxes 500 to 800 px) and hands of
224 x 224 pixels, in a TSV of their own. One thread of OpenCV; CPU time, so neighbours matter less.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from metro_ray.bodies.spec import MeshSpec, get_spec
from metro_ray.data import SampleTransform, TsvDatasetWriter, open_dataset


def picture(rng: np.random.Generator, height: int, width: int) -> bytes:
    """JPEG of blurred noise with about the bytes per pixel of a photograph."""
    coarse = rng.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    image += rng.integers(-1, 2, (height, width, 1), dtype=np.int16)
    image = np.clip(image, 0, 255).astype(np.uint8)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def write(folder: Path, spec: MeshSpec, num_rows: int) -> Path:
    rng = np.random.default_rng(0)
    height, width = (1002, 1000) if spec.kind == "body" else (224, 224)
    joints = len(spec.label_joints)
    with TsvDatasetWriter(folder, spec.kind) as writer:
        for row in range(num_rows):
            scale = rng.uniform(2.5, 4.0) if spec.kind == "body" else 0.9
            label = {
                "center": [width / 2, height / 2],
                "scale": scale,
                "2d_joints": rng.uniform(0, width, (joints, 3)),
                "has_2d_joints": 1,
                "3d_joints": rng.uniform(-1, 1, (joints, 4)),
                "has_3d_joints": 1,
                "pose": rng.uniform(-1, 1, spec.num_pose),
                "betas": rng.uniform(-1, 1, spec.num_betas),
                "has_smpl": 1,
            }
            writer.add(f"{row:05d}.jpg", picture(rng, height, width), label, height, width)
    return writer.yaml_path


def measure(yaml_path: Path, transform: SampleTransform, repeats: int) -> dict[str, float]:
    """Rows per second of the whole row, and milliseconds of its stages."""
    dataset = open_dataset(yaml_path, transform.spec)
    rates = []
    for epoch in range(repeats + 1):  # the first pass warms the page cache
        start = time.process_time()
        for row_id in range(len(dataset)):
            transform(dataset.row(row_id), row_id, epoch)
        rates.append(len(dataset) / (time.process_time() - start))
    start = time.process_time()
    for row_id in range(len(dataset)):
        dataset.row(row_id)
    read_ms = 1000 * (time.process_time() - start) / len(dataset)
    return {"rows_per_second": round(max(rates[1:]), 1), "read_ms": round(read_ms, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("smpl", "mano"):
            spec = get_spec(name)
            yaml_path = write(Path(folder), spec, args.rows)
            mean_bytes = (Path(folder) / f"{spec.kind}.img.tsv").stat().st_size / args.rows
            for train in (True, False):
                for mode in ("metro", "fast"):
                    transform = SampleTransform(spec, train=train, crop_mode=mode)
                    case = {"rows": spec.kind, "train": train, "crop": mode}
                    case |= {"kb_per_row": round(mean_bytes / 1000)}
                    results.append(case | measure(yaml_path, transform, args.repeats))
    versions = {"python": platform.python_version(), "opencv": cv2.__version__}
    versions |= {"numpy": np.__version__, "machine": platform.processor() or platform.machine()}
    print(json.dumps({"results": results, "versions": versions}, indent=1))


if __name__ == "__main__":
    main()
