"""The exported files on an emulated ARM core: `arm_setup.sh` says how."""

import os
import pathlib
import shutil
import subprocess

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.export import export_model
from keras_vit.export.proof_images import synthetic_images
from keras_vit.runtime.tflite import TFLiteFile

pytestmark = pytest.mark.arm

HERE = pathlib.Path(__file__).parent
QEMU = "qemu-aarch64-static"
# Always said: with qemu's own choice, a core with SVE, LiteRT 2.1 answers wrongly with weights of 8 bits.
CORE = "cortex-a76"
IMAGE_SIZE = (35, 49)
MODES = ("float32", "float16", "int8")


@pytest.fixture(scope="module")
def run_on_arm():
    """Runs a program with Python and LiteRT for ARM."""
    folder = pathlib.Path(os.environ.get("KERAS_VIT_ARM", "arm"))
    missing = [] if shutil.which(QEMU) else [f"{QEMU}, a program"]
    if not (folder / "site" / "ai_edge_litert").is_dir():
        missing.append(f"LiteRT for ARM in {folder}, by: tests/clients/arm_setup.sh {folder}")
    if missing:
        pytest.skip("an emulated ARM core needs " + "; ".join(missing))

    def run(*arguments):
        python = folder / "root/usr/bin/python3.11"
        command = [QEMU, "-cpu", CORE, "-L", folder / "root", python, *arguments]
        environment = {**os.environ, "PYTHONPATH": os.fspath(folder.resolve() / "site")}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr

    return run


def test_arm_answers_as_x86(run_on_arm, tmp_path):
    keras.utils.set_random_seed(0)
    variant = keras_vit.Variant(patch_size=7, hidden_size=64, num_layers=3, num_heads=2, mlp_dim=96)
    model = keras_vit.build(variant, input_shape=(*IMAGE_SIZE, 3), classes=5)
    model.get_layer("head").kernel.assign(np.random.default_rng(1).normal(size=(64, 5), scale=0.15))
    files = [item.file for item in export_model(model, tmp_path, [f"tflite-{mode}" for mode in MODES])]
    pixels = synthetic_images(IMAGE_SIZE, images=11)
    np.save(tmp_path / "pixels.npy", pixels)
    paths = [tmp_path / file for file in files]
    run_on_arm(HERE / "emulated.py", tmp_path / "pixels.npy", tmp_path / "arm.npz", *paths)
    here = [TFLiteFile(path).predict(pixels)["probabilities"] for path in paths]
    with np.load(tmp_path / "arm.npz") as result:
        arm = [result[file] for file in files]
    assert here[0].std(axis=0).min() > 0.05  # images are told apart
    np.testing.assert_allclose(arm[0], here[0], atol=1e-6, rtol=0)
    np.testing.assert_allclose(arm[1], here[1], atol=1e-6, rtol=0)
    # Kernels for weights of 8 bits round otherwise on each kind of core: apart, but none farther from the truth.
    errors = [np.abs(outputs - here[0]).mean() for outputs in (arm[2], here[2])]
    assert np.abs(arm[2] - here[2]).mean() < 5e-3 and errors[0] < 1.5 * errors[1], errors
    np.testing.assert_array_equal(arm[2].argmax(axis=1), here[2].argmax(axis=1))
