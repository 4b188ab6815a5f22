"""The rotated rectangle of an image that a network looks at.

Points inside a region are shares (u right, v down) of its sides, (0, 0) at its top left and (1, 1) at its bottom right
corner; points of the image are pixels (x right, y down). A positive angle turns the region clockwise, radians.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from partnerface_ns.tracking.video import require


@dataclass(frozen=True)
class Region:
    """A rectangle, which may be turned and may reach over the image's border."""

    centre: Float[np.ndarray, "2"]
    """Pixels of the image."""
    size: Float[np.ndarray, "2"]
    """Width and height, pixels of the image."""
    angle: float = 0.0

    @staticmethod
    def whole(rgb: UInt8[np.ndarray, "rows columns 3"]) -> Region:
        """All of an image."""
        size = np.array(rgb.shape[1::-1], dtype=np.float64)
        return Region(size / 2, size)

    @staticmethod
    def around(
        low: Float[np.ndarray, "2"], high: Float[np.ndarray, "2"], eyes: Float[np.ndarray, "2 2"], scale: float
    ) -> Region:
        """The square around a face whose upper side is parallel to the line between its eyes.

        Args:
            low: top left corner of the face's upright box, pixels.
            high: bottom right corner.
            eyes: the eye on the left of an upright image, and the other one, pixels.
            scale: side of the square, in longer sides of the box.
        """
        right, down = eyes[1] - eyes[0]
        side = scale * float((high - low).max())
        return Region((low + high) / 2, np.full(2, side), float(np.arctan2(down, right)))

    def squared(self) -> Region:
        """The smallest square of the same centre and angle that holds the region."""
        return Region(self.centre, np.full(2, self.size.max()), self.angle)

    def to_image(self, points: Float[np.ndarray, "*points 2"]) -> Float[np.ndarray, "*points 2"]:
        """Points inside the region, as pixels of the image."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return (points - 0.5) * self.size @ np.array([[cos, sin], [-sin, cos]]) + self.centre

    def cut(
        self, rgb: UInt8[np.ndarray, "rows columns 3"], side: int, repeat_border: bool = False
    ) -> UInt8[np.ndarray, "side side 3"]:
        """The region's image, resized to a square by bilinear interpolation.

        Pixel i of the result shows the place i / side, so that the first pixel lies on the region's border. The
        networks were trained on such images.

        Args:
            rgb: the image.
            side: pixels of the result's side.
            repeat_border: outside of the image is the nearest pixel of its border; otherwise it is black.
        """
        cv2 = require("cv2")
        corners = self.to_image(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
        image_of_pixel = np.eye(3)
        image_of_pixel[:2] = np.stack(
            [(corners[1] - corners[0]) / side, (corners[2] - corners[0]) / side, corners[0]], -1
        )
        border = cv2.BORDER_REPLICATE if repeat_border else cv2.BORDER_CONSTANT
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpPerspective(rgb, image_of_pixel, (side, side), flags=flags, borderMode=border)
