import io
import json
import pathlib
import struct

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import keras_vit
from keras_vit.data.decoding import decode
from keras_vit.data.decoding import orientation_of as orientation_in_python
from keras_vit.data.pipeline import read_pixels
from keras_vit.export.exif import jpeg_orientation, turn_upright
from keras_vit.export.serving import make_serving
from keras_vit.export.to_savedmodel import write_savedmodel

SIZE = (14, 10)
NAMES = ("ash", "élan", "fir, red", "oak", "yew")
OUTPUTS = ("probabilities", "features", "rollout")
RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (7, *SIZE, 3), np.uint8)
LARGE = RANDOM.integers(0, 256, (3, 31, 53, 3), np.uint8)
# A gradient whose corners differ, so that every flip shows.
Y, X = np.mgrid[0:61, 0:43]
SHADED = np.stack([Y * 4, X * 5, 255 - Y * 2 - X * 2], -1).clip(0, 255).astype(np.uint8)


A_FILE = tf.TensorSpec((), tf.string)


def classifier():
    keras.utils.set_random_seed(0)
    tiny = keras_vit.Variant(patch_size=2, hidden_size=12, num_layers=2, num_heads=3, mlp_dim=20)
    model = keras_vit.build(tiny, input_shape=(*SIZE, 3), classes=len(NAMES))
    model.get_layer("head").kernel.assign(np.random.default_rng(1).normal(size=(12, len(NAMES))))
    return model


def load(path):
    return tf.saved_model.load(str(path / "1"))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The `Serving` and what was loaded of its SavedModel, written once for each input and kept."""
    made = {}

    def get(input_type="uint8"):
        if input_type not in made:
            also = OUTPUTS[1:] if input_type == "float32" else ()
            serving = make_serving(
                classifier(), NAMES, input_type=input_type, extra_outputs=also, facts={"author": "Zoë"}
            )
            path = tmp_path_factory.mktemp("exported") / input_type
            write_savedmodel(serving, path)
            made[input_type] = serving, load(path), path
        return made[input_type]

    return get


def client_inputs(serving, pixels):
    # Scaled by the rule of training: `serving.entries` rounds otherwise, by what 1e-6 does not allow.
    return keras_vit.preprocess_input(pixels) if serving.input_type == "scaled" else serving.client_inputs(pixels)


def assert_alike(answer, expected):
    assert set(answer) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(answer[name], value, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("input_type", ["uint8", "float32", "scaled"])
def test_every_signature_agrees_with_the_model(exported, input_type):
    serving, loaded, _ = exported(input_type)
    output = loaded.signatures["serving_default"](images=client_inputs(serving, PIXELS).astype("float32"))
    assert_alike(output, serving.model(client_inputs(serving, PIXELS)))
    resized = np.stack([read_pixels(png(image), SIZE) for image in LARGE])
    expected = serving.model(client_inputs(serving, resized))
    assert_alike(loaded.signatures["serve_uint8"](images=LARGE), expected)
    assert_alike(loaded.signatures["serve_jpeg"](encoded=tf.constant([*map(png, LARGE)])), expected)


def test_fractions_of_a_level_are_not_cut_off(exported):
    serving, loaded, _ = exported("uint8")
    images = PIXELS + np.float32(0.9)
    expected = serving.inner(keras_vit.preprocess_input(images))
    output = loaded.signatures["serving_default"](images=images)["probabilities"]
    np.testing.assert_allclose(output, expected, atol=1e-6)


def test_the_folder_is_what_a_server_takes_with_each_weight_once(exported):
    serving, loaded, path = exported()
    files = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
    assert files >= {"1/saved_model.pb", "1/variables/variables.index", "1/assets/labels.txt", "1/assets/facts.json"}
    weights = sum(array.nbytes for array in serving.model.get_weights())
    assert weights <= (path / "1/variables/variables.data-00000-of-00001").stat().st_size < 1.5 * weights
    names = {name: set(function.structured_input_signature[1]) for name, function in loaded.signatures.items()}
    assert names == {"serving_default": {"images"}, "serve_uint8": {"images"}, "serve_jpeg": {"encoded"}}


def test_labels_and_facts_are_assets_of_what_is_loaded(exported):
    _, loaded, path = exported("scaled")
    labels, facts = (pathlib.Path(asset.asset_path.numpy().decode()) for asset in (loaded.labels, loaded.facts))
    assert labels.parent == path / "1/assets"
    assert tuple(labels.read_text("utf-8").splitlines()) == NAMES
    metadata = json.loads(facts.read_text("utf-8"))
    assert (metadata["input_type"], metadata["mean"], metadata["std"], metadata["author"]) == (
        "scaled",
        [0.5] * 3,
        [0.5] * 3,
        "Zoë",
    )


def encoded(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def png(pixels):
    return encoded(Image.fromarray(pixels), "PNG")


def exif(order, orientation, *, kind=3, count=1, start=8, entries=2):
    """An EXIF block with another tag in front; `start` is where its directory claims to be."""
    mark = {"<": b"II*\0", ">": b"MM\0*"}[order]
    tags = struct.pack(f"{order}HHII", 0x0100, 4, 1, 99)
    tags += struct.pack(f"{order}HHIHH", 0x0112, kind, count, orientation, 0)
    gap = bytes(start - 8) if 8 <= start < 100 else b""
    return b"Exif\0\0" + mark + struct.pack(f"{order}I", start) + gap + struct.pack(f"{order}H", entries) + tags


RGBA = np.dstack([SHADED, (Y * 4).astype(np.uint8)])
SHADED_IMAGE = Image.fromarray(SHADED)
IMAGES = {
    **{
        f"orientation {orientation}{order}": encoded(SHADED_IMAGE, "JPEG", exif=exif(order, orientation))
        for order in "<>"
        for orientation in range(1, 9)
    },
    "progressive": encoded(SHADED_IMAGE, "JPEG", progressive=True, subsampling=2),
    "a profile before EXIF": encoded(SHADED_IMAGE, "JPEG", exif=exif("<", 6), icc_profile=bytes(70_000)),
    "grey JPEG": encoded(SHADED_IMAGE.convert("L"), "JPEG"),
    "CMYK": encoded(SHADED_IMAGE.convert("CMYK"), "JPEG"),
    "grey": png(SHADED[..., 0]),
    "black and white": encoded(SHADED_IMAGE.convert("1"), "PNG"),
    "palette": encoded(SHADED_IMAGE.quantize(16), "PNG"),
    "palette, transparent": encoded(SHADED_IMAGE.quantize(16), "PNG", transparency=3),
    "transparent": png(RGBA),
    "grey, transparent": encoded(Image.fromarray(RGBA).convert("LA"), "PNG"),
    "GIF": encoded(SHADED_IMAGE.quantize(16), "GIF"),
    "WebP": encoded(SHADED_IMAGE, "WEBP"),
    "WebP, transparent": encoded(Image.fromarray(RGBA), "WEBP", lossless=True),
}


def test_images_are_seen_as_a_person_sees_them(exported):
    serving, loaded, _ = exported()
    seen = np.stack([read_pixels(image, SIZE) for image in IMAGES.values()])
    expected = serving.model(seen)["probabilities"]
    output = loaded.signatures["serve_jpeg"](encoded=tf.constant([*IMAGES.values()]))["probabilities"].numpy()
    off = {name: part for name, part in zip(IMAGES, np.abs(output - expected.numpy()).max(axis=1)) if part > 1e-6}
    assert off == {}


def test_the_eight_orientations_differ_and_a_person_sees_one_image():
    read = tf.function(
        lambda jpeg: turn_upright(tf.io.decode_jpeg(jpeg, 3, dct_method="INTEGER_ACCURATE"), jpeg),
        input_signature=[A_FILE],
    )
    seen = [read(IMAGES[f"orientation {orientation}<"]).numpy() for orientation in range(1, 9)]
    assert len({image.tobytes() for image in seen}) == 8
    for orientation, image in enumerate(seen, 1):
        np.testing.assert_array_equal(image, decode(IMAGES[f"orientation {orientation}>"]))


def test_what_is_no_image_is_refused(exported):
    _, loaded, _ = exported()
    run = loaded.signatures["serve_jpeg"]
    bitmap = encoded(SHADED_IMAGE.quantize(16), "BMP")
    with pytest.raises(tf.errors.InvalidArgumentError, match="not a BMP"):
        run(encoded=tf.constant([bitmap]))
    for bad in (b"", b"<html>", IMAGES["progressive"][:500]):
        with pytest.raises(tf.errors.InvalidArgumentError):
            run(encoded=tf.constant([bad]))


def segment(kind, body):
    return struct.pack(">BBH", 0xFF, kind, 2 + len(body)) + body


def jpeg(*segments):
    return b"\xff\xd8" + b"".join(segments) + b"\xff\xda" + bytes(99)


in_graph = tf.function(jpeg_orientation, input_signature=[A_FILE])


@pytest.mark.parametrize(
    "block, expected",
    [
        (exif("<", 6), 6),
        (exif(">", 8, start=13), 8),  # an odd offset
        (exif(">", 9), 1),
        (exif("<", 0), 1),
        (exif("<", 3, kind=4), 1),
        (exif("<", 3, count=2), 1),
        (exif(">", 3, count=65536), 1),
        (exif("<", 3, start=4_000_000_000), 1),
        (exif("<", 3, start=65_535), 1),
        (exif("<", 3, entries=1), 1),
        (exif("<", 3, entries=65_535), 3),
        (exif("<", 3)[:-4], 1),
        (exif("<", 3).replace(b"II", b"XX"), 1),
        (b"Exif\0\0", 1),
    ],
)
def test_orientation_of_a_block(block, expected):
    assert orientation_in_python(block) == expected
    assert in_graph(jpeg(segment(0xE0, b"JFIF\0" + bytes(9)), segment(0xE1, block))).numpy() == expected


@pytest.mark.parametrize(
    "file, expected",
    [
        (jpeg(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0"), b"\xff\xff", segment(0xE1, exif("<", 5))), 5),
        (jpeg(b"\xff", segment(0xE1, exif("<", 5))), 5),  # a marker may be filled up in front
        (jpeg(), 1),
        (jpeg() + segment(0xE1, exif("<", 5)), 1),  # behind the image
        (b"\xff\xd8", 1),
        (b"\xff\xd8\xff\xe1", 1),
        (b"\xff\xd8\xff\xe0\xff\xff", 1),
        (jpeg(b"not a marker", segment(0xE1, exif("<", 5))), 1),
    ],
)
def test_orientation_of_a_file(file, expected):
    assert in_graph(file).numpy() == expected


def test_damaged_blocks_are_read_as_python_reads_them():
    random = np.random.default_rng(3)
    pairs = []
    for _ in range(400):
        block = bytearray(exif("<>"[random.integers(2)], int(random.integers(1, 9))))
        for at in random.integers(6, len(block), random.integers(3)):
            block[at] = random.integers(256)
        kept = len(block) if random.random() < 0.8 else random.integers(len(block) // 2, len(block))
        block = bytes(block[:kept])
        pairs.append((int(in_graph(jpeg(segment(0xE1, block)))), orientation_in_python(block)))
    assert [pair for pair in pairs if pair[0] != pair[1]] == []
    assert {first for first, _ in pairs} == set(range(1, 9))


ON_JAX = """
import importlib.util, json, pathlib, sys
import numpy as np
spec = importlib.util.spec_from_file_location("case", sys.argv[1])
case = importlib.util.module_from_spec(spec)
spec.loader.exec_module(case)
serving = case.make_serving(case.classifier(), case.NAMES, extra_outputs=case.OUTPUTS[1:])
case.write_savedmodel(serving, pathlib.Path(sys.argv[2]))
expected = serving.model.predict(case.PIXELS, verbose=0)
print(json.dumps({name: np.asarray(value).tolist() for name, value in expected.items()}))
"""


@pytest.mark.soak
def test_a_model_on_the_jax_backend(run_warm, tmp_path):
    expected = run_warm("-c", ON_JAX, __file__, tmp_path / "model", KERAS_BACKEND="jax")
    loaded = load(tmp_path / "model")
    assert_alike(loaded.signatures["serving_default"](images=PIXELS.astype("float32")), expected)
    assert_alike(loaded.signatures["serve_uint8"](images=PIXELS), expected)
    assert_alike(loaded.signatures["serve_jpeg"](encoded=tf.constant([*map(png, PIXELS)])), expected)


def test_kernels_are_standardized_once_and_not_for_every_batch(tmp_path):
    keras.utils.set_random_seed(0)
    stem = keras_vit.ResNet((1,), (128,), 32)
    hybrid = keras_vit.Variant(1, 12, 1, 3, 20, stem=stem)
    model = keras_vit.build(hybrid, input_shape=(12, 20, 3), classes=len(NAMES))
    model.get_layer("head").kernel.assign(np.random.default_rng(1).normal(size=(12, len(NAMES))))
    before = [weight.numpy() for weight in model.weights]
    pixels = np.random.default_rng(2).integers(0, 256, (3, 12, 20, 3), np.uint8)
    serving = make_serving(model, NAMES)
    write_savedmodel(serving, tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert_alike(loaded.signatures["serving_default"](images=pixels.astype("float32")), serving.model(pixels))
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)
    kernels = [weight.numpy() for weight in loaded.weights if len(weight.shape) == 4]
    assert kernels
    for kernel in kernels:
        np.testing.assert_allclose(kernel.mean((0, 1, 2)), 0, atol=1e-6)
        np.testing.assert_allclose(kernel.std((0, 1, 2)), 1, atol=1e-3)
