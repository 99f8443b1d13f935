"""What the proof lets a client's resize do: each right resize passes at any scale, and seeded faults do not."""

import itertools

import numpy as np
import pytest
from PIL import Image, ImageDraw

from keras_vit.export.proof import MAX_LEVEL_DIFFERENCE, expected_levels
from keras_vit.runtime.images import CENTER, CORNER, resized


def noise(height, width):
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)


def checkerboard(height, width):
    return colours(np.add.outer(np.arange(height), np.arange(width)) % 2 * 255)


def lines(height, width):
    """One black row and one black column on white."""
    grey = np.full((height, width), 255)
    grey[height // 2], grey[:, width // 3] = 0, 0
    return colours(grey)


def text(height, width):
    image = Image.new("RGB", (width, height), "white")
    ImageDraw.Draw(image).text((width // 8, height // 8), "Ag7", fill="black")
    return np.asarray(image)


def smooth(height, width):
    waves = np.random.default_rng(width).normal(size=(3, 4, 4))
    down, across = (np.cos(np.pi * np.outer(np.arange(4), np.arange(n) + 0.5) / n) for n in (height, width))
    return np.clip(127.5 + 40 * np.einsum("ckl,kr,lq->rqc", waves, down, across), 0, 255).astype(np.uint8)


def colours(grey):
    return np.repeat(np.uint8(grey)[..., None], 3, axis=2)


IMAGES = (noise, checkerboard, lines, text, smooth)
SHARP = (noise, checkerboard, lines)


def outside(result, image, size, from_center=False):
    """Returns by how many grey levels a resized image leaves its bounds, at most."""
    lowest, highest = expected_levels(image, size, from_center)
    return max(0, (np.int16(lowest) - result).max(), (np.int16(result) - highest).max())


SIDES = (8, 12, 20, 24, 28, 48, 56, 63, 64, 97, 128, 200, 224, 300, 512)
SIZES = [*((side, side) for side in (8, 12, 20, 24, 48, 56, 64, 97, 224)), (12, 20), (31, 8), (300, 512)]


@pytest.mark.parametrize("make", IMAGES)
def test_a_right_resize_passes_at_every_scale(make):
    """Small to large and large to small, sides that differ, sides that 64 divides."""
    for number, (height, size) in enumerate(itertools.product(SIDES, SIZES)):
        image = make(height, SIDES[(7 * number + 3) % len(SIDES)])
        for origin in (CORNER, CENTER):
            assert outside(resized(image, size, origin), image, size, origin == CENTER) == 0, (image.shape, size)


def sampled(image, size, places):
    """Returns an image resized by bilinear interpolation at other places."""
    values = np.float64(image)
    for axis, sides in enumerate(zip(image.shape, size)):
        at = np.clip(places(*sides), 0, sides[0] - 1)
        below = at.astype(int)
        share = (at - below).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        values = (1 - share) * values.take(below, axis) + share * values.take(np.ceil(at).astype(int), axis)
    return np.floor(values + 0.5).astype(np.uint8)


def right(given, wanted):
    return np.arange(wanted) * given / wanted


def in_steps(steps):
    return lambda given, wanted: np.rint(right(given, wanted) * steps) / steps


FAULTS = {
    "from the middle of a pixel": lambda given, wanted: (np.arange(wanted) + 0.5) * given / wanted - 0.5,
    "half a pixel too far": lambda given, wanted: right(given, wanted) + 0.5,
    "half a pixel too near": lambda given, wanted: right(given, wanted) - 0.5,
    "1/16 of a pixel too far": lambda given, wanted: right(given, wanted) + 1 / 16,
    "corners aligned": lambda given, wanted: np.arange(wanted) * (given - 1) / (wanted - 1),
    "the nearest below": lambda given, wanted: np.floor(right(given, wanted)),
    "places to 1/16": in_steps(16),
    "places to 1/8": in_steps(8),
}
SCALES = [
    ((8, 8), (12, 20)),
    ((8, 8), (16, 16)),
    ((8, 8), (56, 56)),
    ((8, 8), (224, 224)),
    ((28, 28), (56, 56)),
    ((97, 64), (33, 48)),
    ((300, 200), (224, 224)),
    ((512, 384), (224, 224)),
    ((512, 512), (64, 64)),
    ((200, 97), (8, 12)),
]
# Where every place is a multiple of the steps, and where it is a pixel, a fault of that kind changes nothing.
UNSEEN = {
    "the nearest below": [((512, 512), (64, 64))],
    "places to 1/16": [((8, 8), (16, 16)), ((28, 28), (56, 56)), ((512, 512), (64, 64))],
}
UNSEEN["places to 1/8"] = UNSEEN["places to 1/16"]
# One-pixel lines that happen to lie between all the places that a fault moves.
MISSED = {
    ("places to 1/16", lines): [((512, 384), (224, 224)), ((200, 97), (8, 12))],
}


@pytest.mark.parametrize("make", SHARP)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_seen_on_sharp_images_at_every_scale(fault, make):
    for sides, size in SCALES:
        image = make(*sides)
        wrong = sampled(image, size, FAULTS[fault])
        if (sides, size) in UNSEEN.get(fault, ()):
            np.testing.assert_array_equal(wrong, sampled(image, size, right))
        elif (sides, size) not in MISSED.get((fault, make), ()):
            assert outside(wrong, image, size) > MAX_LEVEL_DIFFERENCE, (sides, size)


def test_the_resize_of_these_faults_is_right_without_any():
    for make, (sides, size) in itertools.product(IMAGES, SCALES):
        image = make(*sides)
        assert outside(sampled(image, size, right), image, size) == 0


@pytest.mark.parametrize("fault", ["from the middle of a pixel", "half a pixel too far", "corners aligned"])
def test_half_a_pixel_is_seen_on_smooth_images_too(fault):
    for sides, size in SCALES:
        image = smooth(*sides)
        assert outside(sampled(image, size, FAULTS[fault]), image, size) > MAX_LEVEL_DIFFERENCE, (sides, size)


def by_pillow(image, size, kernel):
    return np.asarray(Image.fromarray(image).resize(size[::-1], kernel))


@pytest.mark.parametrize("make", SHARP)
def test_other_ways_to_resize_are_seen(make):
    for sides, size in SCALES:
        image = make(*sides)
        for kernel in (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.BOX):
            assert outside(by_pillow(image, size, kernel), image, size) > MAX_LEVEL_DIFFERENCE, (kernel, sides, size)
        swapped = resized(image, size[::-1]).reshape(*size, 3)
        assert size[0] == size[1] or outside(swapped, image, size) > MAX_LEVEL_DIFFERENCE


def test_turned_and_in_other_colours_is_seen():
    for sides, size in SCALES:
        image = noise(*sides)  # a checkerboard turned is itself, and its colours are all the same
        assert outside(resized(image.swapaxes(0, 1), size), image, size) > MAX_LEVEL_DIFFERENCE
        assert outside(resized(image, size)[..., ::-1], image, size) > MAX_LEVEL_DIFFERENCE


def test_a_resize_that_should_not_be_is_seen_unless_the_size_is_the_images():
    """No resize at all is right where the image has the size; one pixel's shift of such an image is not."""
    image = noise(24, 20)
    assert outside(image, image, (24, 20)) == 0
    assert outside(np.roll(image, 1, axis=1), image, (24, 20)) > MAX_LEVEL_DIFFERENCE
