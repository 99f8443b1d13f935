"""Rounds the weights of a fully connected layer to few bits so that its output, not each weight, stays close."""

from __future__ import annotations

import numpy as np

DAMPING = 0.01  # of the mean variance; without it, inputs that hardly vary cause huge corrections
COLUMNS = 32  # corrected one by one before the rest of the matrix is corrected at once


def rounded(kernel: np.ndarray, covariance: np.ndarray, bits: int, block: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rounds weights by GPTQ; returns them in float32, and the scales, of which each weight is a whole multiple.

    The columns are rounded from the most to the least varying input. The columns that are still to be rounded
    compensate for the error that rounding a column adds to the outputs, as far as their inputs vary with it.

    Args:
        kernel: (outputs, inputs) float32.
        covariance: (inputs, inputs) of the layer's inputs.
        bits: of a weight; the range is symmetric, -7 to 7 for 4 bits.
        block: number of inputs that share a scale; 0 for one scale per output.

    Returns:
        (outputs, inputs) and (outputs, inputs / block or 1), both float32.

    Source: GPTQ, arXiv:2210.17323, algorithm 1 with its order by activation; its damping.
    """
    outputs, inputs = kernel.shape
    most = 2 ** (bits - 1) - 1
    variances = np.maximum(np.diag(covariance), 0).astype("float64")
    scales = find_scales(kernel, variances, bits, block)
    order = np.argsort(-variances)
    damped = covariance[np.ix_(order, order)].astype("float64")
    damped[np.diag_indices(inputs)] += DAMPING * variances.mean() + 1e-12
    # Row i: the share of column i's error that each later column compensates, with the earlier columns fixed.
    shares = np.linalg.cholesky(np.linalg.inv(damped)).T.astype("float32")
    steps = np.repeat(scales, inputs // scales.shape[1], axis=1)[:, order]
    left, result = kernel[:, order].astype("float32"), np.empty((outputs, inputs), "float32")
    for start in range(0, inputs, COLUMNS):
        stop = min(start + COLUMNS, inputs)
        losses = np.empty((outputs, stop - start), "float32")
        for i in range(start, stop):
            result[:, i] = np.clip(np.rint(left[:, i] / steps[:, i]), -most, most) * steps[:, i]
            loss = losses[:, i - start] = (left[:, i] - result[:, i]) / shares[i, i]
            left[:, i + 1 : stop] -= np.outer(loss, shares[i, i + 1 : stop])
        left[:, stop:] -= losses @ shares[start:stop, stop:]
    weights = np.empty_like(result)
    weights[:, order] = result
    return weights, scales


def find_scales(kernel: np.ndarray, variances: np.ndarray, bits: int, block: int = 0) -> np.ndarray:
    """Returns the scales with the least error for inputs of these variances; they may clip the largest weights.

    Scales of blocks have 8 bits of precision: the file's float16 and XNNPACK's bfloat16 both hold them exactly.
    """
    most = 2 ** (bits - 1) - 1
    outputs, inputs = kernel.shape
    groups = kernel.reshape(outputs, -1, block or inputs)
    weights = variances.reshape(-1, block or inputs) + 1e-12
    largest = np.maximum(abs(groups).max(2), 1e-6)
    best, scales = np.full(largest.shape, np.inf), largest
    for share in np.linspace(1, 0.5, 16) if bits < 8 else (1, 0.9, 0.8):
        scale = (share * largest / most).astype("float32")
        if block:
            scale = _eight_bits(scale)
        steps = scale[..., None]
        loss = (np.square(np.clip(np.rint(groups / steps), -most, most) * steps - groups) * weights).sum(2)
        best, scales = np.minimum(best, loss), np.where(loss < best, scale, scales)
    return scales.astype("float32")


def _eight_bits(x: np.ndarray) -> np.ndarray:
    mantissa, exponent = np.frexp(x)
    return np.ldexp(np.rint(mantissa * 256) / 256, exponent).astype("float32")
