"""The common corruptions of ImageNet-C, but for frost, which needs photographs of it.

Severities are the published ones. They are for images of 224 pixels: lengths are scaled with the image's shorter
side / 224. Ratios (zoom, pixelate), the grain of noise, which is a pixel, and JPEG's blocks are not.

Source: arXiv:1903.12261.
"""

import io

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
    """Smears the image in a direction within 45 degrees of the horizontal."""
    return smeared(x, radius * scale, sigma * scale, generator.uniform(-45, 45))


def zoom_blur(x, generator, scale, count, step):
    """Averages the image with `count` enlargements of it, from 1 on by `step`; these are ratios and not scaled."""
    from PIL import Image

    image = Image.fromarray((x * 255).astype(np.uint8))
    return (x + sum(zoomed(image, 1 + i * step) / 255 for i in range(count))) / (count + 1)


def without_texture(image, severity):
    """Returns a uint8 image of which edges stay and texture goes: each pixel the median of a window around it.

    Args:
        image: (rows, columns, 3) uint8.
        severity: 1 to 5, for the size of the window, see `WINDOWS`; it is odd and never below
            3 pixels, so that the first severities are alike in small images.
    """
    from scipy import ndimage

    reach = max(1, round(WINDOWS[severity - 1] // 2 * min(image.shape[:2]) / 224))
    return np.stack([ndimage.median_filter(plane, 2 * reach + 1) for plane in np.moveaxis(image, 2, 0)], axis=2)


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


_GREY = np.array([0.299, 0.587, 0.114], np.float32)


def corrupted(image, name, severity, generator):
    """Returns an image, corrupted.

    Args:
        image: (rows, columns, 3) uint8.
        name: out of `CORRUPTIONS`.
        severity: 1 to 5.
        generator: a `numpy.random.Generator`; the same state corrupts the same image in the same way.

    Returns:
        The same shape, uint8.
    """
    change, settings = CORRUPTIONS[name]
    x = change(image.astype(np.float32) / 255, generator, min(image.shape[:2]) / 224, *settings[severity - 1])
    return np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8)


def gaussian_noise(x, generator, scale, deviation):
    """Adds noise as of low light."""
    return x + generator.normal(0, deviation, x.shape)


def shot_noise(x, generator, scale, photons):
    """Counts light in photons, `photons` for white."""
    return generator.poisson(x * photons) / photons


def impulse_noise(x, generator, scale, part):
    """Sets a part of the numbers to black or white."""
    return np.where(generator.random(x.shape) < part, generator.integers(0, 2, x.shape), x)


def snow(x, generator, scale, mean, deviation, zoom, threshold, radius, sigma, kept):
    """Whitens the image and lets smeared flakes fall, the same ones from both sides.

    The flakes are made for a side of 224 pixels and resized: how many lie above the threshold hangs on their grain.
    """
    from PIL import Image

    shape = [round(side / scale) for side in x.shape[:2]]
    flakes = zoomed(Image.fromarray(generator.normal(mean, deviation, shape).astype(np.float32)), zoom)
    flakes = np.where(flakes < threshold, 0, np.clip(flakes, 0, 1))
    flakes = Image.fromarray(smeared(flakes, radius, sigma, generator.uniform(-135, -45)))
    flakes = np.asarray(flakes.resize(x.shape[1::-1], Image.Resampling.BILINEAR))[..., None]
    white = np.maximum(x, 1.5 * (x @ _GREY)[..., None] + 0.5)
    return kept * x + (1 - kept) * white + flakes + flakes[::-1, ::-1]


def fog(x, generator, scale, strength, decay):
    """Adds a fractal cloud, and takes the brightness back to what it was."""
    rows, columns = x.shape[:2]
    side = 2 ** int(np.ceil(np.log2(max(rows, columns))))
    cloud = strength * _cloud(side, decay, generator)[:rows, :columns, None]
    return (x + cloud) * x.max() / (x.max() + strength)


def brightness(x, generator, scale, more):
    """Raises the value of hue, saturation and value."""
    value = x.max(axis=2, keepdims=True)
    raised = np.minimum(value + more, 1)
    return np.where(value > 0, x * raised / np.maximum(value, 1e-6), raised)


def contrast(x, generator, scale, kept):
    """Moves each colour towards its mean."""
    mean = x.mean(axis=(0, 1))
    return mean + kept * (x - mean)


def elastic_transform(x, generator, scale, alpha, sigma, reach):
    """Stretches the image as a whole and place by place.

    Args:
        alpha, sigma: of the displacements: factor of the smoothed noise, and how far they go together, pixels. Noise
            that is smoothed half as far is twice as strong, so that alpha is scaled twice.
        reach: how far three points around the middle move at most, pixels.
    """
    from scipy import ndimage

    rows, columns = x.shape[:2]
    middle, arm = np.array([rows, columns]) / 2, min(rows, columns) // 3
    points = np.array([[arm, arm], [-arm, arm], [-arm, -arm]])
    moved = points + generator.uniform(-reach * scale, reach * scale, (3, 2))
    around = np.linalg.solve(np.c_[points, np.ones(3)], moved)  # (row, column, 1) -> where it was
    place = np.stack([axis - at for axis, at in zip(np.mgrid[:rows, :columns], middle)])
    noise = generator.uniform(-1, 1, place.shape)
    place += alpha * scale**2 * ndimage.gaussian_filter(noise, sigma * scale, truncate=3, axes=(1, 2))
    place = np.tensordot(around[:2], place, (0, 0)) + (around[2] + middle)[:, None, None]
    return np.stack(
        [ndimage.map_coordinates(plane, place, order=1, mode="reflect") for plane in x.transpose(2, 0, 1)], 2
    )


def pixelate(x, generator, scale, part):
    """Makes the image smaller, and its pixels larger."""
    from PIL import Image

    image = Image.fromarray(np.rint(x * 255).astype(np.uint8))
    small = image.resize([max(1, int(side * part)) for side in image.size], Image.Resampling.BOX)
    return np.asarray(small.resize(image.size, Image.Resampling.BOX)) / 255


def jpeg_compression(x, generator, scale, quality):
    """Writes the image as a JPEG file and reads it."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.rint(x * 255).astype(np.uint8)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)) / 255


def _cloud(side, decay, generator):
    """Returns a fractal of (side, side) numbers from 0 to 1 whose edges meet, by the diamond-square algorithm.

    Args:
        side: a power of 2.
        decay: root of how much weaker the noise is at each halving; the published code squares it.
    """
    cloud, amplitude = np.zeros((side, side)), 1.0

    def mean(*neighbours):
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


def _each(*values):
    return tuple((value,) for value in values)


# Name: function of (image, generator, scale, *setting), and its settings at severities 1 to 5.
CORRUPTIONS = {
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
        # The published 244 is no slip of ours. The first two bend the whole image, the others shake its lines.
        tuple(
            tuple(244 * part for part in parts)
            for parts in ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02))
        ),
    ),
    "pixelate": (pixelate, _each(0.6, 0.5, 0.4, 0.3, 0.25)),
    "jpeg compression": (jpeg_compression, _each(25, 18, 15, 10, 7)),
}
