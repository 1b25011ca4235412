"""Small data sets in the formats of their publishers, with noise for photos."""

import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from metro_ray.bodies.joints import J17, J24
from metro_ray.bodies.smpl import load_smpl

HEIGHT, WIDTH = 120, 160
FOCAL, PRINCPT = [180.0, 190.0], [80.0, 60.0]


def write_image(path, seed=0, height=HEIGHT, width=WIDTH):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    # Not OpenCV's default quality: encoding again changes the bytes.
    assert cv2.imwrite(
        str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 70] if path.suffix != ".png" else []
    )


def write_json(path, content):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def random_pose(seed, size=72):
    return np.random.default_rng(seed).normal(0, 0.3, size)


def random_betas(seed):
    return np.random.default_rng(seed + 1000).normal(0, 0.5, 10)


class SmplTruth:
    """What the stand-in SMPL gives, straight from the body model."""

    def __init__(self, assets_dir):
        self.body = load_smpl(assets_dir)

    def _vertices(self, pose, betas):
        with torch.no_grad():
            return self.body(
                torch.tensor(np.asarray(pose), dtype=torch.float32)[None],
                torch.tensor(np.asarray(betas), dtype=torch.float32)[None],
            )

    def joints24(self, pose, betas):
        return self._vertices(pose, betas).joints[0].numpy().astype(np.float64)

    def joints17(self, pose, betas):
        vertices = self._vertices(pose, betas).vertices[0]
        return (self.body.h36m_regressor @ vertices).numpy().astype(np.float64)


class RawFolders:
    """Writes each data set into a folder and returns the folder."""

    def __init__(self, truth):
        self.truth = truth

    # FreiHAND

    def hand_labels(self, sample):
        rng = np.random.default_rng(sample)
        xyz = rng.uniform(-0.1, 0.1, (21, 3)) + np.array([0, 0, 0.6])
        return xyz, rng.normal(0, 0.4, 48), rng.normal(0, 0.5, 10)

    def freihand_official(self, folder, samples=3, versions=4, test_labels=True):
        folder = Path(folder)
        for part in ("training", "evaluation"):
            labels = [self.hand_labels(sample) for sample in range(samples)]
            camera = [[FOCAL[0], 0, PRINCPT[0]], [0, FOCAL[1], PRINCPT[1]], [0, 0, 1]]
            write_json(folder / f"{part}_K.json", [camera] * samples)
            if part == "training" or test_labels:
                write_json(folder / f"{part}_xyz.json", [xyz.tolist() for xyz, _, _ in labels])
                write_json(
                    folder / f"{part}_mano.json",
                    [[[*pose, *betas, 1.0, 2.0, 0.03]] for _, pose, betas in labels],
                )
            for number in range(samples * (versions if part == "training" else 1)):
                write_image(folder / part / "rgb" / f"{number:08d}.jpg", number, 224, 224)
        return folder

    def freihand_pose2mesh(self, folder, samples=4, changes=None):
        """`changes(part, images, annotations, data, detected)` breaks the files before they are written."""
        folder = Path(folder)
        for part, name, record in (("training", "train", "train"), ("evaluation", "eval", "test")):
            images, annotations, data, detected = [], [], {}, []
            for sample in range(samples):
                xyz, pose, betas = self.hand_labels(sample)
                file = f"{part}/rgb/{sample:08d}.jpg"
                write_image(folder / file, sample, 224, 224)
                images.append(
                    {
                        "id": 50 - sample,
                        "file_name": file,
                        "db_idx": sample,
                        "height": 224,
                        "width": 224,
                    }
                )
                annotations.append(
                    {"id": 7 + sample, "image_id": 50 - sample, "bbox": [3.0, 4.0, 50.0, 60.0]}
                )
                entry = {"cam_param": {"focal": FOCAL, "princpt": PRINCPT}, "scale": 0.03}
                if part == "training":
                    entry |= {
                        "joint_3d": xyz.tolist(),
                        "mano_param": {
                            "pose": pose.tolist(),
                            "shape": betas.tolist(),
                            "trans": [0, 0, 0.5],
                        },
                    }
                data[str(sample)] = entry
                keypoints = np.full((21, 3), float(sample)).tolist()
                detected.append(
                    {"image_id": 50 - sample, "annotation_id": 7 + sample, "keypoints": keypoints}
                )
            if changes:
                changes(part, images, annotations, data, detected)
            extra = folder / "pose2mesh_data"
            write_json(
                extra / f"freihand_{name}_coco.json", {"images": images, "annotations": annotations}
            )
            write_json(extra / f"freihand_{name}_data.json", data)
            write_json(extra / f"hrnet_output_on_hand_{record}set.json", detected)
        return folder

    # 3DPW

    def threedpw_pose2mesh(self, folder, rows=3):
        folder = Path(folder)
        images, annotations = [], []
        for row in range(rows):
            picture = {"sequence": "street_00", "file_name": f"image_{row:05d}.jpg", "id": 40 - row}
            write_image(folder / "imageFiles" / picture["sequence"] / picture["file_name"], row)
            picture["cam_param"] = {"focal": FOCAL, "princpt": PRINCPT}
            images.append({**picture, "width": WIDTH, "height": HEIGHT})
            annotations.append(
                {
                    "id": 9 - row,
                    "image_id": 40 - row,
                    "bbox": [10.0 + row, 20.0, 30.0, 50.0 + row],
                    "smpl_param": {
                        "pose": random_pose(row).tolist(),
                        "shape": random_betas(row).tolist(),
                        "trans": [0.1 * row, 0.2, 4.0 + row],
                        "gender": "female" if row % 2 else "male",
                    },
                }
            )
        for split in ("train", "test"):
            write_json(
                folder / f"3DPW_{split}.json", {"images": images, "annotations": annotations}
            )
        return folder

    def threedpw_sequence(self, frames=3, seed=0):
        """The content of a sequence file with two people; the second is not valid in frame 1."""
        rng = np.random.default_rng(seed)
        cameras = np.tile(np.eye(4), (frames, 1, 1))
        for camera in cameras:
            camera[:3, :3] = Rotation.from_rotvec(rng.normal(0, 0.2, 3)).as_matrix()
            camera[:3, 3] = [0.1, 0.0, 4.0]
        poses = [rng.normal(0, 0.3, (frames, 72)) for _ in range(2)]
        betas = [rng.normal(0, 0.5, 10), rng.normal(0, 0.5, 300)]
        trans = [rng.normal(0, 0.3, (frames, 3)) for _ in range(2)]
        valid = [np.ones(frames, np.uint16) for _ in range(2)]
        valid[1][1] = 0
        joints = [rng.normal(0, 0.4, (frames, 72)) for _ in range(2)]
        return {
            "sequence": f"street_{seed:02d}",
            "cam_intrinsics": np.array([[180.0, 0, 80], [0, 190.0, 60], [0, 0, 1]]),
            "cam_poses": cameras,
            "poses": poses,
            "betas": betas,
            "trans": trans,
            "jointPositions": joints,
            "campose_valid": valid,
            "genders": ["f", "m"],
        }

    def threedpw_official(self, folder, contents=None):
        folder = Path(folder)
        for content in contents or [self.threedpw_sequence(seed=0)]:
            name = content["sequence"]
            for split in ("train", "validation", "test"):
                path = folder / "sequenceFiles" / split / f"{name}.pkl"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(pickle.dumps(content, protocol=2))
            for frame in range(len(content["cam_poses"])):
                write_image(folder / "imageFiles" / name / f"image_{frame:05d}.jpg", frame)
        return folder

    # Human3.6M

    def human36m_camera(self):
        rotation = Rotation.from_rotvec([0.1, -0.4, 0.2]).as_matrix()
        return rotation, np.array([30.0, -20.0, 5000.0])

    def human36m_motion(self, seed):
        """Pose and shape in the camera frame, and J17 there (mm, in place)."""
        pose, betas = random_pose(seed), random_betas(seed)
        return pose, betas, self.truth.joints17(pose, betas) * 1000 + [100.0, 50.0, 4000.0]

    def human36m_labels(self, points):
        """The npz's S: joints by name, metres, from the pelvis."""
        joints = np.zeros((24, 4))
        for name in set(J24.names) & set(J17.names):
            joints[J24.index(name), :3] = (points[J17.index(name)] - points[0]) / 1000
            joints[J24.index(name), 3] = 1
        return joints

    def human36m(self, folder, rows=None, changes=None):
        """Rows: (file name, J17 in the camera, {sub-action: (J17, pose, betas or None)})."""
        folder = Path(folder)
        rotation, shift = self.human36m_camera()
        rows = rows or [self.human36m_row(1), self.human36m_row(2)]
        joints, fits = {}, {}
        for file, _, subs in rows:
            frame = str(int(file.split("_")[-1].split(".")[0]) - 1)
            for sub, (points, pose, betas) in subs.items():
                world = (points - shift) @ rotation
                joints.setdefault("2", {}).setdefault(str(sub), {})[frame] = world.tolist()
                if pose is not None:
                    turned = np.array(pose)
                    turned[:3] = (
                        Rotation.from_matrix(rotation.T) * Rotation.from_rotvec(turned[:3])
                    ).as_rotvec()
                    fits.setdefault("2", {}).setdefault(str(sub), {})[frame] = {
                        "pose": turned.tolist(),
                        "shape": np.asarray(betas).tolist(),
                        "trans": [0, 0, 0],
                        "fitted_3d_pose": [],
                    }
        camera = {"R": rotation.tolist(), "t": shift.tolist(), "f": FOCAL, "c": PRINCPT}
        extra = folder / "pose2mesh_data"
        write_json(extra / "Human36M_subject5_camera.json", dict.fromkeys("1234", camera))
        write_json(extra / "Human36M_subject5_joint_3d.json", joints)
        write_json(extra / "Human36M_subject5_smpl_param.json", fits)
        files = [file for file, _, _ in rows]
        for seed, file in enumerate(files):
            write_image(folder / file, seed)
        arrays = {
            "imgname": np.array(files, "S"),
            "center": np.array([[50.5 + row, 60.25] for row in range(len(files))]),
            "scale": np.array([0.5 + 0.1 * row for row in range(len(files))]),
            "S": np.array([self.human36m_labels(points) for _, points, _ in rows]),
        }
        if changes:
            changes(arrays)
        for name in ("h36m_train_protocol1", "h36m_valid_protocol2"):
            np.savez(folder / f"{name}.npz", **arrays)
        return folder

    def human36m_row(self, frame, subs=(1,), fit=True):
        pose, betas, points = self.human36m_motion(frame)
        file = f"images/S5_Directions_1.54138969_{frame:06d}.jpg"
        return (
            file,
            points,
            dict.fromkeys(subs, (points, pose if fit else None, betas if fit else None)),
        )

    # UP-3D

    def up3d(self, folder, rows=2):
        folder = Path(folder)
        lines = []
        for row in range(rows):
            base = f"{row:05d}"
            lines.append(f"/{base}_image.png")
            write_image(folder / f"{base}_image.png", row)
            render = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
            render[20 : 90 + row, 30:60, 1] = 200
            cv2.imwrite(str(folder / f"{base}_render_light.png"), render)
            rng = np.random.default_rng(row)
            joints = np.vstack([rng.uniform(0, 100, (2, 14)), rng.integers(0, 2, 14)])
            np.save(folder / f"{base}_joints.npy", joints)
            fit = {"pose": random_pose(row), "betas": random_betas(row), "f": 5000.0}
            (folder / f"{base}_body.pkl").write_bytes(pickle.dumps(fit, protocol=2))
        for split in ("trainval", "train", "val", "test"):
            (folder / f"{split}.txt").write_text("\n".join(lines) + "\n")
        return folder

    # COCO, MuCo, MPII

    def coco(self, folder, people=None, split="train2014"):
        """`people`: changes to the annotations of a person each; the default is two whole ones."""
        folder = Path(folder)
        images, annotations = [], []
        for row, changes in enumerate(people or [{}, {}]):
            file = f"COCO_{split}_{row:012d}.jpg"
            write_image(folder / split / file, row)
            images.append({"id": 300 + row, "file_name": file, "width": WIDTH, "height": HEIGHT})
            rng = np.random.default_rng(row)
            keypoints = np.column_stack([rng.integers(1, 100, (17, 2)), rng.integers(1, 3, 17)])
            annotations.append(
                {
                    "id": 900 + row,
                    "image_id": 300 + row,
                    "bbox": [20.0, 30.0, 40.0, 60.0 + row],
                    "keypoints": keypoints.reshape(-1).tolist(),
                    "iscrowd": 0,
                    **changes,
                }
            )
        path = folder / "annotations" / f"person_keypoints_{split}.json"
        write_json(path, {"images": images, "annotations": annotations})
        return folder

    def spin_npz(self, path, rows=2, fits=False, **changes):
        path = Path(path)
        files = [f"pictures/{row}.jpg" for row in range(rows)]
        for row, file in enumerate(files):
            write_image(path.parent / file, row)
        rng = np.random.default_rng(5)
        arrays = {
            "imgname": np.array(files),
            "center": rng.uniform(40, 60, (rows, 2)),
            "scale": rng.uniform(0.3, 0.5, rows),
            "part": np.dstack([rng.uniform(0, 100, (rows, 24, 2)), rng.integers(0, 2, (rows, 24))]),
        }
        arrays["part"][:, 0, 2] = 1
        if fits:
            arrays |= {
                "pose": np.array([random_pose(row) for row in range(rows)]),
                "shape": np.array([random_betas(row) for row in range(rows)]),
                "has_smpl": np.arange(rows) % 2,
            }
        np.savez(path, **{**arrays, **changes})
        return path.parent

    def muco(self, folder, pictures=2):
        """Two people a picture, the second one nearer; the fit of picture 0 is right, of 1 is not."""
        folder = Path(folder)
        images, annotations, fits = [], [], {}
        for picture in range(pictures):
            file = f"augmented_set/1/{picture:06d}.jpg"
            write_image(folder / file, picture)
            images.append(
                {
                    "id": picture,
                    "file_name": file,
                    "f": FOCAL,
                    "c": PRINCPT,
                    "width": WIDTH,
                    "height": HEIGHT,
                }
            )
            for person in range(2):
                number = 10 * picture + person
                points = self.truth.joints17(random_pose(number), random_betas(number)) * 1000
                points = points + np.array([0, 0, 5000 - 1000 * person])
                joints = np.random.default_rng(number).normal(0, 100, (21, 3))
                names = ("Pelvis", "R_Hip", "R_Knee", "R_Ankle", "L_Hip", "L_Knee", "L_Ankle", "L_Shoulder", "L_Elbow", "L_Wrist", "R_Shoulder", "R_Elbow", "R_Wrist")  # fmt: skip
                from metro_ray.data.raw.muco import MUCO_JOINTS

                for name in names:
                    joints[MUCO_JOINTS.index(name)] = points[J17.index(name)]
                joints[MUCO_JOINTS.index("Thorax")] = points[J17.index("Neck")]
                joints[MUCO_JOINTS.index("Head_top")] = points[J17.index("Head")]
                pixels = joints[:, :2] / points[:, 2].mean() * FOCAL + PRINCPT
                annotations.append(
                    {
                        "id": number,
                        "image_id": picture,
                        "bbox": [10.0, 20.0, 60.0, 70.0 + person],
                        "keypoints_img": pixels.tolist(),
                        "keypoints_cam": joints.tolist(),
                    }
                )
                fits[str(number)] = {
                    "pose": random_pose(number if picture == 0 else number + 500).tolist(),
                    "shape": random_betas(number).tolist(),
                    "trans": [0, 0, 4.0],
                }
        write_json(folder / "MuCo-3DHP.json", {"images": images, "annotations": annotations})
        write_json(folder / "smpl_param.json", fits)
        return folder

    def mpii(self, folder, people=None):
        folder = Path(folder)
        entries = []
        for row, changes in enumerate(people or [{}, {}]):
            rng = np.random.default_rng(row)
            entry = {
                "image": f"{row:09d}.jpg",
                "joints": rng.uniform(1, 100, (16, 2)).tolist(),
                "joints_vis": [1] * 15 + [0],
                "center": [50.0, 60.0],
                "scale": 0.4,
                **changes,
            }
            write_image(folder / "images" / entry["image"], row)
            entries.append(entry)
        for split in ("train", "valid"):
            write_json(folder / "annot" / f"{split}.json", entries)
        return folder


@pytest.fixture(scope="session")
def truth(assets_dir):
    return SmplTruth(assets_dir)


@pytest.fixture(scope="session")
def folders(truth):
    return RawFolders(truth)


@pytest.fixture(autouse=True)
def _with_assets(assets_dir, monkeypatch):
    monkeypatch.setenv("METRO_RAY_ASSETS", str(assets_dir))


@pytest.fixture
def pinhole():
    def project(points):
        points = np.asarray(points)
        return points[:, :2] / points[:, 2:] * FOCAL + PRINCPT

    return project
