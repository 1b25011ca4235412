import pytest

from metro_ray.bodies.joints import J14, J17, J17_TO_J14, J24
from metro_ray.bodies.spec import SPECS, get_spec
from metro_ray.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "tokens", "vertices"),
    [("smpl", 445, 6890), ("mano", 216, 778), ("anny_body", 383, 12272), ("anny_hand", 216, 1596)],
)
def test_sizes_follow_from_levels_and_joints(name, tokens, vertices):
    spec = get_spec(name)
    assert (spec.num_tokens, spec.num_vertices) == (tokens, vertices)
    assert spec.num_coarse == tokens - spec.num_joints


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"smlp.*smpl, mano, anny_body, anny_hand"):
        get_spec("smlp")


def test_joint_selections_keep_names():
    spec = get_spec("smpl")
    assert [J24.names[i] for i in spec.label_to_joints] == list(J14.names)
    assert [J17.names[i] for i in J17_TO_J14] == list(J14.names)


def test_flip_pairs_are_metros():
    # DATA-QUIRKS 2.5
    assert set(get_spec("smpl").label_flip_pairs) == {
        (0, 5), (1, 4), (2, 3), (6, 11), (7, 10), (8, 9), (20, 21), (22, 23),
    }  # fmt: skip


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_indices_are_in_range(spec):
    assert max(spec.center_joints) < spec.num_joints
    assert spec.num_pose % 3 == 0
    swapped = [i for pair in spec.pose_flip_pairs for i in pair]
    assert len(swapped) == len(set(swapped))
    assert all(i < spec.num_pose // 3 for i in swapped)
    assert all(
        i < len(s) and j < len(s) for s in (spec.joints, spec.label_joints) for i, j in s.bones
    )


def test_joint_index_names_the_missing_joint():
    with pytest.raises(ValueError, match="no 'Tail'"):
        J14.index("Tail")
