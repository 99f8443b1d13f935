"""The Kotlin code of docs/android.md is that of a file in savedmodels/."""

import importlib.util
import pathlib
import re

from keras_vit.export.android.kotlin import kotlin_code

ROOT = pathlib.Path(__file__).parents[2]


def test_the_page_has_all_the_code_of_a_file():
    spec = importlib.util.spec_from_file_location("android", ROOT / "docs" / "hooks" / "android.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = (ROOT / "docs" / "android.md").read_text("utf-8")
    shown = "\n".join(getattr(module, name)() for name in re.findall(r"^\{\{ android_(\w+) \}\}$", page, re.MULTILINE))
    blocks = dict(re.findall(r'```kotlin title="(.+?)"\n(.*?)```', shown, re.DOTALL))
    assert blocks == kotlin_code(ROOT / "savedmodels" / "digits" / "model_int8.tflite")
    assert "whose input has 8 x 8 pixels" in page and "const val HEIGHT = 8" in blocks["LiteRtModel.kt"]
