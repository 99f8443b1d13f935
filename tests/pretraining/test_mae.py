import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import keras_vit
from keras_vit.layers import TransformerBlock
from keras_vit.models.hooks import changed, few_patches, layers_of
from keras_vit.pretraining import MaskedAutoencoder


def numpy(x):
    return keras.ops.convert_to_numpy(x)


def targets_in_numpy(task, images, order):
    hidden = np.take_along_axis(numpy(task.patches(images)), numpy(order)[:, : task.num_masked, None], axis=1)
    mean = hidden.mean(axis=-1, keepdims=True)
    return (hidden - mean) / np.sqrt(hidden.var(axis=-1, keepdims=True) + 1e-6)


def test_the_loss_is_the_squared_error_on_normalised_pixels_of_hidden_patches(make_task, images):
    task = make_task(MaskedAutoencoder)
    order = task.random_order(11)
    predictions = numpy(task.predict(images, order))
    assert predictions.shape == (11, 26, 27)
    targets = targets_in_numpy(task, images, order)
    losses = np.square(predictions - targets).mean(axis=(1, 2))
    result = numpy(task(images))
    np.testing.assert_allclose(result[:, 0], losses, rtol=1e-4)
    explained = 1 - losses / np.square(targets).mean(axis=(1, 2))
    np.testing.assert_allclose(result[:, 1], np.clip(explained, 0, 1), atol=1e-4)


def test_a_perfect_prediction_explains_all_and_reconstructs_the_image(make_task, images):
    task = make_task(MaskedAutoencoder)
    order = task.random_order(11)
    targets = targets_in_numpy(task, images, order)
    result = numpy(task.evaluate(task.patches(images), order, targets))
    np.testing.assert_allclose(result, np.tile([0.0, 1.0], (11, 1)), atol=1e-5)
    task.predict = lambda *_, **__: keras.ops.convert_to_tensor(targets)
    true, _, predicted = task.reconstructions(images)
    np.testing.assert_array_equal(predicted, true)
    half = numpy(task.evaluate(task.patches(images), order, 0.5 * targets))
    np.testing.assert_allclose(half[:, 1], 0.75, atol=1e-4)


def test_a_flat_image_breaks_nothing(make_task):
    result = numpy(make_task(MaskedAutoencoder)(np.full((3, 15, 21, 3), 0.25, "float32")))
    assert np.isfinite(result).all() and (result[:, 1] == 0).all()


def test_the_blocks_see_the_visible_patches_alone(make_vit, make_task, images, monkeypatch):
    row = keras_vit.Variant(3, 8, 2, 2, 12, register_tokens=2)
    task, seen = make_task(MaskedAutoencoder, make_vit(row)), []
    call = TransformerBlock.call
    monkeypatch.setattr(
        TransformerBlock, "call", lambda layer, x, **k: seen.append((layer.name, x.shape[1])) or call(layer, x, **k)
    )
    task(images)
    assert seen == [("block_00", 3 + 9), ("block_01", 3 + 9), ("decoder_block_00", 3 + 35)]


def test_positions_of_hidden_patches_have_no_gradient(make_task, images):
    task = make_task(MaskedAutoencoder)
    order = task.random_order(1)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(task(images[:1], training=False)[:, 0])
    gradient = tape.gradient(loss, task.encoder.position_embedding.value)
    moved = np.flatnonzero(np.abs(gradient.numpy()[0]).max(axis=-1))
    np.testing.assert_array_equal(moved, np.sort(numpy(order)[0, 26:]))


def test_the_decoder_is_half_as_wide_with_heads_of_about_32(make_vit):
    task = MaskedAutoencoder(make_vit(), decoder_layers=3)
    assert (task.decoder_size, len(task.decoder)) == (4, 3)
    heads = {
        size: MaskedAutoencoder(make_vit(), decoder_size=size).decoder[0].attention.num_heads for size in (12, 112)
    }
    assert heads == {12: 1, 112: 2}


@pytest.mark.parametrize(
    "options",
    [
        {"positions": "learned-2d", "positions_at": "layers"},
        {"positions": "learned", "positions_at": "shared"},
        {"positions": "relative"},
        {"attention": "axial"},
        {"attention_window": 2},
    ],
)
def test_blocks_that_need_all_patches_are_refused(make_vit, options):
    row = keras_vit.Variant(3, 8, 1, 2, 12, pooling="gap", **options)
    with pytest.raises(ValueError, match="positions at the stem and full attention"):
        MaskedAutoencoder(make_vit(row))


def test_a_width_without_positions_in_two_dimensions_is_refused(make_vit):
    with pytest.raises(ValueError, match="decoder_size=6"):
        MaskedAutoencoder(make_vit(), decoder_size=6)


@pytest.mark.parametrize(
    "options",
    [
        {"positions": "none"},
        {"positions": "sincos-2d"},
        {"positions": "learned-2d"},
        {"rotary": keras_vit.Rotary(), "register_tokens": 2, "pooling": "token"},
        {"relative_bias": True, "class_token": True},
    ],
)
def test_any_positions_of_single_patches_will_do(make_vit, images, options):
    row = keras_vit.Variant(3, 8, 1, 2, 12, **{"pooling": "gap", **options})
    assert numpy(MaskedAutoencoder(make_vit(row), decoder_layers=1)(images)).shape == (11, 2)


@pytest.mark.parametrize("options", [{"rotary": keras_vit.Rotary(1e4, (7, 7), 1)}, {"relative_bias": True}])
def test_positions_in_the_attention_are_those_of_the_visible_patches(make_vit, make_task, images, options):
    """With all but one patch visible, in any order, the model sees almost what it does without a mask."""
    vit = make_vit(keras_vit.Variant(3, 8, 2, 2, 12, positions="none", **options))
    task = make_task(MaskedAutoencoder, vit, mask_ratio=0.01)
    order = np.array([[34, *np.random.default_rng(0).permutation(34)]])
    hidden_last = np.ones((1, 1, 1, 36), "float32")
    hidden_last[..., -1] = 0

    def ignore(layer, weights):
        weights = weights * hidden_last
        return weights / ops.sum(weights, axis=-1, keepdims=True)

    with changed([block.attention for block in layers_of(vit, TransformerBlock)], "probabilities", ignore):
        expected = numpy(task.tokens(images[:1]))
    with few_patches(task.tokens, order[:, 1:]):
        seen = numpy(task.tokens(images[:1]))
    np.testing.assert_allclose(seen[:, 0], expected[:, 0], atol=1e-5)
    np.testing.assert_allclose(seen[:, 1:], expected[:, 1:][:, order[0, 1:]], atol=1e-5)
