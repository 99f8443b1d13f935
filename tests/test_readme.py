"""Runs the examples of the README, and checks its commands, options and links."""

import pathlib
import re

import pytest

from keras_vit.commands import cli
from keras_vit.export.targets import ALIASES, TARGETS
from keras_vit.training.recipe import FIELDS

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
COMMANDS = re.findall(r"^    keras-vit (.+?)(?: +#.*)?$", README, re.M)


@pytest.mark.parametrize("example", re.findall(r"```python\n(.*?)```", README, re.S))
def test_every_example_runs(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(example, {})


def test_there_are_commands_to_test():
    named = {"check", "preview", "lr", "fit", "predict", "evaluate", "export", "list", "convert", "bench"}
    named |= {"analyze", "robustness", "cost"}
    assert {command.split()[0] for command in COMMANDS} == named


@pytest.mark.parametrize("words", [command.split() for command in COMMANDS])
def test_every_command_exists_with_its_options_and_fields(words):
    name, *arguments = words
    command = cli.main.commands[name]
    options = {option for parameter in command.params for option in parameter.opts}
    assert {argument for argument in arguments if argument.startswith("--")} <= options
    assert {argument.split("=")[0] for argument in arguments if "=" in argument} <= set(FIELDS)


def test_each_export_stands_with_the_file_that_it_makes():
    rows = [row.split("|")[1:3] for row in README.splitlines() if row.startswith("| `") and row.count("|") == 4]
    files = {name: files for names, files in rows for name in re.findall("`(.+?)`", names)}
    assert files.keys() >= {*TARGETS, *ALIASES}
    for name in ("tflite-int8", "savedmodel", "onnx", "web", "web-float32"):
        assert TARGETS[name].file in re.split("[, /]+", files[name].strip()), name


def test_every_link_leads_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert not [link for link in links if not link.startswith("http") and not (ROOT / link).exists()]


def test_every_make_target_exists():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    assert set(re.findall(r"make (\w+)", README.replace("make and pip", ""))) <= targets
