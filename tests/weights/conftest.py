import numpy as np
import pytest


@pytest.fixture
def every_fault(monkeypatch):
    """Lists every faulty member of a file, not the first five alone."""
    monkeypatch.setattr("keras_vit.weights.arrays.LISTED", 99)


@pytest.fixture
def save(tmp_path):
    """Writes {name: array} as an .npz file and returns its path."""

    def save(arrays, name="checkpoint.npz"):
        np.savez(tmp_path / name, **arrays)
        return tmp_path / name

    return save
