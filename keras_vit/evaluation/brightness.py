"""Brightness of images at their border and their centre: whether all are bright on dark, or dark on bright."""

import dataclasses
from typing import Literal

import numpy as np

_SHARE = 0.9  # of the images that must agree for a common polarity
_CONTRAST = 0.1  # between border and centre, at least
_EQUAL = 0.5 / 255  # a smaller difference of an image's border and centre, half a level, is none


@dataclasses.dataclass(frozen=True)
class Brightness:
    """Mean brightness of images, from 0 for black to 1 for white.

    Args:
        images: number of images.
        mean: of all pixels.
        border: of the outer eighth of height and width on each side.
        centre: of the inner half of height and width.
        darker_border: share of the images whose border is darker than their centre.
        brighter_border: share of those whose border is brighter.
    """

    images: int
    mean: float
    border: float
    centre: float
    darker_border: float
    brighter_border: float

    @property
    def polarity(self) -> Literal["bright on dark", "dark on bright"] | None:
        """What nine of ten images have in common, with a clear contrast between centre and border; or None."""
        if abs(self.centre - self.border) < _CONTRAST:
            return None
        if self.darker_border >= _SHARE:
            return "bright on dark"
        return "dark on bright" if self.brighter_border >= _SHARE else None


def measure_brightness(images: np.ndarray) -> Brightness:
    """Measures the brightness of images, and of their border and centre.

    Args:
        images: (images, height, width, channels) uint8, at least 2 x 2 pixels.

    Returns:
        A `Brightness`.

    Raises:
        ValueError: If there are no images, or they have another shape or type.
    """
    shape = np.shape(images)
    if len(shape) != 4 or not shape[0] or min(shape[1:3]) < 2 or np.asarray(images).dtype != np.uint8:
        raise ValueError(
            f"Expected uint8 images (images, height, width, channels), an image or more. Received: shape={shape}, "
            f"dtype={np.asarray(images).dtype}"
        )
    grey = np.asarray(images).mean(axis=-1) / 255  # (images, height, width)
    height, width = shape[1:3]
    outer = np.ones((height, width), bool)
    (top, left), (y, x) = ((max(1, side // 8) for side in shape[1:3]), (side // 4 for side in shape[1:3]))
    outer[top : height - top, left : width - left] = False
    border = grey[:, outer].mean(axis=1)
    centre = grey[:, y : height - y, x : width - x].mean(axis=(1, 2))
    return Brightness(
        images=shape[0],
        mean=float(grey.mean()),
        border=float(border.mean()),
        centre=float(centre.mean()),
        darker_border=float((border < centre - _EQUAL).mean()),
        brighter_border=float((border > centre + _EQUAL).mean()),
    )
