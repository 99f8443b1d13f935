"""Models built inside others, next to others, in mixed precision, and from files."""

import keras
import numpy as np
import pytest

import keras_vit

CLASSES = 10
ARGUMENTS = {"input_shape": (32, 32, 3), "classes": CLASSES}
POLICIES = {"mixed_bfloat16": ("bfloat16", 0.05), "mixed_float16": ("float16", 0.01)}  # compute type, relative error


@pytest.fixture(scope="module")
def variant(oracle):
    return keras_vit.Variant(*oracle.SIZES)


@pytest.fixture(scope="module")
def arrays(oracle):
    return oracle.checkpoint(classes=CLASSES)


@pytest.fixture(scope="module")
def weights(arrays, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "checkpoint.npz"
    np.savez(path, **arrays)
    return str(path)


@pytest.fixture(scope="module")
def images(oracle):
    return oracle.made_images(32, 32)


@pytest.fixture(scope="module")
def expected(variant, weights, images):
    return np.asarray(keras_vit.build(variant, weights=weights, **ARGUMENTS)(images))


def test_on_an_input_of_the_callers(variant, weights, images, expected):
    inputs = keras.Input((32, 32, 3), name="mine")
    model = keras_vit.build(variant, input_tensor=inputs, weights=weights, classes=CLASSES)
    assert model.inputs[0] is inputs
    np.testing.assert_allclose(model(images), expected, atol=1e-6)


def test_on_a_layer_of_the_callers_only_the_vit_is_loaded(variant, arrays, weights, images, expected):
    inputs = keras.Input((32, 32, 1))
    # Named like one of ours: loading must not take it for that.
    convolution = keras.layers.Conv2D(3, 1, name="norm_in", kernel_initializer="ones", bias_initializer="zeros")
    model = keras_vit.build(variant, input_tensor=convolution(inputs), weights=weights, classes=CLASSES)
    assert model.inputs[0] is inputs
    assert len(model.weights) == 2 + len(arrays)
    np.testing.assert_array_equal(convolution.kernel, np.ones((1, 1, 1, 3)))
    grey = images[..., :1]
    plain = keras_vit.build(variant, weights=weights, **ARGUMENTS)
    np.testing.assert_allclose(model(grey), plain(np.repeat(grey, 3, axis=-1)), atol=1e-6)


def test_an_input_tensor_of_another_type_or_shape(variant, images):
    with pytest.raises(ValueError, match="Received: .*ndarray"):
        keras_vit.build(variant, input_tensor=images)
    with pytest.raises(ValueError, match=r"input_shape=\(32, 64, 3\), input_tensor of \(32, 32, 3\)"):
        keras_vit.build(variant, input_tensor=keras.Input((32, 32, 3)), input_shape=(32, 64, 3))


def two_towers(variant, weights, inputs):
    """Returns a model of two towers, the first with the weights, the second with others."""
    names = [f"tower_{i}" for i in range(2)]
    towers = [
        keras_vit.build(variant, input_tensor=inputs[-i], weights=path, classes=CLASSES, name=name)
        for i, (name, path) in enumerate(zip(names, (weights, None)))
    ]
    towers[1].get_layer("head").kernel.assign(np.ones((variant.hidden_size, CLASSES)))
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], [tower.output for tower in towers]), towers


@pytest.mark.parametrize("ending, count", [(".keras", 2), (".h5", 1)])
def test_two_named_towers_in_one_graph(variant, weights, images, expected, tmp_path, count, ending):
    inputs = [keras.Input((32, 32, 3), name=f"input_{i}") for i in range(count)]
    model, towers = two_towers(variant, weights, inputs)
    second = images if count == 1 else images[::-1]
    entry = images if count == 1 else [images, second]
    outputs = model(entry)
    np.testing.assert_allclose(outputs[0], expected, atol=1e-6)
    np.testing.assert_allclose(outputs[1], towers[1](second), atol=1e-6)
    path = tmp_path / f"model{ending}"
    model.save(path)
    again = keras.saving.load_model(path, compile=False)
    for ours, theirs in zip(outputs, again(entry)):
        np.testing.assert_array_equal(ours, theirs)
    tower = again.get_layer("tower_1")
    assert tower.get_layer("block_00").attention.query.kernel.path.endswith("block_00/attention/query/kernel")
    keras_vit.load_weights(tower, weights)
    np.testing.assert_allclose(again(entry)[1], towers[0](second), atol=1e-6)


def test_a_model_with_two_encoders_is_refused(variant, weights, images):
    model, _ = two_towers(variant, weights, [keras.Input((32, 32, 3))])
    for work in (
        lambda: keras_vit.load_weights(model, weights),
        lambda: keras_vit.features(model, "block_00"),
        lambda: keras_vit.analysis.attention_maps(model, images),
    ):
        with pytest.raises(ValueError, match="one encoder"):
            work()


def test_a_named_tower_is_a_model_like_the_others(variant, weights, images, expected, tmp_path):
    tower = keras_vit.build(
        variant, input_tensor=keras.Input((32, 32, 3)), weights=weights, classes=CLASSES, name="tower"
    )
    assert tower.name == "tower" and tower.get_layer("head").units == CLASSES
    with pytest.raises(ValueError, match="nowhere"):
        tower.get_layer("nowhere")
    alone = keras_vit.build(variant, **ARGUMENTS)
    tower.save_weights(tmp_path / "tower.weights.h5")
    keras_vit.load_weights(alone, tmp_path / "tower.weights.h5")
    np.testing.assert_allclose(alone(images), expected, atol=1e-6)
    alone.save_weights(tmp_path / "alone.weights.h5")
    keras_vit.load_weights(tower, tmp_path / "alone.weights.h5")
    keras_vit.save_checkpoint(tower, tmp_path / "tower.npz")
    np.testing.assert_allclose(keras_vit.load(tmp_path / "tower.npz")(images), expected, atol=1e-6)
    assert keras_vit.representation(tower).predict(images, verbose=0).shape == (len(images), variant.hidden_size)
    assert keras_vit.features(tower, "block_00").output_shape[-1] == variant.hidden_size
    assert keras_vit.resize(tower, 48).get_layer("tower").input_shape[1:3] == (48, 48)


class Wrapper(keras.layers.Layer):
    """Builds its ViT when it is built, so that the weights' paths begin with the wrapper's name."""

    def __init__(self, variant, weights, **kwargs):
        super().__init__(**kwargs)
        self.arguments = variant, weights

    def build(self, input_shape):
        variant, weights = self.arguments
        self.vit = keras_vit.build(variant, weights=weights, input_shape=input_shape[1:], classes=CLASSES)

    def call(self, images):
        return self.vit(images)


@pytest.mark.parametrize("name", ["wrapper", "encoder", "attention", "norm"])
def test_inside_the_build_of_a_layer_weights_load_too(variant, weights, images, expected, name):
    layer = Wrapper(variant, weights, name=name)
    np.testing.assert_allclose(layer(images), expected, atol=1e-6)
    assert all(weight.path.startswith(f"{name}/") for weight in layer.vit.weights)


def test_two_models_side_by_side_share_nothing(variant, weights, images, expected):
    one, other = (keras_vit.build(variant, **ARGUMENTS, name=name) for name in ("one", "other"))
    before = [np.asarray(weight) for weight in one.weights]
    loaded = keras_vit.build(variant, weights=weights, **ARGUMENTS)
    other.set_weights([np.ones(weight.shape) for weight in other.weights])
    for weight, array in zip(one.weights, before):
        np.testing.assert_array_equal(weight, array)
    np.testing.assert_allclose(loaded(images), expected, atol=1e-6)
    inputs = keras.Input((32, 32, 3))
    joined = keras.Model(inputs, keras.layers.Add()([loaded(inputs), one(inputs)]))
    np.testing.assert_allclose(joined(images), expected + np.asarray(one(images)), atol=1e-6)


@pytest.fixture
def policy(request):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("policy", POLICIES, indirect=True)
@pytest.mark.parametrize("pooling", ["token", "gap", "map", "none"])
def test_mixed_precision(policy, pooling, oracle, variant, tmp_path, images):
    compute, error = POLICIES[policy]
    weights = None
    if pooling != "map":
        weights = tmp_path / "checkpoint.npz"
        np.savez(weights, **oracle.checkpoint(pooling=pooling))
    model = keras_vit.build(variant, weights=weights, pooling=pooling, **ARGUMENTS)
    assert {weight.dtype for weight in model.weights} == {"float32"}
    for name in ("patches", "encoder", "block_02", "norm"):
        assert model.get_layer(name).compute_dtype == compute
        assert model.get_layer(name).output.dtype == compute
    for name in ("head", "predictions"):
        assert model.get_layer(name).compute_dtype == "float32"
    output = model(images)
    assert output.dtype == "float32"
    keras.config.set_dtype_policy("float32")
    full = keras_vit.build(variant, pooling=pooling, **ARGUMENTS)
    full.set_weights(model.get_weights())
    np.testing.assert_allclose(output, full(images), rtol=error)


def test_config_and_clone_rebuild_the_model(variant, weights, images, expected):
    model = keras_vit.build(variant, weights=weights, stochastic_depth=0.2, gelu="erf", **ARGUMENTS)
    for copy in (type(model).from_config(model.get_config()), keras.models.clone_model(model)):
        assert [weight.path for weight in copy.weights] == [weight.path for weight in model.weights]
        own = {"license": None}  # like class names, it is the model's, not the layers': Keras' clone has none
        assert copy.get_config() | own == model.get_config() | own
        copy.set_weights(model.get_weights())
        np.testing.assert_allclose(copy(images), model(images), atol=1e-6)
        assert copy.get_layer("block_02").skips[0].rate == 0.2


def test_save_weights_and_load_weights(variant, weights, images, expected, tmp_path):
    keras_vit.build(variant, weights=weights, **ARGUMENTS).save_weights(tmp_path / "model.weights.h5")
    model = keras_vit.build(variant, **ARGUMENTS)
    model.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_allclose(model(images), expected, atol=1e-6)


LOAD = """
import json, pathlib, sys
import numpy as np, keras, keras_vit
folder = pathlib.Path(sys.argv[1])
for path in sorted(folder.glob("*.keras")):
    model = keras.models.load_model(path)
    np.save(path.with_suffix(".npy"), model.predict_on_batch(np.load(folder / "images.npz")["images"]))
print(json.dumps([path.name for path in folder.glob("*.npy")]))
"""


@pytest.mark.soak
def test_a_saved_model_loads_in_a_new_process_after_only_import_keras_vit(run_warm, variant, images, tmp_path):
    keras.utils.set_random_seed(0)
    models = {
        pooling: keras_vit.build(
            variant,
            pooling=pooling,
            gelu=gelu,
            include_top=top,
            **(ARGUMENTS if top else ARGUMENTS | {"classes": None}),
        )
        for pooling, gelu, top in (("token", "tanh", True), ("gap", "erf", False), ("map", "erf", False))
    }
    kernel = np.random.default_rng(0).normal(size=models["token"].get_layer("head").kernel.shape)
    models["token"].get_layer("head").kernel.assign(kernel)
    for name, model in models.items():
        model.save(tmp_path / f"{name}.keras")
    np.savez(tmp_path / "images.npz", images=images)
    assert len(run_warm("-c", LOAD, tmp_path)) == len(models)
    for name, model in models.items():
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), model(images), atol=1e-6)
