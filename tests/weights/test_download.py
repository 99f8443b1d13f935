import base64
import contextlib
import gzip
import hashlib
import http.server
import io
import json
import logging
import os
import pathlib
import subprocess
import sys
import threading
import time
import types
import zipfile
from urllib.parse import quote, unquote, urlsplit

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from keras_vit.weights import transfer
from keras_vit.weights.crc32c import crc32c
from keras_vit.weights.download import _path_in_cache, _public, cache_folder, fetch, verify_cache


def npz(numbers):
    """Returns an .npz file, the same in every run, with a comment that makes it 1,028,849 bytes long: many chunks."""
    member, file = io.BytesIO(), io.BytesIO()
    np.save(member, numbers)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo("kernel.npy"), member.getvalue())
        archive.comment = bytes(1_028_849 - len(member.getvalue()) - 118)
    return file.getvalue()


CONTENT = npz(np.arange(257_000, dtype=np.float32))
OTHER = npz(np.arange(257_000, dtype=np.float32)[::-1])
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves one file at every path, honestly or as the path's function says, and keeps (path, Range) of requests."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.etag, self.answers, self.requests = CONTENT, '"one"', {}, []
        self.address = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append((self.path, self.headers.get("Range")))
        with contextlib.suppress(ConnectionError):
            self.server.answers.get(self.path, Handler.serve)(self)

    def serve(self, etag=None, length=None, end=None, **headers):
        """Sends the file, or the rest of it where the client's ETag is the file's."""
        content, etag = self.server.content, etag or self.server.etag
        start = 0
        if "Range" in self.headers and self.headers["If-Range"] == etag:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        if start >= len(content):
            return self.fail(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", etag)
        self.send_header("Content-Length", str(len(content) - start if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content[start : len(content) if end is None else start + end])

    def fail(self, code):
        self.send_response(code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    for name in ("KERAS_VIT_MIRROR", "KERAS_VIT_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KERAS_VIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(transfer, "WAITS", (0, 0, 0))
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def in_turn(*answers):
    """Gives the answers one after the other, and the last one ever after."""
    left = list(answers)
    return lambda handler: (left.pop(0) if len(left) > 1 else left[0])(handler)


def breaking_off(handler):
    handler.serve(end=100_003)


def kept(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock")


def test_a_file_is_downloaded_once_and_its_hash_is_noted(server, tmp_path):
    path = fetch(f"{server.address}/models/a+b/file.npz")
    assert path == tmp_path / f"cache/http_127.0.0.1_{server.server_port}/models/a+b/file.npz"
    assert path.read_bytes() == CONTENT
    note = path.with_name("file.npz.sha256").read_text()
    assert note.splitlines()[1] == f"{SHA256}  file.npz"
    assert fetch(f"{server.address}/models/a+b/file.npz", sha256=SHA256.upper()) == path
    assert len(server.requests) == 1
    assert kept(tmp_path) == ["file.npz", "file.npz.sha256"]


def test_sha256sum_reads_the_note(server):
    path = fetch(f"{server.address}/file.npz")
    done = subprocess.run(["sha256sum", "-c", "file.npz.sha256"], cwd=path.parent, capture_output=True, text=True)
    assert done.stdout == "file.npz: OK\n"


def test_a_break_is_resumed(server):
    server.answers["/file.npz"] = in_turn(breaking_off, breaking_off, Handler.serve)
    assert fetch(f"{server.address}/file.npz", sha256=SHA256).read_bytes() == CONTENT
    assert [sent for _, sent in server.requests] == [None, "bytes=100003-", "bytes=200006-"]


def test_a_break_is_resumed_by_the_next_call(server, tmp_path):
    server.answers["/file.npz"] = breaking_off
    with pytest.raises(OSError, match="ended after 400,012 of 1,028,849 bytes"):
        fetch(f"{server.address}/file.npz")
    assert kept(tmp_path) == ["file.npz.part", "file.npz.part.json"]
    server.answers.clear()
    assert fetch(f"{server.address}/file.npz", sha256=SHA256).read_bytes() == CONTENT
    assert server.requests[-1] == ("/file.npz", "bytes=400012-")


def test_a_file_that_changes_after_a_break_is_not_glued(server):
    new = OTHER

    def changed(handler):
        server.content, server.etag = new, '"two"'
        handler.serve()

    server.answers["/file.npz"] = in_turn(breaking_off, changed)
    assert fetch(f"{server.address}/file.npz").read_bytes() == new
    assert [sent for _, sent in server.requests] == [None, "bytes=100003-"]


@pytest.mark.parametrize("etag", ['W/"one"', "none"])
def test_without_a_strong_etag_a_break_starts_anew(server, etag):
    server.answers["/file.npz"] = in_turn(lambda h: h.serve(etag=etag, end=100_003), lambda h: h.serve(etag=etag))
    assert fetch(f"{server.address}/file.npz", sha256=SHA256).read_bytes() == CONTENT
    assert [sent for _, sent in server.requests] == [None, None]


def test_a_range_of_another_file_is_not_glued(server):
    """A server that looks at Range and not at If-Range."""

    def blind(handler):
        server.content, server.etag = OTHER, '"two"'
        handler.headers.replace_header("If-Range", '"two"')
        handler.serve()

    server.answers["/file.npz"] = in_turn(breaking_off, blind, Handler.serve)
    assert fetch(f"{server.address}/file.npz").read_bytes() == OTHER
    assert [sent for _, sent in server.requests] == [None, "bytes=100003-", None]


def test_a_part_that_needs_only_its_name_is_not_asked_for_again(server, tmp_path):
    path = fetch(f"{server.address}/file.npz")
    part = path.with_name("file.npz.part")
    path.rename(part)
    state = {"etag": '"one"', "length": len(CONTENT), "hashes": {"sha256": SHA256}}
    path.with_name("file.npz.part.json").write_text(json.dumps(state))
    assert fetch(f"{server.address}/file.npz").read_bytes() == CONTENT
    assert len(server.requests) == 1
    assert kept(tmp_path) == ["file.npz", "file.npz.sha256"]


def test_a_server_that_is_busy_is_asked_again(server, caplog):
    server.answers["/file.npz"] = in_turn(lambda h: h.fail(503), lambda h: h.fail(503), Handler.serve)
    assert fetch(f"{server.address}/file.npz").read_bytes() == CONTENT
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "503" in caplog.text


def test_the_tries_end_and_the_error_says_what_to_do_by_hand(server, tmp_path):
    server.answers["/file.npz"] = lambda handler: handler.fail(503)
    with pytest.raises(OSError) as error:
        fetch(f"{server.address}/file.npz")
    assert len(server.requests) == 4
    assert f"download\n  {server.address}/file.npz\n" in str(error.value)
    place = pathlib.Path(str(error.value).splitlines()[-1].strip())
    place.write_bytes(CONTENT)
    assert fetch(f"{server.address}/file.npz") == place
    assert len(server.requests) == 4
    assert place.with_name("file.npz.sha256").exists()


def test_what_a_server_says_is_shown_on_one_line(server, caplog):
    def shouts(handler):
        handler.wfile.write(b"HTTP/1.1 503 \x1b[2J" + b"x" * 60_000 + b"\r\n\r\n")

    server.answers["/file.npz"] = shouts
    with pytest.raises(OSError, match=r"503: \?\[2Jxxx") as error:
        fetch(f"{server.address}/file.npz")
    assert len(str(error.value)) < 2_000 and "\x1b" not in caplog.text and len(caplog.text) < 2_000


def test_what_is_not_there_is_asked_for_once(server, tmp_path):
    server.answers["/file.npz"] = lambda handler: handler.fail(404)
    with pytest.raises(OSError, match="404"):
        fetch(f"{server.address}/file.npz")
    assert len(server.requests) == 1
    assert kept(tmp_path) == []


def test_no_server_at_all(server, tmp_path):
    server.server_close()
    with pytest.raises(OSError, match="by hand"):
        fetch(f"{server.address}/file.npz")
    assert kept(tmp_path) == []


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_a_redirect_is_followed_and_resumed(server, code):
    def redirect(handler):
        handler.send_response(code)
        handler.send_header("Location", "/elsewhere.npz")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    server.answers = {"/file.npz": redirect, "/elsewhere.npz": in_turn(breaking_off, Handler.serve)}
    path = fetch(f"{server.address}/file.npz")
    assert path.name == "file.npz" and path.read_bytes() == CONTENT
    assert server.requests[-1] == ("/elsewhere.npz", "bytes=100003-")


def redirecting(location):
    def answer(handler):
        handler.send_response(302)
        handler.send_header("Location", location)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


@pytest.mark.parametrize("location", ["http://192.0.2.1/file.npz", "ftp://127.0.0.1/file.npz", "file:///etc/hostname"])
def test_a_redirect_to_what_is_not_safe_is_refused(server, tmp_path, location):
    server.answers["/file.npz"] = redirecting(location)
    with pytest.raises((ValueError, OSError), match="https|not allowed"):
        fetch(f"{server.address}/file.npz")
    assert kept(tmp_path) == []


def goog_hash(content):
    return f"crc32c=AAAAAA==,md5={base64.b64encode(hashlib.md5(content).digest()).decode()}"


def goog_crc32c(content):
    """The header of a file composed of parts, which has no MD5."""
    return f"crc32c={base64.b64encode(crc32c(io.BytesIO(content)).to_bytes(4)).decode()}"


HASHES = {
    "X-Goog-Hash": goog_hash,
    "X-Goog-hash": goog_crc32c,
    "X-Linked-ETag": lambda content: f'"{hashlib.sha256(content).hexdigest()}"',
}


@pytest.mark.parametrize("header", HASHES)
def test_the_servers_hash_is_compared(server, tmp_path, header):
    server.answers["/good.npz"] = lambda handler: handler.serve(**{header: HASHES[header](CONTENT)})
    server.answers["/bad.npz"] = lambda handler: handler.serve(**{header: HASHES[header](b"another")})
    assert fetch(f"{server.address}/good.npz").read_bytes() == CONTENT
    with pytest.raises(ValueError, match="which the server names"):
        fetch(f"{server.address}/bad.npz")
    assert kept(tmp_path) == ["good.npz", "good.npz.sha256"]


@pytest.mark.parametrize("value", ["md5=", "md5=AAAA", "md5=?", "crc32c=AAAA", "crc32c=AAAAAA==,crc32c=AAAAAQ=="])
def test_a_hash_that_is_none_is_refused(server, tmp_path, value):
    server.answers["/file.npz"] = lambda handler: handler.serve(X_Goog_Hash=value)
    with pytest.raises(ValueError, match="X-Goog-Hash"):
        fetch(f"{server.address}/file.npz")
    assert kept(tmp_path) == []


def of_bits(content):
    remainder = 0xFFFFFFFF
    for byte in content:
        remainder ^= byte
        for _ in range(8):
            remainder = remainder >> 1 ^ (0x82F63B78 if remainder & 1 else 0)
    return remainder ^ 0xFFFFFFFF


def test_crc32c():
    # RFC 3720, B.4; the check value of the catalogue of CRCs; and google-crc32c 1.9.0's of more than two blocks.
    published = {
        bytes(32): 0x8A9136AA,
        b"\xff" * 32: 0x62A8AB43,
        bytes(range(32)): 0x46DD794E,
        b"123456789": 0xE3069283,
    }
    published[bytes(range(256)) * 35_000] = 0x28256C79
    assert {content: crc32c(io.BytesIO(content)) for content in published} == published
    for size in (0, 1, 3, 4, 5, 1023, 1025):
        assert crc32c(io.BytesIO(CONTENT[:size])) == of_bits(CONTENT[:size])


def test_a_hash_in_the_answer_that_redirects_is_compared(server):
    def redirect(handler):
        handler.send_response(302)
        handler.send_header("Location", "/elsewhere.npz")
        handler.send_header("X-Linked-ETag", HASHES["X-Linked-ETag"](b"another"))
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    server.answers["/file.npz"] = redirect
    with pytest.raises(ValueError, match="the sha256"):
        fetch(f"{server.address}/file.npz")


def test_a_hash_outlives_a_break(server):
    bad = {"X-Goog-Hash": goog_hash(b"another")}
    server.answers["/file.npz"] = in_turn(lambda handler: handler.serve(end=100_003, **bad), Handler.serve)
    with pytest.raises(ValueError, match="md5"):
        fetch(f"{server.address}/file.npz")
    assert len(server.requests) == 2


def test_a_length_that_is_too_long_is_no_whole_file(server, tmp_path):
    server.answers["/file.npz"] = lambda handler: handler.serve(length=len(CONTENT) + 7)
    with pytest.raises(OSError, match="ended after|nothing after"):
        fetch(f"{server.address}/file.npz")
    assert "file.npz" not in kept(tmp_path)


def test_a_length_that_is_too_short_is_refused(server, tmp_path):
    server.answers["/file.npz"] = lambda h: h.serve(length=len(CONTENT) - 7)
    with pytest.raises(OSError, match="more than the 1,028,842 bytes"):
        fetch(f"{server.address}/file.npz")
    server.answers["/other.npz"] = lambda handler: handler.serve(length=len(CONTENT) - 700, end=len(CONTENT) - 700)
    with pytest.raises(ValueError, match="an .npz file"):
        fetch(f"{server.address}/other.npz")
    assert kept(tmp_path) == []


def test_a_server_that_does_not_end_the_connection(server, monkeypatch):
    over = threading.Event()

    def stall(handler):
        handler.serve()
        over.wait(60)

    monkeypatch.setattr(transfer, "TIMEOUT", 0.2)
    server.answers["/file.npz"] = stall
    assert fetch(f"{server.address}/file.npz").read_bytes() == CONTENT
    assert len(server.requests) == 1
    over.set()


@pytest.mark.parametrize("other", ["1028842", "1028849, 7", "-1", "0x10", "many", "9" * 5000])
def test_one_length_is_expected(server, tmp_path, other):
    server.answers["/file.npz"] = lambda handler: handler.serve(Content_Length=other)
    with pytest.raises(ValueError, match="Content-Length(.|\n)*by hand"):
        fetch(f"{server.address}/file.npz")
    server.answers["/file.npz"] = lambda handler: handler.serve(length=f"{len(CONTENT)}, {len(CONTENT)}")
    assert fetch(f"{server.address}/file.npz").read_bytes() == CONTENT


@pytest.mark.parametrize("header", ["Content-Encoding", "Transfer-Encoding"])
def test_an_encoded_body_is_refused(server, tmp_path, header):
    asked = []

    def packed(handler):
        asked.append(handler.headers["Accept-Encoding"])
        server.content = gzip.compress(CONTENT, mtime=0)
        handler.serve(**{header: "gzip"})

    server.answers["/file.npz"] = packed
    with pytest.raises(ValueError, match=f"Received: {header}: 'gzip'(.|\n)*by hand"):
        fetch(f"{server.address}/file.npz")
    assert kept(tmp_path) == [] and asked == ["identity"]
    server.answers.clear()
    with pytest.raises(
        ValueError, match=r"an \.npz file\. Received: file\.npz: it begins with b'\\x1f"
    ):  # and no header
        fetch(f"{server.address}/file.npz")
    assert kept(tmp_path) == []


@pytest.mark.parametrize("code", [201, 202, 203, 204, 205])
def test_only_a_whole_answer_is_the_file(server, tmp_path, code):
    def other(handler):
        handler.send_response(code)
        handler.send_header("Content-Length", str(len(CONTENT)))
        handler.end_headers()
        handler.wfile.write(CONTENT)

    server.answers["/file.npz"] = other
    with pytest.raises(OSError, match=str(code)):
        fetch(f"{server.address}/file.npz")
    assert kept(tmp_path) == []


@pytest.mark.parametrize(
    "location", ["http://[bad/file.npz", "http://127.0.0.1:99999/file.npz", f"https://{'a' * 70}/f"]
)
def test_a_redirect_to_no_address_is_refused(server, tmp_path, location):
    server.answers["/file.npz"] = redirecting(location)
    with pytest.raises((ValueError, OSError), match="Cannot download(.|\n)*by hand"):
        fetch(f"{server.address}/file.npz")
    assert kept(tmp_path) == []


def test_a_damaged_side_file_starts_anew(server, tmp_path):
    for state in ("", "[]", "{}", "null", "[" * 100_000, '{"etag": "\\n", "length": null, "hashes": {}}'):
        server.answers["/file.npz"] = breaking_off
        with pytest.raises(OSError, match="ended after"):
            fetch(f"{server.address}/file.npz")
        (side,) = tmp_path.rglob("*.part.json")
        side.write_text(state)
        server.answers.clear()
        server.requests.clear()
        path = fetch(f"{server.address}/file.npz")
        assert path.read_bytes() == CONTENT and [sent for _, sent in server.requests] == [None]
        path.unlink()


PAGE = b"<!DOCTYPE html><html><head><title>Log in\x1b[2J &amp;\n pay</title></head><body>no</body></html>"
ENDINGS = ["npz", "safetensors", "h5", "keras", "zip", "json", "csv", "txt", "unknown", "html"]


@pytest.mark.parametrize("content, what", [(PAGE, r"a web page, titled 'Log in\?\[2J & pay'"), (b"", "an empty file")])
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_page_and_an_empty_body_are_refused(server, tmp_path, ending, content, what):
    server.content = content
    server.answers[f"/file.{ending}"] = lambda handler: whole(handler, content)
    with pytest.raises(ValueError, match=f"Received: file.{ending}: {what}\n(.|\n)*by hand"):
        fetch(f"{server.address}/file.{ending}")
    assert kept(tmp_path) == []


def whole(handler, content):
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def test_a_wrong_hash_says_that_a_page_was_received(server):
    server.answers["/file.npz"] = lambda handler: whole(handler, PAGE)
    with pytest.raises(ValueError, match=r"the one asked for. Received: \w{64}, of file.npz, a web page, titled"):
        fetch(f"{server.address}/file.npz", sha256=SHA256)


def of_kind(ending):
    """Returns the smallest right file of a kind."""
    file = io.BytesIO()
    if ending == "safetensors":
        return save({"kernel": np.ones(3, np.float32)})
    if ending == "h5":
        with h5py.File(file, "w") as arrays:
            arrays["kernel"] = np.ones(3, np.float32)
    elif ending in ("keras", "zip"):
        with zipfile.ZipFile(file, "w") as members:
            for name in ("config.json", "model.weights.h5"):
                members.writestr(name, "{}")
    elif ending in ("npz", "unknown"):
        np.savez(file, kernel=np.ones(3, np.float32))
    return {"json": b'{"a": 1}', "csv": b"a,b\n1,2\n", "txt": "\ufeffcaf\u00e9,\xa0\u200d\n".encode()}.get(
        ending, file.getvalue()
    )


@pytest.mark.parametrize("ending", ENDINGS[:-1])
def test_each_kind_of_file_is_opened_before_it_is_kept(server, tmp_path, ending):
    content = of_kind(ending)
    server.answers[f"/file.{ending}"] = lambda handler: whole(handler, content)
    path = fetch(f"{server.address}/file.{ending}")
    assert path.read_bytes() == content
    wrong = {
        "txt": [b"\x1b[2J", b"\xff", content + b"\0"],
        "csv": [b"a,b\n1\n", b'a,b\n"1'],
        "json": [content[:-1], b"1", b"[" * 100_000],
    }
    flipped = bytearray(content)
    at = content.find(b"\x00\x00\x80?" if ending in ("npz", "unknown") else b"{}")
    flipped[at] ^= 1
    others = {"npz": [bytes(flipped)], "keras": [bytes(flipped), of_kind("zip").replace(b"config", b"gonfig")]}
    for number, damaged in enumerate(
        wrong.get(ending, [content[:-2], b"?" * 100, b"\r\n" + content, *others.get(ending, [])])
    ):
        name = f"/{number}.{ending}"
        server.answers[name] = lambda handler, damaged=damaged: whole(handler, damaged)
        with pytest.raises(ValueError, match=f"Received: {number}.{ending}: .*begins with(.|\n)*by hand") as error:
            fetch(server.address + name)
        assert len(str(error.value)) < 2000
    assert kept(tmp_path) == [f"file.{ending}", f"file.{ending}.sha256"]


def cached_page(server, tmp_path, note="# size={size} mtime_ns={time}\n{sha256}  {name}\n"):
    """Puts a page into the cache, as an earlier version of this package did; returns its path."""
    path = fetch(f"{server.address}/page.npz")
    path.write_bytes(PAGE)
    stat, sha256 = path.stat(), hashlib.sha256(PAGE).hexdigest()
    record = path.with_name("page.npz.sha256")
    record.write_text(note.format(size=stat.st_size, time=stat.st_mtime_ns, sha256=sha256, name=path.name))
    return path


def test_a_cached_page_of_an_earlier_version_says_what_to_delete(server, tmp_path):
    path = cached_page(server, tmp_path)
    with pytest.raises(ValueError, match="a web page, titled 'Log in") as error:
        fetch(f"{server.address}/page.npz")
    assert f"{path} is a cached download" in str(error.value)
    assert str(error.value).endswith(f"delete it and {path}.sha256.")
    for file in (path, path.with_name("page.npz.sha256")):
        file.unlink()
    assert fetch(f"{server.address}/page.npz").read_bytes() == CONTENT


def test_the_cache_is_verified(server, tmp_path):
    right = fetch(f"{server.address}/right.npz")
    flipped = fetch(f"{server.address}/flipped.npz")
    stat = flipped.stat()
    flipped.write_bytes(CONTENT[:500] + b"?" + CONTENT[501:])
    os.utime(flipped, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as after a fault of the disk
    assert fetch(f"{server.address}/flipped.npz") == flipped
    page = cached_page(server, tmp_path)
    by_hand = right.with_name("by_hand.csv")
    by_hand.write_bytes(b"a,b\n1\n")
    server.answers["/part.npz"] = breaking_off
    with pytest.raises(OSError):
        fetch(f"{server.address}/part.npz")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    faults = dict(verify_cache())
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert list(faults) == sorted([right, flipped, page, by_hand]) and faults[right] is None
    assert "noted at its first use" in faults[flipped] and "a web page" in faults[page]
    assert "line 2 has 1 cells" in faults[by_hand]
    assert all(str(path) in fault for path, fault in faults.items() if fault)
    right.with_name(f"{right.name}.sha256").write_text("")
    assert "a line of sha256sum" in dict(verify_cache())[right]


def test_an_empty_cache_is_right(server):
    assert list(verify_cache()) == []


def test_files_of_the_hub_are_verified(monkeypatch, tmp_path):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    content = of_kind("safetensors")
    sha256 = hashlib.sha256(content).hexdigest()
    blob = tmp_path / "hub/models--org--name/blobs" / sha256
    blob.parent.mkdir(parents=True)
    blob.write_bytes(content)
    for name in (sha256, "0" * 64):  # the hub's cache no longer has one
        record = tmp_path / f"cache/huggingface/org/name/{name}.sha256"
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(f"{name}  {name}\n")
    assert list(verify_cache(tmp_path / "cache")) == [(blob, None)]
    blob.write_bytes(content[:-1] + b"!")
    ((_, fault),) = verify_cache(tmp_path / "cache")
    assert str(blob) in fault


def test_a_page_in_the_hubs_cache_says_what_to_delete(hub, tmp_path):
    there = hub()
    (there.folder / "model.safetensors").write_bytes(of_kind("safetensors"))
    (tmp_path / "blob").write_bytes(PAGE)
    (there.folder / "config.json").symlink_to(tmp_path / "blob")
    with pytest.raises(ValueError, match=f"config.json: a web page(.|\n)*{tmp_path / 'blob'} is a cached download"):
        fetch("hf://org/name")


def test_an_answer_without_a_length_or_a_hash_cannot_be_told_to_be_whole(server, tmp_path):
    def endless(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(CONTENT)

    server.answers["/file.npz"] = endless
    with pytest.raises(ValueError, match="the length or a hash"):
        fetch(f"{server.address}/file.npz")
    assert kept(tmp_path) == []


def test_another_sha256_than_asked_for_is_refused(server, tmp_path):
    with pytest.raises(ValueError, match=f"Expected the SHA-256 {'0' * 64}, the one asked for. Received: {SHA256}"):
        fetch(f"{server.address}/file.npz", sha256="0" * 64)
    assert kept(tmp_path) == []
    fetch(f"{server.address}/file.npz")
    with pytest.raises(ValueError, match="the one asked for"):
        fetch(f"{server.address}/file.npz", sha256="0" * 64)
    with pytest.raises(ValueError, match="64 hexadecimal"):
        fetch(f"{server.address}/file.npz", sha256="0" * 63)


def test_a_cached_file_that_changed_is_not_used(server):
    path = fetch(f"{server.address}/file.npz")
    path.write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(ValueError, match="noted at its first use") as error:
        fetch(f"{server.address}/file.npz")
    assert f"{path} is a cached download and is not used. To download it again, delete it;" in str(error.value)
    path.unlink()
    assert fetch(f"{server.address}/file.npz").read_bytes() == CONTENT


def test_a_cached_file_of_another_time_and_the_same_content_is_used(server):
    path = fetch(f"{server.address}/file.npz")
    os.utime(path, ns=(7, 7))
    assert fetch(f"{server.address}/file.npz") == path
    assert "mtime_ns=7\n" in path.with_name("file.npz.sha256").read_text()
    assert len(server.requests) == 1


def test_a_file_published_anew_is_not_taken_for_the_noted_one(server, tmp_path):
    path = fetch(f"{server.address}/file.npz")
    path.unlink()
    server.content = OTHER
    with pytest.raises(ValueError, match="noted at its first use"):
        fetch(f"{server.address}/file.npz")
    assert kept(tmp_path) == ["file.npz.sha256"]


def test_offline_takes_only_what_is_there(server, monkeypatch):
    path = fetch(f"{server.address}/file.npz")
    monkeypatch.setenv("KERAS_VIT_OFFLINE", "1")
    assert fetch(f"{server.address}/file.npz") == path
    with pytest.raises(FileNotFoundError, match="KERAS_VIT_OFFLINE(.|\n)*by hand"):
        fetch(f"{server.address}/other.npz")
    monkeypatch.setenv("KERAS_VIT_OFFLINE", "0")
    assert fetch(f"{server.address}/other.npz").exists()


def test_a_mirror_stands_in_for_every_host(server, monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_VIT_MIRROR", f"{server.address}/mirror/")
    path = fetch("gs://vit_models/imagenet21k+imagenet2012/ViT-B_16.npz")
    assert server.requests == [("/mirror/vit_models/imagenet21k%2Bimagenet2012/ViT-B_16.npz", None)]
    assert path == tmp_path / "cache/storage.googleapis.com/vit_models/imagenet21k+imagenet2012/ViT-B_16.npz"
    monkeypatch.delenv("KERAS_VIT_MIRROR")
    assert fetch("https://storage.googleapis.com/vit_models/imagenet21k%2Bimagenet2012/ViT-B_16.npz") == path
    for wrong in ("/a/folder", "http://[bad", "http://host:99999", "https://"):
        monkeypatch.setenv("KERAS_VIT_MIRROR", wrong)
        with pytest.raises(ValueError, match="KERAS_VIT_MIRROR"):
            fetch("gs://vit_models/sam/ViT-B_16.npz")


@pytest.mark.parametrize(
    "address",
    [
        "ViT-B_16.npz",
        "ftp://host/file.npz",
        "file:///etc/hostname",
        "http://example.org/file.npz",
        "https://name:word@example.org/file.npz",
        "https://example.org",
        "https://example.org/folder/",
        "https://example.org/a//file.npz",
        "https://example.org/../file.npz",
        "https://example.org/%2e%2e/file.npz",
        "https://example.org/a%2Ffile.npz",
        "https://example.org/file.npz.sha256",
        "https://example.org/%ff.npz",
        "https://example.org/\udce9.npz",
        "https://example.org/a%0Ab.npz",
        "https://example.org:99999/file.npz",
        "https://[example/file.npz",
        "gs://bucket/../file.npz",
        "hf://name",
        "hf://../name",
    ],
)
def test_addresses_that_are_refused(server, tmp_path, address):
    with pytest.raises(ValueError, match="Expected"):
        fetch(address)
    assert not (tmp_path / "cache").exists()


def test_no_two_addresses_share_a_place(server):
    addresses = [
        f"{server.address}/{end}" for end in ("f.npz", "a/f.npz", "f.npz?v=1", "f.npz?v=2", "F.npz", "f%20g.npz")
    ]
    assert len({fetch(address) for address in addresses}) == len(addresses)
    assert fetch(f"{server.address}/f g.npz#fragment") == fetch(addresses[-1])


def test_every_address_has_its_own_path_in_the_cache(monkeypatch):
    monkeypatch.setenv("KERAS_VIT_MIRROR", "http://intranet:80")
    seen = {}
    letters = st.sampled_from("%%%225f__..aaAA00hé字~ +&;=-!@/?#:\\\0\x1b\u202e")
    hosts = ["h", "h:80", "h_80", "H", "127.0.0.1", "[::1]", "http_127.0.0.1", "a%5fb", "a_b", "x.", "intranet:80"]

    @settings(max_examples=300, deadline=None, derandomize=True, database=None)
    @given(
        scheme=st.sampled_from(["https", "http", "gs"]),
        host=st.sampled_from(hosts),
        names=st.lists(st.text(letters, min_size=1, max_size=6), min_size=1, max_size=2),
        query=st.sampled_from([None, "", "v=1", "v=%31", "a_b"]),
        encoded=st.booleans(),
    )
    def check(scheme, host, names, query, encoded):
        path = "/".join(quote(name, safe="") if encoded else name for name in names)
        address = f"{scheme}://{host}/{path}" + ("" if query is None else f"?{query}")
        try:
            url = _public(address)
        except ValueError as error:
            assert "Expected" in str(error)
            return
        place = _path_in_cache(url, "cache")
        assert place.parts[0] == "cache" and not {"..", "."} & set(place.parts) and len(place.parts) > 2
        assert str(place).isprintable() and not place.name.endswith((".sha256", ".lock", ".part", ".part.json"))
        parts = urlsplit(url)
        key = parts.scheme, parts.netloc.lower(), tuple(map(unquote, parts.path.split("/"))), parts.query
        assert seen.setdefault(place, key) == key
        if encoded and scheme != "gs":
            assert place.parts[-1] == names[-1] and place.parts[2 : 1 + len(names)] == tuple(names[:-1])

    check()
    assert len(seen) > 50


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_VIT_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    assert cache_folder("other") == pathlib.Path("other")
    monkeypatch.delenv("KERAS_VIT_CACHE")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "keras_vit"
    monkeypatch.delenv("KERAS_HOME")
    assert cache_folder() == pathlib.Path.home() / ".keras/keras_vit"


# After its command, the package imports no Keras, which takes seconds.
FETCH = """
import keras_vit_command
import sys
from keras_vit.weights.download import fetch
print("ready", flush=True)
print(fetch(sys.argv[1]))
"""


def start_fetch(address):
    return subprocess.Popen([sys.executable, "-c", FETCH, address], stdout=subprocess.PIPE, text=True)


def test_eight_processes_download_once(server):
    all_ask = threading.Event()

    def slow(handler):
        all_ask.wait(60)
        handler.serve()

    server.answers["/file.npz"] = slow
    processes = [start_fetch(f"{server.address}/file.npz") for _ in range(8)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 8
    all_ask.set()
    paths = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0] * 8
    assert [pathlib.Path(path).read_bytes() for path in paths] == [CONTENT]
    assert len(server.requests) == 1


def test_a_killed_process_leaves_no_file_and_the_next_resumes(server, tmp_path):
    over = threading.Event()

    def stall(handler):
        handler.serve(end=100_003)
        over.wait(60)

    server.answers["/file.npz"] = in_turn(stall, Handler.serve)
    process = start_fetch(f"{server.address}/file.npz")
    deadline = time.monotonic() + 60
    while sum(path.stat().st_size for path in tmp_path.rglob("*.part")) < transfer._CHUNK:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate()
    over.set()
    assert kept(tmp_path) == ["file.npz.part", "file.npz.part.json"]
    assert fetch(f"{server.address}/file.npz", sha256=SHA256).read_bytes() == CONTENT
    assert server.requests == [("/file.npz", None), ("/file.npz", f"bytes={transfer._CHUNK}-")]


def test_a_long_download_shows_a_bar(server, monkeypatch, capsys):
    monkeypatch.setattr(transfer, "SILENT", -1)
    fetch(f"{server.address}/file.npz")
    assert "/2" in capsys.readouterr().out


def test_a_short_download_is_silent(server, capsys, caplog):
    with caplog.at_level(logging.INFO):
        fetch(f"{server.address}/file.npz")
    assert capsys.readouterr() == ("", "") and not caplog.records


class Hub(types.SimpleNamespace):
    """Stands in for huggingface_hub: a folder of a repository."""

    def __init__(self, folder, files):
        super().__init__(folder=folder, files=files, asked=[])

    def snapshot_download(self, **arguments):
        self.asked.append(arguments)
        return str(self.folder)

    def list_repo_files(self, repo_id, revision):
        return self.files


@pytest.fixture
def hub(monkeypatch, tmp_path):
    def hub(*files):
        folder = tmp_path / "snapshot"
        folder.mkdir()
        hub = Hub(folder, files)
        monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
        return hub

    monkeypatch.setenv("KERAS_VIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KERAS_VIT_OFFLINE", raising=False)
    return hub


def test_a_repository_of_the_hub(hub, tmp_path):
    there = hub()
    content = of_kind("safetensors")
    blob = tmp_path / hashlib.sha256(content).hexdigest()
    blob.write_bytes(content)
    (there.folder / "model.safetensors").symlink_to(blob)
    assert fetch("hf://org/name@refs/pr/7") == there.folder
    (asked,) = there.asked
    assert {"model.safetensors", "config.json", "preprocessor_config.json"} < {*asked.pop("allow_patterns")}
    assert asked == {"repo_id": "org/name", "revision": "refs/pr/7", "local_files_only": False}
    blob.write_bytes(content[::-1])
    with pytest.raises(ValueError, match=f"{blob} is a cached download"):
        fetch("hf://org/name")


def test_a_gated_repository_says_what_to_do(hub, monkeypatch):
    class GatedRepoError(OSError):
        """As that of huggingface_hub is, which is not installed everywhere."""

    def refused(**arguments):
        raise GatedRepoError("403")

    monkeypatch.setattr(hub(), "snapshot_download", refused)
    with pytest.raises(OSError, match="hf://org/name is gated.*https://huggingface.co/org/name, then.*HF_TOKEN"):
        fetch("hf://org/name")


def test_a_repository_with_its_weights_in_parts(hub, tmp_path):
    there = hub()
    content = of_kind("safetensors")
    blob = tmp_path / hashlib.sha256(content).hexdigest()
    blob.write_bytes(OTHER)
    (there.folder / "model-00002-of-00002.safetensors").symlink_to(blob)
    (there.folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ValueError, match=blob.name):
        fetch("hf://org/name")
    blob.write_bytes(content)
    assert fetch("hf://org/name") == there.folder


def test_a_repository_of_open_clip_alone(hub, tmp_path):
    there = hub()
    (there.folder / "open_clip_model.safetensors").write_bytes(of_kind("safetensors"))
    assert fetch("hf://org/name") == there.folder
    first, second = ({*asked["allow_patterns"]} for asked in there.asked)
    assert second - first == {"open_clip_model.safetensors", "open_clip_config.json"}
    assert "tokenizer.json" in first


def test_a_repository_of_pickles(hub, monkeypatch):
    hub("config.json", "pytorch_model.bin")
    with pytest.raises(ValueError, match="has pytorch_model.bin. Pickles"):
        fetch("hf://org/name")
    monkeypatch.setenv("KERAS_VIT_OFFLINE", "1")
    with pytest.raises(ValueError, match="no weights"):
        fetch("hf://org/name")


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match='the extra "hub": pip install huggingface_hub'):
        fetch("hf://org/name")
