"""Fetches published files into a cache: whole, verified, resumed after a break, once for all processes.

A file gets its name only after its length, the server's hash where it sends one, and its SHA-256 where that is known
were compared. The SHA-256 is noted beside it and compared ever after. Environment variables:

    KERAS_VIT_CACHE    the cache's folder; else keras_vit in KERAS_HOME or in ~/.keras
    KERAS_VIT_MIRROR   an address that stands in for https://HOST of every file: MIRROR/vit_models/sam/ViT-B_16.npz
    KERAS_VIT_OFFLINE  1 for no network: only what is in the cache
"""

import contextlib
import hashlib
import logging
import os
import pathlib
import re
from urllib.parse import quote, unquote, urlsplit

from keras_vit._atomic import write_text
from keras_vit.weights.transfer import FAILURES, SHA256, drop, refuse_plain, transfer

logger = logging.getLogger("keras_vit")

_SIDE_FILES = (".sha256", ".lock", ".part", ".part.json")
_HUB = re.compile(r"hf://(?P<name>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>.+))?")
_HUB_WEIGHTS = ["model.safetensors", "model-*.safetensors", "model.safetensors.index.json"]  # whole, or in parts
_HUB_FILES = [*_HUB_WEIGHTS, "config.json", "preprocessor_config.json"]


def fetch(address, sha256=None, cache=None):
    """Returns the path of a published file in the cache, after downloading it if it is not there.

    Args:
        address: "https://host/path", "gs://bucket/path", "hf://org/name" or "hf://org/name@revision" (see `fetch_hub`).
            "http://" is taken for this machine alone.
        sha256: what the file's SHA-256 must be, 64 hexadecimal digits, where it is known.
        cache: the cache's folder, instead of the environment's.

    Raises:
        ValueError: if the address is none of these, or the file is not the one expected: its hash is not the server's,
            not `sha256`, or not the one noted at its first use.
        OSError: if it cannot be downloaded; the message says what to fetch by hand and where to put it.
    """
    if sha256 and not SHA256.fullmatch(sha256.lower()):
        raise ValueError(f"Expected 64 hexadecimal digits. Received: sha256={sha256!r}")
    if address.startswith("hf://"):
        return fetch_hub(address, cache)
    url = _public(address)
    path = _place(url, cache)
    note = _beside(path, ".sha256")
    if not path.exists():  # first without a lock: the cache may be read-only
        source = _mirrored(url)
        if _offline():
            raise FileNotFoundError(f"{url} is not in the cache, and KERAS_VIT_OFFLINE is set.{_by_hand(source, path)}")
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path):
            if not path.exists():
                _download(source, path, note, sha256)
    _verify(path, note, sha256)
    return path


def fetch_hub(address, cache=None):
    """Returns the folder with the weights of a repository of the Hugging Face Hub, and its configuration.

    Takes "hf://org/name" or "hf://org/name@revision". The files are in the hub's own cache; `HF_ENDPOINT`, `HF_HOME`,
    `HF_TOKEN` and `HF_HUB_OFFLINE` are honoured.

    Raises:
        ImportError: if huggingface_hub is not installed.
        ValueError: if the address is no such address, the repository has no model.safetensors, whole or in parts, or a
            file is not the one that the hub names.
        OSError: if it cannot be downloaded.
    """
    match = _HUB.fullmatch(address)
    if match is None:
        raise ValueError(f"Expected hf://org/name or hf://org/name@revision. Received: address={address!r}")
    try:
        import huggingface_hub as hub
    except ImportError as error:
        raise ImportError(
            'Reading from the Hugging Face Hub needs the extra "hub": pip install huggingface_hub'
        ) from error
    repository = {"repo_id": match["name"], "revision": match["revision"]}
    folder = pathlib.Path(hub.snapshot_download(**repository, allow_patterns=_HUB_FILES, local_files_only=_offline()))
    if not any((folder / name).exists() for name in _HUB_WEIGHTS):
        files = [] if _offline() else hub.list_repo_files(**repository)
        others = [name for name in files if name.endswith((".bin", ".pt", ".pth", ".ckpt", ".h5", ".safetensors"))]
        raise ValueError(
            f"Expected a repository with model.safetensors, whole or in parts. Received: {address}, which has "
            f"{', '.join(others) or 'no weights'}. Pickles (.bin, .pt, .pth, .ckpt) are not read: convert them."
        )
    # The hub compares sizes alone, but keeps a large file under the name of its SHA-256.
    for file in (file.resolve() for file in sorted(folder.glob("*.safetensors"))):
        if SHA256.fullmatch(file.name):
            _verify(file, cache_folder(cache) / "huggingface" / match["name"] / f"{file.name}.sha256", file.name)
    return folder


def cache_folder(cache=None):
    """Returns the folder of the cache: the one given, the environment's, or the default."""
    keras = os.environ.get("KERAS_HOME") or "~/.keras"
    return pathlib.Path(cache or os.environ.get("KERAS_VIT_CACHE") or pathlib.Path(keras, "keras_vit")).expanduser()


def _offline():
    return os.environ.get("KERAS_VIT_OFFLINE", "0") not in ("", "0")


def _by_hand(source, path):
    return f"\nTo put it there by hand, fetch\n  {source}\nand save it as\n  {path}"


def _public(address):
    """Returns the https:// form of an address; refuses what is none, or has no safe place in the cache."""
    url = quote(address, safe="%/?#[]@:=&+,;!$'()*~")
    if address.startswith("gs://"):
        url = "https://storage.googleapis.com/" + quote(address.removeprefix("gs://"))  # "+" in a name must be %2B
    parts = urlsplit(url)
    names = [unquote(name) for name in parts.path.split("/")[1:]]
    odd = [name for name in names if name in ("", ".", "..") or set(name) & set("/\\:\0") or name.endswith(_SIDE_FILES)]
    if parts.scheme not in ("https", "http") or not parts.hostname or "@" in parts.netloc or odd or not names:
        raise ValueError(
            "Expected the address of a file: https://host/path, gs://bucket/path or hf://org/name, without a password "
            f"and without empty or relative parts. Received: address={address!r}"
        )
    refuse_plain(url, os.environ.get("KERAS_VIT_MIRROR", ""))
    return url.partition("#")[0]


def _mirrored(url):
    mirror = os.environ.get("KERAS_VIT_MIRROR")
    if not mirror:
        return url
    if not mirror.startswith(("https://", "http://")):
        raise ValueError(f"Expected an https:// or http:// address. Received: KERAS_VIT_MIRROR={mirror!r}")
    parts = urlsplit(url)
    return mirror.rstrip("/") + parts.path + (f"?{parts.query}" if parts.query else "")


def _place(url, cache):
    """Returns the path of a file in the cache: host, path and name, the same whichever mirror it comes from."""
    parts = urlsplit(url)
    host = ("" if parts.scheme == "https" else "http_") + parts.netloc.lower().replace(":", "_")
    *folders, name = (unquote(part) for part in parts.path.split("/")[1:])
    if parts.query:
        folders.append(hashlib.sha256(parts.query.encode()).hexdigest()[:16])
    return cache_folder(cache).joinpath(host, *folders, name)


def _beside(path, ending):
    return path.with_name(path.name + ending)


def _verify(path, note, sha256=None):
    """Compares a file with the SHA-256 asked for and the one noted at its first use; notes it if there is none yet."""
    stat = path.stat()
    now = f"size={stat.st_size} mtime_ns={stat.st_mtime_ns}"
    noted, stamp = _read_note(note)
    # Hashing 2.5 GB takes seconds at every start. A file of the noted size and time is taken to be the one that was
    # hashed then: this finds what a disk or a copy did, not who sets times to deceive.
    digest = noted if stamp == now else _digest(path, "sha256")
    for expected, by in ((sha256, "the one asked for"), (noted, f"the one noted at its first use in {note}")):
        if expected and digest != expected.lower():
            raise ValueError(
                f"Expected the SHA-256 {expected}, {by}. Received: {digest}, of {path}. It is not used. To download it "
                f"anew delete {note.with_suffix('')}; if a new content is right, delete {note} too."
            )
    if stamp != now:
        with contextlib.suppress(OSError):  # a read-only cache is hashed at every start
            write_text(note, f"# {now}\n{digest}  {note.stem}\n")


def _read_note(note):
    """Returns the SHA-256 and the "size=… mtime_ns=…" of a note, (None, None) without one; `sha256sum -c` reads it."""
    text = note.read_text("utf-8") if note.exists() else ""
    match = re.fullmatch(r"(# (?P<stamp>.+)\n)?(?P<digest>[0-9a-fA-F]{64})  .+\n?", text)
    if text and not match:
        raise ValueError(f"Expected a line as sha256sum writes it. Received: {note}. Delete it if the file is right.")
    return (match["digest"].lower(), match["stamp"]) if match else (None, None)


def _digest(path, algorithm):
    with path.open("rb") as file:
        # Not against forgery where it is MD5: that is what Google's storage sends.
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


@contextlib.contextmanager
def _alone(path):
    """Holds the lock of a file of the cache, which the system releases when the process ends, however it ends."""
    from filelock import FileLock, Timeout

    lock = FileLock(_beside(path, ".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("waiting for another process that downloads %s", path)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _download(source, path, note, sha256):
    """Downloads a file, verifies it, and only then gives it its name."""
    part = _beside(path, ".part")
    try:
        hashes = transfer(source, part, os.environ.get("KERAS_VIT_MIRROR", ""))
    except FAILURES as error:
        raise OSError(f"Cannot download {source}: {error}{_by_hand(source, path)}") from error
    try:
        for algorithm, expected in hashes.items():
            if (digest := _digest(part, algorithm)) != expected:
                raise ValueError(
                    f"Expected the {algorithm} {expected}, which the server names. Received: {digest}, of what it sent "
                    f"for {source}. It is not kept: try again, or another network.{_by_hand(source, path)}"
                )
        _verify(part, note, sha256)
    except ValueError:
        drop(part)
        raise
    os.replace(part, path)
    drop(part)
