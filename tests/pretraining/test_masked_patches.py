import keras
import numpy as np
import pytest

from keras_vit.pretraining import MaskedPatches
from keras_vit.pretraining.targets import mean_colours


def numpy(x):
    return keras.ops.convert_to_numpy(x)


def test_of_the_corrupted_patches_80_percent_are_masked_10_another_and_10_themselves(make_task):
    task = make_task(MaskedPatches)
    assert (task.num_patches, task.num_masked, task.num_mask_tokens, task.num_swapped) == (35, 18, 14, 2)
    embeddings = np.random.default_rng(0).normal(size=(11, 35, 8)).astype("float32")
    order = numpy(task.random_order(11, training=True))
    result = numpy(task.corrupt(embeddings, order))
    for x, own, places in zip(result, embeddings, order):
        np.testing.assert_array_equal(x[places[:14]], np.tile(numpy(task.mask_token)[0], (14, 1)))
        for place in places[14:16]:
            (other,) = np.flatnonzero((own == x[place]).all(axis=1))
            assert other != place
        np.testing.assert_array_equal(x[places[16:]], own[places[16:]])


@pytest.mark.parametrize("number", [2, 3, 5, 17])
def test_the_parts_fit_into_few_patches(make_vit, number):
    task = MaskedPatches(make_vit(shape=(3, 3 * number, 3)))
    assert 1 <= task.num_mask_tokens and task.num_mask_tokens + task.num_swapped <= task.num_masked < number
    assert numpy(task(np.zeros((2, 3, 3 * number, 3), "float32"))).shape == (2, 2)


def test_the_loss_is_the_cross_entropy_of_the_mean_colours(make_task, images):
    task = make_task(MaskedPatches)
    order = task.random_order(11)
    logits = numpy(task.predict(images, order)).astype("float64")
    assert logits.shape == (11, 18, 512)
    targets = numpy(mean_colours(task.patches(images), task.pixels))
    targets = np.take_along_axis(targets, numpy(order)[:, :18], axis=1)
    likely = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    losses = -np.take_along_axis(likely, targets[:, :, None], axis=2)[:, :, 0]
    result = numpy(task(images))
    np.testing.assert_allclose(result[:, 0], losses.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(result[:, 1], (logits.argmax(axis=-1) == targets).mean(axis=1), rtol=1e-6)


def test_right_predictions_have_no_loss_and_show_the_colours(make_task, images):
    task = make_task(MaskedPatches)
    order, patches = task.random_order(11), task.patches(images)
    targets = np.take_along_axis(numpy(mean_colours(patches, task.pixels)), numpy(order)[:, :18], axis=1)
    sure = keras.ops.one_hot(targets, 512) * 50.0
    np.testing.assert_allclose(numpy(task.evaluate(patches, order, sure)), np.tile([0.0, 1.0], (11, 1)), atol=1e-6)
    _, predicted = task.reconstruct(patches, order, sure)
    np.testing.assert_array_equal(mean_colours(predicted, task.pixels), targets)


def test_a_new_head_gives_every_colour_the_same_odds(make_vit, images):
    result = numpy(MaskedPatches(make_vit())(images))
    np.testing.assert_allclose(result[:, 0], np.log(512), rtol=1e-5)


def test_grey_images_have_8_colours(make_vit):
    task = MaskedPatches(make_vit(shape=(6, 9, 1)))
    assert numpy(task(np.zeros((3, 6, 9, 1), "float32")))[:, 0] == pytest.approx(np.log(8), rel=1e-5)
    with pytest.raises(ValueError, match="1 to 4 channels"):
        MaskedPatches(make_vit(shape=(6, 9, 5)))
