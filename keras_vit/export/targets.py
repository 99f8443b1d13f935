"""The one table of what a model can be exported to: how each file is made, and the bounds it must keep."""

import functools
import importlib
from collections.abc import Iterable
from typing import NamedTuple

INPUTS = {
    "uint8": "RGB pixels, whole numbers from 0 to 255",
    "float32": "RGB pixels, numbers from 0 to 255",
    "scaled": "RGB pixels scaled by the client",
}
ALSO = ("features", "rollout")  # outputs beside those of the model's head


class Target(NamedTuple):
    """Describes one kind of exported file.

    Args:
        file: its name.
        write: module under `keras_vit.export` and function, "module.function", imported when it is needed; called
            with a `Serving`, a path and `settings`.
        settings: the rest of its arguments.
        bounds: {figure of `Agreement`: (least, most)} that the file must keep.
        tie: difference between two probabilities of the model up to which it does not matter which comes first.
        otherwise: the target to try where this one does not keep its bounds.
        serves: what it changes of the `Serving`, whatever was asked for.
        needs: module and function, as of `write`, that raises what is not installed; called with `settings`.
    """

    file: str
    write: str
    settings: dict
    bounds: dict
    tie: float
    otherwise: str | None = None
    serves: dict | None = None
    needs: str | None = None

    def told(self, **settings):
        """Returns the target with those of the settings changed that it has."""
        return self._replace(settings={name: settings.get(name, value) for name, value in self.settings.items()})

    def writer(self):
        """Returns a function of a `Serving` and a path."""
        return self._bound(self.write)

    def require(self):
        """Raises an ImportError or a ValueError that says how to install what is missing for this target."""
        if self.needs:
            self._bound(self.needs)()

    def _bound(self, name):
        module, _, function = name.rpartition(".")
        return functools.partial(
            getattr(importlib.import_module(f"keras_vit.export.{module}"), function), **self.settings
        )


def _bounds(largest_logit=None, from_bytes=0.05):
    """Returns what a file must keep: on the same pixels, and from encoded images what is not the client's resize.

    Numbers, which have no classes, are held to parts of the largest of them.
    """
    bounds = {"top1_or_tie": (0.99, 1.0), "from_bytes.file_top1_or_tie": (0.99, 1.0)}
    bounds |= {"from_bytes.file_largest": (0.0, from_bytes), "numbers.relative": (0.0, largest_logit or 0.1)}
    if largest_logit:
        bounds |= {"logits.largest": (0.0, largest_logit)}
        # Features and rollout, in parts of the largest number.
        bounds |= {f"outputs.{name}": (0.0, largest_logit) for name in ALSO}
    return bounds


def _by_images(mode):
    return {"mode": mode, "in_float": ()}


EXACT, HALF, ROUNDED = _bounds(1e-3, 0.02), _bounds(2e-2, 0.02), _bounds(from_bytes=0.25)
# A browser hands pixels over as float32; the page shows where the model looks.
WEB = {"input_type": "float32", "also": ("rollout",), "output_type": "float32"}
QUANTIZER, RUNTIME = "tflite.quantization.import_quantizer", "web.site.require_runtime"
TARGETS = {
    "savedmodel": Target("saved_model", "to_savedmodel.write_savedmodel", {}, EXACT, 1e-4),
    "onnx": Target("model.onnx", "to_onnx.write_onnx", {}, EXACT, 1e-4, needs="to_onnx.import_onnx"),
    "tflite-float32": Target(
        "model_float32.tflite", "tflite.conversion.write_tflite", {"mode": "float32"}, EXACT, 1e-4
    ),
    "tflite-float16": Target(
        "model_float16.tflite", "tflite.conversion.write_tflite", {"mode": "float16"}, HALF, 1e-2, "tflite-float32"
    ),
    # Weights of 8 bits move a probability by some hundredths, where the model itself is undecided.
    "tflite-int8": Target(
        "model_int8.tflite", "tflite.conversion.write_tflite", {"mode": "int8"}, ROUNDED, 0.05, "tflite-float16"
    ),
    "tflite-rounded-int8": Target(
        "model_rounded_int8.tflite",
        "tflite.conversion.write_tflite",
        _by_images("rounded-int8"),
        ROUNDED,
        0.05,
        "tflite-float16",
        needs=QUANTIZER,
    ),
    "tflite-static-int8": Target(
        "model_static_int8.tflite",
        "tflite.conversion.write_tflite",
        _by_images("static-int8"),
        ROUNDED,
        0.05,
        "tflite-int8",
        needs=QUANTIZER,
    ),
    "tflite-int4": Target(
        "model_int4.tflite",
        "tflite.conversion.write_tflite",
        _by_images("int4"),
        ROUNDED,
        0.05,
        "tflite-int8",
        needs=QUANTIZER,
    ),
    "web": Target("web", "web.site.write_site", {"runtime": None}, ROUNDED, 0.05, "web-float32", WEB, RUNTIME),
    "web-float32": Target(
        "web_float32", "web.site.write_site", {"mode": "float32", "runtime": None}, EXACT, 1e-4, None, WEB, RUNTIME
    ),
}
# Other names for them: the best file for a phone, and the ones that a run makes.
ALIASES = {"tflite": "tflite-int8"}


def targets_named(names):
    """Returns {name: `Target`} for names out of `TARGETS` and `ALIASES`, each once.

    Raises:
        ValueError: if a name is unknown.
    """
    if isinstance(names, str):
        names = [names]
    if not isinstance(names, Iterable):
        raise ValueError(f"Expected exports as a list out of {', '.join([*ALIASES, *TARGETS])}. Received: {names!r}")
    unknown = [name for name in names if name not in TARGETS and name not in ALIASES]
    if unknown:
        raise ValueError(
            f"Expected exports out of {', '.join([*ALIASES, *TARGETS])}. Received: {', '.join(map(str, unknown))}"
        )
    return {name: TARGETS[name] for name in dict.fromkeys(ALIASES.get(name, name) for name in names)}
