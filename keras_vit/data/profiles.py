"""Converts the colours of an embedded ICC profile, such as that of Display P3, to sRGB."""

import functools
import io
from typing import Any

import numpy as np
from PIL import Image

_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # colour space of a profile -> Pillow's mode
_SPACES = {"CMYK": {"CMYK"}, **dict.fromkeys(("1", "L", "LA"), {"GRAY", "RGB"})}  # mode -> spaces; of others, RGB
_CACHED = 16  # profiles; one of CMYK has half a megabyte


def profile_fault(profile: bytes | None, mode: str) -> str:
    """Returns why a profile cannot be used for an image; "" if it can.

    Args:
        profile: an ICC profile; None if the file has a part of one.
        mode: that of the image in its file, in Pillow's words.
    """
    space, _ = _transform(profile or b"")
    if space in _spaces(mode):
        return ""
    kind = f"is for {space} images" if space else "is damaged"
    return f"its colour profile {kind} and not applied: the colours are read as sRGB"


def to_srgb(image: Image.Image, profile: bytes, mode: str) -> Image.Image:
    """Converts an image to sRGB by the profile of its file, with the perceptual intent, as browsers do.

    Args:
        image: "RGB", "RGBA" (the transparency stays) or "CMYK", of 8 bits a channel.
        profile: an ICC profile.
        mode: that of the image in its file.

    Returns:
        The image in sRGB; as it is, if its profile is that of sRGB or has a `profile_fault`.
    """
    space, transform = _transform(profile)
    if transform is None or space not in _spaces(mode):
        return image
    colours = image.convert("RGB") if image.mode == "RGBA" else image
    converted: Image.Image = transform.apply(colours.getchannel(0) if space == "GRAY" else colours)
    if image.mode == "RGBA":
        converted.putalpha(image.getchannel("A"))
    return converted


def changes_colours(profile: bytes, mode: str) -> bool:
    """Returns whether `to_srgb` changes an image."""
    space, transform = _transform(profile)
    return transform is not None and space in _spaces(mode)


def _spaces(mode: str) -> set[str]:
    return _SPACES.get(mode, {"RGB"})


@functools.lru_cache(_CACHED)
def _transform(profile: bytes) -> tuple[str, Any]:
    """Returns the colour space of a profile, "" if it is damaged, and what converts it to sRGB, None if nothing has to.

    The profile of sRGB exists in many versions. One that changes no colour by more than a level is taken for it.
    """
    from PIL import ImageCms  # most images have no profile

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        if space not in _MODES:
            return space, None
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        # lcms takes grey levels from a table of a few, unless NOOPTIMIZE is set; it is as fast without.
        exact = ImageCms.Flags.NOOPTIMIZE if space == "GRAY" else ImageCms.Flags.NONE
        transform = ImageCms.ImageCmsTransform(source, srgb, _MODES[space], "RGB", flags=exact)
    except (OSError, ValueError, ImageCms.PyCMSError):
        return "", None
    if space == "CMYK":
        return space, transform
    levels = np.arange(0, 256, 15).astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(len(levels), -1, 3)
    swatches = Image.fromarray(grid if space == "RGB" else levels[None])
    change = np.asarray(transform.apply(swatches), int) - np.asarray(swatches.convert("RGB"))
    return space, transform if np.abs(change).max() > 1 else None
