"""CRC32C, the checksum that Google's storage sends for every file, in NumPy: one GB in a few seconds."""

import functools
from typing import BinaryIO

import numpy as np

_POLYNOMIAL = 0x82F63B78  # Castagnoli's, bits reversed
_RUNS, _WORDS = 4096, 256  # powers of two: a block is 4,096 runs of 256 words of 32 bits; all runs advance together
_BLOCK = 4 * _RUNS * _WORDS  # bytes


def crc32c(file: BinaryIO) -> int:
    """Returns the CRC32C of the rest of a file.

    Zeros in front do not change the remainder of a division, so that the last block is filled up there. The remainder
    of what is read is added to the first four bytes of what follows.

    Source: RFC 3720, appendix B.4. The remainders of two runs are joined as in zlib's crc32_combine.
    """
    remainder = 0xFFFFFFFF
    while data := file.read(_BLOCK):
        if len(data) < 4:
            for byte in data:
                remainder ^= byte
                for _ in range(8):
                    remainder = remainder >> 1 ^ (_POLYNOMIAL if remainder & 1 else 0)
            continue
        block = np.zeros(_BLOCK, np.uint8)
        block[-len(data) :] = np.frombuffer(data, np.uint8)
        block[-len(data) :][:4] ^= np.frombuffer(remainder.to_bytes(4, "little"), np.uint8)
        remainder = _remainder(block.view("<u4"))
    return remainder ^ 0xFFFFFFFF


def _remainder(words: np.ndarray) -> int:
    """Returns the remainder of a block."""
    low, high, advances = _tables()
    runs = np.zeros(_RUNS, "<u4")
    for word in np.ascontiguousarray(words.reshape(_RUNS, _WORDS).T):
        halves = (runs ^ word).view("<u2")
        runs = low[halves[::2]] ^ high[halves[1::2]]
    for advance in advances:  # each joins neighbours, whose length doubles
        runs = _multiply(advance, runs[::2]) ^ runs[1::2]
    return int(runs[0])


@functools.cache
def _tables() -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Returns what a word's two halves become after it, and the matrices that advance a remainder by 1, 2, 4, ... runs.

    A matrix over the bits is 32 columns; `_multiply(matrix, matrix)` is its square.
    """
    advance = np.array([_POLYNOMIAL, *(1 << bit for bit in range(31))], "<u4")  # by one bit
    for _ in range(5):  # by 2, 4, 8, 16, 32 bits: a word
        advance = _multiply(advance, advance)
    numbers = np.arange(1 << 16, dtype="<u4")
    low, high = _multiply(advance, numbers), _multiply(advance, numbers << 16)
    advances = []
    for count in range((_WORDS * _RUNS // 2).bit_length()):
        if count >= _WORDS.bit_length() - 1:
            advances.append(advance)
        advance = _multiply(advance, advance)
    return low, high, advances


def _multiply(matrix: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Returns the matrix times each number, a column of 32 bits."""
    products = np.zeros_like(numbers)
    for bit, column in enumerate(matrix):
        products ^= (numbers >> bit & 1) * column
    return products
