"""Studies: the keys of rows, repeated runs, tables and pages, and each study with --quick."""

import dataclasses
import json
import pathlib
import runpy
import sys

import numpy as np
import pytest
from click.testing import CliRunner

RECIPES = pathlib.Path(__file__).parents[2] / "recipes"


@pytest.fixture(autouse=True)
def beside_recipes(monkeypatch):
    """Imports from recipes/, as a script in it does."""
    monkeypatch.syspath_prepend(str(RECIPES))
    yield
    for name in ("studies", "trials"):
        sys.modules.pop(name, None)


@pytest.fixture
def studies(beside_recipes):
    import studies

    return studies


@dataclasses.dataclass(frozen=True)
class Row:
    """A row whose result depends on a field and the seed."""

    worth: float = 0.5
    new: int = 0

    def __call__(self, seed):
        calls.append((self.worth, seed))
        return {"accuracy": self.worth + seed / 100, "seconds": 1.0}


calls = []


@pytest.fixture(autouse=True)
def no_calls():
    calls.clear()


def silent(line):
    pass


def test_the_key_of_a_row_is_of_the_fields_that_are_not_defaults(studies):
    assert studies.key_of(Row(0.3)) == studies.key_of(Row(0.3, new=0))
    keys = {studies.key_of(row) for row in (Row(), Row(0.3), Row(0.3, 1), Row(0.5, 1), silent)}
    assert len(keys) == 5
    older = dataclasses.make_dataclass("Row", [("worth", float, 0.5)], frozen=True)
    assert studies.key_of(older(0.3)) == studies.key_of(Row(0.3))


def test_finished_rows_are_not_run_again_and_changed_rows_are(studies, tmp_path):
    path = tmp_path / "results.jsonl"
    rows = {"a": Row(0.2), "b": Row(0.4), "b again": Row(0.4)}
    studies.run(rows, path, seeds=2, report=silent)
    assert calls == [(0.2, 0), (0.4, 0), (0.2, 1), (0.4, 1)]
    studies.run(rows, path, seeds=2, report=silent)
    assert len(calls) == 4
    path.write_text("".join(path.read_text("utf-8").splitlines(keepends=True)[:-1]), "utf-8")
    studies.run(rows, path, seeds=2, report=silent)
    assert calls[4:] == [(0.4, 1)]
    rows["a"] = Row(0.7)
    studies.run(rows, path, seeds=3, selected=["a"], report=silent)
    assert calls[5:] == [(0.7, 0), (0.7, 1), (0.7, 2)]
    records = studies.read(path)
    assert sorted((it["row"], it["accuracy"]) for it in records) == [
        ("a", 0.7),
        ("a", 0.71),
        ("a", 0.72),
        ("b", 0.4),
        ("b", 0.41),
    ]
    results = studies.current(rows, records)
    assert results["b"] == results["b again"] and len(results["a"]) == 3
    assert not studies.current({"a": Row(0.9)}, records)["a"]


def test_a_run_that_fails_leaves_those_before_it(studies, tmp_path):
    def broken(seed):
        raise ValueError("cut off")

    with pytest.raises(ValueError, match="cut off"):
        studies.run({"a": Row(), "b": broken}, tmp_path / "results.jsonl", report=silent)
    (record,) = studies.read(tmp_path / "results.jsonl")
    assert (record["row"], record["seed"]) == ("a", 0)
    assert [path.name for path in tmp_path.iterdir()] == ["results.jsonl"]


def test_an_unknown_row_is_refused(studies, tmp_path):
    with pytest.raises(ValueError, match="Expected rows out of: a; b. Received: c, d"):
        studies.run({"a": Row(), "b": Row()}, tmp_path / "results.jsonl", selected=["c, d", "a"])
    assert not calls


def test_the_table_has_mean_and_range_in_the_order_of_the_rows(studies):
    results = {
        "b": [{"accuracy": value, "steps": 1234} for value in (0.5, 0.75, 0.625)],
        "never run": [],
        "a": [{"steps": 7}],
    }
    columns = {"accuracy, %": ("accuracy", studies.percent), "steps": ("steps", studies.whole)}
    assert studies.table(results, columns).splitlines() == [
        "| | accuracy, % | steps | runs |",
        "|---|--:|--:|--:|",
        "| b | 62.50 (50.00 to 75.00) | 1,234 | 3 |",
        "| a |  | 7 | 1 |",
    ]
    assert studies.table({"never run": []}, columns) == "Not run yet."


def test_a_part_of_the_page_is_replaced_and_the_rest_stays(studies, tmp_path):
    studies.publish(tmp_path, {"one": "old 1", "two": "old 2"}, {})
    page = tmp_path / "studies.md"
    page.write_text("before\n" + page.read_text("utf-8") + "after\n", "utf-8")
    before = page.read_text("utf-8")
    studies.publish(tmp_path, {"two": r"new \1"}, {})
    assert page.read_text("utf-8") == before.replace("old 2", r"new \1")


def test_a_fraction_is_of_each_class_and_part_of_larger_ones(beside_recipes):
    import trials

    labels = np.repeat([0, 1, 2], (200, 30, 7))
    examples = trials.Examples(tuple(map(str, range(237))), labels, tuple(map(str, range(237))))
    some, more, other = (
        trials.fraction_of(examples, fraction, seed) for fraction, seed in ((0.1, 3), (0.5, 3), (0.1, 4))
    )
    assert np.bincount(some.labels).tolist() == [20, 3, 1]
    assert np.bincount(more.labels).tolist() == [100, 15, 4]
    assert set(some.names) < set(more.names)
    assert set(some.names) != set(other.names)
    assert all(labels[int(name)] == label for name, label in zip(some.names, some.labels))


STUDIES = {
    "study_small_data": ("hybrid, 30%", "small_data", ["study_small_data.svg"]),
    "study_ablations": (
        "relative",
        "positions",
        ["study_ablations_few_shot.svg", "study_ablations_positions.svg"],
    ),
}


@pytest.mark.soak
@pytest.mark.parametrize("name", STUDIES)
def test_a_quick_study_runs_and_is_drawn_again(name, tmp_path):
    row, part, images = STUDIES[name]
    main = runpy.run_path(str(RECIPES / f"{name}.py"))["main"]
    arguments = ["--quick", "--seeds", "1", "--rows", row, "--output", str(tmp_path / "run")]
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert f"1/1 {row}, seed 0" in done.output
    (record,) = map(json.loads, (tmp_path / "run/results.jsonl").read_text("utf-8").splitlines())
    assert 0 <= record["accuracy"] <= 1
    assert record["multiply_accumulates"] > record["images"] > 0
    page = (tmp_path / "run/studies.md").read_text("utf-8")
    assert f"<!-- {part}: written by its script -->" in page and f"\n| {row} | " in page
    assert sorted(path.name for path in (tmp_path / "run/images").iterdir()) == images
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert "1 of 1 runs are finished" in done.output
    drawn = ["--quick", "--draw", str(tmp_path / "run/results.jsonl"), "--output", str(tmp_path / "again")]
    CliRunner().invoke(main, drawn, catch_exceptions=False)
    for path in (tmp_path / "run").rglob("*.[ms][dv]*"):
        assert (tmp_path / "again" / path.relative_to(tmp_path / "run")).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", STUDIES)
def test_the_results_of_the_docs_are_of_the_current_rows(name, studies):
    module = runpy.run_path(str(RECIPES / f"{name}.py"))
    records = studies.read(RECIPES.parent / f"docs/results/{name.removeprefix('study_')}.jsonl")
    keys = {studies.key_of(row) for row in module["rows_of"]().values()}
    assert records and {record["key"] for record in records} <= keys
