"""The generated tables of the docs: a row for each variant and each published checkpoint, with the right numbers."""

import importlib.util
import json
import pathlib
import re
import subprocess
import sys

import pytest

from keras_vit.models.config import VARIANTS
from keras_vit.weights.checkpoints import checkpoints
from keras_vit.weights.families import FAMILIES

ROOT = pathlib.Path(__file__).parents[2]
TABLES = ROOT / "docs" / "hooks" / "tables.py"


def module_at(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tables():
    return module_at(TABLES)


def cells_of(markdown):
    """Returns the cells of each row of the tables in a Markdown text, without their heads."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines() if line[:1] == "|"]
    rules = [number for number, row in enumerate(rows) if all(set(cell) <= set("-:") for cell in row)]
    return [row for number, row in enumerate(rows) if number not in rules and number + 1 not in rules]


def test_the_variants_are_those_of_the_package(tables):
    rows = [row for row in cells_of(tables.variants()) if row[0].strip("`") in VARIANTS]
    assert [row[0].strip("`") for row in rows] == list(VARIANTS)
    assert [row[2] for row in rows] == [f"{row.parameters / 1e6:,.1f} M" for row in VARIANTS.values()]
    assert all(row[1] for row in rows)
    accuracy = {row[0].strip("`"): row[4] for row in rows}
    assert accuracy["ViT-L/16"] == "87.1 (384)"
    assert {name for name, cell in accuracy.items() if cell} == {
        row.variant for row in checkpoints() if row.variant and row.top1
    }
    without = re.findall("`(.+?)`", tables.variants().splitlines()[-1])
    assert set(VARIANTS) - set(without) == {row.variant for row in checkpoints()} - {None}


def test_the_sizes_are_those_of_the_variants(tables):
    rows = {row[0].strip("`"): [*map(int, row[1:])] for row in cells_of(tables.variants()) if len(row[0]) < 5}
    assert list(rows) == ["Ti", "S", "B", "L", "H", "g", "G"]
    for name, row in VARIANTS.items():
        if "ViT-" in name:
            letter = name.split("ViT-")[1].split("/")[0]
            assert rows[letter] == [row.num_layers, row.hidden_size, row.num_heads, row.mlp_dim]


def test_the_checkpoints_are_those_of_the_package(tables):
    text = tables.checkpoints()
    rows = {row[0].strip("`"): row[1:] for row in cells_of(text)}
    assert list(rows) == sorted(rows, key=[row.name for row in checkpoints()].index)
    assert set(rows) == {row.name for row in checkpoints()}
    assert text.startswith(f"{len(checkpoints())} checkpoints.")
    for row in checkpoints():
        pixels, *parameters, data, accuracy = rows[row.name]
        assert parameters == ([] if row.variant else [f"{row.parameters / 1e6:,.0f} M"])
        assert int(pixels) == row.image_size
        assert ("head of zeros" in data) == (row.head == "zero")
        assert ("21k" in data, "1k" in data.replace("21k", "")) == ("21k" in row.trained_on, "2012" in row.trained_on)
        assert accuracy.split(" ")[0] == (f"{row.top1:.2f}" if row.top1 else "")


COUNT = """
import json, sys
sys.path.insert(0, "benchmarks")
from table6 import multiply_accumulates
print(json.dumps({name: multiply_accumulates(name) for name in sys.argv[1:]}))
"""


@pytest.mark.parametrize("kind", ["ViT-S", pytest.param("", marks=pytest.mark.soak)], ids=["small", "all"])
def test_the_multiply_accumulates_are_those_that_are_counted(tables, kind, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    names = [name for name in VARIANTS if name.startswith(kind)]
    done = subprocess.run([sys.executable, "-c", COUNT, *names], cwd=ROOT, capture_output=True, text=True, check=True)
    counted = json.loads(done.stdout.splitlines()[-1])
    assert {name: f"{count / 1e9:.2f}" for name, count in counted.items()} == {
        name: f"{tables.GMACS[name]:.2f}" for name in names
    }


def test_the_tables_need_no_keras():
    code = f"import runpy, sys; runpy.run_path({str(TABLES)!r}); print([*{{'keras', 'tensorflow'}} & {{*sys.modules}}])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["architectures", "checkpoints"])
def test_a_page_has_its_table(name):
    page = (ROOT / "docs" / f"{name}.md").read_text("utf-8")
    assert re.findall(r"^\{\{ (\w+) \}\}$", page, re.M) == [{"architectures": "variants"}.get(name, name)]


def test_every_benchmark_is_described():
    scripts = {path.name for path in (ROOT / "benchmarks").glob("*.py") if "__main__" in path.read_text("utf-8")}
    page = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")
    assert set(re.findall(r"^\| `(\w+\.py)` \|", page, re.M)) == scripts - {"contestants.py"}  # run by speed.py


def test_the_differences_of_every_family_were_measured():
    families = module_at(ROOT / "benchmarks" / "families.py")
    results = json.loads(families.OUTPUT.read_text("utf-8"))
    assert families.OUTPUT.with_suffix(".md").read_text("utf-8") == families.table(results)
    for case in families.CASES:
        for size in families.SIZES:
            cells = results[f"{case.name}, {size}"]
            assert {"about", *families.READ} <= set(cells) <= {"about", *case.columns(size)}
            assert not any(families.is_missed(size, column, cells[column]) for column in cells if column != "about")
    project = {"hf": "transformers", "timm": "timm", "open": "other"}
    rows = {(row.name.split()[0], project[format.split("_")[0]]) for row in FAMILIES for format in row.formats}
    missing = {
        row for row in rows if not any((case.family[: len(row[0])], case.project) == row for case in families.CASES)
    }
    assert not missing
