"""Downloads from a server that errs in about a hundred ways, eight processes at once; and downloads that are killed."""

import base64
import contextlib
import functools
import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import socket
import socketserver
import struct
import threading
import time
import types
import zipfile

from outcome import LONGEST_MESSAGE, Outcome

SHARE = 0.14
RACERS = 8
PATIENCE = 20  # seconds for a process
STALL = 0.05  # seconds without a byte, for the faults that stall
PAGE = b"<!DOCTYPE html>\n<html><head><title>Log in to the guest network</title></head><body>...</body></html>\n"
ERROR = b"<?xml version='1.0' encoding='UTF-8'?><Error><Code>AccessDenied</Code></Error>"


def pool():
    """Returns {ending: two contents of the same length}, the same in every process."""
    import h5py
    import numpy as np
    from safetensors.numpy import save

    def npz(numbers):
        member, file = io.BytesIO(), io.BytesIO()
        np.save(member, numbers)
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(zipfile.ZipInfo("kernel.npy"), member.getvalue())
        return file.getvalue()

    def h5(numbers):
        file = io.BytesIO()
        with h5py.File(file, "w") as arrays:
            arrays["kernel"] = numbers
        return file.getvalue()

    result = {}
    for version, numbers in enumerate((np.arange(5_000, dtype=np.float32), np.arange(5_000, dtype=np.float32)[::-1])):
        rows = "".join(f"{row:05d},{number:05.0f}\n" for row, number in enumerate(numbers))
        contents = {
            "npz": npz(numbers),
            "safetensors": save({"kernel": np.ascontiguousarray(numbers)}),
            "h5": h5(numbers),
            "json": json.dumps([int(number) for number in numbers]).encode(),
            "csv": f"row,number\n{rows}".encode(),
            "txt": rows.encode(),
        }
        for ending, content in contents.items():
            result.setdefault(ending, []).append(content)
        assert all(len(result[ending][0]) == len(result[ending][version]) for ending in result)
    return result


BINARY = ("npz", "safetensors", "h5")
CHECKED = (*BINARY, "json")  # those whose end is known
FAULTS = {}  # name: (answer, allowed results, endings)


def fault(allowed, endings=(*CHECKED, "csv", "txt")):
    """Registers the answer to a request by its name."""

    def register(answer):
        FAULTS[answer.__name__.strip("_").replace("_", " ")] = (answer, allowed.split(), endings)
        return answer

    return register


class Ask(types.SimpleNamespace):
    """A request: its path, headers and number among those of the path, and the contents of the file at the path."""

    def send(self, status="200 OK", headers=(), content=b"", end="\r\n"):
        """Sends an answer with these headers and no others."""
        lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers), "", ""]
        self.connection.sendall(end.join(lines).encode("latin-1") + content)

    def whole(self, content=None, etag='"one"', length=None, headers=(), end=None, **options):
        """Sends the file, or another content, honestly where nothing else is said."""
        content = self.content if content is None else content
        start = self.start if self.headers.get("if-range") == etag else 0
        headers = [("ETag", etag), ("Content-Length", len(content) - start if length is None else length), *headers]
        if start >= max(1, len(content)):
            return self.send("416 Range Not Satisfiable", [("Content-Length", 0)])
        if start:
            headers.append(("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}"))
        body = content[start : len(content) if end is None else start + end]
        self.send("206 Partial Content" if start else "200 OK", headers, body, **options)

    @property
    def start(self):
        """The first byte of the requested range."""
        return int(self.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))

    def cut(self, **options):
        """Breaks off after a third of the file."""
        self.whole(end=len(self.content) // 3, **options)

    def redirect(self, location, *headers):
        self.send("302 Found", [("Location", location), ("Content-Length", 0), *headers])

    def reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def chunks(self, *chunks, headers=(), last=b"0\r\n\r\n"):
        parts = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
        self.send("200 OK", [("Transfer-Encoding", "chunked"), *headers], parts + last)

    def halves(self):
        middle = len(self.content) // 2
        return self.content[:middle], self.content[middle:]

    def flipped(self):
        content = bytearray(self.content)
        content[len(content) // 2] ^= 1
        return bytes(content)


def google(content, *names):
    from keras_vit.weights.crc32c import crc32c

    digests = {"md5": hashlib.md5(content).digest(), "crc32c": crc32c(io.BytesIO(content)).to_bytes(4)}
    return [("X-Goog-Hash", f"{name}={base64.b64encode(digests[name]).decode()}") for name in names]


def linked(content):
    return [("X-Linked-ETag", f'"{hashlib.sha256(content).hexdigest()}"')]


for _code in (300, 304, 400, 401, 403, 404, 407, 408, 410, 429, 451, 500, 501, 502, 503, 504, 511, 999):
    FAULTS[f"status {_code}"] = (
        lambda ask, code=_code: ask.send(f"{code} No", [("Content-Length", 0)]),
        ["refused"],
        CHECKED,
    )
for _code in (201, 202, 203, 204, 205, 206, 207, 226):
    FAULTS[f"status {_code} with the file"] = (
        lambda ask, code=_code: ask.send(f"{code} Yes", [("Content-Length", len(ask.content))], ask.content),
        ["refused"],
        CHECKED,
    )


@fault("equal")
def honest(ask):
    ask.whole()


@fault("equal")
def busy_at_first(ask):
    ask.whole() if ask.number > 2 else ask.send("503 Busy", [("Content-Length", len(PAGE))], PAGE)


@fault("equal")
def continue_first(ask):
    ask.connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    ask.whole()


@fault("equal refused")
def early_hints(ask):
    ask.connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
    ask.whole()


@fault("refused")
def no_status_line(ask):
    ask.connection.sendall(ask.content)


@fault("refused")
def bad_status_line(ask):
    ask.send("2OO OK", [("Content-Length", len(ask.content))], ask.content)


@fault("refused")
def escapes_as_reason(ask):
    ask.connection.sendall(b"HTTP/1.1 500 \x1b[2J" + b"x" * 60_000 + b"\r\n\r\n")


@fault("refused")
def empty_answer(ask):
    pass


@fault("refused")
def reset_at_once(ask):
    ask.reset()


@fault("refused")
def reset_in_the_headers(ask):
    ask.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Le")
    ask.reset()


@fault("equal refused")
def reset_after_the_body(ask):
    ask.whole()
    ask.reset()


@fault("equal refused")
def reset_in_the_body(ask):
    ask.cut()
    ask.reset()


@fault("equal")
def three_redirects(ask):
    level = ask.path.count("/again")
    ask.whole() if level > 2 else ask.redirect(f"{ask.path}/again")


@fault("refused")
def redirect_to_itself(ask):
    ask.redirect(ask.path)


@fault("refused")
def endless_redirects(ask):
    ask.redirect(f"{ask.path}/again")


@fault("refused")
def redirect_to_a_page(ask):
    ask.send("200 OK", [("Content-Length", len(PAGE))], PAGE) if "/again" in ask.path else ask.redirect(
        f"{ask.path}/again"
    )


@fault("refused")
def redirect_without_an_address(ask):
    ask.send("302 Found", [("Content-Length", 0)])


_LOCATIONS = (
    "file:///etc/hostname",
    "ftp://127.0.0.1/f",
    "http://192.0.2.1/f",
    "http://[f",
    "http://127.0.0.1:99999/f",
)
for _location in (
    *_LOCATIONS,
    "//",
    "http://",
    f"https://{'a' * 70}/f",
    "http://127.0.0.1:1/f",
    "data:,x",
    "http://localhost:x/",
):
    FAULTS[f"redirect to {_location[:30]}"] = (lambda ask, to=_location: ask.redirect(to), ["refused"], CHECKED)


@fault("refused")
def no_length(ask):
    ask.send("200 OK", [("ETag", '"one"')], ask.content)


@fault("equal")
def no_length_and_a_hash(ask):
    ask.send("200 OK", google(ask.content, "md5"), ask.content)


@fault("refused")
def no_length_and_a_hash_and_cut(ask):
    ask.send("200 OK", google(ask.content, "md5"), ask.content[:-9])


@fault("refused")
def no_length_and_cut(ask):
    ask.send("200 OK", [], ask.content[:-9])


for _name, _length in {
    "none": "",
    "negative": "-1",
    "hexadecimal": "0x100",
    "huge": "9" * 30,
    "of two": "5, 7",
    "signed": "+7",
}.items():
    FAULTS[f"length {_name}"] = (lambda ask, sent=_length: ask.whole(length=sent), ["refused"], CHECKED)


@fault("refused")
def longer_length(ask):
    ask.send("200 OK", [("Content-Length", len(ask.content) + 7)], ask.content)


@fault("refused")
def much_longer_length(ask):
    ask.whole(length=10**15)


@fault("refused")
def shorter_length(ask):
    ask.whole(length=len(ask.content) - 7)


@fault("refused", CHECKED)
def shorter_file(ask):
    ask.whole(ask.content[:-30])


@fault("refused")
def length_zero(ask):
    ask.whole(length=0)


@fault("refused")
def two_lengths(ask):
    ask.whole(headers=[("Content-Length", len(ask.content) - 7)])


@fault("equal")
def the_length_twice(ask):
    ask.whole(headers=[("Content-Length", len(ask.content))])


@fault("refused")
def bytes_after_the_file(ask):
    ask.whole(ask.content + b"more", length=len(ask.content))


@fault("equal")
def chunked(ask):
    ask.chunks(*ask.halves())


@fault("equal")
def chunked_with_extensions(ask):
    head, rest = ask.halves()
    body = b"%x;a=b\r\n%s\r\n%X ;c\r\n%s\r\n0\r\nX-Trailer: yes\r\n\r\n" % (len(head), head, len(rest), rest)
    ask.send("200 OK", [("Transfer-Encoding", "chunked")], body)


@fault("refused")
def chunked_without_an_end(ask):
    ask.chunks(*ask.halves(), last=b"")


@fault("refused")
def chunked_and_cut(ask):
    ask.chunks(ask.halves()[0], last=b"%x\r\nab" % len(ask.content))


@fault("refused")
def chunk_of_no_size(ask):
    ask.chunks(ask.halves()[0], last=b"many\r\nabc\r\n")


@fault("refused")
def chunk_of_negative_size(ask):
    ask.chunks(ask.halves()[0], last=b"-1\r\nabc\r\n0\r\n\r\n")


@fault("refused")
def chunk_of_very_negative_size(ask):
    ask.chunks(ask.halves()[0], last=b"-fff\r\nabc\r\n0\r\n\r\n")


@fault("refused", CHECKED)
def chunked_and_complete_too_early(ask):
    ask.chunks(ask.halves()[0])


@fault("equal")
def chunked_with_the_length(ask):
    ask.chunks(*ask.halves(), headers=[("Content-Length", len(ask.content))])


@fault("refused")
def chunked_with_another_length(ask):
    ask.chunks(*ask.halves(), headers=[("Content-Length", len(ask.content) - 7)])


@fault("refused")
def length_and_a_body_that_is_chunked(ask):
    ask.send(
        "200 OK", [("Content-Length", len(ask.content))], b"%x\r\n%s\r\n0\r\n\r\n" % (len(ask.content), ask.content)
    )


for _coding in ("gzip", "br", "deflate", "zstd", "x"):
    FAULTS[f"Content-Encoding {_coding}"] = (
        lambda ask, coding=_coding: ask.whole(gzip.compress(ask.content), headers=[("Content-Encoding", coding)]),
        ["refused"],
        CHECKED,
    )


@fault("equal")
def content_encoding_identity(ask):
    ask.whole(headers=[("Content-Encoding", "Identity")])


@fault("refused")
def transfer_encoding_gzip(ask):
    ask.whole(gzip.compress(ask.content), headers=[("Transfer-Encoding", "gzip, chunked")])


CONTENTS = {
    "a gzip file": lambda ask: gzip.compress(ask.content),
    "a page": lambda ask: PAGE,
    "a page after a byte order mark": lambda ask: b"\xef\xbb\xbf\n" + PAGE,
    "a page of the file's length": lambda ask: PAGE.ljust(len(ask.content)),
    "nothing": lambda ask: b"",
    "an XML error": lambda ask: ERROR,
    "a PNG": lambda ask: b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "zeros": lambda ask: bytes(len(ask.content)),
    "half a file and zeros": lambda ask: ask.content[: len(ask.content) // 2].ljust(len(ask.content), b"\0"),
    "a pickle": lambda ask: b"\x80\x02}q\x00.",
    "one byte": lambda ask: b"P",
    "the file after two bytes": lambda ask: b"\r\n" + ask.content,
}
for _name, _content in CONTENTS.items():
    FAULTS[f"content {_name}"] = (
        lambda ask, make=_content: ask.whole(make(ask)),
        ["refused"],
        # Numbers of .safetensors and HDF5 have no checksum, and JSON may begin with empty lines.
        ("npz",) if "zeros" in _name else BINARY if _name.startswith("the file") else CHECKED,
    )
FAULTS["content a flipped bit"] = (lambda ask: ask.whole(ask.flipped()), ["refused"], ("npz",))
HASHES = {
    "MD5": lambda content: google(content, "md5"),
    "CRC32C": lambda content: google(content, "crc32c"),
    "MD5 and CRC32C": lambda content: google(content, "crc32c", "md5"),
    "linked SHA-256": linked,
}
for _name, _headers in HASHES.items():
    FAULTS[f"right {_name}"] = (lambda ask, make=_headers: ask.whole(headers=make(ask.content)), ["equal"], CHECKED)
    FAULTS[f"wrong {_name}"] = (lambda ask, make=_headers: ask.whole(headers=make(b"x")), ["refused"], CHECKED)
    FAULTS[f"a flipped bit, right {_name}"] = (
        lambda ask, make=_headers: ask.whole(ask.flipped(), headers=make(ask.content)),
        ["refused"],
        (*CHECKED, "csv", "txt"),
    )


@fault("refused")
def a_hash_of_the_wrong_size(ask):
    ask.whole(headers=[("X-Goog-Hash", "md5=AAAA")])


@fault("refused")
def two_hashes(ask):
    ask.whole(headers=google(ask.content, "md5") + google(b"x", "md5"))


@fault("refused")
def a_wrong_hash_in_a_redirect(ask):
    ask.whole() if "/again" in ask.path else ask.redirect(f"{ask.path}/again", *linked(b"x"))


@fault("equal")
def cut_once(ask):
    ask.whole() if ask.number else ask.cut()


@fault("equal refused")
def cut_always(ask):
    ask.cut()


@fault("refused")
def cut_before_the_first_byte(ask):
    ask.whole(end=0)


@fault("equal")
def cut_and_weak_etag(ask):
    (ask.cut if ask.number == 0 else ask.whole)(etag='W/"one"')


@fault("equal")
def cut_and_no_etag(ask):
    (ask.cut if ask.number == 0 else ask.whole)(etag="")


@fault("equal")
def cut_and_folded_etag(ask):
    (ask.cut if ask.number == 0 else ask.whole)(etag='"one\r\n two"')


@fault("equal")
def cut_and_etag_with_a_quote(ask):
    (ask.cut if ask.number == 0 else ask.whole)(etag='"one"two"')


@fault("other", ("npz",))
def cut_and_changed(ask):
    ask.whole(ask.other, etag='"two"') if ask.number else ask.cut()


@fault("other", ("npz",))
def cut_and_changed_and_blind_to_if_range(ask):
    if ask.number == 0:
        return ask.cut()
    start, size = ask.start, len(ask.other)
    if not start:
        return ask.whole(ask.other, etag='"two"')
    headers = [
        ("ETag", '"two"'),
        ("Content-Length", size - start),
        ("Content-Range", f"bytes {start}-{size - 1}/{size}"),
    ]
    ask.send("206 Partial Content", headers, ask.other[start:])


@fault("other refused", ("npz",))
def cut_and_changed_under_the_same_etag(ask):
    ask.whole(ask.other) if ask.number else ask.cut()


@fault("equal")
def cut_and_range_ignored(ask):
    ask.cut() if ask.number == 0 else ask.send(
        "200 OK", [("ETag", '"one"'), ("Content-Length", len(ask.content))], ask.content
    )


_RANGES = {
    "of another offset": lambda start, size: f"bytes {start - 5}-{size - 1}/{size}",
    "of another end": lambda start, size: f"bytes {start}-{size - 2}/{size}",
    "of another size": lambda start, size: f"bytes {start}-{size - 1}/{size + 1}",
    "of unknown size": lambda start, size: f"bytes {start}-{size - 1}/*",
    "in words": lambda start, size: "the rest",
    "unnamed": None,
}
for _name, _range in _RANGES.items():

    def _answer(ask, sent=_range):
        if not ask.start:
            return ask.whole() if ask.number else ask.cut()
        size = len(ask.content)
        headers = [("ETag", '"one"'), ("Content-Length", size - ask.start)]
        headers += [("Content-Range", sent(ask.start, size))] if sent else []
        ask.send("206 Partial Content", headers, ask.content[ask.start :])

    FAULTS[f"cut, then a range {_name}"] = (_answer, ["equal"], CHECKED)


@fault("equal refused")
def cut_and_a_longer_rest(ask):
    if not ask.start:
        return ask.cut()
    headers = [("ETag", '"one"'), ("Content-Range", f"bytes {ask.start}-{len(ask.content) - 1}/{len(ask.content)}")]
    ask.send("206 Partial Content", headers, ask.content[ask.start :] + b"more")


@fault("equal")
def cut_and_no_such_range(ask):
    if ask.start:
        return ask.send("416 Range Not Satisfiable", [("Content-Length", 0)])
    ask.whole() if ask.number else ask.cut()


@fault("equal")
def cut_and_a_page(ask):
    ask.cut() if ask.number == 0 else ask.send(
        "503 No", [("Content-Length", len(PAGE))], PAGE
    ) if ask.number == 1 else ask.whole()


@fault("refused")
def cut_and_gzip(ask):
    ask.whole(headers=[("Content-Encoding", "gzip")]) if ask.start else ask.cut()


@fault("equal")
def slow(ask):
    ask.whole(end=0)
    for at in range(0, len(ask.content), 2_000):
        ask.connection.sendall(ask.content[ask.start :][at : at + 2_000])
        time.sleep(0.001)


@fault("refused")
def stall_in_the_headers(ask):
    ask.connection.sendall(b"HTTP/1.1 200 OK\r\n")
    time.sleep(4 * STALL)


@fault("equal refused")
def stall_in_the_body(ask):
    ask.cut()
    time.sleep(4 * STALL)


@fault("equal")
def stall_after_the_body(ask):
    ask.whole()
    time.sleep(4 * STALL)


@fault("refused")
def many_headers(ask):
    ask.whole(headers=[(f"X-{number}", number) for number in range(200)])


@fault("refused")
def long_header(ask):
    ask.whole(headers=[("X-Long", "x" * 100_000)])


@fault("equal refused")
def binary_headers(ask):
    ask.whole(headers=[("X-Binary", "\0\x01\xff"), ("\xe9", "")])


@fault("equal refused")
def header_without_a_colon(ask):
    ask.connection.sendall(
        b"HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: %d\r\n\r\n%s" % (len(ask.content), ask.content)
    )


@fault("equal")
def long_etag(ask):
    (ask.cut if ask.number == 0 else ask.whole)(etag=f'"{"x" * 50_000}"')


@fault("equal")
def newlines_alone(ask):
    ask.whole(end=None) if ask.number else ask.send(
        "200 OK", [("Content-Length", len(ask.content))], ask.content, end="\n"
    )


NAMES = tuple(FAULTS)


class Handler(socketserver.StreamRequestHandler):
    """Answers a request for /FAULT/NUMBER/file.ENDING as the fault says; honestly if FOLDER/NUMBER is there."""

    def handle(self):
        with contextlib.suppress(OSError, ValueError):
            path = self.rfile.readline().split()[1].decode()
            lines = [line.decode("latin-1").rstrip() for line in iter(self.rfile.readline, b"\r\n") if line]
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            name, case, file = path.split("/")[1:4]
            key = "/".join((name, case, file))
            with self.server.lock:
                number = self.server.numbers[key] = self.server.numbers.get(key, -1) + 1
            content, other = self.server.pool[file.partition(".")[2]]
            ask = Ask(
                connection=self.connection, path=path, headers=headers, number=number, content=content, other=other
            )
            if name == "slow":
                self.slowly(ask)
            elif (self.server.folder / case).exists():
                ask.whole()
            else:
                FAULTS[NAMES[int(name)]][0](ask)

    def slowly(self, ask):
        """Sends a file piece by piece, for a process that is killed meanwhile."""
        ask.whole(end=0)
        for at in range(ask.start, len(ask.content), 2_000):
            self.connection.sendall(ask.content[at : at + 2_000])
            time.sleep(0.001)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads, request_queue_size = True, 64

    def __init__(self, folder, contents):
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.pool, self.numbers, self.lock = folder, contents, {}, threading.Lock()


def prepare(folder):
    """Starts a server, in a process of its own that ends with this one: this one forks, and has no other thread."""
    from filelock import FileLock

    import keras_vit_command  # noqa: F401  so that `keras_vit` imports no Keras, which takes seconds
    from keras_vit.weights import readers, transfer  # noqa: F401

    for name in [name for name in os.environ if name.lower().endswith("_proxy") or name.startswith("KERAS_VIT_")]:
        del os.environ[name]
    FileLock.acquire = functools.partialmethod(FileLock.acquire, poll_interval=0.002)
    transfer.WAITS, transfer._CHUNK = (0, 0, 0), 4096
    contents = pool()
    server = Server(folder, contents)
    alive, held = os.pipe()
    if os.fork() == 0:
        os.close(held)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        os.read(alive, 1)  # ends when the worker has ended
        os._exit(0)
    address = f"http://127.0.0.1:{server.server_address[1]}"
    server.socket.close()
    return types.SimpleNamespace(folder=folder, pool=contents, address=address, held=held)


def start(address, cache, rights, timeout):
    """Fetches a file in a new process; returns its number and the pipe with [result, detail]."""
    from keras_vit.weights import transfer
    from keras_vit.weights.download import fetch

    reads, writes = os.pipe()
    if process := os.fork():
        os.close(writes)
        return process, reads
    try:
        transfer.TIMEOUT = timeout
        content = fetch(address, cache=cache).read_bytes()
        result = next((name for name, right in rights.items() if content == right), "wrong"), f"{content[:30]}"
    except (ValueError, OSError) as error:
        text = str(error)
        is_clear = "file." in text and len(text) <= LONGEST_MESSAGE and text.replace("\n", "").isprintable()
        result = "refused" if is_clear else "message", f"{type(error).__name__}: {text[:500]}"
    except BaseException as error:
        result = f"traceback: {type(error).__name__}", str(error)[:500]
    os.write(writes, json.dumps(result).encode())
    os._exit(0)


def end(process, reads):
    """Returns (result, detail) of a process that was started."""
    limit = time.monotonic() + PATIENCE
    while os.waitpid(process, os.WNOHANG) == (0, 0):
        if time.monotonic() > limit:
            os.kill(process, signal.SIGKILL)
        time.sleep(0.001)
    with os.fdopen(reads, "rb") as file:
        text = file.read()
    return json.loads(text) if text else ("hang" if time.monotonic() > limit else "crash", "")


def leftovers(cache, *allowed):
    """Returns the names in a cache other than those of the file with these endings."""
    files = [path for path in cache.rglob("*") if path.is_file()]
    return [path.name for path in files if path.name.partition(".")[2].partition(".")[2] not in allowed]


def case(state, number, random):
    block, place = divmod(number, 10)
    if place > 7:
        return killed(state, number, random)
    name = NAMES[(8 * block + place) % len(NAMES)]  # every fault in turn
    _, allowed, endings = FAULTS[name]
    ending = random.choice(endings)
    content, other = state.pool[ending]
    rights = {"equal": content, **({"other": other} if "other" in allowed else {})}
    cache = state.folder / f"cache_{number}"
    address = f"{state.address}/{NAMES.index(name)}/{number}/file.{ending}"
    timeout = STALL if name.startswith("stall") else 5
    racers = [start(address, cache, rights, timeout) for _ in range(RACERS)]
    results = [end(*racer) for racer in racers]
    wrong = [(f"not {' or '.join(allowed)}: {result}", detail) for result, detail in results if result not in allowed]
    if not wrong and not any(result in rights for result, _ in results) and [*cache.rglob(f"file.{ending}")]:
        wrong = [("kept", "all processes refused the file, and it has its final name")]
    (state.folder / str(number)).touch()  # from now on, the server is honest
    result, detail = end(*start(address, cache, rights, timeout))
    if not wrong and result not in rights:
        wrong = [(f"then {result}", detail)]
    if not wrong and (names := leftovers(cache, "", "sha256", "lock")):
        wrong = [("leftovers", ", ".join(names))]
    shutil.rmtree(cache, ignore_errors=True)
    result, detail = wrong[0] if wrong else ("refused" if "refused" in allowed else "equal", "")
    return Outcome("faults of a server", result, f"{name}, .{ending}: {detail}", RACERS + 1, limit_s=30)


def killed(state, number, random):
    """Kills up to four downloads of a file, each at a random moment; the next one ends with the right file."""
    ending = random.choice(tuple(state.pool))
    rights = {"equal": state.pool[ending][0]}
    cache, address = state.folder / f"cache_{number}", f"{state.address}/slow/{number}/file.{ending}"
    kills, wrong = random.randint(1, 4), None
    for _ in range(kills):
        process, reads = start(address, cache, rights, 5)
        time.sleep(random.choice((0.04, 0.12)) * random.random())
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(reads)
        for path in cache.rglob(f"file.{ending}"):
            if path.read_bytes() != rights["equal"]:
                wrong = "wrong", "an incomplete file has its final name"
    result, detail = end(*start(address, cache, rights, 5))
    if not wrong and result != "equal":
        wrong = f"not equal: {result}", detail
    if not wrong and (names := leftovers(cache, "", "sha256", "lock")):
        wrong = "leftovers", ", ".join(names)
    shutil.rmtree(cache, ignore_errors=True)
    result, detail = wrong or ("equal", "")
    return Outcome("kills", result, detail, kills, limit_s=30)
