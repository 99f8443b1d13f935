"""The harness of the torture run, and a sample of the run itself."""

import json
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent
TOY = """
import os, time
from outcome import Outcome

SHARE, HANG, CASES = 1, 1, 12


def prepare(folder):
    return (folder / "file").write_text("x")


def case(state, number, random):
    if number == 3:
        os._exit(9)
    if number == 4:
        time.sleep(100)
    if number == 5:
        raise KeyError("x")
    if number == 6:
        time.sleep(0.2)
        return Outcome("timed", "equal", limit_s=0.1)
    if number == 7:
        held = bytearray(b"x") * 50_000_000
        return Outcome("held", "equal", limit_mb=10 * len(held[:1]))
    if number == 8:
        return Outcome("other", "wrong", "numbers", count=10)
    return Outcome("fine", random.choice(["equal", "refused"]))
"""


def run(folder, *arguments):
    command = [sys.executable, str(folder / "run.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_part_goes_on_after_every_kind_of_fault(tmp_path):
    for name in ("run.py", "outcome.py"):
        shutil.copy(HERE / name, tmp_path / name)
    (tmp_path / "toy.py").write_text(TOY)
    done = run(tmp_path, "toy", "--seconds", 60, "--json", tmp_path / "rows.json")
    assert done.returncode == 1, done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())["toy"]
    faults = {row["number"]: row["result"] for row in rows if row["result"] not in ("equal", "refused")}
    assert faults == {3: "crash", 4: "hang", 5: "traceback: KeyError", 6: "slow", 7: "memory", 8: "wrong"}
    assert sorted(row["number"] for row in rows) == list(range(12))
    assert "| toy | other | 10 |  | 10 |" in done.stdout and "21 tried" in done.stdout
    again = run(tmp_path, "toy", "--only", 8)
    assert again.returncode == 0 and "numbers" in again.stdout


@pytest.mark.soak
def test_a_sample_of_the_torture_run_has_no_fault():
    # The part `runs` needs minutes for its first case: tests/training/test_killed.py kills a run.
    parts = {path.stem for path in HERE.glob("*.py")} - {"run", "outcome", "test_torture", "runs"}
    done = run(HERE, *sorted(parts), "--seconds", 30)
    assert done.returncode == 0, done.stdout + done.stderr[-2_000:]
    assert set(re.findall(r"^\| (\w+) \|", done.stdout, re.MULTILINE)) == parts | {"part"}
