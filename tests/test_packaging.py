"""The metadata of the distribution: what a wheel has, and what its extras install."""

import pathlib
import re
import runpy
import sys
import tomllib
import types

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
    assert own_extras("all") == EXTRAS.keys() - TOOLS
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
