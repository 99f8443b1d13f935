"""`keras-vit push` against a double of the Hub's HTTP interface on this machine, and what hf:// reads back from it."""

import base64
import hashlib
import http.server
import itertools
import json
import os
import pathlib
import re
import shutil
import sys
import threading
import urllib.parse
import uuid

import keras
import numpy as np
import pytest
import yaml
from click.testing import CliRunner

import keras_vit
from keras_vit.commands import cli
from keras_vit.commands.export import export
from keras_vit.commands.push import PHONE_FILES
from keras_vit.commands.run_folder import MODEL_FILE
from keras_vit.models.description import describe_model
from keras_vit.report.model_card import LICENSES
from keras_vit.weights.download import HUB_MODEL

pytest.importorskip("huggingface_hub")
from huggingface_hub import constants  # noqa: E402  only where the extra is installed

DIGITS = pathlib.Path(keras_vit.__path__[0], "..", "savedmodels", "digits").resolve()
FILES = {"README.md", "labels.txt", "model.keras", "model_float32.tflite", "model_int8.tflite"}
TOKEN = "hf_token_of_the_double"
# huggingface_hub's own use of its HTTP client, where Xet is off.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


class Hub(http.server.ThreadingHTTPServer):
    """The part of the Hub's HTTP interface that uploads and downloads use; large files go by way of LFS.

    Attributes:
        repositories: {"owner/name": {"private": bool, "branches": {branch: commit}}}.
        commits: {commit: {path: content}}.
        objects: {SHA-256: content of a large file}.
        requests: "METHOD path" of each request.
        answers: {beginning of "METHOD path": (status, text)} that it gives instead.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.repositories, self.commits, self.objects, self.requests, self.answers = {}, {}, {}, [], {}
        self.numbers = itertools.count(1)

    def commit(self, files):
        sha = f"{next(self.numbers):040x}"
        self.commits[sha] = files
        return sha

    def files(self, name, revision="main"):
        return self.commits[self.repositories[name]["branches"].get(revision, revision)]


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def send(self, status, content=b"", **headers):
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def fail(self, status, text, code=None):
        self.send(status, {"error": text}, X_Error_Message=text, **({"X_Error_Code": code} if code else {}))

    def answer(self):
        hub = self.server
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            self.body = b"".join(iter(self.chunk, b""))
        else:
            self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = urllib.parse.urlsplit(self.path).path
        line = f"{self.command} {path}"
        hub.requests.append(line)
        for beginning, (status, text) in hub.answers.items():
            if line.startswith(beginning):
                return self.fail(status, text)
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if self.headers.get("Authorization") and not known:
            return self.fail(401, "Invalid credentials in Authorization header")
        for pattern, answer in ROUTES.items():
            if match := re.fullmatch(pattern, line):
                parts = {key: urllib.parse.unquote(value) for key, value in match.groupdict().items() if value}
                repository = hub.repositories.get(parts.get("name"))
                if "name" in parts and (repository is None or (repository["private"] and not known)):
                    return self.fail(404 if known else 401, "Repository not found", "RepoNotFound")
                if self.command == "POST" and not known:
                    return self.fail(401, "Invalid username or password.")
                if parts.get("revision", "main") not in {
                    **(repository or {"branches": {"main": ""}})["branches"],
                    **hub.commits,
                }:
                    return self.fail(404, f"Invalid rev id: {parts['revision']}", "RevisionNotFound")
                return answer(self, hub, **parts)
        return self.fail(404, f"The double has no {line}")

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def chunk(self):
        content = self.rfile.read(int(self.rfile.readline(), 16))
        self.rfile.readline()
        return content

    def create(self, hub):
        asked = json.loads(self.body)
        name = f"{asked['organization']}/{asked['name']}"
        if asked["organization"] != "me":
            return self.fail(403, "You don't have the rights to create a model under this namespace")
        if name in hub.repositories:
            return self.send(409, {"url": f"{hub.address}/{name}", "error": "You already created this model repo"})
        private = asked.get("private") or asked.get("visibility") == "private"
        branches = {"main": hub.commit({".gitattributes": b""})}
        hub.repositories[name] = {"private": bool(private), "branches": branches}
        self.send(200, {"url": f"{hub.address}/{name}"})

    def branch(self, hub, name, branch):
        branches = hub.repositories[name]["branches"]
        branches[branch] = branches["main"]
        self.send(200)

    def info(self, hub, name, revision="main"):
        repository = hub.repositories[name]
        siblings = [{"rfilename": path} for path in hub.files(name, revision)]
        sha = repository["branches"].get(revision, revision)
        self.send(200, {"id": name, "sha": sha, "private": repository["private"], "siblings": siblings, "tags": []})

    def validate(self, hub):
        header = yaml.safe_load(json.loads(self.body)["content"].split("---\n")[1])
        if header["license"] in LICENSES | {"other"}:
            return self.send(200, {"errors": [], "warnings": []})
        self.send(400, {"errors": [{"message": '"license" must be one of the list'}], "warnings": []})

    def preupload(self, hub, name, revision):
        modes = []
        for file in json.loads(self.body)["files"]:
            is_binary = b"\0" in base64.b64decode(file["sample"])
            modes.append({"path": file["path"], "uploadMode": "lfs" if is_binary else "regular", "shouldIgnore": False})
        self.send(200, {"files": modes})

    def batch(self, hub, name):
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            action = {"upload": {"href": f"{hub.address}/objects/{wanted['oid']}"}}
            objects.append(wanted if wanted["oid"] in hub.objects else {**wanted, "actions": action})
        self.send(200, {"transfer": "basic", "objects": objects})

    def put_object(self, hub, sha256):
        assert hashlib.sha256(self.body).hexdigest() == sha256
        hub.objects[sha256] = self.body
        self.send(200)

    def get_object(self, hub, sha256):
        self.send(200, hub.objects[sha256])

    def add(self, hub, name, revision):
        files = dict(hub.files(name, revision))
        header, *operations = map(json.loads, self.body.splitlines())
        assert header["key"] == "header" and header["value"]["summary"]
        for operation in operations:
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                files[value["path"]] = hub.objects[value["oid"]]
            else:
                assert operation["key"] == "deletedFile" and files.pop(value["path"])
        sha = hub.repositories[name]["branches"][revision] = hub.commit(files)
        self.send(200, {"commitUrl": f"{hub.address}/{name}/commit/{sha}", "commitOid": sha, "success": True})

    def tree(self, hub, name, revision):
        rows = []
        for path, content in hub.files(name, revision).items():
            sha256 = hashlib.sha256(content).hexdigest()
            rows.append({"type": "file", "path": path, "size": len(content), "oid": sha256[:40]})
            if sha256 in hub.objects:
                rows[-1]["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 134}
        self.send(200, rows)

    def resolve(self, hub, name, revision, path):
        content = hub.files(name, revision)[path]
        sha256 = hashlib.sha256(content).hexdigest()
        commit = hub.repositories[name]["branches"].get(revision, revision)
        if sha256 not in hub.objects:
            return self.send(200, content, ETag=f'"{sha256[:40]}"', X_Repo_Commit=commit)
        linked = {"X_Linked_Etag": f'"{sha256}"', "X_Linked_Size": str(len(content))}
        elsewhere = f"http://localhost:{hub.server_port}/objects/{sha256}"  # the Hub's large files are on another host
        self.send(302, X_Repo_Commit=commit, Location=elsewhere, **linked)


NAME = r"(?P<name>[^/]+/[^/]+?)"
ROUTES = {
    "POST /api/repos/create": Answer.create,
    "POST /api/validate-yaml": Answer.validate,
    f"POST /api/models/{NAME}/branch/(?P<branch>.+)": Answer.branch,
    f"GET /api/models/{NAME}(/revision/(?P<revision>.+))?": Answer.info,
    f"POST /api/models/{NAME}/preupload/(?P<revision>.+)": Answer.preupload,
    f"POST /{NAME}.git/info/lfs/objects/batch": Answer.batch,
    "PUT /objects/(?P<sha256>.+)": Answer.put_object,
    "(GET|HEAD) /objects/(?P<sha256>.+)": Answer.get_object,
    f"POST /api/models/{NAME}/commit/(?P<revision>.+)": Answer.add,
    f"GET /api/models/{NAME}/tree/(?P<revision>.+)": Answer.tree,
    f"(GET|HEAD) /{NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)": Answer.resolve,
}


@pytest.fixture
def hub(monkeypatch):
    """A double of the Hub, which huggingface_hub talks to; without Xet, its storage of chunks in another protocol."""
    with Hub() as hub:
        threading.Thread(target=hub.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)  # HF_ENDPOINT is read when the library is imported
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub
        hub.shutdown()


@pytest.fixture
def run(tmp_path):
    """A finished run of classes, with two .tflite files."""
    shutil.copytree(DIGITS, tmp_path / "run")
    return tmp_path / "run"


def push(*arguments):
    done = CliRunner().invoke(cli.main, ["push", *map(str, arguments)])
    assert TOKEN not in done.output
    return done.exit_code, done.output


READ = """
import json, sys
import numpy as np
import keras_vit
from keras_vit.models.description import describe_model

results = {}
images = np.random.default_rng(0).integers(0, 256, (4, 9, 11, 3), np.uint8)
for address in sys.argv[1:]:
    model = keras_vit.load(address)
    description = describe_model(model)
    weights = {"weights": address, "input_shape": description.input_shape, "classifier_activation": None}
    logits = keras_vit.build(description.variant, **weights)
    outputs = [each.predict(each.preprocess_input(images), verbose=0).tolist() for each in (model, logits)]
    facts = [model.class_names, model.thresholds, description.numerics.gelu, description.numerics.norm_epsilon]
    results[address] = [*outputs, [*facts, model.pixels.mean, logits.class_names]]
print(json.dumps(results))
"""


def environment(hub, folder):
    """Returns the environment of a new process that reads from the double, and keeps its files in a folder."""
    names = {"HF_ENDPOINT": hub.address, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": TOKEN, "KERAS_VIT_OFFLINE": "0"}
    return {**names, "HF_HOME": str(folder / "home"), "KERAS_VIT_CACHE": str(folder / "cache")}


def make_labels_of(run):
    """Turns a run into one of several labels, with other numerics and pixels than the defaults."""
    variant = keras_vit.Variant(4, 16, 1, 2, 32)
    numerics = {"gelu": "erf", "norm_epsilon": 1e-5}
    activation = {"classes": 2, "classifier_activation": "sigmoid"}
    model = keras_vit.build(variant, input_shape=(12, 8, 3), **activation, **numerics)
    head = model.layers[-1]
    head.set_weights([np.random.default_rng(1).normal(size=weight.shape) for weight in head.weights])
    model.class_names, model.thresholds, model.pixels = ("wet", "dark"), (0.25, 0.75), "imagenet"
    model.save(run / "model.keras")
    (run / "labels.txt").write_text("wet\ndark\n")
    return model


def test_a_run_is_read_back_in_a_new_process(hub, run, run_warm, tmp_path):
    digits = keras.saving.load_model(run / "model.keras")
    status, output = push(run, "hf:me/digits")
    assert status == 0 and f"{hub.address}/me/digits/commit/" in output
    labels = make_labels_of(run)
    status, output = push(run, "hf://me/weather@next", "--private")
    assert status == 0 and hub.repositories["me/weather"]["private"]

    addresses = "hf://me/digits", "hf://me/weather@next"
    read = run_warm("-c", READ, *addresses, **environment(hub, tmp_path))
    images = np.random.default_rng(0).integers(0, 256, (4, 9, 11, 3), np.uint8)
    for address, model in zip(addresses, (digits, labels)):
        expected = model.predict(model.preprocess_input(images), verbose=0)
        loaded, logits, facts = read[address]
        np.testing.assert_allclose(loaded, expected, atol=1e-6)
        activated = model.layers[-1].activation(np.array(logits, np.float32))
        np.testing.assert_allclose(np.asarray(activated), expected, atol=1e-6)
        numerics = describe_model(model).numerics
        assert facts[:2] == [[*model.class_names], model.thresholds and [*model.thresholds]]
        assert facts[2:] == [numerics.gelu, numerics.norm_epsilon, [*model.pixels.mean], [*model.class_names]]


def test_the_files_are_sent_in_one_commit_with_the_card_of_the_hub(hub, run):
    assert push(run, "hf:me/digits")[0] == 0
    files = hub.files("me/digits")
    assert files.keys() == FILES | {".gitattributes"} and not hub.repositories["me/digits"]["private"]
    assert all(files[name] == (run / name).read_bytes() for name in FILES - {"README.md"})
    assert sum(line.startswith("POST /api/models/me/digits/commit/") for line in hub.requests) == 1
    card = files["README.md"].decode()
    assert card.count('keras_vit.load("hf://me/digits")') == 1 and 'load("model.keras")' not in card
    header = yaml.safe_load(card.split("---\n")[1])
    assert header["library_name"] == "keras" and header["pipeline_tag"] == "image-classification"


def test_another_push_is_another_commit_without_the_files_that_the_run_lacks(hub, run):
    assert push(run, "hf:me/digits")[0] == 0
    first = hub.repositories["me/digits"]["branches"]["main"]
    hub.commits[first]["notes.md"] = b"of the owner"
    proof = json.loads((run / "proof.json").read_text())
    del proof["files"]["model_float32.tflite"]
    (run / "proof.json").write_text(json.dumps(proof))
    status, output = push(run, "hf:me/digits")
    assert status == 0 and "removes model_float32.tflite" in output
    assert hub.repositories["me/digits"]["branches"]["main"] != first
    assert hub.files("me/digits").keys() == FILES - {"model_float32.tflite"} | {".gitattributes", "notes.md"}
    assert sum(line.startswith("PUT /objects/") for line in hub.requests) == 3  # none is sent again


def test_a_dry_run_sends_nothing(hub, run):
    status, output = push(run, "hf:me/digits", "--dry-run")
    assert status == 0 and not hub.requests
    sizes = {line.split()[0]: line.split()[1] for line in output.splitlines() if line.endswith("bytes")}
    assert sizes.keys() == FILES and int(sizes.pop("README.md").replace(",", "")) > 1000
    assert sizes == {name: f"{(run / name).stat().st_size:,}" for name in FILES - {"README.md"}}


def test_a_private_model_is_not_sent_to_a_public_repository(hub, run):
    assert push(run, "hf:me/digits")[0] == 0
    sent = hub.files("me/digits")
    status, output = push(run, "hf:me/digits", "--private")
    assert status == 2 and "exists and is public" in output and hub.files("me/digits") is sent


@pytest.mark.parametrize(
    "address, answers, expected",
    [
        ("hf:me/digits", {"POST /api/repos/create": (401, "Invalid username or password.")}, "hf auth login"),
        ("hf:other/digits", {}, "status 403, You don't have the rights.*not write to other/digits.*role"),
        (
            "hf:me/digits",
            {"POST /api/models/me/digits/commit": (404, "Not found")},
            "status 404, Not found.*no such owner",
        ),
        ("hf:me/digits", {"POST /me/digits.git": (409, "Busy")}, "status 409, Busy.*not sent twice"),
    ],
)
def test_an_answer_of_the_hub_is_one_message_with_what_to_do(hub, run, address, answers, expected):
    hub.answers = answers
    status, output = push(run, address)
    (error,) = re.findall("^Error: .+", output, re.M)
    assert status == 2 and re.search(expected, error) and f"{hub.address}/{address[3:]}" in error


def test_a_wrong_token_and_no_network(hub, run, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    status, output = push(run, "hf:me/digits")
    assert status == 2 and "status 401" in output and "hf auth login" in output and "hf_wrong" not in output
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    status, output = push(run, "hf:me/digits")
    assert status == 2 and "http://127.0.0.1:9/me/digits" in output and "Check the network, HF_ENDPOINT" in output


def test_a_card_that_the_hub_refuses_is_not_sent(hub, run):
    card = run / "card.md"
    card.write_text(re.sub("license: .+", "license: own", card.read_text(), count=1))
    status, output = push(run, "hf:me/digits")
    assert status == 2 and "must be one of the list" in output and not hub.objects


@pytest.mark.parametrize(
    "name, expected",
    [
        ("run.json", "Expected the folder of a run"),
        ("metrics.json", "fit --resume"),
        ("card.md", "without card.md"),
        ("model.keras", "without model.keras"),
    ],
)
def test_what_is_not_a_finished_run_with_a_card_is_refused(hub, run, name, expected):
    (run / name).unlink()
    status, output = push(run, "hf:me/digits")
    assert status == 2 and expected in output and not hub.requests


@pytest.mark.parametrize("address", ["me/digits", "hf:digits", "hf:me/a/b", "hf:me/digits@", "runs/digits"])
def test_another_address_is_refused(hub, run, address):
    status, output = push(run, address)
    assert status == 2 and "Expected hf:OWNER/NAME" in output and not hub.requests


def test_a_damaged_model_is_not_sent(hub, run):
    content = bytearray((run / "model.keras").read_bytes())
    content[len(content) // 2] ^= 1
    (run / "model.keras").write_bytes(content)
    status, output = push(run, "hf:me/digits")
    assert status == 2 and "model.keras" in output and not hub.requests


def test_without_the_extra(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    status, output = push(run, "hf:me/digits")
    assert status == 2 and 'the extra "hub": pip install huggingface_hub' in output


def test_an_export_of_a_model_of_the_hub_needs_a_folder():
    with pytest.raises(ValueError, match="--output"):
        export("hf://me/digits", "tflite")


def test_the_names_of_files_are_those_that_are_read():
    assert HUB_MODEL == MODEL_FILE and FILES - {"README.md", "labels.txt", HUB_MODEL} < PHONE_FILES


@pytest.mark.hub
def test_the_real_hub(run, run_warm, tmp_path):
    """KERAS_VIT_HUB is a user of the Hub and HF_TOKEN one of their tokens; the repository is removed again."""
    from huggingface_hub import HfApi

    name = f"{os.environ['KERAS_VIT_HUB']}/keras-vit-test-{uuid.uuid4().hex[:8]}"
    try:
        assert push(run, f"hf:{name}", "--private")[0] == 0
        places = {"HF_HOME": str(tmp_path / "home"), "KERAS_VIT_CACHE": str(tmp_path / "cache")}
        read = run_warm("-c", READ, f"hf://{name}", **places, HF_TOKEN=os.environ["HF_TOKEN"], KERAS_VIT_OFFLINE="0")
        assert read[f"hf://{name}"][2][0] == [*"0123456789"]
    finally:
        HfApi().delete_repo(name, missing_ok=True)
