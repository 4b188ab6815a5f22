"""The rotated rectangle of an image that is the input of a network.

Points in a region are shares (u right, v down) of its sides: (0, 0) is the upper left corner and (1, 1) the lower
right. Points of the image are pixels (x right, y down). A positive angle, in radians, turns the region clockwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from partnerface_ns.tracking.video.packages import require


@dataclass(frozen=True)
class ImageRegion:
    """A rectangle that may be rotated and may extend beyond the image."""

    centre: Float[np.ndarray, "2"]
    """Pixels of the image."""
    size: Float[np.ndarray, "2"]
    """Width and height, pixels of the image."""
    angle: float = 0.0

    @staticmethod
    def whole(rgb: UInt8[np.ndarray, "rows columns 3"]) -> ImageRegion:
        """The whole image."""
        size = np.array(rgb.shape[1::-1], dtype=np.float64)
        return ImageRegion(size / 2, size)

    @staticmethod
    def around(
        low: Float[np.ndarray, "2"], high: Float[np.ndarray, "2"], eyes: Float[np.ndarray, "2 2"], scale: float
    ) -> ImageRegion:
        """The square around a face with its upper side parallel to the line between the eyes.

        Args:
            low: upper left corner of the upright box of the face, pixels.
            high: lower right corner.
            eyes: the eye on the left of an upright image, then the other one, pixels.
            scale: side of the square, relative to the longer side of the box.
        """
        right, down = eyes[1] - eyes[0]
        side = scale * float((high - low).max())
        return ImageRegion((low + high) / 2, np.full(2, side), float(np.arctan2(down, right)))

    def to_square(self) -> ImageRegion:
        """The smallest square with the same centre and angle that contains the region."""
        return ImageRegion(self.centre, np.full(2, self.size.max()), self.angle)

    def to_image(self, points: Float[np.ndarray, "*points 2"]) -> Float[np.ndarray, "*points 2"]:
        """Convert points in the region to pixels of the image."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return (points - 0.5) * self.size @ np.array([[cos, sin], [-sin, cos]]) + self.centre

    def cut(
        self, rgb: UInt8[np.ndarray, "rows columns 3"], side: int, repeat_border: bool = False
    ) -> UInt8[np.ndarray, "side side 3"]:
        """Cut out the region and resize it to a square by bilinear interpolation.

        Pixel i of the result samples the position i / side, so the first pixel lies on the border of the region. The
        networks were trained on such images.

        Args:
            rgb: the image.
            side: side of the result, pixels.
            repeat_border: repeat the border pixels outside of the image instead of black.
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
