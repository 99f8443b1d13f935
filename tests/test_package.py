"""The names that `import keras_vit` imports, in programs of any name and in the console script."""

import pathlib

import pytest

import keras_vit

ROOT = pathlib.Path(keras_vit.__file__).parents[1]
PARTS = {"analysis", "data", "evaluation", "export", "layers", "pretraining", "runtime", "training"}

SAVED = """
import json, sys
import keras_vit, keras
model = keras.saving.load_model(sys.argv[1])
print(json.dumps([type(model).__name__, "keras_vit_command" in sys.modules]))
"""

IN_A_COMMAND = """
import json, sys
import keras_vit_command, keras_vit
names = [sorted({"keras", "tensorflow"} & {*sys.modules})]
import keras_vit.evaluation.callbacks  # imports the modules `features` and `resize`, which have the names of functions
names.append(keras_vit.__version__)
keras_vit._import_names()
names.append({name: getattr(keras_vit, name).__module__ for name in keras_vit.__all__})
print(json.dumps(names))
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "m.keras"
    keras_vit.build(keras_vit.Variant(8, 16, 1, 2, 8), input_shape=(16, 16, 3), classes=2).save(path)
    return path


@pytest.mark.parametrize(
    "name", ["keras-vit", *(pytest.param(n, marks=pytest.mark.soak) for n in ("keras-vit-demo.py", "program.py"))]
)
def test_a_program_of_any_name_loads_a_model(saved, tmp_path, run_python, name):
    program = tmp_path / name
    program.write_text(SAVED)
    assert run_python(program, saved, PYTHONPATH=str(ROOT)) == ["VisionModel", False]


def test_the_package_shows_its_public_names_and_parts_alone():
    assert {name for name in dir(keras_vit) if not name.startswith("_")} == {*keras_vit.__all__, *PARTS}
    assert all(getattr(keras_vit, name).__name__ == f"keras_vit.{name}" for name in PARTS)


def test_a_star_import_brings_the_public_names():
    names = {}
    exec("from keras_vit import *", names)
    assert {name for name in names if name != "__builtins__"} == {*keras_vit.__all__}


def test_an_unknown_name():
    with pytest.raises(AttributeError, match="keras_vit.*'nope'"):
        keras_vit.nope  # noqa: B018


def test_within_the_console_script_the_public_names_come_with_the_first_work(run_python):
    loaded, version, modules = run_python("-c", IN_A_COMMAND, PYTHONPATH=str(ROOT))
    assert loaded == [] and version == keras_vit.__version__
    assert modules == {name: getattr(keras_vit, name).__module__ for name in keras_vit.__all__}


MODULE = """
import contextlib, io, json, runpy, sys
sys.argv = ["keras_vit", "--version"]
with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):
    runpy.run_module("keras_vit", run_name="__main__", alter_sys=True)
print(json.dumps(text.getvalue()))
"""


def test_the_package_runs_as_a_module(run_python):
    assert run_python("-c", MODULE, PYTHONPATH=str(ROOT)) == f"keras-vit {keras_vit.__version__}\n"
