import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest


def _load(name):
    spec = importlib.util.spec_from_file_location(name, pathlib.Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def oracle():
    """The reference numbers: the module oracle.py."""
    return _load("oracle")


@pytest.fixture(scope="session")
def run_python():
    """Runs a program in a Python of its own and returns what it printed last, read as JSON."""

    def run(*arguments, **environment):
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run
