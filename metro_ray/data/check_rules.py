"""What `metro-ray data check` can find: severity, what it is, and what to do about it.

error: training would stop, skip the row, or learn something wrong. warning: look at it.
note: good to know.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


class Rule(NamedTuple):
    """One kind of finding."""

    severity: Severity
    what: str
    advice: str


_WRITE = "write the row again, or leave it out of the linelist"

RULES: dict[str, Rule] = {
    # the data set and its files
    "cannot-open": Rule(
        "error", "the data set cannot be opened", "mend what the message names, then check again"
    ),
    "no-rows": Rule("error", "the data set has no rows", "look at its linelist or conversion"),
    "row-counts": Rule(
        "warning",
        "files that belong together have different numbers of rows",
        "copy the shorter file again; without a linelist such a data set is refused",
    ),
    "row-broken": Rule("error", "the row cannot be read", _WRITE),
    "key-differs": Rule(
        "error",
        "image, label and size files give the row different keys",
        "the files are shifted against each other or from different versions: copy or convert "
        "the data set again",
    ),
    "key-twice": Rule(
        "warning",
        "different rows of one source have the same key",
        "fine for several people in one photo; otherwise the data set holds rows twice",
    ),
    "row-repeated": Rule(
        "note",
        "the linelist names the same row more than once",
        "fine where rows are weighted on purpose; a mixture's weights say it more plainly",
    ),
    # images
    "image-broken": Rule("error", "the image cannot be decoded", _WRITE),
    "image-cut": Rule("error", "the image's bytes end too early", "copy the file again"),
    "image-size": Rule(
        "warning",
        "the image has another size than its row in the size file says",
        "if the image was replaced by a resized one, its boxes and 2D joints are wrong too",
    ),
    "image-turned": Rule(
        "warning",
        "the image carries an EXIF orientation, and is turned when it is read",
        "labels must belong to the turned image; store images upright to be safe",
    ),
    "image-grey": Rule("note", "the image has no colour", "fine if it is meant to be so"),
    "image-blank": Rule("warning", "the image is one even colour", "look at it"),
    # label fields
    "field-missing": Rule(
        "error", "the label lacks fields that training needs", "METRO's fields are all required"
    ),
    "field-unknown": Rule(
        "note", "the label has fields that nothing reads", "they are kept and ignored"
    ),
    "label-wrong": Rule("error", "a label field has the wrong form or value", _WRITE),
    "joint-count": Rule(
        "error",
        "the label has another number of joints than this kind of data set",
        "bodies have 24 joints and hands 21; say --kind if the first rows are the odd ones",
    ),
    "not-finite": Rule("error", "a label that is in use holds NaN or infinity", _WRITE),
    "body-unknown": Rule(
        "warning",
        "pose and betas belong to a body model that is not known here",
        "their mesh labels are not used; joints are",
    ),
    "unlabelled": Rule(
        "warning",
        "the row has no label of any kind: all its flags are 0",
        "it costs time and teaches nothing; leave it out of training",
    ),
    "kind-absent": Rule(
        "note", "a source has no labels of one kind", "its share of that loss is zero"
    ),
    # boxes
    "box-wrong": Rule(
        "error",
        "the box has no size, is far too large, or is not a number",
        "box side = 200 px x scale, centre in image pixels",
    ),
    "box-outside": Rule(
        "error", "the box does not touch the image: the crop is black", "are these image pixels?"
    ),
    "box-mostly-outside": Rule(
        "warning", "less than half of the box lies in the image", "the crop is mostly black"
    ),
    "box-partly-outside": Rule(
        "note",
        "the box reaches over the image's edge by more than a tenth",
        "usual for people who are cut off; the crop is black there",
    ),
    "box-misses-joints": Rule(
        "warning",
        "less than half of the visible 2D joints lie in the box",
        "the box may be another person's, or in other pixels than the joints",
    ),
    # 2D joints
    "joints-2d-outside": Rule(
        "warning",
        "2D joints with confidence lie outside the image",
        "usual for projected labels of people who are cut off; otherwise give them confidence 0",
    ),
    "joints-2d-normalised": Rule(
        "error",
        "2D joints look like coordinates from -1 to 1",
        "image pixels are expected; the crop's coordinates are made while loading",
    ),
    "joints-2d-unseen": Rule(
        "warning",
        "the row says it has 2D joints, and none has any confidence",
        "set has_2d_joints to 0, or the confidences",
    ),
    "confidence-range": Rule(
        "warning", "confidences lie outside 0 to 1", "they weigh the loss as they are"
    ),
    # 3D joints
    "joints-3d-millimetres": Rule(
        "error", "3D joints look like millimetres", "metres are expected: divide by 1000"
    ),
    "joints-3d-centimetres": Rule(
        "error", "3D joints look like centimetres", "metres are expected: divide by 100"
    ),
    "joints-3d-range": Rule(
        "error",
        "3D joints span no possible size",
        "metres are expected; set has_3d_joints to 0 where there are none",
    ),
    "joints-3d-unseen": Rule(
        "warning",
        "the row says it has 3D joints, and none has any confidence",
        "set has_3d_joints to 0, or the confidences",
    ),
    "joints-disagree": Rule(
        "warning",
        "no camera takes the 3D joints to the 2D joints",
        "look at the picture: axes (x right, y down, z away), left and right, another person",
    ),
    # mesh
    "pose-degrees": Rule(
        "error", "pose angles are far beyond a turn", "radians are expected, not degrees"
    ),
    "pose-range": Rule(
        "warning", "a pose angle is more than a whole turn", "a shorter rotation means the same"
    ),
    "betas-range": Rule(
        "warning",
        "shape coefficients are beyond what people have",
        "a fit that went wrong: such meshes are better left out (has_smpl 0)",
    ),
    "mesh-placeholder": Rule(
        "warning",
        "the row says it has a mesh, and its pose is one number repeated",
        "a placeholder, as in FreiHAND's evaluation rows: errors against it mean nothing",
    ),
}
"""Every kind of finding by its code."""


class Problem(NamedTuple):
    """One finding in one row."""

    code: str
    detail: str
