import collections
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import keras_vit
from keras_vit.analysis import (
    attention_distance,
    attention_entropy,
    attention_relevance,
    attention_rollout,
    class_attention,
    nearest_neighbours,
    patch_attention,
    patch_tokens,
    stage_maps,
    token_colours,
)
from keras_vit.commands.analyze import MAX_IMAGES_SHOWN, analyze, analyze_pixels
from keras_vit.commands.image_model import open_model
from keras_vit.layers import Stem
from keras_vit.models.hooks import changed, layers_of


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder, paths = tmp_path_factory.mktemp("photos"), []
    for i in range(2):
        paths.append(folder / f"photo {i}.png")
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (30, 40, 3), dtype=np.uint8)).save(paths[-1])
    return paths


def sections(path):
    return re.findall(r'<section id="(\w+)"', path.read_text("utf-8"))


def test_a_checkpoint_with_two_images(photos, tmp_path):
    keras.utils.set_random_seed(0)
    model = keras_vit.build(keras_vit.Variant(4, 64, 2, 1, 11), input_shape=(12, 12, 3), classes=5)
    keras_vit.save_checkpoint(model, tmp_path / "own.npz")
    analyze(tmp_path / "own.npz", photos, tmp_path / "own.html", image_size=(12, 20))
    page = (tmp_path / "own.html").read_text("utf-8")
    assert sections(tmp_path / "own.html") == [
        *("attention", "maps", "heads", "filters", "positions", "neighbours", "model")
    ]
    assert "own: attention maps and features" in page and "12 × 20 pixels" in page and "photo 1.png" in page
    assert "relevance</span>" in page


def test_a_hybrid_of_the_users_own_without_a_class_token_and_one_image(photos, tmp_path):
    stem = keras_vit.ResNet((1,), (128,), 32)
    inner = keras_vit.build(
        keras_vit.Variant(1, 8, 1, 2, 11, stem=stem, pooling="gap"), input_shape=(32, 48, 3), include_top=False
    )
    images = keras.Input((32, 48, 3))
    x = keras.layers.GlobalAveragePooling1D()(inner(keras.layers.Rescaling(1 / 127.5, -1)(images)))
    keras.Model(images, keras.layers.Dense(3, activation="softmax")(x)).save(tmp_path / "a.keras")
    (tmp_path / "labels.txt").write_text("cat\ndog\nfish\n", "utf-8")
    analyze(tmp_path / "a.keras", photos[:1], tmp_path / "a.html")
    assert sections(tmp_path / "a.html") == ["attention", "maps", "heads", "filters", "positions", "stages", "model"]
    page = (tmp_path / "a.html").read_text("utf-8")
    assert "this model has no class token" in page and "stage1, receptive field 19 pixels" in page
    assert re.search(r"<b>(cat|dog|fish) \d+%</b>", page)


def test_the_page_has_the_figures_of_the_functions_and_runs_the_model_three_times(tmp_path):
    keras.utils.set_random_seed(0)
    stem = keras_vit.ResNet((1,), (128,), 32)
    build = keras_vit.build(keras_vit.Variant(1, 8, 2, 2, 11, stem=stem), input_shape=(16, 24, 3), classes=5)
    build.save(tmp_path / "model.keras")
    opened = open_model(tmp_path / "model.keras")
    model, count = opened.model, MAX_IMAGES_SHOWN + 2
    pixels = np.random.default_rng(0).integers(0, 256, (count, 16, 24, 3), np.uint8)
    runs = collections.Counter()

    def counted(layer, images):
        def note(images):
            runs.update(image.tobytes() for image in images)
            return images

        return tf.ensure_shape(tf.numpy_function(note, [images], images.dtype), images.shape)

    with changed(layers_of(model, Stem), "input", counted):
        analysis = analyze_pixels(opened, pixels, [f"{i}.png" for i in range(count)])
    images = opened.preprocess(pixels)
    assert [runs[image.tobytes()] for image in images] == [3] * MAX_IMAGES_SHOWN + [1] * 2

    shown = images[:MAX_IMAGES_SHOWN]
    expected = {
        "attention_maps": class_attention(model, shown),
        "patch_attention": patch_attention(model, shown),
        "rollout": attention_rollout(model, shown),
        "relevance": attention_relevance(model, shown),
        "token_colours": token_colours(patch_tokens(model, shown)),
    }
    for name, values in expected.items():
        for image, value in zip(analysis.images, values, strict=True):
            np.testing.assert_allclose(getattr(image, name), value, atol=1e-6)
    np.testing.assert_allclose(analysis.distances, attention_distance(model, images), rtol=1e-6)
    np.testing.assert_allclose(analysis.entropies, attention_entropy(model, images), rtol=1e-6)
    stages = stage_maps(model, shown)
    for i, image in enumerate(analysis.images):
        assert image.stage_maps.keys() == {"stem, receptive field 11 pixels", "stage1, receptive field 19 pixels"}
        for maps, stage in zip(image.stage_maps.values(), stages.values(), strict=True):
            np.testing.assert_allclose(maps[..., 0], stage[i].mean(axis=-1), atol=1e-6)
    order, cosines = nearest_neighbours(keras_vit.representation(model).predict(images, verbose=0), count=4)
    for i, image in enumerate(analysis.images):
        names, _, near = zip(*image.neighbours)
        assert names == tuple(f"{j}.png" for j in order[i])
        np.testing.assert_allclose(near, cosines[i], atol=1e-6)
    probabilities = opened.predict(pixels)["probabilities"]
    assert analysis.images[3].prediction == f"class {probabilities[3].argmax()} {probabilities[3].max():.0%}"


def test_a_bit_has_no_attention_to_show(photos, tmp_path):
    model = keras_vit.build(keras_vit.ResNet((1,), (128,), 32), input_shape=(32, 32, 3), classes=2)
    model.save(tmp_path / "bit.keras")
    analyze(tmp_path / "bit.keras", photos, tmp_path / "bit.html")
    assert sections(tmp_path / "bit.html") == ["filters", "stages", "neighbours", "model"]


def test_nothing_is_written_of_what_cannot_be_analyzed(photos, tmp_path):
    (tmp_path / "no.png").write_bytes(b"no image")
    keras_vit.build(keras_vit.Variant(4, 8, 1, 2, 11), input_shape=(8, 8, 3), classes=2).save(tmp_path / "a.keras")
    with pytest.raises(ValueError, match=r"(?s)Images cannot be read:.*no\.png.*gone\.png"):
        analyze(tmp_path / "a.keras", [tmp_path / "no.png", tmp_path / "gone.png"], tmp_path / "a.html")
    keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]).save(tmp_path / "b.keras")
    with pytest.raises(ValueError, match="Expected a model with keras_vit's layers"):
        analyze(tmp_path / "b.keras", photos, tmp_path / "a.html")
    assert not (tmp_path / "a.html").exists()


def test_a_model_is_opened_at_another_size(tmp_path):
    keras_vit.build(keras_vit.Variant(4, 8, 1, 2, 11), input_shape=(8, 8, 3), classes=2).save(tmp_path / "a.keras")
    assert open_model(tmp_path / "a.keras").image_size == (8, 8)
    larger = open_model(tmp_path / "a.keras", (12, 16))
    assert larger.image_size == (12, 16) and larger.class_names == ("class 0", "class 1")


def test_a_backend_without_gradients_is_refused(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "openvino")
    with pytest.raises(ValueError, match="computes gradients, one of .*Received: openvino"):
        analyze(tmp_path / "own.npz", photos, tmp_path / "own.html")
