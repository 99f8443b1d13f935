"""Tests of the proof itself: each of these faults in a file, its metadata or its client is caught, its twin passes.

A twin goes the same way through the same code, without the fault: the row `NONE` of each table.
"""

import ast
import dataclasses
import functools
import io
import pathlib
import zipfile

import keras
import numpy as np
import pytest
from keras import ops
from PIL import Image, ImageOps

import keras_vit
from keras_vit.data.pipeline import read_all
from keras_vit.export import proof
from keras_vit.export.proof import Reference, compare, violations
from keras_vit.export.serving import make_serving
from keras_vit.export.targets import TARGETS
from keras_vit.export.tflite import conversion as to_tflite
from keras_vit.export.tflite import metadata
from keras_vit.preprocessing import CONTRACTS
from keras_vit.runtime import images as client_images
from keras_vit.runtime.images import CENTER, CORNER
from keras_vit.runtime.tflite import TFLiteFile

SIZE, GRID, TRAINED_GRID, WIDTH, HEADS = (12, 20), (3, 5), (4, 7), 16, 4
CLASSES = ("zebra", "apple", "Möwe", "yak", "fox, red", "bee", "cat")
PIXELS = keras_vit.preprocessing.Pixels(mean=(0.485, 0.456, 0.306), std=(0.229, 0.324, 0.275))
TARGET = TARGETS["tflite-float32"]
NONE = "no fault"


# The images: every kind that a fault could spare the others of.


def image(number):
    """Returns an encoded image: smooth colours of its own, stored in one of eight orientations."""
    random = np.random.default_rng(number)
    height, width = [(31, 83), (67, 67), (97, 41), (12, 20), (7, 11), (53, 89), (20, 12), (61, 101)][number % 8]
    waves = random.normal(size=(4, 6, 6)) / (1 + np.add.outer(np.arange(6), np.arange(6)) / 2)
    down, across = (np.cos(np.pi * np.outer(np.arange(6), np.arange(side) + 0.5) / side) for side in (height, width))
    smooth = np.einsum("ckl,kr,lq->rqc", waves, down, across)
    levels = np.clip(127.5 + 60 * smooth, 0, 255).astype(np.uint8)  # (height, width, red green blue and alpha)
    kind = ["RGB", "RGBA", "RGB", "RGB", "L"][number % 5]
    whole = Image.fromarray(levels[..., 3] if kind == "L" else levels[..., : len(kind)])
    exif = whole.getexif()
    exif[0x0112] = 1 + number // 3 % 8
    file = io.BytesIO()
    if kind == "RGBA" or number % 3 == 0:
        whole.save(file, "PNG", exif=exif)
    else:
        whole.save(file, "JPEG", quality=95, exif=exif)
    return file.getvalue()


IMAGES = [image(number) for number in range(40)]


# The model: small, with weights large enough that its predictions differ from image to image.


def laid_out(table, method="bilinear"):
    """Returns the positions of a trained grid at the model's, (patches, width)."""
    return np.asarray(ops.image.resize(table, GRID, method)).reshape(-1, WIDTH)


TRAINED = np.random.default_rng(7).normal(size=(*TRAINED_GRID, WIDTH)).astype(np.float32) / 2


def built(weights=None, gelu="erf", norm_epsilon=1e-6):
    """Returns the model with weights, or without."""
    variant = keras_vit.Variant(patch_size=4, hidden_size=WIDTH, num_layers=2, num_heads=HEADS, mlp_dim=23)
    model = keras_vit.build(variant, input_shape=(*SIZE, 3), classes=len(CLASSES), gelu=gelu, norm_epsilon=norm_epsilon)
    if weights is not None:
        model.set_weights(weights)
    model.pixels = PIXELS
    return model


@pytest.fixture(scope="module")
def model():
    model = built()
    random = np.random.default_rng(1)
    scales = {"encoder/projection/kernel": 3, "head/kernel": 6, "kernel": 1.5}
    for weight in model.weights:
        kind = weight.path.split("/")[-1]
        scale = scales.get(weight.path, scales.get(kind, 0)) * weight.shape[0] ** -0.5 or 0.3
        weight.assign((kind == "gamma") + scale * random.normal(size=weight.shape))
    encoder, head = model.get_layer("encoder"), model.get_layer("head")
    token = np.asarray(encoder.position_embedding)[0, :1]
    encoder.position_embedding.assign(np.concatenate([token, laid_out(TRAINED)])[None])
    features = keras.Model(model.inputs, head.input).predict_on_batch(
        keras_vit.preprocess_input(read_all(IMAGES, SIZE), PIXELS)
    )
    head.bias.assign(-np.mean(features, axis=0) @ np.asarray(head.kernel))  # no class comes first for every image
    return model


@pytest.fixture(scope="module")
def reference(model):
    reference = Reference(model, CLASSES, IMAGES)
    assert len(set(reference.expected.argmax(axis=1))) >= 5
    return reference


@pytest.fixture(scope="module")
def served(model):
    return make_serving(model, CLASSES)


@pytest.fixture(scope="module")
def scaled(model):
    """A model whose client scales the pixels, with a second output."""
    return make_serving(model, CLASSES, input_type="scaled", extra_outputs=("features",))


@pytest.fixture(scope="module")
def converted_with(served):
    """Returns the bytes of a file that takes pixels, without metadata, with a fault of `CONVERTED`; each made once."""
    # The norms' scales stay out of the kernels, which are looked up by their bytes to be overwritten.
    return functools.cache(lambda name: to_tflite.converted(CONVERTED[name][0](served).model, fold_norms=False))


@pytest.fixture(scope="module")
def scaled_file(scaled):
    return to_tflite.converted(scaled.model)


@pytest.fixture(scope="module")
def scaled_path(scaled, scaled_file, tmp_path_factory):
    path = tmp_path_factory.mktemp("scaled") / "model.tflite"
    path.write_bytes(to_tflite.with_metadata(scaled_file, scaled))
    return path


@pytest.fixture
def violations_of(reference, tmp_path):
    """Returns a function of a file, its bytes or its path, that returns the violated bounds; "" if there are none."""

    def judge(file, client=TFLiteFile):
        if isinstance(file, bytes):
            path = tmp_path / "model.tflite"
            path.write_bytes(file)
            file = path
        try:
            agreement = compare(
                client(file),
                reference,
                name=file.name,
                target="tflite-float32",
                tie=TARGET.tie,
                client_resize=TARGET.client_resize,
            )
        except ValueError as error:
            return str(error)
        return "; ".join(violations(agreement, TARGET.bounds))

    return judge


def cases(table):
    """Parametrizes a test with a table's names and faults; with each, the words that the error must have."""
    return pytest.mark.parametrize("fault, words", table.values(), ids=table)


def is_caught(message, words):
    """Returns whether the error names the fault, and whether there is none without a fault."""
    return (words in message) if words else not message


LOGITS = "logits.max_difference is"


# Faults in the computation, converted anew.


def around(before=lambda x: x, after=lambda x: x):
    def change(served):
        images = keras.Input(served.model.inputs[0].shape[1:], dtype="uint8", name="images")
        outputs = after(served.model(before(images))["probabilities"])
        return dataclasses.replace(served, model=keras.Model(images, {"probabilities": outputs}))

    return change


def built_with(**numerics):
    return lambda served: served.with_changes(model=built(served.inner.get_weights(), **numerics))


def mean_pooled(served):
    inner = served.inner
    tokens = inner.get_layer("norm").output
    outputs = inner.get_layer("predictions")(inner.get_layer("head")(ops.mean(tokens, axis=1)))
    return served.with_changes(model=keras.Model(inner.inputs, outputs))


def sides_swapped(images):
    turned = ops.transpose(ops.cast(images, "float32"), (0, 2, 1, 3))
    return ops.cast(ops.image.resize(turned, SIZE), "uint8")


def unchanged(served):
    return around()(built_with()(served))


CONVERTED = {
    NONE: (unchanged, ""),
    "tanh for erf": (built_with(gelu="tanh"), LOGITS),
    "wrong epsilon of the norms": (built_with(norm_epsilon=1e-3), LOGITS),
    "softmax twice": (around(after=ops.softmax), LOGITS),
    "softmax missing": (around(after=lambda x: ops.log(x) + 3), LOGITS),
    "mean of the tokens for the class token": (mean_pooled, LOGITS),
    "height and width of the image swapped": (around(before=sides_swapped), LOGITS),
}


@pytest.mark.parametrize("name", CONVERTED)
def test_a_fault_in_what_is_converted(served, converted_with, violations_of, name):
    assert is_caught(violations_of(to_tflite.with_metadata(converted_with(name), served)), CONVERTED[name][1])


# Faults in the numbers that a file holds, written over them.

SCALE, OFFSET = (np.float32(values) for values in (PIXELS.scale, PIXELS.offset))
HEAD_SCALE = (WIDTH // HEADS) ** -0.5


def overwritten(file, weights, changes):
    """Returns a file with other numbers in the place of weights."""
    written = bytearray(file)
    for path, values in changes.items():
        (old, factor), *others = [
            (old, factor)
            for factor in (1, HEAD_SCALE)  # the converter multiplies the query's weights by the scale
            if file.count(old := stored(weights[path] * factor)) == 1
        ]
        assert not others and values.shape == weights[path].shape
        start = file.index(old)
        written[start : start + len(old)] = stored(values * factor)
    return bytes(written)


def stored(values):
    return np.ascontiguousarray(np.float32(values).T if values.ndim == 2 else np.float32(values)).tobytes()


def only(path, change):
    return lambda weights: {path: change(weights[path])}


def of_all(ending, change):
    return lambda weights: {path: change(values) for path, values in weights.items() if path.endswith(ending)}


def without_block(number):
    def change(weights):
        names = [
            f"block_{number:02d}/{part}/out/{kind}" for part in ("attention", "mlp") for kind in ("kernel", "bias")
        ]
        return {name: 0 * weights[name] for name in names}

    return change


def blocks_swapped(weights):
    others = {"block_00": "block_01", "block_01": "block_00"}
    return {
        path: weights["/".join([others[path.split("/")[0]], *path.split("/")[1:]])]
        for path in weights
        if path.split("/")[0] in others
    }


def kernel_as(change):
    """Changes the projection as (rows, columns, channels, width) of a patch."""
    return only("encoder/projection/kernel", lambda kernel: change(kernel.reshape(4, 4, 3, WIDTH)).reshape(48, WIDTH))


def positions_as(change):
    """Changes the positions as the class token's and those of the patches, (tokens, width)."""
    return only("encoder/position_embedding", lambda table: change(table[0])[None])


def patches_at(patches):
    return positions_as(lambda table: np.concatenate([table[:1], patches]))


def rounded(values, bits=3):
    step = np.abs(values).max(axis=0) / (2 ** (bits - 1) - 1)
    return np.round(values / step) * step


def with_nan(values):
    values = values.copy()
    values[5, 3] = np.nan
    return values


def scaled_by(mean, std, times=1):
    scale, offset = 1 / (255 * np.array(std)), -np.array(mean) / std
    for _ in range(times - 1):
        offset, scale = offset * scale + offset, scale * scale
    return lambda weights: {"scale": scale, "offset": offset}


def another_seed(weights):
    random = np.random.default_rng(12)
    return {
        path: random.permutation(values.ravel()).reshape(values.shape)
        for path, values in weights.items()
        if path not in ("scale", "offset")
    }


GRID_TABLE = laid_out(TRAINED).reshape(*GRID, WIDTH)
OVERWRITTEN = {
    NONE: (lambda weights: weights, ""),
    "head read in the wrong order": (only("head/kernel", lambda kernel: kernel.reshape(kernel.shape[::-1]).T), LOGITS),
    "two classes of the head swapped": (only("head/kernel", lambda kernel: kernel[:, [1, 0, *range(2, 7)]]), LOGITS),
    "head's bias missing": (only("head/bias", np.zeros_like), LOGITS),
    "temperature": (of_all(("head/kernel", "head/bias"), lambda values: values / 1.01), LOGITS),
    "the first block skipped": (without_block(0), LOGITS),
    "the last block skipped": (without_block(1), LOGITS),
    "two blocks swapped": (blocks_swapped, LOGITS),
    "a matrix of another block": (
        lambda weights: {"block_00/mlp/hidden/kernel": weights["block_01/mlp/hidden/kernel"]},
        LOGITS,
    ),
    "scale of the query missing": (of_all(("query/kernel", "query/bias"), lambda values: values / HEAD_SCALE), LOGITS),
    "key and value swapped": (
        lambda weights: {
            f"block_01/attention/{one}/kernel": weights[f"block_01/attention/{other}/kernel"]
            for one, other in (("key", "value"), ("value", "key"))
        },
        LOGITS,
    ),
    "norm's gamma missing": (only("norm/gamma", np.ones_like), LOGITS),
    "positions by the nearest": (patches_at(laid_out(TRAINED, "nearest")), LOGITS),
    "positions cut off, not resized": (patches_at(TRAINED.reshape(-1, WIDTH)[: GRID[0] * GRID[1]]), LOGITS),
    "positions by columns": (patches_at(GRID_TABLE.swapaxes(0, 1).reshape(-1, WIDTH)), LOGITS),
    "class token's position dropped": (positions_as(lambda table: np.concatenate([0 * table[:1], table[1:]])), LOGITS),
    "positions shifted by one": (positions_as(lambda table: np.roll(table, 1, axis=0)), LOGITS),
    "class token missing": (only("encoder/class_token", np.zeros_like), LOGITS),
    "pixels of a patch by columns": (kernel_as(lambda kernel: kernel.swapaxes(0, 1)), LOGITS),
    "BGR in the kernel": (kernel_as(lambda kernel: kernel[:, :, ::-1]), LOGITS),
    "wrong mean": (scaled_by((0.5, 0.5, 0.5), PIXELS.std), LOGITS),
    "mean of another colour": (scaled_by(PIXELS.mean[::-1], PIXELS.std), LOGITS),
    "wrong std": (scaled_by(PIXELS.mean, (0.5, 0.5, 0.5)), LOGITS),
    "scaling missing": (scaled_by((0, 0, 0), (1 / 255,) * 3), LOGITS),
    "scaling twice": (scaled_by(PIXELS.mean, PIXELS.std, times=2), LOGITS),
    "weights of 3 bits": (of_all("kernel", rounded), LOGITS),
    "one matrix of 8 bits": (only("block_01/mlp/hidden/kernel", lambda kernel: rounded(kernel, 8)), LOGITS),
    "a NaN": (only("block_01/mlp/out/kernel", with_nan), "logits.max_difference is nan"),
    "another checkpoint": (another_seed, LOGITS),
}


@cases(OVERWRITTEN)
def test_a_fault_in_the_numbers(model, served, converted_with, violations_of, fault, words):
    weights = {weight.path: np.asarray(weight) for weight in model.weights} | {"scale": SCALE, "offset": OFFSET}
    file = overwritten(converted_with(NONE), weights, fault(weights))
    assert is_caught(violations_of(to_tflite.with_metadata(file, served)), words)


# Faults in the metadata of a file whose images the client scales.


def described(**changes):
    """Returns a file with other metadata."""
    return lambda file, scaled: to_tflite.with_metadata(file, dataclasses.replace(scaled, **changes))


def contract(mean, std, input_type="scaled"):
    """Returns a file that tells a client to scale otherwise; the colours' own numbers are inside the file."""
    return lambda file, scaled: metadata.add_metadata(
        file,
        CLASSES,
        image_size=SIZE,
        facts=scaled.facts,
        input_type=input_type,
        mean=mean,
        std=std,
        outputs=scaled.outputs,
    )


def without_labels_file(file, scaled):
    whole = to_tflite.with_metadata(file, scaled)
    with zipfile.ZipFile(io.BytesIO(whole)) as behind:
        return whole[: behind.infolist()[0].header_offset]


def outputs_swapped(file, scaled):
    """Names the outputs the other way round, and leaves their order."""
    swap = {b"probabilities": b"features", b"features": b"probabilities"}
    model = metadata._schema.ModelT.InitFromPackedBuf(file, 0)
    for item in model.signatureDefs[0].outputs:
        item.name = swap[item.name]
    builder = metadata.flatbuffers.Builder(len(file))
    builder.Finish(model.Pack(builder), b"TFL3")
    return to_tflite.with_metadata(bytes(builder.Output()), scaled)


HALF = (0.5, 0.5, 0.5)
OTHER = "other classes; the first that differs"
DESCRIBED = {
    NONE: (described(), ""),
    "labels shifted by one": (described(class_names=(*CLASSES[1:], CLASSES[0])), OTHER),
    "labels sorted": (described(class_names=tuple(sorted(CLASSES))), OTHER),
    "two labels swapped": (described(class_names=(*CLASSES[:5], CLASSES[6], CLASSES[5])), OTHER),
    "one label missing": (described(class_names=CLASSES[:-1]), "6 class names and 7 probabilities"),
    "a label too many": (described(class_names=("background", *CLASSES)), "8 class names and 7 probabilities"),
    "a label cut at its comma": (described(class_names=(*CLASSES[:4], "fox", *CLASSES[5:])), OTHER),
    "wrong mean in the metadata": (contract((0.4, 0.4, 0.4), HALF), LOGITS),
    "wrong std in the metadata": (contract(HALF, (0.4, 0.4, 0.4)), LOGITS),
    "mean and std in the metadata that are applied inside": (contract(PIXELS.mean, PIXELS.std), LOGITS),
    "mean and std in parts of 255": (contract(*[(0.5 / 255,) * 3] * 2), LOGITS),
    "pixels said to be taken as they are": (described(input_type="float32"), LOGITS),
    "no normalization": (contract(None, None, input_type="uint8"), "no mean of 3 channels"),
    "labels file missing": (without_labels_file, "cannot be read"),
    "metadata missing": (lambda file, scaled: file, "carries no TFLite metadata"),
    "outputs named the other way round": (outputs_swapped, "7 class names and 16 probabilities"),
}


@cases(DESCRIBED)
def test_a_fault_in_the_metadata(scaled, scaled_file, violations_of, fault, words):
    assert is_caught(violations_of(fault(scaled_file, scaled)), words)


# Faults of a client, on a file without any. Each stage of the way from an encoded image can be another.


class Client(TFLiteFile):
    """The client, with stages of it replaced."""

    def __init__(self, path, decode, resize, read, scale):
        super().__init__(path)
        self.stages = decode, resize, read
        self.scale = scale

    def read(self, image):
        decode, resize, last = self.stages
        return last(resize(decode(image), self.image_size))

    def _scaled(self, pixels):
        return self.scale(super()._scaled, pixels)


def client(
    decode=client_images.upright,
    resize=client_images.resized,
    read=lambda pixels: pixels,
    scale=lambda scaled, pixels: scaled(pixels),
):
    return lambda path: Client(path, decode, resize, read, scale)


def opened(image):
    return Image.open(io.BytesIO(image))


def exif_ignored(image):
    file = io.BytesIO()
    Image.fromarray(np.asarray(opened(image))).save(file, "PNG")  # its pixels and nothing else
    return client_images.upright(file.getvalue())


def exif_backwards(image):
    """Turns to the left what has to be turned to the right."""
    whole = opened(image)
    exif = whole.getexif()
    exif[0x0112] = {6: 8, 8: 6}.get(exif[0x0112], exif[0x0112])
    file = io.BytesIO()
    whole.save(file, "PNG", exif=exif)
    return client_images.upright(file.getvalue())


def on_black(image):
    whole = ImageOps.exif_transpose(opened(image)).convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", whole.size, "black"), whole).convert("RGB"))


def alpha_dropped(image):
    return np.asarray(ImageOps.exif_transpose(opened(image)).convert("RGB"))


def grey_in_red(image):
    pixels = client_images.upright(image)
    grey = opened(image).mode == "L"
    return pixels * np.uint8([1, 0, 0]) if grey else pixels


def grey_in_one_channel(image):
    pixels = client_images.upright(image)
    return pixels[..., :1] if opened(image).mode == "L" else pixels


def half_decoded(image):
    """Lets the decoder of JPEG leave out every other pixel, as thumbnails are made."""
    whole = opened(image)
    whole.draft("RGB", (whole.width // 2, whole.height // 2))
    return np.asarray(ImageOps.exif_transpose(whole).convert("RGB"))


def at_low_quality(image):
    file = io.BytesIO()
    Image.fromarray(client_images.upright(image)).save(file, "JPEG", quality=30)
    return client_images.upright(file.getvalue())


def by_pillow(kernel):
    return lambda pixels, size: np.asarray(Image.fromarray(pixels).resize(size[::-1], kernel))


def off_by_one(pixels, size):
    return client_images.resized(pixels[1:, 1:], size)


def middle_cut_out(pixels, size):
    """Keeps the sides' proportion, and cuts off what is too much."""
    return np.asarray(ImageOps.fit(Image.fromarray(pixels), size[::-1], Image.Resampling.BILINEAR))


def with_borders(pixels, size):
    return np.asarray(ImageOps.pad(Image.fromarray(pixels), size[::-1], Image.Resampling.BILINEAR))


def sides_mistaken(pixels, size):
    return client_images.resized(pixels, size[::-1]).reshape(*size, 3)


READ = "from_encoded.preprocessing_agreement is"
CLIENTS = {
    NONE: (client(), ""),
    "EXIF ignored": (client(decode=exif_ignored), READ),
    "EXIF turned the other way": (client(decode=exif_backwards), READ),
    "alpha on black": (client(decode=on_black), READ),
    "alpha dropped": (client(decode=alpha_dropped), READ),
    "grey in red alone": (client(decode=grey_in_red), READ),
    "grey as one channel": (client(decode=grey_in_one_channel), "shape"),
    "JPEG decoded at half its size": (client(decode=half_decoded), READ),
    "JPEG of low quality": (client(decode=at_low_quality), READ),
    "resized by the nearest": (client(resize=by_pillow(Image.Resampling.NEAREST)), READ),
    "resized by areas": (client(resize=by_pillow(Image.Resampling.BILINEAR)), READ),
    "resized from the middle of a pixel": (
        client(resize=lambda pixels, size: client_images.resized(pixels, size, CENTER)),
        READ,
    ),
    "crop off by one": (client(resize=off_by_one), READ),
    "middle cut out": (client(resize=middle_cut_out), READ),
    "borders added": (client(resize=with_borders), READ),
    "height and width swapped by the client": (client(resize=sides_mistaken), READ),
    "BGR": (client(read=lambda pixels: pixels[..., ::-1]), READ),
    "mirrored": (client(read=lambda pixels: pixels[:, ::-1]), READ),
    "upside down": (client(read=lambda pixels: pixels[::-1]), READ),
    "shifted by a pixel": (client(read=lambda pixels: np.roll(pixels, 1, axis=1)), READ),
    "BGR after reading": (client(scale=lambda scaled, pixels: scaled(pixels[..., ::-1])), LOGITS),
    "values of 0 to 1": (client(scale=lambda scaled, pixels: scaled(pixels / np.float32(255))), LOGITS),
    "not scaled": (client(scale=lambda scaled, pixels: pixels.astype(np.float32)), LOGITS),
    "scaled twice": (client(scale=lambda scaled, pixels: scaled(scaled(pixels))), LOGITS),
    "scaled by each colour": (client(scale=lambda scaled, pixels: pixels * SCALE + OFFSET), LOGITS),
}


@cases(CLIENTS)
def test_a_fault_in_the_client(scaled_path, violations_of, fault, words):
    assert is_caught(violations_of(scaled_path, fault), words)


def test_the_client_of_these_faults_is_the_client(scaled_path, reference):
    real, ours = TFLiteFile(scaled_path), client()(scaled_path)
    assert real.resize_origin == CORNER
    for encoded in reference.encoded:
        np.testing.assert_array_equal(ours.read(encoded), real.read(encoded))


def test_there_are_some_forty_faults():
    tables = CONVERTED, OVERWRITTEN, DESCRIBED, CLIENTS
    assert sum(bool(words) for table in tables for _, words in table.values()) >= 40


# Independence: what a file is proven by has no line in common with what writes it.


def imports(path):
    """Returns the full names of what a module imports, wherever in it."""
    names = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{name.name}" for name in node.names]
    return names


def ours(path):
    return [name for name in imports(path) if name.startswith("keras_vit")]


PACKAGE = pathlib.Path(keras_vit.__file__).parent


def test_the_client_shares_no_code_with_the_rest():
    allowed = ("keras_vit.runtime.", "keras_vit._quiet.", "keras_vit._compat")  # other libraries' names
    for path in (PACKAGE / "runtime").rglob("*.py"):
        assert [name for name in ours(path) if not name.startswith(allowed)] == [], path.name


def test_the_proof_shares_no_code_with_what_writes():
    assert [name for name in ours(pathlib.Path(proof.__file__)) if name.startswith("keras_vit.export")] == []
    for module in (to_tflite, metadata, keras_vit.export.serving):
        proving = ("keras_vit.runtime", "keras_vit.export.proof")
        assert [name for name in ours(pathlib.Path(module.__file__)) if name.startswith(proving)] == []


# Faults of the pixel contract: file and model agree on the same wrong pixels, so that only the labels show them.

LEVELS = (60, 120, 180)
NOISE = np.random.default_rng(3).normal(0, 12, (30, 8, 8, 3))
SHADES = np.clip(np.array(LEVELS)[np.arange(30) % 3][:, None, None, None] + NOISE, 0, 255).astype(np.uint8)


def brightness_classifier(trained, says):
    """Returns a classifier of three brightnesses for pixels of one contract, which declares another."""
    images = keras.Input((8, 8, 3))
    x = keras_vit.layers.Patches(4, pixels=CONTRACTS[says])(images)
    head = keras.layers.Dense(3, activation="softmax")
    model = keras.Model(images, head(keras.layers.GlobalAveragePooling1D()(x)))
    centers = np.array(
        [np.mean(level * np.float32(CONTRACTS[trained].scale) + CONTRACTS[trained].offset) for level in LEVELS]
    )
    near = 20 / np.square(centers[1] - centers[0])
    head.set_weights([np.tile(2 * near * centers / 48, (48, 1)), -near * np.square(centers)])
    return model


WRONG_CONTRACTS = [(trained, says) for trained in CONTRACTS for says in CONTRACTS if trained != says]
# Seen from ImageNet's contract, brightnesses at -1 to 1 lie so near that most images are still right.
WRONG_CONTRACTS = [pair for pair in WRONG_CONTRACTS if set(pair) != {"-1..1", "imagenet"}]


@pytest.mark.parametrize("trained, says", [*((name, name) for name in CONTRACTS), *WRONG_CONTRACTS])
def test_a_fault_in_the_pixel_contract(trained, says, tmp_path, caplog):
    model, labels = brightness_classifier(trained, says), np.arange(30) % 3

    def export(**said):
        return keras_vit.export.tflite(
            model, tmp_path / "a.tflite", mode="float32", images=SHADES, labels=labels, **said
        )

    if trained == says:
        assert (result := export()).keras_accuracy == 1.0 and result.top1_agreement == 1.0
        return
    with pytest.raises(ValueError, match=f"pixels={trained} .*100.0% on 30 images"):
        export()
    assert not list(tmp_path.iterdir())
    with caplog.at_level("WARNING", "keras_vit"):
        assert export(pixels=says).keras_accuracy <= 0.8  # passed explicitly: exported with a warning
    assert f"--pixels {trained}" in caplog.text
    assert export(pixels=trained).keras_accuracy == 1.0
