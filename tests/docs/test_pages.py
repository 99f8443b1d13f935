"""The pages of the docs and the README: their Python runs, and their commands exist."""

import pathlib
import re
import shlex

import numpy as np
import pytest
from PIL import Image

from keras_vit.commands import cli
from keras_vit.commands.fit import fit
from keras_vit.commands.recipes import SETTINGS
from keras_vit.models.config import Variant
from keras_vit.training.recipe import Recipe

ROOT = pathlib.Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "recipes" / "README.md"]
COMMAND = re.compile(r"^(?:\$ |    )?(keras-vit .+)$")


def python_of(path):
    """Returns the Python blocks of a page that run here: all but those after a line `<!-- not run: reason -->`."""
    blocks = re.findall(r"(<!-- not run: .+ -->\n+)?^```python\n(.*?)^```", path.read_text("utf-8"), re.M | re.S)
    return [block for skipped, block in blocks if not skipped]


def commands_of(path):
    """Returns the `keras-vit` commands of a page, without their comments."""
    text = path.read_text("utf-8").replace("\\\n", " ")
    lines = (COMMAND.match(line) for line in text.splitlines())
    return [re.split(r"\s+(?:#|[|>])", match[1])[0].strip() for match in lines if match]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with what the pages name: images/ or flower_photos/, photo.jpg and runs/images, a finished run."""
    folder = tmp_path_factory.mktemp("pages")
    random = np.random.default_rng(0)
    for index, name in enumerate(("daisy", "rose", "tulip")):
        (folder / "images" / name).mkdir(parents=True)
        for number in range(24):
            pixels = random.normal(90, 30, (40, 48, 3))
            pixels[..., index] += 80
            image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
            image.save(folder / "images" / name / f"{number}.jpg")
    image.save(folder / "photo.jpg")
    (folder / "flower_photos").symlink_to("images")
    recipe = Recipe(
        data=str(folder / "images"), variant=Variant(8, 32, 2, 2, 64), image_size=32, epochs=2, batch_size=8
    )
    fit(recipe, folder / "runs" / "images")
    return folder


@pytest.mark.parametrize("path", [path for path in PAGES if python_of(path)], ids=lambda path: path.name)
def test_the_python_of_a_page_runs(path, folder, monkeypatch):
    monkeypatch.chdir(folder)
    names = {"__name__": "__main__"}
    for block in python_of(path):
        exec(compile(block, f"<{path.name}>", "exec"), names)


@pytest.mark.parametrize("path", [path for path in PAGES if commands_of(path)], ids=lambda path: path.name)
def test_the_commands_of_a_page_exist_with_their_options_and_fields(path):
    faults = []
    for command in commands_of(path):
        _, name, *arguments = shlex.split(command)
        if name not in cli.main.commands:
            faults += [command] if not name.startswith("-") else []
            continue
        known = {
            option
            for parameter in cli.main.commands[name].params
            for option in (*parameter.opts, *parameter.secondary_opts)
        }
        options = {argument.split("=")[0] for argument in arguments if argument.startswith("--")}
        fields = {argument.split("=")[0] for argument in arguments if re.match(r"\w+=", argument)}
        faults += [f"{command}: {fault}" for fault in (options - known - {"--help"}) | (fields - {*SETTINGS})]
    assert not faults


def test_every_command_has_an_example_on_a_page():
    assert {command.split()[1] for path in PAGES for command in commands_of(path)} >= {*cli.main.commands}


def test_the_readme_is_short_and_names_targets_of_make_that_exist():
    readme = PAGES[0].read_text("utf-8")
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    assert len(readme.split()) <= 600
    assert {"demo", "test", "docs"} <= set(re.findall(r"make ([a-z-]+)", readme)) - {"make"} <= targets


def test_every_link_of_the_readme_leads_to_a_file():
    links = re.findall(r"\]\(([^)#]+)", PAGES[0].read_text("utf-8"))
    assert len(links) > 5
    assert not [link for link in links if not link.startswith("http") and not (ROOT / link).exists()]
