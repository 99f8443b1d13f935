"""Transfers a file over HTTP into a part that the next try, or the next process, goes on with."""

import base64
import contextlib
import http.client
import ipaddress
import json
import logging
import re
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from keras_vit._atomic import write_text

logger = logging.getLogger("keras_vit")

WAITS = (1, 2, 4)  # seconds before the second, third and fourth try
TIMEOUT = 30  # seconds without a byte
SILENT = 2  # seconds until a download is long enough for a progress bar
_CHUNK = 1 << 16  # bytes; at most so many are lost when the process ends

FAILURES = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)
SHA256 = re.compile(r"[0-9a-f]{64}")
_PASSING = {408, 429, 500, 502, 503, 504}  # what a server answers that may do better a moment later


def transfer(source, part, trusted=""):
    """Downloads a file, going on where an earlier call ended, with a few more tries after what may pass.

    Beside the part lies what the server said of the file, so that two files are never glued together: it goes on only
    with the same strong ETag, and starts anew otherwise.

    Args:
        source: the file's https:// address; http:// on this machine or on the host of `trusted`.
        part: path of what is there of the file; its side file is PART.json.
        trusted: an address whose host may send without https.

    Returns:
        {algorithm: hexadecimal digest} of the whole file as the server names them; not compared here.

    Raises:
        FAILURES: if the last try failed; what was received is kept.
        ValueError: if it is sent elsewhere without https, or there is no telling whether it is whole.
    """
    for wait in (*WAITS, None):
        try:
            return _try(source, part, trusted)
        except FAILURES as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            if wait is None or getattr(error, "code", 503) not in _PASSING:
                raise
            logger.warning("%s: %s; next try in %s s", source, error, wait)
            time.sleep(wait)


def drop(part):
    """Removes what is there of a file; the part first, so that it is never taken for that of another answer."""
    part.unlink(missing_ok=True)
    _side_file(part).unlink(missing_ok=True)


def refuse_plain(url, trusted=""):
    """Raises a ValueError unless nobody on the way can change what is sent: https, this machine, a host trusted."""
    parts, chosen = urlsplit(url), urlsplit(trusted)
    known = (parts.scheme, parts.netloc) == (chosen.scheme, chosen.netloc) or _is_this_machine(parts.hostname)
    if parts.scheme != "https" and not (parts.scheme == "http" and known):
        raise ValueError(f"Expected https://; what http:// sends can be changed on its way. Received: {url}")


def _is_this_machine(host):
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _side_file(part):
    return part.with_name(f"{part.name}.json")


def _begun(part):
    """Returns the number of bytes that are there and what the server said of their file; (0, None) to start anew."""
    try:
        state = json.loads(_side_file(part).read_text("utf-8"))
        size = part.stat().st_size
    except (FileNotFoundError, ValueError):
        return 0, None
    return (size, state) if state["etag"] or size == state["length"] else (0, None)


def _try(source, part, trusted):
    start, state = _begun(part)
    if state and start == state["length"]:  # a process ended between the last byte and the name
        return state["hashes"]
    request = urllib.request.Request(source, headers={"User-Agent": "keras_vit"})
    if start:
        request.add_header("Range", f"bytes={start}-")
        request.add_header("If-Range", state["etag"])  # a file that has changed is sent whole
    redirects = _Redirects(trusted)
    try:
        response = urllib.request.build_opener(redirects).open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        error.close()
        drop(part)
        raise ConnectionError(f"the server has nothing after {start:,} bytes") from error
    with response:
        if response.status == 206:
            _refuse_another_part(response, part, start, state)
        else:
            drop(part)
            start, state = 0, _state(response, redirects.linked_etag)
            write_text(_side_file(part), json.dumps(state))
        size = _append(response, part, start, state["length"])
    if state["length"] not in (None, size):
        raise ConnectionError(f"the connection ended after {size:,} of {state['length']:,} bytes")
    return state["hashes"]


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to where `refuse_plain` lets it, and keeps what a hub says before it sends one elsewhere."""

    def __init__(self, trusted):
        self.trusted, self.linked_etag = trusted, ""

    def redirect_request(self, request, file, code, message, headers, url):
        refuse_plain(url, self.trusted)
        self.linked_etag = headers.get("X-Linked-ETag", self.linked_etag)
        return super().redirect_request(request, file, code, message, headers, url)


def _refuse_another_part(response, part, start, state):
    sent, etag = response.headers.get("Content-Range"), response.headers.get("ETag")
    if not start or sent != f"bytes {start}-{state['length'] - 1}/{state['length']}" or etag != state["etag"]:
        drop(part)
        raise ConnectionError("the server sent another part than the one asked for")


def _state(response, linked_etag):
    """Returns what the server says of the file that it is about to send: its ETag, its length, its hashes.

    Of Google's hashes MD5 is read; CRC32C, the only one of composed objects, would need one more dependency. Of ETags
    only the hub's linked one is known to be a SHA-256, and only where it looks like one.
    """
    headers = response.headers
    length, etag = headers.get("Content-Length"), headers.get("ETag", "")
    hashes = {}
    for item in ",".join(headers.get_all("X-Goog-Hash", [])).split(","):
        name, _, value = item.strip().partition("=")
        if name == "md5":
            hashes["md5"] = base64.b64decode(value).hex()
    linked = headers.get("X-Linked-ETag", linked_etag).strip('"')
    if SHA256.fullmatch(linked):
        hashes["sha256"] = linked
    if not (length or hashes or response.chunked):
        raise ValueError(f"Expected a server that says how long a file is. Received: none from {response.url}")
    # A weak ETag, W/"...", promises the same meaning but not the same bytes.
    resumable = length and etag.startswith('"')
    return {"etag": etag if resumable else None, "length": int(length) if length else None, "hashes": hashes}


def _append(response, part, size, length):
    """Writes the answer to the end of a part, with a progress bar if it takes long, and returns the part's size."""
    started, bar = time.monotonic(), None
    with part.open("ab") as file:
        while chunk := _read(response):
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


def _read(response):
    try:
        return response.read(_CHUNK)
    except OSError as error:  # not to be mistaken for one of the disk
        raise ConnectionError(f"the connection broke: {error}") from error
