"""Puts the recipes into the wheel, as keras_vit/recipes/, which pyproject.toml cannot; all else is there."""

from pathlib import Path

from setuptools import setup

FILES = sorted(Path(__file__).parent.glob("recipes/*.py"))
RECIPES = [file.stem for file in FILES if "run(__file__)" in file.read_text("utf-8")]  # not the studies

setup(
    py_modules=["keras_vit_command", *(f"keras_vit.recipes.{name}" for name in RECIPES)],
    package_dir={"keras_vit.recipes": "recipes"},
)
