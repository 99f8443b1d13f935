"""Who may import whom: the fence between the parts of the package."""

import ast
import pathlib

import pytest

import keras_vit

PACKAGE = pathlib.Path(keras_vit.__file__).parent
ANYTHING = None

# A part is a folder or a module of the package; it may import itself and, beside these, `arguments` and `atomic`.
ALLOWED = {
    "arguments": set(),
    "atomic": set(),
    "quiet": {"__init__"},  # the public names come before a command's work
    "screen": set(),
    "class_names": set(),
    "client": {"quiet"},
    "variants": set(),
    "preprocessing": set(),
    "imagenet": set(),
    "layers": {"preprocessing"},
    "watch": {"layers"},
    "evaluation": {"layers", "watch"},
    "models": {"layers", "variants", "preprocessing", "class_names"},
    "weights": {"variants"},
    "analysis": {"layers", "watch"},
    "checkpoint": {"models", "weights", "preprocessing", "variants"},
    "builders": {"checkpoint", "class_names", "layers", "models", "weights", "variants"},
    "resize": {"layers", "models", "weights"},
    "features": {"layers", "models", "watch"},
    "conversion": {"builders", "class_names", "models", "weights", "variants"},
    "public": {"builders", "checkpoint", "conversion", "features", "imagenet", "models", "preprocessing", "resize"}
    | {"variants", "weights", "__init__"},
    "__init__": {"public"},
    "__main__": {"cli"},
    "pretraining": {"layers", "watch"},
    "data": {"preprocessing", "class_names"},
    "training": {"builders", "data", "layers", "models", "preprocessing", "pretraining", "variants", "evaluation"}
    | {"screen"},
    "report": {"evaluation", "analysis"},
    "export": {"preprocessing", "weights", "data", "evaluation", "analysis", "report", "layers", "client", "quiet"}
    | {"models", "class_names", "screen", "watch"},
    "callbacks": {"evaluation", "features"},
    "run_analysis": ANYTHING,
    "run_cost": ANYTHING,
    "run_data": ANYTHING,
    "run_evaluations": ANYTHING,
    "run_exports": ANYTHING,
    "run_folder": ANYTHING,
    "run_images": ANYTHING,
    "run_pages": ANYTHING,
    "run_recipe": ANYTHING,
    "run_robustness": ANYTHING,
    "workflow": ANYTHING,
    "cli": ANYTHING,
    "cli_analysis": ANYTHING,
    "cli_evaluations": ANYTHING,
    "cli_exports": ANYTHING,
    "cli_options": ANYTHING,
}
MAY_IMPORT_TENSORFLOW = {"data", "training", "export", "report", "client"}
# One file has a function a backend; each imports its own when called.
OF_EVERY_BACKEND = PACKAGE / "analysis/gradients.py"

# What `import keras_vit` must not cost.
HEAVY = {"tensorflow_datasets", "matplotlib", "keras_cv", "sklearn", "scipy", "PIL", "click", "filelock"}
HEAVY |= {"huggingface_hub", "datasets", "pyarrow"}
HEAVY |= {"ai_edge_litert", "ai_edge_quantizer", "onnx", "mediapipe"}


def part(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def imported(source):
    """Yields the full name of every module and name that a source imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def parts_of_ours(names):
    """Returns the parts that imported names belong to; "__init__" where the package itself is imported."""
    found = set()
    for name in names:
        first, *rest = name.split(".")
        if first == "keras_vit":
            found.add(rest[0] if rest and rest[0] in ALLOWED else "__init__")
    return found


@pytest.mark.parametrize(
    "source, parts",
    [
        ("from keras_vit.weights.load import read_weights", {"weights"}),
        ("from keras_vit import layers", {"layers"}),
        ("from keras_vit import build", {"__init__"}),
        ("import keras_vit", {"__init__"}),
        ("def f():\n    import keras_vit.cli as x, keras_vit.data.check", {"cli", "data"}),
        ("import keras, keras_vitae", set()),
    ],
)
def test_the_reader_of_imports(source, parts):
    assert parts_of_ours(imported(source)) == parts


def test_every_part_has_a_row_and_every_row_a_part():
    assert {part(path) for path in modules()} == set(ALLOWED)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_fence(path):
    own = part(path)
    names = list(imported(path.read_text("utf-8")))
    if ALLOWED[own] is not ANYTHING:
        allowed = {own} | ALLOWED[own] | ({"arguments", "atomic"} - {own})
        assert parts_of_ours(names) <= allowed
    if own not in MAY_IMPORT_TENSORFLOW and path != OF_EVERY_BACKEND:
        assert not [name for name in names if name.split(".")[0] == "tensorflow"]


# Keras itself brings some of these, so they are taken away again before the package is imported.
WITHOUT = """
import json, sys, keras
sys.modules.update(dict.fromkeys(sys.argv[1:]))
import keras_vit
print(json.dumps([name for name in keras_vit.public.__all__ if hasattr(keras_vit, name)]))
"""


def test_importing_the_package_needs_nothing_heavy(run_python):
    found = run_python("-c", WITHOUT, "tensorflow", *HEAVY, KERAS_BACKEND="jax")
    assert found == keras_vit.public.__all__


HELP = """
import contextlib, io, json, sys
from keras_vit_command import main
with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):
    main(["--help"], prog_name="keras-vit")
print(json.dumps({"text": text.getvalue(), "modules": sorted(sys.modules)}))
"""


def test_help_needs_no_backend(run_python):
    found = run_python("-c", HELP, PYTHONPATH=str(PACKAGE.parent))
    assert "keras-vit [OPTIONS] COMMAND" in found["text"]
    assert "keras_vit.cli" in found["modules"]
    assert (
        set(found["modules"])
        & {"keras", "tensorflow", "jax", "torch", *HEAVY - {"click", "filelock", "huggingface_hub"}}
        == set()
    )
