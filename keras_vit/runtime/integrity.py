"""Refuses damaged exported files, before their runtime reads them."""

from __future__ import annotations

import hashlib
import os
import pathlib
from typing import Any

import numpy as np

# What stands before the SHA-256 at the end of a file: in the comment of a .tflite file's zip, and in the last metadata
# property of an .onnx file. The SHA-256, 64 hexadecimal digits, is that of all bytes before it.
_MARKS = (b"sha256:", b"\x72\x4a\x0a\x06sha256\x12\x40")
_DIGITS = 64
CHECKSUMS = "SHA256SUMS"  # in the version folder of a SavedModel or an OpenVINO model, as sha256sum writes it
_LONGEST_REASON = 300  # characters


def refuse_damaged(path: str | os.PathLike[str]) -> None:
    """Raises a ValueError if a file, or the version folder of a SavedModel or OpenVINO model, is not as exported.

    What has no SHA-256 inside passes: files of another program, or of an older version.

    Args:
        path: of a .tflite or .onnx file, or of the folder.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        _refuse_damaged_folder(path)
        return
    with path.open("rb") as file:
        length = file.seek(0, os.SEEK_END)
        file.seek(max(length - _DIGITS - max(map(len, _MARKS)), 0))
        end = file.read()
        stated = next((end.rpartition(mark)[2] for mark in _MARKS if mark in end), None)
        if stated is None:
            return
        file.seek(0)
        digest, left = hashlib.sha256(), length - len(stated)
        while left > 0 and (part := file.read(min(left, 1 << 20))):
            digest.update(part)
            left -= len(part)
    if digest.hexdigest().encode() != stated:
        raise _damaged(path, "whose bytes differ from the SHA-256 at its end")


def _refuse_damaged_folder(folder: pathlib.Path) -> None:
    if not (folder / CHECKSUMS).is_file():
        return
    lines = (folder / CHECKSUMS).read_bytes().splitlines()
    faults = [] if lines else [f"an empty {CHECKSUMS}"]
    for line in lines:
        digest, _, name = line.decode("utf-8", "replace").partition("  ")
        part = pathlib.PurePosixPath(name.replace("\0", "?"))
        try:
            if part.is_absolute() or ".." in part.parts:
                raise FileNotFoundError
            if hashlib.sha256((folder / part).read_bytes()).hexdigest() != digest:
                faults.append(f"another {name!r:.80} than {CHECKSUMS} says")
        except PermissionError as error:
            raise ValueError(
                f"Expected a file that can be read. Received: {folder / part}, {error.strerror}"
            ) from error
        except OSError:  # not there, a folder, or a name that is too long
            faults.append(f"no {name!r:.80}")
    if faults:
        rest = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise _damaged(folder, f"which has {', '.join(faults[:5])}{rest}")


def _damaged(path: pathlib.Path, fault: str) -> ValueError:
    return ValueError(
        f"Expected a file as it was exported. Received: {path}, {fault}. It is damaged, or another program changed it: "
        "copy or export it again"
    )


def short_reason(error: BaseException, line: int = 0) -> str:
    """Returns a line of an error's message, the first by default, or its type if it has none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[line][:_LONGEST_REASON]


# Each of these returns a part of a file's metadata, or raises a ValueError that is the end of a sentence.


def checked_names(names: Any) -> tuple[str, ...]:
    """Returns the class names, texts."""
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError("it names its classes by other values than texts")
    return tuple(names)


def checked_scaling(mean: Any, std: Any, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean and the std of each channel, (channels,) float32."""
    values = []
    for name, numbers in (("mean", mean), ("std", std)):
        with np.errstate(all="ignore"):
            array = np.array(numbers if isinstance(numbers, list | tuple) else None, np.float32)
        if array.shape != (channels,) or not np.isfinite(array).all() or (name == "std" and not (array > 0).all()):
            raise ValueError(f"it has no {name} of {channels} channels: {numbers!r:.80}")
        values.append(array)
    return values[0], values[1]


def checked_thresholds(thresholds: Any, class_names: tuple[str, ...]) -> tuple[float, ...]:
    """Returns the thresholds of independent labels, one for each name and from 0 to 1; () without."""
    is_list = isinstance(thresholds, list | tuple) and all(isinstance(value, float | int) for value in thresholds)
    if not is_list or len(thresholds) not in (0, len(class_names)) or not all(0 <= value <= 1 for value in thresholds):
        raise ValueError(f"it has other thresholds than one from 0 to 1 for each label: {thresholds!r:.80}")
    return tuple(map(float, thresholds))


def checked_input(shape: Any) -> tuple[tuple[int, int], int]:
    """Returns the (height, width) and the channels of an input (batch, height, width, channels)."""
    sides = list(shape)
    if len(sides) != 4 or not all(isinstance(side, int | np.integer) and side > 0 for side in sides[1:]):
        raise ValueError(f"it has an input of shape {sides}, expected (batch, height, width, channels)")
    return (int(sides[1]), int(sides[2])), int(sides[3])


def checked_pixels(pixels: Any, size: tuple[int, int], channels: int) -> np.ndarray:
    """Returns images (images, height, width, channels) of a file's input size."""
    pixels = np.asarray(pixels)
    if pixels.shape[1:] != (*size, channels) and len(pixels):
        shape = f"(images, {size[0]}, {size[1]}, {channels})"
        raise ValueError(f"Expected pixels of shape {shape}. Received: shape {pixels.shape}")
    return pixels
