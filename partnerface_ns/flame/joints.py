"""The five joints of FLAME, in the order of its arrays."""

from __future__ import annotations

from enum import IntEnum


class Joint(IntEnum):
    """Index of a joint in the joint axis of FLAME's arrays."""

    ROOT = 0
    NECK = 1
    JAW = 2
    EYE_LEFT = 3
    EYE_RIGHT = 4


JOINT_NAMES = ("global", "neck", "jaw", "eye_left", "eye_right")
JOINT_PARENTS = (-1, Joint.ROOT, Joint.NECK, Joint.NECK, Joint.NECK)
"""Parent of each joint; the root has none."""
EYES = slice(Joint.EYE_LEFT, Joint.EYE_RIGHT + 1)
"""Both eyes on the joint axis, left before right."""
