"""MediaPipe's ImageClassifier and LiteRT on exported files, as they are."""

import contextlib
import io
import os
import pathlib

import keras
import numpy as np
import pytest
import sklearn.datasets
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

import keras_vit
from keras_vit.analysis.attention import attention_rollout
from keras_vit.export import export_model
from keras_vit.export.serving import Serving, make_serving
from keras_vit.export.tflite.conversion import converted, with_metadata
from keras_vit.runtime.images import CORNER, resized, upright
from keras_vit.runtime.tflite import TFLiteFile

try:
    import mediapipe
except ImportError as error:  # the package, or a library that it loads
    if os.environ.get("KERAS_VIT_CLIENTS") == "1":
        raise
    pytest.skip(f"needs mediapipe and what `make clients` installs: {error}", allow_module_level=True)
from mediapipe.tasks import python as tasks  # noqa: E402
from mediapipe.tasks.python import vision  # noqa: E402
from mediapipe.tasks.python.vision.core.image_processing_options import ImageProcessingOptions  # noqa: E402

IMAGE_SIZE = (35, 49)
NAMES = ("Bär", "Kühe & Öchsle", "dog", "élan", "狐")
BY_COLOUR = keras_vit.Pixels(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
ALIKE = keras_vit.Pixels(mean=(0.45, 0.45, 0.45), std=(0.22, 0.22, 0.22))
# By the type of a file's input: how the model's images are scaled, the files' other outputs, and their modes.
FILES = {
    "uint8": (BY_COLOUR, (), ("float32", "float16", "int8")),
    "float32": (BY_COLOUR, ("features", "rollout"), ("float32",)),
    "scaled": (ALIKE, (), ("int8",)),
}
CASES = [(input_type, mode) for input_type, (*_, modes) in FILES.items() for mode in modes]
# Weights of 16 bits move probabilities by some 1e-4 from the model's; from LiteRT's own answer for the same file,
# float products added up in another order move them by 1e-6, other 8-bit kernels by some 1e-3.
FROM_KERAS = {"float32": 1e-5, "float16": 1e-3}
FROM_LITERT = {"float32": 1e-5, "float16": 1e-5, "int8": 5e-3}
# The turns, in degrees, that bring images of an EXIF orientation upright.
TURNS = {3: 180, 6: 90, 8: 270}
# Of no side that 64 divides: there, places lie just between two that OpenCV's warp knows, and either may be taken.
GRID = (35, 24)


def classifier(pixels):
    keras.utils.set_random_seed(0)
    variant = keras_vit.Variant(patch_size=7, hidden_size=64, num_layers=2, num_heads=2, mlp_dim=96)
    model = keras_vit.build(variant, input_shape=(*IMAGE_SIZE, 3), classes=len(NAMES))
    model.pixels = pixels
    random = np.random.default_rng(1)
    model.get_layer("head").kernel.assign(random.normal(size=(64, len(NAMES)), scale=0.15))
    return model


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """{input type: (model, {mode: path})}."""
    made = {}
    for input_type, (pixels, extra_outputs, modes) in FILES.items():
        model, folder = classifier(pixels), tmp_path_factory.mktemp(input_type)
        targets = [f"tflite-{mode}" for mode in modes]
        # Images are made up: what is tested is other clients, not the proof.
        result = export_model(
            model, folder, targets, class_names=NAMES, input_type=input_type, extra_outputs=extra_outputs
        )
        made[input_type] = model, {mode: folder / item.file for mode, item in zip(modes, result)}
    return made


@pytest.fixture(scope="module")
def made_images():
    """Photographs and parts of them, uint8 pixels, of the model's size, larger and smaller."""
    folder = pathlib.Path(sklearn.datasets.__file__).parent / "images"
    flower, china = (np.asarray(Image.open(folder / f"{name}.jpg")) for name in ("flower", "china"))
    (height, width), random = IMAGE_SIZE, np.random.default_rng(2)
    exact = [
        image[y : y + height, x : x + width]
        for image in (flower, china)
        for y, x in random.integers(0, (427 - height, 640 - width), (4, 2))
    ]
    return {"exact": exact, "others": [flower, china[:301, 100:290], china[60:79, 300:323], flower[::3, ::7]]}


@contextlib.contextmanager
def opened(file, **settings):
    """An ImageClassifier of a file's bytes, as a function of pixels and the degrees to turn them by."""
    options = vision.ImageClassifierOptions(base_options=tasks.BaseOptions(model_asset_buffer=file), **settings)
    with vision.ImageClassifier.create_from_options(options) as classifier:

        def classify(pixels, degrees=0):
            image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(pixels))
            return classifier.classify(image, ImageProcessingOptions(rotation_degrees=degrees)).classifications

        yield classify


def by_index(head):
    scores = np.zeros(len(head.categories), np.float32)
    scores[[item.index for item in head.categories]] = [item.score for item in head.categories]
    return scores


@pytest.mark.parametrize(("input_type", "mode"), CASES)
def test_mediapipe_gives_labels_and_scores_as_keras_does(input_type, mode, exported, made_images):
    model, paths = exported[input_type]
    client = TFLiteFile(paths[mode])
    with opened(paths[mode].read_bytes()) as classify:
        for kind, given in made_images.items():
            pixels = np.stack([resized(image, IMAGE_SIZE, CORNER) for image in given])
            expected = model.predict(keras_vit.preprocess_input(pixels, model.pixels), verbose=0)
            litert = client.predict(pixels)["probabilities"]
            assert len(set(expected.argmax(axis=1))) > 1 and expected.std(axis=0).min() > 0.01  # they are told apart
            for i, image in enumerate(given):
                head = classify(image)[0]
                assert [item.category_name for item in head.categories] == [
                    NAMES[k] for k in by_index(head).argsort(kind="stable")[::-1]
                ]
                np.testing.assert_allclose(by_index(head), litert[i], atol=FROM_LITERT[mode], rtol=0, err_msg=kind)
                if mode in FROM_KERAS:
                    assert head.categories[0].category_name == NAMES[expected[i].argmax()]
                    np.testing.assert_allclose(by_index(head), expected[i], atol=FROM_KERAS[mode], rtol=0)


def test_mediapipe_returns_all_labels_above_its_score_threshold(exported, made_images, tmp_path):
    model, _ = exported["uint8"]
    scores = keras.layers.Dense(len(NAMES), "sigmoid", name="scores")
    labels = keras_vit.VisionModel(
        model.input, scores(model.get_layer("head").input), class_names=NAMES, thresholds=[0.1, 0.2, 0.3, 0.4, 0.5]
    )
    keras_vit.export.tflite(labels, tmp_path / "labels.tflite", "float32")
    pixels = made_images["exact"][0]
    expected = labels.predict(keras_vit.preprocess_input(pixels[None], model.pixels), verbose=0)[0]
    limit = float(np.sort(expected)[1] + 1e-4)
    for settings, count in (({}, 5), ({"score_threshold": limit}, 3)):
        with opened((tmp_path / "labels.tflite").read_bytes(), **settings) as classify:
            (head,) = classify(pixels)
        found = {item.category_name: item.score for item in head.categories}
        assert len(found) == count and sum(expected) > 1.5  # independent: they do not sum to 1
        assert found == pytest.approx({name: expected[NAMES.index(name)] for name in found}, abs=1e-5)


def test_mediapipe_gives_the_other_outputs_as_heads_without_labels(exported, made_images):
    model, paths = exported["float32"]
    with opened(paths["float32"].read_bytes()) as classify:
        heads = classify(made_images["exact"][0])
    assert [head.head_name for head in heads] == ["probabilities", "features", "rollout"]
    assert {item.category_name for head in heads[1:] for item in head.categories} == {None}
    scaled = keras_vit.preprocess_input(made_images["exact"][0][None], model.pixels)
    features = keras.Model(model.inputs, model.get_layer("head").input).predict(scaled, verbose=0)[0]
    np.testing.assert_allclose(by_index(heads[1]), features, atol=1e-4)
    np.testing.assert_allclose(by_index(heads[2]), attention_rollout(model, scaled)[0].ravel(), atol=1e-5)


def test_mediapipe_gives_the_margin_of_a_model_that_rejects_as_a_second_head(exported, made_images, tmp_path):
    model, paths = exported["uint8"]
    reject = keras_vit.evaluation.Reject(share=0.1, threshold=0.4)
    rejecting = keras_vit.VisionModel(model.input, model.output, class_names=NAMES, reject=reject)
    keras_vit.export.tflite(rejecting, tmp_path / "reject.tflite", "float32")
    margins = []
    with (
        opened((tmp_path / "reject.tflite").read_bytes()) as classify,
        opened(paths["float32"].read_bytes()) as classify_all,
    ):
        for image in made_images["exact"]:
            first, second = classify(image)
            assert (first.head_name, second.head_name) == ("probabilities", "known")
            np.testing.assert_allclose(by_index(first), by_index(classify_all(image)[0]), atol=1e-6)
            (margin,) = second.categories
            margins.append(margin.score)
            assert margin.score == pytest.approx(by_index(first).max() - 0.4, abs=1e-6)
    assert min(margins) < 0 < max(margins)


def test_colours_that_are_scaled_differently_are_so_inside_the_file(exported):
    """MediaPipe refuses a mean or std that is not the same for all colours."""
    model, _ = exported["scaled"]
    serving = make_serving(model, NAMES, input_type="scaled", pixels=BY_COLOUR)
    assert len({*serving.client_scaling.mean}) == len({*serving.client_scaling.std}) == 1
    pixels = np.random.default_rng(0).integers(0, 256, (3, *serving.image_size, 3), np.uint8)
    expected = model.predict(keras_vit.preprocess_input(pixels, BY_COLOUR), verbose=0)
    with opened(with_metadata(converted(serving.model), serving)) as classify:
        for image, output in zip(pixels, expected):
            np.testing.assert_allclose(by_index(classify(image)[0]), output, atol=1e-5)


@pytest.fixture(scope="module")
def see():
    """What MediaPipe hands to a model of size GRID: an image's pixels, which the model gives as its classes."""
    images = keras.Input((*GRID, 3), dtype="uint8", name="images")
    pixels = keras.layers.Reshape((np.prod(GRID) * 3,))(keras.ops.cast(images, "float32"))
    model = keras.Model(images, {"probabilities": pixels})
    names = tuple(f"pixel {i}" for i in range(np.prod(GRID) * 3))
    facts = dict.fromkeys(("name", "description", "version", "author", "license"), "")
    serving = Serving(model, model, "uint8", keras_vit.Pixels(), names, facts)
    with opened(with_metadata(converted(model), serving)) as classify:
        yield lambda pixels, degrees=0: by_index(classify(pixels, degrees)[0]).reshape(*GRID, 3)


SIZES = [(1, 1), (7, 5), (17, 24), (32, 32), (35, 24), (24, 35), (61, 29), (70, 48), (240, 301), (1000, 703)]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_clients_resize_is_mediapipes(size, see):
    image = np.random.default_rng(3).integers(0, 256, (*size, 3), dtype=np.uint8)
    np.testing.assert_array_equal(see(image), resized(image, GRID, CORNER))


def with_exif(pixels, orientation):
    exif, stream = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(stream, "PNG", exif=exif)
    return stream.getvalue()


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("size", [(35, 37), (61, 43), (240, 301)], ids=str)
def test_mediapipe_turns_images_when_told_and_then_is_a_pixel_off(size, orientation, see, tmp_path):
    image = np.random.default_rng(4).integers(0, 256, (*size, 3), dtype=np.uint8)
    (tmp_path / "turned.png").write_bytes(with_exif(image, orientation))
    # It reads the file as the camera held it.
    read = mediapipe.Image.create_from_file(str(tmp_path / "turned.png"))
    np.testing.assert_array_equal(read.numpy_view()[..., :3], image)
    turned = upright(tmp_path / "turned.png")
    np.testing.assert_array_equal(see(turned), resized(turned, GRID, CORNER))
    # From the corner where the image's first pixel came to lie, the row or column before it is outside.
    before = [(int(orientation in (3, 8)), 0), (int(orientation in (3, 6)), 0), (0, 0)]
    late = np.pad(turned, before, mode="edge")[: turned.shape[0], : turned.shape[1]]
    np.testing.assert_array_equal(see(image, TURNS[orientation]), resized(late, GRID, CORNER))


@pytest.mark.parametrize("mode", FILES["uint8"][-1])
def test_litert_answers_alike_with_one_thread_and_with_two(mode, exported, made_images):
    path = exported["uint8"][1][mode]
    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    assert "DELEGATE" in {operator["op_name"] for operator in interpreter._get_ops_details()}  # XNNPACK has taken it
    one, two = (TFLiteFile(path, threads).predict(made_images["exact"])["probabilities"] for threads in (1, 2))
    np.testing.assert_allclose(one, two, atol=1e-6, rtol=0)
