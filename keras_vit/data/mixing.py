"""mixup and CutMix: each image of a batch is mixed with a partner, and so is its target."""

import math
import numbers
from typing import Any

import tensorflow as tf


def mix(
    images: Any, targets: Any, partners: Any, partner_targets: Any, *, mixup: float, cutmix: float, seed: Any
) -> tuple[Any, Any]:
    """Mixes images and targets with those of partners, by mixup or CutMix.

    A batch has one ratio, the larger of b and 1 - b with b from Beta(p, p): each image keeps at least half of its own.
    mixup blends all pixels at that ratio. CutMix pastes a box of the partner, with the image's proportions, around a
    random pixel. The box is cut off at the edge, and the targets are mixed by the area that was pasted. With both, a
    fair coin decides for the batch. The result of a row depends on the row, its partner and the seed alone.

    Args:
        images, partners: (batch, height, width, 3) float.
        targets, partner_targets: (batch, classes) float.
        mixup: p of the Beta distribution for mixup; 0 for no mixup.
        cutmix: p of the Beta distribution for CutMix; 0 for no CutMix.
        seed: two integers, int32 or int64; the same seed has the same ratio, coin and box.

    Returns:
        (images, targets), mixed.

    Raises:
        ValueError: if `mixup` or `cutmix` is not a finite number of 0 or more.

    Example:
        ```python
        from keras_vit.data.mixing import mix

        black, white = np.zeros((2, 8, 8, 3), "float32"), np.ones((2, 8, 8, 3), "float32")
        cat, dog = np.float32([[1, 0]] * 2), np.float32([[0, 1]] * 2)
        images, targets = mix(black, cat, white, dog, mixup=0.5, cutmix=0, seed=(1, 2))
        np.testing.assert_allclose(images[:, 0, 0, 0], targets[:, 1], rtol=1e-6)
        ```

    Source: mixup, arXiv:1710.09412, with the larger ratio of big_vision's utils.py; CutMix, arXiv:1905.04899, where the
    box can have more than half of the image, as the ratio there is b.
    """
    settings = {"mixup": mixup, "cutmix": cutmix}
    wrong = [f"{name}={p!r}" for name, p in settings.items() if not _is_parameter(p)]
    if wrong:
        raise ValueError(f"Expected mixup and cutmix to be finite numbers of 0 or more. Received: {', '.join(wrong)}")
    if not mixup and not cutmix:
        return images, targets
    coin_seed, ratio_seed, place_seed = tf.unstack(tf.random.split(seed, 3))
    by_mixup = tf.random.stateless_uniform((), coin_seed) < 0.5 if mixup and cutmix else tf.constant(bool(mixup))
    p = tf.where(by_mixup, tf.constant(mixup, tf.float64), tf.constant(cutmix, tf.float64))
    ratio = _larger_share(p, ratio_seed)
    mixed, own = tf.cond(
        by_mixup,
        lambda: (_share(images, partners, ratio), ratio),
        lambda: _pasted(images, partners, ratio, place_seed),
    )
    return mixed, _share(targets, partner_targets, own)


def _is_parameter(p: Any) -> bool:
    return isinstance(p, numbers.Real) and not isinstance(p, bool) and math.isfinite(p) and float(p) >= 0


def _larger_share(p: Any, seed: Any) -> Any:
    """Draws b from Beta(p, p) and returns the larger of b and 1 - b, float64."""
    # Two gamma draws, each over their sum, are b and 1 - b. A small p makes both too small for a float, and the ratio
    # 1/2 where it should be 1. So they are computed as logarithms, of Gamma(1 + p) times uniform ** (1 / p).
    gamma_seed, uniform_seed = tf.unstack(tf.random.split(seed))
    gamma = tf.random.stateless_gamma((2,), gamma_seed, alpha=1 + p, dtype=tf.float64)
    uniform = 1 - tf.random.stateless_uniform((2,), uniform_seed, dtype=tf.float64)  # never 0
    one, other = tf.unstack(tf.math.log(gamma) + tf.math.log(uniform) / p)
    return tf.sigmoid(tf.abs(one - other))


def _share(own: Any, other: Any, ratio: Any) -> Any:
    ratio = tf.cast(ratio, own.dtype)
    return own * ratio + other * (1 - ratio)


def _pasted(images: Any, partners: Any, ratio: Any, seed: Any) -> tuple[Any, Any]:
    """Returns the images with a box of their partners, and the fraction of each image that is its own, float64."""
    sides = tf.shape(images)[1:3]
    box = tf.cast(tf.cast(sides, tf.float64) * tf.sqrt(1 - ratio), tf.int32)
    middle = tf.cast(tf.random.stateless_uniform((2,), seed, dtype=tf.float64) * tf.cast(sides, tf.float64), tf.int32)
    first, end = tf.maximum(middle - box // 2, 0), tf.minimum(middle - box // 2 + box, sides)
    rows, columns = tf.range(sides[0]), tf.range(sides[1])
    inside = ((rows >= first[0]) & (rows < end[0]))[:, tf.newaxis] & (columns >= first[1]) & (columns < end[1])
    pasted = tf.reduce_prod(end - first) / tf.reduce_prod(sides)
    return tf.where(inside[tf.newaxis, :, :, tf.newaxis], partners, images), 1 - pasted
