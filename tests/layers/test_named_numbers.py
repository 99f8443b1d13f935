import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.layers import NamedNumbers
from keras_vit.models.interface import in_dtype, numbers_of


@pytest.fixture(scope="module")
def model():
    vit = keras_vit.build(
        keras_vit.Variant(8, 16, 1, 2, 24), input_shape=(16, 24, 3), classes=3, classifier_activation=None
    )
    numbers = NamedNumbers(("z", "a b", "m"), (1e6, 0, -3), (1e3, 1, 0.5), dtype="float32", name="numbers")
    return keras_vit.VisionModel(vit.input, numbers(vit.output))


def test_it_returns_numbers_in_their_units_by_name(model):
    images = np.random.default_rng(0).normal(0, 1, (5, 16, 24, 3)).astype("float32")
    logits = keras.Model(model.inputs, model.get_layer("head").output).predict(images, verbose=0)
    outputs = model.predict(images, verbose=0)
    assert {name: values.shape for name, values in outputs.items()} == dict.fromkeys(("z", "a b", "m"), (5, 1))
    np.testing.assert_allclose(outputs["z"][:, 0], 1e6 + 1e3 * logits[:, 0], rtol=1e-6)
    np.testing.assert_allclose(outputs["a b"][:, 0], logits[:, 1], rtol=1e-6)
    np.testing.assert_allclose(outputs["m"][:, 0], -3 + 0.5 * logits[:, 2], rtol=1e-5)


def test_the_model_is_one_of_numbers_also_saved_resized_and_in_bfloat16(model, tmp_path):
    model.save(tmp_path / "model.keras")
    for other in (
        keras.saving.load_model(tmp_path / "model.keras"),
        keras_vit.resize(model, (32, 24)),
        in_dtype(model, "bfloat16"),
    ):
        assert keras_vit.outputs_of(other) == "numbers" and {*numbers_of(other)} == {"z", "a b", "m"}
        assert other.get_layer("numbers").std == (1e3, 1, 0.5)
        assert all(keras.backend.standardize_dtype(tensor.dtype) == "float32" for tensor in other.outputs)


@pytest.mark.parametrize(
    "arguments",
    [((), (), ()), (("a", "a"), (0, 0), (1, 1)), (("a",), (0, 0), (1,)), (("a",), (0,), (0,))],
)
def test_names_without_a_unit_are_refused(arguments):
    with pytest.raises(ValueError, match="a mean and a std above 0 for each"):
        NamedNumbers(*arguments)
