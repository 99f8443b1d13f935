import dataclasses
import io
import json
import math
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_vit.export.proof import (
    MAX_LEVEL_DIFFERENCE,
    Agreement,
    Reference,
    compare,
    expected_levels,
    latency_and_memory,
    read_proof,
    violations,
    write_proof,
)
from keras_vit.export.tflite.conversion import converted
from keras_vit.preprocessing import OFFICIAL_PIXELS
from keras_vit.runtime.images import CENTER, CORNER, resized, upright

CLASSES = ("ash", "elm", "fir")
SIZE = (2, 5)


class Model:
    """A model with a row of probabilities for each image: image i is plain grey of level i."""

    name, own_pixels, inputs = "table", OFFICIAL_PIXELS, [keras.KerasTensor((None, *SIZE, 3))]

    def __init__(self, *rows):
        self.rows = np.float32(rows)

    def predict_on_batch(self, scaled):
        return self.rows[np.rint((scaled[:, 0, 0, 0] + 1) * 127.5).astype(int)]


class File:
    """An opened file, with a row of probabilities for each image."""

    path, class_names, image_size = pathlib.Path(__file__), CLASSES, SIZE

    def __init__(self, *rows, **outputs):
        self.rows, self.others = np.float32(rows), outputs
        self.outputs = ("probabilities", *outputs)

    def predict(self, pixels):
        levels = np.stack(list(pixels))[:, 0, 0, 0]
        return {"probabilities": self.rows[levels], **{name: np.float32(rows) for name, rows in self.others.items()}}

    def read(self, image):
        return np.asarray(Image.open(io.BytesIO(image)).resize(SIZE[::-1]))

    def predict_encoded(self, images):
        return self.predict(map(self.read, images))


def pixels(number):
    """Returns the first images, (number, height, width, 3)."""
    return np.broadcast_to(np.arange(number, dtype=np.uint8)[:, None, None, None], (number, *SIZE, 3))


def png(levels):
    file = io.BytesIO()
    Image.fromarray(np.uint8(levels)).save(file, "PNG")
    return file.getvalue()


def plain(level, size=(7, 11)):
    return png(np.full((*size, 3), level))


def agreement(file, expected, *, labels=None, images=None, client_resize="corner", **options):
    reference = Reference(Model(*expected), CLASSES, pixels(len(expected)) if images is None else images, labels)
    return compare(file, reference, name="a.tflite", target="t", client_resize=client_resize, **options)


EXPECTED = [(0.5, 0.25, 0.25), (0.2, 0.3, 0.5)]


def test_the_figures_by_hand():
    result = agreement(File((0.5, 0.25, 0.25), (0.3, 0.3, 0.4)), EXPECTED, labels=np.array([0, 1]))
    assert (result.file, result.target, result.images) == ("a.tflite", "t", 2)
    assert result.bytes == pathlib.Path(__file__).stat().st_size
    expected = {"max_difference": 0.1, "mean_difference": 0.2 / 6, "percentile_95": 0.095}
    assert result.probabilities == pytest.approx(expected, rel=1e-5)
    # ln(3/2), 0 and ln(4/5) less their mean, 0.060774.
    assert result.logits["max_difference"] == pytest.approx(0.344692, abs=1e-5)
    assert result.logits["mean_difference"] == pytest.approx((0.344692 + 0.060774 + 0.283918) / 6, abs=1e-5)
    assert result.logits["cosine"] == pytest.approx((1 + 0.897243) / 2, abs=1e-5)
    assert (result.top1_agreement, result.accuracy, result.keras_accuracy) == (1.0, 0.5, 0.5)
    assert result.from_encoded == {} and result.extra_outputs == {}


def test_the_figures_of_independent_labels_by_hand():
    expected = [(0.5, 0.25, 0.9), (0.2, 0.8, 0.1)]
    given = File((0.5, 0.35, 0.9), (0.2, 0.8, 0.2))
    given.outputs = ("probabilities",)
    reference = Reference(
        Model(*expected), CLASSES, pixels(2), np.array([[1, 0, 1], [0, 1, 1]]), thresholds=(0.4, 0.3, 0.5)
    )
    result = compare(given, reference, name="a.tflite", target="t", tie=0.06)
    assert (result.labels, result.top1_agreement, result.top1_agreement_or_tie) == (3, 5 / 6, 1.0)
    assert result.accuracy == 2 * 3 / (4 + 4) and result.keras_accuracy == 2 * 3 / (3 + 4)
    # From 0.1 to 0.2: ln(1/4) - ln(1/9).
    assert result.logits["max_difference"] == pytest.approx(0.810930, abs=1e-5)


def test_a_constant_in_all_logits_is_no_difference():
    given = np.float32(EXPECTED) * 0.7  # not normalized: log-probabilities of another constant
    assert agreement(File(*given), EXPECTED).logits["max_difference"] == pytest.approx(0, abs=1e-6)
    assert agreement(File(*given), EXPECTED).probabilities["max_difference"] == pytest.approx(0.15, abs=1e-6)


def test_there_is_no_accuracy_without_labels():
    result = agreement(File(*EXPECTED), EXPECTED)
    assert result.accuracy is None and result.keras_accuracy is None


@pytest.mark.parametrize("tie, counts", [(0.0, 0.5), (0.01, 0.5), (0.03, 1.0)])
def test_a_tie_counts_up_to_its_bound(tie, counts):
    """The model scores the file's first class 0.02 less than its own."""
    result = agreement(File((0.35, 0.45, 0.2), (0.1, 0.1, 0.8)), [(0.4, 0.38, 0.22), (0.1, 0.1, 0.8)], tie=tie)
    assert (result.top1_agreement, result.top1_agreement_or_tie) == (0.5, counts)


def test_a_nan_is_outside_of_every_bound():
    result = agreement(File((0.5, 0.25, 0.25), (math.nan, 0.3, 0.4)), EXPECTED)
    assert math.isnan(result.logits["max_difference"]) and math.isnan(result.probabilities["max_difference"])
    assert violations(result, {"logits.max_difference": (0, math.inf)}) == [
        "logits.max_difference is nan, expected 0 to inf"
    ]


def test_a_probability_of_nothing_is_no_infinity():
    result = agreement(File((1, 0, 0), (0.2, 0.3, 0.5)), [(1, 0, 0), (0.2, 0.3, 0.5)])
    assert result.logits["max_difference"] == 0.0 and result.logits["cosine"] == pytest.approx(1)


def test_other_outputs_in_parts_of_the_largest_number():
    file = File(*EXPECTED, features=[(1.0, -4.0), (9.0, 9.0)])
    result = agreement(file, EXPECTED, extra_outputs={"features": np.float32([[1.2, -4.0]])})
    assert result.extra_outputs == pytest.approx({"features": 0.05}, rel=1e-5)
    assert violations(result, {"extra_outputs.features": (0, 1e-3)}) and not violations(
        result, {"extra_outputs.rollout": (0, 1e-3)}
    )


@pytest.mark.parametrize(
    "names, words",
    [
        (("ash", "fir", "elm"), "the 3 classes .*names 3 other classes; the first that differs: 'fir', expected 'elm'"),
        (("ash", "elm"), "the 3 classes .*names 2 other"),
        ((*CLASSES, "oak"), "the 3 classes .*names 4 other"),
        (("Ash", "elm", "fir"), "'Ash', expected 'ash'"),
    ],
)
def test_other_classes_are_refused(names, words):
    file = File(*EXPECTED)
    file.class_names = names
    with pytest.raises(ValueError, match=words):
        agreement(file, EXPECTED)


def test_bounds_hold_at_their_ends_and_only_for_what_was_measured():
    result = agreement(File(*EXPECTED), EXPECTED)
    assert violations(result, {"top1_agreement": (1.0, 1.0), "from_encoded.max_difference": (0.0, 0.0)}) == []
    assert violations(result, {"top1_agreement": (0.0, 0.99)}) == ["top1_agreement is 1, expected 0 to 0.99"]


# From encoded images


def test_the_part_of_the_client_and_that_of_the_file():
    """The client darkens the second of two images to the first, and the file scores the first 0.1 less."""

    class Dark(File):
        def read(self, image):
            return super().read(image) * np.uint8(0)

    file = Dark((0.4, 0.35, 0.25), (0.2, 0.3, 0.5))
    result = agreement(file, EXPECTED, images=[plain(0), plain(1)]).from_encoded
    assert result["images"] == 2
    assert (result["top1_agreement"], result["resize_top1_agreement"], result["file_top1_agreement_or_tie"]) == (
        0.5,
        0.5,
        1.0,
    )
    assert result["resize_max_difference"] == pytest.approx(0.3)  # the model on the client's pixels: 0.5 for 0.2
    assert result["file_max_difference"] == pytest.approx(0.1)
    assert result["max_difference"] == pytest.approx(0.25)  # the file's 0.25 of the third class, for 0.5
    assert (
        result["preprocessing_agreement"] == 0.5
    )  # a grey level all over the image is more than two decoders differ by


@pytest.mark.parametrize("off, alike", [(0, 1.0), (MAX_LEVEL_DIFFERENCE, 1.0), (MAX_LEVEL_DIFFERENCE + 1, 0.5)])
def test_a_client_with_other_pixels_is_refused_whatever_the_target(off, alike):
    class Off(File):
        def read(self, image):
            pixels = np.array(super().read(image))
            pixels[1, 3, 2] += off * (pixels[1, 3, 2] == 1)  # one number of one image
            return pixels

    result = agreement(Off(*EXPECTED * 3), EXPECTED * 3, images=[plain(0), plain(1)])
    assert result.from_encoded["preprocessing_agreement"] == alike
    refused = violations(result, {})
    assert refused == ([] if alike == 1 else ["from_encoded.preprocessing_agreement is 0.5, expected 0.99 to 1"])
    assert violations(result, {"from_encoded.preprocessing_agreement": (0.0, 1.0)}) == []


@pytest.mark.parametrize("client_resize, origin", [("corner", CORNER), ("center", CENTER)])
def test_each_kind_of_file_has_a_resize_of_its_own(client_resize, origin):
    class Resized(File):
        def read(self, image):
            return resized(upright(image), SIZE, self.origin)

    slope = png(np.broadcast_to(np.arange(0, 220, 20)[None, :, None], (7, 11, 3)))
    alike = {}
    for Resized.origin in (CORNER, CENTER):
        result = agreement(Resized(*EXPECTED * 128), EXPECTED * 128, images=[slope], client_resize=client_resize)
        alike[Resized.origin] = result.from_encoded["preprocessing_agreement"]
    assert alike == {CORNER: float(origin == CORNER), CENTER: float(origin == CENTER)}


@pytest.mark.parametrize("from_center, levels", [(False, [0, 50, 100, 100]), (True, [0, 25, 75, 100])])
def test_expected_levels_by_hand(from_center, levels):
    """Positions that the client represents exactly: each pixel has one grey level."""
    image = np.broadcast_to(np.uint8([0, 100])[None, :, None], (1, 2, 3))
    for result in expected_levels(image, (1, 4), from_center):
        np.testing.assert_array_equal(result, np.broadcast_to(np.uint8(levels)[None, :, None], (1, 4, 3)))


def test_expected_levels_by_hand_at_a_position_known_to_half_a_step():
    """2 pixels to 3: the position 2/3 is off by 1/64 at most, of a slope of 192 levels by 3; 4/3 is behind the end."""
    image = np.broadcast_to(np.uint8([0, 192])[None, :, None], (1, 2, 3))
    lowest, highest = expected_levels(image, (1, 3), False)
    assert lowest[0, :, 0].tolist() == [0, 125, 192] and highest[0, :, 0].tolist() == [0, 131, 192]


def test_expected_levels_by_hand_where_a_pixel_lies_within_reach():
    """3 pixels to 193: position 64 is 192/193, nearest to the black pixel 1, where the grey levels turn."""
    image = np.broadcast_to(np.uint8([255, 0, 255])[None, :, None], (1, 3, 3))
    lowest, highest = expected_levels(image, (1, 193), False)
    reach, off = 255 / 64, 255 * (64 * 3 / 193 - 1)
    assert (lowest[0, 64, 0], highest[0, 64, 0]) == (0, math.floor(reach - off + 0.5))


@pytest.mark.parametrize("size", [(5, 3), (2, 29), (31, 13), (1, 1), (7, 23), (14, 22)])
@pytest.mark.parametrize("from_center", [False, True])
def test_expected_levels_hold_what_tensorflow_makes(size, from_center):
    """An implementation that is neither the client's nor the proof's."""
    image = np.random.default_rng(0).integers(0, 256, (7, 11, 3), np.uint8)
    right = tf.raw_ops.ResizeBilinear(images=np.float32(image[None]), size=size, half_pixel_centers=from_center)[0]
    lowest, highest = expected_levels(image, size, from_center)
    assert (lowest <= np.rint(right)).all() and (np.rint(right) <= highest).all()
    assert (highest - lowest).max() <= (1 if from_center else 2 * 2 * 255 / 64 + 1)  # two axes, both ways


# proof.json


def figures(name):
    return Agreement(name, "t", 10, 2, {"max_difference": 0.5}, {}, {}, 1.0, 1.0, None, None)


def test_the_proof_of_files_that_are_there_stays(tmp_path):
    for name in ("a", "b", "gone"):
        (tmp_path / name).write_text("weights")
    write_proof(tmp_path, [figures("a"), figures("b"), figures("gone")])
    (tmp_path / "gone").unlink()
    newer = dataclasses.replace(figures("b"), bytes=20)
    write_proof(tmp_path, [newer])
    result = {item["file"]: item for item in read_proof(tmp_path)}
    assert set(result) == {"a", "b"}
    assert (result["a"]["bytes"], result["b"]["bytes"]) == (10, 20)
    assert result["b"] == json.loads(json.dumps(dataclasses.asdict(newer)))
    assert set(json.loads((tmp_path / "proof.json").read_text("utf-8"))) == {"files"}


def test_there_need_be_no_proof(tmp_path):
    assert read_proof(tmp_path) == []


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"files": 3}', '{"files": {"a": 3}}'])
def test_a_broken_proof_is_named_and_stays_as_it_was(tmp_path, text):
    (tmp_path / "proof.json").write_text(text)
    with pytest.raises(ValueError, match="proof.json cannot be read.*Remove it to export again"):
        write_proof(tmp_path, [figures("a")])
    assert (tmp_path / "proof.json").read_text() == text


# Latency and memory


def test_latency_and_memory_of_a_file(tmp_path):
    images = keras.Input((2, 3, 3), name="images")
    model = keras.Model(images, {"probabilities": keras.layers.Softmax()(keras.layers.Flatten()(images))})
    path = tmp_path / "model.tflite"
    path.write_bytes(converted(model))
    result = latency_and_memory(path)
    assert set(result) == {"latency_ms", "peak_memory"} and set(result["latency_ms"]) == {"1", "2"}
    assert all(0 < value < 1000 for value in result["latency_ms"].values())
    assert result["peak_memory"] is None or result["peak_memory"] > 1e6  # a Python and LiteRT, in bytes


def test_what_cannot_be_run_is_named(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"no model")
    with pytest.raises(ValueError, match="Received: .*model.tflite, which fails: .+"):
        latency_and_memory(path)
