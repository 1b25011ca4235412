import torch

from metro_ray.bodies.lbs import move_bones, skin
from metro_ray.geometry.rotations import axis_angle_to_matrix

PARENTS = (-1, 0, 1)
JOINTS = torch.tensor([[[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [2.0, 0.0, 0.0]]], dtype=torch.float64)


def quarter_turns(*joints):
    pose = torch.zeros(1, 3, 3, dtype=torch.float64)
    for joint in joints:
        pose[0, joint, 2] = torch.pi / 2
    return axis_angle_to_matrix(pose)


def test_a_joint_turns_what_hangs_on_it():
    motion = move_bones(quarter_turns(1), JOINTS, PARENTS)
    expected = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [1, 1, 0]]], dtype=torch.float64)
    torch.testing.assert_close(motion.joints, expected, atol=1e-7, rtol=0)


def test_rotations_add_up_along_the_chain():
    motion = move_bones(quarter_turns(0, 1), JOINTS, PARENTS)
    expected = torch.tensor([[[0.0, 0, 0], [0, 1, 0], [-1, 1, 0]]], dtype=torch.float64)
    torch.testing.assert_close(motion.joints, expected, atol=1e-7, rtol=0)


def test_transforms_move_points_of_the_rest_pose():
    motion = move_bones(quarter_turns(1), JOINTS, PARENTS)
    points = torch.tensor([[[0.5, 0, 0], [1.5, 0.1, 0], [1.5, 0.1, 0]]], dtype=torch.float64)
    weights = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0.5, 0.5, 0]], dtype=torch.float64)
    expected = torch.tensor([[[0.5, 0, 0], [0.9, 0.5, 0], [1.2, 0.3, 0]]], dtype=torch.float64)
    moved = skin(points, weights, motion.transforms)
    torch.testing.assert_close(moved, expected, atol=1e-7, rtol=0)


def test_rest_pose_stays():
    pose = axis_angle_to_matrix(torch.zeros(1, 3, 3, dtype=torch.float64))
    motion = move_bones(pose, JOINTS, PARENTS)
    points = torch.rand(1, 5, 3, dtype=torch.float64)
    weights = torch.full((5, 3), 1 / 3, dtype=torch.float64)
    torch.testing.assert_close(skin(points, weights, motion.transforms), points)
