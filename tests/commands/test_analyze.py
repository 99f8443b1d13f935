import re

import keras
import numpy as np
import pytest
from PIL import Image

import keras_vit
from keras_vit.commands.analyze import analyze
from keras_vit.commands.image_model import open_model


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
