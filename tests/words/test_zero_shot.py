import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.models.description import describe_model
from keras_vit.words.zero_shot import TEMPLATES

LABELS = ["ripe mango", "unripe mango", "red dog"]


@pytest.fixture
def write(tmp_path, words, oracle):
    return lambda case: words.write(oracle, case, tmp_path / case)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def logits_of(model, images):
    head = model.get_layer("head")
    return keras.ops.convert_to_numpy(keras.Model(model.input, head.output)(images))


@pytest.mark.parametrize("case", ["clip", "siglip", "open_clip", "open_clip_siglip"])
def test_the_logits_are_the_similarities_of_the_checkpoint(case, write, words, oracle):
    folder, images = write(case), oracle.made_images(32, 32)
    encoder, tokens = keras_vit.text_encoder(folder), keras_vit.tokenizer(folder)
    template = "This is a photo of {}." if "siglip" in case else "a photo of a {}."
    text = keras.ops.convert_to_numpy(encoder(tokens([template.replace("{}", label) for label in LABELS])))
    expected = encoder.scale * unit(words.FILE[f"{case}/image"]) @ unit(text).T + (encoder.bias or 0)
    model = keras_vit.zero_shot(folder, LABELS)
    np.testing.assert_allclose(logits_of(model, images), expected, rtol=0, atol=2e-5)
    output = keras.ops.convert_to_numpy(model(images))
    np.testing.assert_allclose(output, keras.ops.convert_to_numpy(keras.ops.softmax(expected)), rtol=0, atol=2e-6)
    assert model.class_names == tuple(LABELS) and keras_vit.outputs_of(model) == "probabilities"


def test_the_embeddings_of_templates_are_averaged_at_length_1(write):
    folder, templates = write("clip"), ["a {}", "a photo of {}", "this is {}"]
    encoder, tokens = keras_vit.text_encoder(folder), keras_vit.tokenizer(folder)
    each = [unit(encoder.predict(tokens([text.replace("{}", one) for one in LABELS]), verbose=0)) for text in templates]
    model = keras_vit.zero_shot(folder, LABELS[:2], templates, LABELS[2])
    expected = encoder.scale * unit(np.mean(each, axis=0)).T
    np.testing.assert_allclose(model.get_layer("head").get_weights()[0], expected, rtol=0, atol=1e-6)
    assert model.class_names == tuple(LABELS)
    assert len(set(TEMPLATES["imagenet"])) == 10 and all(one.count("{}") == 1 for one in TEMPLATES["imagenet"])


@pytest.mark.parametrize("case", ["clip", "siglip"])
def test_the_model_is_an_ordinary_one(case, write, oracle, tmp_path):
    folder, images = write(case), oracle.made_images(32, 32)
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    tower, model = keras_vit.load(folder), keras_vit.zero_shot(folder, LABELS)
    assert model.license == tower.license and model.license.name == "cc-by-nc-4.0"
    assert model.count_params() == tower.count_params() + (tower.output_shape[-1] + 1) * len(LABELS)
    described = describe_model(model)
    assert described.variant.unit_embedding and described.classes == 3
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras_vit.load(tmp_path / "model.keras")(images), model(images))
    # Built again, with other outputs, from its weights alone.
    scores = keras_vit.load(tmp_path / "model.keras", classifier_activation="sigmoid")
    expected = keras.ops.sigmoid(logits_of(model, images))
    np.testing.assert_allclose(scores(images), expected, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="unit_embedding=True: no other project"):
        keras_vit.save_checkpoint(model, tmp_path / "hf", "hf")


def test_the_model_at_another_size_and_with_another_head(write, oracle, tmp_path):
    folder, images = write("clip"), oracle.made_images(48, 48)
    model = keras_vit.zero_shot(folder, LABELS)
    at_size = keras_vit.zero_shot(folder, LABELS, model=keras_vit.load(folder, input_shape=(48, 48, 3)))
    resized = keras_vit.resize(model, 48, "torch")
    np.testing.assert_allclose(at_size(images), resized(images), rtol=0, atol=1e-6)
    model.save(tmp_path / "model.keras")
    row = keras_vit.Variant(8, 32, 2, 4, 48)
    new = keras_vit.build(row, weights=tmp_path / "model.keras", new_head=True, classes=5)
    assert not {"unit_embedding", "projection"} & {layer.name for layer in new.layers}


@pytest.mark.parametrize(
    "message, arguments",
    {
        "two labels or more.*Received: ripe mango": (["ripe mango"],),
        "labels to be a list of texts": ("ripe mango",),
        "none of them blank": (["ripe mango", " "],),
        "class names|different": (["ripe mango", "ripe mango"],),
        "the same tokens for 'cat' and 'Cat'": (["cat", "Cat", "dog"],),
        "Expected {} in place of a label.*Received: a photo": (LABELS, ["a photo"]),
        "templates to be 'imagenet', or a list": (LABELS, "imagenot"),
    }.items(),
    ids=lambda value: str(value)[:20],
)
def test_what_a_careless_user_passes(message, arguments, write):
    with pytest.raises(ValueError, match=message):
        keras_vit.zero_shot(write("clip"), *arguments)


def test_an_image_tower_that_does_not_fit(write, words):
    folder = write("clip")
    classifier = keras_vit.build(keras_vit.Variant(8, 32, 1, 2, 64), input_shape=(32, 32, 3), classes=16)
    with pytest.raises(ValueError, match=r"embeddings \(batch, 16\)"):
        keras_vit.zero_shot(folder, LABELS, model=classifier)


def test_a_label_that_is_cut_off_is_said(write, caplog):
    keras_vit.zero_shot(write("clip"), ["red dog", " ".join(["cat"] * 9)])
    assert "texts are cut off after 12 tokens" in caplog.text
