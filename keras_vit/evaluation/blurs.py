"""The blurs among the common corruptions, and the removal of texture.

A picture is (rows, columns, 3) of 0 to 1. Lengths are for a side of 224 pixels; `scale` is the picture's side / 224.
"""

import numpy as np

# Windows of the median filter, pixels at a side of 224: our choice.
WINDOWS = (3, 5, 7, 11, 15)


def defocus_blur(x, generator, scale, radius):
    """Spreads each pixel over a disc; its edge is soft by a pixel, so that a radius need not be a whole number."""
    from scipy import ndimage

    radius = radius * scale
    reach = np.arange(-np.ceil(radius), np.ceil(radius) + 1)
    disc = np.clip(radius + 0.5 - np.hypot(reach[:, None], reach), 0, 1)
    return ndimage.convolve(x, (disc / disc.sum())[..., None].astype(x.dtype), mode="mirror")


def glass_blur(x, generator, scale, sigma, reach, times):
    """Lets each pixel change places with another at most `reach` pixels away, and smooths before and after.

    Pixels that lie too far apart to meet change places at once, the others one lot after the other.
    """
    x = _smoothed(x, sigma * scale)
    wide = (reach + 0.5) * scale  # rounded, each whole number up to `reach` is as probable at a side of 224
    step = 2 * int(np.ceil(wide - 0.5)) + 1
    lots = [(top, left) for top in range(step) for left in range(step)] * times
    last = np.array(x.shape[:2])[:, None, None] - 1
    for top, left in lots:
        here = np.mgrid[top : x.shape[0] : step, left : x.shape[1] : step]
        there = np.clip(here + np.rint(generator.uniform(-wide, wide, here.shape)).astype(int), 0, last)
        here, there = tuple(here), tuple(there)
        x[here], x[there] = x[there], x[here]
    return _smoothed(x, sigma * scale)


def motion_blur(x, generator, scale, radius, sigma):
    """Smears the picture in a direction within 45 degrees of the horizontal."""
    return smeared(x, radius * scale, sigma * scale, generator.uniform(-45, 45))


def zoom_blur(x, generator, scale, count, step):
    """Averages the picture with `count` enlargements of it, from 1 on by `step`; these are ratios and not scaled."""
    from PIL import Image

    image = Image.fromarray((x * 255).astype(np.uint8))
    return (x + sum(zoomed(image, 1 + i * step) / 255 for i in range(count))) / (count + 1)


def without_texture(picture, severity):
    """Returns a uint8 picture of which edges stay and texture goes: each pixel the median of a window around it.

    Args:
        picture: (rows, columns, 3) uint8.
        severity: 1 to 5, for the size of the window, see `WINDOWS`; it is odd and never below
            3 pixels, so that the first severities are alike in small pictures.
    """
    from scipy import ndimage

    reach = max(1, round(WINDOWS[severity - 1] // 2 * min(picture.shape[:2]) / 224))
    return np.stack([ndimage.median_filter(plane, 2 * reach + 1) for plane in np.moveaxis(picture, 2, 0)], axis=2)


def smeared(x, radius, sigma, degrees):
    """Returns (rows, columns, ...) blurred to one side along a direction: half a Gaussian, 2 * radius + 1 pixels."""
    away = np.arange(int(2 * radius) + 1)
    weights = np.exp(-0.5 * (away / sigma) ** 2).astype(x.dtype)
    angle = np.deg2rad(degrees)
    steps = np.rint(away[:, None] * (np.sin(angle), np.cos(angle))).astype(int) + len(away)
    padded = np.pad(x, [(len(away), len(away))] * 2 + [(0, 0)] * (x.ndim - 2), mode="edge")
    rows, columns = x.shape[:2]
    moved = (padded[top : top + rows, left : left + columns] for top, left in steps)
    return sum(weight * part for weight, part in zip(weights / weights.sum(), moved))


def zoomed(image, factor):
    """Returns the enlarged middle of a Pillow image as an array of the same size."""
    from PIL import Image

    margins = [side * (1 - 1 / factor) / 2 for side in image.size]
    box = (*margins, *(side - margin for side, margin in zip(image.size, margins)))
    return np.asarray(image.resize(image.size, Image.Resampling.BILINEAR, box))


def _smoothed(x, sigma):
    from scipy import ndimage

    return ndimage.gaussian_filter(x, sigma, axes=(0, 1))
