"""Perceptual hashes: bits that stay nearly the same when an image is encoded, resized or brightened anew."""

import numpy as np
from PIL import Image

SMALLEST_SIDE = 32  # pixels; of a smaller image, a hash says nothing
LEAST_CONTRAST = 8.0  # standard deviation of the greys; of a flatter image, a hash says nothing
_SIDE, _KEPT = 32, 8
_COSINES = np.cos(np.pi / _SIDE * (np.arange(_SIDE) + 0.5) * np.arange(_KEPT)[:, None]).astype(np.float32)
_MIDDLE = (_KEPT**2 - 1) // 2


def perceptual_hash(pixels: np.ndarray) -> int | None:
    """Returns two perceptual hashes of an image, pHash and dHash, 64 bits each; None for a tiny or flat image.

    The image is reduced to 32 x 32 greys. A bit of pHash says whether one of the 63 lowest frequencies of their cosine
    transform (DCT-II), without the mean, is above the median. The greys are reduced further to 8 x 9; a bit of dHash
    says whether one is brighter than its left neighbour. Hashes of one image in two encodings or sizes differ in few
    bits. Of the two, pHash takes one silhouette on a plain ground for another, and dHash one texture.

    Args:
        pixels: (height, width, channels) uint8. Of three channels or more, the first three are read as RGB; of fewer,
            the first as grey.

    Returns:
        pHash in the higher 64 bits, of which the last is 0, and dHash in the lower 64.

    Source: C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010, section 3.2.1; N.
    Krawetz, "Kind of Like That", hackerfactor.com, 2013.
    """
    if min(pixels.shape[:2]) < SMALLEST_SIDE:
        return None
    colours = pixels[..., :3] if pixels.shape[-1] > 2 else pixels[..., 0]
    image = Image.fromarray(np.ascontiguousarray(colours)).convert("L")
    image = image.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    greys = np.asarray(image, np.float32)
    if greys.size * np.vdot(greys, greys) - greys.sum() ** 2 < (LEAST_CONTRAST * greys.size) ** 2:  # the variance
        return None
    frequencies = (_COSINES @ greys @ _COSINES.T).ravel()[1:]
    above = frequencies > np.partition(frequencies, _MIDDLE)[_MIDDLE]
    coarse = np.asarray(image.resize((9, 8), Image.Resampling.BILINEAR))
    brighter = coarse[:, 1:] > coarse[:, :-1]
    return int.from_bytes(np.packbits(above).tobytes() + np.packbits(brighter).tobytes(), "big")
