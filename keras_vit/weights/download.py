"""Downloads published files into a cache: verified, resumed after an interruption, once for all processes.

A file has its final name only after its length, the server's hash (if it sends one) and its SHA-256 (if it is known)
are verified, and it has opened as what its name says. The SHA-256 is recorded next to the file and compared at each
later use; `verify_cache` compares those of all files. Environment variables:

    KERAS_VIT_CACHE    folder of the cache; by default keras_vit in KERAS_HOME, or in ~/.keras
    KERAS_VIT_MIRROR   an address that replaces https://HOST of every file: MIRROR/vit_models/sam/ViT-B_16.npz
    KERAS_VIT_OFFLINE  1 for no network: files in the cache only
"""

import contextlib
import hashlib
import logging
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from keras_vit._atomic import write_text
from keras_vit.weights.contents import check_content, describe, shown
from keras_vit.weights.transfer import FAILURES, SHA256, drop, finish, refuse_plain, transfer

logger = logging.getLogger("keras_vit")

_SIDE_FILES = (".sha256", ".lock", ".part", ".part.json")
_HUB = re.compile(r"hf://(?P<name>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>.+))?")
HUB_MODEL = "model.keras"  # a whole model, as `keras-vit push` uploads it
# Weights, whole or in parts.
_HUB_WEIGHTS = [HUB_MODEL, "model.safetensors", "model-*.safetensors", "model.safetensors.index.json"]
_HUB_FILES = [*_HUB_WEIGHTS, "config.json", "preprocessor_config.json", "README.md", "LICENSE*"]
_HUB_FILES += ["tokenizer.json", "tokenizer_config.json", "spiece.model"]  # of a text tower beside
_OPEN_CLIP = ["open_clip_model.safetensors", "open_clip_config.json"]  # where a repository has no other weights


def fetch(address: str, sha256: str | None = None, cache: str | os.PathLike[str] | None = None) -> pathlib.Path:
    """Returns the path of a published file in the cache, and downloads the file if it is not there.

    Args:
        address: "https://host/path", "gs://bucket/path", "hf://org/name" or "hf://org/name@revision" (see `fetch_hub`).
            "http://" is allowed on this machine only.
        sha256: the expected SHA-256, 64 hexadecimal digits, if it is known.
        cache: folder of the cache, in place of the environment's.

    Raises:
        ValueError: if the address is none of these, or the file's hash is not the server's, not `sha256`, or not the
            one recorded at its first use, or the file does not open as what its name says. The message says what to
            delete, or how to download it by hand.
        OSError: if it cannot be downloaded; the message has the address and the path for a download by hand.
    """
    if sha256 and not SHA256.fullmatch(sha256.lower()):
        raise ValueError(f"Expected sha256 to be 64 hexadecimal digits. Received: sha256={sha256!r}")
    if address.startswith("hf://"):
        return fetch_hub(address, cache)
    url = _public(address)
    path = _path_in_cache(url, cache)
    record = _side_path(path, ".sha256")
    if not path.exists():  # first without a lock: the cache may be read-only
        source = _mirrored(url)
        if _offline():
            raise FileNotFoundError(f"{url} is not in the cache, and KERAS_VIT_OFFLINE is set.{_by_hand(source, path)}")
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            if not path.exists():
                _download(source, path, record, sha256)
    _verify_cached(path, path.name, record, sha256)
    return path


class HubRepository(NamedTuple):
    """A repository of models on the Hugging Face Hub.

    Args:
        name: "org/name".
        revision: a branch, a tag or a commit; None for the main branch.
    """

    name: str
    revision: str | None


def hub_repository(address: str) -> HubRepository:
    """Returns the repository that an address names, "hf://org/name" or "hf://org/name@revision".

    Raises:
        ValueError: if the address has another form.
    """
    match = _HUB.fullmatch(address)
    if match is None:
        raise ValueError(
            f"Expected address to be hf://org/name or hf://org/name@revision. Received: address={address!r}"
        )
    return HubRepository(match["name"], match["revision"])


def import_hub() -> Any:
    """Returns the library huggingface_hub.

    Raises:
        ImportError: if it is not installed; it names the extra.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError(
            'Reading from and writing to the Hugging Face Hub needs the extra "hub": pip install huggingface_hub'
        ) from error
    return huggingface_hub


def fetch_hub(address: str, cache: str | os.PathLike[str] | None = None) -> pathlib.Path:
    """Returns the weights of a repository of the Hugging Face Hub: its model.keras, or the folder with its weights.

    The folder has model.safetensors, or OpenCLIP's open_clip_model.safetensors where the repository has no other
    weights, and the configuration. model.keras is a whole model and comes first. The files are
    in the hub's own cache. `HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN` and `HF_HUB_OFFLINE` have their effect.

    Args:
        address: "hf://org/name" or "hf://org/name@revision".
        cache: folder for the SHA-256 of the files, in place of the environment's.

    Raises:
        ImportError: if huggingface_hub is not installed.
        ValueError: if the address has another form, the repository has none of these files, a file's hash is not the
            hub's, or a file does not open as what its name says.
        OSError: if it cannot be downloaded; the message says what to do about a gated repository.
    """
    (name, revision), hub, offline = hub_repository(address), import_hub(), _offline()
    folder = pathlib.Path()
    for more in ((), _OPEN_CLIP):
        try:
            files = [*_HUB_FILES, *more]
            folder = pathlib.Path(
                hub.snapshot_download(repo_id=name, revision=revision, allow_patterns=files, local_files_only=offline)
            )
        except OSError as error:
            if type(error).__name__ != "GatedRepoError":
                raise OSError(f"Cannot download {address}: {error}") from error
            raise OSError(
                f"{address} is gated: its publisher asks you to accept the licence. Do so at https://huggingface.co/"
                f"{name}, then log in with `hf auth login`, or set HF_TOKEN to a token that may read it "
                "(https://huggingface.co/settings/tokens)."
            ) from error
        if any((folder / file).exists() for file in (*_HUB_WEIGHTS, *more)):
            break
    else:
        files = [] if offline else hub.list_repo_files(repo_id=name, revision=revision)
        others = [file for file in files if file.endswith((".bin", ".pt", ".pth", ".ckpt", ".h5", ".safetensors"))]
        raise ValueError(
            "Expected a repository with model.keras, model.safetensors in one file or several, or "
            f"open_clip_model.safetensors. Received: {address}, which has {', '.join(others) or 'no weights'}. Pickles "
            "(.bin, .pt, .pth, .ckpt) are not read: convert them."
        )
    for link in sorted(path for path in folder.iterdir() if path.suffix in (".keras", ".safetensors", ".json")):
        file = link.resolve()
        if SHA256.fullmatch(file.name):  # the hub's library compares sizes only, but so it names a large file
            record = cache_folder(cache) / "huggingface" / name / f"{file.name}.sha256"
            _verify_cached(file, link.name, record, file.name)
        else:
            with _advised(f"{_cached(file)}."):
                check_content(file, link.name)
    return folder / HUB_MODEL if (folder / HUB_MODEL).exists() else folder


class CachedFile(NamedTuple):
    """A file of the cache.

    Args:
        path: the file.
        fault: what is wrong with it and what to delete; None if it is right.
    """

    path: pathlib.Path
    fault: str | None


def verify_cache(cache: str | os.PathLike[str] | None = None) -> Iterator[CachedFile]:
    """Yields each file of the cache, hashed and opened, with what is wrong with it.

    A file is compared with its recorded SHA-256, whatever its time. Nothing is changed. Unfinished downloads are left
    out. Of the Hugging Face Hub's own cache, the files are verified that were used through `fetch_hub`.

    Args:
        cache: folder of the cache, in place of the environment's.

    Raises:
        ImportError: if there are such files, and huggingface_hub is no longer installed.
    """
    folder = cache_folder(cache)
    files = {path: _side_path(path, ".sha256") for path in folder.rglob("*") if path.is_file()}
    for record in folder.glob("huggingface/*/*/*.sha256"):
        from huggingface_hub.constants import HF_HUB_CACHE

        path = pathlib.Path(HF_HUB_CACHE, "--".join(("models", *record.parts[-3:-1])), "blobs", record.stem)
        if path.exists():
            files[path] = record
    for path, record in sorted(files.items()):
        if path.name.endswith(_SIDE_FILES):
            continue
        try:
            _verify_cached(path, path.name, record, unchanged=False)
            yield CachedFile(path, None)
        except (ValueError, OSError) as error:
            yield CachedFile(path, str(error))


def cache_folder(cache: str | os.PathLike[str] | None = None) -> pathlib.Path:
    """Returns the folder of the cache: `cache`, or the environment's, or the default."""
    keras = os.environ.get("KERAS_HOME") or "~/.keras"
    return pathlib.Path(cache or os.environ.get("KERAS_VIT_CACHE") or pathlib.Path(keras, "keras_vit")).expanduser()


def _offline() -> bool:
    return os.environ.get("KERAS_VIT_OFFLINE", "0") not in ("", "0")


def _by_hand(source: str, path: pathlib.Path) -> str:
    return f"\nTo put it there by hand, download\n  {source}\nand save it as\n  {path}"


def _public(address: str) -> str:
    """Returns the https:// form of an address. Refuses one without a safe path in the cache."""
    wrong = ValueError(
        "Expected address to be that of a file: https://host/path, gs://bucket/path or hf://org/name, without a "
        f"password and without empty, relative or unprintable parts. Received: address={address!r}"
    )
    try:
        url = quote(address, safe="%/?#[]@:=&+,;!$'()*~")
        if address.startswith("gs://"):
            url = "https://storage.googleapis.com/" + quote(address.removeprefix("gs://"))  # "+" in a name must be %2B
        parts = urlsplit(url)
        names = [unquote(name, errors="strict") for name in parts.path.split("/")[1:]]
        of_web = parts.scheme in ("https", "http") and parts.hostname and parts.port != 0
    except ValueError:
        raise wrong from None
    odd = [name for name in names if name in ("", ".", "..") or set(name) & set("/\\:") or name.endswith(_SIDE_FILES)]
    odd += [name for name in names if not name.isprintable()]
    if not of_web or "@" in parts.netloc or odd or not names:
        raise wrong
    refuse_plain(url, _mirror())
    return url.partition("#")[0]


def _mirror() -> str:
    mirror = os.environ.get("KERAS_VIT_MIRROR", "")
    with contextlib.suppress(ValueError):
        parts = urlsplit(mirror)
        if not mirror or (parts.scheme in ("https", "http") and parts.hostname and parts.port != 0):
            return mirror
    raise ValueError(
        f"Expected KERAS_VIT_MIRROR to be an https:// or http:// address. Received: KERAS_VIT_MIRROR={mirror!r}"
    )


def _mirrored(url: str) -> str:
    mirror, parts = _mirror(), urlsplit(url)
    if not mirror:
        return url
    return mirror.rstrip("/") + parts.path + (f"?{parts.query}" if parts.query else "")


def _path_in_cache(url: str, cache: str | os.PathLike[str] | None) -> pathlib.Path:
    """Returns the path of a file in the cache: host, path and name, the same for every mirror."""
    parts = urlsplit(url)
    host = parts.netloc.lower().replace("%", "%25").replace("_", "%5f").replace(":", "_")  # no two hosts share one
    if parts.scheme == "http":
        host = f"http_{host}"
    *folders, name = (unquote(part) for part in parts.path.split("/")[1:])
    if parts.query:
        folders.append(hashlib.sha256(parts.query.encode()).hexdigest()[:16])
    return cache_folder(cache).joinpath(host, *folders, name)


def _side_path(path: pathlib.Path, ending: str) -> pathlib.Path:
    return path.with_name(path.name + ending)


def _verify_cached(
    path: pathlib.Path, name: str, record: pathlib.Path, sha256: str | None = None, unchanged: bool = True
) -> None:
    """Verifies a file of the cache: raises a ValueError that says what to delete. Records it if it is not yet.

    Args:
        unchanged: whether a file of the recorded size and time is assumed to be unchanged, and recorded otherwise.
    """
    with _advised(f"{_cached(path)}; if another content than at its first use is right, delete {record}, too."):
        line = _compare(path, name, record, sha256, unchanged)
    if line:
        with _advised(f"{_cached(path)} and {record}."):
            check_content(path, name)
        with contextlib.suppress(OSError):  # a read-only cache is hashed at each start
            if unchanged:
                write_text(record, line)


def _cached(path: pathlib.Path) -> str:
    return f"{path} is a cached download and is not used. To download it again, delete it"


@contextlib.contextmanager
def _advised(advice: str) -> Iterator[None]:
    """Adds to a ValueError what to do."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{error}\n{advice}") from error


def _compare(
    path: pathlib.Path, name: str, record: pathlib.Path, sha256: str | None, unchanged: bool = True
) -> str | None:
    """Compares a file with `sha256` and with the SHA-256 recorded at its first use.

    Returns:
        The new text of the record of a file that is still to be opened; None if its record says that it was.
    """
    stat = path.stat()
    now = f"opened size={stat.st_size} mtime_ns={stat.st_mtime_ns}"
    recorded, stamp = _read_record(record)
    # Hashing 2.5 GB takes seconds at each start. A file of the recorded size and time is assumed to be unchanged: this
    # detects damage by a disk or a copy, not somebody who sets the time of a file to deceive.
    known = unchanged and stamp == now
    digest = recorded if recorded and known else _digest(path, "sha256")
    for expected, origin in ((sha256, "the one asked for"), (recorded, f"the one noted at its first use in {record}")):
        if expected and digest != expected.lower():
            what = describe(path)
            raise ValueError(
                f"Expected the SHA-256 {expected}, {origin}. Received: {digest}, of {name}{what and f', {what}'}"
            )
    return None if known else f"# {now}\n{digest}  {record.stem}\n"


def _read_record(record: pathlib.Path) -> tuple[str | None, str | None]:
    """Returns the SHA-256 and the "size=… mtime_ns=…" of a record that `sha256sum -c` can read; Nones without one."""
    if not record.exists():
        return None, None
    text = record.read_text("utf-8", "replace")
    match = re.fullmatch(r"(# (?P<stamp>.+)\n)?(?P<digest>[0-9a-fA-F]{64})  .+\n?", text)
    if match is None:
        raise ValueError(f"Expected a line of sha256sum. Received: {record}. Delete it if the file is right.")
    return match["digest"].lower(), match["stamp"]


def _digest(path: pathlib.Path, algorithm: str) -> str:
    with path.open("rb") as file:
        if algorithm == "crc32c":
            from keras_vit.weights.crc32c import crc32c

            return f"{crc32c(file):08x}"
        # Google's storage sends an MD5, which protects from damage but not from forgery.
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


@contextlib.contextmanager
def _locked(path: pathlib.Path) -> Iterator[None]:
    """Holds the lock of a file of the cache, which the system releases whenever the process ends."""
    from filelock import FileLock, Timeout

    lock = FileLock(_side_path(path, ".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("waiting for another process that downloads %s", path)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _download(source: str, path: pathlib.Path, record: pathlib.Path, sha256: str | None) -> None:
    """Downloads a file under another name, verifies it and renames it."""
    part, by_hand = _side_path(path, ".part"), _by_hand(source, path)
    try:
        hashes = transfer(source, part, _mirror())
    except FAILURES as error:
        raise OSError(f"Cannot download {source}: {shown(error)}{by_hand}") from error
    except ValueError as error:
        raise ValueError(f"Cannot download {source}: {shown(error)}{by_hand}") from error
    try:
        with _advised(f"It was downloaded from {source}, and is deleted: try again, or in another network.{by_hand}"):
            for algorithm, expected in hashes.items():
                if (digest := _digest(part, algorithm)) != expected:
                    what = describe(part)
                    raise ValueError(
                        f"Expected the {algorithm} {expected}, which the server names. Received: {digest}, of "
                        f"{path.name}{what and f', {what}'}"
                    )
            line = _compare(part, path.name, record, sha256)
            check_content(part, path.name)
    except ValueError:
        drop(part)
        raise
    if line:
        write_text(record, line)
    finish(part, path)
