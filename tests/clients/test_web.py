"""The exported page and the browsers' other clients of the exported files, run in headless Chromium."""

import base64
import hashlib
import io
import json
import pathlib
import re

import keras
import numpy as np
import pytest
import sklearn.datasets
import tensorflow as tf
from PIL import Image

import keras_vit
from keras_vit.analysis.attention import attention_rollout
from keras_vit.data.pipeline import read_pixels
from keras_vit.export.serving import make_serving
from keras_vit.export.tflite.conversion import converted, with_metadata
from keras_vit.export.web.site import _VERSION, RUNTIME, write_web

IMAGE_SIZE = (35, 49)
NAMES = ("ant & bee", "<b>cow</b>", "dog", "élan", "fox")
PIXELS = keras_vit.Pixels(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
# Where float32 products are added up in another order; where weights of 8 bits meet other kernels.
TOLERANCE = {"float32": 1e-5, "float16": 1e-5, "int8": 5e-3}
# How LiteRT's GPU delegate says that it leaves an operator to the CPU, or fails.
REFUSED = re.compile(r"not supported by GPU delegate|Failed to |ERROR: ")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    variant = keras_vit.Variant(patch_size=7, hidden_size=64, num_layers=2, num_heads=2, mlp_dim=96)
    model = keras_vit.build(variant, input_shape=(*IMAGE_SIZE, 3), classes=len(NAMES))
    model.pixels = PIXELS
    random = np.random.default_rng(1)
    for layer in model.layers:
        if layer.name.startswith("block"):  # sharper than at the start of training: maps are not flat
            for part in (layer.attention.query, layer.attention.key):
                part.kernel.assign(3 * part.kernel)
    model.get_layer("head").kernel.assign(random.normal(size=(64, len(NAMES)), scale=0.15))
    return model


@pytest.fixture(scope="module")
def files(model):
    """{(mode, input type, outputs)} -> the exported file with its metadata; each made once."""
    made = {}

    def file(mode="float32", input_type="float32", extra_outputs=("rollout",)):
        key = mode, input_type, extra_outputs
        if key not in made:
            exported = make_serving(model, NAMES, input_type=input_type, extra_outputs=extra_outputs)
            made[key] = with_metadata(converted(exported.model, mode), exported)
        return made[key]

    return file


def photograph(name):
    folder = pathlib.Path(sklearn.datasets.__file__).parent / "images"
    return folder.joinpath(name).read_bytes()


def encoded(pixels, form, **settings):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form, **settings)
    return stream.getvalue()


def made_images():
    """{name: bytes}: real photographs, as they come and as phones and programs write them."""
    flower, china = photograph("flower.jpg"), photograph("china.jpg")
    pixels = np.asarray(Image.open(io.BytesIO(china)))  # (427, 640, 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    alpha = np.tile(np.linspace(0, 255, 640).astype(np.uint8), (427, 1))
    return {
        "landscape": flower,
        "upright": encoded(pixels[:, 100:290], "JPEG", quality=90),
        "turned": encoded(pixels, "JPEG", quality=95, exif=exif),
        "lossless": encoded(pixels[:301], "PNG"),
        "cut out": encoded(np.dstack([pixels, np.where(alpha > 127, 255, 0).astype(np.uint8)]), "PNG"),
        "fading": encoded(np.dstack([pixels, alpha]), "PNG"),
        "grey": encoded(pixels[..., 1], "JPEG", quality=95),
        "of the model's size": encoded(pixels[:35, 200:249], "PNG"),
        "smaller": encoded(pixels[60:79, 300:323], "PNG"),
    }


def page(folder, tflite, node_modules, title="Beasts"):
    facts = {"image_size": IMAGE_SIZE, "mean": PIXELS.mean, "std": PIXELS.std, "runtime": node_modules}
    write_web(folder, tflite, NAMES, title=title, **facts)
    return folder


def run_tflite(tflite, pixels):
    """Runs an exported file in TensorFlow's own interpreter, {output: (images, ...)}."""
    with pytest.warns(UserWarning, match="tf.lite.Interpreter is deprecated"):
        runner = tf.lite.Interpreter(model_content=tflite).get_signature_runner()
    dtype = runner.get_input_details()["images"]["dtype"]
    result = [runner(images=image[None].astype(dtype)) for image in pixels]
    return {name: np.concatenate([item[name] for item in result]) for name in result[0]}


def rounded(model):
    """Returns the model with the weights that a dynamic int8 file has; a GPU, unlike a CPU, rounds nothing else."""
    copy = keras.models.clone_model(model)
    for old, new in zip(model.weights, copy.weights, strict=True):
        values = old.numpy()
        if old.path.endswith("kernel") and values.size >= 1024:  # smaller ones are left alone
            step = np.abs(values).max(axis=0) / 127  # a step an output
            values = (values / step).round() * step
        new.assign(values)
    return copy


def red_of(rollout):
    """Returns the red of an attention map coloured from its least to its most."""
    share = (rollout - rollout.min()) / (rollout.max() - rollout.min())
    return np.interp(share, np.linspace(0, 1, 5), [0, 87, 188, 249, 252])


def keras_outputs(model, pixels):
    scaled = keras_vit.preprocess_input(pixels, PIXELS)
    return model.predict(scaled, verbose=0), attention_rollout(model, scaled)


@pytest.mark.parametrize("mode", ["float32", "int8"])
def test_predictions_of_dropped_images_agree_with_keras(mode, model, files, tmp_path, node_modules, serve, in_browser):
    url = serve(page(tmp_path / "page", files(mode), node_modules))
    given = made_images()
    dropped = [base64.b64encode(data).decode() for data in given.values()]
    seen = in_browser("drops.mjs", url=url, image_size=IMAGE_SIZE, images=dropped)
    pixels = np.stack([read_pixels(data, IMAGE_SIZE) for data in given.values()])
    expected, maps = keras_outputs(model, pixels)
    ran = run_tflite(files(mode), pixels)
    assert len(set(expected.argmax(axis=1))) > 2 and expected.std(axis=0).min() > 0.02  # predictions differ
    for i, (name, result) in enumerate(zip(given, seen["answers"], strict=True)):
        probabilities, rollout = np.array(result["probabilities"]), np.reshape(result["rollout"], result["grid"])
        np.testing.assert_array_equal(np.reshape(result["pixels"], pixels[i].shape), pixels[i], err_msg=name)
        np.testing.assert_allclose(probabilities, ran["probabilities"][i], atol=TOLERANCE[mode], err_msg=name)
        np.testing.assert_allclose(rollout, ran["rollout"][i], atol=TOLERANCE[mode], err_msg=name)
        if mode == "float32":
            np.testing.assert_allclose(probabilities, expected[i], atol=1e-5, err_msg=name)
            np.testing.assert_allclose(rollout, maps[i], atol=1e-6, err_msg=name)
        order = expected[i].argsort()[::-1]
        assert probabilities.argmax() == order[0], name
        first = NAMES[order[0]]
        assert result["status"].startswith(first) and result["answers"][0][0] == first, name
        assert [float(percent.rstrip(" %")) for _, percent in result["answers"]] == sorted(
            (round(100 * share) for share in probabilities), reverse=True
        ), name
        red, alpha = np.array(result["heat"])[:, [0, 3]].T  # of inferno, red rises from the least to the most
        if min(result["image"]) > 200:  # or a cell's middle lies between pixels
            np.testing.assert_allclose(red, red_of(rollout.ravel()), atol=8, err_msg=name)
        assert (alpha == 255).all(), name
    assert seen["answers"][2]["image"] == [640, 427]  # the turned one is shown upright
    assert not [address for address in seen["requests"] if not address.startswith(url)]
    assert not [line for line in seen["console"] if "uncaught" in line or "Content Security" in line]


@pytest.mark.parametrize("channels, left_out", [(1, ()), (4, ("fading",))])
def test_the_page_reads_grey_and_transparency(channels, left_out, tmp_path, node_modules, serve, in_browser):
    """A browser's canvas rounds the colours of pixels that are half transparent."""
    keras.utils.set_random_seed(0)
    variant = keras_vit.Variant(patch_size=7, hidden_size=32, num_layers=1, num_heads=2, mlp_dim=32)
    model = keras_vit.build(variant, input_shape=(*IMAGE_SIZE, channels), classes=len(NAMES))
    model.get_layer("head").kernel.assign(np.random.default_rng(1).normal(size=(32, len(NAMES))))
    exported = make_serving(model, NAMES, input_type="float32", extra_outputs=("rollout",))
    facts = {"image_size": IMAGE_SIZE, "channels": channels, "mean": exported.pixels.mean, "std": exported.pixels.std}
    tflite = with_metadata(converted(exported.model), exported)
    write_web(tmp_path / "page", tflite, NAMES, title="Beasts", runtime=node_modules, **facts)
    given = {name: data for name, data in made_images().items() if name not in left_out}
    dropped = [base64.b64encode(data).decode() for data in given.values()]
    job = {"image_size": IMAGE_SIZE, "channels": channels, "images": dropped}
    seen = in_browser("drops.mjs", url=serve(tmp_path / "page"), **job)
    pixels = np.stack([read_pixels(data, IMAGE_SIZE, "official", channels) for data in given.values()])
    expected = model.predict(model.preprocess_input(pixels), verbose=0)
    for name, result, image, probabilities in zip(given, seen["answers"], pixels, expected, strict=True):
        np.testing.assert_array_equal(np.reshape(result["pixels"], image.shape), image, err_msg=name)
        np.testing.assert_allclose(result["probabilities"], probabilities, atol=1e-5, err_msg=name)


def test_the_page_shows_its_state_and_errors(files, tmp_path, node_modules, serve, in_browser):
    whole = page(tmp_path / "page", files(), node_modules, title="Beasts & <birds>")
    broken = page(tmp_path / "broken", files(), node_modules)
    (broken / "model.tflite").write_bytes(b"not found")
    (tmp_path / "flower.jpg").write_bytes(photograph("flower.jpg"))
    addresses = {"url": serve(whole), "broken": serve(broken), "file": (whole / "index.html").as_uri()}
    addresses["insecure"] = addresses["url"].replace("127.0.0.1", "page.test")
    files = {"image": str(tmp_path / "flower.jpg"), "screenshot": str(tmp_path / "insecure.png")}
    seen = in_browser("states.mjs", **files, **addresses)["seen"]
    assert seen["ready"] == "Ready for an image" and seen["title"] == ["Beasts & <birds>"] * 2
    assert not seen["unserved"]
    assert "notes.txt is not an image" in seen["noImage"] and not seen["alertAfterwards"]
    assert (seen["heatBefore"], seen["heatAfter"], seen["opacity"]) == (False, True, "0.25")
    assert seen["cameraButton"] == "Take photo"
    assert seen["tracks"] == ["ended"] and not seen["videoAfterwards"] and seen["imageAfterwards"]
    assert seen["noCamera"] == "No camera was found."
    assert seen["insecureContext"] == [False, "undefined"]
    shown_on_localhost, text = seen["insecure"]
    assert not shown_on_localhost and "https://" in text and addresses["insecure"].rstrip("/") in text
    assert seen["insecureCamera"] and seen["insecurePrediction"] in NAMES
    assert "The model does not load" in seen["broken"]
    assert "python -m http.server" in seen["asFile"]


def test_a_page_of_numbers_shows_them_without_classes(model, tmp_path, node_modules, serve, in_browser):
    features = model.get_layer("head").input
    outputs = {
        "age": keras.layers.Dense(1, bias_initializer="ones")(features),
        "place": keras.layers.Dense(2)(features),
    }
    numbers = keras_vit.VisionModel(model.input, outputs)
    keras_vit.export.web(numbers, tmp_path / "page", outputs="numbers", runtime=node_modules)
    (tmp_path / "a.png").write_bytes(made_images()["of the model's size"])
    url, image = serve(tmp_path / "page"), tmp_path / "a.png"
    seen = in_browser("numbers.mjs", url=url, image=str(image), screenshot=str(tmp_path / "page.png"))
    pixels = read_pixels(str(image), IMAGE_SIZE)
    result = numbers.predict(keras_vit.preprocess_input(pixels[None], PIXELS), verbose=0)
    expected = [("age", result["age"][0, 0]), ("place 0", result["place"][0, 0]), ("place 1", result["place"][0, 1])]
    assert [name for name, _ in seen["answers"]] == [name for name, _ in expected]
    for (_, shown), (_, value) in zip(seen["answers"], expected):
        assert float(shown) == pytest.approx(value, abs=0.05)  # 8-bit weights
    assert seen["status"] == " ".join(seen["answers"][0]) and not any(seen["bars"])
    assert "age, place: numbers, no classes" in seen["about"]


def test_a_page_of_labels_shows_those_above_their_thresholds(model, tmp_path, node_modules, serve, in_browser):
    scores = keras.layers.Dense(3, "sigmoid", kernel_initializer="zeros", name="scores")
    labels = keras_vit.VisionModel(
        model.input, scores(model.get_layer("head").input), class_names=NAMES[:3], thresholds=(0.6, 0.7, 0.9)
    )
    scores.bias.assign([0.5, 3.0, 2.0])  # scores of 0.62, 0.95 and 0.88 for every image
    keras_vit.export.web(labels, tmp_path / "page", runtime=node_modules)
    (tmp_path / "a.png").write_bytes(made_images()["of the model's size"])
    url = serve(tmp_path / "page")
    seen = in_browser("numbers.mjs", url=url, image=str(tmp_path / "a.png"), screenshot=str(tmp_path / "page.png"))
    assert seen["status"] == f"{NAMES[1]}, {NAMES[0]}"
    assert seen["answers"] == [[NAMES[1], "95 %"], [NAMES[2], "88 %"], [NAMES[0], "62 %"]] and all(seen["bars"])
    assert "Labels3" in seen["about"]


def test_a_page_says_that_an_image_is_none_of_the_classes(model, tmp_path, node_modules, serve, in_browser):
    (tmp_path / "a.png").write_bytes(made_images()["of the model's size"])
    for threshold, none in ((0.2, False), (0.99, True)):
        reject = keras_vit.evaluation.Reject(share=0.1, threshold=threshold)
        rejecting = keras_vit.VisionModel(model.input, model.output, class_names=NAMES, reject=reject)
        keras_vit.export.web(rejecting, tmp_path / "page", runtime=node_modules)
        url = serve(tmp_path / "page")
        seen = in_browser("numbers.mjs", url=url, image=str(tmp_path / "a.png"), screenshot=str(tmp_path / "page.png"))
        (first, _), *others = seen["answers"]  # the classes stay below
        assert seen["status"] == ("None of these" if none else first)
        assert first in NAMES and len(others) == 4 and all(seen["bars"])


@pytest.mark.soak
def test_no_operator_is_refused_on_webgpu(model, files, tmp_path, node_modules, serve, in_browser):
    folder = page(tmp_path / "page", files(), node_modules)
    pixels = read_pixels(photograph("china.jpg"), IMAGE_SIZE)
    kinds = [(mode, "float32") for mode in TOLERANCE] + [("float32", "uint8")]  # whole pixels come with a CAST in front
    jobs = {}
    for mode, input_type in kinds:
        name = f"{mode}-{input_type}.tflite"
        (folder / name).write_bytes(files(mode, input_type))
        jobs[name] = {"input": pixels.ravel().tolist(), "kind": input_type}
    (tmp_path / "china.jpg").write_bytes(photograph("china.jpg"))
    result = in_browser("webgpu.mjs", url=serve(folder), device="gpu", files=jobs, image=str(tmp_path / "china.jpg"))
    before, after = (status.split("·")[0] for status in result["statuses"])
    assert before == after  # the page's own switch: the same class, as sure
    seen = result["files"]
    refused = {
        name: [line for line in result["console"] if REFUSED.search(line)]
        + [result[key] for key in result if key == "error"]
        for name, result in seen.items()
    }
    assert not any(refused.values()), refused
    for (mode, input_type), result in zip(kinds, seen.values(), strict=True):
        assert result["accelerated"], (mode, input_type)
        if mode == "int8":
            expected = dict(zip(("probabilities", "rollout"), keras_outputs(rounded(model), pixels[None])))
        else:
            expected = run_tflite(files(mode, input_type), pixels[None])
        for name, values in expected.items():
            np.testing.assert_allclose(result["outputs"][name], values.ravel(), atol=1e-5, err_msg=mode)


def test_mediapipe_on_the_web_reads_labels_and_scaling_from_the_file(
    model, files, tmp_path, node_modules, serve, in_browser
):
    kinds = [("float32", "uint8"), ("int8", "float32")]
    for mode, input_type in kinds:
        (tmp_path / f"{mode}.tflite").write_bytes(files(mode, input_type))
    (tmp_path / "index.html").write_text("<!DOCTYPE html><title>MediaPipe</title>")
    (tmp_path / "vision").symlink_to(node_modules / "@mediapipe/tasks-vision")
    # Of the model's size and opaque: the client's own resize is another one.
    pixels = read_pixels(photograph("china.jpg"), IMAGE_SIZE)
    rgba = base64.b64encode(np.dstack([pixels, np.full(IMAGE_SIZE, 255, np.uint8)]).tobytes()).decode()
    height, width = IMAGE_SIZE
    url = serve(tmp_path)
    models = [f"{mode}.tflite" for mode, _ in kinds]
    seen = in_browser("mediapipe.mjs", url=url, rgba=rgba, height=height, width=width, models=models)
    for mode, input_type in kinds:
        scores = dict(seen["answers"][f"{mode}.tflite"])["probabilities"]
        expected = run_tflite(files(mode, input_type), pixels[None])["probabilities"][0]
        np.testing.assert_allclose([scores[name] for name in NAMES], expected, atol=TOLERANCE[mode], err_msg=mode)
    expected, _ = keras_outputs(model, pixels[None])
    scores = dict(seen["answers"]["float32.tflite"])["probabilities"]
    np.testing.assert_allclose([scores[name] for name in NAMES], expected[0], atol=1e-5)
    assert not [address for address in seen["requests"] if not address.startswith((url, "blob:", "data:"))]


# What follows needs no browser.


@pytest.fixture
def modules(tmp_path):
    """A node_modules with files of the right names and versions."""
    for package, names in RUNTIME.items():
        for name in names:
            file = tmp_path / "node_modules" / package / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({"version": _VERSION}))
    return tmp_path / "node_modules"


def test_the_folder_holds_all_that_the_page_names(files, tmp_path, modules, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the runtime is looked for by default
    page(tmp_path / "page", files(), None, title='"Beasts" & <birds>')
    written = {file.relative_to(tmp_path / "page").as_posix() for file in (tmp_path / "page").rglob("*.*")}
    html = (tmp_path / "page/index.html").read_text()
    assert "<h1>&quot;Beasts&quot; &amp; &lt;birds&gt;</h1>" in html and "$" not in html
    named = set(re.findall(r'(?:href|src)="(.+?)"', html))
    for script in (tmp_path / "page").glob("*.js"):
        named |= set(re.findall(r'from "\./(.+?)"', script.read_text()))
    (imports,) = re.findall(r'<script type="importmap">(.+)</script>', html)
    named |= {address.removeprefix("./") for address in json.loads(imports)["imports"].values()}
    digest = base64.b64encode(hashlib.sha256(imports.encode()).digest()).decode()
    assert f"script-src 'self' 'wasm-unsafe-eval' 'sha256-{digest}';" in html
    assert named <= written and {"model.tflite", "model.json"} <= written
    assert (tmp_path / "page/model.tflite").read_bytes() == files()
    facts = json.loads((tmp_path / "page/model.json").read_text("utf-8"))
    assert (facts["classes"], facts["image_size"]) == (list(NAMES), list(IMAGE_SIZE))
    assert "Apache License" in (tmp_path / "page/runtime/LICENSE").read_text()
    everything = "".join(file.read_text() for file in (tmp_path / "page").glob("*.[hjc][ts]*"))
    assert not re.findall(r"https?://(?!www.w3.org/)\w+", everything)


def test_without_the_runtime_the_error_says_how_to_get_it(files, tmp_path, modules):
    (modules / "@litertjs/core/package.json").write_text('{"version": "2.6.0"}')
    (modules / "@litertjs/wasm-utils/dist/index.js").unlink()
    with pytest.raises(ValueError, match="(?s)core of version 2.6.0.*wasm-utils without dist/index.js.*@2.5.3$"):
        page(tmp_path / "page", files(), modules)
    with pytest.raises(ValueError, match="no folder .*npm install --save-exact @litertjs/core@2.5.3"):
        page(tmp_path / "page", files(), tmp_path / "elsewhere")
    assert not list(tmp_path.glob("*page*"))


@pytest.mark.parametrize(
    "change, words",
    [
        ({"tflite": b"PK\3\4 a zip"}, "not a TFLite file"),
        ({"image_size": (49, 35)}, r"input 'images' \(1, 35, 49, 3\), expected float32 \(1, 49, 35, 3\)"),
        ({"class_names": NAMES[:3]}, r"'probabilities' \(1, 5\), expected float32 \(1, 3\)"),
    ],
)
def test_a_file_of_something_else_is_refused(change, words, files, tmp_path, modules):
    facts = {"tflite": files(), "class_names": NAMES, "image_size": IMAGE_SIZE, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    with pytest.raises(ValueError, match=words):
        write_web(tmp_path / "page", title="Beasts", runtime=modules, **facts | change)
    assert not list(tmp_path.glob("*page*"))


def test_a_file_of_whole_pixels_is_refused(files, tmp_path, modules):
    with pytest.raises(ValueError, match="'images' .*, not float32"):
        page(tmp_path / "page", files("float32", "uint8"), modules)
