"""The metadata of the distribution: what a wheel has, and what its extras install."""

import pathlib
import re
import runpy
import sys
import tomllib
import types

import yaml

import keras_vit
from keras_vit.commands.recipes import recipe_files

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
TOOLS = {"all", "docs", "dev"}


def own_extras(name):
    return {
        extra
        for requirement in EXTRAS[name]
        for found in re.findall(r"^keras-vit-kit\[(.+)\]$", requirement)
        for extra in found.split(",")
    }


def test_the_extras_refer_to_each_other():
    assert own_extras("all") == EXTRAS.keys() - TOOLS - {"torch"}  # some gigabytes of CUDA, for another backend
    assert own_extras("dev") <= EXTRAS.keys() - {"all", "dev"}


def test_a_wheel_has_each_file_of_the_package():
    """A file that no pattern names would be missing after `pip install`, and there alone."""
    package = ROOT / "keras_vit"
    named = {
        path for pattern in PROJECT["tool"]["setuptools"]["package-data"]["keras_vit"] for path in package.glob(pattern)
    }
    files = {path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert files - named == {package / "weights" / "README.md"}
    folders = {path.parent for path in package.rglob("*.py")}
    assert {folder for folder in folders if not (folder / "__init__.py").exists()} == set()


def test_setup_puts_the_recipes_into_the_wheel(monkeypatch):
    received = {}
    monkeypatch.setitem(sys.modules, "setuptools", types.SimpleNamespace(setup=received.update))
    runpy.run_path(str(ROOT / "setup.py"))
    assert received["py_modules"] == ["keras_vit_command", *(f"keras_vit.recipes.{name}" for name in recipe_files())]
    assert received["package_dir"] == {"keras_vit.recipes": "recipes"}


def test_the_release_has_the_version_in_each_place():
    """The release workflow compares them with the tag."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    released = re.findall(r"^## \[(.+)\] - (\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert (keras_vit.__version__, citation["date-released"]) == released[0]
    assert citation["version"] == keras_vit.__version__
    assert PROJECT["project"]["dynamic"] == ["version"]


def test_the_workflows_name_what_exists():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    for path in (ROOT / ".github").rglob("*.yml"):
        text = path.read_text("utf-8")
        assert yaml.safe_load(text)
        assert set(re.findall(r"make ([\w-]+)(?: PYTHON=python)?$", text, re.M)) <= targets
        assert [name for name in re.findall(r"(?<= )tests[\w/.]*", text) if not (ROOT / name).exists()] == []
        assert set(re.findall(r'\.\[(\w+)\]"', text)) <= EXTRAS.keys()
