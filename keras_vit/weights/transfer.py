"""Downloads a file over HTTP into a partial file, which the next try, or the next process, resumes."""

import base64
import contextlib
import http.client
import ipaddress
import json
import logging
import pathlib
import re
import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from keras_vit._atomic import move
from keras_vit.weights.contents import shown

logger = logging.getLogger("keras_vit")

WAITS = (1, 2, 4)  # seconds before the second, third and fourth try
TIMEOUT = 30  # seconds without a byte
SILENT = 2  # seconds until a download is long enough for a progress bar
_CHUNK = 1 << 16  # bytes; the most that is lost when the process ends

FAILURES = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)
SHA256 = re.compile(r"[0-9a-f]{64}")
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"')  # W/"..." promises the same meaning but not the same bytes
_LENGTH = re.compile(r"[0-9]{1,18}")
_HASH_BYTES = {"md5": 16, "crc32c": 4}  # of Google's hashes
_TEMPORARY = {408, 429, 500, 502, 503, 504}  # HTTP status codes after which another try may succeed


def transfer(source: str, part: pathlib.Path, trusted: str = "") -> dict[str, str]:
    """Downloads a file into a partial file, resumes an earlier download, and retries after a temporary error.

    A side file holds the server's ETag, so that parts of two files are never joined: a download is resumed only with
    the same strong ETag, and starts again otherwise.

    Args:
        source: the file's https:// address; http:// on this machine or on the host of `trusted`.
        part: path of the partial file; its side file is PART.json.
        trusted: an address whose host may use http://.

    Returns:
        {algorithm: hexadecimal digest} of the whole file, as the server names them. They are not compared here.

    Raises:
        FAILURES: if the last try failed; the partial file is kept.
        ValueError: if the server redirects to http://, sends the file encoded, names no length and no hash, or two.
    """
    for wait in WAITS:
        try:
            return _try(source, part, trusted)
        except FAILURES as error:
            if getattr(error, "code", 503) not in _TEMPORARY:
                raise
            logger.warning("%s: %s; next try in %s s", source, shown(error), wait)
            time.sleep(wait)
    return _try(source, part, trusted)


def drop(part: pathlib.Path) -> None:
    """Deletes a partial file, then its side file; in this order, no part is ever left with another file's ETag."""
    part.unlink(missing_ok=True)
    _side_file(part).unlink(missing_ok=True)


def finish(part: pathlib.Path, path: pathlib.Path) -> None:
    """Gives a complete partial file its final name in the same folder."""
    _side_file(part).unlink(missing_ok=True)  # first: after the renaming, nobody would look for it
    move(part, path)


def refuse_plain(url: str, trusted: str = "") -> None:
    """Raises a ValueError for an http:// address, except on this machine or on the host of `trusted`."""
    parts, chosen = urlsplit(url), urlsplit(trusted)
    _ = parts.port  # raises a ValueError for one that there cannot be
    known = (parts.scheme, parts.netloc) == (chosen.scheme, chosen.netloc) or _is_this_machine(parts.hostname)
    if parts.scheme != "https" and not (parts.scheme == "http" and known):
        raise ValueError(f"Expected an https:// address; http:// does not protect a file from changes. Received: {url}")


def _is_this_machine(host: str | None) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host or "").is_loopback
    return host == "localhost"


def _side_file(part: pathlib.Path) -> pathlib.Path:
    return part.with_name(f"{part.name}.json")


def _progress(part: pathlib.Path) -> tuple[int, dict[str, Any] | None]:
    """Returns the number of bytes of a partial file and its side file's content; (0, None) to start again."""
    try:
        state = json.loads(_side_file(part).read_text("utf-8"))
        etag, length, hashes = state["etag"], state["length"], state["hashes"]
        size = part.stat().st_size
        fits = length is None or 0 <= size <= length
        known = all(name in ("sha256", *_HASH_BYTES) and bytes.fromhex(digest) for name, digest in hashes.items())
        resumable = size == length or (etag is not None and _STRONG_ETAG.fullmatch(etag))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):  # none yet, or a damaged one
        return 0, None
    return (size, state) if fits and known and resumable else (0, None)


def _try(source: str, part: pathlib.Path, trusted: str) -> dict[str, str]:
    start, state = _progress(part)
    if state and start == state["length"]:  # a process ended between the last byte and the renaming
        return state["hashes"]
    request = urllib.request.Request(source, headers={"User-Agent": "keras_vit", "Accept-Encoding": "identity"})
    if start and state:
        request.add_header("Range", f"bytes={start}-")
        request.add_header("If-Range", state["etag"])  # a file that has changed is sent whole
    redirects = _Redirects(trusted)
    try:
        response = urllib.request.build_opener(redirects).open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 416:
            raise
        drop(part)
        raise ConnectionError(f"the server has nothing after {start:,} bytes") from error
    with response:
        _refuse_encoded(response)
        if response.status == 206:
            _check_range(response, part, start, state)
        elif response.status != 200:
            raise ConnectionError(f"the server answers {response.status} {response.reason}, and not with the file")
        if response.status == 200 or state is None:
            drop(part)
            start, state = 0, _state(response, redirects.linked_etag)
            # No aside is needed: the beginning of this text is no JSON, and there is no partial file yet.
            _side_file(part).write_text(json.dumps(state), "utf-8")
        size = _append(response, part, start, state["length"])
    if state["length"] is not None and size > state["length"]:
        drop(part)
        raise ConnectionError(f"the server sent more than the {state['length']:,} bytes that it named")
    if state["length"] not in (None, size):
        raise ConnectionError(f"the connection ended after {size:,} of {state['length']:,} bytes")
    return state["hashes"]


def _refuse_encoded(response: Any) -> None:
    """Raises a ValueError for content that would have to be unpacked: its length and hash are those of the file."""
    for name, plain in (("Content-Encoding", "identity"), ("Transfer-Encoding", "chunked")):
        sent = ", ".join(response.headers.get_all(name, []))
        if sent.strip().lower() not in ("", plain):
            raise ValueError(f"Expected the file as it is. Received: {name}: {sent[:100]!r} from {response.url}")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects that `refuse_plain` allows, and keeps the hash that a hub sends with a redirect."""

    def __init__(self, trusted: str) -> None:
        self.trusted, self.linked_etag = trusted, ""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        refuse_plain(newurl, self.trusted)
        self.linked_etag = headers.get("X-Linked-ETag", self.linked_etag)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_range(response: Any, part: pathlib.Path, start: int, state: dict[str, Any] | None) -> None:
    """Raises a ConnectionError, and deletes the partial file, if the server sent another range or another file."""
    sent, etag = response.headers.get("Content-Range"), response.headers.get("ETag")
    if (
        not start
        or not state
        or sent != f"bytes {start}-{state['length'] - 1}/{state['length']}"
        or etag != state["etag"]
    ):
        drop(part)
        raise ConnectionError("the server sent another range than the requested one")


def _state(response: Any, linked_etag: str) -> dict[str, Any]:
    """Returns the ETag, the length and the hashes in the headers of a response.

    The hub's linked ETag is a SHA-256 where it has the form of one; other ETags are not hashes.
    """
    headers = response.headers
    length, etag, hashes = _length(response), headers.get("ETag", ""), _google_hashes(response)
    linked = headers.get("X-Linked-ETag", linked_etag).strip('"')
    if SHA256.fullmatch(linked):
        hashes["sha256"] = linked
    if length is None and not hashes and not response.chunked:
        raise ValueError(
            f"Expected a server that sends the length or a hash of a file. Received: neither from {response.url}"
        )
    resumable = length is not None and _STRONG_ETAG.fullmatch(etag)
    return {"etag": etag if resumable else None, "length": length, "hashes": hashes}


def _length(response: Any) -> int | None:
    """Returns the length in the headers of a response; raises a ValueError for one that is no number, and for two."""
    sent = response.headers.get_all("Content-Length", [])
    lengths = {length.strip() for value in sent for length in value.split(",")}
    if len(lengths) > 1 or not all(_LENGTH.fullmatch(length) for length in lengths):
        raise ValueError(
            f"Expected one Content-Length in bytes. Received: {', '.join(sent)[:100]!r} from {response.url}"
        )
    return int(lengths.pop()) if lengths else None


def _google_hashes(response: Any) -> dict[str, str]:
    """Returns {algorithm: hexadecimal digest} of Google's storage: MD5; CRC32C of a file composed of parts."""
    sent = ",".join(response.headers.get_all("X-Goog-Hash", []))
    hashes: dict[str, str] = {}
    for item in sent.split(","):
        name, _, value = item.strip().partition("=")
        if name in _HASH_BYTES:
            with contextlib.suppress(ValueError):
                digest = base64.b64decode(value, validate=True)
                if len(digest) == _HASH_BYTES[name] and hashes.setdefault(name, digest.hex()) == digest.hex():
                    continue
            raise ValueError(f"Expected an MD5 and a CRC32C. Received: X-Goog-Hash: {sent[:100]!r} from {response.url}")
    if "md5" in hashes:  # which is faster, and misses less
        hashes.pop("crc32c", None)
    return hashes


def _append(response: Any, part: pathlib.Path, size: int, length: int | None) -> int:
    """Appends a response to a partial file, with a progress bar if it takes long, and returns the file's size.

    The size is one more than `length` if the server sends more than that.
    """
    if response.length is not None:
        response.length += 1  # bytes; http.client would hide those that follow the named length
    started, bar = time.monotonic(), None
    with part.open("ab") as file:
        while (length is None or size <= length) and (chunk := _read(response, length and length - size)):
            file.write(chunk)
            size += len(chunk)
            if bar is None and time.monotonic() - started > SILENT:
                from keras.utils import Progbar

                bar = Progbar(length and -(-length // 10**6), unit_name="MB")
            if bar:
                bar.update(size // 10**6)
    if bar:
        bar.update(-(-size // 10**6), finalize=True)
    return size


def _read(response: Any, left: int | None) -> bytes:
    """Returns the next bytes of a response; `left` is the number of those that are expected, None if it is unknown."""
    try:
        return response.read(_CHUNK if left is None else min(left, _CHUNK) or 1)
    except (OSError, ValueError) as error:  # an error of the network, which is retried; an error of the disk is not
        if left == 0:  # the file is whole, and the server does not end the connection, as it was asked to
            return b""
        raise ConnectionError(f"the connection broke: {error}") from error
