import functools
import http.server
import json
import os
import pathlib
import shutil
import subprocess
import threading

import pytest

HERE = pathlib.Path(__file__).parent
INSTALL = "npm install --prefix tests/clients"


@pytest.fixture(scope="session")
def node_modules():
    """The folder with playwright-core and the clients: KERAS_VIT_NODE_MODULES, or what `npm install` makes here.

    Without it, Chromium or node, tests are skipped; with KERAS_VIT_CLIENTS=1 in the environment they fail.
    """
    folder = pathlib.Path(os.environ.get("KERAS_VIT_NODE_MODULES", HERE / "node_modules"))
    missing = [f"{name}, a program" for name in ("node", "chromium") if not shutil.which(name)]
    for package, version in json.loads((HERE / "package.json").read_text())["dependencies"].items():
        description = folder / package / "package.json"
        result = json.loads(description.read_text())["version"] if description.is_file() else "none"
        if result != version:
            missing.append(f"{package} {version} (found: {result})")
    if missing:
        say = pytest.fail if os.environ.get("KERAS_VIT_CLIENTS") == "1" else pytest.skip
        say(f"Needs {', '.join(missing)}. Packages are looked for in {folder}; install them with: {INSTALL}")
    return folder


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="session")
def serve():
    """Serves a folder as `python -m http.server` does, and returns its address."""
    servers = []

    def start(folder):
        server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(_Quiet, directory=os.fspath(folder))
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def in_browser(node_modules):
    """Runs one of the scripts here in headless Chromium, and returns what it found."""

    def run(script, **job):
        job |= {"modules": os.fspath(node_modules), "chromium": shutil.which("chromium")}
        done = subprocess.run(
            ["node", HERE / script], input=json.dumps(job), capture_output=True, text=True, timeout=180
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run
