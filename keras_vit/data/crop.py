"""Which part of an image is shown, and how it gets to the model's size: by chance to train, by name to evaluate."""

import numpy as np
import tensorflow as tf
from PIL import Image


def inception_window(size, seed):
    """Returns a random window of an image of `size`, (rows, columns): (top, left, rows, columns), (4,) int32.

    5 to 100 % of the area, columns to rows as 0.75 to 1.33; the whole image where 100 attempts find none.

    Source: the official `input_pipeline.py`; the numbers that it leaves out are the operation's own.
    """
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.concat([size, [3]], 0),
        tf.zeros([1, 0, 4]),
        seed,
        min_object_covered=0.0,
        aspect_ratio_range=(0.75, 1.33),
        area_range=(0.05, 1.0),
        use_image_if_no_bounding_boxes=True,
    )
    return tf.concat([begin[:2], extent[:2]], 0)


def whole_window(size, seed):
    """Returns the window that is the whole image, (4,) int32."""
    return tf.concat([[0, 0], size], 0)


def cut(pixels, window):
    """Returns a window of an image, (rows, columns, channels)."""
    top, left, rows, columns = tf.unstack(window)
    return pixels[top : top + rows, left : left + columns]


def larger(image_size):
    """Returns the size that a window of the model's is cut from: 256 for 224 pixels, 448 for 384, else 8/7.

    Source: big_vision's configurations.
    """
    return tuple({384: 448}.get(side, round(side * 8 / 7)) for side in image_size)


def random_part(pixels, image_size, seed):
    """Returns a window of `image_size`, (rows, columns), that lies anywhere in an image."""
    return tf.image.stateless_random_crop(pixels, (*image_size, 3), seed)


def all_of(pixels, image_size, seed):
    """Returns the image."""
    return pixels


# Which window is decoded, to which size it is brought, and what of that is taken.
CROPS = {"inception": (inception_window, tuple, all_of), "random": (whole_window, larger, random_part)}


def resize_pixels(pixels, image_size):
    """Returns an image at another size, (rows, columns), in whole levels: bilinear, not antialiased; uint8."""
    return tf.cast(tf.round(tf.image.resize(pixels, image_size)), tf.uint8)


def _official(pixels, image_size):
    return pixels if pixels.shape[:2] == tuple(image_size) else resize_pixels(pixels, image_size).numpy()


def _big_vision(pixels, image_size):
    # The shorter side to its size, areas averaged; in float32 and cut off to whole levels, as there.
    sides = np.float32(pixels.shape[:2])
    factor = (np.float32(larger(image_size)) / sides).max()
    pixels = tf.image.resize(pixels, np.round(sides * factor).astype(int), "area")
    return _middle(tf.cast(tf.clip_by_value(pixels, 0, 255), tf.uint8).numpy(), image_size, lambda space: space // 2)


def _timm(pixels, image_size):
    # crop_pct is 0.9 below 384 pixels, and 1. torchvision's `Resize` cuts off where its `CenterCrop` rounds.
    whole = [int(side / 0.9) if side < 384 else side for side in image_size]
    sides = pixels.shape[:2]
    by = 0 if whole[0] * sides[1] >= whole[1] * sides[0] else 1
    rows, columns = (whole[by] * side // sides[by] for side in sides)
    image = Image.fromarray(pixels).resize((columns, rows), Image.Resampling.BICUBIC)
    return _middle(np.array(image), image_size, lambda space: round(space / 2))


def _middle(pixels, image_size, half):
    """Cuts out the middle; `half` halves what is left over, in whole pixels."""
    top, left = (half(side - kept) for side, kept in zip(pixels.shape, image_size))
    return pixels[top : top + image_size[0], left : left + image_size[1]]


# How published numbers were measured: (pixels (rows, columns, 3) uint8, (rows, columns)) -> uint8 of that size.
# official: both sides to the model's, bilinear, not antialiased. big_vision: the shorter side to 8/7 by area means
# (256 for 224 pixels, 448 for 384), the middle. timm: the shorter side by Pillow's bicubic, the middle 90 % (all from
# 384 pixels on).
PROTOCOLS = {"official": _official, "big_vision": _big_vision, "timm": _timm}
