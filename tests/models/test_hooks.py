import threading

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.layers import Attention, TransformerBlock
from keras_vit.models.hooks import Watch, around_calls, changed, head_of, layers_of, outer_layers_of

IMAGES = np.random.default_rng(0).uniform(-1, 1, (3, 8, 12, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def vit():
    keras.utils.set_random_seed(0)
    model = keras_vit.build(keras_vit.Variant(4, 8, 2, 2, 11), input_shape=(8, 12, 3), classes=5)
    draw = np.random.default_rng(0)
    model.set_weights([weight + draw.normal(0, 0.2, weight.shape) for weight in model.get_weights()])
    return model


def numpy(values):
    return [keras.ops.convert_to_numpy(value) for value in values]


def test_layers_come_in_the_order_of_the_model_however_deep(vit):
    outer = keras.Sequential([keras.Input((8, 12, 3)), keras.layers.Rescaling(2.0), keras.Sequential([vit])])
    names = [layer.name for layer in layers_of(outer, keras.layers.Dense)]
    inside = ["query", "key", "value", "out", "hidden", "out"]
    assert names == ["projection", *inside, *inside, "head"]
    assert layers_of(outer, TransformerBlock) == layers_of(vit, TransformerBlock)


def test_what_a_layer_computes_comes_in_order_and_in_parts(vit):
    blocks = layers_of(vit, TransformerBlock)
    first, second = Watch(vit, blocks).predict(IMAGES, batch_size=2, verbose=0)
    expected = keras.Model(vit.input, [block.output for block in blocks]).predict(IMAGES, verbose=0)
    # Relative, too: TensorFlow fuses other operations in each of the two programs.
    np.testing.assert_allclose(first, expected[0], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(second, expected[1], rtol=1e-6, atol=1e-6)


def test_inputs_and_outputs_of_ours_and_of_ordinary_layers(vit):
    block, norm = vit.get_layer("block_01"), vit.get_layer("norm")
    for layer in (block, norm):
        for point, tensor in (("input", layer.input), ("output", layer.output)):
            (result,) = numpy(Watch(vit, [layer], point)(IMAGES))
            np.testing.assert_allclose(result, keras.Model(vit.input, tensor)(IMAGES), atol=1e-6)


def test_read_receives_the_layer_and_the_value(vit):
    block = layers_of(vit, TransformerBlock)[1]
    (result,) = numpy(Watch(vit, [block], read=lambda layer, value: 2 * value if layer is block else None)(IMAGES))
    np.testing.assert_allclose(result, 2 * keras.Model(vit.input, block.output)(IMAGES), atol=1e-5)


@pytest.mark.parametrize("wrap", ["clone", "nested", "sequential", "mixed", "saved"])
def test_however_a_model_is_composed(vit, wrap, tmp_path):
    model, atol = vit, 1e-6
    if wrap in ("clone", "mixed"):
        dtype = {"dtype": "mixed_float16"} if wrap == "mixed" else {}
        model = keras.models.clone_model(
            vit, clone_function=lambda layer: type(layer).from_config({**layer.get_config(), **dtype})
        )
        model.set_weights(vit.get_weights())
        atol = 1e-2 if dtype else 1e-6
    if wrap == "nested":
        images = keras.Input((8, 12, 3))
        model = keras.Model(images, keras.layers.Softmax()(vit(images)))
    if wrap == "sequential":
        model = keras.Sequential([keras.Input((8, 12, 3)), keras.Sequential([vit])])
    if wrap == "saved":
        vit.save(tmp_path / "model.keras")
        model = keras.saving.load_model(tmp_path / "model.keras")
    attention = layers_of(model, Attention)
    result = numpy(Watch(model, attention, "probabilities")(IMAGES))
    expected = numpy(Watch(vit, layers_of(vit, Attention), "probabilities")(IMAGES))
    assert len(result) == 2
    for ours, theirs in zip(result, expected):
        np.testing.assert_allclose(ours, theirs, atol=atol)


def test_the_model_is_left_as_it_was(vit):
    layers = layers_of(vit, keras.layers.Layer)
    before, names = vit(IMAGES), [set(vars(layer)) for layer in layers]
    Watch(vit, layers)(IMAGES)
    Watch(vit, layers_of(vit, Attention), "probabilities")(IMAGES)
    assert [set(vars(layer)) for layer in layers] == names
    np.testing.assert_array_equal(vit(IMAGES), before)


@pytest.mark.parametrize("layer, point", [("block_00", "output"), ("norm", "output"), ("norm", "input")])
def test_a_value_is_changed_for_a_while_whatever_happens(vit, layer, point):
    layer, before = vit.get_layer(layer), vit(IMAGES)
    with pytest.raises(RuntimeError, match="inside"), changed([layer], point, lambda layer, value: 0 * value):
        assert np.abs(vit(IMAGES) - before).max() > 1e-3
        raise RuntimeError("inside")
    np.testing.assert_array_equal(vit(IMAGES), before)


def test_functions_are_set_one_around_the_other(vit):
    norm, block, seen = vit.get_layer("norm"), vit.get_layer("block_00"), []

    def note(name):
        return lambda layer, value: seen.append(f"{name} {layer.name}") or value

    with changed([norm, block], "output", note("first")), changed([block, norm], "output", note("second")):
        vit(IMAGES)
    assert seen == ["first block_00", "second block_00", "first norm", "second norm"]


def test_a_layer_computes_something_else(vit):
    norm = vit.get_layer("norm")
    mine = norm.call = lambda tokens: tokens + 1  # of the instance, as a user may have set it
    try:
        with around_calls([norm], lambda layer, call, tokens: 2 * call(tokens)):
            np.testing.assert_array_equal(norm(np.ones((1, 2, 8), "float32")), 4.0)
        assert vars(norm)["call"] is mine
    finally:
        del norm.call


def test_two_threads_look_into_a_model_at_once(vit):
    """Each waits in the middle of its own pass until the others are there; a fourth just runs the model."""
    expected = {}
    blocks, norm = layers_of(vit, TransformerBlock), vit.get_layer("norm")
    kinds = [([block.attention for block in blocks], "probabilities"), (blocks, "output"), ([norm], "input")]
    kinds = [*kinds, *kinds]
    for i, (layers, point) in enumerate(kinds):
        expected[i] = numpy(Watch(vit, layers, point)(IMAGES + i))
    plain, barrier, result = vit(IMAGES), threading.Barrier(len(kinds) + 1, timeout=60), {}

    def look(i):
        layers, point = kinds[i]

        def read(layer, value):
            if layer is layers[0]:
                barrier.wait()
            return value * (i + 1)

        result[i] = numpy(Watch(vit, layers, point, read)(IMAGES + i))

    def run():
        barrier.wait()
        result["plain"] = keras.ops.convert_to_numpy(vit(IMAGES))

    threads = [threading.Thread(target=look, args=(i,)) for i in range(len(kinds))] + [threading.Thread(target=run)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_allclose(result["plain"], plain, atol=1e-6)
    for i, values in expected.items():
        assert len(result[i]) == len(values)
        for ours, theirs in zip(result[i], values):
            np.testing.assert_allclose(ours, theirs * (i + 1), rtol=1e-5, atol=1e-5)
    assert "call" not in vars(norm)


def test_the_head_is_the_last_dense_layer_that_is_no_part_of_ours(vit):
    assert head_of(vit) is vit.get_layer("head")
    own = keras.Sequential([keras.Input((8, 12, 3)), vit, keras.layers.Dense(2, name="own"), keras.layers.Softmax()])
    assert head_of(own).name == "own"
    shape = {"input_shape": (8, 12, 3), "include_top": False, "pooling": "map"}
    headless = keras_vit.build(keras_vit.Variant(4, 8, 1, 2, 11), representation_size=6, **shape)
    assert headless.output_shape == (None, 6)
    assert head_of(headless) is None
    norms = outer_layers_of(headless, keras.layers.LayerNormalization)
    assert [layer.name for layer in norms] == ["norm"]
