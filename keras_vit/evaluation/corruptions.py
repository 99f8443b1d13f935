"""Common image corruptions of ImageNet-C: noise, blur, weather and digital; all but frost, which needs photographs.

The severities are the published ones, for images of 224 pixels: lengths are scaled by the image's shorter side / 224.
Ratios (zoom, pixelate), the grain of noise, which is a pixel, and JPEG's blocks are not scaled.

A function of a corruption expects a float image of 0 to 1, (height, width, 3), a random generator, the scale and its
own settings, and returns a float image that may leave that range.

Source: arXiv:1903.12261.
"""

import io
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_vit import _arguments as checked

# Windows of the median filter, pixels at a side of 224: our choice.
MEDIAN_WINDOWS = (3, 5, 7, 11, 15)

CORRUPTIBLE_CHANNELS = (1, 3)  # of the images that can be corrupted
_GREY = np.array([0.299, 0.587, 0.114], np.float32)


def corrupt(image: np.ndarray, name: str, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Corrupts an image as in ImageNet-C: noise, blur, weather, compression.

    Args:
        image: (height, width, 3) uint8, or (height, width, 1) of grey, which is corrupted as grey RGB.
        name: A key of `CORRUPTIONS`.
        severity: 1 to 5.
        generator: Source of randomness; the same state corrupts the same image in the same way.

    Returns:
        The corrupted image, of the same shape, uint8.

    Raises:
        ValueError: If the corruption is unknown, the severity is not 1 to 5, or the image is not uint8 or neither RGB
            nor grey.

    Example:
        ```python
        image = np.full((64, 64, 3), 128, "uint8")
        corrupted = keras_vit.evaluation.corrupt(image, "gaussian noise", 3, np.random.default_rng(0))
        assert corrupted.shape == image.shape and corrupted.std() > 10
        ```

    Source: arXiv:1903.12261.
    """
    checked.choice("name", name, CORRUPTIONS)
    severity = checked.integer("severity", severity)
    if severity > 5:
        raise ValueError(f"Expected severity to be 1 to 5. Received: severity={severity}")
    if image.dtype != np.uint8:
        raise ValueError(f"Expected image to be uint8, 0 to 255. Received: {image.dtype}")
    if image.ndim != 3 or image.shape[2] not in CORRUPTIBLE_CHANNELS:
        raise ValueError(
            f"Expected an image of RGB or grey, (height, width, 3 or 1). Received: image of shape {image.shape}"
        )
    if image.shape[2] == 1:
        return corrupt(np.repeat(image, 3, axis=2), name, severity, generator)[..., :1]
    function, settings = CORRUPTIONS[name]
    x = function(image.astype(np.float32) / 255, generator, min(image.shape[:2]) / 224, *settings[severity - 1])
    return np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8)


def remove_texture(image: np.ndarray, severity: int) -> np.ndarray:
    """Removes the texture of an image with a median filter; edges remain.

    Args:
        image: (height, width, channels) uint8.
        severity: 1 to 5, the size of the window, see `MEDIAN_WINDOWS`. It is odd and at least 3 pixels, so the first
            severities are the same for small images.

    Returns:
        The filtered image, (height, width, channels) uint8.
    """
    from scipy import ndimage

    reach = max(1, round(MEDIAN_WINDOWS[severity - 1] // 2 * min(image.shape[:2]) / 224))
    return np.stack([ndimage.median_filter(plane, 2 * reach + 1) for plane in np.moveaxis(image, 2, 0)], axis=2)


def defocus_blur(x: np.ndarray, generator: np.random.Generator, scale: float, radius: float) -> np.ndarray:
    """Defocus blur: spreads each pixel over a disc with an edge one pixel soft, so the radius can be any number."""
    from scipy import ndimage

    radius = radius * scale
    reach = np.arange(-np.ceil(radius), np.ceil(radius) + 1)
    disc = np.clip(radius + 0.5 - np.hypot(reach[:, None], reach), 0, 1)
    return ndimage.convolve(x, (disc / disc.sum())[..., None].astype(x.dtype), mode="mirror")


def glass_blur(
    x: np.ndarray, generator: np.random.Generator, scale: float, sigma: float, reach: int, times: int
) -> np.ndarray:
    """Glass blur: swaps each pixel with another at most `reach` pixels away, and smooths before and after.

    Pixels that are too far apart to share a partner are swapped at once, the others group by group.
    """
    x = _smoothed(x, sigma * scale)
    largest = (reach + 0.5) * scale  # rounded, each whole number up to `reach` is equally probable at a side of 224
    step = 2 * int(np.ceil(largest - 0.5)) + 1
    groups = [(top, left) for top in range(step) for left in range(step)] * times
    last = np.array(x.shape[:2])[:, None, None] - 1
    for top, left in groups:
        here = np.mgrid[top : x.shape[0] : step, left : x.shape[1] : step]
        there = np.clip(here + np.rint(generator.uniform(-largest, largest, here.shape)).astype(int), 0, last)
        one, other = tuple(here), tuple(there)
        x[one], x[other] = x[other], x[one]
    return _smoothed(x, sigma * scale)


def motion_blur(x: np.ndarray, generator: np.random.Generator, scale: float, radius: float, sigma: float) -> np.ndarray:
    """Motion blur in a random direction within 45 degrees of the horizontal."""
    return smear(x, radius * scale, sigma * scale, generator.uniform(-45, 45))


def zoom_blur(x: np.ndarray, generator: np.random.Generator, scale: float, count: int, step: float) -> np.ndarray:
    """Zoom blur: averages the image with `count` enlargements by 1, 1 + step, ...; ratios, which are not scaled."""
    from PIL import Image

    image = Image.fromarray((x * 255).astype(np.uint8))
    return (x + sum(_enlarged_middle(image, 1 + i * step) / 255 for i in range(count))) / (count + 1)


def smear(x: np.ndarray, radius: float, sigma: float, degrees: float) -> np.ndarray:
    """Blurs (height, width, ...) to one side along a direction: half a Gaussian, 2 * radius + 1 pixels long."""
    away = np.arange(int(2 * radius) + 1)
    weights = np.exp(-0.5 * (away / sigma) ** 2).astype(x.dtype)
    angle = np.deg2rad(degrees)
    steps = np.rint(away[:, None] * (np.sin(angle), np.cos(angle))).astype(int) + len(away)
    padded = np.pad(x, [(len(away), len(away))] * 2 + [(0, 0)] * (x.ndim - 2), mode="edge")
    height, width = x.shape[:2]
    moved = (padded[top : top + height, left : left + width] for top, left in steps)
    return np.asarray(sum(weight * part for weight, part in zip(weights / weights.sum(), moved)))


def _enlarged_middle(image: Any, factor: float) -> np.ndarray:
    """Returns the enlarged middle of a Pillow image as an array of the same size."""
    from PIL import Image

    margins = [side * (1 - 1 / factor) / 2 for side in image.size]
    box = (*margins, *(side - margin for side, margin in zip(image.size, margins)))
    return np.asarray(image.resize(image.size, Image.Resampling.BILINEAR, box))


def _smoothed(x: np.ndarray, sigma: float) -> np.ndarray:
    from scipy import ndimage

    return ndimage.gaussian_filter(x, sigma, axes=(0, 1))


def gaussian_noise(x: np.ndarray, generator: np.random.Generator, scale: float, deviation: float) -> np.ndarray:
    """Gaussian noise, as in low light."""
    return x + generator.normal(0, deviation, x.shape)


def shot_noise(x: np.ndarray, generator: np.random.Generator, scale: float, photons: float) -> np.ndarray:
    """Shot (Poisson) noise: white is `photons` photons on average."""
    return generator.poisson(x * photons) / photons


def impulse_noise(x: np.ndarray, generator: np.random.Generator, scale: float, share: float) -> np.ndarray:
    """Impulse (salt-and-pepper) noise: sets a share of the values to 0 or 1."""
    return np.where(generator.random(x.shape) < share, generator.integers(0, 2, x.shape), x)


def snow(
    x: np.ndarray,
    generator: np.random.Generator,
    scale: float,
    mean: float,
    deviation: float,
    zoom: float,
    threshold: float,
    radius: float,
    sigma: float,
    kept: float,
) -> np.ndarray:
    """Snow: whitens the image and adds smeared flakes, and the same ones rotated by 180 degrees.

    The flakes are made for a side of 224 pixels and resized: their number above the threshold depends on their grain.
    """
    from PIL import Image

    shape = [round(side / scale) for side in x.shape[:2]]
    flakes = _enlarged_middle(Image.fromarray(generator.normal(mean, deviation, shape).astype(np.float32)), zoom)
    flakes = np.where(flakes < threshold, 0, np.clip(flakes, 0, 1))
    smeared = Image.fromarray(smear(flakes, radius, sigma, generator.uniform(-135, -45)))
    flakes = np.asarray(smeared.resize(x.shape[1::-1], Image.Resampling.BILINEAR))[..., None]
    white = np.maximum(x, 1.5 * (x @ _GREY)[..., None] + 0.5)
    return kept * x + (1 - kept) * white + flakes + flakes[::-1, ::-1]


def fog(x: np.ndarray, generator: np.random.Generator, scale: float, strength: float, decay: float) -> np.ndarray:
    """Fog: adds a fractal cloud, and scales the image to its former maximum."""
    height, width = x.shape[:2]
    side = 2 ** int(np.ceil(np.log2(max(height, width))))
    cloud = strength * _cloud(side, decay, generator)[:height, :width, None]
    return (x + cloud) * x.max() / (x.max() + strength)


def brightness(x: np.ndarray, generator: np.random.Generator, scale: float, increase: float) -> np.ndarray:
    """Brightness: increases the value of hue, saturation and value."""
    value = x.max(axis=2, keepdims=True)
    raised = np.minimum(value + increase, 1)
    return np.where(value > 0, x * raised / np.maximum(value, 1e-6), raised)


def contrast(x: np.ndarray, generator: np.random.Generator, scale: float, kept: float) -> np.ndarray:
    """Lower contrast: moves each colour towards its mean."""
    mean = x.mean(axis=(0, 1))
    return mean + kept * (x - mean)


def elastic_transform(
    x: np.ndarray, generator: np.random.Generator, scale: float, alpha: float, sigma: float, reach: float
) -> np.ndarray:
    """Elastic transform: stretches the image as a whole and locally.

    Args:
        x: The image.
        generator: Source of randomness.
        scale: Shorter side / 224.
        alpha: Factor of the smoothed noise of the displacements. Noise that is smoothed half as far is twice as strong,
            so alpha is scaled twice.
        sigma: Standard deviation of the smoothing of the displacements, pixels.
        reach: Largest displacement of three points around the middle, pixels.
    """
    from scipy import ndimage

    height, width = x.shape[:2]
    middle, arm = np.array([height, width]) / 2, min(height, width) // 3
    points = np.array([[arm, arm], [-arm, arm], [-arm, -arm]])
    moved = points + generator.uniform(-reach * scale, reach * scale, (3, 2))
    around = np.linalg.solve(np.c_[points, np.ones(3)], moved)  # (row, column, 1) -> its place in the input
    place = np.stack([axis - at for axis, at in zip(np.mgrid[:height, :width], middle)])
    noise = generator.uniform(-1, 1, place.shape)
    place += alpha * scale**2 * ndimage.gaussian_filter(noise, sigma * scale, truncate=3, axes=(1, 2))
    place = np.tensordot(around[:2], place, (0, 0)) + (around[2] + middle)[:, None, None]
    return np.stack(
        [ndimage.map_coordinates(plane, place, order=1, mode="reflect") for plane in x.transpose(2, 0, 1)], 2
    )


def pixelate(x: np.ndarray, generator: np.random.Generator, scale: float, ratio: float) -> np.ndarray:
    """Pixelate: shrinks the image by a ratio and enlarges it again, without interpolation."""
    from PIL import Image

    image = Image.fromarray(np.rint(x * 255).astype(np.uint8))
    small = image.resize([max(1, int(side * ratio)) for side in image.size], Image.Resampling.BOX)
    return np.asarray(small.resize(image.size, Image.Resampling.BOX)) / 255


def jpeg_compression(x: np.ndarray, generator: np.random.Generator, scale: float, quality: int) -> np.ndarray:
    """JPEG compression: encodes and decodes the image."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.rint(x * 255).astype(np.uint8)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)) / 255


def _cloud(side: int, decay: float, generator: np.random.Generator) -> np.ndarray:
    """Returns a fractal of (side, side) values from 0 to 1 with periodic edges, by the diamond-square algorithm.

    Args:
        side: A power of 2.
        decay: Square root of the factor by which the noise decreases at each halving; the published code squares it.
        generator: Source of randomness.
    """
    cloud, amplitude = np.zeros((side, side)), 1.0

    def mean(*neighbours: np.ndarray) -> np.ndarray:
        return sum(neighbours) / 4 + generator.uniform(-amplitude, amplitude, neighbours[0].shape)

    while side > 1:
        half = side // 2
        corners = cloud[::side, ::side]
        right, below = np.roll(corners, -1, 1), np.roll(corners, -1, 0)
        middles = cloud[half::side, half::side] = mean(corners, right, below, np.roll(below, -1, 1))
        cloud[::side, half::side] = mean(corners, right, middles, np.roll(middles, 1, 0))
        cloud[half::side, ::side] = mean(corners, below, middles, np.roll(middles, 1, 1))
        side, amplitude = half, amplitude / decay**2
    cloud -= cloud.min()
    return cloud / max(cloud.max(), 1e-12)


def _each(*values: float) -> tuple[tuple[float], ...]:
    return tuple((value,) for value in values)


# Name: function of (image, generator, scale, *settings), and its settings at severities 1 to 5.
CORRUPTIONS: dict[str, tuple[Callable[..., np.ndarray], tuple[tuple[float, ...], ...]]] = {
    "gaussian noise": (gaussian_noise, _each(0.08, 0.12, 0.18, 0.26, 0.38)),
    "shot noise": (shot_noise, _each(60, 25, 12, 5, 3)),
    "impulse noise": (impulse_noise, _each(0.03, 0.06, 0.09, 0.17, 0.27)),
    "defocus blur": (defocus_blur, _each(3, 4, 6, 8, 10)),
    "glass blur": (glass_blur, ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))),
    "motion blur": (motion_blur, ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))),
    "zoom blur": (zoom_blur, ((11, 0.01), (16, 0.01), (11, 0.02), (13, 0.02), (11, 0.03))),
    "snow": (
        snow,
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    ),
    "fog": (fog, ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))),
    "brightness": (brightness, _each(0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": (contrast, _each(0.4, 0.3, 0.2, 0.1, 0.05)),
    "elastic transform": (
        elastic_transform,
        # The published code has 244, not 224. The first two bend the whole image, the others shake its lines.
        tuple(
            tuple(244 * part for part in parts)
            for parts in ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02))
        ),
    ),
    "pixelate": (pixelate, _each(0.6, 0.5, 0.4, 0.3, 0.25)),
    "jpeg compression": (jpeg_compression, _each(25, 18, 15, 10, 7)),
}
