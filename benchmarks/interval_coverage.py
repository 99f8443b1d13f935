"""Measures how often 95 % intervals contain the truth: python benchmarks/interval_coverage.py

Test images are drawn again and again from data whose true figures are known, and the share of the intervals that
contain the true figure is printed: of numbers with errors of a normal distribution and of one with heavier tails
(Student's t with 5 degrees of freedom), and of five labels that 10 to 70 % of the images have.
"""

import argparse

import numpy as np

from keras_vit.evaluation import LabelScores, NumberScores

LARGE = 400_000  # images of which the true figures of the labels are known to three digits
SIZES = (20, 40, 80, 320)
RANDOM = np.random.default_rng(1)
DISTRIBUTIONS = {"normal errors": lambda shape: RANDOM.normal(0, 5, shape)}
DISTRIBUTIONS["heavy tails"] = lambda shape: 5 * RANDOM.standard_t(5, shape)


def numbers(draw, images):
    """Returns scores of one number, spread by 20 around 40, and of errors as drawn."""
    targets = RANDOM.normal(40, 20, (images, 1))
    return NumberScores(["age"], targets, targets + draw((images, 1)))


def labels(images):
    """Returns scores of five labels; a score is higher by 1.2 standard deviations where an image has the label."""
    targets = RANDOM.random((images, 5)) < (0.5, 0.3, 0.1, 0.7, 0.2)
    logits = 1.2 * targets + RANDOM.normal(0, 1, (images, 5))
    return LabelScores(list("abcde"), targets, 1 / (1 + np.exp(-logits)), [0.55, 0.6, 0.75, 0.5, 0.7])


def coverage(scores, truth, images, draws):
    """Returns the share of the draws whose interval contains the true figure, {name: share}."""
    contained = dict.fromkeys(truth, 0)
    for _ in range(draws):
        intervals = scores(images).intervals
        for name, value in truth.items():
            low, high = np.ravel(intervals[name])
            contained[name] += low <= value <= high
    return {name: count / draws for name, count in contained.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000)
    draws = parser.parse_args().draws
    kinds = []
    for name, draw in DISTRIBUTIONS.items():
        errors = draw(10 * LARGE)
        truth = {"r2": 1 - np.mean(errors**2) / 20**2, "mae": np.mean(np.abs(errors)), "rmse": np.std(errors)}
        kinds.append((name, lambda images, draw=draw: numbers(draw, images), truth))
    large = labels(LARGE)
    kinds.append(("labels", labels, {name: getattr(large, name) for name in ("mean_average_precision", "macro_f1")}))
    for name, scores, truth in kinds:
        for images in SIZES:
            shares = coverage(scores, truth, images, draws)
            print(f"{name}, {images:3d} images:", ", ".join(f"{k} {v:.1%}" for k, v in shares.items()), flush=True)


if __name__ == "__main__":
    main()
