import torch

from metro_ray.geometry.cameras import crop_to_pixels, project, to_pixel_frame


def test_translates_before_it_scales():
    points = torch.tensor([[[0.1, -0.2, 5.0]], [[1.0, 0.0, -3.0]]])
    camera = torch.tensor([[2.0, 0.3, 0.1], [0.5, 0.0, -1.0]])
    expected = torch.tensor([[[0.8, -0.2]], [[0.5, -0.5]]])
    torch.testing.assert_close(project(points, camera), expected)


def test_crop_edges_are_half_a_pixel_outside_the_outer_centres():
    corners = torch.tensor([[-1.0, 1.0]])
    torch.testing.assert_close(crop_to_pixels(corners, 224), torch.tensor([[-0.5, 223.5]]))


def test_pixel_frame_scales_depth_like_x():
    points = torch.tensor([[[0.0, 0.0, 0.0], [0.5, 0.0, 0.5]]])
    camera = torch.tensor([[0.8, 0.1, -0.2]])
    moved = to_pixel_frame(points, camera, 100)
    torch.testing.assert_close(moved[0, :, :2], crop_to_pixels(project(points, camera)[0], 100))
    step = moved[0, 1] - moved[0, 0]
    torch.testing.assert_close(step[2], step[0])
    assert step[2] > 0
