"""Who may import whom: the fence between the parts of the package."""

import ast
import pathlib

import pytest

import keras_vit

PACKAGE = pathlib.Path(keras_vit.__file__).parent
ANYTHING = None

# A part is a folder or a module at the root. It may import itself and, beside these parts or modules, what all share.
ALL_SHARE = {"_arguments", "_atomic", "_compat", "_finite"}
ALLOWED = {
    "_arguments": set(),
    "_atomic": set(),
    "_finite": set(),
    "_quiet": set(),
    "_progress": set(),
    "_compat": set(),
    "preprocessing": set(),
    "imagenet": set(),
    "layers": {"preprocessing"},
    "models": {"layers", "preprocessing"},
    "weights": {"layers.positions", "models.config", "models.description", "models.license", "preprocessing"},
    "builders": {"layers", "models", "preprocessing", "weights"},
    "conversion": {"builders", "models", "weights"},
    "words": {"builders", "layers", "models", "weights"},
    "__init__": {"builders", "conversion", "imagenet", "models", "preprocessing", "weights", "words"}
    | {*keras_vit._PARTS},  # for type checkers alone, see `test_importing_the_package_needs_nothing_heavy`
    "__main__": {"commands"},
    "data": {"models.class_names", "preprocessing"},
    "pretraining": {"builders", "conversion", "layers", "models", "weights"},
    "training": {"_progress", "builders", "data", "evaluation", "layers", "models", "preprocessing", "pretraining"},
    "evaluation": {"_progress", "layers", "models.features", "models.hooks"}
    | {"models.interface", "models.reject", "models.vision_model"},  # a model that rejects is a new one
    "analysis": {"layers", "models.hooks"},
    "export": {"_progress", "_quiet", "analysis", "data", "evaluation", "layers", "models", "preprocessing", "runtime"},
    "runtime": {"_quiet"},  # proves what `export` wrote, and shares none of its code
    "report": {"analysis", "evaluation", "export.targets"},
    "commands": ANYTHING,
}
MAY_IMPORT_TENSORFLOW = {"data", "training", "export", "report", "runtime", "_compat"}
# One file has a function a backend; each imports its own when called.
OF_EVERY_BACKEND = PACKAGE / "analysis/gradients.py"

# What `import keras_vit` must not cost.
HEAVY = {"tensorflow_datasets", "matplotlib", "keras_cv", "sklearn", "scipy", "PIL", "click", "filelock"}
HEAVY |= {
    "huggingface_hub",
    "datasets",
    "pyarrow",
    "tokenizers",
    "sentencepiece",
    "tifffile",
    "imagecodecs",
    "pillow_heif",
}
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


def modules_of_ours(names):
    """Returns the modules that imported names belong to, as "weights.load"; "__init__" for the package itself."""
    result = set()
    for name in names:
        first, *rest = name.split(".")
        if first == "keras_vit":
            while rest and not is_module(rest):
                rest.pop()
            result.add(".".join(rest) or "__init__")
    return result


def is_module(rest):
    path = PACKAGE.joinpath(*rest)
    return path.is_dir() or path.with_suffix(".py").exists()


@pytest.mark.parametrize(
    "source, modules",
    [
        ("from keras_vit.weights.load import read_weights", {"weights.load"}),
        ("from keras_vit import layers", {"layers"}),
        ("from keras_vit.layers import MLP", {"layers"}),
        ("from keras_vit import build", {"__init__"}),
        ("import keras_vit", {"__init__"}),
        ("def f():\n    import keras_vit.commands.cli as x, keras_vit.data.check", {"commands.cli", "data.check"}),
        ("import keras, keras_vitae", set()),
    ],
)
def test_the_reader_of_imports(source, modules):
    assert modules_of_ours(imported(source)) == modules


def test_every_part_has_a_row_and_every_row_a_part():
    assert {part(path) for path in modules()} == set(ALLOWED)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_fence(path):
    own = part(path)
    names = list(imported(path.read_text("utf-8")))
    if ALLOWED[own] is not ANYTHING:
        allowed = {own} | ALLOWED[own] | ALL_SHARE
        assert {name for name in modules_of_ours(names) if not {name, name.split(".")[0]} & allowed} == set()
    if own not in MAY_IMPORT_TENSORFLOW and path != OF_EVERY_BACKEND:
        assert not [name for name in names if name.split(".")[0] == "tensorflow"]


def test_a_public_name_means_one_thing():
    places = {}
    for path in modules():
        for node in ast.parse(path.read_text("utf-8")).body:
            targets = node.targets if isinstance(node, ast.Assign) else [node]
            for name in {getattr(target, "name", getattr(target, "id", "_")) for target in targets}:
                if not name.startswith("_") and name != "logger":
                    places.setdefault(name, []).append(path.relative_to(PACKAGE).as_posix())
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


# Keras itself brings some of these, so they are taken away again before the package is imported.
WITHOUT = """
import json, sys, keras
sys.modules.update(dict.fromkeys(sys.argv[1:]))
import keras_vit
names = [name for name in keras_vit.__all__ if name in vars(keras_vit)]
print(json.dumps([names, [name for name in keras_vit._PARTS if f"keras_vit.{name}" in sys.modules]]))
"""


def test_importing_the_package_needs_nothing_heavy(run_python):
    names, parts = run_python("-c", WITHOUT, "tensorflow", *HEAVY, KERAS_BACKEND="jax")
    assert names == keras_vit.__all__
    assert parts == ["layers"]


HELP = """
import contextlib, io, json, sys
from keras_vit_command import main
with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):
    main(["--help"], prog_name="keras-vit")
print(json.dumps({"text": text.getvalue(), "modules": sorted(sys.modules)}))
"""


def test_help_needs_no_backend(run_python):
    result = run_python("-c", HELP, PYTHONPATH=str(PACKAGE.parent))
    assert "keras-vit [OPTIONS] COMMAND" in result["text"]
    assert "keras_vit.commands.cli" in result["modules"]
    assert (
        set(result["modules"])
        & {"keras", "tensorflow", "jax", "torch", *HEAVY - {"click", "filelock", "huggingface_hub"}}
        == set()
    )
