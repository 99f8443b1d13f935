"""`keras-vit evaluate` on models that nobody trained: what is counted, not how good it is."""

import json
import pathlib
import re

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import keras_vit
from keras_vit.commands import cli
from keras_vit.commands import evaluate as evaluate_module
from keras_vit.commands.evaluate import evaluate
from keras_vit.imagenet import class_names
from keras_vit.training.recipe import Recipe

ROW = keras_vit.Variant(4, 12, 2, 2, 16)
CLASSES = [0, 1, 134, 207, 281, 999]  # of ImageNet; 134 shares its name, crane, with 517
DIGITS = pathlib.Path(__file__).parents[2] / "savedmodels" / "digits"


def command(*arguments):
    result = CliRunner().invoke(cli.main, ["evaluate", *map(str, arguments)])
    assert "Traceback" not in result.output
    return result


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_VIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """A model of the ImageNet classes, and images of six of them by wnid and by number, four each."""
    folder = tmp_path_factory.mktemp("imagenet")
    random = np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    model = keras_vit.build(ROW, classes=1000, input_shape=(12, 20, 3))
    model.save(folder / "model.keras")
    numbers = iter(random.permutation(24) + 1)
    pixels, labels = {}, {}
    for label in CLASSES:
        for number in (next(numbers) for _ in range(4)):
            pixels[number], labels[number] = random.integers(0, 256, (12, 20, 3), np.uint8), label
            for path in (folder / "wnid" / class_names()[label][0], folder / "number" / str(label)):
                path.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels[number]).save(path / f"ILSVRC2012_val_{number:08d}.png")
    in_order = range(1, 25)
    images = keras_vit.preprocess_input(np.stack([pixels[number] for number in in_order]))
    return folder, model, images, np.array([labels[number] for number in in_order])


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """A model of two classes with features alone and one with a head, and their images in parts and in one heap."""
    folder = tmp_path_factory.mktemp("colours")
    random = np.random.default_rng(1)
    for part, count in (("parts/train", 7), ("parts/test", 5), ("parts/val", 3), ("heap", 10)):
        for name, channel in (("blue", 2), ("red", 0)):
            (folder / part / name).mkdir(parents=True)
            for i in range(count):
                image = random.integers(0, 60, (13, 11, 3), np.uint8)
                image[..., channel] += 190
                Image.fromarray(image).save(folder / part / name / f"{i}.png")
    keras.utils.set_random_seed(0)
    for name, options in (("head", {"classes": 2}), ("features", {"include_top": False, "pooling": "token"})):
        (folder / name).mkdir()
        keras_vit.build(ROW, input_shape=(12, 20, 3), **options).save(folder / name / "model.keras")
    (folder / "head" / "labels.txt").write_text("blue\nred\n")
    return folder


def test_folders_of_imagenet_may_be_named_by_wnid(imagenet):
    folder, model, images, labels = imagenet
    evaluation = evaluate(folder / "model.keras", folder / "wnid")
    expected = model.predict(images, verbose=0)
    assert len(evaluation.class_names) == 1000
    assert evaluation.scores.accuracy == pytest.approx(np.mean(expected.argmax(axis=1) == labels))
    np.testing.assert_array_equal(np.flatnonzero(~np.isnan(evaluation.scores.per_class_accuracy)), CLASSES)


def test_flips_and_real_labels(imagenet, tmp_path):
    folder, model, images, labels = imagenet
    probabilities = (model.predict(images, verbose=0) + model.predict(images[:, :, ::-1], verbose=0)) / 2
    predicted = probabilities.argmax(axis=1)
    # Of each three images one has no label, one the model's class beside another, and one another.
    real = [[[], [5, int(label)], [(int(label) + 1) % 1000]][i % 3] for i, label in enumerate(predicted)]
    (tmp_path / "real.json").write_text(json.dumps(real))
    result = command(folder / "model.keras", folder / "wnid", "--flips", "--real", tmp_path / "real.json")
    assert "by ReaL labels, on 16 images: 50.00%" in result.output
    assert f"accuracy {np.mean(predicted == labels):.2%} on 24 images" in result.output
    assert "mirror image" in result.output


def test_a_list_restricts_the_choice_and_folders_may_be_named_by_number(imagenet, tmp_path):
    folder, model, images, labels = imagenet
    (tmp_path / "list.txt").write_text("n01440764\n1\ngolden_retriever\n281\n3\n")
    listed = [0, 1, 3, 207, 281]
    result = command(folder / "model.keras", folder / "number", "--classes", tmp_path / "list.txt")
    kept = np.isin(labels, listed)
    predicted = np.array(listed)[model.predict(images[kept], verbose=0)[:, listed].argmax(axis=1)]
    assert f"accuracy {np.mean(predicted == labels[kept]):.2%} on 16 images" in result.output
    assert "5 of the 1,000 classes of the model" in result.output and "8 images of other classes" in result.output


def test_faulty_lists_are_refused(imagenet, tmp_path):
    folder = imagenet[0]
    for content, words in (("n0144076\ngolden_retreiver", "(nearest: golden_retriever)"), ("crane", "134 and 517")):
        (tmp_path / "list.txt").write_text(content)
        result = command(folder / "model.keras", folder / "wnid", "--classes", tmp_path / "list.txt")
        assert result.exit_code == 2 and words in result.output
    (tmp_path / "real.json").write_text("[[1], [2]]")
    result = command(folder / "model.keras", folder / "wnid", "--real", tmp_path / "real.json")
    assert result.exit_code == 2 and "labels for 2, and 24 images" in result.output
    with pytest.raises(ValueError, match="one of real and classes"):
        evaluate(folder / "model.keras", folder / "wnid", real="real.json", classes="list.txt")


def test_a_number_names_no_class_where_classes_are_numbers_themselves(tmp_path):
    (tmp_path / "list.txt").write_text("3\n7\n12\n")
    with pytest.raises(ValueError, match="unknown classes: 12"):
        evaluate(DIGITS, classes=tmp_path / "list.txt")


def test_features_are_evaluated_together_and_computed_once(colours, cache, monkeypatch):
    arguments = (colours / "head", colours / "parts", "--few-shot", 1, "--few-shot", 5, "--knn", "--linear-probe")
    output = command(*arguments).output
    assert re.match(r"accuracy .* on 10 images, 95% interval \d", output.splitlines()[-7])
    assert re.match(r"balanced accuracy [\d.]+%, macro F1 [\d.]+%", output.splitlines()[-6])
    assert re.match(r"calibration error 0\.\d{4}", output.splitlines()[-5])
    assert "5-shot, a linear classifier, on 10 images: 100.00%" in output
    assert "14 nearest neighbours of 14, on 10 images: " in output
    assert "linear probe of 14, on 10 images: 100.00%" in output
    assert "20%" not in output
    assert len(list(cache.iterdir())) == 2
    monkeypatch.setattr(evaluate_module, "extract_features", None)
    again = command(*arguments).output
    assert again.splitlines()[-5:] == output.splitlines()[-5:]
    assert again.count(f"from {cache}") == 2


def test_a_heap_is_split(colours):
    evaluation = evaluate(colours / "head", colours / "heap", few_shot=(3,))
    assert len(evaluation.scores.labels) == 20  # the head learned from none of them
    assert list(evaluation.other_accuracies) == ["3-shot, a linear classifier, on 4 images"]
    assert "drawn with seed 0" in evaluation.notes[0]


def test_a_heap_that_is_too_small_is_refused(colours, tmp_path):
    for name in ("blue", "red"):
        (tmp_path / name).mkdir()
        for i in range(2):
            (tmp_path / name / f"{i}.png").symlink_to(colours / "heap" / name / f"{i}.png")
    with pytest.raises(ValueError, match="3 images or more of a class"):
        evaluate(colours / "features", tmp_path, knn=True)


def test_validation_images_stand_in_for_test_images(colours, tmp_path):
    (tmp_path / "train").symlink_to(colours / "parts" / "train")
    (tmp_path / "val").symlink_to(colours / "parts" / "val")
    evaluation = evaluate(colours / "features", tmp_path, few_shot=(3,))
    assert list(evaluation.other_accuracies) == ["3-shot, a linear classifier, on 6 images"]


def test_a_model_without_a_head(colours, tmp_path):
    evaluation = evaluate(colours / "features", colours / "parts", few_shot=(5,), knn=True)
    assert evaluation.scores is None and len(evaluation.other_accuracies) == 2
    assert (
        "the head is not evaluated: " in evaluation.text()
        and "returns features instead of classes" in evaluation.text()
    )
    with pytest.raises(ValueError, match=r"9 training images .* blue \(has 7\), red \(has 7\)"):
        evaluate(colours / "features", colours / "parts", few_shot=(9,))
    square = keras_vit.build(ROW, input_shape=(12, 12, 3), include_top=False, pooling="token")
    keras_vit.save_checkpoint(square, tmp_path / "m.npz")
    result = command(tmp_path / "m.npz", colours / "parts", "--few-shot", 5, "--image-size", 8, 12)
    assert "5-shot, a linear classifier, on 10 images: " in result.output
    result = command(tmp_path / "m.npz", colours / "parts", "--image-size", 8, 12)
    assert result.exit_code == 2 and "--few-shot, --knn and --linear-probe evaluate those" in result.output


def test_other_classes_than_the_heads_are_learned(imagenet, colours):
    result = command(imagenet[0] / "model.keras", colours / "parts", "--knn")
    assert "the head is not evaluated: " in result.output and "unknown classes: blue (nearest" in result.output
    assert "14 nearest neighbours" in result.output
    result = command(imagenet[0] / "model.keras", colours / "parts")
    assert result.exit_code == 2 and "unknown classes: blue (nearest" in result.output
    with pytest.raises(ValueError, match="unknown classes: blue"):
        evaluate(imagenet[0] / "model.keras", colours / "parts", knn=True, flips=True)


@pytest.mark.parametrize("option", [{"few_shot": (5,)}, {"knn": True}, {"linear_probe": True}, {"flips": True}])
def test_an_exported_file_has_no_features(option):
    with pytest.raises(ValueError, match="model_int8.tflite, an exported file"):
        evaluate(DIGITS / "model_int8.tflite", **option)


def test_the_size_of_an_exported_file_is_fixed():
    with pytest.raises(ValueError, match=r"image_size=\(8, 8\) for .*an exported file"):
        evaluate(DIGITS / "model_int8.tflite", image_size=(8, 8))


def test_a_page_with_confusion_and_reliability(colours, tmp_path):
    done = command(colours / "head", colours / "parts", "--knn", "--output", tmp_path / "page.html")
    assert done.exit_code == 0 and f"wrote {tmp_path / 'page.html'}" in done.output
    page = (tmp_path / "page.html").read_text("utf-8")
    assert re.findall(r'<section id="(\w+)"', page) == ["matrix", "classes", "calibration"]
    for name in ("calibration error", "95% interval", "balanced accuracy", "macro F1"):
        assert f"<dt>{name}</dt>" in page
    assert "nearest neighbours" in page


def test_a_page_of_features_alone(colours, tmp_path):
    assert command(colours / "features", colours / "heap", "--knn", "--output", tmp_path / "a.html").exit_code == 0
    page = (tmp_path / "a.html").read_text("utf-8")
    assert re.findall(r'<section id="(\w+)"', page) == ["settings"]


def test_training_images_among_those_of_a_run_are_noted(colours, monkeypatch):
    recipe = Recipe(data=str(colours / "heap"), variant=ROW, image_size=12)
    monkeypatch.setattr("keras_vit.commands.evaluate.recipe_beside", lambda path: recipe)
    (note,) = evaluate(colours / "head", colours / "heap").notes
    assert "trained on" in note
    assert evaluate(colours / "head", colours / "parts").notes == ()
