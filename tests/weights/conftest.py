import numpy as np
import pytest


@pytest.fixture
def save(tmp_path):
    """Writes {name: array} as an .npz file and returns its path."""

    def save(arrays, name="checkpoint.npz"):
        np.savez(tmp_path / name, **arrays)
        return tmp_path / name

    return save
