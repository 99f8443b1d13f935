"""The Kotlin code for an exported file: what the file says is in it; it compiles, and its pixels are a client's."""

import json
import pathlib
import re
import shutil
import subprocess

import keras
import numpy as np
import pytest
from ai_edge_litert.compiled_model import CompiledModel

import keras_vit
from keras_vit._quiet import quiet
from keras_vit.export.android.kotlin import kotlin_code
from keras_vit.export.serving import make_serving
from keras_vit.export.tflite.conversion import converted, with_metadata
from keras_vit.runtime.images import CENTER, CORNER, resized

# Before Kotlin 1.8, `use` of an AutoCloseable was in a library of its own.
STDLIB = pathlib.Path("/usr/share/java/kotlin-stdlib-jdk7.jar")
STAND_INS = pathlib.Path(__file__).parent / "android"
SIZE = (10, 14)  # height, width
NAMES = ("ant", "$bee", "cow")
PIXELS = keras_vit.Pixels(mean=(0.4,) * 3, std=(0.25,) * 3)
# name -> (mode, options of `make_serving`)
CASES = {
    "integers": ("int8", {}),
    "floats": ("float32", {"input_type": "float32"}),
    "scaled": ("float32", {"input_type": "scaled"}),
    "extra": ("int8", {"extra_outputs": ("rollout", "features"), "output_type": "uint8"}),
    "numbers": ("float32", {"outputs": "numbers"}),
    "labels": ("float32", {"outputs": "scores", "thresholds": (0.25, 0.5, 0.05)}),
    "reject": ("float32", {"reject": keras_vit.evaluation.Reject(share=0.1, threshold=0.5)}),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """{name of a case: path of its .tflite file}."""
    keras.utils.set_random_seed(0)
    variant = keras_vit.Variant(patch_size=2, hidden_size=32, num_layers=1, num_heads=2, mlp_dim=48)
    model = keras_vit.build(variant, input_shape=(*SIZE, 3), classes=len(NAMES))
    model.pixels = PIXELS
    features = model.get_layer("head").input
    numbers = {"age": keras.layers.Dense(1)(features), "place": keras.layers.Dense(2)(features)}
    independent = keras.layers.Dense(len(NAMES), "sigmoid")(features)
    others = {
        name: keras_vit.VisionModel(model.input, ends) for name, ends in (("numbers", numbers), ("labels", independent))
    }
    folder, made = tmp_path_factory.mktemp("files"), {}
    for name, (mode, options) in CASES.items():
        serving = make_serving(others.get(name, model), NAMES, **options)
        made[name] = folder / f"{name}$1.tflite"
        made[name].write_bytes(with_metadata(converted(serving.model, mode), serving))
    return made


def test_the_code_contains_what_the_file_says(files):
    codes = {name: kotlin_code(path, package="org.farm.app") for name, path in files.items()}
    for name, code in codes.items():
        for source, text in code.items():
            assert text.startswith("package org.farm.app\n") and not re.search(r"%\w", text), source
        model = code["LiteRtModel.kt"]
        assert "const val HEIGHT = 10\n" in model and "const val WIDTH = 14\n" in model
        assert f'file: String = "{name}\\$1.tflite"' in model
    models = {name: code["LiteRtModel.kt"] for name, code in codes.items()}
    assert [name for name, text in models.items() if "writeInt8" in text] == [
        "integers",
        "extra",
        "numbers",
        "labels",
        "reject",
    ]
    assert "(levels[it] - 102f) / 63.75f" in models["scaled"] and "levels[it].toFloat()" in models["floats"]
    assert re.findall(r'"(\w+)" to outputs\[(\d)\]', models["extra"]) == [
        ("probabilities", "0"),
        ("rollout", "1"),
        ("features", "2"),
    ]
    phone = {name: code["MediaPipeClassifier.kt"] for name, code in codes.items() if "MediaPipeClassifier.kt" in code}
    assert set(phone) == {"integers", "floats", "scaled", "labels", "reject"}
    classifiers = {name: code["LiteRtClassifier.kt"] for name, code in codes.items() if name != "numbers"}
    for texts in (phone, classifiers):
        assert [name for name, text in texts.items() if 'thresholds: String? = "thresholds.txt"' in text] == ["labels"]
    assert set(codes["numbers"]) == {"Image.kt", "LiteRtModel.kt", "SelfTest.kt"}
    for name, tolerance in {"integers": "0.1)", "floats": "0.02)", "numbers": "0.02 * largest)"}.items():
        assert f", {tolerance}" in codes[name]["SelfTest.kt"], name


def test_the_name_in_the_app_can_be_another(files):
    assert '"birds.tflite"' in kotlin_code(files["floats"], "birds.tflite")["MediaPipeClassifier.kt"]
    with pytest.raises(ValueError, match="made by `keras-vit export`"):
        kotlin_code(STAND_INS / "litert.kt")


def test_litert_has_the_buffers_in_the_order_of_the_code(files):
    for name in ("extra", "numbers", "reject"):
        with quiet():
            (signature,) = CompiledModel.from_file(str(files[name])).get_signature_list().values()
        assert signature["outputs"] == re.findall(r'"(\w+)" to outputs', kotlin_code(files[name])["LiteRtModel.kt"])


MAIN = """
import android.content.AssetManager
import android.content.Context
import android.graphics.Bitmap
import com.google.ai.edge.litert.outputsOf
import com.google.ai.edge.litert.written

fun main(arguments: Array<String>) {
    val (width, height) = arguments[0].split("x").map { it.toInt() }
    val bytes = java.io.File(arguments[1]).readBytes()
    fun level(index: Int) = bytes[index].toInt() and 0xFF
    val bitmap = Bitmap(width, height, IntArray(width * height) {
        0xFF shl 24 or (level(3 * it) shl 16) or (level(3 * it + 1) shl 8) or level(3 * it + 2)
    })
    val context = Context(AssetManager(mapOf(
        "labels.txt" to "ant\\n\\$bee\\ncow\\n".toByteArray(),
        "thresholds.txt" to "0.25\\n0.5\\n0.0500000007\\n".toByteArray()
    )))
    val probabilities = floatArrayOf(0.2f, 0.7f, 0.1f)
    var margin = 0.2f
    outputsOf = { file -> when {
        "numbers" in file -> listOf(floatArrayOf(1.5f), floatArrayOf(-2f, 3f))
        "extra" in file -> listOf(byteArrayOf(51, -77, 25), floatArrayOf(4f), floatArrayOf(5f, 6f))
        "reject" in file -> listOf(probabilities, floatArrayOf(margin))
        else -> listOf(probabilities)
    } }
    for (origin in listOf(0f, 0.5f)) {
%runs
    }
    println(app.integers.LiteRtClassifier(context).classify(bitmap, 2))
    println(app.extra.LiteRtClassifier(context).classify(bitmap, 1))
    println(app.labels.LiteRtClassifier(context).classify(bitmap))
    println(app.labels.LiteRtClassifier(context, thresholds = null).classify(bitmap).size)
    println(app.reject.LiteRtClassifier(context).classify(bitmap, 1))
    margin = -0.01f
    println(app.reject.LiteRtClassifier(context).classify(bitmap, 1))
    println(app.numbers.LiteRtModel(context).run(bitmap).mapValues { it.value.toList() })
}
"""
RUN = """
        app.NAME.LiteRtModel(context, origin = origin).use { it.run(bitmap) }
        println(written.removeAt(0).let { if (it is ByteArray) it.toList() else (it as FloatArray).toList() })
"""


@pytest.mark.soak
@pytest.mark.skipif(not shutil.which("kotlinc"), reason="needs kotlinc, of Debian's package kotlin")
def test_the_code_compiles_and_passes_the_pixels_of_a_client(files, tmp_path):
    sources = sorted(STAND_INS.glob("*.kt"))
    for name, path in files.items():
        for source, text in kotlin_code(path, package=f"app.{name}").items():
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / source).write_text(text)
            sources.append(tmp_path / name / source)
    main = tmp_path / "Main.kt"
    main.write_text(MAIN.replace("%runs", "".join(RUN.replace("NAME", name) for name in CASES)))
    program = tmp_path / "main.jar"
    command = ["kotlinc", *sources, main, "-cp", STDLIB, "-include-runtime", "-d", program]
    compiled = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert compiled.returncode == 0, compiled.stderr
    assert "/LiteRt" not in compiled.stderr and "/SelfTest" not in compiled.stderr, compiled.stderr  # no warning
    for height, width in ((23, 31), (7, 9), SIZE):
        # A slope of three levels a pixel: MediaPipe's positions, of 1/32 of a pixel, change at most a level.
        y, x = np.mgrid[:height, :width]
        image = np.stack([3 * y + 2 * x, 200 - 3 * x, 5 * y], axis=-1).astype(np.uint8)
        (tmp_path / "image").write_bytes(image.tobytes())
        done = subprocess.run(
            ["java", "-cp", f"{program}:{STDLIB}", "MainKt", f"{width}x{height}", tmp_path / "image"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        for origin in (CORNER, CENTER):
            expected = resized(image, SIZE, origin).astype(int)
            for name in CASES:
                values = np.array(json.loads(lines.pop(0)), np.float64).reshape(*SIZE, 3)
                if name == "scaled":
                    values = values * 63.75 + 102
                elif name != "floats":
                    values = values % 256  # Kotlin's bytes have a sign
                tolerance = 0 if (height, width) == SIZE else 1
                np.testing.assert_allclose(values, expected, atol=tolerance + 1e-3, err_msg=f"{name} {origin}")
        assert lines == [
            "[Label(name=$bee, probability=0.7), Label(name=ant, probability=0.2)]",
            "[Label(name=$bee, probability=0.7019608)]",  # 179 of 255
            "[Label(name=$bee, probability=0.7), Label(name=cow, probability=0.1)]",  # ant is below its threshold
            "3",
            "[Label(name=$bee, probability=0.7)]",
            "[]",  # none of these
            "{age=[1.5], place=[-2.0, 3.0]}",
        ]
