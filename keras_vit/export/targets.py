"""Export targets: one row for each kind of file that a model can be exported to.

A new format is a module with its writer, a row here, and a reader in `keras_vit.runtime`. The command line, `fit`, the
proof and the tables in reports read this table. It imports neither Keras nor TensorFlow: functions are written as
"module.function", below `keras_vit`, and imported when they are called.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from keras_vit.export.proof import Reference
    from keras_vit.export.serving import Serving

# Types of a file's input, and the pixels that the client passes.
INPUTS = {"uint8": "integers from 0 to 255", "float32": "numbers from 0 to 255", "scaled": "scaled by the client"}
# Outputs that a file can have in addition to those of the model's head: if asked for, and of a model with a `Reject`.
CHOSEN_OUTPUTS, KNOWN = ("features", "rollout"), "known"
EXTRA_OUTPUTS = (*CHOSEN_OUTPUTS, KNOWN)

Bounds = Mapping[str, tuple[float, float]]


class Target(NamedTuple):
    """One kind of exported file: how it is written, and what is checked before it is kept.

    Args:
        file: name of the file or folder.
        description: what it is for, in a few words.
        writer: function of a `Serving`, a path and `settings` that writes the file.
        settings: keyword arguments of the writer, with their defaults.
        bounds: {figure of `Agreement`: (least, most)} that the file must keep.
        tie: difference between two probabilities of the model up to which either class may come first.
        client_resize: where clients of this file sample an image that they resize: from the "corner" of the image
            (MediaPipe), or from the "center" of its first pixel (all others).
        fallback: the target to try where this one does not keep its bounds.
        overrides: arguments of `keras_vit.export.serving.make_serving` that this file fixes.
        requirements: function of `settings` that raises an error if something is not installed.
        operators: function of the file's bytes that returns its operators and what delegates do not support.
        bundle: function that writes a .zip with code for an app and a test for a device.
        channels: numbers of channels of the images that its clients read; () for any.
        delegate: the delegate that it is made for, one of `keras_vit.runtime.lint.DELEGATES`. A file with operators
            that the delegate does not support is not kept.
    """

    file: str
    description: str
    writer: str
    settings: Mapping[str, Any]
    bounds: Bounds
    tie: float
    client_resize: Literal["corner", "center"] = "center"
    fallback: str | None = None
    overrides: Mapping[str, Any] = {}
    requirements: str | None = None
    operators: str | None = None
    bundle: str | None = None
    channels: tuple[int, ...] = ()
    delegate: str | None = None

    @property
    def output_types(self) -> tuple[str, ...]:
        """Types that the probabilities may have. Steps of 1/255 are too coarse where logits are compared.

        A target that overrides the type accepts each, and ignores it.
        """
        is_free = "output_type" in self.overrides or "logits.max_difference" not in self.bounds
        return ("float32", "uint8") if is_free else ("float32",)

    def with_settings(self, **settings: Any) -> Target:
        """Returns the target with other settings; those that its writer does not have are ignored."""
        return self._replace(settings={name: settings.get(name, value) for name, value in self.settings.items()})

    def for_delegate(self, delegate: str | None) -> Target:
        """Returns the target as it is made for a delegate: for a GPU, it also has to agree in half precision."""
        row = self._replace(delegate=delegate)
        if not row.in_half_precision:
            return row
        row = row.with_settings(**{**self.settings, "scale_norms": True})
        return row._replace(bounds={**self.bounds, **_IN_HALF})

    @property
    def in_half_precision(self) -> bool:
        """Whether the delegate computes in float16."""
        return self.delegate in ("gpu", "webgpu")

    def write(self, serving: Serving, path: str | os.PathLike[str]) -> None:
        """Writes the file of a `Serving`."""
        _imported(self.writer)(serving, path, **self.settings)

    def check_requirements(self) -> None:
        """Raises an ImportError or a ValueError that says how to install what is missing for this target."""
        if self.requirements:
            _imported(self.requirements)(**self.settings)

    def operators_of(self, path: str | os.PathLike[str]) -> tuple[dict[str, int], dict[str, list[str]]]:
        """Returns {operator: count} of a file, and {delegate: what it does not support}; empty if unknown."""
        if not self.operators:
            return {}, {}
        with open(path, "rb") as file:
            return _imported(self.operators)(file.read())

    def write_bundle(self, path: os.PathLike[str], file: os.PathLike[str], name: str, reference: Reference) -> bool:
        """Writes the .zip for an app and a device; returns False for targets without one."""
        if self.bundle:
            _imported(self.bundle)(path, file, name, reference)
        return bool(self.bundle)


def image_kind(channels: int) -> str:
    """Returns the kind of images of a number of channels as an adjective, such as "RGB" for 3."""
    return {1: "grey", 3: "RGB", 4: "RGBA"}.get(channels, f"{channels}-band")


def _imported(name: str) -> Callable[..., Any]:
    module, _, function = name.rpartition(".")
    return getattr(importlib.import_module(f"keras_vit.{module}"), function)


def _bounds(max_logit: float | None = None, file_max: float = 0.05) -> dict[str, tuple[float, float]]:
    """Returns the bounds of a target.

    Args:
        max_logit: largest difference of a logit, and of other numbers in parts of the largest of them.
        file_max: largest difference of a probability from encoded images, without that of the client's resize.
    """
    bounds = {"top1_agreement_or_tie": (0.99, 1.0), "from_encoded.file_top1_agreement_or_tie": (0.99, 1.0)}
    bounds |= {"from_encoded.file_max_difference": (0.0, file_max)}
    bounds |= {"numbers.relative_difference": (0.0, max_logit or 0.1), "reject.agreement_or_tie": (0.99, 1.0)}
    if max_logit:
        bounds |= {"logits.max_difference": (0.0, max_logit)}
        bounds |= {f"extra_outputs.{name}": (0.0, max_logit) for name in CHOSEN_OUTPUTS}
        bounds |= {"reject.max_difference": (0.0, max_logit)}
    return bounds


# Activations of 16 bits change a probability of a ViT-S/14 by less than 0.02 in 95 of 100 images.
_NPU = _bounds(file_max=0.25) | {"probabilities.percentile_95": (0.0, 0.02)}
_FLOAT32, _FLOAT16, _ROUNDED = _bounds(1e-3, 0.02), _bounds(2e-2, 0.02), _bounds(file_max=0.25)
_IN_HALF = {
    "float16.top1_agreement_or_tie": (0.99, 1.0),
    "float16.logits.cosine": (0.999, 1.0),
    "float16.numbers.relative_difference": (0.0, 0.1),
    "float16.reject.agreement_or_tie": (0.99, 1.0),
}
# Weights of 8 bits move a probability by some hundredths, where the model itself is undecided.
_TIES = {"float32": 1e-4, "float16": 1e-2, "rounded": 0.05}
_OPERATORS = "runtime.operators.count_operators"


def _tflite(
    mode: str,
    description: str,
    bounds: Bounds,
    tie: float,
    fallback: str | None = None,
    by_images: bool = False,
) -> Target:
    """Returns the row of a .tflite file; `by_images` for modes that ai-edge-quantizer writes, with images."""
    return Target(
        f"model_{mode.replace('-', '_')}.tflite",
        description,
        "export.tflite.conversion.write_tflite",
        {"mode": mode, "scale_norms": False} | ({"in_float": ()} if by_images else {}),
        bounds,
        tie,
        client_resize="corner",
        fallback=fallback,
        requirements="export.tflite.quantization.check_quantizer" if by_images else None,
        operators=_OPERATORS,
        bundle="export.bundle.write_bundle",
    )


def _web(file: str, mode: str, bounds: Bounds, tie: float, fallback: str | None = None) -> Target:
    """Returns the row of a web page."""
    return Target(
        file,
        f"web page that classifies images and the camera in the browser, {mode} weights",
        "export.web.site.write_site",
        {"mode": mode, "runtime": None, "scale_norms": False},
        bounds,
        tie,
        fallback=fallback,
        # A browser passes pixels as float32; the page shows the attention rollout.
        overrides={"input_type": "float32", "extra_outputs": ("rollout",), "output_type": "float32"},
        requirements="export.web.site.require_runtime",
        operators=_OPERATORS,
        channels=(1, 3, 4),  # a browser reads no others
    )


TARGETS: dict[str, Target] = {
    "savedmodel": Target(
        "saved_model",
        "SavedModel for TensorFlow Serving",
        "export.to_savedmodel.write_savedmodel",
        {},
        _FLOAT32,
        _TIES["float32"],
    ),
    "onnx": Target(
        "model.onnx",
        "ONNX file for onnxruntime",
        "export.to_onnx.write_onnx",
        {},
        _FLOAT32,
        _TIES["float32"],
        requirements="export.to_onnx.import_onnx",
    ),
    "openvino": Target(
        "openvino_model",
        "OpenVINO model for servers with Intel or AMD processors",
        "export.to_openvino.write_openvino",
        {},
        _FLOAT32,
        _TIES["float32"],
        requirements="export.to_openvino.import_openvino",
    ),
    "tflite-float32": _tflite("float32", "TFLite, weights of 32 bits", _FLOAT32, _TIES["float32"]),
    "tflite-float16": _tflite(
        "float16", "TFLite, weights of 16 bits, for GPUs", _FLOAT16, _TIES["float16"], "tflite-float32"
    ),
    "tflite-int8": _tflite(
        "int8", "TFLite, weights of 8 bits, for phones", _ROUNDED, _TIES["rounded"], "tflite-float16"
    ),
    "tflite-rounded-int8": _tflite(
        "rounded-int8",
        "TFLite, weights of 8 bits that calibration images round",
        _ROUNDED,
        _TIES["rounded"],
        "tflite-float16",
        by_images=True,
    ),
    "tflite-static-int8": _tflite(
        "static-int8",
        "TFLite, weights and activations of 8 bits",
        _ROUNDED,
        _TIES["rounded"],
        "tflite-int8",
        by_images=True,
    ),
    "tflite-int4": _tflite(
        "int4", "TFLite, weights of 4 bits", _ROUNDED, _TIES["rounded"], "tflite-int8", by_images=True
    ),
    "tflite-npu": _tflite(
        "npu", "TFLite, weights of 8 bits and activations of 16, for NPUs", _NPU, _TIES["rounded"], "tflite-int8"
    )._replace(delegate="npu"),
    "web": _web("web", "int8", _ROUNDED, _TIES["rounded"], "web-float32"),
    "web-float32": _web("web_float32", "float32", _FLOAT32, _TIES["float32"]),
}
# Other names of targets: `keras-vit export` without --to writes this file.
ALIASES = {"tflite": "tflite-int8"}
DEFAULT_TARGET = "tflite"


class Purpose(NamedTuple):
    """A delegate that files can be made for: what `keras-vit export --for` writes, and refuses otherwise.

    Args:
        target: the format without another choice.
        input_type: the type of its input: no GPU turns bytes into numbers.
    """

    target: str
    input_type: str


PURPOSES = {"gpu": Purpose("tflite-float16", "float32"), "npu": Purpose("tflite-npu", "uint8")}


def check_requirements(targets: Mapping[str, Target], channels: int | None = None) -> None:
    """Raises one error that lists everything that is missing for targets, before any long work.

    Args:
        targets: {name: `Target`}.
        channels: of the model's images; None where they are not known yet.

    Raises:
        ImportError, ValueError: if a requirement of a target is not installed; the message says how to install it.
        ValueError: if the clients of a target do not read images of so many channels.
    """
    unread = [name for name, row in targets.items() if channels and row.channels and channels not in row.channels]
    if unread:
        kinds = " or ".join(map(image_kind, targets[unread[0]].channels))
        raise ValueError(
            f"Expected a model of {kinds} images for {', '.join(unread)}, which reads no others. Received: "
            f"channels={channels}. Export other targets"
        )
    errors: dict[str, Exception] = {}
    for target in targets.values():
        try:
            target.check_requirements()
        except (ImportError, ValueError) as error:
            errors.setdefault(str(error), error)  # several targets can lack the same package
    if errors:
        first, *others = errors.values()
        raise first if not others else type(first)("\n".join(errors))


def targets_named(names: str | Iterable[str]) -> dict[str, Target]:
    """Returns {name: `Target`} for names in `TARGETS` and `ALIASES`, each once.

    Raises:
        ValueError: if a name is unknown.

    Example:
        ```python
        from keras_vit.export.targets import targets_named

        assert list(targets_named(["tflite", "tflite-int8", "onnx"])) == ["tflite-int8", "onnx"]
        ```
    """
    known = ", ".join([*ALIASES, *TARGETS])
    if isinstance(names, str):
        names = [names]
    if not isinstance(names, Iterable):
        raise ValueError(f"Expected exports to be a list of names out of {known}. Received: {names!r}")
    names = list(names)
    unknown = [name for name in names if name not in TARGETS and name not in ALIASES]
    if unknown:
        raise ValueError(f"Expected exports out of {known}. Received: {', '.join(map(str, unknown))}")
    return {name: TARGETS[name] for name in dict.fromkeys(ALIASES.get(name, name) for name in names)}
