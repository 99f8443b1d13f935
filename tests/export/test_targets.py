"""The table of export targets: it needs no Keras, each row is whole, and `keras_vit.export` keeps its functions."""

import importlib
import inspect

import pytest

import keras_vit
from keras_vit.export.proof import Agreement
from keras_vit.export.serving import make_serving
from keras_vit.export.targets import ALIASES, CHOSEN_OUTPUTS, DEFAULT_TARGET, INPUTS, TARGETS, targets_named

ALONE = """
import json, sys
import keras_vit_command
import keras_vit.export.targets
heavy = {"keras", "tensorflow", "jax", "torch", "ai_edge_litert", "PIL"}
print(json.dumps([sorted(keras_vit.export.targets.TARGETS), sorted(heavy & set(sys.modules))]))
"""


def test_the_table_needs_no_keras(run_python):
    assert run_python("-c", ALONE) == [sorted(TARGETS), []]


SHADOWS = """
import json
import keras_vit
names = ("tflite", "savedmodel", "onnx", "openvino", "web")
before = {name: getattr(keras_vit.export, name) for name in names}
import keras_vit.export.tflite.metadata, keras_vit.export.web.site, keras_vit.export.writing  # as an export does
from keras_vit.export.tflite import conversion
from keras_vit.export import web
after = {name: getattr(keras_vit.export, name) for name in names}
print(json.dumps([all(map(callable, before.values())), before == after, callable(web), callable(conversion.converted)]))
"""


@pytest.mark.soak
def test_the_functions_keep_their_names_beside_the_folders(run_python):
    assert run_python("-c", SHADOWS) == [True] * 4


def function(name):
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(f"keras_vit.{module}"), attribute)


@pytest.mark.parametrize("name", TARGETS)
def test_each_row_names_functions_and_figures_that_exist(name):
    target = TARGETS[name]
    inspect.signature(function(target.writer)).bind("serving", "path", **target.settings)
    if target.requirements:
        inspect.signature(function(target.requirements)).bind(**target.settings)
    if target.operators:
        inspect.signature(function(target.operators)).bind(b"file")
    if target.bundle:
        inspect.signature(function(target.bundle)).bind("path", "file", "name", "reference")
    assert target.fallback is None or target.fallback in TARGETS
    assert set(target.overrides) <= set(inspect.signature(make_serving).parameters)
    assert {figure.partition(".")[0] for figure in target.bounds} <= set(Agreement.__dataclass_fields__)
    assert target.description and 0 < target.tie < 0.1


def test_rows_do_not_share_a_file():
    assert len({target.file for target in TARGETS.values()}) == len(TARGETS)
    assert set(ALIASES.values()) <= set(TARGETS) and {DEFAULT_TARGET} <= {*ALIASES, *TARGETS}
    assert list(INPUTS) == ["uint8", "float32", "scaled"] and list(CHOSEN_OUTPUTS) == ["features", "rollout"]


def test_settings_that_a_target_lacks_are_ignored():
    target = TARGETS["tflite-int4"].with_settings(in_float=("head",), runtime="modules")
    assert target.settings == {"mode": "int4", "scale_norms": False, "in_float": ("head",)}
    assert TARGETS["tflite-int4"].settings["in_float"] == ()


@pytest.mark.parametrize(
    "name, types",
    [("tflite-float16", ("float32",)), ("tflite-int8", ("float32", "uint8")), ("web-float32", ("float32", "uint8"))],
)
def test_probabilities_of_8_bits_are_too_coarse_where_logits_are_compared(name, types):
    assert TARGETS[name].output_types == types


@pytest.mark.parametrize("names", [3, ["tflite", "tf-lite"], "tf-lite"])
def test_unknown_names_are_refused(names):
    with pytest.raises(ValueError, match="tflite-int8.*Received: (3|tf-lite)"):
        targets_named(names)


def test_the_package_is_whole():
    assert {name for name in keras_vit.export.__all__ if not callable(getattr(keras_vit.export, name))} == set()
