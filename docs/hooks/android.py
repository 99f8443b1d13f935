"""The Kotlin code of docs/android.md: that of the exported file in savedmodels/digits, from the package's templates."""

import functools
import pathlib

import keras_vit_command  # noqa: F401  first: `import keras_vit` then does not import Keras
from keras_vit.export.android.kotlin import kotlin_code

FILE = pathlib.Path(__file__).parents[2] / "savedmodels" / "digits" / "model_int8.tflite"


@functools.cache
def _sources() -> dict[str, str]:
    return kotlin_code(FILE)


def _fenced(*names: str) -> str:
    return "\n\n".join(f'```kotlin title="{name}"\n{_sources()[name]}```' for name in names)


def image() -> str:
    """Returns the code that turns an image upright."""
    return _fenced("Image.kt")


def mediapipe() -> str:
    """Returns the code for MediaPipe."""
    return _fenced("MediaPipeClassifier.kt")


def litert() -> str:
    """Returns the code for LiteRT."""
    return _fenced("LiteRtModel.kt", "LiteRtClassifier.kt")


def self_test() -> str:
    """Returns the test for a device."""
    return _fenced("SelfTest.kt")
