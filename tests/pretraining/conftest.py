import json
import pathlib

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_vit
from keras_vit.pretraining import MaskedAutoencoder, MaskedPatches

FAMILIES = np.load(pathlib.Path(__file__).parents[1] / "weights/families.npz")
SHAPE = (15, 21, 3)  # 5 x 7 patches
OWN = keras_vit.Variant(patch_size=3, hidden_size=8, num_layers=2, num_heads=2, mlp_dim=12, pooling="gap")
DISTILLED = keras_vit.Variant(3, 8, 2, 2, 12, pooling="token", distillation_token=True, register_tokens=3)


def _with_noise(layer, seed):
    """Gives every weight of a layer values that are none of an initializer's."""
    rng = np.random.default_rng(seed)
    for weight in layer.weights:
        weight.assign(rng.normal(0, 0.3, weight.shape))
    return layer


@pytest.fixture
def make_vit():
    """A function that builds a small transformer without a head, its weights noise."""

    def make(variant=OWN, shape=SHAPE, pooling=None):
        vit = keras_vit.build(variant, include_top=False, pooling=pooling or variant.pooling, input_shape=shape)
        return _with_noise(vit, 1)

    return make


@pytest.fixture
def make_task(make_vit):
    """A function that builds a pretext task around a small transformer, its weights noise."""

    def make(kind, vit=None, **settings):
        keras.utils.set_random_seed(0)
        settings |= {"decoder_layers": 1} if kind is MaskedAutoencoder else {}
        task = kind(vit or make_vit(), name="task", **settings)
        task.build((None, *task.vit.input.shape[1:]))
        return _with_noise(task, 3)

    return make


@pytest.fixture(params=[MaskedPatches, MaskedAutoencoder])
def kind(request):
    return request.param


@pytest.fixture
def task(kind, make_task):
    return make_task(kind)


@pytest.fixture
def task_of_many_tokens(kind, make_vit, make_task):
    """A task whose transformer has a class token, a distillation token and registers in front of the patches."""
    return make_task(kind, make_vit(DISTILLED))


@pytest.fixture
def published(tmp_path, oracle):
    """A checkpoint of transformers' MAE, with the numbers of tests/oracle.py, as mae.npz was computed with."""
    folder = tmp_path / "published"
    folder.mkdir()
    arrays = {name: oracle.tensor(name, shape) for name, shape in map(oracle.parse, FAMILIES["files/hf_mae_32"])}
    save_file(arrays, folder / "model.safetensors")
    config = json.loads(str(FAMILIES["configs/hf_mae_32"])) | {"mask_ratio": 0.75}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def images():
    return np.random.default_rng(2).uniform(-1, 1, (11, *SHAPE)).astype("float32")
