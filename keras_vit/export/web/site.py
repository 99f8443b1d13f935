"""Writes a web page that runs a model in the browser: static files that load nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import pathlib
import shutil
from collections.abc import Sequence
from importlib import resources
from string import Template
from typing import Any

from keras_vit import _compat
from keras_vit._atomic import written_aside
from keras_vit.export.serving import Serving
from keras_vit.export.tflite.conversion import exported

_schema = _compat.tflite_schema()

_VERSION = "2.5.3"
INSTALL = f"npm install --save-exact @litertjs/core@{_VERSION}"
# Files of the runtime that the page loads. A browser loads one of two .wasm files: "compat" if it has no relaxed SIMD
# (Safari). A third, with threads, needs headers that plain servers do not send; a fourth, "jspi", divides a model
# between GPU and CPU, which our files do not need.
RUNTIME = {
    "@litertjs/core": (
        "package.json",
        "dist/index.js",
        "wasm/litert_wasm_internal.js",
        "wasm/litert_wasm_internal.wasm",
        "wasm/litert_wasm_compat_internal.js",
        "wasm/litert_wasm_compat_internal.wasm",
    ),
    "@litertjs/wasm-utils": ("package.json", "dist/index.js"),
}
NOTICE = f"""LiteRT.js {_VERSION} (@litertjs/core and @litertjs/wasm-utils), Copyright 2025 Google LLC, unchanged.
Licensed under the Apache License, Version 2.0; see LICENSE. Source: https://github.com/google-ai-edge/LiteRT
"""


def write_web(
    path: str | os.PathLike[str],
    tflite: bytes,
    class_names: Sequence[str],
    *,
    title: str,
    image_size: Sequence[int],
    channels: int = 3,
    mean: Sequence[float],
    std: Sequence[float],
    runtime: str | os.PathLike[str] | None = None,
    numbers: Sequence[str] = (),
    thresholds: Sequence[float] = (),
) -> None:
    """Writes a folder for any web server: the page, the model and the runtime.

    The runtime has 19 MB, of which a browser loads 9.7 MB.

    Args:
        path: of the folder; an older one is replaced.
        tflite: bytes of a TFLite file: float32 pixels of 0 to 255 (1, height, width, channels) -> "probabilities"
            (1, classes) and, where the model has attention, "rollout" (1, grid rows, grid columns), and "known" (1, 1),
            below 0 for an image that is none of the classes.
        class_names: in the order of the probabilities.
        title: the page's heading.
        image_size: (height, width) of the file's input, pixels.
        channels: of the file's input: 1 for grey, 3 for RGB, 4 for RGBA.
        mean, std: (channels,) parts of 255, by which the file scales; shown on the page.
        runtime: folder with `RUNTIME`, as npm installs it; node_modules of the working directory by default.
        numbers: names of the outputs to show, where they are numbers without classes.
        thresholds: of labels that are scored independently, the least score of each that an image has.

    Raises:
        ValueError: if the file has another input or output, or the runtime is missing or of another version.
    """
    if faults := _faults(tflite, len(class_names), (1, *image_size, channels), tuple(numbers)):
        raise ValueError("Expected a TFLite file of float32 pixels for a web page. Received: " + "; ".join(faults))
    modules = require_runtime(runtime)
    facts = {
        "classes": list(class_names),
        "returns": "numbers" if numbers else "scores" if thresholds else "probabilities",
        **({"thresholds": list(thresholds)} if thresholds else {}),
        "outputs": list(numbers) or ["probabilities"],
        "image_size": list(image_size),
        "channels": channels,
        "mean": list(mean),
        "std": list(std),
        "bytes": len(tflite),
        "runtime": f"LiteRT.js {_VERSION}",
    }
    with written_aside(path) as aside:
        aside.mkdir()
        (aside / "model.tflite").write_bytes(tflite)
        (aside / "model.json").write_text(json.dumps(facts, ensure_ascii=False, indent=1) + "\n", "utf-8")
        _write_page(aside, title)
        _copy_runtime(modules, aside / "runtime")


def _faults(tflite: bytes, classes: int, expected: tuple[int, ...], numbers: Sequence[str]) -> list[str]:
    """Returns the inputs and outputs of a TFLite file that the page cannot use, a phrase each."""
    if tflite[4:8] != b"TFL3":
        return ["bytes that are not a TFLite file"]
    model = _schema.Model.GetRootAs(tflite)
    if model.SignatureDefsLength() != 1:
        return [f"{model.SignatureDefsLength()} signatures, expected 1"]
    signature = model.SignatureDefs(0)
    tensors = model.Subgraphs(signature.SubgraphIndex()).Tensors
    entries, outputs = (
        {item.Name().decode(): tensors(item.TensorIndex()) for item in (get(index) for index in range(length))}
        for get, length in (
            (signature.Inputs, signature.InputsLength()),
            (signature.Outputs, signature.OutputsLength()),
        )
    )
    faults = [
        f"input {name!r} {shape}{'' if floats else ', not float32'}, expected float32 {expected}"
        for name, (shape, floats) in ((name, _kind(tensor)) for name, tensor in entries.items())
        if shape != expected or not floats
    ]
    if missing := [name for name in numbers or ("probabilities",) if name not in outputs]:
        faults.append(f"outputs {', '.join(outputs)}, expected {', '.join(map(repr, missing))} among them")
    elif not numbers and (kind := _kind(outputs["probabilities"])) != ((1, classes), True):
        faults.append(f"'probabilities' {kind[0]}, expected float32 {(1, classes)}, one for each class name")
    if "rollout" in outputs and len(_kind(outputs["rollout"])[0]) != 3:
        faults.append(f"'rollout' {_kind(outputs['rollout'])[0]}, expected (1, grid rows, grid columns)")
    return faults


def _kind(tensor: Any) -> tuple[tuple[int, ...], bool]:
    """Returns a tensor's shape, and whether it is float32."""
    return tuple(map(int, tensor.ShapeAsNumpy())), tensor.Type() == _schema.TensorType.FLOAT32


def require_runtime(runtime: str | os.PathLike[str] | None = None, **_: Any) -> pathlib.Path:
    """Returns the folder in which npm installed LiteRT.js, or raises a ValueError that says how to install it."""
    modules, faults = pathlib.Path("node_modules" if runtime is None else runtime), []
    for package, files in RUNTIME.items():
        folder = modules / package
        missing = [name for name in files if not (folder / name).is_file()]
        if missing:
            faults.append(f"{folder} without {', '.join(missing)}" if folder.is_dir() else f"no folder {folder}")
        elif (version := json.loads((folder / "package.json").read_text("utf-8")).get("version")) != _VERSION:
            faults.append(f"{folder} of version {version}")
    if faults:
        raise ValueError(
            f"Expected LiteRT.js {_VERSION}, which runs the model in the browser. Received: {'; '.join(faults)}. "
            f"Install it with: {INSTALL}"
        )
    return modules


def _write_page(folder: pathlib.Path, title: str) -> None:
    imports = {package: f"./runtime/{_short(package)}/dist/index.js" for package in RUNTIME}
    inline = json.dumps({"imports": imports})
    # The only script inside the page: the page's policy allows it by its hash.
    digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
    values = {"title": html.escape(title), "imports": inline, "hash": f"sha256-{digest}"}
    for source in resources.files("keras_vit").joinpath("export/web/static").iterdir():
        if source.name == "index.html":
            (folder / source.name).write_text(Template(source.read_text("utf-8")).substitute(values), "utf-8")
        elif source.name != "apache-2.0.txt":
            (folder / source.name).write_bytes(source.read_bytes())


def _copy_runtime(modules: pathlib.Path, folder: pathlib.Path) -> None:
    for package, files in RUNTIME.items():
        for name in files:
            copy = folder / _short(package) / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(modules / package / name, copy)
    (folder / "NOTICE").write_text(NOTICE, "utf-8")
    licence = resources.files("keras_vit").joinpath("export/web/static/apache-2.0.txt")
    (folder / "LICENSE").write_bytes(licence.read_bytes())


def _short(package: str) -> str:
    return package.removeprefix("@litertjs/")


def write_site(
    serving: Serving,
    path: str | os.PathLike[str],
    mode: str = "int8",
    runtime: str | os.PathLike[str] | None = None,
    scale_norms: bool = False,
) -> None:
    """Writes a `Serving` of float32 pixels as a web page; for the modes see `write_tflite`, for errors `write_web`."""
    write_web(
        path,
        exported(serving, mode, scale_norms=scale_norms),
        serving.class_names,
        title=serving.facts["name"],
        image_size=serving.image_size,
        channels=serving.channels,
        mean=serving.pixels.mean,
        std=serving.pixels.std,
        runtime=runtime,
        numbers=serving.head_outputs if serving.kind == "numbers" else (),
        thresholds=serving.thresholds,
    )
