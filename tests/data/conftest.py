import io

import numpy as np
import pytest
from PIL import Image


def image(number: int, format: str = "PNG", size: tuple[int, int] = (7, 5), **options) -> bytes:
    """An image of its own for every number."""
    pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, **options)
    return file.getvalue()


@pytest.fixture(name="image")
def _image():
    return image


@pytest.fixture
def write(tmp_path):
    """Writes {path: bytes, or a number for an image, or None for a folder} below a folder named flowers."""
    root = tmp_path / "flowers"
    root.mkdir()

    def write(files: dict):
        for name, content in files.items():
            path = root / name
            (path if content is None else path.parent).mkdir(parents=True, exist_ok=True)
            if content is not None:
                path.write_bytes(content if isinstance(content, bytes) else image(content))
        return root

    return write
