"""mixup and CutMix: each image of a batch takes something from a partner, and its target as much."""

import math
import numbers

import tensorflow as tf


def mix(images, targets, partners, partner_targets, *, mixup, cutmix, seed):
    """Returns the images and targets mixed with their partners', by mixup or by CutMix.

    A batch has one ratio, the larger of b and 1 - b with b from Beta(p, p): so each image keeps at least half of its
    own. mixup blends all pixels at that ratio. CutMix pastes a box of the partner, of the image's proportions,
    about a pixel anywhere; what reaches over the edge is cut off, and targets go by the area that was really pasted.
    If both are asked for, a fair coin decides for the batch. A row's result depends on the row, its partner and the
    seed alone.

    Args:
        images, partners: (batch, rows, columns, 3) float.
        targets, partner_targets: (batch, classes) float.
        mixup: p of the Beta distribution for mixup; 0 to leave it out.
        cutmix: p for CutMix; 0 to leave it out.
        seed: two whole numbers, int32 or int64; the same seed gives the same ratio, coin and box.

    Raises:
        ValueError: if `mixup` or `cutmix` is no finite number from 0.

    Source: mixup, arXiv:1710.09412, with the larger share of big_vision's utils.py; CutMix, arXiv:1905.04899, whose
    box may take more than half, as its ratio is b.
    """
    settings = {"mixup": mixup, "cutmix": cutmix}
    wrong = [f"{name}={p!r}" for name, p in settings.items() if not _is_parameter(p)]
    if wrong:
        raise ValueError(f"mixup and CutMix need a finite number from 0. Received: {', '.join(wrong)}")
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


def _is_parameter(p):
    return isinstance(p, numbers.Real) and not isinstance(p, bool) and math.isfinite(p) and p >= 0


def _larger_share(p, seed):
    """Draws b from Beta(p, p) and returns the larger of b and 1 - b, float64."""
    # Two gamma draws, each over their sum, are b and 1 - b. A small p makes both too small for a float, and the ratio
    # 1/2 where it should be 1: so they are taken as logarithms, of Gamma(1 + p) times uniform ** (1 / p).
    gamma_seed, uniform_seed = tf.unstack(tf.random.split(seed))
    gamma = tf.random.stateless_gamma((2,), gamma_seed, alpha=1 + p, dtype=tf.float64)
    uniform = 1 - tf.random.stateless_uniform((2,), uniform_seed, dtype=tf.float64)  # never 0
    one, other = tf.unstack(tf.math.log(gamma) + tf.math.log(uniform) / p)
    return tf.sigmoid(tf.abs(one - other))


def _share(own, other, ratio):
    ratio = tf.cast(ratio, own.dtype)
    return own * ratio + other * (1 - ratio)


def _pasted(images, partners, ratio, seed):
    """Returns the images with a box of their partners', and the share of an image that is its own, float64."""
    sides = tf.shape(images)[1:3]
    box = tf.cast(tf.cast(sides, tf.float64) * tf.sqrt(1 - ratio), tf.int32)
    middle = tf.cast(tf.random.stateless_uniform((2,), seed, dtype=tf.float64) * tf.cast(sides, tf.float64), tf.int32)
    first, end = tf.maximum(middle - box // 2, 0), tf.minimum(middle - box // 2 + box, sides)
    rows, columns = tf.range(sides[0]), tf.range(sides[1])
    inside = ((rows >= first[0]) & (rows < end[0]))[:, tf.newaxis] & (columns >= first[1]) & (columns < end[1])
    pasted = tf.reduce_prod(end - first) / tf.reduce_prod(sides)
    return tf.where(inside[tf.newaxis, :, :, tf.newaxis], partners, images), 1 - pasted
